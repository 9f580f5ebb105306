//! The topics of a directory: `<dir>/topics/<name>/<partition>/`, with the topic's settings in `topic.json`.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::error::LogError;
use super::format::Format;
use super::options::{Options, Settings, SyncPolicy};
use super::partition::{Partition, Shared};
use super::recover::Recovered;
use super::segment::{lock, write_whole};
use super::sync::{Syncer, Task};
use crate::broker::complain;

/// How long a closed segment's file stays open unused.
const IDLE: Duration = Duration::from_secs(60);
/// Producer ids that are taken out of the file at a time.
const PRODUCER_BLOCK: i64 = 1000;
/// Longest name of a topic.
const MAX_NAME: usize = 249;

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// A topic.
pub struct Topic {
    name: Arc<str>,
    id: [u8; 16],
    dir: PathBuf,
    partitions: RwLock<Vec<Arc<Partition>>>,
    meta: Mutex<Meta>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Meta {
    id: String,
    partitions: u32,
    settings: Settings,
    /// What the face that made the topic wants to remember of it.
    labels: BTreeMap<String, String>,
}

impl Topic {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its id, which no other topic has had.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// One of its partitions.
    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        read(&self.partitions).get(usize::try_from(index).ok()?).cloned()
    }

    /// How many partitions it has.
    pub fn count(&self) -> usize {
        read(&self.partitions).len()
    }

    /// Its settings.
    pub fn settings(&self) -> Settings {
        lock(&self.meta).settings.clone()
    }

    /// What the face that made it remembers of it.
    pub fn labels(&self) -> BTreeMap<String, String> {
        lock(&self.meta).labels.clone()
    }

    fn save(&self, meta: &Meta) -> Result<(), LogError> {
        let text = serde_json::to_vec_pretty(meta).unwrap_or_default();
        write_whole(&self.dir.join("topic.json"), &text)
    }

    /// Changes settings and labels.
    ///
    /// # Errors
    /// When they cannot be written down; nothing changes then.
    pub fn change(&self, settings: Settings, labels: BTreeMap<String, String>) -> Result<(), LogError> {
        let mut meta = lock(&self.meta);
        let changed = Meta { settings: settings.clone(), labels, ..meta.clone() };
        self.save(&changed)?;
        *meta = changed;
        let settings = Arc::new(settings);
        for partition in read(&self.partitions).iter() {
            *lock(&partition.settings) = Arc::clone(&settings);
        }
        Ok(())
    }
}

/// All topics of one directory, which no other process may have open.
pub struct Log {
    dir: PathBuf,
    shared: Arc<Shared>,
    topics: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
    /// Serialises the making and deleting of topics.
    changes: Mutex<()>,
    producers: Mutex<ProducerIds>,
    stop: Arc<Stop>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    next_id: AtomicU64,
    _lock: File,
}

#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits so long; `true` when it is over.
    fn wait(&self, span: Duration) -> bool {
        let guard = lock(&self.stopped);
        *self.changed.wait_timeout_while(guard, span, |stopped| !*stopped).unwrap_or_else(PoisonError::into_inner).0
    }
}

struct ProducerIds {
    next: i64,
    reserved: i64,
}

impl Log {
    /// Opens the directory, recovers what is in it, and starts the threads that sync and clean.
    ///
    /// # Errors
    /// When the directory cannot be used, is in use, or a file in it is damaged beyond a torn tail.
    pub fn open(options: Options, format: Arc<dyn Format>) -> Result<(Arc<Self>, Recovered), LogError> {
        let dir = options.dir.clone();
        let topics_dir = dir.join("topics");
        std::fs::create_dir_all(&topics_dir).map_err(LogError::io("make", &topics_dir))?;
        let lock_path = dir.join("lock");
        let held = File::create(&lock_path).map_err(LogError::io("make", &lock_path))?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LogError::InUse(dir)),
            Err(TryLockError::Error(source)) => return Err(LogError::Io { what: "lock", path: lock_path, source }),
        }
        let syncer = match options.sync {
            SyncPolicy::Never => None,
            _ => Some(Syncer::start(options.sync_threads)?),
        };
        let shared = Arc::new(Shared { options, format, syncer, syncs: 0.into(), failures: 0.into() });
        let mut report = Recovered::default();
        let mut topics = BTreeMap::new();
        let mut partitions = 0;
        for entry in std::fs::read_dir(&topics_dir).map_err(LogError::io("read", &topics_dir))? {
            let entry = entry.map_err(LogError::io("read", &topics_dir))?;
            let path = entry.path();
            let Some(name) = entry.file_name().to_str().filter(|name| is_name(name)).map(Arc::<str>::from) else {
                // A topic half deleted or half made.
                std::fs::remove_dir_all(&path).map_err(LogError::io("remove", &path))?;
                continue;
            };
            if !path.join("topic.json").exists() {
                // A crash while the topic was being made: nobody has been told that it exists.
                std::fs::remove_dir_all(&path).map_err(LogError::io("remove", &path))?;
                continue;
            }
            let topic = open_topic(&shared, name, path, &mut report)?;
            partitions += topic.count();
            topics.insert(Arc::clone(&topic.name), Arc::new(topic));
        }
        if partitions > shared.options.max_partitions {
            return Err(LogError::Limit { what: "the partitions found", limit: shared.options.max_partitions });
        }
        let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        let log = Arc::new(Self {
            producers: Mutex::new(ProducerIds { next: 0, reserved: 0 }),
            dir,
            shared,
            topics: RwLock::new(topics),
            changes: Mutex::new(()),
            stop: Arc::default(),
            threads: Mutex::default(),
            next_id: seed.into(),
            _lock: held,
        });
        log.start_threads()?;
        Ok((log, report))
    }

    fn start_threads(self: &Arc<Self>) -> Result<(), LogError> {
        let spawn = |name: &str, every: Duration, work: fn(&Self)| {
            let (stop, log) = (Arc::clone(&self.stop), Arc::downgrade(self));
            let run = move || {
                while !stop.wait(every) {
                    let Some(log) = log.upgrade() else { return };
                    work(&log);
                }
            };
            let builder = std::thread::Builder::new().name(name.to_owned());
            builder.spawn(run).map_err(LogError::io("start a thread for", &self.dir))
        };
        let mut threads = vec![spawn("log-clean", self.shared.options.housekeeping, Self::clean)?];
        if let SyncPolicy::Interval(every) = self.shared.options.sync {
            threads.push(spawn("log-interval", every, Self::sync_all)?);
        }
        *lock(&self.threads) = threads;
        Ok(())
    }

    /// The sync policy in force.
    pub fn sync_policy(&self) -> SyncPolicy {
        self.shared.options.sync
    }

    /// What holds for topics that say nothing else.
    pub fn defaults(&self) -> &Settings {
        &self.shared.options.defaults
    }

    /// Syncs done, and syncs and writes that failed.
    pub fn syncs(&self) -> (u64, u64) {
        (self.shared.syncs.load(Ordering::Relaxed), self.shared.failures.load(Ordering::Relaxed))
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        read(&self.topics).get(name).cloned()
    }

    /// All topics, by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        read(&self.topics).values().cloned().collect()
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// When there is one of that name, a bound would be exceeded, or its files cannot be made.
    pub fn create(
        &self,
        name: &str,
        partitions: u32,
        settings: Settings,
        labels: BTreeMap<String, String>,
    ) -> Result<Arc<Topic>, LogError> {
        let _changing = lock(&self.changes);
        if read(&self.topics).contains_key(name) {
            return Err(LogError::Exists(name.to_owned()));
        }
        if !is_name(name) {
            return Err(LogError::Malformed(
                "a topic's name is 1 to 249 letters, digits, dots, hyphens or underscores",
            ));
        }
        self.room_for(partitions as usize)?;
        let dir = self.dir.join("topics").join(name);
        std::fs::create_dir_all(&dir).map_err(LogError::io("make", &dir))?;
        let id = self.new_id();
        let meta = Meta { id: id.iter().map(|b| format!("{b:02x}")).collect(), partitions, settings, labels };
        let topic = Topic {
            name: name.into(),
            id,
            dir,
            partitions: RwLock::default(),
            meta: Mutex::new(Meta { partitions: 0, ..meta.clone() }),
        };
        if let Err(error) = self.add_partitions(&topic, partitions) {
            // What was made of it is worth nothing.
            let _ = std::fs::remove_dir_all(&topic.dir);
            return Err(error);
        }
        let topic = Arc::new(topic);
        write(&self.topics).insert(Arc::clone(&topic.name), Arc::clone(&topic));
        Ok(topic)
    }

    /// Gives a topic more partitions, up to `count`.
    ///
    /// # Errors
    /// When it has as many already, a bound would be exceeded, or files cannot be made.
    pub fn grow(&self, topic: &Topic, count: u32) -> Result<(), LogError> {
        let _changing = lock(&self.changes);
        let have = topic.count();
        if (count as usize) <= have {
            return Err(LogError::Malformed("a topic has at least as many partitions already"));
        }
        self.room_for(count as usize - have)?;
        self.add_partitions(topic, count)
    }

    fn room_for(&self, more: usize) -> Result<(), LogError> {
        let limit = self.shared.options.max_partitions;
        let have: usize = read(&self.topics).values().map(|topic| topic.count()).sum();
        if more > limit || have > limit - more {
            return Err(LogError::Limit { what: "the number of partitions", limit });
        }
        Ok(())
    }

    fn add_partitions(&self, topic: &Topic, count: u32) -> Result<(), LogError> {
        let mut meta = lock(&topic.meta);
        let settings = Arc::new(meta.settings.clone());
        let have = topic.count() as u32;
        let open = |n: u32| {
            let dir = topic.dir.join(n.to_string());
            Partition::open(&dir, Arc::clone(&self.shared), Arc::clone(&settings)).map(|(partition, _)| partition)
        };
        let new = (have..count).map(open).collect::<Result<Vec<_>, _>>()?;
        let changed = Meta { partitions: count, ..meta.clone() };
        topic.save(&changed)?;
        if self.shared.options.sync != SyncPolicy::Never {
            for dir in [&topic.dir, &self.dir.join("topics")] {
                File::open(dir).and_then(|d| d.sync_all()).map_err(LogError::io("sync", dir))?;
            }
        }
        *meta = changed;
        write(&topic.partitions).extend(new);
        Ok(())
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// When there is none of that name, or its directory cannot be removed.
    pub fn delete(&self, name: &str) -> Result<(), LogError> {
        let _changing = lock(&self.changes);
        let topic = write(&self.topics).remove(name).ok_or_else(|| LogError::Unknown(name.to_owned()))?;
        for partition in read(&topic.partitions).iter() {
            partition.mark_deleted();
        }
        // A name no topic can have, so that the next start removes what this one cannot.
        let hex: String = topic.id.iter().map(|b| format!("{b:02x}")).collect();
        let gone = self.dir.join("topics").join(format!("{hex}~"));
        std::fs::rename(&topic.dir, &gone).map_err(LogError::io("rename", &topic.dir))?;
        std::fs::remove_dir_all(&gone).map_err(LogError::io("remove", &gone))
    }

    /// An id no producer of this log has had.
    ///
    /// # Errors
    /// When it cannot be written down that it is taken.
    pub fn producer_id(&self) -> Result<i64, LogError> {
        let mut ids = lock(&self.producers);
        if ids.next >= ids.reserved {
            let path = self.dir.join("producer-ids");
            let taken = match std::fs::read_to_string(&path) {
                Ok(text) => text.trim().parse().map_err(|_| LogError::Damaged {
                    path: path.clone(),
                    reason: "it should hold one number".into(),
                })?,
                Err(_) => 0i64,
            };
            let reserved = taken.max(ids.reserved) + PRODUCER_BLOCK;
            write_whole(&path, reserved.to_string().as_bytes())?;
            ids.next = reserved - PRODUCER_BLOCK;
            ids.reserved = reserved;
        }
        ids.next += 1;
        Ok(ids.next)
    }

    /// A random-looking id: time of the start, mixed with a count.
    fn new_id(&self) -> [u8; 16] {
        let mix = |mut z: u64| {
            // The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let n = self.next_id.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&mix(n).to_be_bytes());
        id[8..].copy_from_slice(&mix(n ^ u64::from(std::process::id())).to_be_bytes());
        // The bits of a version 4 UUID.
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        id
    }

    fn partitions(&self) -> Vec<Arc<Partition>> {
        self.topics().iter().flat_map(|topic| read(&topic.partitions).clone()).collect()
    }

    fn sync_all(&self) {
        for partition in self.partitions() {
            if partition.mark_dirty()
                && let Some(syncer) = &self.shared.syncer
            {
                syncer.ask(Task::Sync(partition));
            }
        }
    }

    /// Retention, compaction, closing of files unused; also done every [`Options::housekeeping`].
    pub fn clean(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        for partition in self.partitions() {
            let result = partition.retain(now).and_then(|_| partition.compact(now));
            if let Err(error) = result
                && !partition.is_deleted()
            {
                complain(&error);
            }
            let segments = lock(&partition.view).segments.clone();
            segments.iter().for_each(|segment| segment.close_unused(IDLE));
        }
    }

    /// Ends the threads, syncs everything whatever the policy.
    ///
    /// # Errors
    /// The first of what went wrong; everything is attempted.
    pub fn close(&self) -> Result<(), LogError> {
        *lock(&self.stop.stopped) = true;
        self.stop.changed.notify_all();
        for thread in lock(&self.threads).drain(..) {
            // A thread that has panicked has said so on standard error.
            let _ = thread.join();
        }
        if let Some(syncer) = &self.shared.syncer {
            syncer.close();
        }
        self.partitions().iter().map(Partition::close).fold(Ok(()), Result::and)
    }
}

fn open_topic(shared: &Arc<Shared>, name: Arc<str>, dir: PathBuf, report: &mut Recovered) -> Result<Topic, LogError> {
    let path = dir.join("topic.json");
    let damaged = |reason: String| LogError::Damaged { path: path.clone(), reason };
    let text = std::fs::read(&path).map_err(LogError::io("read", &path))?;
    let meta: Meta = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    let mut id = [0; 16];
    for (n, byte) in id.iter_mut().enumerate() {
        let digits = meta.id.get(n * 2..n * 2 + 2).unwrap_or("");
        *byte = u8::from_str_radix(digits, 16).map_err(|_| damaged("its id is not 32 hexadecimal digits".into()))?;
    }
    if meta.partitions as usize > shared.options.max_partitions {
        return Err(LogError::Limit { what: "the partitions found", limit: shared.options.max_partitions });
    }
    let settings = Arc::new(meta.settings.clone());
    let mut partitions = Vec::new();
    for n in 0..meta.partitions {
        let dir = dir.join(n.to_string());
        let (partition, found) = Partition::open(&dir, Arc::clone(shared), Arc::clone(&settings))?;
        report.add(found);
        partitions.push(partition);
    }
    Ok(Topic { name, id, dir, partitions: RwLock::new(partitions), meta: Mutex::new(meta) })
}

fn is_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(legal)
}
