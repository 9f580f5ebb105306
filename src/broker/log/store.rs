//! The topics of a directory: `<dir>/topics/<name>/<partition>/`, with the topic's settings in
//! `topic.json`.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::checkpoint;
use super::disk::make_folder;
use super::error::LogError;
use super::format::BatchFormat;
use super::ids::IdAllocator;
use super::options::{LogOptions, SyncPolicy, TopicSettings};
use super::partition::{LogContext, Partition};
use super::recover::Recovered;
use super::segment::lock;
use super::sync::{DiskTask, Syncer};
use super::topic::{Topic, hex, is_name, read, write};
use crate::broker::shared::log_error;

/// How long a closed segment's file stays open unused.
const IDLE: Duration = Duration::from_secs(60);

/// All topics of one directory, which no other process may have open.
pub struct Log {
    dir: PathBuf,
    shared: Arc<LogContext>,
    topics: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
    /// Serialises the making and deleting of topics.
    changes: Mutex<()>,
    ids: IdAllocator,
    stop: Arc<StopSignal>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: File,
}

#[derive(Default)]
struct StopSignal {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl StopSignal {
    /// Waits so long; `true` when it is over.
    fn wait(&self, span: Duration) -> bool {
        let guard = lock(&self.stopped);
        *self.changed.wait_timeout_while(guard, span, |stopped| !*stopped).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Log {
    /// Opens the directory, recovers what is in it, and starts the threads that sync and clean.
    ///
    /// # Errors
    /// When the directory cannot be used, is in use, or a file in it is damaged beyond a torn tail.
    pub fn open(options: LogOptions, format: Arc<dyn BatchFormat>) -> Result<(Arc<Self>, Recovered), LogError> {
        let dir = options.dir.clone();
        let topics_dir = dir.join("topics");
        make_folder(options.lasting(), &topics_dir)?;
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
        let ids = IdAllocator::new(&dir, Arc::clone(&options.disk));
        let boot = checkpoint::boot();
        let shared = Arc::new(LogContext { options, format, syncer, boot, syncs: 0.into(), failures: 0.into() });
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
            let topic = Topic::open(&shared, &ids, name, path, &mut report)?;
            partitions += topic.count();
            topics.insert(Arc::clone(topic.name()), Arc::new(topic));
        }
        if partitions > shared.options.max_partitions {
            return Err(LogError::Limit { what: "the partitions found", limit: shared.options.max_partitions });
        }
        let log = Arc::new(Self {
            ids,
            dir,
            shared,
            topics: RwLock::new(topics),
            changes: Mutex::new(()),
            stop: Arc::default(),
            threads: Mutex::default(),
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
    pub fn defaults(&self) -> &TopicSettings {
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
        settings: TopicSettings,
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
        let disk = Arc::clone(&self.shared.options.disk);
        let topic = Topic::new(name.into(), self.ids.topic(), dir, settings, labels, disk);
        if let Err(error) = topic.grow(&self.shared, partitions) {
            // What was made of it is worth nothing.
            let _ = std::fs::remove_dir_all(topic.dir());
            return Err(error);
        }
        let topic = Arc::new(topic);
        write(&self.topics).insert(Arc::clone(topic.name()), Arc::clone(&topic));
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
        topic.grow(&self.shared, count)
    }

    fn room_for(&self, more: usize) -> Result<(), LogError> {
        let limit = self.shared.options.max_partitions;
        let have: usize = read(&self.topics).values().map(|topic| topic.count()).sum();
        if more > limit || have > limit - more {
            return Err(LogError::Limit { what: "the number of partitions", limit });
        }
        Ok(())
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// When there is none of that name, or its directory cannot be removed.
    pub fn delete(&self, name: &str) -> Result<(), LogError> {
        let _changing = lock(&self.changes);
        let topic = write(&self.topics).remove(name).ok_or_else(|| LogError::Unknown(name.to_owned()))?;
        topic.partitions().iter().for_each(|partition| partition.mark_deleted());
        // A name no topic can have, so that the next start removes what this one cannot.
        let gone = self.dir.join("topics").join(format!("{}~", hex(topic.id())));
        std::fs::rename(topic.dir(), &gone).map_err(LogError::io("rename", topic.dir()))?;
        if let Some(disk) = self.shared.options.lasting() {
            let topics = self.dir.join("topics");
            disk.sync_names(&topics).map_err(LogError::io("sync", topics))?;
        }
        std::fs::remove_dir_all(&gone).map_err(LogError::io("remove", &gone))
    }

    /// An id no producer of this log has had.
    ///
    /// # Errors
    /// When it cannot be written down that it is taken.
    pub fn producer_id(&self) -> Result<i64, LogError> {
        self.ids.producer()
    }

    /// An id that nothing else has.
    pub fn new_id(&self) -> [u8; 16] {
        self.ids.topic()
    }

    fn partitions(&self) -> Vec<Arc<Partition>> {
        self.topics().iter().flat_map(|topic| topic.partitions()).collect()
    }

    fn sync_all(&self) {
        for partition in self.partitions() {
            if partition.mark_dirty()
                && let Some(syncer) = &self.shared.syncer
            {
                syncer.ask(DiskTask::Sync(partition));
            }
        }
    }

    /// Retention, compaction, closing of files unused; also done every
    /// [`LogOptions::housekeeping`].
    pub fn clean(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        for partition in self.partitions() {
            let result = partition.retain(now).and_then(|_| partition.compact(now));
            if let Err(error) = result
                && !partition.is_deleted()
            {
                log_error(&error);
            }
            let segments = lock(&partition.view).segments.clone();
            segments.iter().for_each(|segment| segment.close_unused(IDLE));
        }
    }

    /// Ends the threads, and syncs what is written: whatever the policy, the newest segments.
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
