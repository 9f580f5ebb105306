//! The latency heat map: when, how late, how many. What a percentile over time hides is seen here:
//! two modes, a few slow messages beside many fast ones, a stall that drains.
//!
//! Background: a page must stay small, so the cells are bins and not intervals: at most [`COLUMNS`]
//! of time by [`ROWS`] of latency. Invariant: no message is dropped or counted twice; the
//! percentiles of a column are those of its merged histogram, never of its bins. Colour is the
//! logarithm of a count, as a linear one shows no tail (B. Gregg, "Visualizing System Latency",
//! 2010). Design: [`HeatMap`] is read from the interval log, [`HeatScale`] is shared by all maps of
//! a page so that they can be compared, and `heat_chart` makes few rectangles of each colour, which
//! are one path in a page. Rejected: an element for each cell (4800 a map).

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::record::{Interval, hlog};
use crate::units::Nanos;

/// Columns at most.
pub const COLUMNS: usize = 120;
/// Rows at most.
pub const ROWS: usize = 40;
/// Colours at most.
pub const LEVELS: usize = 6;
/// Rows to a power of ten before they are merged to at most [`ROWS`].
const FINE: f64 = 40.0;

/// One span of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeatColumn {
    /// Messages by row: `floor(40 log10(ns))`.
    pub cells: BTreeMap<i32, u64>,
    /// Median of the messages due in it; absent where none arrived.
    pub p50: Option<Nanos>,
    /// 99th percentile of them.
    pub p99: Option<Nanos>,
    /// The largest of them.
    pub max: Option<Nanos>,
    /// The longest pause of the host.
    pub pause: Option<Nanos>,
}

impl HeatColumn {
    /// Messages.
    pub fn count(&self) -> u64 {
        self.cells.values().sum()
    }
}

/// The latencies of one workload of a trial over time.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// From the start of the measured phase on, all equally long.
    pub columns: Vec<HeatColumn>,
    /// Length of a column in seconds.
    pub seconds: f64,
}

fn fine(ns: Nanos) -> i32 {
    ((ns.max(1) as f64).log10() * FINE).floor() as i32
}

impl HeatMap {
    /// Reads the entries with a tag of an interval log; pauses of the host come from the intervals.
    /// `None` where the log has no such entry or is damaged: the page then says so.
    pub fn read(log: &[u8], tag: &str, intervals: &[&Interval]) -> Option<Self> {
        let length = intervals.iter().map(|i| i.length_s).fold(0.0, f64::max);
        let end = intervals.iter().map(|i| i.start_s + i.length_s).fold(0.0, f64::max);
        if length <= 0.0 {
            return None;
        }
        let merged = ((end / length - 1e-6).ceil() as usize).div_ceil(COLUMNS).max(1);
        let seconds = length * merged as f64;
        let number = ((end / seconds - 1e-6).ceil() as usize).clamp(1, COLUMNS);
        // A middle that lies on no edge tells the column, whatever the last bit of a start says.
        let column = |start: f64, long: f64| (((start + long / 2.0) / seconds).max(0.0) as usize).min(number - 1);
        let mut all: Vec<Option<Histogram<u64>>> = vec![None; number];
        let mut add = |e: hlog::HlogEntry<'_>| {
            let slot = &mut all[column(e.start_s, e.length_s)];
            match slot {
                Some(there) => {
                    // It grows, so that nothing can be out of range.
                    there.auto(true);
                    let _ = there.add(&e.histogram);
                }
                None => *slot = Some(e.histogram),
            }
        };
        hlog::each(log, &|t| t == tag, &mut add).ok()?;
        let mut columns: Vec<HeatColumn> =
            all.iter().map(|h| h.as_ref().map_or_else(HeatColumn::default, binned)).collect();
        if columns.iter().all(|c| c.cells.is_empty()) {
            return None;
        }
        for i in intervals {
            let c = &mut columns[column(i.start_s, i.length_s)];
            c.pause = c.pause.max(i.hiccup_max_ns);
        }
        Some(Self { columns, seconds })
    }
}

fn binned(h: &Histogram<u64>) -> HeatColumn {
    let mut cells = BTreeMap::new();
    for v in h.iter_recorded() {
        *cells.entry(fine(v.value_iterated_to().min(h.max()))).or_insert(0) += v.count_at_value();
    }
    let at = |q: f64| (!h.is_empty()).then(|| h.value_at_quantile(q).min(h.max()));
    HeatColumn { cells, p50: at(0.5), p99: at(0.99), max: at(1.0), pause: None }
}

/// Rows and colours that several maps share.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatScale {
    /// Lowest fine row.
    low: i32,
    /// Fine rows to one that is drawn.
    merged: i32,
    /// Rows that are drawn.
    pub rows: usize,
    /// The least count of each colour, ascending from 1.
    pub steps: Vec<u64>,
}

impl HeatScale {
    /// The scale that holds all maps.
    pub fn of<'a>(heats: impl Iterator<Item = &'a HeatMap>) -> Self {
        let columns: Vec<&HeatColumn> = heats.flat_map(|h| &h.columns).collect();
        let rows = || columns.iter().flat_map(|c| c.cells.keys().copied());
        let (low, high) = (rows().min().unwrap_or(0), rows().max().unwrap_or(0));
        let merged = (high - low + 1).div_euclid(ROWS as i32) + i32::from((high - low + 1) % ROWS as i32 != 0);
        let mut scale = Self { low, merged, rows: ((high - low) / merged + 1) as usize, steps: vec![1] };
        let most = columns.iter().flat_map(|c| scale.counts(c)).max().unwrap_or(1);
        for k in 1..LEVELS {
            let rough = (most as f64).powf(k as f64 / LEVELS as f64);
            let power = 10f64.powf(rough.log10().floor());
            let round = ((rough / power).round() * power) as u64;
            if scale.steps.last().is_some_and(|last| round > *last) && round <= most {
                scale.steps.push(round);
            }
        }
        scale
    }

    /// Messages of a column by drawn row, the fastest first.
    pub fn counts(&self, column: &HeatColumn) -> Vec<u64> {
        let mut rows = vec![0; self.rows];
        for (fine, count) in &column.cells {
            if let Some(row) = rows.get_mut(((fine - self.low) / self.merged) as usize) {
                *row += count;
            }
        }
        rows
    }

    /// log10 of the lowest and the highest latency, in nanoseconds.
    pub fn ends(&self) -> (f64, f64) {
        let at = |row: i32| f64::from(self.low + row * self.merged) / FINE;
        (at(0), at(self.rows as i32))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::sample;
    use crate::record::{Packed, Store, TaggedInterval};

    /// The interval log of a trial of the sample as `write_hlog` makes it: 1000 messages a second,
    /// slower from 9 s to 10 s.
    pub(crate) fn log() -> Vec<u8> {
        let root = tempfile::tempdir().unwrap();
        let store = Store::create(root.path(), "heat").unwrap();
        let entry = |(i, tag): (u64, &str)| {
            let mut h = Histogram::<u64>::new(3).unwrap();
            (0..1000).for_each(|k| h.record(if i == 9 { 2_000_000 } else { 60_000 } + k * 100).unwrap());
            TaggedInterval { tag: tag.into(), start_s: i as f64, length_s: 1.0, histogram: Packed::of(&h) }
        };
        let both = (0..20).flat_map(|i| [(i, "e2e"), (i, "lag")]).map(entry).collect::<Vec<_>>();
        let name = store.write_hlog("nats-1", &both, std::time::SystemTime::UNIX_EPOCH).unwrap();
        std::fs::read(store.dir.join(name)).unwrap()
    }

    #[test]
    fn every_message_is_in_one_cell_and_the_scale_holds_all() {
        let intervals = sample::intervals();
        let mine: Vec<&Interval> = intervals.iter().filter(|i| i.case == "nats" && i.start_s >= 0.0).take(20).collect();
        let heat = HeatMap::read(&log(), "e2e", &mine).unwrap();
        assert_eq!((heat.columns.len(), heat.seconds), (20, 1.0));
        assert!(heat.columns.iter().all(|c| c.count() == 1000));
        let (usual, slow) = (&heat.columns[8], &heat.columns[9]);
        assert!(usual.p99.unwrap().abs_diff(159_000) < 200 && slow.p50.unwrap().abs_diff(2_050_000) < 2_100);
        let scale = HeatScale::of([&heat].into_iter());
        assert!(scale.rows <= ROWS && scale.steps[0] == 1 && scale.steps.len() > 2, "{scale:?}");
        assert!(scale.steps.windows(2).all(|s| s[0] < s[1]));
        assert_eq!(scale.counts(slow).iter().sum::<u64>(), 1000);
        assert!(scale.ends().0 < 60e3f64.log10() && scale.ends().1 > 2.099e6f64.log10());
        assert!(HeatMap::read(&log(), "rtt", &mine).is_none() && HeatMap::read(b"no log", "e2e", &mine).is_none());
        assert!(HeatMap::read(&log(), "e2e", &[]).is_none(), "without intervals there is no time axis");
    }

    #[test]
    fn an_hour_has_no_more_columns_than_a_minute() {
        let template = sample::intervals().swap_remove(5);
        let list: Vec<Interval> = (0..3600)
            .map(|i| Interval { start_s: f64::from(i), hiccup_max_ns: Some(i as u64), ..template.clone() })
            .collect();
        let heat = HeatMap::read(&log(), "e2e", &list.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((heat.columns.len(), heat.seconds), (120, 30.0));
        assert_eq!(heat.columns[0].count(), 20_000);
        assert_eq!((heat.columns[0].pause, heat.columns[119].pause), (Some(29), Some(3599)));
    }
}
