//! Publishing in batches, and reading copies of a stream, against a real nats-server.

use std::time::Duration;

use crate::support::*;
use msgbench::driver::jetstream::JetstreamDriver;
use msgbench::driver::{ClientSlot, Driver, Incident, Producer, Start};
use serde_json::{Value, json};

const SEAT: ClientSlot = ClientSlot { workload: 0, group: 0, index: 0 };
const STREAM: &str = "MSGBENCH_abcd0123_0";

async fn open(server: &Server, options: Value) -> JetstreamDriver {
    JetstreamDriver::prepare(server.target(options), &workloads("stream", "producers = 2")).await.unwrap()
}

async fn stored(server: &Server) -> u64 {
    server.api(&format!("STREAM.INFO.{STREAM}"), "").await["state"]["messages"].as_u64().unwrap()
}

/// A server that has batches of this kind.
fn launch(publish: &str) -> Option<Server> {
    crate::needs::since("nats", if publish == "atomic-batch" { "2.12" } else { "2.14" })?;
    Server::launch("jetstream", json!({}))
}

#[tokio::test]
async fn every_message_of_a_batch_is_stored_in_order_and_acknowledged() {
    for publish in ["atomic-batch", "fast-batch"] {
        let Some(server) = launch(publish) else { return };
        // The last batch is not full: it ends by itself. In 250 a fast one waits for the server.
        for (size, in_flight) in [(1, 4096), (7, 4096), (250, 4096), (100, 30)] {
            let options = json!({ "publish": publish, "publish-batch": size, "in-flight": in_flight });
            let driver = open(&server, options).await;
            let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
            let mut producer = driver.producer(SEAT).await.unwrap();
            let mut other = driver.producer(ClientSlot { index: 1, ..SEAT }).await.unwrap();
            send(&mut producer, 0..510).await;
            let (acked, failed) = confirmations(&mut producer, 510).await;
            assert_eq!((acked, failed), ((0..510).collect(), vec![]), "{publish} {size}");
            let mut heard = Collector::new(accept);
            hear(&mut reader, &mut heard, 510, 0).await;
            assert_eq!(heard.texts(), (0..510).map(message).collect::<Vec<_>>(), "{publish} {size}");
            // Batches of another producer are its own, and what is open at the end is stored.
            send(&mut other, 0..3).await;
            other.close().await.unwrap();
            hear(&mut reader, &mut heard, 513, 0).await;
            assert_eq!(stored(&server).await, 513, "the end of a batch is no message");
            driver.cleanup().await.unwrap();
        }
    }
}

/// Nothing of an atomic batch is in the stream until all of it is; what is never ended never is.
#[tokio::test]
async fn an_atomic_batch_is_stored_whole_or_not_at_all() {
    for (publish, before) in [("atomic-batch", 0), ("fast-batch", 60)] {
        let Some(server) = launch(publish) else { return };
        let options = json!({ "publish": publish, "publish-batch": 100, "publish-linger": "5s" });
        let driver = open(&server, options).await;
        let mut producer = driver.producer(SEAT).await.unwrap();
        send(&mut producer, 0..60).await;
        // Another connection's message, sent afterwards, is in: so the server has read the others.
        let client = async_nats::connect(&server.running.url).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let answer = client.request("mbs.abcd0123.0.other", "alone".into()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["seq"], before + 1, "{publish}: {answer}");
        assert_eq!(stored(&server).await, before + 1, "{publish}");
        // The connection goes without an end of the batch.
        drop(producer);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(stored(&server).await, before + 1, "{publish}");
        let mut second = driver.producer(ClientSlot { index: 1, ..SEAT }).await.unwrap();
        send(&mut second, 100..200).await;
        assert_eq!(confirmations(&mut second, 100).await.0.len(), 100);
        assert_eq!(stored(&server).await, before + 101, "{publish}");
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn a_batch_that_is_refused_fails_each_of_its_messages() {
    for publish in ["atomic-batch", "fast-batch"] {
        let Some(server) = launch(publish) else { return };
        let options = json!({ "publish": publish, "publish-batch": 20 });
        let driver = open(&server, options).await;
        let mut producer = driver.producer(SEAT).await.unwrap();
        send(&mut producer, 0..20).await;
        assert_eq!(confirmations(&mut producer, 20).await.0.len(), 20);
        assert_eq!(server.api(&format!("STREAM.DELETE.{STREAM}"), "").await["success"], true);
        send(&mut producer, 20..40).await;
        let (acked, mut failed) = confirmations(&mut producer, 20).await;
        failed.sort_unstable();
        assert_eq!((acked, failed), (vec![], (20..40).collect()), "{publish}");
        let log = driver.incidents().take_log();
        assert!(log.iter().any(|(_, kind, _)| *kind == Incident::Refused), "{publish}: {log:?}");
    }
}

#[tokio::test]
async fn a_copy_has_every_message_in_order() {
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    for (from, name) in [("mirror", "MIRROR"), ("source", "SOURCED")] {
        for consumer in ["pull", "ordered"] {
            let driver = open(&server, json!({ "read-from": from, "consumer": consumer })).await;
            let info = server.api(&format!("STREAM.INFO.{STREAM}_{name}"), "").await;
            let of = if from == "mirror" { &info["config"]["mirror"] } else { &info["config"]["sources"][0] };
            assert_eq!(of["name"], STREAM, "{info}");
            assert_eq!(driver.facts().words()["read_from"], format!("{from} of {STREAM}"));
            let mut producer = driver.producer(SEAT).await.unwrap();
            send(&mut producer, 0..100).await;
            assert_eq!(confirmations(&mut producer, 100).await.0.len(), 100);
            let mut reader = driver.consumer(SEAT, Start::First).await.unwrap();
            send(&mut producer, 100..300).await;
            let mut heard = Collector::new(accept);
            hear(&mut reader, &mut heard, 300, 0).await;
            assert_eq!(heard.texts(), (0..300).map(message).collect::<Vec<_>>(), "{from} {consumer}");
            let consumers = server.api(&format!("CONSUMER.NAMES.{STREAM}_{name}"), "").await;
            assert_eq!(consumers["total"], 1, "the copy is read");
            driver.cleanup().await.unwrap();
            assert_eq!(server.api("STREAM.NAMES", "").await["total"], 0);
        }
    }
}

#[test]
fn runs_with_batches_and_copies_balance_and_the_lag_is_noted() {
    for (since, options) in [
        ("2.10", "read-from = \"mirror\""),
        // With files each atomic batch is synced, which a busy disk takes too long for.
        ("2.12", "publish = \"atomic-batch\", storage = \"memory\""),
        ("2.14", "publish = \"fast-batch\", publish-batch = 500, publish-linger = \"20ms\""),
    ] {
        if crate::needs::since("nats", since).is_none() {
            return;
        }
        let text = format!(
            "name = \"test\"\nquestion = \"test?\"\n[[system]]\ndriver = \"jetstream\"\noptions = {{ {options} }}\n\
             [[workload]]\npattern = \"stream\"\nproducers = 2\nload = {{ rate = \"2k/s\" }}\n[run]\ndrain = \"60s\"\n"
        );
        let result = run(&text);
        ran(&result, options);
        let ledger = ledger(&result.1, 0);
        assert_eq!(ledger["expected"], ledger["delivered"], "{options}: {ledger}");
        assert_eq!(ledger["acked"], ledger["sent"], "{options}: {ledger}");
        promises_are_kept(&result.1, 0);
        let events = result.1["trials"][0]["events"].to_string();
        assert_eq!(events.contains("messages behind"), options.contains("mirror"), "{events}");
    }
}
