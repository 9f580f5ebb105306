//! What the client library drops, against the server's own count of what it has delivered.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::*;
use serde_json::{Value, json};

/// The monitoring port of a launched server, from the configuration that it was started with.
fn monitor(pid: u32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let words: Vec<&str> = std::str::from_utf8(&words).unwrap().split('\0').collect();
    let file = words[words.iter().position(|w| *w == "-c").unwrap() + 1];
    let text = std::fs::read_to_string(file).unwrap();
    let address = text.lines().find_map(|line| line.trim().strip_prefix("http: ")).unwrap();
    address.trim_matches('"').to_owned()
}

fn varz(address: &str) -> Value {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET /varz HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// A client that may hold 64 messages is flooded, and the server delivers everything: all that is
/// lost is the client's, and the record says so and no more.
#[test]
fn what_the_client_drops_is_not_said_to_be_the_servers() {
    let Some(server) = Server::launch("nats", json!({})) else { return };
    let monitor = monitor(server.running.pids[0]);
    let before = varz(&monitor);
    let text = format!(
        "name = \"drops\"\nquestion = \"Whose are they?\"\n\
         [[system]]\ndriver = \"nats\"\nurl = \"{}\"\noptions = {{ subscription-capacity = 64 }}\n\
         [[workload]]\npattern = \"fan-out\"\nconsumers = 2\nload.rate = \"150k/s\"\npayload.size = \"64B\"\n\
         [run]\nwarmup = \"500ms\"\nduration = \"1s\"\ndrain = \"20s\"\ntrials = 1\n",
        server.running.url
    );
    let (output, record) = run(&text);
    let trial = &record["trials"][0];
    assert_eq!(
        trial["outcome"]["status"],
        "complete",
        "{}{}",
        trial["outcome"],
        String::from_utf8_lossy(&output.stderr)
    );
    let ledger = &trial["workloads"][0]["ledger"];
    let count = |key: &str| ledger[key].as_u64().unwrap();
    let after = varz(&monitor);
    let served = |key: &str| after[key].as_u64().unwrap() - before[key].as_u64().unwrap();
    // Two deliveries of each message but for requests that nobody answers.
    assert_eq!(served("slow_consumers"), 0);
    assert!(2 * served("in_msgs") - served("out_msgs") < 100, "{} in, {} out", served("in_msgs"), served("out_msgs"));
    assert!(count("lost") > 0, "{ledger}");
    assert_eq!(count("client_dropped"), count("lost"), "{ledger}");
    let checks = trial["validity"].as_array().unwrap();
    let v4 = checks.iter().find(|c| c["id"] == "V4").unwrap();
    assert_eq!(v4["status"], "INVALID");
    assert!(v4["observed"].as_str().unwrap().contains(", all of them dropped by the client library"), "{v4}");
    assert_eq!(output.status.code(), Some(4));
}
