//! Exactly once by transactions: consume, transform, produce.

use std::time::Duration;

use msgbench::driver::{Driver, Start};
use serde_json::json;

use super::support::{open_at, shared, target, try_open, workload};

#[test]
fn every_message_comes_out_of_the_transformer_once_and_in_order() {
    let Some(url) = shared() else { return };
    let options = json!({ "exactly-once": "transactional", "transaction-size": 64, "transaction-interval": "20ms" });
    let bench = open_at(url, options, &workload(3, 2, 1));
    assert!(bench.guarantee("delivery").starts_with("exactly once"));
    assert_eq!(bench.guarantee("producer enable.idempotence"), "true");
    let mut groups: Vec<_> = (0..2).map(|g| bench.consumer(g, 0, Start::Tail)).collect();
    let mut producer = bench.producer(0);
    assert_eq!(bench.send(&mut producer, 0, 0..1500, |n| ((n % 3) as u32, None)).acked.len(), 1500);
    for consumer in &mut groups {
        let heard = bench.receive(consumer, 1500);
        for partition in 0..3 {
            let of: Vec<u64> = heard.iter().map(|e| e.sequence).filter(|n| n % 3 == partition).collect();
            assert_eq!(of, (0..1500).filter(|n| n % 3 == partition).collect::<Vec<_>>());
        }
        assert!(bench.silent(consumer, Duration::from_millis(300)), "something came twice");
    }
    let log = bench.driver.incidents().take_log();
    assert!(log.iter().all(|(_, text)| !text.contains("transaction")), "{log:?}");
    bench.close(producer);
    drop(groups);
    bench.cleanup();
}

#[test]
fn a_broker_that_cannot_keep_transactions_is_said_to_be_the_reason() {
    let Some(url) = shared() else { return };
    let mut to = target(url, &json!({ "exactly-once": "transactional", "acks": 1 }));
    let told = try_open(to.clone(), &workload(1, 1, 1)).err().unwrap().to_string();
    assert!(told.contains("transactions need acks = \"all\""), "{told}");
    // A transaction time-out that the broker does not allow.
    to.options = json!({ "exactly-once": "transactional", "raw": { "transaction.timeout.ms": 2_000_000_000 } })
        .as_object()
        .unwrap()
        .clone();
    to.timeout = Duration::from_secs(5);
    let told = try_open(to, &workload(1, 1, 1)).err().unwrap().to_string();
    assert!(
        told.contains("cannot start the transactional transformer") || told.contains("transaction.timeout.ms"),
        "{told}"
    );
}
