//! The jetstream driver against a real nats-server: every kind of stream, publisher, consumer and
//! acknowledgement.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::*;
use msgbench::driver::jetstream::JetstreamDriver;
use msgbench::driver::{ClientSlot, Consumer, Disposition, Driver, Incident, Outgoing, Producer, Start};
use serde_json::{Value, json};

const SEAT: ClientSlot = ClientSlot { workload: 0, group: 0, index: 0 };
const STREAM: &str = "MSGBENCH_abcd0123_0";

fn launch(options: Value) -> Option<Server> {
    Server::launch("jetstream", options)
}

async fn open(server: &Server, options: Value, pattern: &str, rest: &str) -> JetstreamDriver {
    JetstreamDriver::prepare(server.target(options), &workloads(pattern, rest)).await.unwrap()
}

/// What stands in the stream.
async fn stored(server: &Server) -> u64 {
    server.api(&format!("STREAM.INFO.{STREAM}"), "").await["state"]["messages"].as_u64().unwrap()
}

async fn consumer_info(server: &Server, consumer: &str) -> Value {
    server.api(&format!("CONSUMER.INFO.{STREAM}.{consumer}"), "").await
}

/// Waits until `done` holds.
async fn eventually<F: Future<Output = bool>>(mut done: impl FnMut() -> F, what: &str) {
    let until = Instant::now() + TIMEOUT;
    while !done().await {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn texts(tokens: std::ops::Range<u64>) -> Vec<String> {
    tokens.map(message).collect()
}

#[tokio::test]
async fn streams_are_made_read_back_and_removed() {
    let Some(server) = launch(json!({})) else { return };
    let options = json!({
        "storage": "memory", "retention": "interest", "discard": "new", "max-messages": 1000, "max-bytes": "1MiB",
        "max-age": "1h", "duplicate-window": "30s", "ack-wait": "3s", "max-ack-pending": 77, "publish": "sync" });
    let driver = open(&server, options, "stream", "delivery = { dead-every = 10 }").await;
    let info = server.api(&format!("STREAM.INFO.{STREAM}"), "").await;
    assert_eq!(info["config"]["storage"], "memory");
    assert_eq!(info["config"]["subjects"], json!(["mbs.abcd0123.0.>"]));
    let g = &driver.facts().words();
    for (key, value) in [
        ("storage", "memory"),
        ("replicas", "1"),
        ("retention", "interest"),
        ("discard", "new"),
        ("max_messages", "1000"),
        ("max_bytes", "1048576"),
        ("max_age", "3600s"),
        ("duplicate_window", "30s"),
        ("ack_policy", "explicit"),
        ("ack_wait", "3s"),
        ("max_ack_pending", "77"),
        ("max_deliver", "3"),
        ("durability", "memory of 1 server"),
        ("acknowledgement", "publish sync; consume explicit"),
    ] {
        assert_eq!(g[key], value, "{key}");
    }
    assert!(g["delivery"].starts_with("at least once"));
    assert!(driver.facts().version.starts_with("nats-server 2."));
    assert!(server.running.settings.contains_key("sync_interval"));
    assert_eq!(server.api("STREAM.NAMES", "").await["total"], 2);
    driver.cleanup().await.unwrap();
    assert_eq!(server.api("STREAM.NAMES", "").await["total"], 0);
}

#[tokio::test]
async fn every_way_to_publish_stores_every_message() {
    let Some(server) = launch(json!({})) else { return };
    for (publish, in_flight, confirms) in
        [("async", 4096, true), ("async", 7, true), ("sync", 1, true), ("fire-and-forget", 1, false)]
    {
        let options = json!({ "storage": "memory", "publish": publish, "in-flight": in_flight });
        let driver = open(&server, options, "stream", "").await;
        let mut producer = driver.producer(SEAT).await.unwrap();
        assert_eq!(producer.confirms(), confirms, "{publish}");
        send(&mut producer, 0..500).await;
        if confirms {
            let (mut acked, failed) = confirmations(&mut producer, 500).await;
            acked.sort_unstable();
            assert_eq!(acked, (0..500).collect::<Vec<_>>(), "{publish}");
            assert!(failed.is_empty());
        }
        // Only where fewer may be in flight than are sent is there a wait for room.
        assert_eq!(driver.incidents().backpressure_total() > 0, confirms && in_flight < 500, "{publish} {in_flight}");
        producer.close().await.unwrap();
        eventually(|| async { stored(&server).await == 500 }, publish).await;
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_held_is_acknowledged_when_the_taker_says_so() {
    let Some(server) = launch(json!({})) else { return };
    for ack in ["explicit", "all", "double"] {
        let driver = open(&server, json!({ "ack": ack }), "stream", "").await;
        let mut consumer = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SEAT).await.unwrap();
        send(&mut producer, 0..10).await;
        let mut collector = Collector::new(|_, _| Disposition::Hold);
        hear(&mut consumer, &mut collector, 10, 0).await;
        let mut settled = 0;
        for (more, open) in [(0, 10), (4, 6), (6, 0), (3, 0)] {
            consumer.settle(more).unwrap();
            settled += more;
            let pending = || async { consumer_info(&server, "g0").await["num_ack_pending"] == open };
            eventually(pending, &format!("{ack}: {open} open after {settled} of 10")).await;
        }
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn a_full_stream_refuses_or_forgets() {
    let Some(server) = launch(json!({})) else { return };
    let driver = open(&server, json!({ "max-messages": 10, "discard": "new" }), "stream", "").await;
    let mut producer = driver.producer(SEAT).await.unwrap();
    send(&mut producer, 0..30).await;
    let (acked, failed) = confirmations(&mut producer, 30).await;
    assert_eq!((acked.len(), failed.len()), (10, 20));
    let log = driver.incidents().take_log();
    assert!(log.iter().any(|(.., words)| words.contains("maximum messages exceeded")), "{log:?}");
    driver.cleanup().await.unwrap();

    let driver = open(&server, json!({ "max-messages": 10, "discard": "old" }), "stream", "").await;
    let mut producer = driver.producer(SEAT).await.unwrap();
    send(&mut producer, 0..30).await;
    assert_eq!(confirmations(&mut producer, 30).await.0.len(), 30);
    let mut consumer = driver.consumer(SEAT, Start::First).await.unwrap();
    let mut collector = Collector::new(accept);
    hear(&mut consumer, &mut collector, 10, 0).await;
    assert_eq!(collector.texts(), texts(20..30));
    driver.cleanup().await.unwrap();
}

#[tokio::test]
async fn a_server_without_room_refuses_with_its_own_words() {
    let Some(server) = launch(json!({ "max-file": "1MiB" })) else { return };
    let driver = open(&server, json!({}), "stream", "").await;
    let mut producer = driver.producer(SEAT).await.unwrap();
    let payload = vec![0; 64 * 1024];
    for token in 0..64 {
        producer.send(Outgoing { channel: 0, key: None, payload: &payload, token }).await.unwrap();
    }
    let (acked, failed) = confirmations(&mut producer, 64).await;
    assert!(!acked.is_empty() && !failed.is_empty(), "{} {}", acked.len(), failed.len());
    assert_eq!(stored(&server).await, acked.len() as u64);
    let log = driver.incidents().take_log();
    assert!(log.iter().any(|(_, kind, w)| *kind == Incident::Refused && w.contains("resource")), "{log:?}");
    driver.cleanup().await.unwrap();
}

#[tokio::test]
async fn every_kind_of_consumer_reads_everything_in_order() {
    let Some(server) = launch(json!({})) else { return };
    for options in [
        json!({ "consumer": "pull", "batch": 64 }),
        json!({ "consumer": "pull", "batch": 1 }),
        json!({ "consumer": "fetch", "batch": 100 }),
        json!({ "consumer": "push" }),
        json!({ "consumer": "ordered" }),
        json!({ "consumer": "pull", "ack": "none" }),
        json!({ "consumer": "push", "ack": "all" }),
        json!({ "consumer": "pull", "storage": "memory", "headers": 3 }),
    ] {
        let driver = open(&server, options.clone(), "stream", "").await;
        let mut consumer = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SEAT).await.unwrap();
        let mut collector = Collector::new(accept);
        send(&mut producer, 0..2500).await;
        assert_eq!(confirmations(&mut producer, 2500).await.0.len(), 2500);
        hear(&mut consumer, &mut collector, 2500, 0).await;
        assert_eq!(collector.texts(), texts(0..2500), "{options}");
        assert!(collector.heard.iter().all(|(_, attempt)| *attempt == 1), "{options}");
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn acknowledgements_reach_the_server_as_asked_for() {
    let Some(server) = launch(json!({})) else { return };
    for (ack, policy) in [("none", "none"), ("all", "all"), ("explicit", "explicit"), ("double", "explicit")] {
        for consumer in ["pull", "push"] {
            let driver = open(&server, json!({ "ack": ack, "consumer": consumer }), "stream", "").await;
            let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
            let mut producer = driver.producer(SEAT).await.unwrap();
            send(&mut producer, 0..300).await;
            let mut collector = Collector::new(accept);
            hear(&mut reader, &mut collector, 300, 0).await;
            let floor = if ack == "none" { "delivered" } else { "ack_floor" };
            let settled = || async {
                let info = consumer_info(&server, "g0").await;
                info["num_ack_pending"] == 0 && info[floor]["stream_seq"] == 300
            };
            hear_until(&mut reader, &mut collector, settled, &format!("{ack} {consumer}: all are acknowledged")).await;
            let info = consumer_info(&server, "g0").await;
            assert_eq!(info["config"]["ack_policy"], policy);
            assert_eq!(collector.heard.len(), 300, "{ack} {consumer}");
            driver.cleanup().await.unwrap();
        }
    }
}

#[tokio::test]
async fn acknowledged_messages_leave_work_queues_and_streams_of_interest() {
    let Some(server) = launch(json!({})) else { return };
    for (retention, groups) in [("workqueue", 1), ("interest", 2), ("limits", 2)] {
        let rest = format!("consumers = {groups}");
        let driver = open(&server, json!({ "retention": retention }), "stream", &rest).await;
        let mut readers = Vec::new();
        for group in 0..groups {
            readers.push(driver.consumer(ClientSlot { group, ..SEAT }, Start::Tail).await.unwrap());
        }
        let mut producer = driver.producer(SEAT).await.unwrap();
        send(&mut producer, 0..50).await;
        assert_eq!(confirmations(&mut producer, 50).await.0.len(), 50);
        for reader in &mut readers {
            assert_eq!(stored(&server).await, 50, "{retention}: kept until the last has it");
            let mut collector = Collector::new(accept);
            hear(reader, &mut collector, 50, 0).await;
            hear_for(reader, &mut collector, Duration::from_millis(100)).await;
            assert_eq!(collector.texts(), texts(0..50));
        }
        let left = if retention == "limits" { 50 } else { 0 };
        eventually(|| async { stored(&server).await == left }, retention).await;
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_rejected_comes_again_after_the_back_off() {
    let Some(server) = launch(json!({})) else { return };
    for consumer in ["pull", "push"] {
        let options = json!({ "consumer": consumer, "backoff": ["1s", "2s"] });
        let driver = open(&server, options, "stream", "").await;
        let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SEAT).await.unwrap();
        send(&mut producer, 0..10).await;
        let mut came = Vec::new();
        let mut collector = Collector::new(|text: &str, attempt| {
            if text == message(3) {
                came.push((attempt, Instant::now()));
                return if attempt <= 2 { Disposition::Reject } else { Disposition::Accept };
            }
            Disposition::Accept
        });
        hear(&mut reader, &mut collector, 12, 0).await;
        hear_for(&mut reader, &mut collector, Duration::from_millis(2500)).await;
        let heard = collector.heard.len();
        assert_eq!(heard, 12, "{consumer}: it comes no more once it is acknowledged");
        assert_eq!(came.iter().map(|(attempt, _)| *attempt).collect::<Vec<_>>(), [1, 2, 3]);
        // Never earlier than asked for; how much later is the server's affair.
        assert!(came[1].1 - came[0].1 >= Duration::from_millis(990), "{came:?}");
        assert!(came[2].1 - came[1].1 >= Duration::from_millis(1990), "{came:?}");
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_left_alone_comes_again_when_the_server_has_waited() {
    let Some(server) = launch(json!({})) else { return };
    let driver = open(&server, json!({ "ack-wait": "3s" }), "stream", "").await;
    let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
    let mut producer = driver.producer(SEAT).await.unwrap();
    send(&mut producer, 0..5).await;
    let leave = |text: &str, attempt| match attempt {
        1 if text == message(2) => Disposition::Leave,
        _ => Disposition::Accept,
    };
    let mut collector = Collector::new(leave);
    hear(&mut reader, &mut collector, 6, 0).await;
    assert_eq!(collector.heard[5], (message(2), 2));
    driver.cleanup().await.unwrap();
}

#[tokio::test]
async fn what_used_up_its_deliveries_goes_down_the_dead_letter_path() {
    let Some(server) = launch(json!({})) else { return };
    for (consumer, retention) in [("pull", "limits"), ("fetch", "limits"), ("push", "limits"), ("pull", "workqueue")] {
        let options = json!({ "consumer": consumer, "retention": retention });
        let driver = open(&server, options, "stream", "delivery = { dead-every = 10, max-deliver = 3 }").await;
        let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SEAT).await.unwrap();
        send(&mut producer, 0..100).await;
        let poison = |text: &str| text.ends_with('7');
        let mut collector =
            Collector::new(|text: &str, _| if poison(text) { Disposition::Reject } else { Disposition::Accept });
        hear(&mut reader, &mut collector, 90 + 3 * 10, 10).await;
        hear_for(&mut reader, &mut collector, Duration::from_millis(300)).await;
        let mut dead: Vec<&str> = collector.dead.iter().map(|(text, _)| text.as_str()).collect();
        dead.sort_unstable();
        let expected: Vec<String> = (0..100).filter(|n| n % 10 == 7).map(message).collect();
        let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(dead, expected, "{consumer}");
        assert!(collector.dead.iter().all(|(_, deliveries)| *deliveries == 3), "{:?}", collector.dead);
        assert_eq!(collector.heard.len(), 120, "{consumer}: three deliveries of each, and no more");
        let kept = server.api(&format!("STREAM.INFO.{STREAM}_DEAD"), "").await;
        assert_eq!(kept["state"]["messages"], 10, "{consumer}");
        let left = if retention == "workqueue" { 0 } else { 100 };
        eventually(|| async { stored(&server).await == left }, retention).await;
        driver.cleanup().await.unwrap();
        assert_eq!(server.api("STREAM.NAMES", "").await["total"], 0);
    }
}

#[tokio::test]
async fn a_consumer_starts_at_the_first_at_a_number_at_a_time_or_at_the_end() {
    let Some(server) = launch(json!({})) else { return };
    for consumer in ["pull", "push", "ordered"] {
        let driver = open(&server, json!({ "consumer": consumer }), "stream", "consumers = 4").await;
        let mut producer = driver.producer(SEAT).await.unwrap();
        send(&mut producer, 0..20).await;
        assert_eq!(confirmations(&mut producer, 20).await.0.len(), 20);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let middle = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        tokio::time::sleep(Duration::from_millis(20)).await;
        send(&mut producer, 20..40).await;
        assert_eq!(confirmations(&mut producer, 20).await.0.len(), 20);
        let starts = [(Start::First, 0), (Start::Offset(6), 5), (Start::Time(middle), 20), (Start::Tail, 40)];
        let mut readers = Vec::new();
        for (group, (start, from)) in (0..).zip(starts) {
            readers.push((driver.consumer(ClientSlot { group, ..SEAT }, start).await.unwrap(), from, start));
        }
        send(&mut producer, 40..45).await;
        for (reader, from, start) in &mut readers {
            let mut collector = Collector::new(accept);
            hear(reader, &mut collector, 45 - *from as usize, 0).await;
            assert_eq!(collector.texts(), texts(*from..45), "{consumer} {start:?}");
        }
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn members_of_a_group_share_one_durable_consumer() {
    let Some(server) = launch(json!({})) else { return };
    for consumer in ["pull", "push"] {
        let options = json!({ "consumer": consumer, "batch": 16 });
        let driver = open(&server, options, "queue-group", "consumers = 2").await;
        let mut one = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let mut two = driver.consumer(ClientSlot { index: 1, ..SEAT }, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SEAT).await.unwrap();
        let (mut first, mut second) = (Collector::new(accept), Collector::new(accept));
        for round in 0..20 {
            send(&mut producer, round * 50..(round + 1) * 50).await;
            hear_for(&mut one, &mut first, Duration::from_millis(10)).await;
            hear_for(&mut two, &mut second, Duration::from_millis(10)).await;
        }
        let until = Instant::now() + TIMEOUT;
        while first.heard.len() + second.heard.len() < 1000 && Instant::now() < until {
            hear_for(&mut one, &mut first, Duration::from_millis(20)).await;
            hear_for(&mut two, &mut second, Duration::from_millis(20)).await;
        }
        let mut all: Vec<&str> = first.texts().into_iter().chain(second.texts()).collect();
        assert_eq!(all.len(), 1000, "{consumer}: {} and {}", first.heard.len(), second.heard.len());
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 1000, "{consumer}: each message goes to one");
        assert!(first.heard.len() > 100 && second.heard.len() > 100, "{consumer}: both get some");
        assert_eq!(server.api(&format!("CONSUMER.NAMES.{STREAM}"), "").await["total"], 1);
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn a_message_that_is_sent_again_is_stored_once_where_exactly_once_is_asked_for() {
    let Some(server) = launch(json!({})) else { return };
    for exactly_once in [true, false] {
        let driver = open(&server, json!({ "exactly-once": exactly_once }), "stream", "").await;
        assert_eq!(driver.facts().words()["delivery"].starts_with("exactly once"), exactly_once);
        let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SEAT).await.unwrap();
        send(&mut producer, 0..20).await;
        send(&mut producer, 10..30).await;
        assert_eq!(confirmations(&mut producer, 40).await.0.len(), 40, "a copy is acknowledged as well");
        let n = if exactly_once { 30 } else { 40 };
        assert_eq!(stored(&server).await, n);
        let mut collector = Collector::new(accept);
        hear(&mut reader, &mut collector, n as usize, 0).await;
        hear_for(&mut reader, &mut collector, Duration::from_millis(200)).await;
        assert_eq!(collector.heard.len() as u64, n);
        // Another producer's first message is another message.
        let mut other = driver.producer(ClientSlot { index: 1, ..SEAT }).await.unwrap();
        send(&mut other, 0..1).await;
        confirmations(&mut other, 1).await;
        assert_eq!(stored(&server).await, n + 1);
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn keys_become_subjects() {
    let Some(server) = launch(json!({})) else { return };
    let driver = open(&server, json!({}), "stream", "channels = 2").await;
    let mut producer = driver.producer(SEAT).await.unwrap();
    for (token, channel, key) in [(0, 0, None), (1, 1, None), (2, 0, Some(7)), (3, 1, Some(8))] {
        producer.send(Outgoing { channel, key, payload: b"x", token }).await.unwrap();
    }
    confirmations(&mut producer, 4).await;
    let info = server.api(&format!("STREAM.INFO.{STREAM}"), "{\"subjects_filter\":\">\"}").await;
    let mut subjects: Vec<&String> = info["state"]["subjects"].as_object().unwrap().keys().collect();
    subjects.sort();
    assert_eq!(subjects, ["mbs.abcd0123.0.0", "mbs.abcd0123.0.1", "mbs.abcd0123.0.key.7", "mbs.abcd0123.0.key.8"]);
    driver.cleanup().await.unwrap();
}

#[tokio::test]
async fn three_servers_keep_each_message() {
    let Some(server) = launch(json!({ "nodes": 3 })) else { return };
    let driver = open(&server, json!({ "replicas": 3 }), "stream", "").await;
    assert_eq!(driver.facts().words()["replicas"], "3");
    assert_eq!(driver.facts().words()["durability"], "file of 3 servers");
    let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
    let mut producer = driver.producer(SEAT).await.unwrap();
    send(&mut producer, 0..500).await;
    assert_eq!(confirmations(&mut producer, 500).await.0.len(), 500);
    let mut collector = Collector::new(accept);
    hear(&mut reader, &mut collector, 500, 0).await;
    assert_eq!(collector.texts(), texts(0..500));
    let info = server.api(&format!("STREAM.INFO.{STREAM}"), "").await;
    assert_eq!(info["cluster"]["replicas"].as_array().unwrap().len(), 2, "{info}");
    driver.cleanup().await.unwrap();
}

#[tokio::test]
async fn an_ordered_consumer_that_is_lost_is_made_again_where_it_was() {
    let Some(server) = launch(json!({})) else { return };
    let driver = open(&server, json!({ "consumer": "ordered" }), "stream", "").await;
    let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
    let mut producer = driver.producer(SEAT).await.unwrap();
    send(&mut producer, 0..10).await;
    let mut collector = Collector::new(accept);
    hear(&mut reader, &mut collector, 10, 0).await;
    assert_eq!(server.api(&format!("CONSUMER.DELETE.{STREAM}.g0_0"), "").await["success"], true);
    send(&mut producer, 10..20).await;
    hear(&mut reader, &mut collector, 20, 0).await;
    assert_eq!(collector.texts(), texts(0..20));
    let log = driver.incidents().take_log();
    assert!(log.iter().any(|(.., words)| words.contains("starts again after message 10")), "{log:?}");
    driver.cleanup().await.unwrap();
}

/// The words of the error that `prepare` gives.
async fn refused(server: &Server, options: Value, pattern: &str, rest: &str) -> String {
    let error = JetstreamDriver::prepare(server.target(options), &workloads(pattern, rest)).await.unwrap_err();
    let left = server.api("STREAM.NAMES", "").await;
    assert!(left["error"].is_object() || left["total"] == 0, "{left}");
    error.to_string()
}

#[tokio::test]
async fn what_cannot_be_had_is_said_with_the_servers_words_and_a_remedy() {
    let Some(server) = launch(json!({ "max-memory": "1MiB" })) else { return };
    let words = refused(&server, json!({ "replicas": 3 }), "stream", "").await;
    assert!(words.contains("cannot make a stream at nats://127.0.0.1:"), "{words}");
    assert!(words.contains("replicas > 1 not supported in non-clustered mode (error 10074)"), "{words}");
    assert!(words.contains("use `replicas = 1`, or a cluster"), "{words}");
    let words = refused(&server, json!({ "storage": "memory", "max-bytes": "1GiB" }), "stream", "").await;
    assert!(words.contains("insufficient") && words.contains("raise `max-memory`"), "{words}");
    let words = refused(&server, json!({}), "stream", "payload = { size = \"2MiB\" }").await;
    assert!(words.contains("the server's max_payload is 1048576 B") && words.contains("max-payload"), "{words}");
    for (options, pattern, rest, expected) in [
        (json!({ "ack": "all" }), "stream", "delivery = { reject-every = 5 }", "need explicit or double"),
        (json!({ "consumer": "ordered" }), "queue-group", "", "share messages; ordered ones cannot"),
        // What is asked of a consumer that the pattern chooses.
        (json!({ "pause-consumers": "2s" }), "key-value", "", "watchers of key-value are ordered"),
        (json!({ "priority-policy": "pinned-client" }), "key-value", "", "watchers of key-value are ordered"),
        (json!({ "ack": "explicit" }), "key-value", "", "watchers of key-value are ordered"),
        (json!({ "retention": "workqueue" }), "fan-out", "", "a work queue has one"),
        (json!({ "retention": "interest" }), "replay", "", "only limits keeps them"),
        (
            json!({ "backoff": ["1s", "2s"] }),
            "stream",
            "delivery = { dead-every = 5, max-deliver = 2 }",
            "give at most 1",
        ),
    ] {
        let words = refused(&server, options, pattern, rest).await;
        assert!(words.starts_with("option `") && words.contains(expected), "{words}");
    }
}

#[tokio::test]
async fn a_server_without_jetstream_is_told_so() {
    let Some(server) = Server::launch("nats", json!({})) else { return };
    let error =
        JetstreamDriver::prepare(server.target(json!({})), &workloads("stream", "")).await.unwrap_err().to_string();
    assert!(error.contains("JetStream is not enabled"), "{error}");
    assert!(error.contains("switch JetStream on in the server's configuration"), "{error}");
}

#[tokio::test]
async fn a_consumer_that_is_removed_ends_the_reading_with_the_servers_words() {
    let Some(server) = launch(json!({})) else { return };
    let driver = open(&server, json!({}), "stream", "").await;
    let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
    let mut collector = Collector::new(accept);
    hear_for(&mut reader, &mut collector, Duration::from_millis(100)).await;
    assert_eq!(server.api(&format!("CONSUMER.DELETE.{STREAM}.g0"), "").await["success"], true);
    let failed =
        tokio::time::timeout(TIMEOUT, msgbench::driver::Consumer::receive(&mut reader, &mut collector, 1)).await;
    let words = failed.unwrap().unwrap_err().to_string();
    assert!(words.contains("409 Consumer Deleted"), "{words}");
    driver.cleanup().await.unwrap();
}

#[tokio::test]
async fn a_server_that_dies_ends_every_wait_within_its_bound() {
    let Some(server) = launch(json!({})) else { return };
    let mut target = server.target(json!({}));
    target.timeout = Duration::from_secs(1);
    let driver = JetstreamDriver::prepare(target, &workloads("stream", "")).await.unwrap();
    let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
    let mut producer = driver.producer(SEAT).await.unwrap();
    send(&mut producer, 0..10).await;
    let mut collector = Collector::new(accept);
    hear(&mut reader, &mut collector, 10, 0).await;
    server.kill();
    let publishing = async {
        for token in 10.. {
            let out = Outgoing { channel: 0, key: None, payload: b"x", token };
            if let Err(error) = producer.send(out).await {
                return error.to_string();
            }
        }
        String::new()
    };
    let words = tokio::time::timeout(TIMEOUT, publishing).await.unwrap();
    assert!(words.contains("lost: the server closed it, and no other came about within 1 s"), "{words}");
    let failed =
        tokio::time::timeout(TIMEOUT, msgbench::driver::Consumer::receive(&mut reader, &mut collector, 1)).await;
    let words = failed.unwrap().unwrap_err().to_string();
    assert!(words.contains("connection to nats://127.0.0.1:") && words.contains("lost: "), "{words}");
    assert!(tokio::time::timeout(TIMEOUT, driver.cleanup()).await.unwrap().is_err());
}

#[tokio::test]
async fn streams_work_behind_credentials_and_tls() {
    let Some(server) = launch(json!({ "auth": "creds", "tls": "mutual" })) else { return };
    let driver = open(&server, json!({}), "stream", "").await;
    assert_eq!(driver.facts().words()["authentication"], "creds");
    let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
    let mut producer = driver.producer(SEAT).await.unwrap();
    send(&mut producer, 0..50).await;
    let mut collector = Collector::new(accept);
    hear(&mut reader, &mut collector, 50, 0).await;
    assert_eq!(collector.texts(), texts(0..50));
    driver.cleanup().await.unwrap();
}

/// A scenario of one jetstream system and one workload.
fn scenario(options: &str, pattern: &str, rest: &str) -> String {
    format!(
        "name = \"test\"\nquestion = \"test?\"\n[[system]]\ndriver = \"jetstream\"\noptions = {{ {options} }}\n\
         [[workload]]\npattern = \"{pattern}\"\nload = {{ rate = \"500/s\" }}\n{rest}\n[run]\ndrain = \"60s\"\n"
    )
}

#[test]
fn msgbench_runs_every_pattern_on_streams_and_the_books_balance() {
    if crate::needs::nats_server().is_none() {
        return;
    }
    for (options, pattern, rest) in [
        ("", "stream", ""),
        ("storage = \"memory\", consumer = \"push\"", "stream", "consumers = 2"),
        ("consumer = \"ordered\", publish = \"sync\"", "stream", ""),
        ("exactly-once = true", "stream", ""),
        ("", "fan-out", ""),
        ("", "fan-in", ""),
        ("retention = \"workqueue\"", "queue-group", ""),
        ("consumer = \"push\"", "queue-group", ""),
        ("", "replay", "delivery = { backlog = 20000 }"),
        ("", "stream", "delivery = { keys = { uniform = 10 } }"),
    ] {
        let result = run(&scenario(options, pattern, rest));
        ran(&result, &format!("{options} {pattern}"));
        let record = &result.1;
        let ledger = ledger(record, 0);
        assert_eq!(ledger["expected"], ledger["delivered"], "{options} {pattern}: {ledger}");
        assert_eq!(ledger["acked"], ledger["sent"], "{options} {pattern}: {ledger}");
        promises_are_kept(record, 0);
        let guarantees = &record["trials"][0]["system"]["guarantees"];
        assert!(guarantees["sync_interval"].is_string(), "{guarantees}");
        if pattern == "replay" {
            let replay = &record["trials"][0]["workloads"][0]["replay"];
            assert_eq!(replay["delivered"], 20000, "{replay}");
        }
    }
}

#[test]
fn rejected_messages_and_dead_letters_are_counted_exactly() {
    if crate::needs::nats_server().is_none() {
        return;
    }
    let rest = "delivery = { reject-every = 50, dead-every = 100, max-deliver = 3 }";
    let result = run(&scenario("", "stream", rest));
    ran(&result, rest);
    let record = &result.1;
    let ledger = ledger(record, 0);
    let count = |key: &str| ledger[key].as_u64().unwrap();
    assert!(count("dead_lettered") > 0 && count("redelivered") > 0, "{ledger}");
    assert_eq!(count("delivered") + count("dead_lettered"), count("expected"), "{ledger}");
    // Of the numbers that are due for a rejection half are dead letters, rejected three times, the
    // others once.
    assert_eq!(count("rejected"), 3 * count("dead_lettered") + count("redelivered"), "{ledger}");
    promises_are_kept(record, 0);
}

/// nats-server 2.15 allows a stream 1,000 consumers where nobody says more, and by itself keeps
/// that of a client which is gone for seconds.
#[test]
fn more_clients_come_and_go_than_a_stream_may_have_consumers() {
    let Some(server) = launch(json!({})) else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scenario.toml");
    let text = format!(
        "name = \"test\"\nquestion = \"test?\"\n[[system]]\ndriver = \"jetstream\"\nurl = \"{}\"\n\
         [[workload]]\npattern = \"connect\"\nload = {{ rate = \"250/s\" }}\n\
         [run]\nwarmup = \"0s\"\nduration = \"5s\"\ndrain = \"60s\"\ntrials = 1\n",
        server.running.url
    );
    std::fs::write(&file, text).unwrap();
    let (output, record) = run_file(&file, &["--duration", "5s"]);
    let trial = &record["trials"][0];
    assert_eq!(
        trial["outcome"]["status"],
        "complete",
        "{}: {}",
        trial["outcome"],
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!trial["events"].to_string().contains("maximum consumers"), "{}", trial["events"]);
    let ledger = &trial["workloads"][0]["ledger"];
    assert_eq!((&ledger["sent"], &ledger["delivered"]), (&json!(1250), &json!(1250)), "{ledger}");
}

#[test]
fn a_server_of_somebody_else_that_dies_is_named_and_what_was_measured_is_kept() {
    let Some(server) = launch(json!({})) else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scenario.toml");
    let text = format!(
        "name = \"test\"\nquestion = \"test?\"\n[[system]]\ndriver = \"jetstream\"\nurl = \"{}\"\n\
         [[workload]]\npattern = \"stream\"\nload = {{ rate = \"1k/s\" }}\n[run]\nconnect = \"2s\"\n",
        server.running.url
    );
    std::fs::write(&file, text).unwrap();
    let (output, record) = std::thread::scope(|scope| {
        let run = scope.spawn(|| run_file(&file, &["--duration", "60s"]));
        // Warm-up and acknowledgements count too: by then more than 500 of the measured phase are
        // in.
        let until = Instant::now() + TIMEOUT;
        while monitored(&server, "in_msgs") < 6000 {
            assert!(Instant::now() < until, "messages arrive");
            std::thread::sleep(Duration::from_millis(20));
        }
        server.kill();
        run.join().unwrap()
    });
    assert_eq!(output.status.code(), Some(6), "{}", String::from_utf8_lossy(&output.stderr));
    let trial = &record["trials"][0];
    let outcome = &trial["outcome"];
    assert_eq!((&outcome["status"], &outcome["phase"]), (&json!("failed"), &json!("measure")), "{outcome}");
    let words = outcome["error"].as_str().unwrap();
    assert!(words.contains("connection to nats://127.0.0.1:") && words.contains("within 2 s"), "{words}");
    assert!(trial["workloads"][0]["ledger"]["acked"].as_u64().unwrap() > 500, "{}", trial["workloads"][0]["ledger"]);
}
