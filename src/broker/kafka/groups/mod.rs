//! The group coordinator: the groups, their clock, and their committed offsets.

pub(super) mod committed;
pub(super) mod consumer;
pub(super) mod state;
#[cfg(test)]
mod tests;
pub(super) mod waiter;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::super::log::{Log, LogError};
use super::code;
use super::config::KafkaConfig;
use super::counters::{KafkaCounters, add};
use committed::OffsetStore;
use consumer::{Beat, BeatRefusal, BeatReply, ConsumerGroupState, TopicCatalog};
use state::{Group, GroupReply, MemberIdentity};
use waiter::Waiter;

/// How long the coordinator sleeps when no group has a deadline.
const IDLE: Duration = Duration::from_secs(60);

pub(super) type GroupTable = HashMap<String, Group<Waiter>>;
/// Groups of the new protocol that have members.
pub(super) type ConsumerGroups = HashMap<String, ConsumerGroupState>;

/// All groups of this broker.
pub(super) struct Coordinator {
    groups: Mutex<GroupTable>,
    /// Never locked before `groups`.
    consumers: Mutex<ConsumerGroups>,
    log: Arc<Log>,
    session: Duration,
    pub(super) offsets: OffsetStore,
    counters: Arc<KafkaCounters>,
    /// Rung when a deadline may have become earlier.
    changed: Notify,
    next_member: AtomicU64,
    pub(super) delay: Duration,
    pub(super) max_groups: usize,
    pub(super) max_members: usize,
}

/// Milliseconds since the Unix epoch.
pub(super) fn wall() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

impl Coordinator {
    /// Reads the committed offsets.
    pub(super) fn open(
        log: Arc<Log>,
        config: &KafkaConfig,
        counters: Arc<KafkaCounters>,
    ) -> Result<Arc<Self>, LogError> {
        Ok(Arc::new(Self {
            groups: Mutex::default(),
            consumers: Mutex::default(),
            session: config.consumer_session,
            offsets: OffsetStore::open(&log, config.max_groups)?,
            log,
            counters,
            changed: Notify::new(),
            next_member: AtomicU64::new(wall().unsigned_abs() << 20),
            delay: config.initial_rebalance_delay,
            max_groups: config.max_groups,
            max_members: config.max_members,
        }))
    }

    pub(super) fn groups(&self) -> MutexGuard<'_, GroupTable> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn consumers(&self) -> MutexGuard<'_, ConsumerGroups> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topics that members of the new protocol may want.
    fn catalog(&self) -> TopicCatalog {
        let topics = self.log.topics();
        let shown = topics.iter().filter(|topic| !topic.name().starts_with("__"));
        shown.map(|topic| (topic.name().to_string(), (topic.id(), topic.count() as u32))).collect()
    }

    /// Takes what a member of the new protocol says.
    pub(super) fn beat(&self, name: &str, beat: &Beat) -> Result<BeatReply, BeatRefusal> {
        let (catalog, now) = (self.catalog(), Instant::now());
        if self.groups().contains_key(name) {
            return Err((code::GROUP_ID_NOT_FOUND, "the group has members of the classic protocol"));
        }
        let mut consumers = self.consumers();
        if !consumers.contains_key(name) && consumers.len() >= self.max_groups {
            return Err((code::COORDINATOR_NOT_AVAILABLE, "there are as many groups as there may be"));
        }
        if !consumers.contains_key(name) && beat.epoch != 0 {
            return Err((code::GROUP_ID_NOT_FOUND, "there is no such group"));
        }
        let new = || ConsumerGroupState::new(self.session, self.max_members);
        let group = consumers.entry(name.to_owned()).or_insert_with(new);
        let before = group.rebalances;
        let reply = group.beat(beat, &catalog, now);
        add(&self.counters.rebalances, group.rebalances - before);
        if group.members.is_empty() {
            consumers.remove(name);
        }
        self.changed.notify_one();
        reply
    }

    /// Removes the members that are not heard of; returns when to look again.
    fn tick_consumers(&self, now: Instant) -> Option<Instant> {
        let mut consumers = self.consumers();
        let due = |group: &ConsumerGroupState| group.next_deadline().is_some_and(|deadline| deadline <= now);
        if consumers.values().any(due) {
            let catalog = self.catalog();
            consumers.values_mut().filter(|group| due(group)).for_each(|group| group.tick(&catalog, now));
            consumers.retain(|_, group| !group.members.is_empty());
        }
        consumers.values().filter_map(ConsumerGroupState::next_deadline).min()
    }

    /// Whether a member of the new protocol has that epoch; `None` when the group has none.
    pub(super) fn is_current(&self, group: &str, member: &str, epoch: i32) -> Option<Result<(), i16>> {
        self.consumers().get(group).map(|group| group.may_commit(member, epoch))
    }

    /// Whether a member may commit offsets of a group; `None` when the group is not known.
    pub(super) fn may_commit(&self, group: &str, who: MemberIdentity<'_>) -> Option<Result<(), i16>> {
        if let Some(group) = self.consumers().get(group) {
            return Some(group.may_commit(who.member, who.generation));
        }
        let mut groups = self.groups();
        self.with_group(&mut groups, group, |group, _| group.may_commit(who, Instant::now()))
    }

    /// An id no member has.
    pub(super) fn member_id(&self, client: &str) -> String {
        let n = self.next_member.fetch_add(1, Ordering::Relaxed);
        let client: String = client.chars().take(100).collect();
        format!("{client}-{n:016x}")
    }

    /// Changes a group and hands the answers to who waits.
    pub(super) fn with_group<T>(
        &self,
        groups: &mut GroupTable,
        name: &str,
        change: impl FnOnce(&mut Group<Waiter>, &mut Vec<(Waiter, GroupReply)>) -> T,
    ) -> Option<T> {
        let group = groups.get_mut(name)?;
        let mut out = Vec::new();
        let (before, deadline) = (group.rebalances, group.next_deadline());
        let result = change(group, &mut out);
        add(&self.counters.rebalances, group.rebalances - before);
        if group.next_deadline() < deadline || deadline.is_none() {
            self.changed.notify_one();
        }
        if group.is_idle() {
            groups.remove(name);
        }
        for (waiter, answer) in out {
            waiter.answer(answer);
        }
        Some(result)
    }

    /// Forgets what was committed for a topic.
    pub(super) fn forget_topic(&self, topic: &str) {
        self.offsets.forget_topic(topic, wall());
    }

    /// Does what is due in all groups, until it is dropped.
    pub(super) async fn tick(self: Arc<Self>) {
        loop {
            let next = {
                let mut groups = self.groups();
                let now = Instant::now();
                let due = |group: &Group<Waiter>| group.next_deadline().is_some_and(|deadline| deadline <= now);
                let names: Vec<String> = groups.iter().filter(|(_, g)| due(g)).map(|(name, _)| name.clone()).collect();
                for name in names {
                    self.with_group(&mut groups, &name, |group, out| group.tick(now, out));
                }
                let classic = groups.values().filter_map(Group::next_deadline).min();
                drop(groups);
                classic.into_iter().chain(self.tick_consumers(now)).min()
            };
            let until = next.unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}
