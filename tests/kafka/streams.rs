//! The hop as an application of Kafka Streams, beside a broker of its own.

use std::time::Instant;

use msgbench::driver::{Driver, Start};
use serde_json::json;

use super::support::{BOUND, launch, open_in, shared, target, try_open, workload};
use super::transactions::copied_once_and_in_order;

/// One broker for all: a Java virtual machine takes seconds to start.
#[test]
fn kafka_streams_copies_each_message_once_and_in_order_and_its_end_is_seen() {
    if !crate::needs::kafka_streams() {
        return;
    }
    let mut kafka = launch(json!({ "transform": "streams", "broker": { "heap": "512MiB" } }));
    let application = kafka.running.application.expect("a process of its own");
    assert!(!kafka.running.pids.contains(&application), "it is counted by itself");
    let bench = open_in(&kafka.running, json!({ "transform": "streams", "linger": "5ms" }), &workload(3, 2, 1));
    assert_eq!(bench.guarantee("delivery"), "at least once");
    assert!(bench.guarantee("transform").starts_with("by Kafka Streams"));
    copied_once_and_in_order(bench);
    let options = json!({ "transform": "streams", "exactly-once": "transactional", "transaction-interval": "20ms" });
    let bench = open_in(&kafka.running, options, &workload(3, 2, 1));
    assert!(bench.guarantee("delivery").starts_with("exactly once"));
    copied_once_and_in_order(bench);

    let bench = open_in(&kafka.running, json!({ "transform": "streams" }), &workload(1, 1, 1));
    assert_eq!(kafka.system.ended(), None);
    // SAFETY: kill touches no memory; the process is a child of this one and not yet reaped.
    assert_eq!(unsafe { libc::kill(application as libc::pid_t, libc::SIGKILL) }, 0);
    let deadline = Instant::now() + BOUND;
    let mut told = Vec::new();
    while told.is_empty() && Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(5));
        told = bench.driver.incidents().take_log();
    }
    assert!(told.iter().any(|(.., text)| text.starts_with("Kafka Streams has stopped")), "{told:?}");
    // Its connection is closed before the kernel says that it has ended.
    let mut ended = kafka.system.ended();
    while ended.is_none() && Instant::now() < deadline {
        ended = kafka.system.ended();
    }
    assert_eq!(ended.as_deref(), Some("the application of Kafka Streams killed by SIGKILL"));
    bench.cleanup();
    kafka.system.stop().unwrap();
}

#[test]
fn a_broker_without_the_application_says_what_to_do() {
    let Some(url) = shared() else { return };
    let told = try_open(target(url, &json!({ "transform": "streams" })), &workload(1, 1, 1)).err().unwrap();
    assert!(
        told.to_string().contains("option `transform`: the application of \"streams\" is started beside"),
        "{told}"
    );
    // The topics are whole, and others may be used.
    let bench = super::support::open_at(url, json!({}), &workload(1, 1, 1));
    drop(bench.consumer(0, 0, Start::Tail));
    bench.cleanup();
}
