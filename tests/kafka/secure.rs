//! TLS and SCRAM, in builds that have OpenSSL.

use msgbench::driver::Start;
use serde_json::json;

use super::support::{launch, numbers, open_in, target, target_of, there, try_open, workload};

#[test]
fn tls_and_scram_carry_messages_and_refuse_strangers() {
    if !there() {
        return;
    }
    for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256"] {
        let broker = launch(json!({ "broker": { "tls": true, "sasl": mechanism, "heap": "256MiB" } }));
        let bench = open_in(&broker.running, json!({}), &workload(2, 1, 1));
        let mut consumer = bench.consumer(0, 0, Start::Tail);
        let mut producer = bench.producer(0);
        bench.send(&mut producer, 0, 0..100, |n| ((n % 2) as u32, None));
        assert_eq!(numbers(&bench.receive(&mut consumer, 100)), (0..100).collect::<Vec<_>>());
        assert_eq!(broker.running.settings["sasl"], mechanism);
        assert_eq!(bench.guarantee("security.protocol"), "sasl_ssl");
        bench.close(producer);
        drop(consumer);
        bench.cleanup();

        let login = json!({ "sasl": { "mechanism": mechanism, "user": "msgbench", "password": "guessed" } });
        let told = try_open(target_of(&broker.running, &login), &workload(1, 1, 1)).err().unwrap().to_string();
        assert!(told.to_lowercase().contains("authentication failed"), "{told}");
        assert!(told.contains("credentials") && !told.contains("guessed"), "{told}");

        // Without the authority that signed it, the broker's certificate is nobody's.
        let stranger = target_of(&broker.running, &json!({ "tls": {} }));
        let told = try_open(stranger, &workload(1, 1, 1)).err().unwrap().to_string();
        assert!(told.contains("certificate"), "{told}");
        drop(broker);
    }
}

#[test]
fn plain_clients_are_told_that_the_broker_wants_tls() {
    if !there() {
        return;
    }
    let broker = launch(json!({ "broker": { "tls": true, "heap": "256MiB" } }));
    let mut to = target(&broker.running.url, &json!({}));
    to.timeout = std::time::Duration::from_secs(3);
    let told = try_open(to, &workload(1, 1, 1)).err().unwrap().to_string();
    assert!(told.starts_with("cannot connect to kafka://127.0.0.1:"), "{told}");
    let bench = open_in(&broker.running, json!({}), &workload(1, 1, 1));
    assert_eq!(bench.guarantee("tls"), "on");
    bench.cleanup();
}
