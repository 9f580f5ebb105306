//! The flags of the log half, and what the broker says about it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::broker::kafka::{Advertised, KafkaBroker, KafkaConfig};
use crate::broker::log::SyncPolicy;
use crate::units::{Bytes, Span};

/// What only the log half needs.
#[derive(Debug, Args)]
#[command(next_help_heading = "The log (Kafka's protocol)")]
pub struct KafkaArgs {
    /// Serve Kafka clients on this address and port; port 0 takes a free one. Without --listen
    /// nothing else is served.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub kafka: Option<SocketAddr>,

    /// What Kafka clients are told to connect to instead of the address they have reached: of a
    /// proxy, or of this machine as others know it. Without a port: the one listened on.
    #[arg(long, value_name = "HOST[:PORT]", requires = "kafka")]
    pub advertise: Option<Advertised>,

    /// Directory of the log; without it a new one that is removed at the end.
    #[arg(long, value_name = "DIR", requires = "kafka")]
    pub data: Option<PathBuf>,

    /// When records are made to survive a loss of power: `never`, every so often (`50ms`), before
    /// so much is acknowledged and not synced (`1MiB`), or before every acknowledgement (`group`).
    #[arg(long, value_name = "POLICY", default_value = "never", requires = "kafka")]
    pub sync: SyncArg,

    /// Do not write segments full of zeros beforehand to make syncs cheap.
    #[arg(long, requires = "kafka")]
    pub no_prewrite: bool,

    /// Length at which a segment is closed.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", requires = "kafka")]
    pub segment_size: Bytes,

    /// Segments whose newest record is older go; 0s keeps them whatever their age.
    #[arg(long, value_name = "DURATION", default_value = "168h", requires = "kafka")]
    pub retention_time: Span,

    /// The oldest segments of a partition go while at least so much remains.
    #[arg(long, value_name = "SIZE", requires = "kafka")]
    pub retention_size: Option<Bytes>,

    /// The oldest segments of a partition go while at least so many records remain.
    #[arg(long, value_name = "N", requires = "kafka")]
    pub retention_records: Option<u64>,

    /// How often retention and compaction are done.
    #[arg(long, value_name = "DURATION", default_value = "5s", requires = "kafka")]
    pub housekeeping: Span,

    /// The broker's id, as clients see it.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "kafka", value_parser = clap::value_parser!(i32).range(0..))]
    pub node_id: i32,

    /// Partitions of a topic whose maker does not say.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "kafka")]
    pub partitions: u32,

    /// Partitions of all topics together.
    #[arg(long, value_name = "N", default_value_t = 4096, requires = "kafka")]
    pub max_partitions: usize,

    /// Do not make a topic because a client asks for it.
    #[arg(long, requires = "kafka")]
    pub no_auto_create: bool,

    /// How long the first rebalance of a consumer group waits for more members.
    #[arg(long, value_name = "DURATION", default_value = "0s", requires = "kafka")]
    pub rebalance_delay: Span,

    /// Shortest session timeout a member of a consumer group may ask for.
    #[arg(long, value_name = "DURATION", default_value = "6s", requires = "kafka")]
    pub session_timeout_min: Span,

    /// Longest session timeout a member of a consumer group may ask for.
    #[arg(long, value_name = "DURATION", default_value = "30m", requires = "kafka")]
    pub session_timeout_max: Span,

    /// Longest request of a Kafka client.
    #[arg(long, value_name = "SIZE", default_value = "100MiB", requires = "kafka")]
    pub max_request: Bytes,
}

/// What a message's batch has beside its payload: headers, a key of a usual length, and the request
/// around it.
const BATCH_OVERHEAD: usize = 4096;

/// The sync policy, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncArg(pub SyncPolicy);

impl FromStr for SyncArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let policy = match text {
            "never" => SyncPolicy::Never,
            "group" => SyncPolicy::Group,
            _ => match (text.parse::<Span>(), text.parse::<Bytes>()) {
                (Ok(span), _) if span.0 >= 1_000_000 => SyncPolicy::Interval(span.duration()),
                (_, Ok(bytes)) if bytes.0 > 0 => SyncPolicy::Bytes(bytes.0),
                _ => {
                    return Err(format!(
                        "`{text}` is not a sync policy: write never, group, a time of at least 1ms such as 50ms, or a size such as 1MiB"
                    ));
                }
            },
        };
        Ok(Self(policy))
    }
}

/// The policy as it is typed.
pub(super) fn typed(policy: SyncPolicy) -> String {
    match policy {
        SyncPolicy::Never => "never".to_owned(),
        SyncPolicy::Interval(every) => Span(super::nanos(every)).to_string(),
        SyncPolicy::Bytes(bytes) => Bytes(bytes).to_string(),
        SyncPolicy::Group => "group".to_owned(),
    }
}

impl KafkaArgs {
    /// The configuration, with the log in `dir`; messages of `max_payload` bytes are taken.
    pub(super) fn config(&self, listen: SocketAddr, dir: PathBuf, max_payload: usize) -> KafkaConfig {
        let mut config = KafkaConfig::new(dir);
        config.listen = listen;
        config.advertise = self.advertise.clone();
        config.node = self.node_id;
        config.log.sync = self.sync.0;
        config.log.prewrite = !self.no_prewrite;
        config.log.housekeeping = self.housekeeping.duration().max(std::time::Duration::from_millis(10));
        config.log.max_partitions = self.max_partitions;
        let defaults = &mut config.log.defaults;
        defaults.segment_bytes = self.segment_size.0;
        // Without a word, it is Kafka's default.
        if max_payload != crate::broker::Config::default().max_payload {
            defaults.max_batch = max_payload.saturating_add(BATCH_OVERHEAD);
        }
        defaults.retention_ms = (self.retention_time.0 > 0).then_some(self.retention_time.0 / 1_000_000);
        defaults.retention_bytes = self.retention_size.map(|size| size.0);
        defaults.retention_records = self.retention_records;
        config.partitions = self.partitions;
        config.auto_create = !self.no_auto_create;
        config.initial_rebalance_delay = self.rebalance_delay.duration();
        let millis = |span: Span| i32::try_from(span.0 / 1_000_000).unwrap_or(i32::MAX);
        config.sessions = millis(self.session_timeout_min)..=millis(self.session_timeout_max);
        let longest = config.log.defaults.max_batch.saturating_add(BATCH_OVERHEAD);
        config.max_request = usize::try_from(self.max_request.0).unwrap_or(usize::MAX).max(longest);
        config.max_inflight = config.max_inflight.max(config.max_request);
        config
    }

    /// What the ready line says of the log, each value on its own.
    pub(super) fn policy(&self, broker: &KafkaBroker) -> Map<String, Value> {
        let config = broker.config();
        let log = &config.log;
        let recovered = broker.recovered();
        let values = json!({
            "kafka": format!("kafka://{}", broker.local_addr()),
            "advertised": config.advertise.as_ref().map(|a| {
                let port = a.port.unwrap_or_else(|| broker.local_addr().port());
                if a.host.contains(':') { format!("[{}]:{port}", a.host) } else { format!("{}:{port}", a.host) }
            }),
            "session_timeout_ms": [config.sessions.start(), config.sessions.end()],
            "storage": log.dir,
            "storage_kept": self.data.is_some(),
            "max_message_bytes": log.defaults.max_batch,
            "sync": typed(log.sync),
            "sync_prewrite": log.prewrite && log.sync != SyncPolicy::Never,
            "segment_size": log.defaults.segment_bytes,
            "retention_ms": log.defaults.retention_ms,
            "retention_bytes": log.defaults.retention_bytes,
            "retention_records": log.defaults.retention_records,
            "partitions": config.partitions,
            "auto_create": config.auto_create,
            "max_request": config.max_request,
            "max_inflight": config.max_inflight,
            "sasl": if config.users.is_empty() { "none" } else { "plain" },
            "replicas": 1,
            "recovered_batches": recovered.batches,
            "recovered_cut_bytes": recovered.cut,
            "recovered_kept_aside_bytes": recovered.kept,
        });
        match values {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_sync_policy_is_read_and_said_in_the_same_words() {
        for (text, policy) in [
            ("never", SyncPolicy::Never),
            ("group", SyncPolicy::Group),
            ("50ms", SyncPolicy::Interval(Duration::from_millis(50))),
            ("1MiB", SyncPolicy::Bytes(1 << 20)),
        ] {
            assert_eq!(text.parse::<SyncArg>(), Ok(SyncArg(policy)));
            assert_eq!(typed(policy), text);
        }
        for text in ["always", "10", "10us", "0B", ""] {
            assert!(text.parse::<SyncArg>().unwrap_err().contains("write never, group"));
        }
    }
}
