//! Reads interval logs of HdrHistogram back: those of msgbench, and those of other tools.
//!
//! A line is `start,length,max,histogram`, with `Tag=NAME,` before it where it has a tag. What
//! other programs write is read too: a byte-order mark, line ends of Windows, blank lines, whole
//! seconds, no line feed at the end, and encodings V0 and V1.

mod decode;

use base64::Engine;
use hdrhistogram::Histogram;

use super::{Packed, TaggedInterval};

/// Why an interval log is not readable.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the interval log: {problem}")]
pub struct HlogError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// One entry of a log.
#[derive(Debug)]
pub struct HlogEntry<'a> {
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
/// At the first line that cannot be read.
pub fn read(bytes: &[u8]) -> Result<Vec<TaggedInterval>, HlogError> {
    let mut list = Vec::new();
    each(bytes, &|_| true, &mut |e| {
        let (tag, histogram) = (e.tag.to_string(), Packed::of(&e.histogram));
        list.push(TaggedInterval { tag, start_s: e.start_s, length_s: e.length_s, histogram });
    })?;
    Ok(list)
}

/// Calls `found` with each entry whose tag is `wanted`; the others are not decoded, which is most
/// of the time that reading takes.
///
/// # Errors
/// At the first line that cannot be read.
pub fn each(
    bytes: &[u8],
    wanted: &dyn Fn(&str) -> bool,
    found: &mut dyn FnMut(HlogEntry<'_>),
) -> Result<(), HlogError> {
    for (line, text) in lines(bytes) {
        let bad = |problem: String| HlogError { line, problem };
        let text = text.map_err(|()| bad("it is no text".into()))?;
        if text.is_empty() || text.starts_with('#') || text.starts_with("\"Start") {
            continue;
        }
        let (tag, rest) = match text.strip_prefix("Tag=").map(|t| t.split_once(',')) {
            Some(Some((tag, rest))) => (tag.trim(), rest),
            Some(None) => return Err(bad("there is nothing after its tag".into())),
            None => ("", text),
        };
        let fields: Vec<&str> = rest.split(',').map(str::trim).collect();
        let [start, length, max, encoded] = fields[..] else {
            return Err(bad(format!(
                "it has {} fields and not four: start,length,max,histogram{}",
                fields.len(),
                if fields.len() == 7 { "; numbers have a decimal point, and no comma" } else { "" }
            )));
        };
        let start_s = seconds("start", start).map_err(bad)?;
        let length_s = seconds("length", length).map_err(bad)?;
        seconds("max", max).map_err(bad)?;
        if !wanted(tag) {
            continue;
        }
        let raw = base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .map_err(|e| bad(format!("its histogram is no base64: {e}")))?;
        let histogram = decode::decode(&raw).map_err(|e| bad(format!("its histogram is not readable: {e}")))?;
        found(HlogEntry { tag, start_s, length_s, histogram });
    }
    Ok(())
}

/// The lines, without a byte-order mark, blanks and line ends around them; (number from 1, text).
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, Result<&str, ()>)> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = |line| std::str::from_utf8(line).map(str::trim).map_err(|_| ());
    bytes.split(|b| *b == b'\n').enumerate().map(move |(i, line)| (i + 1, text(line)))
}

/// A time or a largest value: a number from 0 on.
fn seconds(what: &str, text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if v.is_finite() && v >= 0.0 => Ok(v),
        _ => {
            let text: String = text.chars().take(40).collect();
            Err(format!("its {what} is `{}`, and no number from 0 on", text.escape_debug()))
        }
    }
}

/// All intervals with a tag as one histogram; `None` where there is none. Intervals of different
/// precision are taken together at the finest of them.
pub fn merged(log: &[TaggedInterval], tag: &str) -> Option<Histogram<u64>> {
    let of: Vec<Histogram<u64>> = log.iter().filter(|i| i.tag == tag).map(|i| i.histogram.open()).collect();
    let finest = of.iter().max_by_key(|h| (h.sigfig(), std::cmp::Reverse(h.low())))?;
    let mut all = Histogram::new_with_bounds(finest.low(), finest.high(), finest.sigfig()).ok()?;
    // The first one may be narrower than the others: it grows.
    all.auto(true);
    for h in &of {
        all.add(h).ok()?;
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

    const HEAD: &str = "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"";
    const LINES: [&str; 3] = [
        "0.127,1.007,2.769,HISTFAAAAEV42pNpmSzMwMCgyAABTBDKT4GBgdnNYMcCBvsPEBEJISEuATEZMQ4uASkhIR4nrxg9v2lMaxhvMekILGZkKmcCAEf2CsI=",
        "1.134,0.999,0.442,HISTFAAAAEJ42pNpmSzMwMAgxwABTBDKT4GBgdnNYMcCBvsPEBEWLj45FTExAT4pBSEBKa6UkAgBi1uM7xjfMMlwMDABAC0CCjM=",
        "2,1,0,HISTFAAAAD942pNpmSzMwMAgwwABTBDKT4GBgdnNYMcCBvsPEBE+Ph4OLgk5OSkeIS4+LgEeswIDo1+MbmdYNASYAA51CSo=",
    ];

    /// What programs put between and around the lines does not change what is read.
    #[test]
    fn every_way_to_write_the_lines_is_read() {
        let plain = read(LINES.join("\n").as_bytes()).unwrap();
        assert_eq!((plain.len(), plain[2].start_s, plain[2].length_s), (3, 2.0, 1.0));
        for end in ["\n", "\r\n", "\n\n", "\n   \n", "\n# a comment, with a comma\n"] {
            for (before, after) in
                [("", ""), ("\u{feff}", end), (&*format!("{HEAD}{end}"), ""), ("#[StartTime: 1]\n", "\n\n")]
            {
                let text = format!("{before}{}{after}", LINES.join(end));
                assert_eq!(format!("{:?}", read(text.as_bytes()).unwrap()), format!("{plain:?}"), "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let said = |line: &str| read(format!("{HEAD}\n{}\n{line}\n", LINES[0]).as_bytes()).unwrap_err().to_string();
        let histogram = LINES[1].rsplit(',').next().unwrap();
        for (line, why) in [
            (format!("NaN,1,0,{histogram}"), "its start is `NaN`"),
            (format!("-1,1,0,{histogram}"), "its start is `-1`"),
            (format!("1,inf,0,{histogram}"), "its length is `inf`"),
            (format!("1,134,0,999,0,442,{histogram}"), "decimal point"),
            ("Tag=x".into(), "nothing after its tag"),
            (format!("1,1,0,{}", &histogram[..40]), "bytes of it are announced"),
            ("1,1,0,HISTFxxx!".into(), "no base64"),
            ("1,1,0,AAAA".into(), "ends within its header"),
            ("1,1,0,DHJzdAAAAAA=".into(), "encodings V0, V1 and V2"),
            ("hello".into(), "1 fields and not four"),
        ] {
            let said = said(&line);
            assert!(said.starts_with("line 3 of the interval log: ") && said.contains(why), "{line}: {said}");
        }
    }

    #[test]
    fn intervals_of_different_precision_are_taken_together_at_the_finest() {
        let one = |digits: u8, value: u64| {
            let mut h = Histogram::<u64>::new_with_bounds(1, 10_000_000, digits).unwrap();
            h.record(value).unwrap();
            TaggedInterval { tag: String::new(), start_s: 0.0, length_s: 1.0, histogram: Packed::of(&h) }
        };
        for log in [[one(1, 50), one(3, 123_456)], [one(3, 123_456), one(1, 50)]] {
            let all = merged(&log, "").unwrap();
            assert_eq!((all.len(), all.sigfig()), (2, 3));
            assert!(all.max().abs_diff(123_456) < 124, "{}", all.max());
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
