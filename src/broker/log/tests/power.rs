//! Losses of power by the rules of POSIX: bytes are kept when their file was synced, names when
//! their folder was; or, as file systems with a journal do it, all names at each sync. Everything
//! that the log syncs goes through [`Disk`], so that nothing else is kept here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Mutex;

use super::failing::next;
use super::*;

/// What a loss of power leaves of a file beyond what was synced of it.
#[derive(Debug, Clone, Copy)]
enum TornTail {
    Nothing,
    /// Its length of now, with zeros.
    Zeros,
    /// Some of the bytes, then nothing.
    Part,
}

#[derive(Debug, Clone, Copy)]
struct PowerRules {
    /// Whether a sync of anything keeps all names.
    journal: bool,
    tail: TornTail,
}

/// A name in a folder. What it leads to stays open, so that its number is not given to another.
struct KeptName {
    name: String,
    file: File,
}

#[derive(Default)]
struct KeptState {
    /// Bytes by number of the file.
    bytes: HashMap<u64, (File, Vec<u8>)>,
    /// Names by number of the folder.
    names: HashMap<u64, Vec<KeptName>>,
}

/// A disk that keeps what was synced, and says what is left when the power goes.
struct PowerDisk {
    dir: PathBuf,
    rules: PowerRules,
    kept: Mutex<KeptState>,
}

impl KeptState {
    fn keep_names(&mut self, folder: &Path) -> io::Result<()> {
        let open = |entry: io::Result<std::fs::DirEntry>| -> io::Result<KeptName> {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok(KeptName { name, file: File::open(entry.path())? })
        };
        // What goes while it is looked at was not there when the sync ended.
        let names = std::fs::read_dir(folder)?
            .map(open)
            .filter(|name| !matches!(name, Err(error) if error.kind() == io::ErrorKind::NotFound));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        self.names.insert(std::fs::metadata(folder)?.ino(), names);
        Ok(())
    }

    fn keep_all_names(&mut self, folder: &Path) -> io::Result<()> {
        self.keep_names(folder)?;
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                // The same.
                let _ = self.keep_all_names(&path);
            }
        }
        Ok(())
    }
}

impl PowerDisk {
    fn new(dir: &Path, rules: PowerRules) -> Arc<Self> {
        std::fs::create_dir_all(dir).unwrap();
        Arc::new(Self { dir: dir.to_owned(), rules, kept: Mutex::default() })
    }

    /// What was there before the power is on.
    fn keep_all(&self) {
        fn bytes(kept: &mut KeptState, folder: &Path) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    bytes(kept, &path);
                } else {
                    let (file, bytes) = (File::open(&path).unwrap(), std::fs::read(&path).unwrap());
                    kept.bytes.insert(file.metadata().unwrap().ino(), (file, bytes));
                }
            }
        }
        let mut kept = self.kept.lock().unwrap();
        kept.keep_all_names(&self.dir).unwrap();
        bytes(&mut kept, &self.dir);
    }

    /// What is left in `to` when the power goes now.
    fn cut(&self, to: &Path, random: &mut u64) {
        let kept = self.kept.lock().unwrap();
        let root = std::fs::metadata(&self.dir).unwrap().ino();
        self.restore(&kept, root, to, random);
    }

    fn restore(&self, kept: &KeptState, folder: u64, to: &Path, random: &mut u64) {
        std::fs::create_dir_all(to).unwrap();
        for KeptName { name, file } in kept.names.get(&folder).into_iter().flatten() {
            let meta = file.metadata().unwrap();
            let target = to.join(name);
            if meta.is_dir() {
                self.restore(kept, meta.ino(), &target, random);
                continue;
            }
            let mut bytes = kept.bytes.get(&meta.ino()).map(|(_, bytes)| bytes.clone()).unwrap_or_default();
            let now = meta.len() as usize;
            if bytes.len() < now {
                match self.rules.tail {
                    TornTail::Nothing => {}
                    TornTail::Zeros => bytes.resize(now, 0),
                    TornTail::Part => {
                        let more = next(random) as usize % (now - bytes.len() + 1);
                        let mut rest = vec![0; more];
                        std::os::unix::fs::FileExt::read_exact_at(file, &mut rest, bytes.len() as u64).unwrap();
                        bytes.extend(rest);
                    }
                }
            }
            std::fs::write(target, bytes).unwrap();
        }
    }
}

impl Disk for PowerDisk {
    fn write(&self, file: &File, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        SystemDisk.write(file, parts, position)
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        let mut kept = self.kept.lock().unwrap();
        // It may be open to be written only.
        let bytes = std::fs::read(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        kept.bytes.insert(file.metadata()?.ino(), (file.try_clone()?, bytes));
        if self.rules.journal { kept.keep_all_names(&self.dir) } else { Ok(()) }
    }
    fn sync_names(&self, folder: &Path) -> io::Result<()> {
        let mut kept = self.kept.lock().unwrap();
        // What is made above the log's own folder is not looked at.
        if !folder.starts_with(&self.dir) {
            return Ok(());
        }
        if self.rules.journal { kept.keep_all_names(&self.dir) } else { kept.keep_names(folder) }
    }
}

fn numbered(n: u64) -> Vec<u8> {
    batch_of(1, n as i64, Some((9, 0, n as i32)), format!("{n:>0$}", 20 + n as usize % 60).as_bytes())
}

/// The numbers of a partition's records; they must begin where readers may, and follow each other.
fn numbers(partition: &Partition) -> Vec<u64> {
    let found = all(partition, 500);
    let first = partition.bounds().0;
    for (n, (offset, body)) in found.iter().enumerate() {
        assert_eq!(*offset, first + n as u64, "offsets are dense");
        assert_eq!(String::from_utf8_lossy(body).trim(), offset.to_string());
    }
    found.into_iter().map(|(offset, _)| offset).collect()
}

fn every_rule() -> impl Iterator<Item = PowerRules> {
    let tails = [TornTail::Nothing, TornTail::Zeros, TornTail::Part];
    [false, true].into_iter().flat_map(move |journal| tails.map(|tail| PowerRules { journal, tail }))
}

/// Three lives of a log, each ended by a loss of power: it starts again each time, nothing is there
/// twice or out of order, and under a policy that syncs first nothing acknowledged is missing.
fn lives(policy: SyncPolicy, rules: PowerRules, seed: u64) {
    let what = format!("{policy:?}, {rules:?}, seed {seed}");
    let mut random = seed;
    let top = tempfile::tempdir().unwrap();
    let mut settings = options(&top.path().join("0"), policy);
    settings.defaults.segment_bytes = 3000;
    settings.checkpoint_bytes = 400;
    let mut promised = 0;
    let mut given = 0;
    for life in 0..3 {
        let disk = PowerDisk::new(&settings.dir, rules);
        disk.keep_all();
        settings.disk = disk.clone();
        let (log, _) = Log::open(settings.clone(), Arc::new(PlainFormat)).unwrap_or_else(|e| panic!("{what}: {e}"));
        let group = policy == SyncPolicy::Group;
        if life > 0 && group {
            assert!(log.topic("t").is_some() && log.topic("gone").is_none(), "{what}");
            let bytes = log.topic("t").map(|topic| topic.settings().max_batch);
            assert_eq!(bytes, Some(50_000 + life - 1), "{what}");
        }
        let partition = topic(&log, 2).partition(1).unwrap();
        let found = numbers(&partition);
        let mut at = partition.bounds().1;
        assert_eq!(found.last().map_or(at, |last| last + 1), at, "{what}");
        if group {
            assert!(at >= promised, "{what}: {at} of {promised}");
            // Who has sent what is known.
            let again = (at > 0).then(|| partition.append(&numbered(at - 1)).unwrap().duplicate);
            assert!(again.unwrap_or(true), "{what}");
            let id = log.producer_id().unwrap();
            assert!(id > given, "{what}: producer {id} after {given}");
            given = id;
        }
        let count = 20 + next(&mut random) % 120;
        let mut tickets = Vec::new();
        let wake_signal = WakeSignal::new();
        for n in 0..count {
            // After a loss the producer is another for the log, if it does not know it.
            let appended = match partition.append(&numbered(at)) {
                Ok(appended) => appended,
                Err(LogError::OutOfSequence { .. }) if !group => break,
                Err(error) => panic!("{what}: {error}"),
            };
            at = appended.base + 1;
            tickets.push((appended.base, appended.ticket));
            if n % 7 == 0 {
                std::thread::sleep(Duration::from_micros(300));
            }
            if n == count / 3 {
                let topic = log.topic("t").unwrap();
                topic.change(TopicSettings { max_batch: 50_000 + life, ..topic.settings() }, topic.labels()).unwrap();
                log.create("gone", 1, settings.defaults.clone(), Default::default()).unwrap();
                log.delete("gone").unwrap();
            }
            if n == count / 2 && next(&mut random).is_multiple_of(2) {
                let end = partition.bounds().1;
                partition.trim(end.saturating_sub(30)).unwrap();
                log.clean();
            }
        }
        let seen = partition.bounds();
        for (base, ticket) in tickets {
            let kept = ticket.map(|ticket| ticket.poll(&wake_signal));
            if group && kept == Some(Some(true)) {
                promised = promised.max(base + 1);
            }
        }
        settings.dir = top.path().join((life + 1).to_string());
        disk.cut(&settings.dir, &mut random);
        if group {
            promised = promised.max(seen.1);
        }
        // This one goes on where nobody looks.
        drop(log);
    }
}

#[test]
fn a_log_starts_after_every_loss_of_power_and_keeps_what_it_promised() {
    let policies =
        [SyncPolicy::Group, SyncPolicy::Bytes(2000), SyncPolicy::Interval(Duration::from_millis(1)), SyncPolicy::Never];
    for policy in policies {
        for rules in every_rule() {
            (1..=4).for_each(|seed| lives(policy, rules, seed));
        }
    }
}
