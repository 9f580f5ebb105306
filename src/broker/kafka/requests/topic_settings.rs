//! The settings of topics under Kafka's names: which there are, which values they take, what they
//! mean to the log.
//!
//! A value that no Kafka takes is refused in Kafka's words. One that promises something this broker
//! does not do is refused, too; one that promises nothing anybody could see is taken and shown.

use std::collections::BTreeMap;

use super::super::compressed;
use crate::broker::log::TopicSettings;

/// What kind of value it is, in the protocol's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConfigKind {
    Boolean = 1,
    Text = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

pub(super) type ConfigLabels = BTreeMap<String, String>;

/// How many replicas must have a record. Kafka sets it for the whole cluster as it starts, and
/// shows it so on every topic.
pub(super) const LEAST_REPLICAS: &str = "min.insync.replicas";

/// The values a setting takes.
#[derive(Debug, Clone, Copy)]
enum AllowedValues {
    Boolean,
    /// From the first to the second.
    Int(i64, i64),
    Long(i64),
    /// A level of gzip, or -1.
    Gzip,
    Ratio,
    OneOf(&'static [&'static str]),
    AnyOf(&'static [&'static str]),
    Replicas,
}

use AllowedValues::{AnyOf, Boolean, Gzip, Int, Long, OneOf, Ratio, Replicas};

/// What the broker makes of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConfigEffect {
    /// What it says.
    Kept,
    /// Nothing, and nobody can tell.
    Hint,
    /// It has the default only.
    Fixed,
}

struct TopicConfig {
    name: &'static str,
    default: &'static str,
    values: AllowedValues,
    effect: ConfigEffect,
}

const MOST: i64 = i32::MAX as i64;
const FOR_EVER: &str = "9223372036854775807";

macro_rules! configs {
    ($($name:literal $effect:ident $values:expr, $default:expr;)*) => {
        &[$(TopicConfig { name: $name, default: $default, values: $values, effect: ConfigEffect::$effect }),*]
    };
}

/// All that Kafka 4.4 has, and one of our own. The default of what is kept is shown from the
/// topic's settings.
const CONFIGS: &[TopicConfig] = configs![
    "cleanup.policy" Kept AnyOf(&["compact", "delete"]), "";
    "compression.gzip.level" Hint Gzip, "-1";
    "compression.lz4.level" Hint Int(1, 17), "9";
    "compression.type" Kept OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), "";
    "compression.zstd.level" Hint Int(-131_072, 22), "3";
    "delete.retention.ms" Kept Long(0), "";
    "errors.deadletterqueue.group.enable" Hint Boolean, "false";
    "file.delete.delay.ms" Hint Long(0), "60000";
    "flush.messages" Fixed Long(1), FOR_EVER;
    "flush.ms" Fixed Long(0), FOR_EVER;
    "follower.replication.throttled.replicas" Hint Replicas, "";
    "index.interval.bytes" Hint Int(0, MOST), "4096";
    "leader.replication.throttled.replicas" Hint Replicas, "";
    "local.retention.bytes" Hint Long(-2), "-2";
    "local.retention.ms" Hint Long(-2), "-2";
    "max.compaction.lag.ms" Kept Long(1), "";
    "max.decompressed.message.bytes" Hint Int(1, MOST), "2147483639";
    "max.message.bytes" Kept Int(0, MOST), "";
    "message.timestamp.after.max.ms" Kept Long(0), "";
    "message.timestamp.before.max.ms" Kept Long(0), "";
    "message.timestamp.type" Kept OneOf(&["CreateTime", "LogAppendTime"]), "";
    "min.cleanable.dirty.ratio" Hint Ratio, "0.5";
    "min.compaction.lag.ms" Kept Long(0), "";
    // A Kafka asks no more of a topic than its replicas, of which there is one.
    "min.insync.replicas" Hint Int(1, MOST), "1";
    "preallocate" Hint Boolean, "false";
    "remote.copy.lag.bytes" Hint Long(-1), "-1";
    "remote.copy.lag.ms" Hint Long(-1), "0";
    "remote.log.copy.disable" Hint Boolean, "false";
    "remote.log.delete.on.disable" Hint Boolean, "false";
    "remote.storage.enable" Fixed Boolean, "false";
    "retention.bytes" Kept Long(i64::MIN), "";
    "retention.ms" Kept Long(-1), "";
    "retention.records" Kept Long(-1), "";
    // Kafka takes 1 MiB at least.
    "segment.bytes" Kept Int(1 << 10, MOST), "";
    "segment.index.bytes" Hint Int(4, MOST), "10485760";
    "segment.jitter.ms" Hint Long(0), "0";
    "segment.ms" Kept Long(1), "";
    "unclean.leader.election.enable" Hint Boolean, "false";
];

fn find(name: &str) -> Option<&'static TopicConfig> {
    CONFIGS.iter().find(|config| config.name == name)
}

impl TopicConfig {
    fn kind(&self) -> ConfigKind {
        match self.values {
            Boolean => ConfigKind::Boolean,
            Int(..) | Gzip => ConfigKind::Int,
            Long(_) => ConfigKind::Long,
            Ratio => ConfigKind::Double,
            OneOf(_) => ConfigKind::Text,
            AnyOf(_) | Replicas => ConfigKind::List,
        }
    }

    /// Why a value is none, in Kafka's words.
    fn check(&self, value: &str) -> Result<(), String> {
        let name = self.name;
        let wrong = |value: &str, words: &str| Err(format!("Invalid value {value} for configuration {name}: {words}"));
        let within = |number: i64, least: i64, most: i64| match number {
            n if n < least => wrong(value, &format!("Value must be at least {least}")),
            n if n > most => wrong(value, &format!("Value must be no more than {most}")),
            _ => Ok(()),
        };
        let options = |all: &[&str]| format!("String must be one of: {}", all.join(", "));
        match self.values {
            Boolean if is_boolean(value) => Ok(()),
            Boolean => wrong(value, "Expected value to be either true or false"),
            Int(least, most) => match value.parse::<i32>() {
                Ok(number) => within(number.into(), least, most),
                Err(_) => wrong(value, "Not a number of type INT"),
            },
            Long(least) => match value.parse() {
                Ok(number) => within(number, least, i64::MAX),
                Err(_) => wrong(value, "Not a number of type LONG"),
            },
            Gzip => match value.parse::<i32>() {
                Ok(-1 | 1..=9) => Ok(()),
                Ok(_) => wrong(value, "Value must be between 1 and 9 or equal to -1"),
                Err(_) => wrong(value, "Not a number of type INT"),
            },
            Ratio => match value.parse::<f64>() {
                Ok(ratio) if ratio < 0.0 => wrong(&written(ratio), "Value must be at least 0"),
                Ok(ratio) if ratio > 1.0 => wrong(&written(ratio), "Value must be no more than 1"),
                Ok(_) => Ok(()),
                Err(_) => wrong(value, "Not a number of type DOUBLE"),
            },
            OneOf(all) if all.contains(&value) => Ok(()),
            OneOf(all) => wrong(value, &options(all)),
            AnyOf(_) if value.is_empty() => Ok(()),
            AnyOf(all) => value.split(',').map(str::trim).try_for_each(|part| match part {
                "" => Err(format!("Configuration '{name}' values must not be empty.")),
                part if all.contains(&part) => Ok(()),
                part => wrong(part, &options(all)),
            }),
            Replicas if is_replicas(value) => Ok(()),
            Replicas => {
                let form = "[partitionId]:[brokerId],[partitionId]:[brokerId],...";
                let words =
                    format!("{name} must be the literal '*' or a list of replicas in the following format: {form}");
                wrong(&format!("[{}]", value.split(',').map(str::trim).collect::<Vec<_>>().join(", ")), &words)
            }
        }
    }
}

fn is_boolean(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
}

/// A number as Java writes it.
fn written(number: f64) -> String {
    if number.abs() < 1e7 {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    if text.contains('.') { text } else { text.replace('E', ".0E") }
}

fn is_replicas(value: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_pair = |part: &str| part.trim().split_once(':').is_some_and(|(a, b)| is_number(a) && is_number(b));
    value.is_empty() || value == "*" || value.split(',').all(is_pair)
}

/// Takes over one value.
///
/// # Errors
/// In words for the client, when the name is not known or the value is not possible.
pub(super) fn set(
    settings: &mut TopicSettings,
    labels: &mut ConfigLabels,
    name: &str,
    value: &str,
) -> Result<(), String> {
    let config = find(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
    let given = value;
    let value = value.trim();
    // Of a truth value Kafka's words quote what was given, of others what they read.
    config.check(if matches!(config.values, Boolean) && !is_boolean(value) { given } else { value })?;
    match config.effect {
        ConfigEffect::Kept => apply(settings, name, value),
        ConfigEffect::Fixed if !value.eq_ignore_ascii_case(config.default) => {
            return Err(match name {
                "remote.storage.enable" => "Tiered Storage functionality is disabled in the broker. Topic cannot be \
                                            configured with remote log storage."
                    .to_owned(),
                _ => format!("{name}: this broker has only `{}`; --sync says when it syncs", config.default),
            });
        }
        ConfigEffect::Hint | ConfigEffect::Fixed => {}
    }
    labels.insert(name.to_owned(), value.to_owned());
    Ok(())
}

/// Puts a value that was found possible where the log reads it.
fn apply(settings: &mut TopicSettings, name: &str, value: &str) {
    let number = value.parse::<i64>().unwrap_or_default();
    let limit = u64::try_from(number).ok();
    let span = number.unsigned_abs();
    match name {
        "cleanup.policy" => {
            // None at all keeps everything, as in Kafka.
            let has = |policy: &str| value.split(',').any(|part| part.trim() == policy);
            settings.delete = has("delete");
            settings.compact = has("compact");
        }
        "retention.ms" => settings.retention_ms = limit,
        "retention.bytes" => settings.retention_bytes = limit,
        "retention.records" => settings.retention_records = limit,
        "segment.bytes" => settings.segment_bytes = span,
        "segment.ms" => settings.segment_ms = limit,
        "delete.retention.ms" => settings.tombstone_ms = span,
        "max.message.bytes" => settings.max_batch = usize::try_from(span).unwrap_or(usize::MAX),
        "message.timestamp.after.max.ms" => settings.timestamp_after_ms = span,
        "message.timestamp.before.max.ms" => settings.timestamp_before_ms = limit.filter(|ms| *ms < i64::MAX as u64),
        "message.timestamp.type" => settings.append_time = value == "LogAppendTime",
        "min.compaction.lag.ms" => settings.compact_after_ms = span,
        "max.compaction.lag.ms" => settings.compact_within_ms = limit.filter(|ms| *ms < i64::MAX as u64),
        "compression.type" => {
            let place = compressed::NAMES.iter().position(|codec| *codec == value);
            settings.codec = place.and_then(|codec| u8::try_from(codec).ok());
        }
        _ => debug_assert!(false, "{name} is kept"),
    }
}

/// The value of a setting that is kept.
fn kept(settings: &TopicSettings, name: &str) -> String {
    let limit = |value: Option<u64>| value.map_or_else(|| "-1".to_owned(), |n| n.to_string());
    let span = |value: Option<u64>| value.map_or_else(|| FOR_EVER.to_owned(), |n| n.to_string());
    match name {
        "cleanup.policy" => match (settings.compact, settings.delete) {
            (true, true) => "compact,delete",
            (true, false) => "compact",
            (false, true) => "delete",
            (false, false) => "",
        }
        .to_owned(),
        "retention.ms" => limit(settings.retention_ms),
        "retention.bytes" => limit(settings.retention_bytes),
        "retention.records" => limit(settings.retention_records),
        "segment.bytes" => settings.segment_bytes.to_string(),
        "segment.ms" => span(settings.segment_ms),
        "delete.retention.ms" => settings.tombstone_ms.to_string(),
        "max.message.bytes" => settings.max_batch.to_string(),
        "message.timestamp.after.max.ms" => settings.timestamp_after_ms.to_string(),
        "message.timestamp.before.max.ms" => span(settings.timestamp_before_ms),
        "message.timestamp.type" => if settings.append_time { "LogAppendTime" } else { "CreateTime" }.to_owned(),
        "min.compaction.lag.ms" => settings.compact_after_ms.to_string(),
        "max.compaction.lag.ms" => span(settings.compact_within_ms),
        _ => {
            let codec = settings.codec.and_then(|codec| compressed::NAMES.get(usize::from(codec)));
            codec.unwrap_or(&"producer").to_string()
        }
    }
}

/// Every setting of a topic with its value and kind.
pub(super) fn shown(settings: &TopicSettings) -> Vec<(&'static str, String, ConfigKind)> {
    let of = |config: &TopicConfig| match config.effect {
        ConfigEffect::Kept => (config.name, kept(settings, config.name), config.kind()),
        ConfigEffect::Hint | ConfigEffect::Fixed => (config.name, config.default.to_owned(), config.kind()),
    };
    CONFIGS.iter().map(of).collect()
}

/// Whether a value is shown as it was given, since the log knows nothing of it.
pub(super) fn is_hint(name: &str) -> bool {
    find(name).is_some_and(|config| config.effect == ConfigEffect::Hint)
}
