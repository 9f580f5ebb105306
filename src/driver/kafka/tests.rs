//! What needs no broker. The rest is in tests/kafka.rs, against a real one.

use super::*;
use crate::plan::{Content, DeliverySpec, Load, Pattern, Payload, PayloadSize, Topology};
use crate::units::Bytes;

pub(super) fn workload() -> Workload {
    Workload {
        name: "w".into(),
        pattern: Pattern::FanOut,
        topology: Topology { producers: 1, channels: 1, groups: 1, members: 1, reply: false },
        load: Load::Unthrottled { window: 0 },
        payload: Payload { size: PayloadSize::Fixed(Bytes(128)), content: Content::Zero },
        delivery: DeliverySpec::default(),
        target: None,
        at: crate::plan::Places::default(),
        intruders: 0,
        idle_connections: 0,
        agents: Default::default(),
    }
}

fn target(url: String, options: serde_json::Value) -> Target {
    let options = options.as_object().unwrap().clone();
    Target { url, timeout: Duration::from_millis(600), run: 7, options, ..Target::default() }
}

fn prepare(target: Target) -> Result<KafkaDriver, DriverError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(KafkaDriver::prepare(target, &[workload()]))
}

#[test]
fn a_refused_connection_says_where_and_what_to_do_within_the_bound() {
    let begun = Instant::now();
    // No free port is ever this low, so that no other test can listen there.
    let url = "kafka://me:secret@127.0.0.1:1".to_owned();
    let told = prepare(target(url, serde_json::json!({}))).err().unwrap().to_string();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(told.starts_with("cannot connect to kafka://127.0.0.1:1: "), "{told}");
    assert!(told.contains("Connection refused") && told.contains("check that a broker runs there"), "{told}");
    assert!(!told.contains("secret"), "{told}");
}

#[test]
fn a_raw_setting_that_librdkafka_does_not_know_is_refused_in_its_words() {
    let options = serde_json::json!({ "raw": { "no.such.thing": 1 } });
    let told = prepare(target("kafka://127.0.0.1:9".into(), options)).err().unwrap().to_string();
    assert!(told.contains("No such configuration property: \"no.such.thing\""), "{told}");
}

#[test]
fn the_build_has_every_compression_and_plain_sasl() {
    let settings = native::ClientSettings::new();
    let health = ConnectionHealth::new("kafka://here", Duration::from_secs(1), &Incidents::default());
    let client = NativeClient::new(ClientKind::Producer, &settings, health).unwrap();
    let features = client.setting("builtin.features").unwrap();
    for feature in ["gzip", "snappy", "lz4", "zstd", "sasl_plain"] {
        assert!(features.split(',').any(|f| f == feature), "{feature} is not in {features}");
    }
    assert_eq!(features.contains("ssl"), cfg!(feature = "kafka-tls"), "{features}");
}

#[test]
fn a_bell_rings_when_a_client_has_something_to_say() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let settings = native::ClientSettings::from([
            ("bootstrap.servers".into(), "127.0.0.1:9".into()),
            ("message.timeout.ms".into(), "50".into()),
        ]);
        let health = ConnectionHealth::new("kafka://here", Duration::from_secs(1), &Incidents::default());
        let client = NativeClient::new(ClientKind::Producer, &settings, health).unwrap();
        let mut writer = TopicWriter::new(client, "t", &Incidents::default()).unwrap();
        let signal = QueueSignal::new().unwrap();
        writer.attach(&signal);
        writer.write(&signal, (-1, None), b"x", 42).await.unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while writer.reports.is_empty() {
            tokio::time::timeout_at(deadline, signal.wait()).await.unwrap().unwrap();
            writer.collect();
        }
        let (token, code, _) = writer.reports[0];
        assert_eq!(token, 42);
        assert_eq!(code, rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT);
    });
}
