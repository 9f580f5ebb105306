//! JetStream and leaf nodes: a client at a leaf node uses the streams of the hub, a client of the
//! hub those of a leaf node, in every way of publishing and reading.

use std::collections::BTreeSet;

use crate::support::*;
use msgbench::driver::jetstream::JetstreamDriver;
use msgbench::driver::{ClientSlot, Confirmation, Disposition, Driver, Outgoing, Producer, Start};
use serde_json::{Value, json};

const SLOT: ClientSlot = ClientSlot { workload: 0, group: 0, index: 0 };
const STREAM: &str = "MSGBENCH_abcd0123_0";

fn at(place: &str) -> String {
    format!("at = \"{place}\"")
}

async fn open(server: &Server, options: Value, pattern: &str, rest: &str) -> JetstreamDriver {
    let target = server.target(options);
    JetstreamDriver::prepare(target, &workloads(pattern, rest)).await.unwrap_or_else(|e| panic!("{rest}: {e}"))
}

/// A hundred messages are acknowledged, and read from the first on.
async fn crosses(server: &Server, (from, to): (&str, &str), options: Value) {
    let rest = format!("consumers = 1\nat = {{ producers = \"{from}\", consumers = \"{to}\" }}");
    let driver = open(server, options.clone(), "stream", &rest).await;
    let mut consumer = driver.consumer(SLOT, Start::Tail).await.unwrap();
    let mut producer = driver.producer(SLOT).await.unwrap();
    send(&mut producer, 0..100).await;
    let mut collector = Collector::new(accept);
    hear(&mut consumer, &mut collector, 100, 0).await;
    assert_eq!(collector.texts(), (0..100).map(message).collect::<Vec<_>>(), "{from} to {to}: {options}");
    let mut acked = confirmations(&mut producer, 100).await.0;
    acked.sort_unstable();
    assert_eq!(acked, (0..100).collect::<Vec<_>>(), "{from} to {to}: {options}");
    producer.close().await.unwrap();
    drop(consumer);
    driver.cleanup().await.unwrap();
}

/// The names of the streams that a server at `place` has, asked as a client that knows no domain.
async fn streams_at(server: &Server, place: &str) -> BTreeSet<String> {
    let target = server.target(json!({}));
    let client = async_nats::connect(target.at(Some(place)).unwrap().url.clone()).await.unwrap();
    let answer = client.request("$JS.API.STREAM.NAMES", "".into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    let names = answer["streams"].as_array().cloned().unwrap_or_default();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn streams_of_a_hub_are_reached_from_its_leaf_node() {
    for link in [None, Some("30ms")] {
        let mut options = json!({ "nodes": 2, "clusters": 2, "leaf-nodes": 1 });
        if let Some(link) = link {
            options["link"] = link.into();
        }
        let Some(server) = Server::launch("jetstream", options) else { return };
        for pair in [("leaf-1", "leaf-1"), ("leaf-1", "node-1"), ("node-2", "leaf-1"), ("leaf-1", "cluster-2-node-2")] {
            crosses(&server, pair, json!({})).await;
        }
    }
}

/// The leaf node learns which subjects a stream has when the link has told it, and whoever made the
/// stream at the hub knows of it before. Without waiting the first messages go nowhere.
#[tokio::test]
async fn a_producer_waits_until_its_server_knows_the_stream() {
    let Some(server) = Server::launch("jetstream", json!({ "leaf-nodes": 1, "link": "300ms" })) else { return };
    for options in [json!({}), json!({ "publish": "fire-and-forget" }), json!({ "domain": "leaf-1" })] {
        let places = if options["domain"].is_null() { ("leaf-1", "node-1") } else { ("node-1", "leaf-1") };
        let rest = format!("consumers = 1\nat = {{ producers = \"{}\", consumers = \"{}\" }}", places.0, places.1);
        let driver = open(&server, options.clone(), "stream", &rest).await;
        let mut consumer = driver.consumer(SLOT, Start::First).await.unwrap();
        let mut producer = driver.producer(SLOT).await.unwrap();
        send(&mut producer, 0..10).await;
        let mut heard = Collector::new(accept);
        hear(&mut consumer, &mut heard, 10, 0).await;
        assert_eq!(heard.texts(), (0..10).map(message).collect::<Vec<_>>(), "{options}");
        if producer.confirms() {
            assert_eq!(confirmations(&mut producer, 10).await, ((0..10).collect(), Vec::new()), "{options}");
        }
        producer.close().await.unwrap();
        drop(consumer);
        driver.cleanup().await.unwrap();
    }
}

/// A stream that is gone answers nothing: the producer says so, and who is to be asked.
#[tokio::test]
async fn a_producer_without_an_answer_of_its_stream_says_so() {
    let Some(server) = Server::launch("jetstream", json!({ "leaf-nodes": 1 })) else { return };
    let mut target = server.target(json!({}));
    target.timeout = std::time::Duration::from_secs(2);
    let driver = JetstreamDriver::prepare(target, &workloads("stream", &at("leaf-1"))).await.unwrap();
    let gone = server.api(&format!("STREAM.DELETE.{STREAM}"), "").await;
    assert_eq!(gone["success"], true, "{gone}");
    let Err(error) = driver.producer(SLOT).await else { panic!("let in") };
    let told = error.to_string();
    assert!(told.contains("got no answer of the stream within 2 s") && told.contains("leaf nodes"), "{told}");
}

#[tokio::test]
async fn every_way_of_publishing_and_reading_passes_a_leaf_node() {
    let Some(server) = Server::launch("jetstream", json!({ "leaf-nodes": 1 })) else { return };
    for consumer in ["pull", "fetch", "push", "ordered"] {
        crosses(&server, ("leaf-1", "leaf-1"), json!({ "consumer": consumer })).await;
    }
    crosses(&server, ("leaf-1", "leaf-1"), json!({ "publish": "sync" })).await;
    crosses(&server, ("leaf-1", "leaf-1"), json!({ "exactly-once": true })).await;
    crosses(&server, ("leaf-1", "leaf-1"), json!({ "transform": "client" })).await;
    for copy in ["mirror", "source"] {
        crosses(&server, ("leaf-1", "leaf-1"), json!({ "read-from": copy })).await;
    }
    for (publish, since) in [("atomic-batch", "2.12"), ("fast-batch", "2.14")] {
        if crate::needs::since("nats", since).is_some() {
            crosses(&server, ("leaf-1", "leaf-1"), json!({ "publish": publish })).await;
        }
    }
}

/// Where the streams are is a matter of the domain alone.
#[tokio::test]
async fn a_leaf_node_has_streams_of_its_own() {
    let Some(server) = Server::launch("jetstream", json!({ "leaf-nodes": 2 })) else { return };
    let none = BTreeSet::new();
    let one = BTreeSet::from([STREAM.to_owned()]);
    for (options, at_hub, at_leaf) in [
        (json!({}), &one, &none),
        (json!({ "domain": "hub" }), &one, &none),
        (json!({ "domain": "leaf-1" }), &none, &one),
    ] {
        let driver = open(&server, options.clone(), "stream", &at("leaf-1")).await;
        assert_eq!(&streams_at(&server, "node-1").await, at_hub, "{options}");
        assert_eq!(&streams_at(&server, "leaf-1").await, at_leaf, "{options}");
        assert_eq!(streams_at(&server, "leaf-2").await, none, "{options}");
        let domain = options["domain"].as_str().unwrap_or("hub");
        assert_eq!(driver.facts().words()["domain"], domain);
        driver.cleanup().await.unwrap();
        assert_eq!(
            (streams_at(&server, "node-1").await, streams_at(&server, "leaf-1").await),
            (none.clone(), none.clone())
        );
    }
    for pair in [("leaf-1", "leaf-1"), ("node-1", "leaf-1"), ("leaf-1", "node-1"), ("leaf-2", "leaf-1")] {
        crosses(&server, pair, json!({ "domain": "leaf-1" })).await;
    }
}

/// A consumer that is lost is made again, and a message that used up its deliveries is fetched and
/// removed: both ask the server while messages flow.
#[tokio::test]
async fn what_is_asked_while_messages_flow_passes_as_well() {
    let Some(server) = Server::launch("jetstream", json!({ "leaf-nodes": 1 })) else { return };
    let driver = open(&server, json!({ "consumer": "ordered" }), "stream", &at("leaf-1")).await;
    let mut consumer = driver.consumer(SLOT, Start::Tail).await.unwrap();
    let mut producer = driver.producer(SLOT).await.unwrap();
    let mut heard = Collector::new(accept);
    send(&mut producer, 0..10).await;
    hear(&mut consumer, &mut heard, 10, 0).await;
    let lost = server.api(&format!("CONSUMER.DELETE.{STREAM}.g0_0"), "").await;
    assert_eq!(lost["success"], true, "{lost}");
    send(&mut producer, 10..20).await;
    hear(&mut consumer, &mut heard, 20, 0).await;
    assert_eq!(heard.texts(), (0..20).map(message).collect::<Vec<_>>());
    drop(consumer);
    driver.cleanup().await.unwrap();

    for letters in ["server", "term"] {
        let rest = format!("delivery = {{ dead-every = 10, max-deliver = 3 }}\n{}", at("leaf-1"));
        let options = json!({ "dead-letters": letters, "retention": "workqueue" });
        let driver = open(&server, options, "stream", &rest).await;
        let mut consumer = driver.consumer(SLOT, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SLOT).await.unwrap();
        send(&mut producer, 0..20).await;
        let mut heard =
            Collector::new(|text, _| if text.ends_with('7') { Disposition::Reject } else { Disposition::Accept });
        hear(&mut consumer, &mut heard, 24, 2).await;
        let dead: BTreeSet<&str> = heard.dead.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(dead, BTreeSet::from(["message 7", "message 17"]), "{letters}");
        let empty = async || server.api(&format!("STREAM.INFO.{STREAM}"), "").await["state"]["messages"] == 0;
        hear_until(&mut consumer, &mut heard, empty, "the work queue is empty").await;
        drop(consumer);
        driver.cleanup().await.unwrap();
    }
}

/// Keys of a bucket: leaf nodes do not pass `$KV` on.
#[tokio::test]
async fn keys_are_put_watched_and_got_at_a_leaf_node() {
    let Some(server) = Server::launch("jetstream", json!({ "leaf-nodes": 1 })) else { return };
    let rest = format!(
        "{}\ndelivery = {{ keys = {{ round-robin = 10 }}, history = 64 }}\n[[workload]]\nname = \"gets\"\n\
         pattern = \"request-reply\"\ntarget = {{ bucket = \"key-value\" }}\nload.rate = \"1k/s\"",
        at("leaf-1")
    );
    for domain in ["hub", "leaf-1"] {
        let driver = open(&server, json!({ "domain": domain }), "key-value", &rest).await;
        let mut watcher = driver.consumer(SLOT, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SLOT).await.unwrap();
        for token in 0..20 {
            let payload = message(token);
            let out = Outgoing { channel: 0, key: Some(token % 10), payload: payload.as_bytes(), token };
            producer.send(out).await.unwrap();
        }
        assert_eq!(confirmations(&mut producer, 20).await.0.len(), 20, "{domain}");
        let mut seen = Collector::new(accept);
        hear(&mut watcher, &mut seen, 20, 0).await;
        assert_eq!(seen.texts(), (0..20).map(message).collect::<Vec<_>>(), "{domain}");
        let mut reader = driver.producer(ClientSlot { workload: 1, ..SLOT }).await.unwrap();
        send(&mut reader, 0..50).await;
        let mut got = 0;
        while got < 50 {
            let mut sink = |c: Confirmation<'_>| match c {
                Confirmation::Served { .. } => got += 1,
                other => panic!("{domain}: {other:?}"),
            };
            tokio::time::timeout(TIMEOUT, reader.confirmed(&mut sink)).await.unwrap().unwrap();
        }
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn a_domain_that_is_not_there_is_named() {
    let Some(server) = Server::launch("jetstream", json!({ "leaf-nodes": 1 })) else { return };
    let Err(error) =
        JetstreamDriver::prepare(server.target(json!({ "domain": "leaf-2" })), &workloads("stream", "")).await
    else {
        panic!("let in")
    };
    let told = error.to_string();
    assert!(told.contains("no JetStream of the domain `leaf-2` is reached"), "{told}");
    assert!(told.contains("option `domain`"), "{told}");
}

/// Streams of a hub hold for clients of a leaf node with every way to prove who they are.
#[tokio::test]
async fn every_kind_of_credentials_reaches_the_streams() {
    for auth in ["password", "token", "nkey", "creds"] {
        let options = json!({ "leaf-nodes": 1, "auth": auth, "permissions": auth != "token" });
        let Some(server) = Server::launch("jetstream", options) else { return };
        crosses(&server, ("leaf-1", "node-1"), json!({})).await;
        crosses(&server, ("node-1", "leaf-1"), json!({})).await;
    }
}
