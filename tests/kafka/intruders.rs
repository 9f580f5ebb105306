//! Intruders at a real Kafka: who has no right to is refused, whatever he comes with; who gets in
//! is seen.

use std::collections::BTreeMap;

use msgbench::driver::{Driver, DriverError, Intrusion, IntrusionOutcome, IntrusionWay, Start};
use serde_json::{Value, json};

use super::support::{Bench, launch, numbers, open_in, shared, target, there, try_open, workload};

/// One try of the intruder of this number.
fn intrude(bench: &Bench, number: u64) -> Result<IntrusionOutcome, DriverError> {
    let way = if number.is_multiple_of(2) { IntrusionWay::Publish } else { IntrusionWay::Subscribe };
    bench.runtime.block_on(bench.driver.intrude(0, Intrusion { number, way, payload: b"intruder" }))
}

/// Every intruder tries both ways: who, and whether each way let him in.
fn tries(bench: &Bench, intruders: usize) -> BTreeMap<String, Vec<bool>> {
    let mut all: BTreeMap<String, Vec<bool>> = BTreeMap::new();
    for number in 0..2 * intruders as u64 {
        let outcome = intrude(bench, number).unwrap_or_else(|e| panic!("{number}: {e}"));
        assert!(!outcome.words.is_empty(), "{outcome:?}");
        all.entry(outcome.who).or_default().push(outcome.let_in);
    }
    all
}

/// With these options nobody gets in, and who has rights does his work.
fn holds(options: &Value, kinds: usize) {
    let mut options = options.clone();
    options["heap"] = "256MiB".into();
    let broker = launch(json!({ "broker": options }));
    let bench = open_in(&broker.running, json!({}), &workload(2, 1, 1));
    let mut consumer = bench.consumer(0, 0, Start::Tail);
    let who = tries(&bench, broker.running.intruders.len());
    assert_eq!(who.len(), kinds, "{options}: {who:?}");
    assert!(who.values().flatten().all(|let_in| !let_in), "{options}: {who:?}");
    // What comes is what was sent with the right to, and nothing else.
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..10, |n| ((n % 2) as u32, None));
    assert_eq!(numbers(&bench.receive(&mut consumer, 10)), (0..10).collect::<Vec<_>>(), "{options}");
    bench.close(producer);
    drop(consumer);
    bench.cleanup();
}

#[test]
fn nobody_without_rights_gets_in_and_who_has_them_does() {
    if !there() {
        return;
    }
    holds(&json!({ "sasl": "PLAIN", "acls": true }), 3);
}

#[cfg(feature = "kafka-tls")]
#[test]
fn nobody_gets_in_by_any_way_of_showing_who_he_is() {
    if !there() {
        return;
    }
    holds(&json!({ "sasl": "SCRAM-SHA-512", "acls": true }), 3);
    holds(&json!({ "sasl": "OAUTHBEARER", "acls": true, "tls": true }), 4);
    holds(&json!({ "sasl": "PLAIN", "acls": true, "tls": "mutual" }), 5);
    holds(&json!({ "acls": true, "tls": "mutual" }), 3);
}

/// The checks above can fail.
#[test]
fn who_gets_in_is_seen() {
    let Some(url) = shared() else { return };
    let bench = try_open(target(url, &json!({})), &workload(1, 1, 1)).unwrap();
    let who = tries(&bench, 1);
    assert_eq!(who, BTreeMap::from([("without credentials".to_owned(), vec![true, true])]));
    bench.cleanup();
    // Without access lists whoever may log in may do everything.
    let mut broker = launch(json!({ "broker": { "sasl": "PLAIN", "heap": "256MiB" } }));
    let bench = open_in(&broker.running, json!({}), &workload(1, 1, 1));
    let who = tries(&bench, broker.running.intruders.len());
    assert_eq!(who["as a user without rights"], [true, true], "{who:?}");
    assert_eq!(who["with a wrong password"], [false, false], "{who:?}");
    assert_eq!(who["without credentials"], [false, false], "{who:?}");
    // A broker that is gone refuses nobody.
    broker.system.stop().unwrap();
    let said = intrude(&bench, 0).unwrap_err().to_string();
    assert!(said.contains("cannot connect to kafka://"), "{said}");
}
