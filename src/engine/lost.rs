//! Acknowledged messages that are not there, by when they were sent.

use crate::measure::ledger::SequenceSet;
use crate::units::Nanos;

use super::produce::Sent;

/// Acknowledged messages that were lost and were sent within a short time: when it began, how long
/// it was, and how many they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostSpan {
    pub at: Nanos,
    pub length: Nanos,
    pub messages: u64,
}

/// Acknowledged messages of a producer that are not among those seen, by when they were sent.
pub fn lost_spans(s: &Sent, seen: &SequenceSet, (from, to): (u64, u64)) -> Vec<LostSpan> {
    let next = |i: usize| s.times.get(i + 1).map_or((to, None), |(number, at)| (*number, Some(*at)));
    let mut all = Vec::new();
    for (i, (number, at)) in s.times.iter().enumerate() {
        let (end, then) = next(i);
        // What is before the first that is known was sent just before it.
        let messages = s.acks.count_without(seen, if i == 0 { from } else { *number }, end);
        if messages > 0 {
            let length = then.map_or(0, |then| then.saturating_sub(*at));
            all.push(LostSpan { at: *at, length, messages });
        }
    }
    all
}
