//! Whether the records of a batch may be stored, and which may not, by the rules of Kafka; and how
//! they are compressed.

use std::ops::{ControlFlow, RangeInclusive};

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

/// Looks into the records where a rule asks for it: on a compacted topic, when a time is ahead of
/// the broker's clock, and where it may not be too old.
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
    let times = times(settings, now);
    let ahead = view.max_timestamp > *times.end();
    if settings.append_time && batch::append_time(batch).is_some() {
        let words = "a client may not say that its records have the time of their append already";
        return Err(ProduceRefusal::new(code::INVALID_TIMESTAMP, words));
    }
    if !ahead && !settings.compact && *times.start() == i64::MIN {
        return Ok(());
    }
    let mut refused = Refused::default();
    let look = |refused: &mut Refused| {
        walk(batch, |record| {
            refused.look(record, view, settings, topic, &times);
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

/// The times that records may have.
fn times(settings: &TopicSettings, now: i64) -> RangeInclusive<i64> {
    if settings.append_time {
        return i64::MIN..=i64::MAX;
    }
    let span = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let earliest = settings.timestamp_before_ms.map_or(i64::MIN, |ms| now.saturating_sub(span(ms)));
    earliest..=now.saturating_add(span(settings.timestamp_after_ms))
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
    fn look(
        &mut self,
        record: RecordSummary,
        view: &BatchHeader,
        settings: &TopicSettings,
        topic: &str,
        times: &RangeInclusive<i64>,
    ) {
        if settings.compact && !record.keyed {
            let words = || format!("a compacted topic does not take a record without key: {topic}");
            self.add(record.index, words);
        } else if !times.contains(&record.timestamp) {
            self.time = true;
            let words = || {
                let (offset, time) = (view.base + u64::from(record.offset), record.timestamp);
                let (earliest, latest) = (times.start(), times.end());
                match time > *latest {
                    true => format!(
                        "timestamp {time} of the record at offset {offset} is after {latest}, the latest that is taken"
                    ),
                    false => format!(
                        "timestamp {time} of the record at offset {offset} is before {earliest}, the earliest that is taken"
                    ),
                }
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
