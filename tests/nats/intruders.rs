//! Intruders at real nats-servers: who has no right to is refused, whatever he comes with; who gets
//! in is seen.

use std::collections::BTreeSet;

use crate::support::*;
use msgbench::driver::nats::NatsDriver;
use msgbench::driver::{ClientSlot, Driver, Intrusion, IntrusionOutcome, IntrusionWay, Producer, Start, Target};
use msgbench::plan::Intruder;
use serde_json::json;

const SLOT: ClientSlot = ClientSlot { workload: 0, group: 0, index: 0 };

async fn open(target: Target) -> NatsDriver {
    NatsDriver::prepare(target, &workloads("fan-out", "consumers = 1")).await.unwrap()
}

/// Every intruder of a target tries both ways.
async fn tries(driver: &NatsDriver, intruders: usize) -> Vec<(IntrusionWay, IntrusionOutcome)> {
    let mut all = Vec::new();
    for number in 0..2 * intruders as u64 {
        let way = if number.is_multiple_of(2) { IntrusionWay::Publish } else { IntrusionWay::Subscribe };
        let attempt = Intrusion { number, way, payload: b"intruder" };
        all.push((way, driver.intrude(0, attempt).await.unwrap()));
    }
    all
}

#[tokio::test]
async fn nobody_without_rights_gets_in_and_who_has_them_does() {
    for (options, kinds) in [
        (json!({ "auth": "password" }), 3),
        (json!({ "auth": "password", "permissions": true, "tls": "server" }), 3),
        (json!({ "auth": "token" }), 2),
        (json!({ "auth": "nkey", "permissions": true }), 3),
        (json!({ "auth": "creds" }), 4),
        (json!({ "auth": "creds", "permissions": true, "tls": "mutual" }), 6),
        (json!({ "tls": "mutual" }), 2),
    ] {
        let Some(server) = Server::launch("nats", options.clone()) else { return };
        let driver = open(server.target(json!({}))).await;
        let mut consumer = driver.consumer(SLOT, Start::Tail).await.unwrap();
        let mut who = BTreeSet::new();
        for (way, outcome) in tries(&driver, server.running.intruders.len()).await {
            assert!(!outcome.let_in, "{options}: {way:?}: {outcome:?}");
            assert!(!outcome.words.is_empty(), "{options}: {way:?}: {outcome:?}");
            who.insert(outcome.who);
        }
        assert_eq!(who.len(), kinds, "{options}: {who:?}");
        // What comes is what was sent with the right to, and nothing else.
        let mut producer = driver.producer(SLOT).await.unwrap();
        send(&mut producer, 0..10).await;
        let mut collector = Collector::new(accept);
        hear(&mut consumer, &mut collector, 10, 0).await;
        assert_eq!(collector.texts(), (0..10).map(message).collect::<Vec<_>>(), "{options}");
        producer.close().await.unwrap();
    }
}

/// Streams need more subjects than core messaging.
#[tokio::test]
async fn permissions_by_subject_are_those_that_streams_need() {
    use msgbench::driver::jetstream::JetstreamDriver;
    let options = json!({ "auth": "creds", "permissions": true });
    let Some(server) = Server::launch("jetstream", options) else { return };
    for consumer in ["pull", "push", "ordered"] {
        let target = server.target(json!({ "consumer": consumer }));
        let driver = JetstreamDriver::prepare(target, &workloads("stream", "consumers = 1")).await.unwrap();
        let mut reader = driver.consumer(SLOT, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SLOT).await.unwrap();
        send(&mut producer, 0..10).await;
        hear(&mut reader, &mut Collector::new(accept), 10, 0).await;
        producer.close().await.unwrap();
        for number in 0..8u64 {
            let way = if number.is_multiple_of(2) { IntrusionWay::Publish } else { IntrusionWay::Subscribe };
            let outcome = driver.intrude(0, Intrusion { number, way, payload: b"intruder" }).await.unwrap();
            assert!(!outcome.let_in, "{consumer}: {outcome:?}");
        }
        drop(reader);
        driver.cleanup().await.unwrap();
    }
}

/// The checks above can fail.
#[tokio::test]
async fn who_gets_in_is_seen() {
    let Some(server) = Server::launch("nats", json!({})) else { return };
    let driver = open(server.target(json!({}))).await;
    for (way, outcome) in tries(&driver, 1).await {
        assert!(outcome.let_in, "{way:?}: {outcome:?}");
        assert_eq!(outcome.who, "without credentials");
    }
    let Some(server) = Server::launch("nats", json!({ "auth": "creds", "permissions": true })) else { return };
    // Somebody with the rights of the trial's own clients, and what such a one hears.
    let mut target = server.target(json!({}));
    target.intruders = vec![Intruder { name: "thief".into(), client: server.running.client.clone(), isolated: false }];
    let driver = open(target.clone()).await;
    for (way, outcome) in tries(&driver, 1).await {
        assert!(outcome.let_in, "{way:?}: {outcome:?}");
    }
    target.intruders[0].isolated = true;
    let driver = open(target).await;
    let mut producer = driver.producer(SLOT).await.unwrap();
    let listen = driver.intrude(0, Intrusion { number: 1, way: IntrusionWay::Subscribe, payload: b"" });
    let publish = async {
        let mut token = 0;
        loop {
            send(&mut producer, token..token + 1).await;
            token += 1;
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    let outcome = tokio::select! {
        heard = listen => heard.unwrap(),
        () = publish => unreachable!("it publishes until the other is done"),
    };
    assert!(outcome.let_in, "{outcome:?}");
}

#[tokio::test]
async fn a_server_that_is_gone_refuses_nobody() {
    let Some(server) = Server::launch("nats", json!({ "auth": "password" })) else { return };
    let driver = open(server.target(json!({}))).await;
    server.kill();
    let attempt = Intrusion { number: 0, way: IntrusionWay::Publish, payload: b"" };
    let mut outcome = driver.intrude(0, attempt).await;
    // The kernel may take a moment to close its port.
    for _ in 0..100 {
        if outcome.is_err() {
            break;
        }
        outcome = driver.intrude(0, attempt).await;
    }
    let said = outcome.unwrap_err().to_string();
    assert!(said.contains("cannot connect to nats://"), "{said}");
}

#[test]
fn secrets_of_intruders_are_not_those_of_the_trial() {
    let Some(server) = Server::launch("nats", json!({ "auth": "password", "tls": "mutual" })) else { return };
    let own = &server.running.client;
    for intruder in &server.running.intruders {
        let whole = ["user", "password", "cert", "key"].iter().all(|key| intruder.client.get(*key) == own.get(*key));
        assert!(!whole, "{}", intruder.name);
        assert_eq!(intruder.client.get("ca"), own.get("ca"), "{}", intruder.name);
    }
}
