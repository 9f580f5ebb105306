//! The engine as a whole, with batches of a kind that no protocol knows.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// Base 8, length 4, magic 1, checksum 4 (of what follows), count 4, time 8, producer 8, epoch 2, sequence 4, then a body: for
/// compaction, `key` or `key=value` of the one record.
struct Plain;

const HEADER: usize = 43;

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}

impl Format for Plain {
    fn header_len(&self) -> usize {
        HEADER
    }
    fn stamp_len(&self) -> usize {
        8
    }
    fn view(&self, bytes: &[u8]) -> Result<View, Malformed> {
        if bytes.len() < HEADER || bytes[12] != 7 {
            return Err(Malformed("no header"));
        }
        let len = u32::from_le_bytes(number(bytes, 8)) as usize;
        let count = u32::from_le_bytes(number(bytes, 17));
        if len < HEADER || count == 0 {
            return Err(Malformed("impossible"));
        }
        let id = i64::from_le_bytes(number(bytes, 29));
        let producer = (id >= 0).then(|| Producer {
            id,
            epoch: i16::from_le_bytes(number(bytes, 37)),
            sequence: i32::from_le_bytes(number(bytes, 39)),
        });
        let max_timestamp = i64::from_le_bytes(number(bytes, 21));
        Ok(View { len, base: u64::from_le_bytes(number(bytes, 0)), count, max_timestamp, producer })
    }
    fn intact(&self, batch: &[u8]) -> bool {
        crc32c::crc32c(&batch[17..]) == u32::from_le_bytes(number(batch, 13))
    }
    fn stamp(&self, stamp: &mut [u8], base: u64) {
        stamp.copy_from_slice(&base.to_le_bytes());
    }
    fn keys(&self, batch: &[u8], each: &mut EachRecord<'_>) -> Option<()> {
        let mut parts = batch[HEADER..].splitn(2, |b| *b == b'=');
        let key = parts.next();
        each(u64::from_le_bytes(number(batch, 0)), key, parts.next().is_none());
        Some(())
    }
    fn retain(&self, batch: &[u8], keep: &mut dyn FnMut(u64) -> bool) -> Option<Vec<u8>> {
        keep(u64::from_le_bytes(number(batch, 0))).then(|| batch.to_vec())
    }
}

fn batch_of(count: u32, time: i64, producer: Option<(i64, i16, i32)>, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 8];
    out.extend_from_slice(&((HEADER + body.len()) as u32).to_le_bytes());
    out.extend_from_slice(&[7, 0, 0, 0, 0]);
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    let (id, epoch, sequence) = producer.unwrap_or((-1, 0, 0));
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(body);
    let sum = crc32c::crc32c(&out[17..]);
    out[13..17].copy_from_slice(&sum.to_le_bytes());
    out
}

fn batch(body: &[u8]) -> Vec<u8> {
    batch_of(1, 1000, None, body)
}

fn options(dir: &Path, sync: SyncPolicy) -> Options {
    let mut options = Options::new(dir);
    options.sync = sync;
    options.defaults.segment_bytes = 4096;
    options.defaults.retention_ms = None;
    options.housekeeping = Duration::from_secs(3600);
    options
}

fn open(options: Options) -> (Arc<Log>, Recovered) {
    Log::open(options, Arc::new(Plain)).unwrap()
}

fn topic(log: &Log, partitions: u32) -> Arc<Topic> {
    log.topic("t").unwrap_or_else(|| log.create("t", partitions, log.defaults().clone(), Default::default()).unwrap())
}

/// Every batch that readers may see: its offset and its body, read in pieces of at most `max` bytes.
fn all(partition: &Partition, max: usize) -> Vec<(u64, Vec<u8>)> {
    let (mut at, end) = partition.bounds();
    let mut found = Vec::new();
    while at < end {
        let Some(slice) = partition.read(at, max, true).unwrap() else { break };
        let mut bytes = vec![0; slice.len];
        slice.read(&mut bytes).unwrap();
        let mut rest = &bytes[..];
        while let Ok(view) = Plain.view(rest)
            && view.len <= rest.len()
        {
            assert!(Plain.intact(&rest[..view.len]));
            if view.base >= at {
                found.push((view.base, rest[HEADER..view.len].to_vec()));
            }
            at = at.max(view.next());
            rest = &rest[view.len..];
        }
    }
    found
}

fn wait(what: &str, mut come_true: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !come_true() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kept(appended: Appended) -> bool {
    let bell = Bell::new();
    let mut kept = Some(true);
    if let Some(ticket) = appended.ticket {
        wait("the ticket is decided", || {
            kept = ticket.poll(&bell);
            kept.is_some()
        });
    }
    kept.unwrap()
}

#[test]
fn what_is_appended_is_read_from_any_offset_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let bodies: Vec<Vec<u8>> = (0..500u32).map(|n| vec![n as u8; (n as usize * 7) % 300]).collect();
    for round in 0..2 {
        let (log, recovered) = open(options(dir.path(), SyncPolicy::Never));
        let partition = topic(&log, 1).partition(0).unwrap();
        if round == 0 {
            for (n, body) in bodies.iter().enumerate() {
                assert_eq!(partition.append(&batch_of(2, n as i64, None, body)).unwrap().base, n as u64 * 2);
            }
        }
        assert_eq!(recovered.cut, 0);
        assert_eq!(partition.bounds(), (0, 1000));
        let expected: Vec<_> = bodies.iter().enumerate().map(|(n, b)| (n as u64 * 2, b.clone())).collect();
        for max in [1, 100, 5000, usize::MAX] {
            assert!(all(&partition, max) == expected);
        }
        for offset in 0..1000 {
            let slice = partition.read(offset, 1, true).unwrap().unwrap();
            let mut header = vec![0; slice.len];
            slice.read(&mut header).unwrap();
            assert_eq!(Plain.view(&header).unwrap().base, offset / 2 * 2);
        }
        assert!(partition.read(1000, 100, true).unwrap().is_none());
        assert!(matches!(partition.read(1001, 1, true), Err(LogError::OutOfRange { end: 1000, .. })));
        for time in [0, 1, 77, 250, 499] {
            assert_eq!(partition.find_time(time).unwrap().unwrap().0.base, time as u64 * 2);
        }
        assert!(partition.find_time(500).unwrap().is_none());
        log.clean();
        log.close().unwrap();
    }
}

#[test]
fn a_batch_that_is_not_whole_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(options(dir.path(), SyncPolicy::Never));
    let partition = topic(&log, 1).partition(0).unwrap();
    let good = batch(b"good");
    let mut bad = good.clone();
    bad[HEADER] ^= 1;
    assert!(matches!(partition.append(&bad), Err(LogError::Malformed(_))));
    assert!(matches!(partition.append(&good[..HEADER - 1]), Err(LogError::Malformed(_))));
    assert!(matches!(partition.append(&[&good[..], b"x"].concat()), Err(LogError::Malformed(_))));
    let settings = Settings { max_batch: 10, ..log.defaults().clone() };
    topic(&log, 1).change(settings, Default::default()).unwrap();
    assert!(matches!(partition.append(&good), Err(LogError::TooLarge { limit: 10, .. })));
    assert_eq!(partition.bounds(), (0, 0));
}

#[test]
fn only_one_process_may_have_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (_log, _) = open(options(dir.path(), SyncPolicy::Never));
    assert!(matches!(Log::open(Options::new(dir.path()), Arc::new(Plain)), Err(LogError::InUse(_))));
}

#[test]
fn producer_ids_and_producers_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for round in 0..3 {
        let (log, _) = open(options(dir.path(), SyncPolicy::Never));
        ids.extend((0..1500).map(|_| log.producer_id().unwrap()));
        let partition = topic(&log, 1).partition(0).unwrap();
        // Enough to fill segments: what is known of a producer must not depend on the segment it is in.
        let first = round * 100;
        for n in first..first + 100 {
            let appended = partition.append(&batch_of(1, 0, Some((9, 0, n)), &[0; 100])).unwrap();
            assert_eq!((appended.base, appended.duplicate), (n as u64, false));
        }
        let again = partition.append(&batch_of(1, 0, Some((9, 0, first + 97)), &[0; 100])).unwrap();
        assert_eq!((again.base, again.duplicate), (first as u64 + 97, true));
        let gap = partition.append(&batch_of(1, 0, Some((9, 0, first + 101)), &[0; 100]));
        assert!(matches!(gap, Err(LogError::OutOfSequence { expected, .. }) if expected == first + 100));
        drop((partition, log));
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn retention_keeps_what_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(options(dir.path(), SyncPolicy::Never));
    let topic = topic(&log, 1);
    let partition = topic.partition(0).unwrap();
    for n in 0..200 {
        partition.append(&batch_of(1, n, None, &[1; 200])).unwrap();
    }
    let change = |settings: Settings| topic.change(settings, Default::default()).unwrap();
    change(Settings { retention_records: Some(150), ..topic.settings() });
    log.clean();
    let (start, end) = partition.bounds();
    assert!(end - start >= 150 && end - start < 170, "{start}..{end}");
    change(Settings { retention_bytes: Some(12_000), ..topic.settings() });
    log.clean();
    assert!((12_000..17_000).contains(&partition.size()), "{}", partition.size());
    assert_eq!(all(&partition, 1000).len() as u64, end - partition.bounds().0);
    assert_eq!(partition.trim(195).unwrap(), 195);
    assert!(matches!(partition.read(194, 100, true), Err(LogError::OutOfRange { start: 195, .. })));
    log.clean();
    assert!(partition.size() < 4096);
    // All records are older than a day.
    change(Settings { retention_ms: Some(24 * 3600 * 1000), ..topic.settings() });
    log.clean();
    assert_eq!(partition.bounds(), (200, 200));
    assert_eq!(partition.append(&batch(b"next")).unwrap().base, 200);
    drop(partition);
    drop(topic);
    log.close().unwrap();
    drop(log);
    let (log, _) = open(options(dir.path(), SyncPolicy::Never));
    assert_eq!(log.topic("t").unwrap().partition(0).unwrap().bounds(), (200, 201));
}

#[test]
fn compaction_keeps_the_newest_of_each_key_at_its_offset() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(options(dir.path(), SyncPolicy::Never));
    let settings = Settings { compact: true, delete: false, tombstone_ms: 0, ..log.defaults().clone() };
    let topic = log.create("t", 1, settings, Default::default()).unwrap();
    let partition = topic.partition(0).unwrap();
    let mut newest = HashMap::new();
    let mut appended = Vec::new();
    for n in 0..1000u64 {
        let key = format!("k{}", n * 7919 % 37);
        let body = if n % 11 == 0 { key.clone() } else { format!("{key}={n}") };
        partition.append(&batch_of(1, 5, None, body.as_bytes())).unwrap();
        newest.insert(key, n);
        appended.push(body.into_bytes());
    }
    let before = all(&partition, 700);
    let size = partition.size();
    log.clean();
    let check = |partition: &Arc<Partition>| {
        let left = all(partition, 700);
        assert!(partition.size() < size / 3 && left.len() < before.len() / 3);
        for (offset, body) in &left {
            assert_eq!(*body, appended[*offset as usize]);
        }
        for (key, offset) in &newest {
            // A deleted key goes unless it is still in the segment being written.
            assert!(left.iter().any(|(o, _)| o == offset) || offset % 11 == 0, "{key} at {offset}");
        }
        assert_eq!(partition.bounds(), (0, 1000));
    };
    check(&partition);
    log.clean();
    check(&partition);
    log.close().unwrap();
    drop((partition, topic, log));
    let (log, _) = open(options(dir.path(), SyncPolicy::Never));
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    check(&partition);
    assert_eq!(partition.append(&batch(b"more=1")).unwrap().base, 1000);
}

#[test]
fn who_waits_is_woken_by_an_append_or_a_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(options(dir.path(), SyncPolicy::Never));
    let partition = topic(&log, 1).partition(0).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let bell = Bell::new();
    let rung =
        || runtime.block_on(async { tokio::time::timeout(Duration::from_millis(50), bell.rung()).await.is_ok() });
    assert!(partition.await_more(0, &bell));
    assert!(partition.await_more(0, &bell));
    assert!(!rung());
    partition.append(&batch(b"1")).unwrap();
    assert!(rung());
    partition.append(&batch(b"2")).unwrap();
    assert!(!rung(), "nobody waited");
    assert!(!partition.await_more(1, &bell), "there is more already");
    assert!(partition.await_more(2, &bell));
    log.delete("t").unwrap();
    assert!(rung());
    assert!(matches!(partition.append(&batch(b"3")), Err(LogError::Deleted)));
    assert!(matches!(partition.read(0, 10, true), Err(LogError::Deleted)));
    assert!(!dir.path().join("topics/t").exists());
}

#[test]
fn bounds_hold() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(Options { max_partitions: 5, ..options(dir.path(), SyncPolicy::Never) });
    let make = |name: &str, n| log.create(name, n, log.defaults().clone(), Default::default());
    let one = make("one", 3).unwrap();
    assert!(matches!(make("two", 3), Err(LogError::Limit { limit: 5, .. })));
    assert!(matches!(make("one", 1), Err(LogError::Exists(_))));
    assert!(matches!(make("../up", 1), Err(LogError::Malformed(_))));
    assert!(matches!(log.grow(&one, 6), Err(LogError::Limit { .. })));
    log.grow(&one, 5).unwrap();
    assert_eq!(one.count(), 5);
    log.delete("one").unwrap();
    make("two", 5).unwrap();
}

/// A disk that fails when told to, and remembers what a loss of power would take.
#[derive(Default)]
struct Fragile {
    fail_sync: AtomicBool,
    fail_write: AtomicBool,
    /// Per file: what was written since its last sync.
    unsynced: Mutex<HashMap<u64, Vec<(u64, u64)>>>,
}

impl Disk for Fragile {
    fn write(&self, file: &File, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        if self.fail_write.load(Ordering::Relaxed) {
            // Half of it arrives.
            let _ = file.write_all_at(&parts[0], position);
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = parts.iter().map(|part| part.len() as u64).sum();
        self.unsynced.lock().unwrap().entry(file.metadata()?.ino()).or_default().push((position, len));
        SystemDisk.write(file, parts, position)
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        let covered = self.unsynced.lock().unwrap().get(&inode).map_or(0, Vec::len);
        // A sync takes time, in which more is written that it does not cover.
        std::thread::sleep(Duration::from_micros(300));
        if self.fail_sync.load(Ordering::Relaxed) {
            return Err(io::Error::other("made to fail"));
        }
        if let Some(writes) = self.unsynced.lock().unwrap().get_mut(&inode) {
            writes.drain(..covered);
        }
        Ok(())
    }
}

#[test]
fn a_full_disk_refuses_the_batch_and_takes_the_next_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Fragile::default());
    for policy in [SyncPolicy::Never, SyncPolicy::Group] {
        let (log, _) = open(Options { disk: disk.clone(), ..options(&dir.path().join(format!("{policy:?}")), policy) });
        let partition = topic(&log, 1).partition(0).unwrap();
        assert!(kept(partition.append(&batch(b"first")).unwrap()));
        disk.fail_write.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            assert!(matches!(partition.append(&batch(b"lost")), Err(LogError::Io { what: "write", .. })));
        }
        disk.fail_write.store(false, Ordering::Relaxed);
        let appended = partition.append(&batch(b"second")).unwrap();
        assert_eq!(appended.base, 1);
        assert!(kept(appended));
        assert_eq!(all(&partition, 1000), [(0, b"first".to_vec()), (1, b"second".to_vec())]);
        assert_eq!(log.syncs().1, 3);
    }
}

#[test]
fn a_failed_sync_is_an_error_for_who_waits_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Fragile::default());
    let (log, _) = open(Options { disk: disk.clone(), ..options(dir.path(), SyncPolicy::Group) });
    let partition = topic(&log, 1).partition(0).unwrap();
    let numbered = |n: i32| batch_of(1, 0, Some((3, 0, n)), format!("{n}").as_bytes());
    assert!(kept(partition.append(&numbered(0)).unwrap()));
    disk.fail_sync.store(true, Ordering::Relaxed);
    let doubtful = partition.append(&numbered(1)).unwrap();
    assert!(!kept(doubtful));
    disk.fail_sync.store(false, Ordering::Relaxed);
    wait("the log has gone back", || partition.bounds() == (0, 1) && partition.append(&numbered(2)).is_err());
    // The producer sends the lost one again, and it is not taken for a duplicate.
    let again = partition.append(&numbered(1)).unwrap();
    assert_eq!((again.base, again.duplicate), (1, false));
    assert!(kept(again));
    assert_eq!(all(&partition, 1000), [(0, b"0".to_vec()), (1, b"1".to_vec())]);
}

#[test]
fn waiters_share_syncs_and_readers_see_only_what_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Fragile::default());
    let mut settings = options(dir.path(), SyncPolicy::Group);
    settings.defaults.segment_bytes = 1 << 20;
    let (log, _) = open(Options { disk: disk.clone(), ..settings });
    let partition = topic(&log, 1).partition(0).unwrap();
    let tickets: Vec<_> = (0..2000).map(|_| partition.append(&batch(b"x")).unwrap()).collect();
    assert!(partition.bounds().1 < 2000);
    assert!(tickets.into_iter().all(kept));
    assert_eq!(partition.bounds(), (0, 2000));
    let syncs = log.syncs().0;
    assert!(syncs < 500, "{syncs} syncs for 2000 appends");
}

#[test]
fn a_busy_partition_moves_to_zeros_and_recovery_cuts_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = options(dir.path(), SyncPolicy::Group);
    settings.defaults.segment_bytes = 256 << 10;
    let (log, _) = open(settings.clone());
    let partition = topic(&log, 1).partition(0).unwrap();
    let zeros = || {
        std::fs::read_dir(dir.path().join("topics/t/0")).unwrap().any(|entry| {
            let entry = entry.unwrap();
            entry.file_name().to_str().unwrap().ends_with(".seg") && entry.metadata().unwrap().len() == 256 << 10
        })
    };
    let mut count = 0;
    wait("a segment of zeros is in use", || {
        assert!(kept(partition.append(&batch(b"busy")).unwrap()));
        count += 1;
        zeros()
    });
    assert!(kept(partition.append(&batch(b"last")).unwrap()));
    // The process is gone without a word.
    let copy = tempfile::tempdir().unwrap();
    duplicate(dir.path(), copy.path());
    settings.dir = copy.path().to_owned();
    let (log, recovered) = open(settings);
    assert_eq!(recovered.cut, 0);
    let found = all(&topic(&log, 1).partition(0).unwrap(), 1 << 20);
    assert_eq!(found.len(), count + 1);
    assert_eq!(found.last().unwrap().1, b"last");
}

fn duplicate(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            duplicate(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Knuth's MMIX generator, for a sequence that a seed repeats.
fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *random >> 33
}

/// What a loss of power leaves of a directory: each write not synced is there, not there, or there in part.
fn power_cut(from: &Path, to: &Path, lost: &HashMap<u64, Vec<(u64, u64)>>, random: &mut u64) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            power_cut(&entry.path(), &target, lost, random);
            continue;
        }
        std::fs::copy(entry.path(), &target).unwrap();
        let file = File::options().write(true).open(&target).unwrap();
        for (position, len) in lost.get(&entry.metadata().unwrap().ino()).into_iter().flatten() {
            let keep = match next(random) % 3 {
                0 => 0,
                1 => next(random) % (len + 1),
                _ => *len,
            };
            file.write_all_at(&vec![0; (len - keep) as usize], position + keep).unwrap();
        }
        // Files that are written without a sync may be empty.
        let name = entry.file_name();
        let name = name.to_str().unwrap();
        if (name.ends_with(".index") || name.ends_with(".producers") || name == "synced")
            && next(random).is_multiple_of(3)
        {
            file.set_len(0).unwrap();
        }
    }
}

#[test]
fn a_loss_of_power_takes_nothing_that_the_policy_covers() {
    for (policy, seeds) in [(SyncPolicy::Group, 12), (SyncPolicy::Bytes(2000), 12)] {
        for seed in 1..=seeds {
            let dir = tempfile::tempdir().unwrap();
            let disk = Arc::new(Fragile::default());
            let mut settings = options(dir.path(), policy);
            settings.defaults.segment_bytes = 3000;
            settings.disk = disk.clone();
            let (log, _) = open(settings.clone());
            let partition = topic(&log, 1).partition(0).unwrap();
            let mut random = seed;
            let mut promised = Vec::new();
            let mut open_tickets = Vec::new();
            let bell = Bell::new();
            let count = 40 + seed * 13;
            for n in 0..count {
                let appended = partition.append(&batch(format!("{n:>0$}", 20 + n as usize % 60).as_bytes())).unwrap();
                open_tickets.push((appended.base, appended.ticket));
                if n % 7 == 0 {
                    std::thread::sleep(Duration::from_micros(400));
                }
                open_tickets.retain(|(base, ticket)| match ticket.as_ref().map(|t| t.poll(&bell)) {
                    Some(Some(kept)) => {
                        assert!(kept);
                        promised.push(*base);
                        false
                    }
                    _ => ticket.is_some(),
                });
            }
            // No sync may end between reading what is lost and copying what is there.
            let cut = tempfile::tempdir().unwrap();
            let seen = partition.bounds().1;
            {
                let lost = disk.unsynced.lock().unwrap();
                power_cut(dir.path(), cut.path(), &lost, &mut random);
            }
            settings.dir = cut.path().to_owned();
            settings.disk = Arc::new(SystemDisk);
            let (log, _) = open(settings);
            let partition = log.topic("t").unwrap().partition(0).unwrap();
            let found = all(&partition, 500);
            for (n, (offset, body)) in found.iter().enumerate() {
                assert_eq!(*offset, n as u64, "offsets are dense");
                assert_eq!(String::from_utf8_lossy(body).trim(), format!("{n}"), "{policy:?} seed {seed}");
            }
            let have = found.len() as u64;
            assert!(promised.iter().all(|base| *base < have), "{policy:?} seed {seed}: {have} of {promised:?}");
            if policy == SyncPolicy::Group {
                assert!(have >= seen, "readers saw {seen}, {have} are left");
            }
            assert_eq!(partition.append(&batch(b"next")).unwrap().base, have);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A torn tail of any kind is cut, and nothing else.
    #[test]
    fn recovery_cuts_the_torn_tail_and_nothing_else(
        bodies in proptest::collection::vec(0usize..200, 1..40),
        torn in 0usize..400,
        noise in proptest::collection::vec(any::<u8>(), 0..100),
        flip in proptest::option::of(any::<u16>()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut ends = vec![0];
        {
            let mut settings = options(dir.path(), SyncPolicy::Never);
            settings.defaults.segment_bytes = 1 << 20;
            let (log, _) = open(settings);
            let partition = topic(&log, 1).partition(0).unwrap();
            for body in &bodies {
                partition.append(&batch(&vec![7; *body])).unwrap();
                ends.push(ends.last().unwrap() + HEADER + body);
            }
        }
        let path = dir.path().join("topics/t/0/00000000000000000000.seg");
        let mut bytes = std::fs::read(&path).unwrap();
        prop_assert_eq!(bytes.len(), *ends.last().unwrap());
        let mut whole = bytes.len().saturating_sub(torn);
        bytes.truncate(whole);
        if let Some(at) = flip && !bytes.is_empty() {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= 0x40;
            whole = whole.min(at);
        }
        bytes.extend_from_slice(&noise);
        std::fs::write(&path, &bytes).unwrap();
        let expected = ends.iter().filter(|end| **end <= whole).count() - 1;
        let (log, recovered) = open(options(dir.path(), SyncPolicy::Never));
        let partition = topic(&log, 1).partition(0).unwrap();
        let found = all(&partition, 1000);
        prop_assert_eq!(found.len(), expected);
        prop_assert_eq!(recovered.batches, expected as u64);
        for (n, (offset, body)) in found.iter().enumerate() {
            prop_assert_eq!((*offset, body.len()), (n as u64, bodies[n]));
        }
        // Whole batches beyond a damaged one are kept aside.
        let beyond = flip.is_some() && ends.iter().any(|end| *end > whole && end + HEADER <= bytes.len() - noise.len());
        if !beyond {
            prop_assert_eq!(recovered.kept, 0);
        }
        prop_assert_eq!(partition.append(&batch(b"next")).unwrap().base, expected as u64);
    }

    /// Any bytes in the place of a segment are recovered from without a panic.
    #[test]
    fn any_segment_is_opened(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000), magic in any::<bool>()) {
        if magic && bytes.len() > 12 {
            bytes[12] = 7;
        }
        let dir = tempfile::tempdir().unwrap();
        {
            let (log, _) = open(options(dir.path(), SyncPolicy::Never));
            topic(&log, 1);
        }
        std::fs::write(dir.path().join("topics/t/0/00000000000000000000.seg"), &bytes).unwrap();
        let (log, _) = open(options(dir.path(), SyncPolicy::Never));
        let partition = topic(&log, 1).partition(0).unwrap();
        let next = partition.bounds().1;
        prop_assert_eq!(partition.append(&batch(b"next")).unwrap().base, next);
    }
}
