//! Stream processing in a client: what is published to one stream comes out of another.

use std::time::{Duration, Instant};

use crate::support::*;
use msgbench::driver::jetstream::JetstreamDriver;
use msgbench::driver::{ClientSlot, Driver, Start};
use serde_json::{Value, json};

const SEAT: ClientSlot = ClientSlot { workload: 0, group: 0, index: 0 };
const STREAM: &str = "MSGBENCH_abcd0123_0";
const OUTPUT: &str = "MSGBENCH_abcd0123_0_OUT";

async fn open(server: &Server, options: Value) -> JetstreamDriver {
    JetstreamDriver::prepare(server.target(options), &workloads("stream", "channels = 2")).await.unwrap()
}

/// Waits until the transformer has acknowledged all that it was given.
async fn settled(server: &Server, n: u64) -> Value {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let info = server.api(&format!("CONSUMER.INFO.{STREAM}.transform"), "").await;
        if info["ack_floor"]["stream_seq"] == n || Instant::now() > deadline {
            return info;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_published_comes_out_of_another_stream_once_and_in_order() {
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    for once in [false, true] {
        let driver = open(&server, json!({ "transform": "client", "exactly-once": once, "headers": 2 })).await;
        assert!(driver.facts().words()["transform"].starts_with("by msgbench"));
        let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SEAT).await.unwrap();
        send(&mut producer, 0..500).await;
        // With identifiers a copy is known, on either way.
        let copies = if once { 100 } else { 0 };
        send(&mut producer, 0..copies).await;
        assert_eq!(confirmations(&mut producer, 500 + copies as usize).await.0.len(), 500 + copies as usize);
        let mut collector = Collector::new(accept);
        hear(&mut reader, &mut collector, 500, 0).await;
        hear_for(&mut reader, &mut collector, Duration::from_millis(200)).await;
        assert_eq!(collector.texts(), (0..500).map(message).collect::<Vec<_>>());
        let info = settled(&server, 500).await;
        assert_eq!((&info["ack_floor"]["stream_seq"], &info["num_ack_pending"]), (&json!(500), &json!(0)), "{info}");
        let first = server.api(&format!("STREAM.MSG.GET.{OUTPUT}"), "{\"seq\":1}").await;
        assert_eq!(first["message"]["subject"], "mbs.out.abcd0123.0.0");
        assert!(first["message"]["hdrs"].is_string(), "headers go with it: {first}");
        assert_eq!(driver.incidents().take_log(), []);
        driver.cleanup().await.unwrap();
        assert_eq!(server.api("STREAM.NAMES", "").await["total"], 0);
    }
}

/// A stream that is full refuses; what it refused comes when it has room again.
#[tokio::test]
async fn what_the_output_stream_refuses_comes_again() {
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    let driver = open(&server, json!({ "transform": "client" })).await;
    let mut config = server.api(&format!("STREAM.INFO.{OUTPUT}"), "").await["config"].clone();
    config["max_msgs"] = 10.into();
    config["discard"] = "new".into();
    let changed = server.api(&format!("STREAM.UPDATE.{OUTPUT}"), &config.to_string()).await;
    assert!(changed["error"].is_null(), "{changed}");
    let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
    let mut producer = driver.producer(SEAT).await.unwrap();
    send(&mut producer, 0..30).await;
    assert_eq!(confirmations(&mut producer, 30).await.0.len(), 30);
    let mut collector = Collector::new(accept);
    hear(&mut reader, &mut collector, 10, 0).await;
    hear_for(&mut reader, &mut collector, Duration::from_millis(300)).await;
    assert_eq!(collector.heard.len(), 10);
    config["max_msgs"] = (-1).into();
    server.api(&format!("STREAM.UPDATE.{OUTPUT}"), &config.to_string()).await;
    hear(&mut reader, &mut collector, 30, 0).await;
    let mut texts: Vec<String> = collector.texts().into_iter().map(str::to_owned).collect();
    texts.sort_by_key(|text| text.trim_start_matches("message ").parse::<u64>().unwrap());
    assert_eq!(texts, (0..30).map(message).collect::<Vec<_>>());
    let log = driver.incidents().take_log();
    assert!(log.iter().any(|(.., text)| text.starts_with("the output stream refused a message")), "{log:?}");
    driver.cleanup().await.unwrap();
}

#[tokio::test]
async fn what_does_not_go_with_it_is_named() {
    let refused = |options: Value, pattern: &str| {
        let options = options.as_object().unwrap().clone();
        let of_type = msgbench::engine::Register::built_in().types();
        of_type.suits("jetstream", &options, &workloads(pattern, "")).unwrap_err().to_string()
    };
    let told = refused(json!({ "transform": "client" }), "key-value");
    assert!(told.contains("option `transform`") && told.contains("is a bucket"), "{told}");
    let told = refused(json!({ "transform": "client", "read-from": "mirror" }), "stream");
    assert!(told.contains("option `read-from`: it does not go with `transform`"), "{told}");
    let told = refused(json!({ "transform": "client", "publish": "atomic-batch" }), "stream");
    assert!(told.contains("option `publish`: it does not go with `transform`"), "{told}");
}
