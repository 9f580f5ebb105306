//! What goes wrong names the phase, the server's own words and a remedy; nothing hangs.

use std::time::{Duration, Instant};

use msgbench::driver::{Driver, DriverError, Incident, Outgoing, Producer, Start};
use msgbench::plan::PayloadSize;
use msgbench::units::Bytes;
use serde_json::json;

use super::support::{BOUND, open_at, shared, target, there, try_open, workload};

/// The error of a preparation that must fail.
fn refused(url: &str, options: serde_json::Value, w: &msgbench::plan::Workload) -> String {
    match try_open(target(url, &options), w) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{options} was taken"),
    }
}

#[test]
fn an_unknown_topic_is_named() {
    let Some(url) = shared() else { return };
    let mut options = target(url, &json!({ "existing-topic": "no-such-topic" }));
    options.timeout = Duration::from_secs(2);
    let told = try_open(options, &workload(1, 1, 1)).err().unwrap().to_string();
    assert!(told.starts_with(&format!("cannot use the topic no-such-topic at {url}: ")), "{told}");
    assert!(told.contains("Unknown topic or partition") && told.contains("create it"), "{told}");
}

#[test]
fn a_topic_that_is_there_is_used_and_left_alone() {
    let Some(url) = shared() else { return };
    let owner = open_at(url, json!({}), &workload(2, 1, 1));
    let name = format!("mb-{:08x}-0", owner.run);
    let told = refused(url, json!({ "existing-topic": name }), &workload(3, 1, 1));
    assert!(told.contains("cannot use 3 partitions") && told.contains("it has 2"), "{told}");
    let guest = open_at(url, json!({ "existing-topic": name }), &workload(2, 1, 1));
    let mut consumer = guest.consumer(0, 0, Start::Tail);
    let mut producer = guest.producer(0);
    guest.send(&mut producer, 0, 0..10, |n| ((n % 2) as u32, None));
    assert_eq!(guest.receive(&mut consumer, 10).len(), 10);
    guest.close(producer);
    drop(consumer);
    guest.cleanup();
    let again = open_at(url, json!({ "existing-topic": name }), &workload(2, 1, 1));
    again.cleanup();
    owner.cleanup();
}

#[test]
fn messages_too_large_are_refused_before_the_load_or_one_by_one() {
    let Some(url) = shared() else { return };
    let mut w = workload(1, 1, 1);
    w.payload.size = PayloadSize::Fixed(Bytes(5000));
    let told = refused(url, json!({ "topic": { "max.message.bytes": 2000 } }), &w);
    assert!(told.contains("cannot send messages of 5000 B") && told.contains("max.message.bytes is 2000"), "{told}");
    assert!(told.contains("raise max.message.bytes"), "{told}");

    // By the client, at once.
    let bench = open_at(url, json!({ "raw": { "message.max.bytes": 2000 } }), &w);
    let mut producer = bench.producer(0);
    let sent = bench.runtime.block_on(producer.send(Outgoing { channel: 0, key: None, payload: &[0; 5000], token: 0 }));
    assert!(matches!(&sent, Err(DriverError::Refused { words }) if words.contains("too large")), "{sent:?}");
    bench.close(producer);
    bench.cleanup();

    // By the broker, afterwards: batches of many small messages pass the client's limit and not the
    // topic's.
    let options = json!({ "topic": { "max.message.bytes": 1000 }, "linger": "50ms" });
    let bench = open_at(url, options, &workload(1, 1, 1));
    let mut producer = bench.producer(0);
    let confirmed = bench.send(&mut producer, 0, 0..100, |_| (0, None));
    assert_eq!(confirmed.failed.len(), 100, "{confirmed:?}");
    let log = bench.driver.incidents().take_log();
    assert!(log.iter().any(|(_, kind, t)| *kind == Incident::Refused && t.contains("too large")), "{log:?}");
    bench.close(producer);
    bench.cleanup();
}

#[test]
fn a_topic_the_broker_will_not_create_is_refused_in_its_words() {
    let Some(url) = shared() else { return };
    let told = refused(url, json!({ "replicas": 3 }), &workload(1, 1, 1));
    assert!(
        told.contains("cannot create the topic mb-") && told.to_lowercase().contains("replication factor"),
        "{told}"
    );
    assert!(told.contains("check `replicas`"), "{told}");
    let told = refused(url, json!({ "topic": { "no.such.setting": 1 } }), &workload(1, 1, 1));
    assert!(told.contains("cannot create the topic mb-"), "{told}");
}

#[test]
fn nobody_there_is_said_within_the_bound() {
    if !there() {
        return;
    }
    // No free port is ever this low, so that no other test can listen there.
    let mut to = target("kafka://127.0.0.1:1", &json!({}));
    to.timeout = Duration::from_secs(1);
    let begun = Instant::now();
    let told = try_open(to, &workload(1, 1, 1)).err().unwrap().to_string();
    assert!(told.contains("Connection refused") && told.contains("check that a broker runs there"), "{told}");
    assert!(begun.elapsed() < BOUND / 2, "{:?}", begun.elapsed());
    // Something that is no Kafka answers nothing, or nonsense.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut to = target(&format!("kafka://{}", silent.local_addr().unwrap()), &json!({}));
    to.timeout = Duration::from_secs(1);
    let told = try_open(to, &workload(1, 1, 1)).err().unwrap().to_string();
    assert!(told.starts_with("cannot connect to kafka://127.0.0.1:"), "{told}");
    assert!(begun.elapsed() < BOUND);
}
