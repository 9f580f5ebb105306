//! Ids that are given once: of producers, of topics.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::disk::{Disk, is_unwritten, write_whole};
use super::error::LogError;
use super::segment::lock;

/// Producer ids that are taken out of the file at a time.
const PRODUCER_BLOCK: i64 = 1000;

/// What gives ids out.
pub(super) struct IdAllocator {
    /// Where it is written down up to which producer id they are taken.
    path: PathBuf,
    disk: Arc<dyn Disk>,
    producers: Mutex<ProducerIds>,
    next: AtomicU64,
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[derive(Default)]
struct ProducerIds {
    next: i64,
    reserved: i64,
}

impl IdAllocator {
    /// Ids for a log in that directory.
    pub(super) fn new(dir: &Path, disk: Arc<dyn Disk>) -> Self {
        let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        Self { path: dir.join("producer-ids"), disk, producers: Mutex::default(), next: seed.into() }
    }

    /// An id no producer of this log has had.
    pub(super) fn producer(&self) -> Result<i64, LogError> {
        let mut ids = lock(&self.producers);
        if ids.next >= ids.reserved {
            let taken = match std::fs::read(&self.path) {
                Ok(text) if !is_unwritten(&text) => number(&text).ok_or_else(|| LogError::Damaged {
                    path: self.path.clone(),
                    reason: "it should hold one number".into(),
                })?,
                _ => 0,
            };
            let reserved = taken.max(ids.reserved) + PRODUCER_BLOCK;
            // Whatever the policy: an id given twice would have one producer's records taken for
            // those of another.
            write_whole(Some(&*self.disk), &self.path, reserved.to_string().as_bytes())?;
            let dir = self.path.parent().unwrap_or(Path::new("."));
            self.disk.sync_names(dir).map_err(LogError::io("sync", dir))?;
            ids.next = reserved - PRODUCER_BLOCK;
            ids.reserved = reserved;
        }
        ids.next += 1;
        Ok(ids.next)
    }

    /// A random-looking id: time of the start, mixed with a count.
    pub(super) fn topic(&self) -> [u8; 16] {
        let mix = |mut z: u64| {
            // The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let n = self.next.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&mix(n).to_be_bytes());
        id[8..].copy_from_slice(&mix(n ^ u64::from(std::process::id())).to_be_bytes());
        // The bits of a version 4 UUID.
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        id
    }
}
