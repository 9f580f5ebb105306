//! Members of the new group protocol (KIP-848): what a Kafka answers to them step by step, and what
//! this broker does.

use std::net::SocketAddr;
use std::time::Duration;

use crate::log_rules::{Answers, as_by_kafka, make, settled, so_by_kafka};
use crate::log_support::*;
use kafka_protocol::messages::*;
use msgbench::broker::kafka::KafkaConfig;
use uuid::Uuid;

type Owned = Vec<i32>;

/// A member as a client keeps it.
#[derive(Clone)]
struct Member {
    id: String,
    epoch: i32,
    owned: Owned,
}

fn join(group: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(topics.iter().map(|name| topic_name(name)).collect()))
        .with_topic_partitions(Some(Vec::new()))
}

/// Asks again while the coordinator is not there yet.
fn ask(client: &mut Client, request: &ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
    for _ in 0..500 {
        let answer = client.call(request, 0);
        if !matches!(answer.error_code, 14..=16) {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("there is no coordinator");
}

/// What is told: error, epoch, and partitions where there are any to be told.
fn told(answer: &ConsumerGroupHeartbeatResponse) -> String {
    let parts = answer
        .assignment
        .as_ref()
        .map(|assignment| assignment.topic_partitions.iter().map(|topic| topic.partitions.len()).sum::<usize>());
    let has_words = answer.error_message.as_ref().is_some_and(|words| !words.is_empty());
    format!("{}, {parts:?} partitions, words: {has_words}", answer.error_code)
}

impl Member {
    fn join(client: &mut Client, group: &str, id: &str) -> (Self, String) {
        let request = join(group, &["t"]).with_member_id(text(id));
        let answer = ask(client, &request);
        let mut member = Self { id: id.to_owned(), epoch: answer.member_epoch, owned: Vec::new() };
        member.take(&answer);
        (member, told(&answer))
    }

    fn take(&mut self, answer: &ConsumerGroupHeartbeatResponse) {
        self.epoch = answer.member_epoch;
        if let Some(assignment) = &answer.assignment {
            self.owned = assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect();
        }
    }

    /// Says what it has, and takes what it is told.
    fn beat(&mut self, client: &mut Client, group: &str, topic: Uuid) -> String {
        let owned = consumer_group_heartbeat_request::TopicPartitions::default()
            .with_topic_id(topic)
            .with_partitions(self.owned.clone());
        let owned = if self.owned.is_empty() { Vec::new() } else { vec![owned] };
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_member_id(text(self.id.clone()))
            .with_member_epoch(self.epoch)
            .with_rebalance_timeout_ms(-1)
            .with_topic_partitions(Some(owned));
        let answer = ask(client, &request);
        if answer.error_code == 0 {
            self.take(&answer);
        }
        told(&answer)
    }
}

/// Lets members take what they are told until each has so many partitions: a Kafka takes its time
/// to decide.
fn until(client: &mut Client, topic: Uuid, members: &mut [&mut Member], each: usize) {
    for _ in 0..1500 {
        for member in members.iter_mut() {
            member.beat(client, "g", topic);
        }
        if members.iter().all(|member| member.owned.len() == each) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("partitions do not move");
}

fn commit(client: &mut Client, group: &str, member: &str, epoch: i32, version: i16) -> i16 {
    let part = offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(3);
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![part]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(epoch)
        .with_member_id(text(member))
        .with_topics(vec![topic]);
    client.call(&request, version).topics[0].partitions[0].error_code
}

fn answers(address: SocketAddr) -> Answers {
    let mut client = Client::connect(address);
    let client = &mut client;
    let mut all = Answers::new();
    let mut note = |what: &str, answer: String| all.push((what.to_owned(), answer));
    let topic = create_topics_request::CreatableTopic::default()
        .with_name(topic_name("t"))
        .with_num_partitions(6)
        .with_replication_factor(1);
    client.call(&CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000), 5);
    settled(client, "t");
    make(client, &["other"], &[], false);
    // A Kafka makes its topic of offsets when it is first asked for.
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    for _ in 0..500 {
        if client.call(&find, 4).coordinators[0].error_code == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let one = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let id = client.call(&MetadataRequest::default().with_topics(Some(vec![one])), 12).topics[0].topic_id;

    let whole = || join("g", &["t"]).with_member_id(text("m"));
    for (what, request) in [
        ("no group", whole().with_group_id(GroupId(text("")))),
        ("no member beyond the first time", whole().with_member_id(text("")).with_member_epoch(1)),
        ("an epoch that cannot be", whole().with_member_epoch(-3)),
        ("an empty instance", whole().with_instance_id(Some(text("")))),
        ("a static member without an instance", whole().with_member_epoch(-2)),
        ("no time to rebalance", whole().with_rebalance_timeout_ms(-1)),
        ("no topics", whole().with_subscribed_topic_names(None)),
        ("an assignor nobody has", whole().with_server_assignor(Some(text("fair")))),
        ("a member nobody knows", whole().with_member_epoch(3)),
        ("a member nobody knows leaves", whole().with_member_epoch(-1)),
    ] {
        note(what, told(&ask(client, &request)));
    }
    let (mut a, said) = Member::join(client, "g", "a");
    note("the first joins", said);
    let (mut b, _) = Member::join(client, "g", "b");
    until(client, id, &mut [&mut a, &mut b], 3);
    let mut held: Owned = a.owned.iter().chain(&b.owned).copied().collect();
    held.sort_unstable();
    note("all are read", format!("{held:?}"));

    for (what, epoch, version) in [("its epoch", b.epoch, 9), ("another epoch", b.epoch + 5, 9), ("an older one", 0, 9)]
    {
        note(&format!("a commit with {what}"), format!("{}", commit(client, "g", "b", epoch, version)));
    }
    note("a commit by nobody", format!("{}", commit(client, "g", "x", b.epoch, 9)));
    note("a commit by none", format!("{}", commit(client, "g", "", -1, 9)));
    let mut wrong = Member { epoch: b.epoch + 7, ..b.clone() };
    note("a heartbeat of another epoch", wrong.beat(client, "g", id));
    let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
    let classic = |group: &str| {
        JoinGroupRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(10_000)
            .with_protocol_type(text("connect"))
            .with_protocols(vec![protocol.clone()])
    };
    note("a classic member of another kind", format!("{}", client.call(&classic("g"), 5).error_code));
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("g"))]);
    note("the group is deleted", format!("{}", client.call(&delete, 2).results[0].error_code));
    let describe =
        ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text("g")), GroupId(text("none"))]);
    let answer = client.call(&describe, 0);
    let groups = answer.groups.iter().map(|group| {
        let owned = group
            .members
            .iter()
            .map(|member| member.assignment.topic_partitions.iter().map(|t| t.partitions.len()).sum::<usize>());
        let owned: Vec<usize> = owned.collect();
        (group.error_code, group.group_state.to_string(), group.assignor_name.to_string(), owned)
    });
    let mut groups: Vec<_> = groups.collect();
    groups.sort();
    note("described", format!("{groups:?}"));

    let leave = |member: &Member| {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_member_id(text(member.id.clone()))
            .with_member_epoch(-1)
            .with_rebalance_timeout_ms(-1)
    };
    note("the first leaves", told(&ask(client, &leave(&a))));
    until(client, id, &mut [&mut b], 6);
    note("the second leaves", told(&ask(client, &leave(&b))));
    // Who is in no group may have an id.
    for (what, group) in [("a group without members", "g"), ("a group nobody knows", "new")] {
        for (member, epoch) in [("z", -1), ("z", 3), ("", -1)] {
            for version in [8, 9] {
                let code = commit(client, group, member, epoch, version);
                note(&format!("{what}: a commit by `{member}` of epoch {epoch}, version {version}"), format!("{code}"));
            }
        }
    }
    all
}

/// The answers of Kafka 4.4.0, a line each.
const KAFKA: &str = include_str!("log_consumer_groups.txt");

#[test]
fn members_are_answered_as_by_kafka() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(KafkaConfig::new(dir.path()));
    as_by_kafka(&answers(broker.address), KAFKA);
}

#[test]
fn members_are_answered_so_by_kafka() {
    so_by_kafka(KAFKA, answers);
}
