//! What Kafka answers where a client oversteps a rule, and what this broker does: the same requests
//! to both.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::log_support::*;
use kafka_protocol::messages::*;
use msgbench::broker::kafka::{Advertised, KafkaConfig, batch};
use msgbench::engine::Register;
use msgbench::plan::{BringUp, SystemSpec};
use msgbench::system::{System, SystemContext};

pub type Answers = Vec<(String, String)>;

pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

pub fn make(client: &mut Client, names: &[&str], configs: &[(&str, &str)], validate_only: bool) -> Vec<(i16, bool)> {
    let configs = configs.iter().map(|(name, value)| {
        create_topics_request::CreatableTopicConfig::default().with_name(text(*name)).with_value(Some(text(*value)))
    });
    let configs: Vec<_> = configs.collect();
    let topics = names.iter().map(|name| {
        create_topics_request::CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(1)
            .with_replication_factor(1)
            .with_configs(configs.clone())
    });
    let request = CreateTopicsRequest::default()
        .with_topics(topics.collect())
        .with_timeout_ms(10_000)
        .with_validate_only(validate_only);
    client.call(&request, 5).topics.iter().map(|topic| (topic.error_code, topic.error_message.is_none())).collect()
}

pub fn incremental(client: &mut Client, topic: &str, name: &str, operation: i8, value: Option<&str>) -> i16 {
    let config = incremental_alter_configs_request::AlterableConfig::default()
        .with_name(text(name))
        .with_config_operation(operation)
        .with_value(value.map(text));
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configs(vec![config]);
    client.call(&IncrementalAlterConfigsRequest::default().with_resources(vec![resource]), 1).responses[0].error_code
}

/// The settings of a topic: name, value, kind.
fn settings(client: &mut Client, topic: &str) -> Vec<(String, String, i8)> {
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configuration_keys(None);
    let answer = client.call(&DescribeConfigsRequest::default().with_resources(vec![resource]), 4);
    let configs = answer.results[0].configs.iter();
    configs.map(|c| (c.name.to_string(), c.value.clone().unwrap_or_default().to_string(), c.config_type)).collect()
}

/// The setting's value once the broker shows the one expected; a Kafka's metadata come after its
/// answer.
fn value(client: &mut Client, topic: &str, name: &str, expected: &str) -> String {
    let mut found = String::new();
    for _ in 0..100 {
        found = settings(client, topic).into_iter().find(|(n, ..)| n == name).unwrap().1;
        if found == expected {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    found
}

/// Waits until a topic just made can be written to.
pub fn settled(client: &mut Client, topic: &str) {
    for _ in 0..200 {
        let one = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![one])).with_allow_auto_topic_creation(false);
        let answer = client.call(&request, 9);
        let led = answer.topics[0].error_code == 0 && answer.topics[0].partitions[0].leader_id.0 >= 0;
        // A Kafka names the leader of a new partition before that leads.
        if led && leads(client, topic) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{topic} has no leader");
}

/// Whether the broker answers for the first partition of a topic.
fn leads(client: &mut Client, topic: &str) -> bool {
    let part = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
    let of = list_offsets_request::ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![part]);
    let request = ListOffsetsRequest::default().with_topics(vec![of]).with_replica_id(BrokerId(-1));
    client.call(&request, 5).topics[0].partitions[0].error_code == 0
}

fn join(client: &mut Client, group: &str, session: i32) -> i16 {
    let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(session)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    client.call(&request, 5).error_code
}

/// A record of that time without key.
fn without_key(timestamp: i64) -> Vec<u8> {
    let with = batch::encode(&[(b"", Some(b"v"))], timestamp);
    // The key's length is the fifth byte of the record; 1 is -1: there is none.
    let mut out = with;
    assert_eq!(out[batch::HEADER + 4], 0);
    out[batch::HEADER + 4] = 1;
    let sum = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&sum.to_be_bytes());
    out
}

fn deleted(client: &mut Client, names: &[Option<&str>]) -> String {
    let topics = names.iter().map(|name| {
        delete_topics_request::DeleteTopicState::default()
            .with_name(name.map(topic_name))
            .with_topic_id(if name.is_some() { uuid::Uuid::nil() } else { uuid::Uuid::from_u128(77) })
    });
    let request = DeleteTopicsRequest::default().with_topics(topics.collect()).with_timeout_ms(10_000);
    let answer = client.call(&request, 6);
    let one = |r: &delete_topics_response::DeletableTopicResult| {
        let name = r.name.as_ref().map(|name| name.to_string());
        (name, r.error_code, r.error_message.is_some(), r.topic_id.is_nil())
    };
    let mut all: Vec<_> = answer.responses.iter().map(one).collect();
    all.sort();
    format!("{all:?}")
}

fn unset(client: &mut Client, group: &str, topic: &str) -> (i16, i16) {
    let part = offset_delete_request::OffsetDeleteRequestPartition::default();
    let of = offset_delete_request::OffsetDeleteRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![part]);
    let request = OffsetDeleteRequest::default().with_group_id(GroupId(text(group))).with_topics(vec![of]);
    let answer = client.call(&request, 0);
    (answer.error_code, answer.topics.first().map_or(-1, |topic| topic.partitions[0].error_code))
}

fn is_listed(client: &mut Client, group: &str) -> bool {
    let answer = client.call(&ListGroupsRequest::default(), 4);
    answer.groups.iter().any(|listed| &*listed.group_id == group && &*listed.group_state == "Empty")
}

pub fn newest(client: &mut Client, topic: &str) -> (i64, i64) {
    let part = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-3);
    let of = list_offsets_request::ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![part]);
    let answer = client.call(&ListOffsetsRequest::default().with_topics(vec![of]).with_replica_id(BrokerId(-1)), 7);
    let part = &answer.topics[0].partitions[0];
    (part.offset, part.timestamp)
}

/// What a broker answers to requests at the edge of its rules.
fn answers(address: SocketAddr) -> Answers {
    let mut client = Client::connect(address);
    let client = &mut client;
    let mut all = Answers::new();
    let mut note = |what: &str, answer: String| all.push((what.to_owned(), answer));

    let announced = client.call(&ApiVersionsRequest::default(), 0);
    let key = announced.api_keys.iter().find(|api| api.api_key == 68);
    note("ConsumerGroupHeartbeat is announced", format!("{}", key.is_some()));
    // A Kafka that has the new protocol answers the request itself otherwise.

    note("a topic is made without words", format!("{:?}", make(client, &["a.b"], &[], false)));
    settled(client, "a.b");
    note("a_b beside a.b", format!("{:?}", make(client, &["a_b"], &[], false)));
    note("a_b beside a.b, validated only", format!("{:?}", make(client, &["a_b"], &[], true)));
    note("a.b once more", format!("{:?}", make(client, &["a.b"], &[], false)));
    note("a.bc and a-b are others", format!("{:?}", make(client, &["a.bc", "a-b"], &[], false)));
    note("two that collide at once", format!("{:?}", make(client, &["x.y_z", "x_y.z"], &[], false)));

    make(client, &["kept"], &[("cleanup.policy", "compact")], false);
    settled(client, "kept");
    note("a key on a compacted topic", format!("{:?}", client.produce("kept", 0, batch_of(&[("k", "v")]))));
    note("no key on a compacted topic", format!("{:?}", client.produce("kept", 0, without_key(now()))));
    note("no key on another topic", format!("{:?}", client.produce("a.b", 0, without_key(now()))));
    for (what, ahead) in [("50 minutes", 3_000_000), ("70 minutes", 4_200_000), ("a year", 31_536_000_000)] {
        let batch = batch::encode(&[(b"k", Some(b"v"))], now() + ahead);
        note(&format!("{what} ahead"), format!("{}", client.produce("a.b", 0, batch).0));
    }
    make(client, &["far"], &[("message.timestamp.after.max.ms", "9223372036854775807")], false);
    settled(client, "far");
    let batch = batch::encode(&[(b"k", Some(b"v"))], now() + 31_536_000_000);
    note("a year ahead where that is allowed", format!("{:?}", client.produce("far", 0, batch)));
    for ahead in [40_000_000_000, 35_000_000_000] {
        let batch = batch::encode(&[(b"k", Some(b"v")), (b"l", Some(b"w"))], 1_900_000_000_000 + ahead);
        client.produce("far", 0, batch);
    }
    note("the newest time", format!("{:?}", newest(client, "far")));

    for session in [0, 100, 5_999, 1_800_001] {
        note(&format!("session timeout {session} ms"), format!("{}", join(client, &format!("s{session}"), session)));
    }
    // 79: a member id is handed out, so the timeout was taken.
    for session in [6_000, 1_800_000] {
        note(&format!("session timeout {session} ms"), format!("{}", join(client, &format!("s{session}"), session)));
    }

    make(client, &["set"], &[], false);
    settled(client, "set");
    for (operation, name, given, after) in [
        (2, "cleanup.policy", "compact", "delete,compact"),
        (2, "cleanup.policy", "compact", "delete,compact"),
        (3, "cleanup.policy", "delete", "compact"),
        (3, "cleanup.policy", "delete", "compact"),
        (2, "cleanup.policy", "burn", "compact"),
        (2, "retention.ms", "1", "604800000"),
        (3, "retention.ms", "1", "604800000"),
        (3, "cleanup.policy", "compact", ""),
        (0, "compression.type", "gzip", "gzip"),
        (0, "compression.type", "brotli", "gzip"),
        (0, "file.delete.delay.ms", "12345", "12345"),
    ] {
        let code = incremental(client, "set", name, operation, Some(given));
        note(
            &format!("operation {operation} on {name} with {given}"),
            format!("{code}, now `{}`", value(client, "set", name, after)),
        );
    }
    note("SET to nothing", format!("{}", incremental(client, "set", "cleanup.policy", 0, None)));
    note("no such operation", format!("{}", incremental(client, "set", "cleanup.policy", 9, Some("delete"))));
    note("APPEND of nothing", format!("{}", incremental(client, "set", "cleanup.policy", 2, None)));
    note("APPEND to what is not known", format!("{}", incremental(client, "set", "no.such", 2, Some("x"))));

    note("deleted topics", deleted(client, &[Some("a-b"), Some("missing"), None]));

    note("an offset is committed", format!("{}", client.commit("lonely", "a.b", 0, 1)));
    note("its group is listed", format!("{}", is_listed(client, "lonely")));
    note("its only offset is deleted", format!("{:?}", unset(client, "lonely", "a.b")));
    note("the group is still listed", format!("{}", is_listed(client, "lonely")));
    note("nothing more to delete", format!("{:?}", unset(client, "lonely", "a.b")));
    note("no such group", format!("{:?}", unset(client, "never-there", "a.b")));
    let mut drop_group = || {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("lonely"))]);
        client.call(&request, 2).results[0].error_code
    };
    note("the group is deleted", format!("{}", drop_group()));
    note("and again", format!("{}", drop_group()));
    all
}

fn ours(change: impl FnOnce(&mut KafkaConfig)) -> (tempfile::TempDir, Running) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = KafkaConfig::new(dir.path());
    change(&mut config);
    (dir, start(config))
}

/// The answers of Kafka 4.4.0, a line each; [`the_rules_are_kafkas`] compares them with a real one.
const KAFKA: &str = include_str!("log_rules.txt");

/// What this broker answers otherwise, on purpose.
const OTHERWISE: [(&str, &str); 2] = [
    // Kafka looks at the names there are, not at the others of the request, and so makes both.
    ("two that collide at once", "[(0, true), (17, false)]"),
    // Kafka: an error of the server.
    ("no such operation", "42"),
];

pub fn lines(answers: &Answers) -> Vec<String> {
    answers.iter().map(|(what, answer)| format!("{what}: {answer}")).collect()
}

/// Holds this broker's answers against Kafka's, a line each.
pub fn as_by_kafka(ours: &Answers, kafka: &str) {
    let ours = lines(ours);
    let different: Vec<_> = ours.iter().zip(kafka.lines()).filter(|(ours, kafka)| ours != kafka).collect();
    assert!(different.is_empty(), "{different:#?}");
    assert_eq!(ours.len(), kafka.lines().count());
}

/// Holds a real Kafka against the answers that are kept as Kafka's.
pub fn so_by_kafka(kept: &str, answers: impl FnOnce(SocketAddr) -> Answers) {
    let dir = tempfile::tempdir().unwrap();
    let Some((_system, address)) = kafka(dir.path()) else { return };
    let theirs = lines(&answers(address));
    assert!(theirs == kept.lines().collect::<Vec<_>>(), "{}", theirs.join("\n"));
}

#[test]
fn the_rules_are_kept() {
    let (_dir, broker) = ours(|_| {});
    let answers = answers(broker.address);
    let mut different = Vec::new();
    for ((what, answer), kafka) in answers.iter().zip(KAFKA.lines()) {
        let same = format!("{what}: {answer}") == kafka;
        if same == OTHERWISE.contains(&(what.as_str(), answer.as_str())) {
            different.push(format!("{what}: {answer}, Kafka: {kafka}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert_eq!(answers.len(), KAFKA.lines().count());
}

/// A Kafka to compare with and its address; `None` where there is none, and the test is skipped.
pub fn kafka(dir: &std::path::Path) -> Option<(Box<dyn System>, SocketAddr)> {
    crate::needs::system("kafka")?;
    let options = serde_json::json!({ "broker": { "heap": "384MiB" } }).as_object().unwrap().clone();
    let spec = SystemSpec {
        name: "kafka".into(),
        driver: "kafka".into(),
        bring_up: BringUp::Launch,
        require: false,
        cpus: None,
        options,
    };
    let context = SystemContext { dir: dir.to_owned(), timeout: Duration::from_secs(180), cpus: None };
    let mut system = Register::built_in().create(&spec, context).unwrap();
    let running = system.start().unwrap_or_else(|error| panic!("{error}"));
    let address = running.url.trim_start_matches("kafka://").parse().unwrap();
    Some((system, address))
}

#[test]
fn the_rules_are_kafkas() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_system, address)) = kafka(dir.path()) else { return };
    // The first group makes the topic that offsets are kept in, which takes a while.
    let mut client = Client::connect(address);
    for _ in 0..300 {
        if !matches!(join(&mut client, "first", 10_000), 14..=16) {
            break;
        }
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("first")]);
        client.call(&find, 4);
        thread::sleep(Duration::from_millis(100));
    }
    let theirs = answers(address);
    let theirs = lines(&theirs);
    assert!(theirs == KAFKA.lines().collect::<Vec<_>>(), "{}", theirs.join("\n"));
    // Every setting Kafka has is taken by this broker at the value Kafka has it at, and shown as of
    // the same kind.
    let (_dir, broker) = ours(|_| {});
    let mut own = Client::connect(broker.address);
    make(&mut own, &["plain"], &[], false);
    let shown = settings(&mut own, "plain");
    let mut wrong = Vec::new();
    for (n, (name, value, kind)) in settings(&mut client, "a.b").into_iter().enumerate() {
        let made = make(&mut own, &[&format!("t{n}")], &[(&name, &value)], false);
        if made != [(0, true)] || !shown.iter().any(|(own, _, of)| (own, *of) == (&name, kind)) {
            wrong.push(format!("{name}={value} of kind {kind}: {made:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn bounds_of_the_session_timeout_can_be_set() {
    let (_dir, broker) = ours(|config| config.sessions = 100..=200);
    let mut client = Client::connect(broker.address);
    let codes: Vec<i16> = [99, 100, 200, 201].iter().map(|ms| join(&mut client, &format!("g{ms}"), *ms)).collect();
    assert_eq!(codes, [26, 79, 79, 26]);
}

/// A proxy: passes bytes on and does not know what they say.
fn proxy(to: SocketAddr, listener: TcpListener) {
    fn pump(mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    }
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(to) else { return };
            let (back_from, back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || pump(client, server));
            thread::spawn(move || pump(back_from, back_to));
        }
    });
}

#[test]
fn clients_behind_a_proxy_are_told_its_address_and_stay_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let front = listener.local_addr().unwrap();
    let advertised = Advertised { host: "localhost".into(), port: Some(front.port()) };
    let (_dir, broker) = ours(|config| config.advertise = Some(advertised));
    proxy(broker.address, listener);
    // However it is asked where the broker is, and whichever way it was reached.
    for address in [front, broker.address] {
        let mut client = Client::connect(address);
        let port = i32::from(front.port());
        let metadata = client.call(&MetadataRequest::default().with_topics(None), 9);
        assert_eq!((&*metadata.brokers[0].host, metadata.brokers[0].port), ("localhost", port));
        let cluster = client.call(&DescribeClusterRequest::default(), 0);
        assert_eq!((&*cluster.brokers[0].host, cluster.brokers[0].port), ("localhost", port));
        for version in [3, 4] {
            let request = FindCoordinatorRequest::default();
            let request =
                if version == 4 { request.with_coordinator_keys(vec![text("g")]) } else { request.with_key(text("g")) };
            let answer = client.call(&request, version);
            let (host, at) = match answer.coordinators.first() {
                Some(found) => (&found.host, found.port),
                None => (&answer.host, answer.port),
            };
            assert_eq!((&**host, at), ("localhost", port));
        }
        let resource = describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(4)
            .with_resource_name(text("1"))
            .with_configuration_keys(Some(vec![text("advertised.listeners")]));
        let answer = client.call(&DescribeConfigsRequest::default().with_resources(vec![resource]), 4);
        let value = answer.results[0].configs[0].value.clone().unwrap_or_default();
        assert_eq!(&*value, format!("PLAINTEXT://localhost:{port}"));
    }
}
