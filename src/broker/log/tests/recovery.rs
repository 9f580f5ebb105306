//! Recovery from segments that end anywhere, or are no segments.

use std::fs::File;

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_known_to_be_synced_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(options(dir.path(), SyncPolicy::Group));
    let partition = topic(&log, 1).partition(0).unwrap();
    // One at a time: no sync ever covers two segments.
    let count = 200;
    (0..count).for_each(|_| assert!(kept(partition.append(&batch(&[1; 400])).unwrap())));
    // The process is gone without a word.
    let copy = tempfile::tempdir().unwrap();
    failing::duplicate(dir.path(), copy.path());
    let (log, recovered) = open(options(copy.path(), SyncPolicy::Group));
    assert_eq!(all(&topic(&log, 1).partition(0).unwrap(), 1 << 20).len(), count);
    assert!((1..30).contains(&recovered.batches), "{} of {count} read", recovered.batches);
}

#[test]
fn of_the_newest_segment_only_the_tail_is_read_again() {
    for policy in [SyncPolicy::Never, SyncPolicy::Group, SyncPolicy::Bytes(2000)] {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = options(dir.path(), policy);
        settings.defaults.segment_bytes = 1 << 20;
        settings.checkpoint_bytes = 10_000;
        settings.prewrite = false;
        let numbered = |n: i32| batch_of(1, i64::from(n), Some((9, 0, n)), &[n as u8; 400]);
        let (log, _) = open(settings.clone());
        let partition = topic(&log, 1).partition(0).unwrap();
        let count = 300;
        (0..count).for_each(|n| assert!(kept(partition.append(&numbered(n)).unwrap())));
        // The process is gone without a word.
        let copy = tempfile::tempdir().unwrap();
        failing::duplicate(dir.path(), copy.path());
        settings.dir = copy.path().to_owned();
        let expected: Vec<_> = (0..count).map(|n| (n as u64, vec![n as u8; 400])).collect();
        let (log, recovered) = open(settings.clone());
        assert!((1..60).contains(&recovered.batches), "{policy:?}: {} of {count} read", recovered.batches);
        let partition = topic(&log, 1).partition(0).unwrap();
        assert!(all(&partition, 1000) == expected, "{policy:?}");
        assert_eq!(partition.find_time(77, ReadIsolation::Committed).unwrap().unwrap().0.base, 77);
        // Who has sent what is known, on both sides of the note.
        assert!(partition.append(&numbered(count - 3)).unwrap().duplicate);
        assert!(matches!(partition.append(&numbered(count + 1)), Err(LogError::OutOfSequence { .. })));
        assert!(kept(partition.append(&numbered(count)).unwrap()));
        log.close().unwrap();
        drop((partition, log));
        // After an end in order there is nothing to read.
        let (log, recovered) = open(settings.clone());
        assert_eq!(recovered, Recovered::default(), "{policy:?}");
        let partition = topic(&log, 1).partition(0).unwrap();
        assert_eq!(all(&partition, 1000).len() as i32, count + 1);
        assert!(partition.append(&numbered(count)).unwrap().duplicate);
        drop((partition, log));
        // A segment that ends before what is noted of it is read as if nothing were.
        let path = settings.dir.join("topics/t/0/00000000000000000000.seg");
        let half = std::fs::metadata(&path).unwrap().len() / 2;
        File::options().write(true).open(&path).unwrap().set_len(half).unwrap();
        let (log, recovered) = open(settings);
        let partition = topic(&log, 1).partition(0).unwrap();
        assert!(all(&partition, 1000) == expected[..recovered.batches as usize], "{policy:?}");
        assert_eq!(recovered.batches, half / (HEADER as u64 + 400));
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
