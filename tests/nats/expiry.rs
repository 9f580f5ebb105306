//! Messages that expire, consumers that are paused, filtered, and that terminate messages.

use std::time::{Duration, Instant};

use crate::support::*;
use msgbench::driver::jetstream::JetstreamDriver;
use msgbench::driver::{ClientSlot, Disposition, Driver, Start};
use msgbench::units::now;
use serde_json::{Value, json};

const SEAT: ClientSlot = ClientSlot { workload: 0, group: 0, index: 0 };
const STREAM: &str = "MSGBENCH_abcd0123_0";

/// A server that is this or newer.
fn launch(version: &str) -> Option<Server> {
    crate::needs::since("nats", version)?;
    Server::launch("jetstream", json!({}))
}

async fn open(server: &Server, options: Value, rest: &str) -> JetstreamDriver {
    JetstreamDriver::prepare(server.target(options), &workloads("stream", rest)).await.unwrap()
}

async fn stored(server: &Server) -> u64 {
    server.api(&format!("STREAM.INFO.{STREAM}"), "").await["state"]["messages"].as_u64().unwrap()
}

#[tokio::test]
async fn a_message_is_kept_as_long_as_its_header_says() {
    let Some(server) = launch("2.11") else { return };
    for (ttl, publish) in [("2s", "async"), ("3600s", "async"), ("2s", "sync")] {
        let driver = open(&server, json!({ "message-ttl": ttl, "publish": publish, "headers": 1 }), "").await;
        let mut producer = driver.producer(SEAT).await.unwrap();
        send(&mut producer, 0..20).await;
        assert_eq!(confirmations(&mut producer, 20).await.0.len(), 20);
        let begun = Instant::now();
        let gone = async {
            while stored(&server).await > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let within = if ttl == "2s" { TIMEOUT } else { Duration::from_secs(4) };
        assert_eq!(tokio::time::timeout(within, gone).await.is_ok(), ttl == "2s", "{ttl}");
        assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn consumers_are_paused_from_the_measured_phase_on() {
    let Some(server) = launch("2.11") else { return };
    for consumer in ["pull", "push"] {
        let options = json!({ "pause-consumers": "2s", "consumer": consumer });
        let mut driver = open(&server, options, "consumers = 2").await;
        let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let _other = driver.consumer(ClientSlot { group: 1, ..SEAT }, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SEAT).await.unwrap();
        let begun = Instant::now();
        driver.measured_from(now());
        for group in ["g0", "g1"] {
            let paused = async {
                while server.api(&format!("CONSUMER.INFO.{STREAM}.{group}"), "").await["paused"] != true {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(TIMEOUT, paused).await.expect("it is paused");
        }
        send(&mut producer, 0..50).await;
        let mut heard = Collector::new(accept);
        hear(&mut reader, &mut heard, 50, 0).await;
        assert!(begun.elapsed() >= Duration::from_secs(2), "{consumer}: {:?}", begun.elapsed());
        let log = driver.incidents().take_log();
        assert!(log.iter().any(|(.., words)| words == "consumer g1 is paused for 2s"), "{log:?}");
        driver.halt();
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn filtered_consumers_get_the_subjects_of_the_workload_and_no_other() {
    let Some(server) = launch("2.10") else { return };
    for (consumer, filter) in [("pull", "subjects"), ("push", "subjects"), ("ordered", "subjects"), ("pull", "stream")]
    {
        let options = json!({ "filter": filter, "consumer": consumer });
        let driver = open(&server, options, "channels = 3").await;
        let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let client = async_nats::connect(&server.running.url).await.unwrap();
        for subject in ["mbs.abcd0123.0.9", "mbs.abcd0123.0.key.7", "mbs.abcd0123.0.2"] {
            client.request(subject, subject.into()).await.unwrap();
        }
        let mut heard = Collector::new(accept);
        let all = ["mbs.abcd0123.0.9", "mbs.abcd0123.0.key.7", "mbs.abcd0123.0.2"];
        let expected = if filter == "stream" { &all[..] } else { &all[1..] };
        hear(&mut reader, &mut heard, expected.len(), 0).await;
        hear_for(&mut reader, &mut heard, Duration::from_millis(100)).await;
        assert_eq!(heard.texts(), expected, "{consumer} {filter}");
        driver.cleanup().await.unwrap();
    }
}

/// A consumer that terminates what it rejects for the last time needs no advisory of the server.
#[tokio::test]
async fn what_is_terminated_is_a_dead_letter() {
    let Some(server) = launch("2.10") else { return };
    for (mode, advised) in [("term", false), ("server", true)] {
        let client = async_nats::connect(&server.running.url).await.unwrap();
        let subject = format!("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{STREAM}.g0");
        let mut terminated = client.subscribe(subject).await.unwrap();
        client.flush().await.unwrap();
        let options = json!({ "dead-letters": mode });
        let driver = open(&server, options, "delivery = { dead-every = 10, max-deliver = 3 }").await;
        let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SEAT).await.unwrap();
        send(&mut producer, 0..50).await;
        let mut heard =
            Collector::new(|text: &str, _| if text.ends_with('7') { Disposition::Reject } else { Disposition::Accept });
        hear(&mut reader, &mut heard, 45 + 3 * 5, 5).await;
        hear_for(&mut reader, &mut heard, Duration::from_millis(300)).await;
        assert_eq!(heard.heard.len(), 60, "{mode}: three deliveries of each, and no more");
        let mut dead: Vec<_> = heard.dead.clone();
        dead.sort();
        let expected: Vec<_> = [17, 27, 37, 47, 7].map(|n| (message(n), 3)).to_vec();
        assert_eq!(dead, expected, "{mode}");
        let kept = server.api(&format!("STREAM.INFO.{STREAM}_DEAD"), "").await;
        assert_eq!(kept["state"]["messages"], 5, "{mode}");
        let info = server.api(&format!("CONSUMER.INFO.{STREAM}.g0"), "").await;
        assert_eq!(info["num_ack_pending"], 0, "{mode}: {info}");
        let mut told = 0;
        while tokio::time::timeout(Duration::from_millis(200), futures_util::StreamExt::next(&mut terminated))
            .await
            .is_ok()
        {
            told += 1;
        }
        assert_eq!(told, if advised { 0 } else { 5 }, "{mode}");
        driver.cleanup().await.unwrap();
    }
}
