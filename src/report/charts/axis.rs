//! An axis: its range, its ticks, where a value lies on it, and how the value reads.

use crate::plan::metric::Unit;
use crate::units::{Span, count, three_digits};

/// What a coordinate means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AxisScale {
    /// The number itself.
    Number,
    /// Seconds since the measured phase began.
    Seconds,
    /// A value of a metric.
    Of(Unit),
    /// A value of a metric, at the place of its logarithm.
    LogOf(Unit),
    /// log10(1 / (1 - quantile)): the nines of a percentile.
    Nines,
}

/// One axis: from `min` to `max` with labelled ticks. A label may have several lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it shows, with the unit.
    pub title: String,
    /// Lower end.
    pub min: f64,
    /// Upper end.
    pub max: f64,
    pub ticks: Vec<(f64, String)>,
    /// What a coordinate means.
    pub scale: AxisScale,
}

/// A step of 1, 2 or 5 times a power of ten that divides a range into about `parts`.
fn step(range: f64, parts: f64) -> f64 {
    let rough = range / parts;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|s| *s >= rough * 0.999).unwrap_or(power)
}

/// A tick of a metric: `50us`, `1ms`, `20k/s`, without the zeros that a table needs.
fn tick(unit: Unit, v: f64) -> String {
    match unit {
        Unit::Nanos => Span(v.max(0.0).round() as u64).to_string(),
        Unit::Rate if v >= 1e3 => format!("{}/s", thousands(v)),
        Unit::Rate => format!("{}/s", short(v)),
        Unit::Micros => format!("{}us", short(v)),
        Unit::Seconds => format!("{}s", short(v)),
        other => other.show(v),
    }
}

/// Up to so many decimals, without zeros at the end.
fn fixed(v: f64, decimals: usize) -> String {
    let text = format!("{v:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

/// Up to three decimals, without zeros at the end.
fn short(v: f64) -> String {
    fixed(v, 3)
}

/// `40k`, `1.5M`.
fn thousands(v: f64) -> String {
    if v >= 1e6 { format!("{}M", short(v / 1e6)) } else { format!("{}k", short(v / 1e3)) }
}

impl Axis {
    /// A linear axis from 0 with ticks at 1, 2 or 5 times a power of ten.
    pub fn linear(title: &str, max: f64) -> Self {
        let max = if max > 0.0 && max.is_finite() { max } else { 1.0 };
        let step = step(max, 6.0);
        let ticks = (0..=20).map(|i| f64::from(i) * step).take_while(|t| *t <= max * 1.0001);
        let decimals = if step < 1.0 { (-step.log10()).ceil() as usize } else { 0 };
        let ticks = ticks.map(|t| (t, if t >= 1e4 { thousands(t) } else { format!("{t:.decimals$}") })).collect();
        Self { title: title.into(), min: 0.0, max: max * 1.04, ticks, scale: AxisScale::Number }
    }

    /// A linear axis of a metric from 0.
    pub fn of(title: &str, unit: Unit, max: f64) -> Self {
        let mut axis = Self::linear(title, max);
        axis.ticks.iter_mut().for_each(|t| t.1 = if t.0 == 0.0 { "0".into() } else { tick(unit, t.0) });
        Self { scale: AxisScale::Of(unit), ..axis }
    }

    /// A logarithmic axis of a metric that holds all values, with little room to spare. Ticks are
    /// powers of ten, or 1, 2 and 5 times these, or evenly spaced values where the range is less
    /// than a power of ten. Values that have no logarithm are passed over.
    pub fn log_of(title: &str, unit: Unit, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|v| *v > 0.0 && v.is_finite())
            .fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = if low <= high { (low, high) } else { (1.0, 10.0) };
        // A sample of one value still needs a height.
        let spare = (high / low).powf(0.08).clamp(1.02, 1.5);
        let (low, high) = (low / spare, high * spare);
        let decades = high.log10() - low.log10();
        let at = |values: Vec<f64>| -> Vec<(f64, String)> {
            values.into_iter().filter(|v| (low..=high).contains(v)).map(|v| (v, tick(unit, v))).collect()
        };
        let mut ticks = Vec::new();
        if decades >= 1.0 {
            let many = decades > 3.5;
            let decades = (low.log10().floor() as i32..=high.log10().ceil() as i32).map(|k| 10f64.powi(k));
            ticks =
                at(decades.flat_map(|d| if many { vec![d] } else { vec![d, 2.0 * d, 5.0 * d] }).collect::<Vec<f64>>());
        }
        if ticks.len() < 3 {
            let step = step(high - low, 5.0);
            let first = (low / step).ceil() as i64;
            ticks = at((first..first + 12).map(|i| i as f64 * step).collect());
        }
        Self { title: title.into(), min: low, max: high, ticks, scale: AxisScale::LogOf(unit) }
    }

    /// The percentiles from 0 to `nines`, on the scale of HdrHistogram: each further nine as far
    /// from the one before.
    pub fn nines(nines: f64) -> Self {
        let tick = |k: i32| {
            let quantile = 100.0 * (1.0 - 10f64.powi(-k));
            (f64::from(k), format!("{quantile:.*} %", (k - 2).max(0) as usize))
        };
        Self {
            title: "percentile".into(),
            min: 0.0,
            max: nines * 1.02,
            ticks: (0..=nines.floor() as i32).map(tick).collect(),
            scale: AxisScale::Nines,
        }
    }

    /// Seconds since the measured phase began.
    pub fn seconds(start: f64, end: f64) -> Self {
        let axis = Self::linear("seconds since the measured phase began", end);
        Self { min: start, max: end, scale: AxisScale::Seconds, ..axis }
    }

    /// How far along the axis a value lies, from 0 to 1. What lies outside is put on the end.
    pub fn share(&self, v: f64) -> f64 {
        let place = |v: f64| if matches!(self.scale, AxisScale::LogOf(_)) { v.log10() } else { v };
        let (low, high) = (place(self.min), place(self.max));
        let share = (place(v) - low) / (high - low).max(f64::MIN_POSITIVE);
        if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
    }

    /// A coordinate in words: `1.20ms`, `p99.9`.
    pub fn show(&self, v: f64) -> String {
        match self.scale {
            AxisScale::Number => count(v),
            AxisScale::Seconds => format!("{} s", three_digits(v)),
            AxisScale::Of(unit) | AxisScale::LogOf(unit) => unit.show(v),
            AxisScale::Nines => {
                // One decimal more than there are nines after the second.
                let decimals = (v - 1.0).max(0.0).ceil() as usize;
                format!("p{}", fixed(100.0 * (1.0 - 10f64.powf(-v)), decimals))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(a: &Axis) -> Vec<&str> {
        a.ticks.iter().map(|t| t.1.as_str()).collect()
    }

    #[test]
    fn ticks_are_few_and_round() {
        let log = |low, high| Axis::log_of("", Unit::Nanos, [low, high].into_iter());
        assert_eq!(labels(&log(60e3, 2.5e6)), ["50us", "100us", "200us", "500us", "1ms", "2ms"]);
        assert_eq!(labels(&log(1e3, 4e9)), ["1us", "10us", "100us", "1ms", "10ms", "100ms", "1s"]);
        assert_eq!(labels(&log(800e3, 850e3)), ["800us", "820us", "840us", "860us"]);
        assert!(labels(&log(5e5, 5e5)).len() >= 3);
        assert_eq!(labels(&Axis::of("", Unit::Rate, 2e4)), ["0", "5k/s", "10k/s", "15k/s", "20k/s"]);
        assert_eq!(labels(&Axis::linear("", 4e4)), ["0", "10k", "20k", "30k", "40k"]);
        assert_eq!(labels(&Axis::nines(3.2)), ["0 %", "90 %", "99 %", "99.9 %"]);
    }

    #[test]
    fn a_value_has_a_place_and_reads_as_people_say_it() {
        let log = Axis::log_of("", Unit::Nanos, [1e5, 1e7].into_iter());
        assert_eq!(log.show(1.2e6), "1.20ms");
        assert!((log.share(1e6) - 0.5).abs() < 1e-9);
        assert_eq!([log.share(0.0), log.share(f64::INFINITY)], [0.0, 1.0], "at the ends, not outside");
        let nines = Axis::nines(4.0);
        assert_eq!([1.0, 2.0, 3.0].map(|v| nines.show(v)), ["p90", "p99", "p99.9"]);
        assert_eq!(nines.show(std::f64::consts::LOG10_2), "p50");
    }
}
