//! Clusters, gateways and leaf nodes of real nats-servers: what is sent at one server arrives at
//! another, from the first message on, over every kind of link, with and without delay.

use std::time::{Duration, Instant};

use crate::support::*;
use futures_util::StreamExt as _;
use msgbench::driver::jetstream::JetstreamDriver;
use msgbench::driver::nats::NatsDriver;
use msgbench::driver::wire::WireDriver;
use msgbench::driver::{ClientSlot, Driver, DriverError, Producer, Start};
use serde_json::{Value, json};

const SLOT: ClientSlot = ClientSlot { workload: 0, group: 0, index: 0 };

/// Four ways from `node-1`, and back.
const FAR: [&str; 4] = ["node-1", "node-2", "leaf-1", "cluster-2-node-2"];

fn everything(link: Option<&str>) -> Value {
    let mut options = json!({ "nodes": 2, "clusters": 2, "leaf-nodes": 1 });
    if let Some(link) = link {
        options["link"] = link.into();
    }
    options
}

fn at(producers: &str, consumers: &str, pattern: &str) -> Vec<msgbench::plan::Workload> {
    let rest = format!("consumers = 1\nat = {{ producers = \"{producers}\", consumers = \"{consumers}\" }}");
    workloads(pattern, &rest)
}

/// Sends 100 messages at once when the producer is open: the first one must arrive as well.
async fn crosses<D: Driver>(server: &Server, (from, to): (&str, &str), pattern: &str) {
    let workloads = at(from, to, pattern);
    let driver = D::prepare(server.target(json!({})), &workloads).await.unwrap();
    let mut consumer = driver.consumer(SLOT, Start::Tail).await.unwrap();
    let mut producer = driver.producer(SLOT).await.unwrap();
    send(&mut producer, 0..100).await;
    let mut collector = Collector::new(accept);
    hear(&mut consumer, &mut collector, 100, 0).await;
    assert_eq!(collector.texts(), (0..100).map(message).collect::<Vec<_>>(), "{from} to {to}");
    producer.close().await.unwrap();
    drop(consumer);
    driver.cleanup().await.unwrap();
}

#[tokio::test]
async fn every_kind_of_link_passes_messages_from_the_first_on() {
    for link in [None, Some("30ms")] {
        let Some(server) = Server::launch("nats", everything(link)) else { return };
        for far in FAR {
            for pair in [("node-1", far), (far, "node-1")] {
                crosses::<NatsDriver>(&server, pair, "fan-out").await;
                crosses::<WireDriver>(&server, pair, "fan-out").await;
            }
        }
    }
}

/// What is published before its server knows of a subscription at another goes nowhere, and nobody
/// is told: this is what producers wait for. A server cannot know of one earlier than the link is
/// long.
#[tokio::test]
async fn what_is_published_before_servers_know_each_others_subscriptions_is_lost() {
    // Longer ones make the servers close each other's routes as duplicates for a while.
    const LINK: Duration = Duration::from_millis(60);
    let Some(server) = Server::launch("nats", json!({ "nodes": 2, "link": "60ms" })) else { return };
    let connect = |place: &str| {
        let target = server.target(json!({}));
        let url = target.at(Some(place)).unwrap().url.clone();
        async move { async_nats::connect(url).await.unwrap() }
    };
    let (near, far) = (connect("node-1").await, connect("node-2").await);
    let mut proved = false;
    for attempt in 0..20 {
        let subject = format!("proof.{attempt}");
        let asked = Instant::now();
        let mut subscriber = far.subscribe(subject.clone()).await.unwrap();
        far.flush().await.unwrap();
        near.publish(subject.clone(), "early".into()).await.unwrap();
        near.flush().await.unwrap();
        let in_time = asked.elapsed() < LINK;
        let first = loop {
            near.publish(subject.clone(), "late".into()).await.unwrap();
            let next = tokio::time::timeout(Duration::from_millis(100), subscriber.next());
            if let Ok(message) = next.await {
                break message.unwrap();
            }
            assert!(asked.elapsed() < TIMEOUT, "nothing came");
        };
        // On a busy machine it may have taken too long to prove anything.
        if in_time {
            assert_eq!(&first.payload[..], b"late", "the server knew before it could");
            proved = true;
            break;
        }
    }
    assert!(proved, "no attempt was quicker than the link");
}

/// Clients may be at any server where nothing is said.
#[tokio::test]
async fn a_cluster_without_places_loses_no_first_message() {
    let Some(server) = Server::launch("nats", json!({ "nodes": 3, "link": "30ms" })) else { return };
    for _ in 0..6 {
        let target = server.target(json!({}));
        let driver = NatsDriver::prepare(target, &workloads("fan-out", "consumers = 1")).await.unwrap();
        let mut consumer = driver.consumer(SLOT, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SLOT).await.unwrap();
        send(&mut producer, 0..10).await;
        let mut collector = Collector::new(accept);
        hear(&mut consumer, &mut collector, 10, 0).await;
        producer.close().await.unwrap();
    }
}

/// Streams are reached from every member of a cluster.
#[tokio::test]
async fn streams_are_reached_from_all_clusters() {
    for link in [None, Some("30ms")] {
        let Some(server) = Server::launch("jetstream", everything(link)) else { return };
        for far in ["node-1", "node-2", "cluster-2-node-2"] {
            for pair in [("node-1", far), (far, "node-1")] {
                crosses::<JetstreamDriver>(&server, pair, "stream").await;
            }
        }
    }
}

/// Every way to prove who connects holds for leaf nodes, too.
#[tokio::test]
async fn leaf_nodes_are_let_in_with_every_kind_of_credentials() {
    for auth in ["password", "token", "nkey", "creds"] {
        let options = json!({ "leaf-nodes": 1, "auth": auth, "tls": "mutual" });
        let Some(server) = Server::launch("nats", options) else { return };
        crosses::<NatsDriver>(&server, ("node-1", "leaf-1"), "fan-out").await;
        crosses::<NatsDriver>(&server, ("leaf-1", "node-1"), "fan-out").await;
    }
}

/// One message after the other, so that no queue is in the figure: how long the fastest took, which
/// waited least for a core.
async fn least(server: &Server, from: &str, to: &str) -> Duration {
    let workloads = at(from, to, "fan-out");
    let driver = NatsDriver::prepare(server.target(json!({})), &workloads).await.unwrap();
    let mut consumer = driver.consumer(SLOT, Start::Tail).await.unwrap();
    let mut producer = driver.producer(SLOT).await.unwrap();
    let mut all = Vec::new();
    for token in 0..51 {
        let sent = Instant::now();
        send(&mut producer, token..token + 1).await;
        hear(&mut consumer, &mut Collector::new(accept), 1, 0).await;
        all.push(sent.elapsed());
    }
    producer.close().await.unwrap();
    all.into_iter().min().unwrap()
}

#[tokio::test]
async fn a_message_is_later_by_the_delay_of_each_link_that_it_crosses() {
    let options = json!({ "nodes": 2, "clusters": 2, "leaf-nodes": 1, "cluster-link": "20ms", "gateway-link": "60ms", "leaf-link": "40ms" });
    let Some(server) = Server::launch("nats", options) else { return };
    assert_eq!(
        server.running.settings["links"],
        "cluster 20ms later each way, gateway 60ms later each way, leaf 40ms later each way"
    );
    let near = least(&server, "node-1", "node-1").await;
    for (from, to, delay) in [
        ("node-1", "node-2", 20),
        ("node-1", "leaf-1", 40),
        // Gateway connections may be of other servers: there is a link of the cluster more.
        ("cluster-2-node-1", "node-1", 60),
        // Over a gateway and a leaf node's link.
        ("leaf-1", "cluster-2-node-1", 100),
    ] {
        let added = least(&server, from, to).await.saturating_sub(near).as_secs_f64() * 1000.0;
        let ratio = added / f64::from(delay);
        assert!((0.9..2.0).contains(&ratio), "{from} to {to}: {added:.1} ms added, {delay} ms asked for");
    }
}

#[test]
fn each_server_says_its_version_and_has_an_address() {
    let Some(server) = Server::launch("nats", everything(None)) else { return };
    let settings = &server.running.settings;
    let version = &settings["version"];
    assert_eq!(
        settings["server_versions"],
        format!("{version}: node-1, node-2, cluster-2-node-1, cluster-2-node-2, leaf-1")
    );
    assert_eq!(settings["topology"], "2 clusters of 2 servers over gateways, 1 leaf node");
    assert_eq!(server.running.places.len(), 5);
    assert_eq!(server.running.url.split(',').count(), 4, "clients without a place go to no leaf node");
}

#[tokio::test]
async fn a_place_that_is_not_there_is_named() {
    let Some(server) = Server::launch("nats", json!({})) else { return };
    let driver = NatsDriver::prepare(server.target(json!({})), &at("node-1", "leaf-5", "fan-out")).await.unwrap();
    let Err(DriverError::Option { words }) = driver.consumer(SLOT, Start::Tail).await else { panic!("let in") };
    assert_eq!(words, "key `at`: there is no server `leaf-5`; there are: node-1");
}

/// Processes are those that ran, and settings those of the file that the first server was started
/// with: one of three has those of a cluster besides.
#[test]
fn processes_and_settings_of_a_trial_are_counted() {
    if crate::needs::nats_server().is_none() {
        return;
    }
    let (output, record) = run(r#"
name = "counted"
question = "How many processes and settings does each have?"
[[system]]
name = "one"
driver = "jetstream"
[[system]]
name = "three"
driver = "jetstream"
options = { nodes = 3, replicas = 3 }
[[workload]]
pattern = "stream"
load.rate = "200/s"
[run]
connect = "60s"
drain = "30s"
trials = 1
"#);
    let words = String::from_utf8_lossy(&output.stderr);
    let trials = record["trials"].as_array().unwrap_or_else(|| panic!("{words}"));
    let of = |system: &str, key: &str| {
        let trial = trials.iter().find(|t| t["case"].as_str().unwrap().starts_with(system)).unwrap();
        assert_eq!(trial["outcome"]["status"], "complete", "{}", trial["outcome"]);
        trial[key].as_u64().unwrap_or_else(|| panic!("{key} of {system}: {}", trial[key]))
    };
    let (one, three) = (of("one", "settings"), of("three", "settings"));
    // A name, an address for clients and one for its pages, and a folder at the least.
    let found = (of("one", "processes"), of("three", "processes"), one >= 4, three > one);
    assert_eq!(found, (1, 3, true, true), "{one} and {three} settings");
}
