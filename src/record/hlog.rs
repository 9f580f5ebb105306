//! Reads interval logs (HdrHistogram V2) back: those of msgbench, and those of other tools.

use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::{Packed, TaggedInterval};

/// Why an interval log is not readable.
#[derive(Debug, thiserror::Error)]
#[error("not readable as an interval log, entry {entry}: {problem}")]
pub struct HlogError {
    /// Which entry, from 1.
    pub entry: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// One entry of a log.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Kind of latency; empty where it has none.
    pub tag: &'a str,
    /// Start in seconds since the base time of the log.
    pub start_s: f64,
    /// Length in seconds.
    pub length_s: f64,
    /// Its samples.
    pub histogram: Histogram<u64>,
}

/// All histograms of a log, in the order of the file; starts count from its base time.
///
/// # Errors
/// At the first entry that cannot be decoded.
pub fn read(bytes: &[u8]) -> Result<Vec<TaggedInterval>, HlogError> {
    let mut list = Vec::new();
    each(bytes, &|_| true, &mut |e| {
        let (tag, histogram) = (e.tag.to_string(), Packed::of(&e.histogram));
        list.push(TaggedInterval { tag, start_s: e.start_s, length_s: e.length_s, histogram });
    })?;
    Ok(list)
}

/// Calls `found` with each entry whose tag is `wanted`; the others are not decoded, which is most of the time that reading
/// takes.
///
/// # Errors
/// At the first entry that cannot be decoded.
pub fn each(bytes: &[u8], wanted: &dyn Fn(&str) -> bool, found: &mut dyn FnMut(Entry<'_>)) -> Result<(), HlogError> {
    let mut deserializer = Deserializer::new();
    for (i, entry) in IntervalLogIterator::new(bytes).enumerate() {
        let bad = |problem: String| HlogError { entry: i + 1, problem };
        let LogEntry::Interval(interval) = entry.map_err(|e| bad(format!("{e:?}")))? else { continue };
        let tag = interval.tag().map(|t| t.as_str().to_string()).unwrap_or_default();
        if !wanted(&tag) {
            continue;
        }
        let raw = base64::engine::general_purpose::STANDARD
            .decode(interval.encoded_histogram())
            .map_err(|e| bad(e.to_string()))?;
        let histogram = deserializer.deserialize(&mut raw.as_slice()).map_err(|e| bad(e.to_string()))?;
        let (start_s, length_s) = (interval.start_timestamp().as_secs_f64(), interval.duration().as_secs_f64());
        found(Entry { tag: &tag, start_s, length_s, histogram });
    }
    Ok(())
}

/// All intervals with a tag as one histogram; `None` where there is none.
pub fn merged(log: &[TaggedInterval], tag: &str) -> Option<Histogram<u64>> {
    let mut of = log.iter().filter(|i| i.tag == tag).map(|i| i.histogram.open());
    let mut all = of.next()?;
    for h in of {
        // The first one may be narrower than the others: it grows.
        all.auto(true);
        all.add(&h).ok()?;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Store;
    use proptest::prelude::*;

    #[test]
    fn what_was_written_is_read() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::create(root.path(), "hlog").unwrap();
        let log: Vec<TaggedInterval> = (0..6u64)
            .map(|i| {
                let mut histogram = Histogram::new(3).unwrap();
                (0..50).for_each(|v| histogram.record(1000 * v + i).unwrap());
                let tag = if i % 2 == 0 { "e2e" } else { "lag" };
                TaggedInterval { tag: tag.into(), start_s: i as f64, length_s: 1.0, histogram: Packed::of(&histogram) }
            })
            .collect();
        let name = store.write_hlog("a", &log, std::time::SystemTime::now()).unwrap();
        let back = read(&std::fs::read(store.dir.join(name)).unwrap()).unwrap();
        assert_eq!(back.len(), 6);
        assert!(back.iter().zip(&log).all(|(a, b)| a.tag == b.tag && a.histogram.open() == b.histogram.open()));
        assert_eq!(merged(&back, "e2e").unwrap().len(), 150);
        assert!(merged(&back, "rtt").is_none());
        assert!(read(b"Tag=a,0.0,1.0,2.0,!!!\n").is_err());
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
