//! The group coordinator: the groups, their clock, and their committed offsets.

pub(super) mod committed;
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
use super::config::KafkaConfig;
use super::counters::{KafkaCounters, add};
use committed::OffsetStore;
use state::{Group, GroupReply};
use waiter::Waiter;

/// How long the coordinator sleeps when no group has a deadline.
const IDLE: Duration = Duration::from_secs(60);

pub(super) type GroupTable = HashMap<String, Group<Waiter>>;

/// All groups of this broker.
pub(super) struct Coordinator {
    groups: Mutex<GroupTable>,
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
            offsets: OffsetStore::open(&log, config.max_groups)?,
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
                groups.values().filter_map(Group::next_deadline).min()
            };
            let until = next.unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}
