//! Fetch sessions (KIP-227): what a client wants of its partitions is kept, so that it says only
//! what has changed, and is told only of partitions that have changed.
//!
//! **Meaning.** A session is a list of partitions and what was last told of each. Its epoch counts
//! the requests: one that is lost or comes twice is noticed. The order of the list is that of
//! answers; what had records goes to its end, so that a small answer is not always of the same
//! partitions.
//!
//! **Bounds.** So many sessions and partitions in all. A new session takes the place of one that
//! was not used for [`IDLE`], or of a smaller one as old; where there is none, the client gets no
//! session and goes on without.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kafka_protocol::messages::TopicName;
use rand::RngExt as _;

use super::code;

/// Sessions at most: Kafka's `max.incremental.fetch.session.cache.slots`.
const MAX_SESSIONS: usize = 1000;
/// Partitions of all sessions at most.
const MAX_PARTITIONS: usize = 500_000;
/// So long a session is kept whatever else is wanted; Kafka's own value.
const IDLE: Duration = Duration::from_secs(120);

/// The epoch of a request that begins a session, and of one that wants none.
const BEGINS: i32 = 0;
const NONE: i32 = -1;

/// A partition, and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WantedPartition {
    pub(super) topic: TopicName,
    pub(super) index: i32,
    pub(super) offset: i64,
    pub(super) max: i32,
    pub(super) leader_epoch: i32,
}

impl WantedPartition {
    fn place(&self) -> PartitionPlace {
        (self.topic.clone(), self.index)
    }
}

/// A topic and a partition.
pub(super) type PartitionPlace = (TopicName, i32);

/// What an answer would say of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartitionStatus {
    pub(super) code: i16,
    pub(super) has_records: bool,
    pub(super) end: i64,
    pub(super) start: i64,
}

/// What a request is to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionRole {
    /// It has none.
    Alone,
    /// One is made of it when it is answered.
    Begins,
    /// It goes on; the session has this epoch until its next request.
    GoesOn { id: i32, epoch: i32 },
}

struct SessionPartition {
    wanted: WantedPartition,
    /// End and start of its log as last told; `None` where it is to be told in any case.
    told: Option<(i64, i64)>,
}

struct FetchSession {
    epoch: i32,
    parts: Vec<SessionPartition>,
}

/// A session, and what decides whether it may be put out.
struct SessionSlot {
    session: Arc<Mutex<FetchSession>>,
    size: usize,
    made: Instant,
    used: Instant,
}

/// The sessions of all clients.
pub(super) struct FetchSessions {
    slots: Mutex<HashMap<i32, SessionSlot>>,
    max_sessions: usize,
    max_partitions: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Partitions of all sessions.
fn held(slots: &HashMap<i32, SessionSlot>) -> usize {
    slots.values().map(|slot| slot.size).sum()
}

fn after(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

impl Default for FetchSessions {
    fn default() -> Self {
        Self::new(MAX_SESSIONS, MAX_PARTITIONS)
    }
}

impl FetchSessions {
    fn new(max_sessions: usize, max_partitions: usize) -> Self {
        Self { slots: Mutex::default(), max_sessions, max_partitions }
    }

    /// Takes a request with this session and epoch: what it is to its session, and everything that
    /// is to be fetched.
    ///
    /// # Errors
    /// When there is no such session, or it expects another epoch.
    pub(super) fn take(
        &self,
        (id, epoch): (i32, i32),
        wanted: Vec<WantedPartition>,
        forgotten: &HashSet<PartitionPlace>,
        now: Instant,
    ) -> Result<(SessionRole, Vec<WantedPartition>), i16> {
        let mut slots = lock(&self.slots);
        if matches!(epoch, BEGINS | NONE) {
            // Whatever was under this number ends.
            slots.remove(&id);
            if epoch == NONE {
                return Ok((SessionRole::Alone, wanted));
            }
            let mut session = FetchSession { epoch, parts: Vec::new() };
            session.update(wanted, &HashSet::new());
            return Ok((SessionRole::Begins, session.parts.into_iter().map(|part| part.wanted).collect()));
        }
        let slot = slots.get_mut(&id).ok_or(code::FETCH_SESSION_ID_NOT_FOUND)?;
        let shared = Arc::clone(&slot.session);
        let mut session = lock(&shared);
        if session.epoch != epoch {
            return Err(code::INVALID_FETCH_SESSION_EPOCH);
        }
        session.update(wanted, forgotten);
        let before = std::mem::replace(&mut slot.size, session.parts.len());
        slot.used = now;
        if slot.size > before && held(&slots) > self.max_partitions {
            slots.remove(&id);
            return Err(code::FETCH_SESSION_ID_NOT_FOUND);
        }
        if session.parts.is_empty() {
            slots.remove(&id);
            return Ok((SessionRole::Alone, Vec::new()));
        }
        drop(slots);
        session.epoch = after(epoch);
        let all = session.parts.iter().map(|part| part.wanted.clone()).collect();
        Ok((SessionRole::GoesOn { id, epoch: session.epoch }, all))
    }

    /// Makes a session of what is being answered; its number, or 0 where there is no room for it.
    pub(super) fn begin(
        &self,
        answered: impl Iterator<Item = (WantedPartition, PartitionStatus)>,
        now: Instant,
    ) -> i32 {
        let parts = answered.map(|(wanted, status)| SessionPartition { wanted, told: status.told() });
        let session = FetchSession { epoch: after(BEGINS), parts: parts.collect() };
        let size = session.parts.len();
        let mut slots = lock(&self.slots);
        if !self.make_room(&mut slots, size, now) {
            return 0;
        }
        let mut rng = rand::rng();
        let id = loop {
            let id = rng.random_range(1..=i32::MAX);
            if !slots.contains_key(&id) {
                break id;
            }
        };
        slots.insert(id, SessionSlot { session: Arc::new(Mutex::new(session)), size, made: now, used: now });
        id
    }

    /// Puts sessions out until there is room for one of this size; whether there is.
    fn make_room(&self, slots: &mut HashMap<i32, SessionSlot>, size: usize, now: Instant) -> bool {
        loop {
            if slots.len() < self.max_sessions && held(slots) + size <= self.max_partitions {
                return true;
            }
            let old = |since: Instant| now.saturating_duration_since(since) > IDLE;
            let idle = slots.iter().filter(|(_, slot)| old(slot.used)).min_by_key(|(_, slot)| slot.used);
            let smaller = || {
                let smaller = slots.iter().filter(|(_, slot)| slot.size < size && old(slot.made));
                smaller.min_by_key(|(_, slot)| slot.size)
            };
            let Some(id) = idle.or_else(smaller).map(|(id, _)| *id) else { return false };
            slots.remove(&id);
        }
    }

    /// Which partitions of a session are to be told of, of those that [`take`](Self::take) gave and
    /// in their order.
    ///
    /// # Errors
    /// When a later request has come meanwhile, or the session is no more.
    pub(super) fn status(&self, (id, epoch): (i32, i32), status: &[PartitionStatus]) -> Result<Vec<bool>, i16> {
        let slots = lock(&self.slots);
        let shared = slots.get(&id).map(|slot| Arc::clone(&slot.session)).ok_or(code::FETCH_SESSION_ID_NOT_FOUND)?;
        drop(slots);
        let mut session = lock(&shared);
        if session.epoch != epoch || session.parts.len() != status.len() {
            return Err(code::INVALID_FETCH_SESSION_EPOCH);
        }
        let told = session.parts.iter_mut().zip(status).map(|(part, status)| {
            let tell = status.has_records || status.code != code::NONE || part.told != status.told();
            part.told = status.told();
            tell
        });
        let told = told.collect();
        let mut with_records = status.iter().map(|status| status.has_records);
        if with_records.any(|with| with) && status.len() > 1 {
            let parts = std::mem::take(&mut session.parts);
            let (served, others): (Vec<_>, Vec<_>) =
                parts.into_iter().zip(status).partition(|(_, status)| status.has_records);
            session.parts = others.into_iter().chain(served).map(|(part, _)| part).collect();
        }
        Ok(told)
    }
}

impl PartitionStatus {
    /// What is remembered of it; an error is told until it is over, and then the partition once.
    fn told(&self) -> Option<(i64, i64)> {
        (self.code == code::NONE).then_some((self.end, self.start))
    }
}

impl FetchSession {
    fn update(&mut self, wanted: Vec<WantedPartition>, forgotten: &HashSet<PartitionPlace>) {
        if !wanted.is_empty() {
            let places = self.parts.iter().enumerate().map(|(at, part)| (part.wanted.place(), at));
            let mut places: HashMap<PartitionPlace, usize> = places.collect();
            for wanted in wanted {
                let end = self.parts.len();
                let at = *places.entry(wanted.place()).or_insert(end);
                match self.parts.get_mut(at) {
                    Some(part) => part.wanted = wanted,
                    None => self.parts.push(SessionPartition { wanted, told: None }),
                }
            }
        }
        if !forgotten.is_empty() {
            self.parts.retain(|part| !forgotten.contains(&part.wanted.place()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::protocol::StrBytes;
    use proptest::prelude::*;

    fn wanted(index: i32, offset: i64) -> WantedPartition {
        let topic = TopicName(StrBytes::from_static_str("t"));
        WantedPartition { topic, index, offset, max: 100, leader_epoch: -1 }
    }

    const QUIET: PartitionStatus = PartitionStatus { code: 0, has_records: false, end: 0, start: 0 };

    fn begin(sessions: &FetchSessions, size: i32, now: Instant) -> i32 {
        sessions.begin((0..size).map(|index| (wanted(index, 0), QUIET)), now)
    }

    fn has(sessions: &FetchSessions, id: i32) -> bool {
        lock(&sessions.slots).contains_key(&id)
    }

    #[test]
    fn sessions_are_bounded_and_old_ones_make_room() {
        let (sessions, begun) = (FetchSessions::new(3, 1000), Instant::now());
        let later = |seconds| begun + Duration::from_secs(seconds);
        let ids: Vec<i32> = (0..3).map(|n| begin(&sessions, 10, later(n))).collect();
        assert!(ids.iter().all(|id| *id > 0));
        assert_eq!(begin(&sessions, 10, later(10)), 0, "none is old");
        assert_eq!(begin(&sessions, 11, later(120)), 0, "a smaller one is not old enough");
        sessions.take((ids[0], 1), Vec::new(), &HashSet::new(), later(100)).unwrap();
        sessions.take((ids[1], 1), Vec::new(), &HashSet::new(), later(100)).unwrap();
        let fourth = begin(&sessions, 1, later(130));
        assert!(fourth > 0 && !has(&sessions, ids[2]), "the one not used goes");
        assert_eq!(begin(&sessions, 10, later(131)), 0, "those left are used, and none is smaller and old");
        let fifth = begin(&sessions, 11, later(132));
        assert!(fifth > 0 && has(&sessions, fourth) && has(&sessions, ids[0]) != has(&sessions, ids[1]));
    }

    #[test]
    fn partitions_are_bounded_in_all() {
        let (sessions, now) = (FetchSessions::new(10, 100), Instant::now());
        let first = begin(&sessions, 60, now);
        assert_eq!(begin(&sessions, 60, now), 0);
        let more = (60..120).map(|index| wanted(index, 0)).collect();
        let refused = sessions.take((first, 1), more, &HashSet::new(), now).unwrap_err();
        assert_eq!((refused, has(&sessions, first)), (code::FETCH_SESSION_ID_NOT_FOUND, false));
    }

    #[test]
    fn a_request_out_of_turn_is_refused() {
        let (sessions, now) = (FetchSessions::default(), Instant::now());
        let none = HashSet::new();
        let id = begin(&sessions, 2, now);
        let take = |epoch| sessions.take((id, epoch), Vec::new(), &none, now);
        assert_eq!(take(2).unwrap_err(), code::INVALID_FETCH_SESSION_EPOCH);
        assert_eq!(take(1).unwrap().0, SessionRole::GoesOn { id, epoch: 2 });
        assert_eq!(take(1).unwrap_err(), code::INVALID_FETCH_SESSION_EPOCH);
        assert_eq!(take(2).unwrap().0, SessionRole::GoesOn { id, epoch: 3 });
        assert_eq!(sessions.status((id, 2), &[QUIET; 2]), Err(code::INVALID_FETCH_SESSION_EPOCH));
        assert_eq!(sessions.status((id, 3), &[QUIET; 2]), Ok(vec![false; 2]));
        assert_eq!(sessions.take((id, 0), Vec::new(), &none, now).unwrap().0, SessionRole::Begins);
        assert_eq!(take(3).unwrap_err(), code::FETCH_SESSION_ID_NOT_FOUND);
        let forgotten = [wanted(0, 0).place(), wanted(1, 0).place()].into();
        let id = begin(&sessions, 2, now);
        assert_eq!(sessions.take((id, 1), Vec::new(), &forgotten, now), Ok((SessionRole::Alone, Vec::new())));
        assert!(!has(&sessions, id), "without partitions it is over");
    }

    #[test]
    fn what_had_records_goes_to_the_end() {
        let (sessions, now) = (FetchSessions::default(), Instant::now());
        let id = begin(&sessions, 4, now);
        let order = |epoch| {
            let (_, all) = sessions.take((id, epoch), Vec::new(), &HashSet::new(), now).unwrap();
            all.iter().map(|part| part.index).collect::<Vec<_>>()
        };
        assert_eq!(order(1), [0, 1, 2, 3]);
        let records = PartitionStatus { has_records: true, ..QUIET };
        assert_eq!(sessions.status((id, 2), &[records, QUIET, records, QUIET]), Ok(vec![true, false, true, false]));
        assert_eq!(order(2), [1, 3, 0, 2]);
    }

    proptest! {
        /// Whatever is wanted, forgotten and told: who keeps what it was told knows of every
        /// partition what it would be told without a session.
        #[test]
        fn what_is_told_and_what_was_told_is_everything(
            steps in proptest::collection::vec((
                proptest::collection::vec((0i32..6, 0i64..9), 0..4), proptest::collection::hash_set(0i32..6, 0..3),
                proptest::collection::vec((0i16..2, any::<bool>(), 0i64..3, 0i64..2), 6),
            ), 1..30),
        ) {
            let (sessions, now) = (FetchSessions::default(), Instant::now());
            let (mut at, mut expected) = ((0, BEGINS), HashMap::new());
            let mut known: HashMap<i32, PartitionStatus> = HashMap::new();
            for (changes, forgotten, states) in steps {
                let status = |index: i32| {
                    let (code, has_records, end, start) = states[index as usize];
                    PartitionStatus { code, has_records: has_records && code == 0, end, start }
                };
                if at.1 == BEGINS {
                    expected.clear();
                }
                expected.extend(changes.iter().copied());
                let forget: HashSet<_> = forgotten.iter().map(|index| wanted(*index, 0).place()).collect();
                if at.1 != BEGINS {
                    expected.retain(|index, _| !forgotten.contains(index));
                }
                known.retain(|index, _| expected.contains_key(index));
                let changes = changes.iter().map(|(index, offset)| wanted(*index, *offset)).collect();
                let (role, all) = sessions.take(at, changes, &forget, now).unwrap();
                let offsets: HashMap<i32, i64> = all.iter().map(|part| (part.index, part.offset)).collect();
                prop_assert_eq!(&offsets, &expected);
                let now_is: Vec<_> = all.iter().map(|part| status(part.index)).collect();
                match role {
                    SessionRole::Begins => {
                        known.extend(all.iter().map(|part| (part.index, status(part.index))));
                        let id = sessions.begin(all.into_iter().zip(now_is), now);
                        at = (id, if id == 0 { BEGINS } else { 1 });
                    }
                    SessionRole::GoesOn { id, epoch } => {
                        let told = sessions.status((id, epoch), &now_is).unwrap();
                        let told = all.iter().zip(told).filter(|(_, tell)| *tell);
                        known.extend(told.map(|(part, _)| (part.index, status(part.index))));
                        at = (id, epoch);
                    }
                    SessionRole::Alone => at = (0, BEGINS),
                }
                for index in expected.keys() {
                    let (told, is) = (known[index], status(*index));
                    // Records are told when they are there, and not afterwards.
                    prop_assert_eq!(PartitionStatus { has_records: is.has_records, ..told }, is);
                    prop_assert!(!is.has_records || told.has_records);
                }
            }
        }
    }
}
