//! A topic: its partitions, its settings, the file they are written down in.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::ScopedJoinHandle;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, is_unwritten, write_whole};
use super::error::LogError;
use super::ids::IdAllocator;
use super::options::TopicSettings;
use super::partition::{LogContext, Partition};
use super::recover::Recovered;
use super::segment::lock;
use crate::broker::shared::log_error;

/// Longest name of a topic.
const MAX_NAME: usize = 249;
/// Partitions of a topic that are opened at a time.
const OPENERS: usize = 8;

pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

pub struct Topic {
    name: Arc<str>,
    id: [u8; 16],
    dir: PathBuf,
    partitions: RwLock<Vec<Arc<Partition>>>,
    meta: Mutex<TopicMeta>,
    disk: Arc<dyn Disk>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct TopicMeta {
    id: String,
    partitions: u32,
    settings: TopicSettings,
    /// What the face that made the topic wants to remember of it.
    labels: BTreeMap<String, String>,
}

impl TopicMeta {
    /// Of a topic in `dir` whose file says nothing.
    fn guessed(dir: &Path, id: String, settings: TopicSettings) -> Self {
        let partitions = (0..).take_while(|n: &u32| dir.join(n.to_string()).is_dir()).count() as u32;
        Self { id, partitions, settings, labels: BTreeMap::new() }
    }
}

fn write_meta(disk: Option<&dyn Disk>, dir: &Path, meta: &TopicMeta) -> Result<(), LogError> {
    let text = serde_json::to_vec_pretty(meta).unwrap_or_default();
    write_whole(disk, &dir.join("topic.json"), &text)
}

impl Topic {
    /// A topic without partitions, of which nothing is written down.
    pub(super) fn new(
        name: Arc<str>,
        id: [u8; 16],
        dir: PathBuf,
        settings: TopicSettings,
        labels: BTreeMap<String, String>,
        disk: Arc<dyn Disk>,
    ) -> Self {
        let meta = Mutex::new(TopicMeta { id: hex(id), partitions: 0, settings, labels });
        Self { name, id, dir, partitions: RwLock::default(), meta, disk }
    }

    /// Opens a topic that is there, and adds to `report` what recovery did.
    pub(super) fn open(
        shared: &Arc<LogContext>,
        ids: &IdAllocator,
        name: Arc<str>,
        dir: PathBuf,
        report: &mut Recovered,
    ) -> Result<Self, LogError> {
        let path = dir.join("topic.json");
        let damaged = |reason: String| LogError::Damaged { path: path.clone(), reason };
        let text = std::fs::read(&path).map_err(LogError::io("read", &path))?;
        let meta: TopicMeta = if is_unwritten(&text) {
            let meta = TopicMeta::guessed(&dir, hex(ids.topic()), shared.options.defaults.clone());
            let words = format!("it was not synced when the power went; {} partitions found", meta.partitions);
            log_error(damaged(words));
            write_meta(Some(&*shared.options.disk), &dir, &meta)?;
            meta
        } else {
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?
        };
        let mut id = [0; 16];
        for (n, byte) in id.iter_mut().enumerate() {
            let digits = meta.id.get(n * 2..n * 2 + 2).unwrap_or("");
            *byte =
                u8::from_str_radix(digits, 16).map_err(|_| damaged("its id is not 32 hexadecimal digits".into()))?;
        }
        if meta.partitions as usize > shared.options.max_partitions {
            return Err(LogError::Limit { what: "the partitions found", limit: shared.options.max_partitions });
        }
        let settings = Arc::new(meta.settings.clone());
        let mut partitions = Vec::new();
        for opened in recovered(shared, &dir, &settings, meta.partitions)? {
            let (partition, found) = opened?;
            report.add(found);
            partitions.push(partition);
        }
        let disk = Arc::clone(&shared.options.disk);
        Ok(Self { name, id, dir, partitions: RwLock::new(partitions), meta: Mutex::new(meta), disk })
    }

    /// Makes partitions until there are `count`, and writes that down.
    pub(super) fn grow(&self, shared: &Arc<LogContext>, count: u32) -> Result<(), LogError> {
        let mut meta = lock(&self.meta);
        let settings = Arc::new(meta.settings.clone());
        let open = |n: u32| {
            let dir = self.dir.join(n.to_string());
            Partition::open(&dir, Arc::clone(shared), Arc::clone(&settings)).map(|(partition, _)| partition)
        };
        let new = (self.count() as u32..count).map(open).collect::<Result<Vec<_>, _>>()?;
        let changed = TopicMeta { partitions: count, ..meta.clone() };
        write_meta(shared.options.lasting(), &self.dir, &changed)?;
        if let Some(disk) = shared.options.lasting() {
            for dir in self.dir.ancestors().take(2) {
                disk.sync_names(dir).map_err(LogError::io("sync", dir))?;
            }
        }
        *meta = changed;
        write(&self.partitions).extend(new);
        Ok(())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn partitions(&self) -> Vec<Arc<Partition>> {
        read(&self.partitions).clone()
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its id, which no other topic has had.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        read(&self.partitions).get(usize::try_from(index).ok()?).cloned()
    }

    /// How many partitions it has.
    pub fn count(&self) -> usize {
        read(&self.partitions).len()
    }

    pub fn settings(&self) -> TopicSettings {
        lock(&self.meta).settings.clone()
    }

    /// What the face that made it remembers of it.
    pub fn labels(&self) -> BTreeMap<String, String> {
        lock(&self.meta).labels.clone()
    }

    /// Changes settings and labels, so that they survive a loss of power whatever the policy: what
    /// was there before would be lost with them.
    ///
    /// # Errors
    /// When they cannot be written down; nothing changes then.
    pub fn change(&self, settings: TopicSettings, labels: BTreeMap<String, String>) -> Result<(), LogError> {
        let mut meta = lock(&self.meta);
        let changed = TopicMeta { settings: settings.clone(), labels, ..meta.clone() };
        write_meta(Some(&*self.disk), &self.dir, &changed)?;
        self.disk.sync_names(&self.dir).map_err(LogError::io("sync", &self.dir))?;
        *meta = changed;
        let settings = Arc::new(settings);
        for partition in read(&self.partitions).iter() {
            *lock(&partition.settings) = Arc::clone(&settings);
        }
        Ok(())
    }
}

type OpenedTopic = Result<(Arc<Partition>, Recovered), LogError>;

/// Opens so many partitions, several at a time: what recovery waits for is mostly syncs, which then
/// overlap.
fn recovered(
    shared: &Arc<LogContext>,
    dir: &Path,
    settings: &Arc<TopicSettings>,
    count: u32,
) -> Result<Vec<OpenedTopic>, LogError> {
    let open = |n: u32| Partition::open(&dir.join(n.to_string()), Arc::clone(shared), Arc::clone(settings));
    if count < 2 {
        return Ok((0..count).map(open).collect());
    }
    let start = LogError::io("start a thread for", dir);
    let mut opened: Vec<(u32, OpenedTopic)> = std::thread::scope(|scope| {
        let share = |first: u32| {
            let work = move || (first..count).step_by(OPENERS).map(|n| (n, open(n))).collect::<Vec<_>>();
            std::thread::Builder::new().name("log-open".into()).spawn_scoped(scope, work)
        };
        let workers = (0..count.min(OPENERS as u32)).map(share).collect::<Result<Vec<_>, _>>().map_err(start)?;
        let join = |worker: ScopedJoinHandle<'_, _>| worker.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok::<_, LogError>(workers.into_iter().flat_map(join).collect())
    })?;
    opened.sort_unstable_by_key(|(n, _)| *n);
    Ok(opened.into_iter().map(|(_, opened)| opened).collect())
}

/// An id as text.
pub(super) fn hex(id: [u8; 16]) -> String {
    id.iter().map(|b| format!("{b:02x}")).collect()
}

/// Whether a topic may have that name.
pub(super) fn is_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(legal)
}
