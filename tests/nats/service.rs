//! A service of others is driven: its requests are the payload alone, its answers are counted by
//! the subject that each came to.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::Server;

/// Answers on `orders.create` with something of its own: every 10th request twice, every 25th not
/// at all.
async fn serve(url: String, seen: Arc<AtomicU64>, ready: std::sync::mpsc::Sender<()>) {
    let client = async_nats::connect(url).await.unwrap();
    let mut requests = client.queue_subscribe("orders.create", "gateway".into()).await.unwrap();
    client.flush().await.unwrap();
    ready.send(()).unwrap();
    while let Some(request) = requests.next().await {
        let order: Value = serde_json::from_slice(&request.payload).expect("the line of the file, and nothing else");
        assert!(order["order"].is_string() || order["order"].is_number(), "{order}");
        let n = seen.fetch_add(1, Ordering::SeqCst) + 1;
        let answers = match n {
            n if n % 25 == 0 => 0,
            n if n % 10 == 0 => 2,
            _ => 1,
        };
        for _ in 0..answers {
            client.publish(request.reply.clone().unwrap(), "{\"accepted\":true}".into()).await.unwrap();
        }
    }
}

/// The trial of a run against the service at `subject`, and how many requests the service saw.
fn drive(subject: &str) -> Option<(Value, u64)> {
    let server = Server::launch("nats", json!({}))?;
    let seen = Arc::new(AtomicU64::new(0));
    let (ready, there) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let task = runtime.spawn(serve(server.running.url.clone(), seen.clone(), ready));
    there.recv().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("orders.jsonl"), "{\"order\":1}\n{\"order\":\"two\"}\n").unwrap();
    let text = format!(
        "name = \"gateway\"\nquestion = \"test?\"\n[[system]]\ndriver = \"nats\"\nurl = \"{}\"\n\
         [[workload]]\npattern = \"request-reply\"\nproducers = 2\ntarget = {{ subject = \"{subject}\" }}\n\
         load.rate = \"500/s\"\npayload.file = \"orders.jsonl\"\n\
         [run]\nwarmup = \"0s\"\nduration = \"1s\"\ndrain = \"1s\"\ntrials = 1\n",
        server.running.url
    );
    std::fs::write(dir.path().join("s.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_msgbench"));
    command.current_dir(dir.path()).args(["run", "s.toml", "--format", "record", "--quiet"]);
    let output = command.output().unwrap();
    assert!(!task.is_finished(), "the service has failed: {:?}", runtime.block_on(task));
    let record: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(record["plan"]["cases"][0]["workloads"][0]["target"]["subject"], subject);
    Some((record["trials"][0].clone(), seen.load(Ordering::SeqCst)))
}

#[test]
fn answers_of_a_service_are_counted_and_timed() {
    let Some((trial, seen)) = drive("orders.create") else { return };
    assert_eq!(trial["outcome"]["status"], "complete", "{trial}");
    let workload = &trial["workloads"][0];
    let count = |name: &str| workload["ledger"][name].as_u64().unwrap();
    assert!((480..=501).contains(&count("sent")), "{workload}");
    assert_eq!(count("sent"), seen);
    assert_eq!(count("lost"), seen / 25);
    assert_eq!(count("delivered"), seen - seen / 25);
    // Of those that are answered twice, every fifth is not answered at all.
    assert_eq!(count("duplicated"), seen / 10 - seen / 50);
    assert_eq!((count("corrupted"), count("foreign"), count("unanswered")), (0, 0, 0));
    let latency = &workload["latency"]["rtt"];
    assert_eq!(latency["count"].as_u64().unwrap(), count("delivered"), "{latency}");
}

#[test]
fn a_subject_that_nobody_answers_is_told() {
    let Some((trial, seen)) = drive("orders.nobody") else { return };
    let ledger = &trial["workloads"][0]["ledger"];
    assert_eq!(seen, 0);
    assert_eq!(ledger["unanswered"], ledger["sent"], "{ledger}");
    assert_eq!(ledger["delivered"], 0);
}
