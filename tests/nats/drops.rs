//! What the client library drops, against the server's own count of what it has delivered.

use crate::support::*;
use serde_json::json;

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
         [[workload]]\npattern = \"fan-out\"\nconsumers = 2\nload.rate = \"60k/s\"\npayload.size = \"64B\"\n\
         [run]\nwarmup = \"500ms\"\nduration = \"1s\"\ndrain = \"60s\"\ntrials = 1\n",
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
