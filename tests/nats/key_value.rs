//! Key-value stores of the jetstream driver against a real nats-server: buckets, watchers, and what
//! a watcher may miss.

use std::process::Command;

use crate::support::*;
use msgbench::driver::jetstream::JetstreamDriver;
use msgbench::driver::{ClientSlot, Confirmation, Driver, Outgoing, Producer, Start};
use serde_json::{Value, json};

const SEAT: ClientSlot = ClientSlot { workload: 0, group: 0, index: 0 };
const BUCKET: &str = "msgbench_abcd0123_0";

async fn open(server: &Server, options: Value, rest: &str) -> JetstreamDriver {
    JetstreamDriver::prepare(server.target(options), &workloads("key-value", rest)).await.unwrap()
}

/// What the client of another house makes and reads; nothing where it is not here.
fn client(server: &Server, command: &str, bucket: &str, rest: &[&str]) -> Option<Value> {
    let python = crate::needs::python("nats.aio.client", "nats-py")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/key_value.py");
    let args = [script, command, &server.running.url, bucket];
    let output = Command::new(python).args(args).args(rest).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

/// Puts `tokens`, each as the value of the key of its last digit, and waits for the store.
async fn put(producer: &mut impl Producer, tokens: std::ops::Range<u64>) {
    let n = tokens.clone().count();
    for token in tokens {
        let payload = message(token);
        let out = Outgoing { channel: 0, key: Some(token % 10), payload: payload.as_bytes(), token };
        producer.send(out).await.unwrap();
    }
    assert_eq!(confirmations(producer, n).await.0.len(), n);
}

async fn send_keyed(producer: &mut impl Producer, token: u64) {
    let payload = message(token);
    let out = Outgoing { channel: 0, key: Some(token), payload: payload.as_bytes(), token };
    producer.send(out).await.unwrap();
    producer.flush().await.unwrap();
}

/// The server cannot tell our bucket from one that a NATS client has made.
#[tokio::test]
async fn a_bucket_is_one_that_clients_make() {
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    let driver = open(&server, json!({}), "delivery = { history = 5 }").await;
    if client(&server, "make", "theirs", &["5"]).is_none() {
        return;
    }
    let mut ours = server.api(&format!("STREAM.INFO.KV_{BUCKET}"), "").await["config"].clone();
    let mut theirs = server.api("STREAM.INFO.KV_theirs", "").await["config"].clone();
    // Of all clients nats-py alone lets single values expire without being asked to.
    let differs = ["allow_msg_ttl", "metadata"];
    for config in [&mut ours, &mut theirs] {
        config.as_object_mut().unwrap().retain(|key, _| !differs.contains(&key.as_str()));
    }
    let text = ours.to_string().replace(BUCKET, "theirs");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), theirs);
    assert_eq!(driver.facts().words()["discard"], "new");
    driver.cleanup().await.unwrap();
    assert_eq!(server.api("STREAM.NAMES", "").await["streams"], json!(["KV_theirs"]));
}

#[tokio::test]
async fn every_watcher_sees_every_update_and_a_client_gets_the_last() {
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    for options in [json!({}), json!({ "consumer": "push" }), json!({ "consumer": "pull", "storage": "memory" })] {
        let driver = open(&server, options.clone(), "consumers = 3\nproducers = 2\ndelivery = { history = 64 }").await;
        let mut early = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let mut other = driver.producer(ClientSlot { index: 1, ..SEAT }).await.unwrap();
        put(&mut other, 100..101).await;
        let mut late = driver.consumer(ClientSlot { group: 1, ..SEAT }, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SEAT).await.unwrap();
        put(&mut producer, 0..50).await;
        let expected: Vec<String> = (0..50).map(message).collect();
        let mut seen = Collector::new(accept);
        hear(&mut late, &mut seen, 50, 0).await;
        assert_eq!(seen.texts(), expected, "{options}: updates alone, in the order of their revisions");
        let mut seen = Collector::new(accept);
        hear(&mut early, &mut seen, 51, 0).await;
        assert_eq!(seen.texts()[0], message(100));
        assert_eq!(seen.texts()[1..], expected);
        let Some(read) = client(&server, "read", BUCKET, &["p0.0", "p0.7", "p1.0"]) else { return };
        // Producers put keys of their own.
        for (key, value) in [("p0.0", 40), ("p0.7", 47), ("p1.0", 100)] {
            assert_eq!(read[key]["value"], message(value), "{options}");
        }
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn a_bucket_keeps_as_many_values_of_a_key_as_it_was_told() {
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    for history in [1, 3] {
        let driver = open(&server, json!({}), &format!("delivery = {{ history = {history} }}")).await;
        let mut producer = driver.producer(SEAT).await.unwrap();
        put(&mut producer, 0..80).await;
        let Some(read) = client(&server, "read", BUCKET, &["p0.7"]) else { return };
        let last: Vec<String> = (0..80).filter(|n| n % 10 == 7).skip(8 - history).map(message).collect();
        assert_eq!(read["p0.7"]["history"], json!(last));
        driver.cleanup().await.unwrap();
    }
}

fn scenario(options: &str, rate: &str, rest: &str) -> String {
    format!(
        "name = \"test\"\nquestion = \"test?\"\n[[system]]\ndriver = \"jetstream\"\noptions = {{ {options} }}\n\
         [[workload]]\npattern = \"key-value\"\nload = {{ rate = \"{rate}\" }}\n{rest}\n[run]\ndrain = \"3s\"\n"
    )
}

/// A watcher that takes its time over each update misses those that were replaced meanwhile: they
/// are superseded. With history enough it misses none.
#[test]
fn what_a_slow_watcher_misses_is_superseded_and_not_lost() {
    if crate::needs::nats_server().is_none() {
        return;
    }
    for (history, rate, batch, think, replaced) in [(1, "1k/s", 1, "20ms", true), (64, "200/s", 64, "100us", false)] {
        let rest = format!(
            "consumers = 2\n[workload.delivery]\nkeys = {{ round-robin = 8 }}\nhistory = {history}\n\
             slow = {{ consumers = 1, think = \"{think}\" }}"
        );
        let result = run(&scenario(&format!("consumer = \"pull\", batch = {batch}"), rate, &rest));
        ran(&result, &rest);
        let record = &result.1;
        let ledger = ledger(record, 0);
        let count = |key: &str| ledger[key].as_u64().unwrap();
        assert_eq!(count("superseded") > 100, replaced, "{ledger}");
        assert_eq!(count("delivered") + count("superseded"), count("expected"), "{ledger}");
        promises_are_kept(record, 0);
        let groups = &record["trials"][0]["workloads"][0]["groups"];
        let delivered = |group: usize| groups[group]["delivered"].as_u64().unwrap();
        assert_eq!(delivered(0) < delivered(1), replaced, "{groups}");
    }
}

/// The second workload gets keys of the bucket of the first.
const GETS: &str = "producers = 2\ndelivery.keys = { uniform = 50 }\n[[workload]]\nname = \"gets\"\n\
                    pattern = \"request-reply\"\ntarget = { bucket = \"key-value\" }\nload.rate = \"1k/s\"";

#[tokio::test]
async fn every_key_of_a_bucket_can_be_got() {
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    let driver = open(&server, json!({ "publish": "fire-and-forget" }), GETS).await;
    let subjects = server.api(&format!("STREAM.INFO.KV_{BUCKET}"), "").await["state"]["num_subjects"].clone();
    assert_eq!(subjects, 100, "each key of each producer has a value");
    let mut watcher = driver.consumer(SEAT, Start::Tail).await.unwrap();
    let mut reader = driver.producer(ClientSlot { workload: 1, ..SEAT }).await.unwrap();
    for token in 0..500 {
        reader.send(Outgoing { channel: 0, key: None, payload: b"nothing of this is sent", token }).await.unwrap();
    }
    let mut got = Vec::new();
    while got.len() < 500 {
        let mut sink = |c: Confirmation<'_>| match c {
            Confirmation::Served { token, bytes: 128, .. } => got.push(token),
            other => panic!("{other:?}"),
        };
        tokio::time::timeout(TIMEOUT, reader.confirmed(&mut sink)).await.unwrap().unwrap();
    }
    got.sort_unstable();
    assert_eq!(got, (0..500).collect::<Vec<_>>());
    // What is lost before anything came is made again where it began: first values are no updates.
    assert_eq!(server.api(&format!("CONSUMER.DELETE.KV_{BUCKET}.g0_0"), "").await["success"], true);
    let mut producer = driver.producer(SEAT).await.unwrap();
    send_keyed(&mut producer, 1).await;
    let mut seen = Collector::new(accept);
    hear(&mut watcher, &mut seen, 1, 0).await;
    assert_eq!(seen.texts(), [message(1)]);
    driver.cleanup().await.unwrap();
    assert_eq!(server.api("STREAM.NAMES", "").await["total"], 0);
}

#[tokio::test]
async fn a_key_that_is_gone_fails_the_request_for_it() {
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    let driver = open(&server, json!({}), GETS).await;
    let mut reader = driver.producer(ClientSlot { workload: 1, ..SEAT }).await.unwrap();
    assert_eq!(server.api(&format!("STREAM.PURGE.KV_{BUCKET}"), "").await["success"], true);
    send(&mut reader, 0..10).await;
    assert_eq!(confirmations(&mut reader, 10).await.1, (0..10).collect::<Vec<_>>());
    let log = driver.incidents().take_log();
    assert!(log.iter().any(|(.., words)| words.contains("404")), "{log:?}");
    driver.cleanup().await.unwrap();
}
