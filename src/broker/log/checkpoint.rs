//! What is known of the newest segment up to some byte, so that a start reads only what follows.
//!
//! Closed segments are known by their index. Of the newest, the appending thread notes its state
//! every so many bytes: how far it goes, its index, its producers. Under a syncing policy the note
//! is written down once a sync covers it. Under [`SyncPolicy::Never`](super::SyncPolicy::Never) it
//! is written at once and counts only until the system is started again: what is in the page cache
//! survives the process, not the system.
//!
//! Two files take turns, written over in place, so that a crash while one is written leaves the
//! other, and no renaming makes the file system write out something on the appending thread's time.
//! A note that is lost or torn costs reading, never records.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::index::SegmentIndex;
use super::producers::ProducerStates;

const MAGIC: &[u8; 8] = b"mbcheck1";
/// Magic, length and checksum of what follows.
const HEAD: usize = 16;
/// Where Linux says which start of the system this is.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Which start of the system this is, if that can be told.
pub(super) fn boot() -> Option<String> {
    let text = std::fs::read_to_string(BOOT).ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

fn path(dir: &Path, turn: usize) -> PathBuf {
    dir.join(format!("checkpoint-{}", turn % 2))
}

/// A note to be written.
pub(super) struct Checkpoint {
    /// The segment's first offset.
    pub(super) base: u64,
    bytes: Vec<u8>,
}

impl Checkpoint {
    /// The segment that starts with offset `base` ends at byte `position`, before offset `next`.
    /// With `boot`, only until the system is started again.
    pub(super) fn new(
        base: u64,
        position: u64,
        next: u64,
        index: &SegmentIndex,
        producers: &ProducerStates,
        boot: Option<&str>,
    ) -> Self {
        let index = index.encode(position, next);
        let boot = boot.unwrap_or_default().as_bytes();
        let mut bytes = vec![0; HEAD];
        bytes.extend_from_slice(&base.to_le_bytes());
        for part in [boot, &index, &serde_json::to_vec(producers).unwrap_or_default()] {
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        let length = (bytes.len() - HEAD) as u32;
        let sum = crc32c::crc32c(&bytes[HEAD..]);
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12..HEAD].copy_from_slice(&sum.to_le_bytes());
        Self { base, bytes }
    }

    /// Writes it over the older of the two.
    pub(super) fn write(&self, dir: &Path, turn: usize) -> io::Result<()> {
        // Not shortened first: that would have the file system write it out when it is closed.
        let file = File::options().write(true).create(true).truncate(false).open(path(dir, turn))?;
        file.write_all_at(&self.bytes, 0)
    }
}

/// What a note says.
#[derive(Debug)]
pub(super) struct CheckpointState {
    pub(super) end: u64,
    pub(super) next: u64,
    pub(super) index: SegmentIndex,
    pub(super) producers: ProducerStates,
    /// Whose turn it was.
    pub(super) turn: usize,
}

/// The note of the segment that starts with offset `base` which goes furthest, if it still counts.
pub(super) fn find(dir: &Path, base: u64, boot: Option<&str>) -> Option<CheckpointState> {
    let known = (0..2).filter_map(|turn| {
        let bytes = std::fs::read(path(dir, turn)).ok()?;
        Some(CheckpointState { turn, ..decode(&bytes, base, boot)? })
    });
    known.max_by_key(|known| known.end)
}

/// Removes the notes, as they are of a segment that will not be what it was.
pub(super) fn forget(dir: &Path) -> io::Result<()> {
    for turn in 0..2 {
        match std::fs::remove_file(path(dir, turn)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn number<'a>(bytes: &mut &'a [u8]) -> Option<usize> {
    let (head, rest): (&'a [u8; 4], _) = bytes.split_first_chunk()?;
    *bytes = rest;
    usize::try_from(u32::from_le_bytes(*head)).ok()
}

fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(bytes)?;
    let part = bytes.get(..length)?;
    *bytes = &bytes[length..];
    Some(part)
}

fn decode(bytes: &[u8], base: u64, boot: Option<&str>) -> Option<CheckpointState> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let (length, sum) = (number(&mut rest)?, number(&mut rest)?);
    let body = rest.get(..length)?;
    if crc32c::crc32c(body) as usize != sum {
        return None;
    }
    let (of, mut body) = body.split_first_chunk::<8>()?;
    let made_in = part(&mut body)?;
    let counts = made_in.is_empty() || boot.is_some_and(|boot| boot.as_bytes() == made_in);
    if u64::from_le_bytes(*of) != base || !counts {
        return None;
    }
    let (index, end, next) = SegmentIndex::decode(base, part(&mut body)?)?;
    let producers = serde_json::from_slice(part(&mut body)?).ok()?;
    Some(CheckpointState { end, next, index, producers, turn: 0 })
}

#[cfg(test)]
mod tests {
    use super::super::format::{BatchHeader, ProducerStamp};
    use super::super::position::End;
    use super::*;
    use proptest::prelude::*;

    fn note(position: u64, boot: Option<&str>) -> Checkpoint {
        let mut index = SegmentIndex::new(7);
        let mut producers = ProducerStates::default();
        let producer = Some(ProducerStamp { id: 3, epoch: 0, sequence: 0 });
        for n in 0..4 {
            let view = BatchHeader {
                len: 20_000,
                base: 7 + n,
                count: 1,
                max_timestamp: n as i64,
                producer,
                transaction: None,
            };
            index.add(&view, n * 20_000);
            producers.stored(&view, End { base: 7, position: n * 20_000, offset: 7 + n }, 10);
        }
        Checkpoint::new(7, position, 11, &index, &producers, boot)
    }

    #[test]
    fn the_note_that_goes_furthest_counts_while_its_system_runs() {
        let dir = tempfile::tempdir().unwrap();
        assert!(find(dir.path(), 7, Some("now")).is_none());
        note(80_000, None).write(dir.path(), 0).unwrap();
        note(90_000, Some("now")).write(dir.path(), 1).unwrap();
        let seen = |base, boot| find(dir.path(), base, boot).map(|known| (known.end, known.next, known.turn));
        assert_eq!(seen(7, Some("now")), Some((90_000, 11, 1)));
        assert_eq!(seen(7, Some("later")), Some((80_000, 11, 0)));
        assert_eq!(seen(7, None), Some((80_000, 11, 0)));
        assert_eq!(seen(8, Some("now")), None);
        let known = find(dir.path(), 7, None).unwrap();
        assert_eq!((known.index.max_timestamp, known.producers.is_empty()), (3, false));
        // One that is torn leaves the other.
        let whole = std::fs::read(dir.path().join("checkpoint-1")).unwrap();
        std::fs::write(dir.path().join("checkpoint-1"), &whole[..whole.len() / 2]).unwrap();
        assert_eq!(seen(7, Some("now")), Some((80_000, 11, 0)));
        forget(dir.path()).unwrap();
        assert_eq!(seen(7, Some("now")), None);
    }

    proptest! {
        #[test]
        fn a_damaged_note_does_not_count(flip in any::<prop::sample::Index>(), bit in 0u32..8, any in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = note(80_000, None).bytes;
            prop_assert!(decode(&bytes, 7, None).is_some());
            let at = flip.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes, 7, None).is_none());
            prop_assert!(decode(&any, 7, None).is_none());
        }
    }
}
