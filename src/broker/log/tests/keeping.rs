//! What is appended is read back, kept and let go as told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

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
            assert_eq!(PlainFormat.view(&header).unwrap().base, offset / 2 * 2);
        }
        assert!(partition.read(1000, 100, true).unwrap().is_none());
        assert!(matches!(partition.read(1001, 1, true), Err(LogError::OutOfRange { end: 1000, .. })));
        for time in [0, 1, 77, 250, 499] {
            assert_eq!(partition.find_time(time, ReadIsolation::Uncommitted).unwrap().unwrap().0.base, time as u64 * 2);
        }
        assert!(partition.find_time(500, ReadIsolation::Committed).unwrap().is_none());
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
    let settings = TopicSettings { max_batch: 10, ..log.defaults().clone() };
    topic(&log, 1).change(settings, Default::default()).unwrap();
    assert!(matches!(partition.append(&good), Err(LogError::TooLarge { limit: 10, .. })));
    assert_eq!(partition.bounds(), (0, 0));
}

#[test]
fn only_one_process_may_have_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (_log, _) = open(options(dir.path(), SyncPolicy::Never));
    assert!(matches!(Log::open(LogOptions::new(dir.path()), Arc::new(PlainFormat)), Err(LogError::InUse(_))));
}

#[test]
fn producer_ids_and_producers_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for round in 0..3 {
        let (log, _) = open(options(dir.path(), SyncPolicy::Never));
        ids.extend((0..1500).map(|_| log.producer_id().unwrap()));
        let partition = topic(&log, 1).partition(0).unwrap();
        // Enough to fill segments: what is known of a producer must not depend on the segment it is
        // in.
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
    let change = |settings: TopicSettings| topic.change(settings, Default::default()).unwrap();
    change(TopicSettings { retention_records: Some(150), ..topic.settings() });
    log.clean();
    let (start, end) = partition.bounds();
    assert!(end - start >= 150 && end - start < 170, "{start}..{end}");
    change(TopicSettings { retention_bytes: Some(12_000), ..topic.settings() });
    log.clean();
    assert!((12_000..17_000).contains(&partition.size()), "{}", partition.size());
    assert_eq!(all(&partition, 1000).len() as u64, end - partition.bounds().0);
    assert_eq!(partition.trim(195).unwrap(), 195);
    assert!(matches!(partition.read(194, 100, true), Err(LogError::OutOfRange { start: 195, .. })));
    log.clean();
    assert!(partition.size() < 4096);
    // All records are older than a day.
    change(TopicSettings { retention_ms: Some(24 * 3600 * 1000), ..topic.settings() });
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
    let settings = TopicSettings { compact: true, delete: false, tombstone_ms: 0, ..log.defaults().clone() };
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
    let wake_signal = WakeSignal::new();
    let woken = || {
        runtime.block_on(async { tokio::time::timeout(Duration::from_millis(50), wake_signal.woken()).await.is_ok() })
    };
    assert!(partition.await_more(0, &wake_signal));
    assert!(partition.await_more(0, &wake_signal));
    assert!(!woken());
    partition.append(&batch(b"1")).unwrap();
    assert!(woken());
    partition.append(&batch(b"2")).unwrap();
    assert!(!woken(), "nobody waited");
    assert!(!partition.await_more(1, &wake_signal), "there is more already");
    assert!(partition.await_more(2, &wake_signal));
    log.delete("t").unwrap();
    assert!(woken());
    assert!(matches!(partition.append(&batch(b"3")), Err(LogError::Deleted)));
    assert!(matches!(partition.read(0, 10, true), Err(LogError::Deleted)));
    assert!(!dir.path().join("topics/t").exists());
}

#[test]
fn bounds_hold() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(LogOptions { max_partitions: 5, ..options(dir.path(), SyncPolicy::Never) });
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Batches appended together are what they are when appended one by one: offsets, refusals,
    /// duplicates, segments.
    #[test]
    fn together_is_as_one_by_one(
        kinds in proptest::collection::vec((0u8..10, 0usize..700), 1..60),
        cuts in proptest::collection::vec(1usize..20, 1..20),
    ) {
        let mut sequence = 0;
        let batches: Vec<Vec<u8>> = kinds.iter().map(|(kind, len)| {
            let body = vec![*kind; *len];
            match kind {
                // Damaged, numbered, numbered with a gap, again the one before.
                0 => [batch(&body), vec![0]].concat(),
                1 | 2 => { sequence += 1; batch_of(1, 5, Some((9, 0, sequence - 1)), &body) }
                3 => batch_of(1, 5, Some((9, 0, sequence + 7)), &body),
                4 => batch_of(1, 5, Some((9, 0, sequence - 1)), &body),
                count => batch_of(u32::from(*count), 5, None, &body),
            }
        }).collect();
        let said = |outcome: Result<Appended, LogError>| match outcome {
            Ok(appended) => format!("{} {} {}", appended.base, appended.start, appended.duplicate),
            Err(error) => error.to_string(),
        };
        let (one, many) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (single, _) = open(options(one.path(), SyncPolicy::Never));
        let (together, _) = open(options(many.path(), SyncPolicy::Never));
        let (single, together) = (topic(&single, 1).partition(0).unwrap(), topic(&together, 1).partition(0).unwrap());
        let expected: Vec<String> = batches.iter().map(|b| said(single.append(b))).collect();
        let mut found = Vec::new();
        let mut rest = &batches[..];
        for cut in cuts.iter().cycle() {
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            let borrowed: Vec<&[u8]> = head.iter().map(Vec::as_slice).collect();
            found.extend(together.append_all(&borrowed).into_iter().map(said));
            rest = tail;
            if rest.is_empty() { break }
        }
        prop_assert_eq!(found, expected);
        prop_assert!(all(&together, 900) == all(&single, 900));
        prop_assert_eq!(together.size(), single.size());
    }
}

/// Between the look for a range and for the aborted transactions in it retention may let both go.
#[test]
fn what_is_let_go_while_it_is_read_is_not_given_as_decided() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(options(dir.path(), SyncPolicy::Never));
    let partition = topic(&log, 1).partition(0).unwrap();
    let body = vec![0; 3000];
    partition.append(&step_of(7, TransactionStep::Part, &body)).unwrap();
    partition.append(&step_of(7, TransactionStep::Abort, b"")).unwrap();
    // Others after it, in segments of their own.
    (0..3).for_each(|_| drop(partition.append(&batch(&body)).unwrap()));
    let look = || partition.find(0, 100, true, ReadIsolation::Committed).unwrap().unwrap();
    let (slice, segment) = look();
    assert_eq!(partition.judged(0, slice, &segment).unwrap().aborted.len(), 1);
    let (slice, segment) = look();
    partition.trim(3).unwrap();
    log.clean();
    let judged = partition.judged(0, slice, &segment);
    assert!(matches!(judged, Err(LogError::OutOfRange { offset: 0, .. })), "{judged:?}");
}
