//! Ids that are given once: of producers, of topics.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::error::LogError;
use super::segment::{lock, write_whole};

/// Producer ids that are taken out of the file at a time.
const PRODUCER_BLOCK: i64 = 1000;

/// What gives ids out.
pub(super) struct IdAllocator {
    /// Where it is written down up to which producer id they are taken.
    path: PathBuf,
    producers: Mutex<ProducerIds>,
    next: AtomicU64,
}

#[derive(Default)]
struct ProducerIds {
    next: i64,
    reserved: i64,
}

impl IdAllocator {
    /// Ids for a log in that directory.
    pub(super) fn new(dir: &Path) -> Self {
        let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        Self { path: dir.join("producer-ids"), producers: Mutex::default(), next: seed.into() }
    }

    /// An id no producer of this log has had.
    pub(super) fn producer(&self) -> Result<i64, LogError> {
        let mut ids = lock(&self.producers);
        if ids.next >= ids.reserved {
            let taken = match std::fs::read_to_string(&self.path) {
                Ok(text) => text.trim().parse().map_err(|_| LogError::Damaged {
                    path: self.path.clone(),
                    reason: "it should hold one number".into(),
                })?,
                Err(_) => 0i64,
            };
            let reserved = taken.max(ids.reserved) + PRODUCER_BLOCK;
            write_whole(&self.path, reserved.to_string().as_bytes())?;
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
