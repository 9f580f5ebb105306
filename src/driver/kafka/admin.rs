//! What is done to the cluster before and after a trial: reach it, create topics, read back what
//! they promise, find and set the offsets that consumers start from, remove everything again.
//!
//! Consumers always start from explicit offsets, found here before they join. "From the end" as
//! librdkafka itself resolves it, after the assignment, loses what is published in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::bindings as rd;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr as Code};

use super::health::ConnectionHealth;
use super::native::{ClientKind, ClientSettings, EventQueue, NativeClient, TOKEN, give_token, words};
use super::partitions::Partitions;
use crate::driver::{DriverError, Incidents, Start};

/// Pause between two looks whether something is there yet.
const POLL: Duration = Duration::from_millis(10);
/// One attempt to reach a broker: errors of the connection are looked at in between.
const ATTEMPT_MS: i32 = 100;
/// Bound on a group getting rid of its members, the session of a static one included.
const LEAVING: Duration = Duration::from_secs(15);
/// Bound on one question who is in a group.
const ASKING: Duration = Duration::from_secs(10);
/// librdkafka's names for the two ends of a partition.
const FROM_END: i64 = -1;
const FROM_BEGINNING: i64 = -2;

/// Whether it says that there is no such topic.
fn absent(code: Code) -> bool {
    use Code::*;
    matches!(code, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC)
        || code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION
}

/// Administration of one cluster.
pub(super) struct Admin {
    native: Arc<NativeClient>,
    settings: ClientSettings,
    client: AdminClient<DefaultClientContext>,
    url: String,
    timeout: Duration,
}

/// What a topic turned out to be.
#[derive(Debug, Clone, Default)]
pub(super) struct TopicFacts {
    pub(super) partitions: i32,
    pub(super) replicas: usize,
    pub(super) in_sync: usize,
    pub(super) settings: BTreeMap<String, String>,
}

impl Admin {
    /// Connects, within the bound.
    pub(super) fn connect(
        settings: &ClientSettings,
        health: ConnectionHealth,
        timeout: Duration,
    ) -> Result<Self, DriverError> {
        let url = health.url().to_owned();
        let refused =
            |words: String, remedy: &str| DriverError::Connect { url: url.clone(), words, remedy: remedy.into() };
        let native = NativeClient::new(ClientKind::Producer, settings, health)
            .map_err(|words| refused(words, "correct `system.options`"))?;
        let queue = native.queue(ClientKind::Producer);
        let deadline = Instant::now() + timeout;
        while let Err(code) = metadata(&native, ATTEMPT_MS) {
            poll_events(&queue);
            let late = Instant::now() >= deadline;
            if late || native.health().is_fatal() {
                let words = native.health().last().unwrap_or_else(|| words(code));
                let waited = if late { format!(" (tried for {} s)", timeout.as_secs_f64()) } else { String::new() };
                let remedy = "check that a broker runs there and that `system.options` has the right credentials";
                return Err(refused(format!("{words}{waited}"), remedy));
            }
        }
        let known = settings.iter().filter(|(key, _)| *key != TOKEN);
        let config: ClientConfig = known.map(|(k, v)| (k.clone(), v.clone())).collect();
        let client: AdminClient<DefaultClientContext> =
            config.create().map_err(|e| refused(e.to_string(), "correct `system.options`"))?;
        if let Some(token) = settings.get(TOKEN) {
            give_token(client.inner().native_ptr(), token)
                .map_err(|words| refused(words, "correct `system.options.sasl`"))?;
        }
        Ok(Self { native, settings: settings.clone(), client, url, timeout })
    }

    fn error(&self, action: String, words: String, remedy: &str) -> DriverError {
        DriverError::Admin { action, url: self.url.clone(), words, remedy: remedy.into() }
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new().request_timeout(Some(self.timeout)).operation_timeout(Some(self.timeout))
    }

    fn milliseconds(&self) -> i32 {
        i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// Brokers that the cluster knows.
    pub(super) fn brokers(&self) -> Result<usize, DriverError> {
        let found = self.client.inner().fetch_metadata(None, self.timeout);
        let found = found.map_err(|e| self.error("read the metadata".into(), e.to_string(), "look into its log"))?;
        Ok(found.brokers().len())
    }

    /// Creates a topic; where one of that name is left over from a trial that was killed, says so.
    pub(super) async fn create(
        &self,
        name: &str,
        partitions: i32,
        replicas: Option<i32>,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), DriverError> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas.unwrap_or(-1)));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let done = self.client.create_topics([&topic], &self.options()).await;
        let first = done.map_err(|e| e.to_string()).map(|all| all.into_iter().next());
        let words = match first {
            Ok(Some(Ok(_))) => return Ok(()),
            Ok(Some(Err((_, code)))) => code.to_string(),
            Ok(None) => "the broker did not answer for it".into(),
            Err(words) => words,
        };
        let remedy =
            "check `replicas` against the number of brokers, the `topic` settings, and the user's right to create";
        Err(self.error(format!("create the topic {name}"), words, remedy))
    }

    /// Waits until every partition of a topic has a leader and all replicas are in sync, and reads
    /// back what it is.
    pub(super) async fn topic(&self, name: &str) -> Result<TopicFacts, DriverError> {
        let action = || format!("use the topic {name}");
        let deadline = Instant::now() + self.timeout;
        let mut facts = loop {
            let found = self.client.inner().fetch_metadata(Some(name), self.timeout);
            let found = found.map_err(|e| self.error(action(), e.to_string(), "look into the broker's log"))?;
            let Some(topic) = found.topics().first() else {
                return Err(self.error(action(), "the broker does not answer for it".into(), "look into its log"));
            };
            let all = topic.partitions();
            let ready =
                |p: &rdkafka::metadata::MetadataPartition| p.leader() >= 0 && p.isr().len() == p.replicas().len();
            if topic.error().is_none() && !all.is_empty() && all.iter().all(ready) {
                break TopicFacts {
                    partitions: all.len() as i32,
                    replicas: all.iter().map(|p| p.replicas().len()).min().unwrap_or(0),
                    in_sync: all.iter().map(|p| p.isr().len()).min().unwrap_or(0),
                    settings: BTreeMap::new(),
                };
            }
            if Instant::now() >= deadline {
                let words = match topic.error() {
                    Some(code) => words(code),
                    None => "not all partitions have a leader and all their replicas in sync".into(),
                };
                return Err(self.error(action(), words, "create it, or name another; look into the broker's log"));
            }
            tokio::time::sleep(POLL).await;
        };
        let described = self.client.describe_configs([&ResourceSpecifier::Topic(name)], &self.options()).await;
        let described = described.map_err(|e| e.to_string()).and_then(|all| {
            all.into_iter().next().ok_or("no answer".to_owned())?.map_err(|code: RDKafkaErrorCode| code.to_string())
        });
        let described = described.map_err(|words| {
            self.error(format!("read the settings of {name}"), words, "check the user's right to describe settings")
        })?;
        facts.settings = described.entries.into_iter().filter_map(|e| Some((e.name, e.value?))).collect();
        Ok(facts)
    }

    /// Removes topics and groups; what is gone already is fine.
    pub(super) async fn remove(&self, topics: &[String], groups: &[String]) -> Result<(), DriverError> {
        let mut failures = Vec::new();
        if !topics.is_empty() {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            let done = self.client.delete_topics(&names, &self.options()).await;
            let done = done.map_err(|e| self.error("remove topics".into(), e.to_string(), "remove them by hand"))?;
            let gone =
                |code| code == RDKafkaErrorCode::UnknownTopicOrPartition || code == RDKafkaErrorCode::UnknownTopic;
            let failed = done.into_iter().filter_map(Result::err).filter(|(_, code)| !gone(*code));
            failures.extend(failed.map(|(topic, code)| format!("{topic}: {code}")));
        }
        if !groups.is_empty() {
            // A member that was just closed may still be seen for a moment, a static one until its
            // session ends.
            let deadline = Instant::now() + self.timeout.max(LEAVING);
            let mut left: Vec<&str> = groups.iter().map(String::as_str).collect();
            while !left.is_empty() {
                let done = self.client.delete_groups(&left, &self.options()).await;
                let done =
                    done.map_err(|e| self.error("remove groups".into(), e.to_string(), "remove them by hand"))?;
                let failed: Vec<(String, RDKafkaErrorCode)> = done.into_iter().filter_map(Result::err).collect();
                let passing = [
                    RDKafkaErrorCode::NonEmptyGroup,
                    RDKafkaErrorCode::CoordinatorLoadInProgress,
                    RDKafkaErrorCode::CoordinatorNotAvailable,
                    RDKafkaErrorCode::NotCoordinator,
                ];
                let busy = |code| passing.contains(&code);
                failures.extend(
                    failed
                        .iter()
                        .filter(|(_, code)| !busy(*code) && *code != RDKafkaErrorCode::GroupIdNotFound)
                        .map(|(group, code)| format!("{group}: {code}")),
                );
                left.retain(|g| failed.iter().any(|(name, code)| name == g && busy(*code)));
                if !left.is_empty() {
                    if Instant::now() >= deadline {
                        failures.extend(
                            failed.iter().filter(|(_, code)| busy(*code)).map(|(g, code)| format!("{g}: {code}")),
                        );
                        break;
                    }
                    tokio::time::sleep(5 * POLL).await;
                }
            }
        }
        match failures.is_empty() {
            true => Ok(()),
            false => Err(self.error("remove what was created".into(), failures.join("; "), "remove it by hand")),
        }
    }

    /// The offset of every partition that `start` means.
    pub(super) fn resolve(&self, topic: &str, partitions: i32, start: Start) -> Result<Vec<(i32, i64)>, DriverError> {
        let ask = |time: i64| self.offsets_at(topic, partitions, time);
        match start {
            Start::Tail => ask(FROM_END),
            Start::First => ask(FROM_BEGINNING),
            Start::Offset(offset) => Ok((0..partitions).map(|p| (p, offset as i64)).collect()),
            Start::Time(nanos) => {
                // Kafka's timestamps are milliseconds: rounded down, so that nothing that is wanted
                // is left out.
                let mut found = ask((nanos / 1_000_000) as i64)?;
                if found.iter().any(|(_, offset)| *offset < 0) {
                    let ends = ask(FROM_END)?;
                    let end = |p: i32| ends.iter().find(|(q, _)| *q == p).map_or(0, |(_, offset)| *offset);
                    found.iter_mut().filter(|(_, offset)| *offset < 0).for_each(|(p, offset)| *offset = end(*p));
                }
                Ok(found)
            }
        }
    }

    /// The first offset at or after a time in every partition, or the end of the log the time
    /// stands for. A broker may take a moment to find out that it leads a fresh partition.
    fn offsets_at(&self, topic: &str, partitions: i32, time: i64) -> Result<Vec<(i32, i64)>, DriverError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let list = Partitions::of(topic, (0..partitions).map(|p| (p, time)));
            // SAFETY: client and list are valid; the call fills in offsets and is bounded.
            let code = unsafe { rd::rd_kafka_offsets_for_times(self.native.raw(), list.raw(), self.milliseconds()) };
            let code = if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { list.error().unwrap_or(code) } else { code };
            if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Ok(list.offsets().collect());
            }
            let passing = [
                Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
                Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
                Code::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
                Code::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
                Code::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
            ];
            if !passing.contains(&code) || Instant::now() >= deadline {
                if absent(code) {
                    let what = format!("the topic {topic}");
                    return Err(DriverError::Gone { what, url: self.url.clone(), words: words(code) });
                }
                return Err(self.error(format!("find offsets of {topic}"), words(code), "look into the broker's log"));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Commits offsets for a group that has no members yet, by a client that does not join it: it
    /// waits for a coordinator, which the first group of a fresh cluster does not have. Where other
    /// processes have members of it (`shared`), one of them may have set the same before, and
    /// joined.
    ///
    /// librdkafka's request of administration for this ended the process (an assertion of
    /// `rd_kafka_enq_once_del_source_return`) where a coordinator answered after it was given up.
    pub(super) fn position(
        &self,
        group: &str,
        topic: &str,
        offsets: &[(i32, i64)],
        shared: bool,
    ) -> Result<(), DriverError> {
        let refused = |words| {
            let remedy = "check the user's right to this group, and the broker's log";
            self.error(format!("set where the group {group} starts"), words, remedy)
        };
        let mut settings = self.settings.clone();
        for (key, value) in [("group.id", group), ("group.protocol", "classic"), ("enable.auto.commit", "false")] {
            settings.insert(key.into(), value.into());
        }
        // Of a member of the other protocol.
        settings.remove("group.remote.assignor");
        let health = ConnectionHealth::new(&self.url, self.timeout, &Incidents::default());
        let client = NativeClient::new(ClientKind::Consumer, &settings, health).map_err(refused)?;
        let deadline = Instant::now() + self.timeout;
        loop {
            let list = Partitions::of(topic, offsets.iter().copied());
            let left = i32::try_from(deadline.saturating_duration_since(Instant::now()).as_millis());
            let (code, words) = match commit(&client, &list, left.unwrap_or(i32::MAX)) {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            let passing = [
                Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
                Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
                Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
                Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
                Code::RD_KAFKA_RESP_ERR__WAIT_COORD,
                Code::RD_KAFKA_RESP_ERR__TRANSPORT,
                Code::RD_KAFKA_RESP_ERR__TIMED_OUT,
            ];
            let joined = [
                Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
                Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
                Code::RD_KAFKA_RESP_ERR_NON_EMPTY_GROUP,
            ];
            if shared && joined.contains(&code) {
                return Ok(());
            }
            if !passing.contains(&code) || Instant::now() >= deadline {
                let last = client.health().last().map(|last| format!("; {last}")).unwrap_or_default();
                return Err(refused(format!("{words}{last}")));
            }
            std::thread::sleep(2 * POLL);
        }
    }

    /// How many members a group of the classic protocol has, if it has dealt out its partitions;
    /// nothing while it still deals them out, or where nobody answers.
    pub(super) fn settled_members(&self, group: &str) -> Option<usize> {
        let wait = self.timeout.min(ASKING);
        let list = self.client.inner().fetch_group_list(Some(group), wait).ok()?;
        let found = list.groups().iter().find(|found| found.name() == group && found.state() == "Stable")?;
        Some(found.members().len())
    }
}

/// Commits offsets for the group of a client, within the bound.
fn commit(client: &Arc<NativeClient>, offsets: &Partitions, milliseconds: i32) -> Result<(), (Code, String)> {
    let queue = client.new_queue();
    // SAFETY: client, list and queue are valid; the list is copied. An answer that comes after the
    // queue was given back is dropped by librdkafka.
    let code =
        unsafe { rd::rd_kafka_commit_queue(client.raw(), offsets.raw(), queue.raw(), None, std::ptr::null_mut()) };
    if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err((code, words(code)));
    }
    let late = || (Code::RD_KAFKA_RESP_ERR__TIMED_OUT, "no coordinator has answered in time".to_owned());
    let event = queue.event(milliseconds).ok_or_else(late)?;
    event.error()?;
    // SAFETY: the list belongs to the event, which is still here; it is copied.
    let list = unsafe {
        let list = rd::rd_kafka_event_topic_partition_list(event.raw());
        if list.is_null() { list } else { rd::rd_kafka_topic_partition_list_copy(list) }
    };
    Partitions::from_raw(list).error().map_or(Ok(()), |code| Err((code, words(code))))
}

/// Passes on the errors that wait in a producer's main queue.
pub(super) fn poll_events(queue: &EventQueue) {
    while let Some(event) = queue.event(0) {
        if let Err((code, text)) = event.error() {
            queue.client().health().note_error(code as i32, text);
        }
    }
}

/// Whether a broker answers.
fn metadata(client: &NativeClient, milliseconds: i32) -> Result<(), Code> {
    let mut found: *const rd::rd_kafka_metadata = std::ptr::null();
    // SAFETY: the client is valid; the result is destroyed where there is one.
    unsafe {
        let code = rd::rd_kafka_metadata(client.raw(), 0, std::ptr::null_mut(), &mut found, milliseconds);
        if !found.is_null() {
            rd::rd_kafka_metadata_destroy(found);
        }
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(code) }
    }
}
