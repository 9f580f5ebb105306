//! Consumers of the jetstream driver that do not keep up: who waits for whom.

use std::time::{Duration, Instant};

use crate::support::*;
use msgbench::driver::jetstream::JetstreamDriver;
use msgbench::driver::{ClientSlot, Consumer, Disposition, Driver, Outgoing, Producer, Start};
use serde_json::{Value, json};

const SEAT: ClientSlot = ClientSlot { workload: 0, group: 0, index: 0 };
const CONSUMER: &str = "CONSUMER.INFO.MSGBENCH_abcd0123_0.g0";

async fn open(server: &Server, options: Value) -> JetstreamDriver {
    JetstreamDriver::prepare(server.target(options), &workloads("stream", "")).await.unwrap()
}

/// Stores `n` messages of 16 KiB.
async fn store(driver: &JetstreamDriver, n: u64) {
    let mut producer = driver.producer(SEAT).await.unwrap();
    let payload = vec![b'x'; 16 * 1024];
    for token in 0..n {
        producer.send(Outgoing { channel: 0, key: None, payload: &payload, token }).await.unwrap();
    }
    assert_eq!(confirmations(&mut producer, n as usize).await.0.len(), n as usize);
}

async fn delivered(server: &Server) -> u64 {
    server.api(CONSUMER, "").await["delivered"]["consumer_seq"].as_u64().unwrap()
}

/// How many messages the server has sent to a client that takes none, when it sends no more.
async fn sent_unread(server: &Server) -> u64 {
    let (until, mut last) = (Instant::now() + TIMEOUT, (0, 0));
    while last.1 < 20 {
        assert!(Instant::now() < until, "it goes on sending: {last:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = delivered(server).await;
        last = if now > 0 && now == last.0 { (now, last.1 + 1) } else { (now, 0) };
    }
    last.0
}

#[tokio::test]
async fn the_server_knows_what_was_asked_for() {
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    for (options, expected) in [
        (json!({}), json!([true, 5_000_000_000_u64, null, 1000])),
        (json!({ "flow-control": false, "idle-heartbeat": "250ms" }), json!([null, 250_000_000, null, 1000])),
        (json!({ "rate-limit": "1MiB", "max-ack-pending": 7 }), json!([true, 5_000_000_000_u64, 8 * 1024 * 1024, 7])),
    ] {
        let mut all = json!({ "consumer": "push" });
        all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let driver = open(&server, all).await;
        let _consumer = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let c = server.api(CONSUMER, "").await["config"].clone();
        let found = json!([c["flow_control"], c["idle_heartbeat"], c["rate_limit_bps"], c["max_ack_pending"]]);
        assert_eq!(found, expected, "{options}");
        let words = driver.facts().words();
        assert_eq!(words["flow_control"], (expected[0] == true).to_string());
        assert_eq!(words["rate_limit"], if expected[2].is_null() { "unlimited" } else { "1048576 B/s" });
        driver.cleanup().await.unwrap();
    }
}

/// 48 MiB for a client that reads its socket and takes nothing.
#[tokio::test]
async fn with_flow_control_the_server_waits_for_the_client() {
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    for flow_control in [true, false] {
        let options = json!({
            "consumer": "push", "ack": "none", "flow-control": flow_control, "idle-heartbeat": "500ms", "storage": "memory" });
        let driver = open(&server, options).await;
        let mut consumer = driver.consumer(SEAT, Start::Tail).await.unwrap();
        store(&driver, 3000).await;
        let sent = sent_unread(&server).await;
        assert_eq!(sent < 3000, flow_control, "{sent} of 3000 sent");
        let mut collector = Collector::new(accept);
        hear(&mut consumer, &mut collector, 3000, 0).await;
        assert_eq!(collector.heard.len(), 3000, "all come when they are taken");
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn the_server_sends_no_more_than_may_be_unacknowledged() {
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    for consumer in ["push", "pull"] {
        let driver = open(&server, json!({ "consumer": consumer, "max-ack-pending": 10 })).await;
        let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SEAT).await.unwrap();
        send(&mut producer, 0..35).await;
        let mut collector = Collector::new(|_, _| Disposition::Hold);
        for open in [10, 20, 30, 35] {
            hear(&mut reader, &mut collector, open, 0).await;
            assert_eq!(sent_unread(&server).await, open as u64, "{consumer}");
            reader.settle(10).unwrap();
        }
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn a_rate_limit_is_kept() {
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    let driver = open(&server, json!({ "consumer": "push", "rate-limit": "1MiB", "storage": "memory" })).await;
    let mut consumer = driver.consumer(SEAT, Start::Tail).await.unwrap();
    let begun = Instant::now();
    store(&driver, 192).await;
    let mut collector = Collector::new(accept);
    hear(&mut consumer, &mut collector, 192, 0).await;
    // 3 MiB, of which the server may send a first part at once.
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
    driver.cleanup().await.unwrap();
}

#[tokio::test]
async fn a_server_that_says_nothing_is_noted() {
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    for consumer in ["push", "pull"] {
        let driver = open(&server, json!({ "consumer": consumer, "idle-heartbeat": "200ms" })).await;
        let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let mut collector = Collector::new(accept);
        let heard = |driver: &JetstreamDriver| {
            driver
                .incidents()
                .take_log()
                .iter()
                .any(|(.., words)| words.contains("no heartbeat of a consumer within 0.4 s"))
        };
        hear_for(&mut reader, &mut collector, Duration::from_secs(1)).await;
        // One that is told to wait hears nothing of the server, either.
        tokio::time::sleep(Duration::from_secs(1)).await;
        hear_for(&mut reader, &mut collector, Duration::from_millis(1)).await;
        assert!(!heard(&driver), "{consumer}: heartbeats came");
        if consumer == "push" {
            assert_eq!(server.api("CONSUMER.DELETE.MSGBENCH_abcd0123_0.g0", "").await["success"], true);
            let (until, mut noted) = (Instant::now() + TIMEOUT, false);
            while !noted {
                assert!(Instant::now() < until, "{consumer}: the silence is noted");
                hear_for(&mut reader, &mut collector, Duration::from_millis(100)).await;
                noted = heard(&driver);
            }
        }
        driver.cleanup().await.unwrap();
    }
}
