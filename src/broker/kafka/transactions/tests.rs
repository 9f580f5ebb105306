//! The coordinator on a disk that fails, and what a loss of power leaves.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::super::batch::{self, RecordBatches};
use super::super::config::KafkaConfig;
use super::*;
use crate::broker::log::{BatchDecision, BatchFormat as _, Disk, LogOptions, SyncPolicy, SystemDisk};

/// A disk on which files of one topic cannot be synced for a while.
#[derive(Default)]
struct FailingTopicDisk {
    fails: AtomicBool,
    /// A part of the path of these files.
    topic: &'static str,
}

impl Disk for FailingTopicDisk {
    fn write(&self, file: &File, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        SystemDisk.write(file, parts, position)
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        match self.fails.load(Ordering::Acquire) && path.to_string_lossy().contains(self.topic) {
            true => Err(io::Error::other("made to fail")),
            false => Ok(()),
        }
    }
}

struct CoordinatorBench {
    log: Arc<Log>,
    coordinator: Arc<TransactionCoordinator>,
    wake: Arc<WakeSignal>,
}

fn open(dir: &Path, disk: Arc<dyn Disk>) -> CoordinatorBench {
    let mut options = LogOptions::new(dir);
    (options.sync, options.disk, options.prewrite) = (SyncPolicy::Group, disk, false);
    let log = Log::open(options, Arc::new(RecordBatches)).unwrap().0;
    if log.topic("out").is_none() {
        log.create("out", 1, log.defaults().clone(), BTreeMap::default()).unwrap();
    }
    let groups = Coordinator::open(Arc::clone(&log), &KafkaConfig::new(dir), Arc::default()).unwrap();
    let coordinator = TransactionCoordinator::open(Arc::clone(&log), groups).unwrap();
    CoordinatorBench { log, coordinator, wake: WakeSignal::new() }
}

impl CoordinatorBench {
    /// Waits while the coordinator works.
    fn until(&self, what: &str, come_true: impl Fn(&Self) -> bool) {
        self.wait(what, |bench| {
            bench.coordinator.work();
            come_true(bench)
        });
    }

    /// Waits while it does not.
    fn wait(&self, what: &str, come_true: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !come_true(self) {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn synced(&self, ticket: Option<SyncTicket>) -> bool {
        let Some(ticket) = ticket else { return true };
        self.wait("the sync is decided", |_| ticket.state().is_some());
        ticket.state() == Some(true)
    }

    fn out(&self) -> Arc<Partition> {
        self.log.topic("out").unwrap().partition(0).unwrap()
    }

    /// A producer with an open transaction that has one record.
    fn begin(&self) -> ProducerIdentity {
        let (producer, ticket) = self.coordinator.init("id", 60_000, None).unwrap();
        assert!(self.synced(ticket));
        let ticket = self.coordinator.add("id", producer, &[("out".to_owned(), 0)]).unwrap();
        assert!(self.synced(ticket));
        let part = batch::of_transaction(batch::encode(&[(b"k", Some(b"v"))], 0), producer.id, producer.epoch);
        let appended = self.out().append(&part).unwrap();
        assert!(self.synced(appended.ticket));
        producer
    }

    fn end(&self, producer: ProducerIdentity) -> Arc<ReplySlot> {
        let slot = ReplySlot::new(&self.wake);
        let waiter = EndWaiter { slot: Arc::clone(&slot), correlation: 1, version: 3 };
        assert!(matches!(self.coordinator.end("id", producer, true, waiter), Ok(EndOutcome::Waits)));
        slot
    }

    /// What has become of the record.
    fn decision(&self) -> BatchDecision {
        let slice = self.out().read(0, 1 << 20, true).unwrap().unwrap();
        let mut bytes = vec![0; slice.len];
        slice.read(&mut bytes).unwrap();
        self.out().decision(&RecordBatches.view(&bytes).unwrap())
    }

    /// Whether everything that is written to the log of transactions by now is synced.
    fn coordinator_synced(&self) {
        let (_, ticket) = self.coordinator.init("other", 60_000, None).unwrap();
        assert!(self.synced(ticket));
    }
}

/// The end is decided and synced, and the partition loses it to a failed sync: it is written again.
#[test]
fn an_end_that_a_failed_sync_has_taken_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingTopicDisk { topic: "/out/", ..FailingTopicDisk::default() });
    let bench = open(dir.path(), disk.clone());
    let producer = bench.begin();
    disk.fails.store(true, Ordering::Release);
    let slot = bench.end(producer);
    // Each failed sync takes the partition back to what was synced before.
    let failures = bench.log.syncs().1;
    bench.until("a sync fails", |bench| bench.log.syncs().1 > failures);
    disk.fails.store(false, Ordering::Release);
    bench.until("it is committed in the partition", |bench| bench.decision() == BatchDecision::Counts);
    bench.until("who waits is told", |_| slot.take().is_some());
    bench.log.close().unwrap();
}

/// A loss of power while the end is decided and not synced in the partition: it is committed.
#[test]
fn a_loss_of_power_between_decision_and_ends_keeps_the_decision() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingTopicDisk { topic: "/out/", ..FailingTopicDisk::default() });
    let bench = open(dir.path(), disk.clone());
    let producer = bench.begin();
    let synced = bench.out().next_offset();
    disk.fails.store(true, Ordering::Release);
    let _slot = bench.end(producer);
    let failures = bench.log.syncs().1;
    bench.until("the end is written and its sync fails", |bench| bench.log.syncs().1 > failures);
    // What is left then: the partition without the end, as the failed syncs have left it.
    bench.wait("the partition has gone back", |bench| bench.out().next_offset() == synced);
    bench.coordinator_synced();
    let copy = tempfile::tempdir().unwrap();
    duplicate(dir.path(), copy.path());
    let again = open(copy.path(), Arc::new(SystemDisk));
    again.until("it is committed", |bench| bench.decision() == BatchDecision::Counts);
    disk.fails.store(false, Ordering::Release);
}

/// Who asks again is not told that partitions are a part of the transaction before that is synced.
#[test]
fn partitions_are_not_said_to_be_added_before_that_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingTopicDisk { topic: "__transaction_state", ..FailingTopicDisk::default() });
    let bench = open(dir.path(), disk.clone());
    let (producer, ticket) = bench.coordinator.init("id", 60_000, None).unwrap();
    assert!(bench.synced(ticket));
    let out = [("out".to_owned(), 0)];
    disk.fails.store(true, Ordering::Release);
    let first = bench.coordinator.add("id", producer, &out).unwrap();
    assert!(!bench.synced(first));
    let again = bench.coordinator.add("id", producer, &out).unwrap();
    assert!(!bench.synced(Some(again.expect("nothing is synced"))));
    disk.fails.store(false, Ordering::Release);
    bench.until("it is noted", |bench| {
        let ticket = bench.coordinator.add("id", producer, &out).unwrap();
        bench.synced(ticket)
    });
    let known = TransactionStore::open(&bench.log).unwrap().1;
    assert_eq!(known["id"].partitions.len(), 1);
}

/// With the last of the epochs an end gives the producer another id, whatever happens meanwhile.
#[test]
fn the_end_that_uses_up_the_epochs_gives_another_producer_id() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path(), Arc::new(SystemDisk));
    let (first, ticket) = bench.coordinator.init("id", 60_000, None).unwrap();
    assert!(bench.synced(ticket));
    let last = ProducerIdentity { epoch: i16::MAX - 1, ..first };
    let ticket = bench.coordinator.store.save("id", Some(&Transaction::new(last, 60_000, 0)), 0).unwrap();
    assert!(bench.synced(ticket));
    bench.log.close().unwrap();
    drop(bench);
    let bench = open(dir.path(), Arc::new(SystemDisk));
    let ticket = bench.coordinator.add("id", last, &[("out".to_owned(), 0)]).unwrap();
    assert!(bench.synced(ticket));
    let end = |bench: &CoordinatorBench| {
        let slot = ReplySlot::new(&bench.wake);
        let waiter = EndWaiter { slot: Arc::clone(&slot), correlation: 1, version: 5 };
        (bench.coordinator.end("id", last, true, waiter), slot)
    };
    let (outcome, slot) = end(&bench);
    assert!(matches!(outcome, Ok(EndOutcome::Waits)));
    bench.until("who waits is told", |_| slot.take().is_some());
    bench.until("it is noted", |bench| bench.coordinator.ids()["id"].current.successor < 0);
    let then = bench.coordinator.ids()["id"].current.producer;
    assert!(then.id != first.id && then.epoch == 0, "{then:?}");
    // Who has not heard of it asks again, also after a restart.
    assert!(matches!(end(&bench).0, Ok(EndOutcome::Done(told)) if told == then));
    bench.coordinator_synced();
    bench.log.close().unwrap();
    drop(bench);
    let bench = open(dir.path(), Arc::new(SystemDisk));
    assert!(matches!(end(&bench).0, Ok(EndOutcome::Done(told)) if told == then));
    let late = bench.coordinator.add("id", last, &[("out".to_owned(), 0)]);
    assert_eq!(late.err(), Some(code::INVALID_PRODUCER_ID_MAPPING));
    let ticket = bench.coordinator.add("id", then, &[("out".to_owned(), 0)]).unwrap();
    assert!(bench.synced(ticket));
    assert_eq!(end(&bench).0.err(), Some(code::INVALID_PRODUCER_ID_MAPPING), "another transaction is open");
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
