//! The options of a Kafka system that concern its clients, and what they mean in librdkafka's own
//! settings.
//!
//! Everything librdkafka can be told may also be written under `raw`, which wins over what msgbench
//! would set. The table `broker` belongs to the launched broker (see `system::kafka`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::access::{SaslOptions, TlsOptions};
pub(super) use super::choices::{
    Acks, CommitMode, ExactlyOnce, Isolation, PartitionAssignment, ProducerClient, Transform,
};
use super::choices::{Assignor, Compression, GroupProtocol, pace};
use super::native::{ClientKind, ClientSettings};
use super::scalar::Scalar;
use super::share::ShareOptions;
use crate::driver::{DriverError, Target};
use crate::plan::address::KAFKA;
use crate::plan::options::{home, read, sensitive};
use crate::plan::{Address, Keep, Workload};
use crate::units::{Bytes, Span};

/// What Kafka and librdkafka take without being asked: messages up to so many bytes.
const ORDINARY_MESSAGE: u64 = 1_000_000;
/// What a build without OpenSSL says.
const NO_OPENSSL: &str = "this msgbench has neither TLS nor SCRAM nor OAUTHBEARER for Kafka; build it with \
                          `--features kafka-tls` (needs OpenSSL's headers: apt-get install libssl-dev pkg-config) or \
                          `--features kafka-tls-vendored` (needs perl, and minutes)";
/// Sessions of group members, in milliseconds.
const SESSION_MS: u64 = 10_000;
const STATIC_SESSION_MS: u64 = 6000;
/// Room for the headers of a record batch around the largest message.
const BATCH_OVERHEAD: u64 = 4096;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct KafkaOptions {
    #[schemars(extend("secret" = "none"))]
    pub(super) acks: Acks,
    /// What sends messages. Default: "librdkafka".
    pub(super) producers: ProducerClient,
    pub(super) idempotence: bool,
    pub(super) compression: Option<Compression>,
    pub(super) linger: Option<Span>,
    pub(super) batch_size: Option<Bytes>,
    #[schemars(extend("secret" = "none"))]
    pub(super) partitioner: Option<String>,
    pub(super) replicas: Option<i32>,
    min_insync_replicas: Option<u32>,
    /// Settings of the topics that are created.
    #[schemars(extend("secret" = "entries"))]
    pub(super) topic: BTreeMap<String, Scalar>,
    /// Use this topic instead of creating one.
    #[schemars(extend("secret" = "none"))]
    pub(super) existing_topic: Option<String>,
    pub(super) consumers: PartitionAssignment,
    /// With `consumers = "share"`: how they fetch and acknowledge.
    pub(super) share: Option<ShareOptions>,
    /// Who deals partitions out to the members of a group.
    group_protocol: GroupProtocol,
    pub(super) assignor: Option<Assignor>,
    pub(super) static_members: bool,
    pub(super) commit: CommitMode,
    commit_interval: Option<Span>,
    pub(super) isolation: Isolation,
    /// Who copies messages from the topic that is published to into another one, which consumers
    /// read. Default: nobody; "client" with `exactly-once`.
    pub(super) transform: Option<Transform>,
    pub(super) exactly_once: Option<ExactlyOnce>,
    /// Messages of one transaction, and the time after which a smaller one is committed.
    pub(super) transaction_size: u32,
    pub(super) transaction_interval: Span,
    pub(super) tls: Option<TlsOptions>,
    pub(super) sasl: Option<SaslOptions>,
    /// Any librdkafka setting.
    #[schemars(extend("secret" = "entries"))]
    raw: BTreeMap<String, Scalar>,
    /// The system reads it.
    pub(super) broker: serde_json::Value,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            producers: ProducerClient::Librdkafka,
            idempotence: false,
            compression: None,
            linger: None,
            batch_size: None,
            partitioner: None,
            replicas: None,
            min_insync_replicas: None,
            topic: BTreeMap::new(),
            existing_topic: None,
            consumers: PartitionAssignment::Group,
            share: None,
            group_protocol: GroupProtocol::Classic,
            assignor: None,
            static_members: false,
            commit: CommitMode::Auto,
            commit_interval: None,
            isolation: Isolation::ReadCommitted,
            transform: None,
            exactly_once: None,
            transaction_size: 1000,
            transaction_interval: Span::millis(100),
            tls: None,
            sasl: None,
            raw: BTreeMap::new(),
            broker: serde_json::Value::Null,
        }
    }
}

impl KafkaOptions {
    /// Checks them.
    pub(super) fn check(map: &serde_json::Map<String, serde_json::Value>) -> Result<(), String> {
        let options = Self::from_map(map)?;
        if let Some(sasl) = &options.sasl {
            sasl.check().map_err(|words| format!("option `sasl`: {words}"))?;
        }
        options.offline()
    }

    /// Whether what the workloads ask for can be had with these options.
    ///
    /// # Errors
    /// The option that stands against it.
    pub(super) fn suit(map: &serde_json::Map<String, serde_json::Value>, workloads: &[Workload]) -> Result<(), String> {
        let options = Self::from_map(map)?;
        if options.consumers == PartitionAssignment::Share
            && let Some(w) = workloads.iter().find(|w| w.topology.reply)
        {
            return Err(format!("option `consumers`: {} has responders, and share groups answer nothing", w.name));
        }
        workloads.iter().try_for_each(|w| options.suit_fetching(w))?;
        if let Some(w) = workloads.iter().find(|w| w.delivery.keep.is_some()) {
            options.suit_keeping(w)?;
        }
        if options.producers == ProducerClient::Wire {
            let asks = |w: &&Workload| w.topology.reply || w.target.is_some() || w.delivery.keys.count() > 0;
            if let Some(w) = workloads.iter().find(asks) {
                let what = if w.delivery.keys.count() > 0 { "keys" } else { "answers" };
                return Err(format!("option `producers`: {} has {what}, which \"wire\" does not; remove it", w.name));
            }
        }
        let against = match () {
            () if options.transform.is_some() => "transform",
            () if options.exactly_once.is_some() => "exactly-once",
            () if options.existing_topic.is_some() => "existing-topic",
            () => return Ok(()),
        };
        match workloads.iter().find(|w| w.target.is_some()) {
            Some(w) => {
                Err(format!("option `{against}`: {} asks a service, which has topics of its own; remove it", w.name))
            }
            None => Ok(()),
        }
    }

    /// Whether what is kept of a workload can be told to the broker, and counted.
    fn suit_keeping(&self, w: &Workload) -> Result<(), String> {
        let counted = w.delivery.keep.is_some_and(|keep| keep.bytes.is_some());
        let compressed = self.compression.is_some_and(|c| !matches!(c, Compression::None));
        let against = [
            ("transform", self.transform.is_some(), "consumers read another topic"),
            ("exactly-once", self.exactly_once.is_some(), "consumers read another topic"),
            ("existing-topic", self.existing_topic.is_some(), "its settings are its own"),
            ("compression", counted && compressed, "bytes are counted as stored"),
        ];
        match against.iter().find(|(_, written, _)| *written) {
            Some((option, _, why)) => {
                Err(format!("option `{option}`: {} says what is to be kept, and {why}; remove one of the two", w.name))
            }
            None => Ok(()),
        }
    }

    /// Has librdkafka check the settings that are passed on to it.
    fn offline(&self) -> Result<(), String> {
        let mechanism = self.sasl.iter().map(|s| ("sasl.mechanisms", "sasl", s.mechanism().to_owned()));
        let partitioner = self.partitioner.iter().map(|p| ("partitioner", "partitioner", p.clone()));
        let raw = self.raw.iter().map(|(key, value)| (key.as_str(), "raw", value.to_string()));
        for (key, option, value) in mechanism.chain(partitioner).chain(raw) {
            let settings = ClientSettings::from([(key.to_owned(), value)]);
            super::native::check(&settings).map_err(|words| format!("option `{option}`: {words}"))?;
        }
        Ok(())
    }

    /// The options as written, checked against each other.
    ///
    /// # Errors
    /// What does not fit, and what to do.
    pub(super) fn from_map(map: &serde_json::Map<String, serde_json::Value>) -> Result<Self, String> {
        let mut options: Self = read(map)?;
        if let Some(tls) = &mut options.tls {
            tls.find_files();
        }
        for (_, value) in options.raw.iter_mut().filter(|(key, _)| key.ends_with(".location")) {
            *value = Scalar::Text(home(&value.to_string()));
        }
        let refuse = |words: &str| Err(words.to_owned());
        if options.idempotence && options.acks != Acks::All {
            return refuse("idempotence needs acks = \"all\"; remove one of the two");
        }
        if options.transaction_size == 0 || options.transaction_interval.0 == 0 {
            return refuse(
                "a transaction has no messages or no time; raise `transaction-size` and `transaction-interval`",
            );
        }
        options.fit_for_transforming()?;
        options.fit_for_sharing()?;
        options.fit_for_wire()?;
        options.fit_for_fetching()?;
        if options.group_protocol == GroupProtocol::Consumer && options.consumers != PartitionAssignment::Group {
            return refuse("option `group-protocol`: only consumers = \"group\" have one; remove one of the two");
        }
        if options.group_protocol == GroupProtocol::Consumer && options.assignor.is_some() {
            return refuse(
                "option `assignor`: with group-protocol = \"consumer\" the broker assigns; remove it, or write \
                 raw = { \"group.remote.assignor\" = \"uniform\" }",
            );
        }
        let openssl = options.tls.is_some() || options.sasl.as_ref().is_some_and(SaslOptions::needs_openssl);
        if !cfg!(feature = "kafka-tls") && openssl {
            return refuse(NO_OPENSSL);
        }
        Ok(options)
    }

    /// Whether the broker deals out the partitions of a group, and not its members.
    pub(super) fn broker_deals(&self) -> bool {
        self.group_protocol == GroupProtocol::Consumer
    }

    /// Who copies messages to the topic that consumers read; nobody where they read the first one.
    pub(super) fn transform(&self) -> Option<Transform> {
        self.transform.or(self.exactly_once.map(|_| Transform::Client))
    }

    /// How members of share groups fetch and acknowledge.
    pub(super) fn share(&self) -> ShareOptions {
        self.share.clone().unwrap_or_default()
    }

    /// The options of `target`.
    pub(super) fn read(target: &Target) -> Result<Self, DriverError> {
        let refuse = |words: String| DriverError::Admin {
            action: "use `system.options`".into(),
            url: without_credentials(&target.url),
            words,
            remedy: "correct the options".into(),
        };
        Self::from_map(&target.options).map_err(refuse)
    }

    /// What every client of `target` is told.
    pub(super) fn common(&self, target: &Target) -> Result<ClientSettings, DriverError> {
        let address = Address::read(&KAFKA, &target.url).map_err(|e| DriverError::Connect {
            url: without_credentials(&target.url),
            words: e.words,
            remedy: e.remedy,
        })?;
        let mut s = ClientSettings::new();
        let mut set = |key: &str, value: &str| drop(s.insert(key.into(), value.into()));
        set("bootstrap.servers", &address.brokers());
        set("client.id", "msgbench");
        set("allow.auto.create.topics", "false");
        pace(target.reconnect).iter().for_each(|(key, value)| set(key, value));
        let login = match (&self.sasl, address.user) {
            (Some(sasl), _) => Some(sasl.settings()),
            (None, Some(user)) => Some(SaslOptions::plain(user, address.password).settings()),
            (None, None) => None,
        };
        let login = login.transpose().map_err(|words| DriverError::Admin {
            action: "use `system.options.sasl`".into(),
            url: without_credentials(&target.url),
            words,
            remedy: "correct the options".into(),
        })?;
        let protocol = match (self.tls.is_some(), login.is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        set("security.protocol", protocol);
        s.extend(self.tls.iter().flat_map(TlsOptions::settings));
        s.extend(login.into_iter().flatten());
        s.extend(self.raw.iter().map(|(key, value)| (key.clone(), value.to_string())));
        Ok(s)
    }

    /// What a client of this kind is told, `raw` last.
    pub(super) fn settings(
        &self,
        kind: ClientKind,
        target: &Target,
        workload: &Workload,
    ) -> Result<ClientSettings, DriverError> {
        let mut s = self.common(target)?;
        let mut set = |key: &str, value: String| drop(s.insert(key.into(), value));
        let large = Self::large(workload);
        if let Some(largest) = large {
            set("message.max.bytes", largest.to_string());
        }
        match kind {
            ClientKind::Producer => {
                set("acks", self.acks.name().into());
                set("enable.idempotence", (self.idempotence || self.exactly_once.is_some()).to_string());
                if let Some(compression) = self.compression {
                    set("compression.type", format!("{compression:?}").to_lowercase());
                }
                if let Some(linger) = self.linger {
                    set("linger.ms", format!("{}", linger.0 as f64 / 1e6));
                }
                if let Some(size) = self.batch_size {
                    set("batch.size", size.0.to_string());
                }
                if let Some(partitioner) = &self.partitioner {
                    set("partitioner", partitioner.clone());
                }
            }
            ClientKind::Consumer => {
                set("isolation.level", self.isolation.setting().into());
                set("enable.auto.commit", (self.commit == CommitMode::Auto).to_string());
                if let Some(interval) = self.commit_interval {
                    set("auto.commit.interval.ms", (interval.0 / 1_000_000).max(1).to_string());
                }
                // librdkafka ends a client whose group has lost its broker only after a session, on
                // a busy thread; and a static member never leaves: its place is kept for a session.
                // So: Kafka's default of before 3.0, and the shortest session that brokers allow.
                // With the protocol of KIP-848 sessions are the broker's to set.
                match self.group_protocol {
                    GroupProtocol::Classic => {
                        let session = if self.static_members { STATIC_SESSION_MS } else { SESSION_MS };
                        set("session.timeout.ms", session.to_string());
                    }
                    GroupProtocol::Consumer => set("group.protocol", "consumer".into()),
                }
                // Every start is an explicit offset; this is for offsets that retention has removed
                // meanwhile.
                set("auto.offset.reset", "earliest".into());
                if let Some(assignor) = self.assignor {
                    let name = match assignor {
                        Assignor::Range => "range",
                        Assignor::Roundrobin => "roundrobin",
                        Assignor::CooperativeSticky => "cooperative-sticky",
                    };
                    set("partition.assignment.strategy", name.into());
                }
                if let Some(largest) = large {
                    // A fetch returns a first batch of any size, but librdkafka bounds a response
                    // by this.
                    set("receive.message.max.bytes", (largest + 64 * 1024 * 1024).to_string());
                }
            }
        }
        s.extend(self.raw.iter().map(|(key, value)| (key.clone(), value.to_string())));
        Ok(s)
    }

    /// Bytes of the largest batch of a workload, where Kafka would not take it without being asked.
    pub(super) fn large(workload: &Workload) -> Option<u64> {
        let largest = workload.payload.size.largest().0 + BATCH_OVERHEAD;
        (largest > ORDINARY_MESSAGE).then_some(largest)
    }

    /// The name of a static member, where members are to be static.
    pub(super) fn instance(&self, index: u32) -> Option<String> {
        self.static_members.then(|| format!("member-{index}"))
    }

    /// What a new topic is told: what is written, and what its messages need.
    pub(super) fn topic_settings(&self, workload: &Workload) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        if let Some(largest) = Self::large(workload) {
            all.insert("max.message.bytes".into(), largest.to_string());
        }
        if let Some(n) = self.min_insync_replicas {
            all.insert("min.insync.replicas".into(), n.to_string());
        }
        all.extend(workload.delivery.keep.iter().flat_map(kept));
        all.extend(self.topic.iter().map(|(key, value)| (key.clone(), value.to_string())));
        all
    }

    /// Whether messages of a partition keep their order where a request is sent again.
    pub(super) fn keeps_order(&self) -> bool {
        let one_at_a_time = ["max.in.flight", "max.in.flight.requests.per.connection"];
        let is = |key: &str, value: &str| self.raw.get(key).is_some_and(|v| v.to_string() == value);
        self.idempotence
            || self.exactly_once.is_some()
            || is("enable.idempotence", "true")
            || one_at_a_time.iter().any(|key| is(key, "1"))
    }

    /// The raw settings, as they are recorded.
    pub(super) fn raw(&self) -> impl Iterator<Item = (String, String)> {
        self.raw.iter().map(move |(key, value)| {
            (format!("raw {key}"), if sensitive(key) { "(not recorded)".into() } else { value.to_string() })
        })
    }
}

/// A limit of what is kept, as settings of a topic.
fn kept(keep: &Keep) -> Vec<(String, String)> {
    let all = match *keep {
        Keep { age: Some(age), .. } => vec![("retention.ms", age.0.div_ceil(1_000_000).to_string())],
        Keep { bytes: Some(bytes), .. } => {
            vec![("retention.bytes", bytes.0.to_string()), ("retention.ms", "-1".to_owned())]
        }
        // Only the reference broker has it.
        Keep { messages: Some(n), .. } => {
            vec![("retention.records", n.to_string()), ("retention.ms", "-1".to_owned())]
        }
        Keep { per_key: Some(_), .. } => vec![("cleanup.policy", "compact".to_owned())],
        _ => vec![("retention.ms", "-1".to_owned())],
    };
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The URL without user and password: an error may be printed and kept.
pub(super) fn without_credentials(url: &str) -> String {
    let read = Address::read(&KAFKA, url);
    read.map_or_else(|_| "an address that cannot be read".to_owned(), |a| a.bare(&KAFKA))
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
