//! What the brokers of a launched cluster say of each other while it runs.
//!
//! # Design
//! Metadata is what a broker has heard: one that was cut off tells of a leader that is none any
//! more. So all are asked side by side, each on a connection of its own, the answer of the highest
//! epoch counts, and the leader itself must answer. The active controller is asked for by
//! DescribeQuorum, which a broker passes on to it: what Metadata calls the controller is any broker
//! (KIP-590).

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, DescribeQuorumRequest, ElectLeadersRequest, MetadataRequest,
    MetadataResponse, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::ask::{ask, named};
use super::options::Ports;
use crate::plan::ClusterRole;
use crate::system::ClusterView;

/// Versions of the requests that Kafka speaks since 3.3, when it had KRaft.
const METADATA: i16 = 12;
const QUORUM: i16 = 0;
const REASSIGN: i16 = 0;
const ELECT: i16 = 2;
/// Elect the preferred leader, and no replica that is not in sync.
const PREFERRED: i8 = 0;
/// So long the controller may take.
const TIMEOUT_MS: i32 = 2000;
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Where KRaft keeps what the controllers agree on.
const QUORUM_TOPIC: &str = "__cluster_metadata";

/// The brokers by their ports: node 0 is broker 1.
pub(super) struct KafkaView {
    pub(super) ports: Vec<Ports>,
}

/// What each broker answers, or why it does not, by node.
type MetadataAnswers = Vec<Result<MetadataResponse, String>>;

impl KafkaView {
    /// What every broker answers, all asked side by side: one that stands still takes no time from
    /// the others.
    fn ask_all<R: Request + Sync>(
        &self,
        request: &R,
        version: i16,
        deadline: Instant,
    ) -> Vec<Result<R::Response, String>>
    where
        R::Response: Send,
    {
        let one = |to: SocketAddrV4| ask(to, request, version, deadline);
        std::thread::scope(|scope| {
            let asked: Vec<_> = self.ports.iter().map(|p| scope.spawn(move || one(p.between_brokers()))).collect();
            asked.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("the question panicked".into()))).collect()
        })
    }

    /// The metadata of one topic, or of all, as every broker knows it.
    fn metadata(&self, topic: Option<&str>, deadline: Instant) -> MetadataAnswers {
        let named = |name: &str| vec![MetadataRequestTopic::default().with_name(Some(topic_name(name)))];
        let request = MetadataRequest::default().with_topics(topic.map(named)).with_allow_auto_topic_creation(false);
        self.ask_all(&request, METADATA, deadline)
    }

    fn node(&self, broker: i32) -> Option<u32> {
        u32::try_from(broker - 1).ok().filter(|node| (*node as usize) < self.ports.len())
    }

    /// Partition 0 of a topic as it is now.
    fn first_partition(&self, topic: &str, deadline: Instant) -> Result<MetadataResponsePartition, String> {
        let answers = self.metadata(Some(topic), deadline);
        let newest = answers.iter().flatten().filter_map(first_partition).max_by_key(|p| p.leader_epoch);
        let Some(partition) = newest else {
            return Err(format!("no broker knows the topic {topic} ({})", silent(&answers)));
        };
        let leader = self.node(partition.leader_id.0).ok_or_else(|| format!("partition 0 of {topic} has no leader"))?;
        match &answers[leader as usize] {
            Ok(own) if first_partition(own).is_some_and(|p| p.leader_id == partition.leader_id) => {
                Ok(partition.clone())
            }
            Ok(_) => Err(format!("node {leader} does not know that it leads partition 0 of {topic}")),
            Err(why) => Err(format!("node {leader} leads partition 0 of {topic}, and does not answer: {why}")),
        }
    }

    /// Asks brokers in turn until one answers; each has its share of the time that is left, so that
    /// one that stands still leaves enough to the others.
    fn ask_any<R: Request>(&self, request: &R, version: i16, deadline: Instant) -> Result<R::Response, String> {
        let mut answers = self.ports.iter().enumerate().map(|(i, ports)| {
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / (self.ports.len() - i) as u32;
            ask(ports.between_brokers(), request, version, now + share)
        });
        let mut last = Err("there are no brokers".to_owned());
        answers.find_map(|answer| answer.map_err(|words| last = Err(words)).ok()).map_or(last, Ok)
    }

    /// Makes the first of these replicas of partition 0 the preferred leader.
    fn prefer(&self, topic: &str, replicas: Vec<BrokerId>, deadline: Instant) -> Result<(), String> {
        let partition = ReassignablePartition::default().with_partition_index(0).with_replicas(Some(replicas));
        let topic = ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request =
            AlterPartitionReassignmentsRequest::default().with_timeout_ms(TIMEOUT_MS).with_topics(vec![topic]);
        let answer = self.ask_any(&request, REASSIGN, deadline)?;
        let partitions = answer.responses.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
        let failed = std::iter::once(answer.error_code).chain(partitions).find(|code| *code != 0);
        failed.map_or(Ok(()), |code| Err(format!("the preferred leader is not changed: {}", named(code))))
    }

    /// Elects the preferred leader of partition 0.
    fn elect(&self, topic: &str, deadline: Instant) -> Result<(), String> {
        let partitions = TopicPartitions::default().with_topic(topic_name(topic)).with_partitions(vec![0]);
        let request = ElectLeadersRequest::default()
            .with_election_type(PREFERRED)
            .with_topic_partitions(Some(vec![partitions]))
            .with_timeout_ms(TIMEOUT_MS);
        let answer = self.ask_any(&request, ELECT, deadline)?;
        let partitions = answer.replica_election_results.iter().flat_map(|t| &t.partition_result).map(|p| p.error_code);
        let failed = std::iter::once(answer.error_code).chain(partitions).find(|code| *code != 0);
        failed.map_or(Ok(()), |code| Err(format!("the preferred leader is not elected: {}", named(code))))
    }

    fn controller(&self, deadline: Instant) -> Result<u32, String> {
        let partition = PartitionData::default().with_partition_index(0);
        let topic = TopicData::default()
            .with_topic_name(TopicName(StrBytes::from_static_str(QUORUM_TOPIC)))
            .with_partitions(vec![partition]);
        let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
        let mut why = "there are no brokers".to_owned();
        for answer in self.ask_all(&request, QUORUM, deadline) {
            let told = answer.and_then(|a| match a.topics.first().and_then(|t| t.partitions.first()) {
                Some(p) if a.error_code == 0 && p.error_code == 0 => Ok(p.leader_id.0),
                Some(p) if a.error_code == 0 => Err(named(p.error_code)),
                _ => Err(named(a.error_code)),
            });
            match told.map(|id| self.node(id)) {
                Ok(Some(node)) => return Ok(node),
                Ok(None) => why = "the quorum has no leader".into(),
                Err(words) => why = words,
            }
        }
        Err(format!("the controller is not known: {why}"))
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn first_partition(answer: &MetadataResponse) -> Option<&MetadataResponsePartition> {
    answer.topics.first()?.partitions.iter().find(|p| p.partition_index == 0 && p.leader_id.0 >= 0)
}

/// Who did not answer, and why.
fn silent(answers: &MetadataAnswers) -> String {
    let each = answers.iter().enumerate().filter_map(|(node, a)| Some(format!("node {node}: {}", a.as_ref().err()?)));
    let all: Vec<String> = each.collect();
    if all.is_empty() { "all answer".into() } else { all.join("; ") }
}

impl ClusterView for KafkaView {
    fn nodes(&self, role: ClusterRole, stored: Option<&str>, deadline: Instant) -> Result<Vec<u32>, String> {
        let of_topic = || {
            let topic = stored.ok_or("the workload has no topic")?;
            self.first_partition(topic, deadline)
        };
        match role {
            ClusterRole::All => Ok((0..self.ports.len() as u32).collect()),
            ClusterRole::Controller => Ok(vec![self.controller(deadline)?]),
            ClusterRole::Leader => Ok(self.node(of_topic()?.leader_id.0).into_iter().collect()),
            ClusterRole::Follower => {
                let partition = of_topic()?;
                let others = partition.isr_nodes.iter().filter(|id| **id != partition.leader_id);
                match others.filter_map(|id| self.node(id.0)).collect::<Vec<u32>>() {
                    none if none.is_empty() => Err("no replica follows the leader".into()),
                    some => Ok(some),
                }
            }
            ClusterRole::MetaLeader => Err("Kafka has no meta-leader".into()),
        }
    }

    /// The next replica in sync becomes the preferred leader, and is then elected. All replicas
    /// stay where they are.
    fn transfer(&self, stored: &str, deadline: Instant) -> Result<(), String> {
        let partition = self.first_partition(stored, deadline)?;
        let old = partition.leader_id;
        let next = partition.isr_nodes.iter().find(|id| **id != old).copied();
        let next = next.ok_or_else(|| format!("no replica of {stored} is in sync with its leader"))?;
        let others = partition.replica_nodes.iter().filter(|id| **id != next);
        let order: Vec<BrokerId> = std::iter::once(next).chain(others.copied()).collect();
        self.prefer(stored, order, deadline)?;
        while self.first_partition(stored, deadline)?.replica_nodes.first() != Some(&next) {
            if Instant::now() + PAUSE >= deadline {
                return Err(format!("broker {} is not the preferred leader of {stored} in time", next.0));
            }
            std::thread::sleep(PAUSE);
        }
        self.elect(stored, deadline)
    }

    fn settled(&self, deadline: Instant) -> Result<(), String> {
        let all = self.ports.len();
        let mut answers = Vec::new();
        for (node, answer) in self.metadata(None, deadline).into_iter().enumerate() {
            let answer = answer.map_err(|why| format!("node {node} does not answer: {why}"))?;
            if answer.brokers.len() != all {
                return Err(format!("node {node} knows {} of {all} brokers", answer.brokers.len()));
            }
            answers.push(answer);
        }
        for topic in answers.iter().flat_map(|a| &a.topics) {
            let name = topic.name.as_ref().map_or("", |n| &n.0);
            for p in &topic.partitions {
                if p.leader_id.0 < 0 {
                    return Err(format!("partition {} of {name} has no leader", p.partition_index));
                }
                if p.isr_nodes.len() != p.replica_nodes.len() {
                    let (current, replicas) = (p.isr_nodes.len(), p.replica_nodes.len());
                    return Err(format!(
                        "{current} of {replicas} replicas of partition {} of {name} are in sync",
                        p.partition_index
                    ));
                }
            }
        }
        self.controller(deadline).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener};

    use bytes::BytesMut;
    use kafka_protocol::messages::describe_quorum_response::{PartitionData, TopicData};
    use kafka_protocol::messages::{DescribeQuorumResponse, ElectLeadersResponse, ResponseHeader};
    use kafka_protocol::protocol::{Encodable, HeaderVersion};

    use super::*;

    fn listening() -> (TcpListener, Ports) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let broker = listener.local_addr().unwrap().port();
        (listener, Ports { host: Ipv4Addr::LOCALHOST, client: 0, broker, controller: 0 })
    }

    /// A broker that gives one answer, and takes its time for it: more than the least that a
    /// question has at its deadline.
    fn slow<R: Encodable + HeaderVersion>(response: &R, version: i16) -> Ports {
        let (listener, ports) = listening();
        let mut body = BytesMut::new();
        ResponseHeader::default().encode(&mut body, R::header_version(version)).unwrap();
        response.encode(&mut body, version).unwrap();
        let answer = [&(body.len() as u32).to_be_bytes()[..], &body].concat();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            stream.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize]).unwrap();
            std::thread::sleep(Duration::from_millis(400));
            stream.write_all(&answer).unwrap();
        });
        ports
    }

    /// The kernel takes the connection of a broker that stands still, and nobody answers.
    #[test]
    fn a_broker_that_stands_still_leaves_time_to_the_others() {
        let (_still, first) = listening();
        let partition = PartitionData::default().with_leader_id(BrokerId(2));
        let topic = TopicData::default().with_partitions(vec![partition]);
        let quorum = DescribeQuorumResponse::default().with_topics(vec![topic]);
        let view = KafkaView { ports: vec![first, slow(&quorum, QUORUM)] };
        assert_eq!(view.controller(Instant::now() + Duration::from_secs(2)), Ok(1));

        let view = KafkaView { ports: vec![first, slow(&ElectLeadersResponse::default(), ELECT)] };
        assert_eq!(view.elect("t", Instant::now() + Duration::from_secs(4)), Ok(()));
    }
}
