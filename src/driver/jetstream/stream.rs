//! The stream of one workload: what it is called, how it is made, and where consumers read.

use async_nats::HeaderMap;
use serde_json::{Value, json};

use super::api;
use super::batch::{BatchKind, BatchWriter};
use super::domain::ApiRoot;
use super::options::{ConsumeMode, Filter, JetstreamOptions, PublishMode, ReadFrom, Storage};
use crate::plan::{Pattern, ServiceTarget, Workload};
use crate::units::Span;

/// A stream and the options that hold for it.
#[derive(Debug, Clone)]
pub struct WorkloadStream {
    pub name: String,
    /// What is asked of it begins with it.
    pub api: ApiRoot,
    /// What all of its subjects begin with, a dot at the end.
    pub prefix: String,
    pub options: JetstreamOptions,
    /// Values that it keeps of each key, where it is a bucket of a key-value store; otherwise 0.
    history: u32,
    /// Values that it keeps of each key, where the workload says so.
    per_key: Option<u32>,
    channels: u32,
    /// Consumers that may read it at the same time, the one that is made to be read back too.
    consumers: u64,
}

/// Consumers that nats-server 2.15 allows a stream which does not say how many.
const DEFAULT_CONSUMERS: u64 = 1_000;

impl WorkloadStream {
    /// The stream of workload `index` of a trial.
    pub fn of(run: u32, index: usize, w: &Workload, options: &JetstreamOptions) -> Self {
        let (mut options, api) = (options.clone(), ApiRoot::of(options.domain.as_deref()));
        let per_key = w.delivery.keep.and_then(|keep| keep.per_key);
        let consumers = u64::from(w.topology.groups) * u64::from(w.topology.members.max(1)) + 1;
        if let Some(keep) = w.delivery.keep {
            options.max_age = options.max_age.or(keep.age);
            options.max_bytes = options.max_bytes.or(keep.bytes);
            options.max_messages = options.max_messages.or(keep.messages);
        }
        if w.pattern != Pattern::KeyValue {
            let (name, prefix) = (format!("MSGBENCH_{run:08x}_{index}"), format!("mbs.{run:08x}.{index}."));
            return Self { name, api, prefix, options, history: 0, per_key, channels: w.topology.channels, consumers };
        }
        // The watchers of NATS clients are ordered consumers.
        options.consumer.get_or_insert(ConsumeMode::Ordered);
        let bucket = format!("msgbench_{run:08x}_{index}");
        let (name, prefix) = (format!("KV_{bucket}"), format!("$KV.{bucket}."));
        Self {
            name,
            api,
            prefix,
            options,
            history: w.delivery.history,
            per_key,
            channels: w.topology.channels,
            consumers,
        }
    }

    /// The streams of a case: a workload that gets keys has the bucket of another one.
    pub fn all(run: u32, workloads: &[Workload], options: &JetstreamOptions) -> Vec<Self> {
        let index = |(i, w): (usize, &Workload)| match &w.target {
            Some(ServiceTarget::Bucket { bucket }) => workloads.iter().position(|w| w.name == *bucket).unwrap_or(i),
            _ => i,
        };
        let each = workloads.iter().enumerate().map(index);
        each.filter_map(|i| Some(Self::of(run, i, workloads.get(i)?, options))).collect()
    }

    /// What is asked to get a key of a producer, to which its number is added.
    pub fn gets(&self, producer: u32) -> String {
        self.api.subject(&format!("DIRECT.GET.{}.{}", self.name, self.keys(producer)))
    }

    /// Its configuration; that of a bucket is the one that NATS clients make (ADR-8).
    pub fn config(&self) -> Value {
        self.config_of(&self.name, &self.prefix)
    }

    /// The configuration of the stream that messages are copied to, where they are.
    pub fn output(&self) -> Option<Value> {
        self.options.transform.map(|_| self.config_of(&self.read(), &self.output_prefix()))
    }

    /// What the subjects begin with under which messages are copied.
    pub fn output_prefix(&self) -> String {
        self.prefix.replacen("mbs.", "mbs.out.", 1)
    }

    fn config_of(&self, name: &str, prefix: &str) -> Value {
        let mut config = api::stream(name, &format!("{prefix}>"), &self.options);
        if self.history > 0 {
            config["max_msgs_per_subject"] = self.history.into();
            config["discard"] = "new".into();
            for allowed in ["allow_rollup_hdrs", "deny_delete", "allow_direct"] {
                config[allowed] = true.into();
            }
        }
        if let Some(values) = self.options.max_messages_per_key.or(self.per_key) {
            config["max_msgs_per_subject"] = values.into();
        }
        if self.options.message_ttl.is_some() {
            config["allow_msg_ttl"] = true.into();
        }
        self.allow_consumers(&mut config);
        match self.options.publish {
            PublishMode::AtomicBatch => config["allow_atomic"] = true.into(),
            PublishMode::FastBatch => config["allow_batched"] = true.into(),
            PublishMode::Async | PublishMode::Sync | PublishMode::FireAndForget => {}
        }
        config
    }

    /// The headers of a message, those that are asked for among them.
    pub fn headers(&self, asked: Option<HeaderMap>) -> Option<HeaderMap> {
        let Some(ttl) = self.options.message_ttl else { return asked };
        let mut headers = asked.unwrap_or_default();
        headers.insert("Nats-TTL", format!("{}s", ttl.0 / Span::secs(1).0));
        Some(headers)
    }

    /// Bytes of a stored message beside its payload, at least and at most: subject and headers, and
    /// what the store of nats-server adds to each (22 and 8, with headers 4; in memory 16).
    pub fn overhead(&self, keyed: bool, headers: bool) -> (u64, u64) {
        let store = if self.options.storage == Storage::Memory { 16 } else { 30 };
        let subject = self.prefix.len() as u64;
        let (least, most) = if keyed { (5, 14) } else { (1, 5) };
        let head = if headers { 4096 } else { 0 };
        (store + subject + least, store + subject + if self.channels == 1 && !keyed { least } else { most } + head)
    }

    /// The batches of a producer, where messages are published so.
    pub fn batches(&self, producer: u32) -> Option<BatchWriter> {
        let kind = match self.options.publish {
            PublishMode::AtomicBatch => BatchKind::Atomic,
            PublishMode::FastBatch => BatchKind::Fast,
            PublishMode::Async | PublishMode::Sync | PublishMode::FireAndForget => return None,
        };
        let linger = self.options.publish_linger.duration();
        Some(BatchWriter::new(kind, self.options.publish_batch, linger, producer))
    }

    /// The stream that consumers read.
    pub fn read(&self) -> String {
        if self.options.transform.is_some() {
            return format!("{}_OUT", self.name);
        }
        match self.options.read_from {
            ReadFrom::Stream => self.name.clone(),
            ReadFrom::Mirror => format!("{}_MIRROR", self.name),
            ReadFrom::Source => format!("{}_SOURCED", self.name),
        }
    }

    /// The configuration of the copy that consumers read, where they read one.
    pub fn copy(&self) -> Option<Value> {
        let mut config = api::stream(&self.read(), "", &self.options);
        let origin = json!({ "name": self.name });
        match self.options.read_from {
            ReadFrom::Stream => return None,
            ReadFrom::Mirror => config["mirror"] = origin,
            ReadFrom::Source => config["sources"] = json!([origin]),
        }
        // It gets its messages from the other one, and knows none again.
        config["subjects"] = json!([]);
        config["duplicate_window"] = 0.into();
        self.allow_consumers(&mut config);
        Some(config)
    }

    fn allow_consumers(&self, config: &mut Value) {
        if self.consumers > DEFAULT_CONSUMERS {
            config["max_consumers"] = self.consumers.into();
        }
    }

    /// What the number of a key is put behind. Each producer puts keys of its own, so that it is
    /// known which value came after which.
    pub fn keys(&self, producer: u32) -> String {
        match self.history {
            0 => format!("{}key.", self.prefix),
            _ => format!("{}p{producer}.", self.prefix),
        }
    }

    /// What the number of a key is put behind in the subject of a put.
    pub fn puts(&self, producer: u32) -> String {
        let keys = self.keys(producer);
        if self.history == 0 { keys } else { self.api.put(keys) }
    }

    /// What its consumers ask for: all keys of a bucket, as watchers do; otherwise the whole
    /// stream, or each subject by its name.
    pub fn filter(&self) -> Option<Value> {
        if self.options.filter == Filter::Subjects {
            let prefix = if self.options.transform.is_some() { self.output_prefix() } else { self.prefix.clone() };
            let channels = (0..self.channels).map(|channel| format!("{prefix}{channel}"));
            let subjects: Vec<String> = channels.chain([format!("{prefix}key.>")]).collect();
            return Some(json!({ "filter_subjects": subjects }));
        }
        (self.history > 0).then(|| json!({ "filter_subject": format!("{}>", self.prefix) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Content, DeliverySpec, Load, Payload, PayloadSize, Places, Topology};
    use crate::units::Bytes;

    #[test]
    fn a_stream_for_more_consumers_than_the_server_allows_says_how_many() {
        let options = JetstreamOptions::default();
        let of = |groups: u32| {
            let w = Workload {
                name: "w".into(),
                pattern: Pattern::Stream,
                topology: Topology { producers: 1, channels: 1, groups, members: 1, reply: false },
                load: Load::Unthrottled { window: 0 },
                payload: Payload { size: PayloadSize::Fixed(Bytes(128)), content: Content::Zero },
                delivery: DeliverySpec::default(),
                target: None,
                at: Places::default(),
                intruders: 0,
                idle_connections: 0,
                agents: Default::default(),
            };
            WorkloadStream::of(1, 0, &w, &options).config()["max_consumers"].clone()
        };
        assert_eq!((of(4), of(1_000)), (json!(-1), json!(1_001)));
    }
}
