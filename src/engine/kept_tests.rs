//! A store that keeps exactly what it promised is told apart from any that does not.

use super::*;
use crate::plan::{Content, DeliverySpec, Keys, Load, Pattern, Payload, PayloadSize, Places, Topology};
use crate::units::{Bytes, Span};
use proptest::prelude::*;

const SIZE: u64 = 100;
const HEAD: u64 = 10;
const MILLISECOND: Nanos = 1_000_000;
const KEYS: u32 = 7;

fn workload(keys: Keys) -> Workload {
    Workload {
        name: "w".into(),
        pattern: Pattern::Stream,
        topology: Topology { producers: 1, channels: 1, groups: 1, members: 1, reply: false },
        load: Load::Unthrottled { window: 0 },
        payload: Payload { size: PayloadSize::Fixed(Bytes(SIZE)), content: Content::Random },
        delivery: DeliverySpec { durable: true, keys, ..DeliverySpec::default() },
        target: None,
        at: Places::default(),
        intruders: 0,
        idle_connections: 0,
        agents: Default::default(),
    }
}

/// So many messages, one in a millisecond, all acknowledged.
fn sent(messages: u64) -> Sent {
    let mut sent = Sent { sizes: vec![SIZE as u32], ..Sent::default() };
    for n in 0..messages {
        sent.acks.insert(n);
        sent.times.push((n, n * MILLISECOND));
    }
    sent
}

/// A log in segments of so many messages, as a broker keeps it at one instant.
struct KeptLog {
    messages: u64,
    segment: u64,
    now: Nanos,
}

impl KeptLog {
    fn segments(&self) -> Vec<std::ops::Range<u64>> {
        let starts = (0..self.messages).step_by(self.segment.max(1) as usize);
        starts.map(|from| from..(from + self.segment).min(self.messages)).collect()
    }

    /// What it keeps of a limit: whole segments go, and the last one is not cleaned.
    fn kept(&self, keep: Keep, key: impl Fn(u64) -> u64) -> Vec<u64> {
        let mut segments = self.segments();
        if let Some(age) = keep.age {
            segments.retain(|s| s.end == 0 || (s.end - 1) * MILLISECOND + age.0 >= self.now);
        }
        let enough = |left: u64| match keep {
            // Where messages go one by one, no more than the limit is kept.
            Keep { bytes: Some(bytes), .. } if self.segment == 1 => (left + 1) * (SIZE + HEAD) > bytes.0,
            Keep { bytes: Some(bytes), .. } => left * (SIZE + HEAD) >= bytes.0,
            Keep { messages: Some(n), .. } => left >= n,
            _ => false,
        };
        while segments.first().is_some_and(|first| enough(self.messages - first.end)) {
            segments.remove(0);
        }
        if keep.per_key.is_none() {
            return segments.into_iter().flatten().collect();
        }
        let Some(active) = segments.pop() else { return Vec::new() };
        let cleaned: Vec<u64> = segments.into_iter().flatten().collect();
        let newest = |n: &u64| !cleaned.iter().any(|other| other > n && key(*other) == key(*n));
        cleaned.iter().copied().filter(newest).chain(active).collect()
    }
}

/// Holds these numbers against a limit.
fn judge(keep: Keep, segment: u64, messages: u64, there: &[u64], now: Nanos) -> (Kept, bool) {
    let keys = if keep.per_key.is_some() { Keys::Uniform(KEYS) } else { Keys::None };
    let (workload, sent) = (workload(keys), sent(messages));
    let stored = StoredWorkload {
        workload: &workload,
        keep,
        // A segment of one message is a system without segments.
        keeping: Keeping { segment: if segment == 1 { 0 } else { segment * (SIZE + HEAD) }, overhead: (HEAD, HEAD) },
        keys: key_chooser(keys, 5),
        sent: vec![(0, &sent)],
    };
    let message = |n: &u64| ReadMessage { producer: 0, sequence: *n, sent: n * MILLISECOND, bytes: SIZE };
    let messages = there.iter().map(message).collect();
    let kept = stored.judge(&Reading { run: 1, messages, corrupted: 0, begun: now, ended: now });
    let settled = kept.beyond_bytes <= stored.allowed();
    (kept, settled)
}

fn any_keep() -> impl Strategy<Value = Keep> {
    prop_oneof![
        Just(Keep::default()),
        (20u64..200).prop_map(|ms| Keep { age: Some(Span::millis(ms)), ..Keep::default() }),
        (2_000u64..20_000).prop_map(|bytes| Keep { bytes: Some(Bytes(bytes)), ..Keep::default() }),
        (20u64..200).prop_map(|n| Keep { messages: Some(n), ..Keep::default() }),
        Just(Keep { per_key: Some(1), ..Keep::default() }),
    ]
}

fn key(n: u64) -> u64 {
    key_chooser(Keys::Uniform(KEYS), 5).map_or(0, |keys| keys.of(0, n))
}

proptest! {
    #[test]
    fn what_keeps_the_promise_is_said_to(keep in any_keep(), segment in 1u64..40, messages in 1u64..400, later in 0u64..20) {
        // Where messages go one by one a newer value replaces an older one at once.
        let segment = if keep.per_key.is_some() { segment.max(2) } else { segment };
        let log = KeptLog { messages, segment, now: (messages + later) * MILLISECOND };
        let (kept, settled) = judge(keep, segment, messages, &log.kept(keep, key), log.now);
        prop_assert_eq!((kept.missing, kept.reordered, kept.duplicated), (0, 0, 0), "{:?}", keep);
        prop_assert!(settled, "{keep:?}: {kept:?}");
    }

    #[test]
    fn a_message_that_had_to_be_there_is_missed(keep in any_keep(), which in any::<prop::sample::Index>()) {
        let log = KeptLog { messages: 300, segment: 10, now: 300 * MILLISECOND };
        let mut there = log.kept(keep, key);
        // Of the newest, which every limit here keeps: but the last value of its key.
        let newest = there.len() - 8..there.len();
        let owed: Vec<usize> = newest
            .filter(|i| keep.per_key.is_none() || !(there[*i] + 1..300).any(|later| key(later) == key(there[*i])))
            .collect();
        there.remove(owed[which.index(owed.len())]);
        let (kept, _) = judge(keep, 10, 300, &there, log.now);
        prop_assert_eq!(kept.missing, 1, "{:?}", keep);
    }

    #[test]
    fn who_keeps_less_than_promised_is_seen(keep in any_keep(), segment in 1u64..20) {
        let log = KeptLog { messages: 1000, segment, now: 1000 * MILLISECOND };
        let less = Keep {
            age: keep.age.map(|age| Span(age.0 / 4)),
            bytes: keep.bytes.map(|bytes| Bytes(bytes.0 / 4)),
            messages: keep.messages.map(|n| n / 4),
            ..keep
        };
        let there: Vec<u64> = match keep.limits() {
            0 => (500..1000).collect(),
            _ if keep.per_key.is_some() => log.kept(keep, key).into_iter().filter(|n| key(*n) != 3).collect(),
            _ => log.kept(less, key),
        };
        // A segment may keep what the lower limit would not.
        prop_assume!(there.len() as u64 + segment + 5 < log.kept(keep, key).len() as u64 || keep.per_key.is_some());
        let (kept, _) = judge(keep, segment, 1000, &there, log.now);
        prop_assert!(kept.missing > 0, "{keep:?}: {kept:?}");
    }

    #[test]
    fn who_removes_nothing_is_seen(keep in any_keep(), segment in 1u64..20) {
        prop_assume!(keep.limits() > 0);
        let there: Vec<u64> = (0..1000).collect();
        let (kept, settled) = judge(keep, segment, 1000, &there, 1000 * MILLISECOND);
        prop_assert_eq!(kept.missing, 0, "{:?}", keep);
        prop_assert!(!settled, "{keep:?}: {kept:?}");
    }
}

#[test]
fn disorder_and_copies_are_counted() {
    let (kept, _) = judge(Keep::default(), 1, 5, &[0, 1, 3, 2, 4, 4], 0);
    assert_eq!((kept.reordered, kept.duplicated, kept.missing), (1, 1, 0));
}

/// Where not even the stream is left, all that was acknowledged is missing, and nothing holds.
#[test]
fn a_stream_that_is_gone_has_lost_all_of_it() {
    let w = workload(Keys::None);
    let all_sent = sent(2_000);
    let stored = StoredWorkload {
        workload: &w,
        keep: Keep::default(),
        keeping: Keeping::default(),
        keys: None,
        sent: vec![(0, &all_sent)],
    };
    let StoredFinding { kept, lost, .. } = stored.nothing(3_000 * MILLISECOND);
    let kept = kept.unwrap();
    assert_eq!((kept.owed, kept.missing, kept.read, kept.holds), (2_000, 2_000, 0, false));
    assert!(kept.only_missing() && kept.promise == "keeps every message", "{kept:?}");
    // So many, of nearly two seconds.
    let (messages, nanos) = lost.iter().fold((0, 0), |(m, n), span| (m + span.messages, n + span.length));
    assert_eq!((messages, nanos), (2_000, 1_999 * MILLISECOND));
}
