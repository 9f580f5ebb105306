//! Histograms as they are kept: compressed, a few KB instead of the 270 KB that a histogram takes
//! while it is filled; and on disk, where there are many.
//!
//! A run of an hour has thousands of intervals of several kinds; kept open they would be gigabytes,
//! and compressed in memory tens of megabytes that grow with the run.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize};

/// From 1 ns to 1 h, 3 significant digits: what others tell can be added to what was recorded here.
const BOUNDS: (u64, u64, u8) = (1, 3_600_000_000_000, 3);

/// A compressed histogram. The encoding is HdrHistogram's V2.
#[derive(Debug, Clone)]
pub struct Packed(HistogramBytes);

#[derive(Debug, Clone)]
enum HistogramBytes {
    Memory(Arc<[u8]>),
    File { file: Arc<File>, at: u64, length: usize },
}

impl Packed {
    /// Compresses a histogram.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(histogram, &mut bytes)
            .expect("counts of 64 bits fit, and memory takes every byte");
        Self(HistogramBytes::Memory(bytes.into()))
    }

    /// The histogram that was compressed.
    pub fn open(&self) -> Histogram<u64> {
        let read = |bytes: &[u8]| Deserializer::new().deserialize(&mut &bytes[..]);
        self.read(read).expect("what was packed here can be unpacked")
    }

    /// Adds it to a histogram of the same bounds.
    pub fn add_to(&self, all: &mut Histogram<u64>) {
        // Equal bounds always add.
        let _ = all.add(self.open());
    }

    /// The sum of some of the same bounds.
    pub fn sum<'p>(mut some: impl Iterator<Item = &'p Self>) -> Option<Histogram<u64>> {
        let mut all = some.next()?.open();
        some.for_each(|one| one.add_to(&mut all));
        Some(all)
    }

    fn read<T>(&self, with: impl FnOnce(&[u8]) -> T) -> T {
        match &self.0 {
            HistogramBytes::Memory(bytes) => with(bytes),
            HistogramBytes::File { file, at, length } => {
                let mut bytes = vec![0; *length];
                file.read_exact_at(&mut bytes, *at).expect("a file that only we know has what was written to it");
                with(&bytes)
            }
        }
    }

    /// Bytes that it takes in memory.
    fn bytes(&self) -> usize {
        match &self.0 {
            HistogramBytes::Memory(bytes) => bytes.len(),
            HistogramBytes::File { .. } => 0,
        }
    }
}

/// As text: base64 of the V2 encoding, as interval logs have it.
impl Serialize for Packed {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.read(|bytes| STANDARD.encode(bytes)).serialize(to)
    }
}

/// What is no histogram of the house is refused.
impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wrong = |e: &dyn std::fmt::Display| serde::de::Error::custom(format!("not a histogram: {e}"));
        let bytes = STANDARD.decode(String::deserialize(from)?).map_err(|e| wrong(&e))?;
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).map_err(|e| wrong(&e))?;
        let bounds = (read.low(), read.high(), read.sigfig());
        if bounds != BOUNDS {
            return Err(wrong(&format!("its bounds are {bounds:?}, those of the house {BOUNDS:?}")));
        }
        Ok(Self(HistogramBytes::Memory(bytes.into())))
    }
}

/// Compressed histograms by key. What exceeds the bound in memory is written to a file, the first
/// to come first.
///
/// The file has no name: it is gone with the process, however that ends. Where no file can be
/// written, all is kept in memory.
#[derive(Debug)]
pub struct HistogramStore<K> {
    all: BTreeMap<K, Packed>,
    /// Keys of what is in memory.
    fresh: VecDeque<K>,
    bytes: usize,
    bound: usize,
    /// The file and its end.
    file: Option<(Arc<File>, u64)>,
}

/// Bytes of histograms that a [`HistogramStore`] keeps in memory: those of a minute or so.
const BOUND: usize = 1 << 20;

impl<K: Ord + Copy> Default for HistogramStore<K> {
    fn default() -> Self {
        Self::with_bound(BOUND)
    }
}

impl<K: Ord + Copy> HistogramStore<K> {
    /// Keeps so many bytes in memory.
    pub fn with_bound(bound: usize) -> Self {
        Self { all: BTreeMap::new(), fresh: VecDeque::new(), bytes: 0, bound, file: None }
    }

    /// Adds a histogram to what is there of this key. Bounds of all are equal.
    pub fn add(&mut self, key: K, mut histogram: Histogram<u64>) {
        if let Some(there) = self.all.get(&key) {
            there.add_to(&mut histogram);
        }
        let packed = Packed::of(&histogram);
        self.bytes += packed.bytes();
        match self.all.insert(key, packed).map_or(0, |before| before.bytes()) {
            0 => self.fresh.push_back(key),
            before => self.bytes -= before,
        }
        while self.bytes > self.bound && self.store_first() {}
    }

    /// Adds many, of which several may have the same key: each key's sum is opened and compressed
    /// once.
    pub fn add_all(&mut self, mut many: Vec<(K, Packed)>) {
        many.sort_by_key(|(key, _)| *key);
        for same in many.chunk_by(|a, b| a.0 == b.0) {
            if let Some(sum) = Packed::sum(same.iter().map(|(_, packed)| packed)) {
                self.add(same[0].0, sum);
            }
        }
    }

    /// Everything, by key.
    pub fn into_all(self) -> BTreeMap<K, Packed> {
        self.all
    }

    /// Writes what came first to the file; false when that is not possible.
    fn store_first(&mut self) -> bool {
        if self.file.is_none() {
            self.file = unnamed_file().ok().map(|file| (Arc::new(file), 0));
        }
        let (Some((file, end)), Some(key)) = (&mut self.file, self.fresh.front()) else {
            self.bound = usize::MAX;
            return false;
        };
        let Some(packed) = self.all.get_mut(key) else { return self.fresh.pop_front().is_some() };
        if let HistogramBytes::Memory(bytes) = &packed.0 {
            if file.write_all_at(bytes, *end).is_err() {
                // The disk is full, say: what is written stays there.
                self.bound = usize::MAX;
                return false;
            }
            let (at, length) = (*end, bytes.len());
            *end += length as u64;
            self.bytes -= length;
            packed.0 = HistogramBytes::File { file: Arc::clone(file), at, length };
        }
        self.fresh.pop_front().is_some()
    }
}

impl<K> Deref for HistogramStore<K> {
    type Target = BTreeMap<K, Packed>;
    fn deref(&self) -> &BTreeMap<K, Packed> {
        &self.all
    }
}

/// A file without a name where temporary files go: `TMPDIR`, then `/var/tmp`, which is on a disk
/// where `/tmp` is memory.
fn unnamed_file() -> io::Result<File> {
    let asked = std::env::var_os("TMPDIR").map(PathBuf::from);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for dir in asked.into_iter().chain([PathBuf::from("/var/tmp"), std::env::temp_dir()]) {
        match unnamed_file_in(&dir) {
            Ok(file) => return Ok(file),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn unnamed_file_in(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    if let Ok(file) = options.clone().custom_flags(libc::O_TMPFILE).open(dir) {
        return Ok(file);
    }
    // Not every file system knows O_TMPFILE.
    let path = dir.join(format!("msgbench-{}-{}.tmp", std::process::id(), crate::units::now()));
    let file = options.create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocations::held;
    use proptest::prelude::*;

    fn house() -> Histogram<u64> {
        Histogram::new_with_bounds(1, 3_600_000_000_000, 3).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn nothing_is_lost_and_it_is_small(values in prop::collection::vec(1u64..3_600_000_000_000, 0..400)) {
            let mut histogram = house();
            values.iter().for_each(|v| histogram.record(*v).unwrap());
            let packed = Packed::of(&histogram);
            prop_assert_eq!(packed.open(), histogram);
            prop_assert!(packed.bytes() < 8_000, "{}", packed.bytes());
        }

        #[test]
        fn a_shelf_keeps_everything_within_its_bound(
            adds in prop::collection::vec((0u64..30, prop::collection::vec(1u64..1 << 40, 1..100)), 1..80),
            bound in prop_oneof![Just(0usize), 1_000usize..40_000, Just(usize::MAX)],
        ) {
            let mut histograms = HistogramStore::with_bound(bound);
            let mut model: BTreeMap<u64, Histogram<u64>> = BTreeMap::new();
            for (key, values) in adds {
                let mut histogram = house();
                values.iter().for_each(|v| histogram.record(*v).unwrap());
                model.entry(key).or_insert_with(house).add(&histogram).unwrap();
                histograms.add(key, histogram);
                let in_memory: usize = histograms.values().map(Packed::bytes).sum();
                prop_assert!(in_memory <= bound && in_memory == histograms.bytes, "{in_memory} {} {bound}", histograms.bytes);
            }
            prop_assert_eq!(histograms.len(), model.len());
            let many = histograms.iter().flat_map(|(key, packed)| [(key % 3, packed.clone()), (key % 3, packed.clone())]);
            let mut again: HistogramStore<u64> = HistogramStore::with_bound(bound);
            again.add_all(many.collect());
            for (key, packed) in again.into_all() {
                let mut twice = house();
                for (_, histogram) in model.iter().filter(|(k, _)| *k % 3 == key) {
                    twice.add(histogram).unwrap();
                    twice.add(histogram).unwrap();
                }
                prop_assert_eq!(&packed.open(), &twice);
            }
            for (key, packed) in histograms.into_all() {
                prop_assert_eq!(&packed.open(), &model[&key]);
            }
        }
    }

    /// What another process tells is taken as it was, and nothing that could not be added.
    #[test]
    fn what_cannot_be_added_is_refused() {
        let mut own = house();
        own.record(5).unwrap();
        let text = serde_json::to_string(&Packed::of(&own)).unwrap();
        assert_eq!(serde_json::from_str::<Packed>(&text).unwrap().open(), own);
        let longer = Histogram::new_with_bounds(1, 7_200_000_000_000, 3).unwrap();
        for (wrong, words) in [
            (serde_json::to_string(&Packed::of(&longer)).unwrap(), "its bounds are (1, 7200000000000, 3)"),
            (text[..20].to_owned() + "\"", "not a histogram: "),
            ("\"?\"".into(), "not a histogram: "),
        ] {
            let said = serde_json::from_str::<Packed>(&wrong).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
    }

    /// An interval of six kinds at 5,000 messages: what a trial adds for each, in memory.
    #[test]
    fn memory_of_a_long_trial_does_not_grow_by_its_histograms() {
        let grown = |bound: usize, intervals: u64| {
            let mut histograms: HistogramStore<(u8, u64)> = HistogramStore::with_bound(bound);
            let before = held();
            let mut random = 88_172_645_463_325_252u64;
            let mut histogram = house();
            for interval in 0..intervals {
                for kind in 0..6 {
                    histogram.reset();
                    for _ in 0..5_000 {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let tail = 1.0 / (1.0 - (random >> 11) as f64 / (1u64 << 53) as f64);
                        histogram.saturating_record(80_000 + (60_000.0 * tail) as u64);
                    }
                    histograms.add((kind, interval), histogram.clone());
                }
            }
            (held() - before) as f64
        };
        let bound = 1 << 17;
        let each = (grown(usize::MAX, 80) - grown(usize::MAX, 20)) / 60.0;
        let bounded = (grown(bound, 80) - grown(bound, 20)) / 60.0;
        println!("an interval adds {each:.0} bytes without a bound, {bounded:.0} with one");
        assert!(each > 8_000.0 && bounded < 1_000.0, "{each} {bounded}");
    }
}
