//! Whether the records of a batch may be stored, and which may not, by the rules of Kafka; and how
//! they are compressed.

use std::ops::ControlFlow;

use super::super::log::{BatchHeader, TopicSettings};
use super::batch;
use super::blocking::run_blocking;
use super::code;
use super::compressed::{MAX_LEN, RecordSummary, Unreadable, convert, walk};
use super::store::ProduceRefusal;

/// Records of one batch that are named in an answer at most; the words of the answer count them
/// all.
const MAX_NAMED: usize = 1000;
/// Records that are named in the words of an answer.
const IN_WORDS: usize = 3;

/// Looks into the records where a rule asks for it: on a compacted topic, and when a time is ahead
/// of the broker's clock.
///
/// # Errors
/// When a record may not be stored, with the records it is about, or when the records cannot be
/// read.
pub(super) fn check(
    batch: &[u8],
    view: &BatchHeader,
    settings: &TopicSettings,
    topic: &str,
    now: i64,
) -> Result<(), ProduceRefusal> {
    let latest = now.saturating_add(i64::try_from(settings.timestamp_after_ms).unwrap_or(i64::MAX));
    let ahead = view.max_timestamp > latest;
    if !ahead && !settings.compact {
        return Ok(());
    }
    let mut refused = Refused::default();
    let look = |refused: &mut Refused| {
        walk(batch, |record| {
            refused.look(record, view, settings, topic, latest);
            ControlFlow::Continue(())
        })
    };
    let read = if batch::is_compressed(batch) { run_blocking(|| look(&mut refused)) } else { look(&mut refused) };
    if let Err(unreadable) = read {
        return Err(self::unreadable(unreadable));
    }
    if refused.count > 0 {
        return Err(refused.refusal());
    }
    if ahead {
        let words = "the batch says its newest record is further ahead than message.timestamp.after.max.ms allows";
        return Err(ProduceRefusal::new(code::INVALID_TIMESTAMP, words));
    }
    Ok(())
}

/// The batch compressed as its topic is set to have it; `None` when it is so already, or when any
/// will do.
///
/// # Errors
/// When its records cannot be decompressed.
pub(super) fn recompressed(batch: &[u8], settings: &TopicSettings) -> Result<Option<Vec<u8>>, ProduceRefusal> {
    match settings.codec {
        Some(codec) if i16::from(codec) != batch::codec(batch) => {
            run_blocking(|| convert(batch, codec)).map(Some).map_err(unreadable)
        }
        _ => Ok(None),
    }
}

fn unreadable(why: Unreadable) -> ProduceRefusal {
    match why {
        Unreadable::TooLong => {
            let words = format!("the records are longer than {MAX_LEN} B when decompressed; send smaller batches");
            ProduceRefusal::new(code::MESSAGE_TOO_LARGE, words)
        }
        Unreadable::Malformed => {
            ProduceRefusal::new(code::INVALID_RECORD, "the records are not what the batch says they are")
        }
    }
}

/// The records of a batch that may not be stored.
#[derive(Default)]
struct Refused {
    count: usize,
    time: bool,
    named: Vec<(i32, String)>,
}

impl Refused {
    fn look(&mut self, record: RecordSummary, view: &BatchHeader, settings: &TopicSettings, topic: &str, latest: i64) {
        if settings.compact && !record.keyed {
            let words = || format!("a compacted topic does not take a record without key: {topic}");
            self.add(record.index, words);
        } else if record.timestamp > latest {
            self.time = true;
            let words = || {
                format!(
                    "timestamp {} of the record at offset {} is after {latest}, the latest that is taken",
                    record.timestamp,
                    view.base + u64::from(record.offset)
                )
            };
            self.add(record.index, words);
        }
    }

    fn add(&mut self, index: i32, words: impl FnOnce() -> String) {
        self.count += 1;
        if self.named.len() < MAX_NAMED {
            self.named.push((index, words()));
        }
    }

    fn refusal(self) -> ProduceRefusal {
        let code = if self.time { code::INVALID_TIMESTAMP } else { code::INVALID_RECORD };
        let first: Vec<String> =
            self.named.iter().take(IN_WORDS).map(|(n, words)| format!("record {n}: {words}")).collect();
        let more = self.count - first.len();
        let mut words = first.join("; ");
        if more > 0 {
            words.push_str(&format!("; and {more} more"));
        }
        ProduceRefusal { records: self.named, ..ProduceRefusal::new(code, words) }
    }
}
