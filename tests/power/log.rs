//! The reference log on a store that loses its power: under each sync policy it starts again and
//! has lost what docs/log.md says, and no more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use msgbench::broker::kafka::batch::{self, RecordBatches};
use msgbench::broker::log::{Log, LogOptions, Partition, SyncPolicy, WakeSignal};
use msgbench::system::power::{NameLoss, PowerStore};

use crate::{PROGRAM, needs};

const BODY: usize = 200;

fn open(dir: &Path, sync: SyncPolicy) -> Arc<Log> {
    let mut options = LogOptions::new(dir.join("log"));
    options.sync = sync;
    // Several segments, some of them written full of zeros beforehand.
    options.defaults.segment_bytes = 20_000;
    options.checkpoint_bytes = 5_000;
    Log::open(options, Arc::new(RecordBatches)).unwrap_or_else(|e| panic!("{sync:?}: {e}")).0
}

fn partition(log: &Log) -> Arc<Partition> {
    let topic = log.topic("t").unwrap_or_else(|| log.create("t", 1, log.defaults().clone(), [].into()).unwrap());
    topic.partition(0).unwrap()
}

/// Appends numbers, from the next offset on; with `wait`, each is acknowledged before the next.
fn append(partition: &Arc<Partition>, count: u64, wait: bool) {
    let wake_signal = WakeSignal::new();
    for _ in 0..count {
        let n = partition.next_offset();
        let appended = partition.append(&batch::encode(&[(&n.to_be_bytes(), Some(&[7; BODY]))], 1)).unwrap();
        assert_eq!(appended.base, n);
        let Some(ticket) = appended.ticket.filter(|_| wait) else { continue };
        let end = Instant::now() + Duration::from_secs(60);
        while ticket.poll(&wake_signal).is_none() {
            assert!(Instant::now() < end, "no sync");
            std::thread::sleep(Duration::from_micros(100));
        }
        assert_eq!(ticket.state(), Some(true));
    }
}

/// How many numbers are there; they must be those from 0 on.
fn numbers(partition: &Partition) -> u64 {
    let (mut at, end) = partition.bounds();
    assert_eq!(at, 0);
    let mut next = 0u64;
    while at < end {
        let slice = partition.read(at, 1 << 20, true).unwrap().unwrap();
        let mut bytes = vec![0; slice.len];
        slice.read(&mut bytes).unwrap();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let len = 12 + u32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
            for record in batch::records(&rest[..len]).unwrap() {
                let record = record.unwrap();
                assert_eq!(record.key, Some(&next.to_be_bytes()[..]));
                next += 1;
            }
            rest = &rest[len..];
        }
        at = next;
    }
    assert_eq!(next, end);
    next
}

/// A store, its place, and the log there after so many records of its life.
struct LogLife {
    store: PowerStore,
    at: PathBuf,
    sync: SyncPolicy,
}

impl LogLife {
    /// Takes the power away from a log that is at work; what it has when it starts again.
    fn cut(&mut self, log: Arc<Log>) -> (Arc<Log>, u64) {
        self.store.cut().unwrap();
        // What it still tries to do comes to nothing.
        drop(log);
        let log = open(&self.at, self.sync);
        let found = numbers(&partition(&log));
        (log, found)
    }
}

fn each_rule(sync: SyncPolicy, what: impl Fn(&mut LogLife, NameLoss)) {
    if needs::power(PROGRAM).is_none() {
        return;
    }
    for loss in NameLoss::ALL {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("at");
        let store = PowerStore::open(Path::new(PROGRAM), &dir.path().join("kept"), &at, loss).unwrap();
        what(&mut LogLife { store, at, sync }, loss);
    }
}

#[test]
fn with_a_sync_before_each_acknowledgement_nothing_acknowledged_is_lost() {
    each_rule(SyncPolicy::Group, |life, loss| {
        let mut log = open(&life.at, life.sync);
        let mut acknowledged = 0;
        for _ in 0..4 {
            append(&partition(&log), 150, true);
            acknowledged += 150;
            let (again, found) = life.cut(log);
            assert_eq!(found, acknowledged, "{loss:?}");
            log = again;
        }
        // Of what was not waited for, some may be there; what readers have seen is.
        append(&partition(&log), 100, false);
        let seen = partition(&log).bounds().1;
        let (_, found) = life.cut(log);
        assert!((seen..=acknowledged + 100).contains(&found), "{loss:?}: {found}, {seen} seen");
    });
}

#[test]
fn with_a_size_no_more_than_that_is_lost() {
    let limit = 10_000;
    each_rule(SyncPolicy::Bytes(limit), |life, loss| {
        let mut log = open(&life.at, life.sync);
        let mut acknowledged = 0;
        for count in [3, 150, 77, 210] {
            append(&partition(&log), count, true);
            acknowledged += count;
            let (again, found) = life.cut(log);
            assert!(found <= acknowledged && (acknowledged - found) * (BODY as u64) < limit, "{loss:?}: {found}");
            (log, acknowledged) = (again, found);
        }
        // Less than the size alone is never synced, so that it is lost.
        let before = acknowledged;
        append(&partition(&log), 3, true);
        assert_eq!(life.cut(log).1, before, "{loss:?}");
    });
}

#[test]
fn with_a_time_what_is_older_is_kept() {
    each_rule(SyncPolicy::Interval(Duration::from_millis(20)), |life, loss| {
        let mut log = open(&life.at, life.sync);
        let mut acknowledged = 0;
        for _ in 0..3 {
            append(&partition(&log), 150, true);
            acknowledged += 150;
            // The first that begins from now on covers it, and has ended when the next one has.
            let (begun, end) = (log.syncs().0, Instant::now() + Duration::from_secs(60));
            while log.syncs().0 < begun + 2 {
                assert!(Instant::now() < end, "no sync");
                std::thread::sleep(Duration::from_millis(1));
                append(&partition(&log), 1, true);
                acknowledged += 1;
            }
            let (again, found) = life.cut(log);
            assert!((acknowledged - 100..=acknowledged).contains(&found), "{loss:?}: {found} of {acknowledged}");
            (log, acknowledged) = (again, found);
        }
    });
}

#[test]
fn without_syncs_everything_may_be_lost_and_the_log_starts() {
    each_rule(SyncPolicy::Never, |life, loss| {
        let mut log = open(&life.at, life.sync);
        for _ in 0..3 {
            append(&partition(&log), 300, true);
            let (again, found) = life.cut(log);
            assert_eq!(found, 0, "{loss:?}");
            log = again;
        }
        // Its end in order syncs the newest segment, and none before it.
        append(&partition(&log), 10, true);
        log.close().unwrap();
        let (_, found) = life.cut(log);
        assert!(found <= 10, "{loss:?}: {found}");
    });
}
