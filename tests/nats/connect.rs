//! Clients that come and go at a real nats-server: the server counts them by itself.

use std::time::Duration;

use crate::support::*;
use msgbench::driver::jetstream::JetstreamDriver;
use msgbench::driver::nats::NatsDriver;
use msgbench::driver::wire::WireDriver;
use msgbench::driver::{ConnectAttempt, Driver};
use serde_json::json;

/// Eight clients of a driver, one after another, and then one at a server that is gone.
async fn come_and_go<D: Driver>(kind: &str) {
    const CLIENTS: u64 = 8;
    let Some(server) = Server::launch(kind, json!({})) else { return };
    let driver = D::prepare(server.target(json!({})), &workloads("connect", "")).await.unwrap();
    let (before, open) = (monitored(&server, "total_connections"), monitored(&server, "connections"));
    for number in 0..CLIENTS {
        let payload = message(number);
        let attempt = ConnectAttempt { workload: 0, producer: 3, number, payload: payload.as_bytes() };
        let begun = msgbench::units::now();
        let steps = driver.connect_once(attempt).await.unwrap();
        assert_eq!(steps.message, payload.as_bytes());
        let order = [begun, steps.connected, steps.subscribed, steps.received, msgbench::units::now()];
        assert!(order.is_sorted() && steps.connected > begun && steps.received > steps.subscribed, "{order:?}");
    }
    assert_eq!(monitored(&server, "total_connections") - before, CLIENTS);
    let mut left = TIMEOUT;
    while monitored(&server, "connections") > open {
        left = left.checked_sub(Duration::from_millis(20)).expect("a client that is gone is still connected");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.kill();
    let attempt = ConnectAttempt { workload: 0, producer: 3, number: CLIENTS, payload: b"late" };
    let error = driver.connect_once(attempt).await.unwrap_err().to_string();
    assert!(error.contains(&server.running.url), "{error}");
}

#[tokio::test]
async fn clients_of_core_messaging_come_and_go() {
    come_and_go::<NatsDriver>("nats").await;
    come_and_go::<WireDriver>("nats").await;
}

#[tokio::test]
async fn clients_of_a_stream_come_and_go() {
    come_and_go::<JetstreamDriver>("jetstream").await;
}
