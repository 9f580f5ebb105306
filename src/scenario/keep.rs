//! What a broker is to keep, as a scenario says it.

use super::bounds::{check_count, check_span};
use super::file::WorkloadTable;
use crate::plan::problem::{Problem, Problems};
use crate::plan::{Keep, Keys, Pattern};

/// Values of each key that may be kept.
const MAX_VALUES: u32 = 64;

/// Refuses what cannot be kept, or not be looked at.
pub(super) fn check(at: &str, w: &WorkloadTable, keep: Keep, durable: bool, problems: &mut Problems) {
    let key = format!("{at}.keep");
    let mut refuse = |message: &str, hint: &str| problems.add(Problem::new(&key, message).hint(hint));
    if !durable {
        refuse("only stored messages are kept", "set `durable = true`");
    }
    if matches!(w.pattern, Pattern::KeyValue | Pattern::Replay | Pattern::RequestReply) {
        refuse(&format!("what is kept of {} is not looked at", w.pattern.name()), "use `pattern = \"stream\"`");
    }
    if w.delivery.reject_every.is_some() || w.delivery.dead_every.is_some() {
        refuse("rejected messages are written again elsewhere", "remove `reject-every` and `dead-every`");
    }
    if keep.limits() > 1 {
        refuse("it has more than one limit", "write one of `age`, `bytes`, `messages` and `per-key`");
    }
    if (keep.bytes.is_some() || keep.messages.is_some()) && w.channels.unwrap_or(1) > 1 {
        refuse("systems count it by partition or by stream", "write `channels = 1`");
    }
    if keep.bytes.is_some_and(|bytes| bytes.0 == 0) || keep.messages == Some(0) {
        refuse("nothing would be kept", "write a limit above 0");
    }
    if keep.per_key.is_some() && w.delivery.keys == Keys::None {
        refuse("the messages have no keys", "set `delivery.keys`");
    }
    let several = matches!(w.pattern, Pattern::FanIn | Pattern::MToN);
    if keep.per_key.is_some() && w.producers.map_or(several, |n| n > 1) {
        refuse("of several producers it is not known whose value is the last", "write `producers = 1`");
    }
    for (name, span) in [("age", keep.age), ("within", keep.within)] {
        if let Some(span) = span {
            problems.take(check_span(&format!("{key}.{name}"), span, false));
        }
    }
    if let Some(values) = keep.per_key {
        problems.take(check_count(&format!("{key}.per-key"), values, MAX_VALUES));
    }
}
