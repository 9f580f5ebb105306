//! A disk that fails, and a power supply that does.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

/// A disk that fails when told to, and remembers what a loss of power would take.
#[derive(Default)]
struct FailingDisk {
    fail_sync: AtomicBool,
    fail_write: AtomicBool,
    /// Per file: what was written since its last sync.
    unsynced: Mutex<HashMap<u64, Vec<(u64, u64)>>>,
}

impl Disk for FailingDisk {
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
    let disk = Arc::new(FailingDisk::default());
    for policy in [SyncPolicy::Never, SyncPolicy::Group] {
        let (log, _) =
            open(LogOptions { disk: disk.clone(), ..options(&dir.path().join(format!("{policy:?}")), policy) });
        let partition = topic(&log, 1).partition(0).unwrap();
        assert!(kept(partition.append(&batch(b"first")).unwrap()));
        disk.fail_write.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            assert!(matches!(partition.append(&batch(b"lost")), Err(LogError::Io { what: "write", .. })));
        }
        let together = partition.append_all(&[&batch(b"lost"), &batch(b"too")]);
        assert!(together.iter().all(|outcome| matches!(outcome, Err(LogError::Io { what: "write", .. }))));
        disk.fail_write.store(false, Ordering::Relaxed);
        let appended = partition.append(&batch(b"second")).unwrap();
        assert_eq!(appended.base, 1);
        assert!(kept(appended));
        assert_eq!(all(&partition, 1000), [(0, b"first".to_vec()), (1, b"second".to_vec())]);
        assert_eq!(log.syncs().1, 4);
    }
}

#[test]
fn a_failed_sync_is_an_error_for_who_waits_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingDisk::default());
    let (log, _) = open(LogOptions { disk: disk.clone(), ..options(dir.path(), SyncPolicy::Group) });
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
    let disk = Arc::new(FailingDisk::default());
    let mut settings = options(dir.path(), SyncPolicy::Group);
    settings.defaults.segment_bytes = 1 << 20;
    let (log, _) = open(LogOptions { disk: disk.clone(), ..settings });
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

pub(super) fn duplicate(from: &Path, to: &Path) {
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
pub(super) fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *random >> 33
}

/// What a loss of power leaves of a directory: each write not synced is there, not there, or there
/// in part.
fn power_cut(from: &Path, to: &Path, lost: &HashMap<u64, Vec<(u64, u64)>>, random: &mut u64) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            power_cut(&entry.path(), &target, lost, random);
            continue;
        }
        // The log goes on meanwhile: what it has removed since is not there.
        match std::fs::copy(entry.path(), &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            copied => copied.unwrap(),
        };
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
        let unsynced = [".index", ".producers", "synced", "-0", "-1"];
        if unsynced.iter().any(|end| name.ends_with(end)) && next(random).is_multiple_of(3) {
            file.set_len(0).unwrap();
        }
    }
}

#[test]
fn a_loss_of_power_takes_nothing_that_the_policy_covers() {
    for (policy, seeds) in [(SyncPolicy::Group, 12), (SyncPolicy::Bytes(2000), 12)] {
        for seed in 1..=seeds {
            let dir = tempfile::tempdir().unwrap();
            let disk = Arc::new(FailingDisk::default());
            let mut settings = options(dir.path(), policy);
            settings.defaults.segment_bytes = 3000;
            settings.checkpoint_bytes = 400;
            settings.disk = disk.clone();
            let (log, _) = open(settings.clone());
            let partition = topic(&log, 1).partition(0).unwrap();
            let mut random = seed;
            let mut promised = Vec::new();
            let mut open_tickets = Vec::new();
            let wake_signal = WakeSignal::new();
            let count = 40 + seed * 13;
            for n in 0..count {
                let appended = partition.append(&batch(format!("{n:>0$}", 20 + n as usize % 60).as_bytes())).unwrap();
                open_tickets.push((appended.base, appended.ticket));
                if n % 7 == 0 {
                    std::thread::sleep(Duration::from_micros(400));
                }
                open_tickets.retain(|(base, ticket)| match ticket.as_ref().map(|t| t.poll(&wake_signal)) {
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
