//! Exactly once by transactions: consume, transform, produce.

use std::time::Duration;

use msgbench::driver::{Driver, Start};
use msgbench::load::message::{Envelope, Template};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use super::support::{BOUND, Bench, numbers, open_at, shared, target, try_open, workload};

/// Sends through the hop of a driver and holds what comes out of it against what went in.
pub fn copied_once_and_in_order(bench: Bench) {
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
    assert!(log.iter().all(|(.., text)| !text.contains("transaction") && !text.contains("copied")), "{log:?}");
    bench.close(producer);
    drop(groups);
    bench.cleanup();
}

#[test]
fn every_message_comes_out_of_the_transformer_once_and_in_order() {
    let Some(url) = shared() else { return };
    let options = json!({ "exactly-once": "transactional", "transaction-size": 64, "transaction-interval": "20ms" });
    let mut wire = options.clone();
    wire["consumers"] = "wire".into();
    copied_once_and_in_order(open_at(url, wire, &workload(3, 2, 1)));
    let bench = open_at(url, options, &workload(3, 2, 1));
    assert!(bench.guarantee("delivery").starts_with("exactly once"));
    assert_eq!(bench.guarantee("producer enable.idempotence"), "true");
    copied_once_and_in_order(bench);
    let bench = open_at(url, json!({ "transform": "client" }), &workload(3, 2, 1));
    assert_eq!(bench.guarantee("delivery"), "at least once");
    assert!(bench.guarantee("transform").starts_with("by msgbench"));
    copied_once_and_in_order(bench);
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

#[test]
fn isolation_decides_whether_aborted_messages_are_read() {
    let Some(url) = shared() else { return };
    ["group", "wire"].into_iter().for_each(|consumers| isolated(url, consumers));
}

fn isolated(url: &str, consumers: &str) {
    let owner = open_at(url, json!({}), &workload(1, 1, 1));
    let name = format!("mb-{:08x}-0", owner.run);
    let readers = ["read-committed", "read-uncommitted"].map(|isolation| {
        let options = json!({ "existing-topic": name, "isolation": isolation, "consumers": consumers });
        open_at(url, options, &workload(1, 1, 1))
    });
    let mut consumers = readers.each_ref().map(|bench| bench.consumer(0, 0, Start::First));
    let writer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", url.trim_start_matches("kafka://"))
        .set("transactional.id", &name)
        .create()
        .unwrap();
    writer.init_transactions(BOUND).unwrap();
    let mut template = Template::new(b"either way");
    for (bench, first) in [(&readers[0], 0), (&readers[1], 100)] {
        // Ten of each transaction, for the reader whose run stands in the envelope; the other skips
        // them by their run.
        for (from, commit) in [(first, false), (first + 10, true)] {
            writer.begin_transaction().unwrap();
            for sequence in from..from + 10 {
                let e = Envelope { run: bench.run, producer: 0, sequence, intended: 0, sent: 0 };
                writer.send(BaseRecord::<(), [u8]>::to(&name).partition(0).payload(template.stamp(&e))).unwrap();
            }
            writer.flush(BOUND).unwrap();
            let done = if commit { writer.commit_transaction(BOUND) } else { writer.abort_transaction(BOUND) };
            done.unwrap();
        }
    }
    let mut own = |i: usize, count| numbers(&readers[i].receive_own(&mut consumers[i], count));
    let heard = [own(0, 10), own(1, 20)];
    assert_eq!(heard[0], (10..20).collect::<Vec<_>>());
    assert_eq!(heard[1], (100..120).collect::<Vec<_>>());
    drop(consumers);
    readers.into_iter().for_each(super::support::Bench::cleanup);
    owner.cleanup();
}
