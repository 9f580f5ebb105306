//! The charts of a comparison: ratios with their intervals, one dot for each run, percentile curves
//! with a line for each run, and bars of what it cost.

use crate::compare::{Comparison, ComparisonRow, SideSample};
use crate::plan::metric::{Quantity, Unit};
use crate::record::{LatencySummary, Trial};
use crate::report::charts::axis::{Axis, AxisScale};
use crate::report::charts::chart::{ENOUGH, curve};
use crate::report::charts::figure::Figure;
use crate::report::charts::svg::{Anchor, PlotFrame, Svg, dash, widest, width_of};
use crate::report::words::groups::{ChartGroup, ChartSide};
use crate::report::words::view::response;
use crate::stats::{median, shift};
use crate::units::three_digits;

/// Rows of a forest plot; more are left to the table, and that is said.
const FOREST: usize = 60;

/// Turns a text into an identifier.
pub(in crate::report) fn id(kind: &str, text: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    format!("{kind}-{}", text.chars().map(fit).collect::<String>())
}

fn clipped(text: &str, width: f64) -> String {
    let fits = (width / width_of("x")) as usize;
    if text.chars().count() <= fits {
        return text.into();
    }
    text.chars().take(fits.saturating_sub(1)).chain(['…']).collect()
}

/// The ratio as a change for people: `+4.9 %`, `x6.10`.
fn change(ratio: f64) -> String {
    match ratio {
        r if !r.is_finite() => "inf".into(),
        r if r >= 2.0 => format!("×{}", three_digits(r)),
        r if r > 0.0 && r <= 0.5 => format!("×{r:.3}"),
        r => format!("{:+.1} %", (r - 1.0) * 100.0).replace("-0.0", "+0.0"),
    }
}

/// The logarithmic axis of the ratios, symmetric enough to show 1 and the threshold.
fn ratio_axis(rows: &[&ComparisonRow]) -> Axis {
    let ends = |r: &&ComparisonRow| {
        let e = r.ratio?;
        let (low, high) = e.ci95.unwrap_or((e.value, e.value));
        Some([low, high, e.value])
    };
    let limit = rows.iter().map(|r| r.max_change).fold(0.01, f64::max);
    let far = |v: f64| if v.is_finite() && v > 0.0 { v.clamp(1e-4, 1e4) } else { 1.0 };
    let all = || rows.iter().filter_map(ends).flatten().map(far).chain([1.0 + limit, 1.0 / (1.0 + limit)]);
    let spare = 1.6 * limit;
    let low = all().fold(1.0, f64::min) / (1.0 + spare.min(0.3));
    let high = all().fold(1.0, f64::max) * (1.0 + spare.min(0.3));
    let steps: &[f64] = if high / low > 300.0 {
        &[0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
    } else if high / low > 3.0 {
        &[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
    } else {
        &[0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0]
    };
    let name = |v: f64| match v {
        1.0 => "same".to_string(),
        v if v >= 2.0 || v <= 0.5 => format!("×{v}"),
        v => format!("{:+.0} %", (v - 1.0) * 100.0),
    };
    Axis {
        title: "candidate relative to baseline, logarithmic".into(),
        min: low.log10(),
        max: high.log10(),
        ticks: steps.iter().filter(|v| (low..=high).contains(*v)).map(|v| (v.log10(), name(*v))).collect(),
        reading: AxisScale::LogOf(Unit::Count),
    }
}

/// Every metric that decides: its ratio, the 95 % interval, and the changes that do not matter as a
/// band.
pub fn forest(c: &Comparison) -> Option<String> {
    let rows: Vec<&ComparisonRow> = c.rows.iter().filter(|r| r.primary && r.ratio.is_some()).collect();
    let without = c.rows.iter().filter(|r| r.primary && r.ratio.is_none()).count();
    if rows.is_empty() {
        return None;
    }
    let left_out = rows.len().saturating_sub(FOREST);
    let rows = &rows[..rows.len() - left_out];
    let axis = ratio_axis(rows);
    let several = rows.iter().any(|r| r.scenario != rows[0].scenario);
    let mut caption = format!(
        "A mark for the ratio of candidate to baseline at each metric that decides, a line for its 95 % interval. Left of the middle the candidate's value is lower, right of it higher (better for throughput, worse for latency and cost); the shaded band holds changes up to {}, which do not matter here. The table below has the figures.",
        crate::compare::percent(rows[0].max_change)
    );
    if left_out > 0 {
        caption.push_str(&format!(" {left_out} more are in the table only."));
    }
    if without > 0 {
        caption.push_str(&format!(" {without} without a ratio (a value is zero or missing) are in the table only."));
    }
    let draw = |id: &str, width: f64| {
        // On a telephone the verdict has a line of its own.
        let (step, mark) = if width < 500.0 { (58.0, 44.0) } else { (44.0, 30.0) };
        let height = 16.0 + step * rows.len() as f64 + 46.0;
        let mut svg = Svg::new("Ratios with their 95 % intervals", &caption, width, height);
        let flat = Axis::linear("", 1.0);
        let none = Axis { ticks: Vec::new(), title: String::new(), ..flat };
        let frame = PlotFrame { x: &axis, y: &none, across: (10.0, width - 10.0), down: (8.0, height - 46.0) };
        frame.axes(&mut svg);
        let middle = frame.at_x(0.0);
        for (i, row) in rows.iter().enumerate() {
            let top = 12.0 + step * i as f64;
            let (low, high) = (-(1.0 + row.max_change).log10(), (1.0 + row.max_change).log10());
            let (x, w) = (frame.at_x(low), frame.at_x(high) - frame.at_x(low));
            svg.rect((x, top - 4.0), (w, step), "zone", None);
            let Some(e) = row.ratio else { continue };
            let y = top + mark;
            let scenario = if several { format!("{}: ", row.scenario) } else { String::new() };
            let name = format!("{}: {scenario}{} against {}", row.metric, row.b.label, row.a.label);
            let says = format!("{} {} {}", change(e.value), row.verdict.sign(), row.word());
            let word = row.word();
            let room = if width < 500.0 { 0.0 } else { width_of(&says) };
            svg.text((width - 12.0, top + mark - 18.0), Anchor::End, word, &says);
            svg.text((12.0, top + 12.0), Anchor::Start, "", &clipped(&name, width - 26.0 - room));
            let ends = e.ci95.unwrap_or((e.value, e.value));
            let log = |v: f64| if v > 0.0 { v.log10() } else { axis.min };
            let (from, to) = (frame.at_x(log(ends.0)), frame.at_x(log(ends.1)));
            svg.line((from, y), (to, y), &format!("interval {word}"));
            svg.line((from, y - 4.0), (from, y + 4.0), &format!("interval {word}"));
            svg.line((to, y - 4.0), (to, y + 4.0), &format!("interval {word}"));
            let interval = e.ci95.map_or_else(
                || ", no interval: too few runs".to_string(),
                |(l, h)| format!(", 95 % CI {} to {}", change(l), change(h)),
            );
            svg.rect(
                (frame.at_x(log(e.value)) - 5.0, y - 5.0),
                (10.0, 10.0),
                &format!("estimate {word}"),
                Some(&format!("{name}: {}{interval}, {}", change(e.value), row.word())),
            );
        }
        svg.line((middle, 8.0), (middle, height - 46.0), "one");
        svg.finish(id)
    };
    let figure = Figure {
        id: "ratios",
        title: "Ratios.",
        caption: &caption,
        legend: Vec::new(),
        draw: &draw,
        linear: None,
        below: "",
    };
    Some(figure.html())
}

/// The samples of the sides of a group at one metric, each once, with the colour of the side.
fn samples<'a>(group: &ChartGroup<'a>, rows: &[&'a ComparisonRow]) -> Vec<(usize, &'a SideSample)> {
    let mut list: Vec<(usize, &SideSample)> = Vec::new();
    for sample in rows.iter().flat_map(|r| [&r.a, &r.b]) {
        let Some(at) = group.sides.iter().position(|s| s.label == sample.label) else { continue };
        if list.iter().all(|(s, _)| *s != at) {
            list.push((at, sample));
        }
    }
    list.sort_by_key(|(at, _)| *at);
    list
}

fn legend(group: &ChartGroup<'_>, of: impl Iterator<Item = usize>) -> Vec<(usize, String)> {
    of.map(|at| (at, group.sides[at].label.to_string())).collect()
}

/// One dot for each run of each metric that decides and that `keep` keeps, with the median of each
/// side and its interval.
pub fn dots(group: &ChartGroup<'_>, keep: &dyn Fn(&Quantity) -> bool) -> String {
    let mut metrics: Vec<&ComparisonRow> = Vec::new();
    for row in group.rows.iter().copied().filter(|r| r.primary && keep(&r.metric.quantity)) {
        if metrics.iter().all(|m| m.metric != row.metric) {
            metrics.push(row);
        }
    }
    metrics.iter().map(|row| dot_chart(group, row)).collect()
}

fn dot_chart(group: &ChartGroup<'_>, of: &ComparisonRow) -> String {
    let rows: Vec<&ComparisonRow> = group.rows.iter().copied().filter(|r| r.metric == of.metric).collect();
    let samples = samples(group, &rows);
    let unit = of.metric.quantity.unit();
    let values = || samples.iter().flat_map(|(_, s)| s.values.iter().copied());
    let most = samples.iter().map(|(_, s)| s.values.len()).max().unwrap_or(0);
    let positive = values().all(|v| v > 0.0);
    if most == 0 || !values().any(|v| v.is_finite() && v > 0.0) {
        return String::new();
    }
    let title = format!("{}: {} of each run.", group.name, of.metric);
    let infinite = values().filter(|v| v.is_infinite()).count();
    let mut caption = "One mark for each valid run, in the order of rounds; a line for the median of each side, a band for the 95 % interval of that median (from six runs on).".to_string();
    if infinite > 0 {
        caption.push_str(&format!(" {infinite} runs are infinite and stand at the upper edge."));
    }
    let title_y = of.metric.to_string();
    let y = if positive {
        Axis::log_of(&title_y, unit, values())
    } else {
        Axis::of(&title_y, unit, values().filter(|v| v.is_finite()).fold(0.0, f64::max))
    };
    let step = most.div_ceil(10).max(1);
    let x = Axis {
        title: "run, in the order of rounds".into(),
        min: 0.3,
        max: most as f64 + 0.7,
        ticks: (1..=most).step_by(step).map(|i| (i as f64, i.to_string())).collect(),
        reading: AxisScale::Number,
    };
    let place = |v: f64| match positive {
        _ if v.is_infinite() => y.max,
        true => v.log10(),
        false => v,
    };
    let draw = |id: &str, width: f64| {
        let height = 250.0;
        let mut svg = Svg::new(&title, &caption, width, height);
        let frame = PlotFrame { x: &x, y: &y, across: (widest(&y) + 14.0, width - 14.0), down: (28.0, height - 48.0) };
        frame.axes(&mut svg);
        for (at, sample) in &samples {
            svg.open(*at);
            if let Some((low, high)) = sample.median_ci95 {
                let (top, bottom) = (frame.at_y(place(high)), frame.at_y(place(low)));
                svg.rect(
                    (frame.across.0, top),
                    (frame.across.1 - frame.across.0, (bottom - top).max(1.0)),
                    "band",
                    Some(&format!("{}: median {} to {} (95 %)", sample.label, unit.show(low), unit.show(high))),
                );
            }
            if let Some(m) = sample.median {
                let y = frame.at_y(place(m));
                svg.polyline([(frame.across.0, y), (frame.across.1, y)].into_iter(), "curve thin", dash(*at));
            }
            // Sides stand beside each other, so that equal values do not hide each other.
            let offset = (*at as f64 - (samples.len() - 1) as f64 / 2.0) * 0.16;
            for (i, v) in sample.values.iter().enumerate() {
                let at_ = frame.at((i as f64 + 1.0 + offset, place(*v)));
                svg.mark(*at, at_, 4.5, &format!("{}, run {}: {}", sample.label, i + 1, unit.show(*v)));
            }
            svg.close();
        }
        svg.finish(id)
    };
    Figure {
        id: &id("runs", &format!("{} {}", group.name, of.metric)),
        title: &title,
        caption: &caption,
        legend: legend(group, samples.iter().map(|s| s.0)),
        draw: &draw,
        linear: None,
        below: "",
    }
    .html()
}

struct SideCurves {
    at: usize,
    runs: Vec<Vec<(f64, f64)>>,
    /// (x, low, median, high), as long as half of the runs go on.
    middle: Vec<(f64, f64, f64, f64)>,
}

/// The median of the runs at each percentile, and its 95 % interval; below six runs, the lowest and
/// the highest.
fn middle(runs: &[Vec<(f64, f64)>]) -> Vec<(f64, f64, f64, f64)> {
    let longest = runs.iter().max_by_key(|r| r.len()).cloned().unwrap_or_default();
    let mut out = Vec::new();
    for (i, (x, _)) in longest.iter().enumerate() {
        // All runs have their points at the same percentiles.
        let here: Vec<f64> =
            runs.iter().filter_map(|r| r.get(i)).filter(|p| (p.0 - x).abs() < 1e-9).map(|p| p.1).collect();
        let Some(m) = median(&here).filter(|_| 2 * here.len() >= runs.len()) else { break };
        let range = || here.iter().fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(*v), h.max(*v)));
        let (low, high) = shift::median_interval(&here, 0.95).unwrap_or_else(range);
        out.push((*x, low, m, high));
    }
    out
}

fn points(summary: &LatencySummary) -> Vec<(f64, f64)> {
    curve(summary).into_iter().filter(|(_, v)| *v > 0).map(|(x, v)| (x, v as f64)).collect()
}

/// The latency that heads a workload, as a chart of a group shows it.
fn headline(trial: &Trial, workload: usize) -> Option<(&'static str, &LatencySummary)> {
    trial.workloads.get(workload).and_then(response)
}

/// The percentile curves of a group, a chart for each workload.
pub fn percentiles(group: &ChartGroup<'_>) -> String {
    let most = group.sides.iter().map(|s| s.case.workloads.len()).max().unwrap_or(0);
    (0..most).map(|w| percentile_chart(group, w)).collect()
}

fn percentile_chart(group: &ChartGroup<'_>, workload: usize) -> String {
    let curves: Vec<SideCurves> = group
        .sides
        .iter()
        .enumerate()
        .map(|(at, side)| {
            let runs: Vec<_> = side.valid().filter_map(|t| headline(t, workload)).map(|(_, l)| points(l)).collect();
            SideCurves { at, middle: middle(&runs), runs }
        })
        .filter(|c| !c.middle.is_empty())
        .collect();
    if curves.is_empty() {
        return String::new();
    }
    let first = &group.sides[curves[0].at];
    let kind = first.valid().find_map(|t| headline(t, workload)).map_or("response", |h| h.0);
    let name = if first.case.workloads.len() > 1 { &first.case.workloads[workload].name } else { "" };
    let title =
        format!("{}{}{name}: latency by percentile ({kind}).", group.name, if name.is_empty() { "" } else { " / " });
    let caption = format!(
        "A thin line for each valid run; a bold one for the median of the runs at each percentile, with a band for its 95 % interval (below six runs, from the lowest to the highest). Lines end where fewer than {ENOUGH} samples lie above, or where lost messages begin."
    );
    let all = || curves.iter().flat_map(|c| &c.runs).flatten();
    let x = Axis::nines(all().map(|p| p.0).fold(1.0, f64::max));
    let axis_title = "latency";
    let log = Axis::log_of(&format!("{axis_title}, logarithmic"), Unit::Nanos, all().map(|p| p.1));
    let linear = Axis::of(axis_title, Unit::Nanos, all().map(|p| p.1).fold(0.0, f64::max));
    let draw_on = |y: &Axis, id: &str, width: f64| {
        let height = if width < 500.0 { 320.0 } else { 420.0 };
        let place = |v: f64| if matches!(y.reading, AxisScale::LogOf(_)) { v.log10() } else { v };
        let mut svg = Svg::new(&title, &caption, width, height);
        let frame = PlotFrame { x: &x, y, across: (widest(y) + 14.0, width - 14.0), down: (28.0, height - 48.0) };
        frame.axes(&mut svg);
        for c in &curves {
            svg.open(c.at);
            let upper = c.middle.iter().map(|m| frame.at((m.0, place(m.3))));
            let lower = c.middle.iter().rev().map(|m| frame.at((m.0, place(m.1))));
            svg.area(upper.chain(lower), "band");
            for run in &c.runs {
                svg.polyline(run.iter().map(|p| frame.at((p.0, place(p.1)))), "curve thin", "");
            }
            svg.polyline(c.middle.iter().map(|m| frame.at((m.0, place(m.2)))), "curve bold", dash(c.at));
            let label = group.sides[c.at].label;
            for m in c.middle.iter().step_by(c.middle.len().div_ceil(40).max(1)) {
                let show = |v: f64| Unit::Nanos.show(v);
                let value = format!("{label} {}: {} ({} to {})", x.show(m.0), show(m.2), show(m.1), show(m.3));
                svg.target(frame.at((m.0, place(m.2))), &value);
            }
            if let Some(end) = c.middle.last() {
                let value = format!("{label} {}: {}", x.show(end.0), Unit::Nanos.show(end.2));
                svg.mark(c.at, frame.at((end.0, place(end.2))), 5.0, &value);
            }
            svg.close();
        }
        svg.finish(id)
    };
    Figure {
        id: &id("percentiles", &format!("{} {name}", group.name)),
        title: &title,
        caption: &caption,
        legend: legend(group, curves.iter().map(|c| c.at)),
        draw: &|id, width| draw_on(&log, id, width),
        linear: Some(&|id, width| draw_on(&linear, id, width)),
        below: "",
    }
    .html()
}

/// What is shown as bars: its name, its unit, its value in a trial.
type CostMetric = (&'static str, &'static str, fn(&Trial) -> Option<f64>);

/// What a message cost: medians over the valid runs, as bars from zero.
pub const COSTS: [CostMetric; 4] = [
    ("CPU of the broker", "us per message", |t| t.broker.as_ref()?.cpu_us_per_msg),
    ("CPU of generator and client", "us per message", |t| t.generator.cpu_us_per_msg),
    ("Memory of the broker, peak", "MiB", |t| Some(t.broker.as_ref()?.rss_peak_bytes as f64 / 1_048_576.0)),
    ("Written to disk", "MiB", |t| Some(t.broker.as_ref()?.disk_written_bytes as f64 / 1_048_576.0)),
];

/// The median of a cost over the valid runs of a side.
pub fn cost(side: &ChartSide<'_>, of: fn(&Trial) -> Option<f64>) -> Option<f64> {
    median(&side.valid().filter_map(of).collect::<Vec<_>>())
}

/// The costs of a group as bars.
pub fn costs(group: &ChartGroup<'_>) -> String {
    let blocks: Vec<(String, Vec<(usize, f64)>)> = COSTS
        .iter()
        .filter_map(|(name, unit, of)| {
            let bars: Vec<(usize, f64)> =
                group.sides.iter().enumerate().filter_map(|(at, s)| Some((at, cost(s, *of)?))).collect();
            (bars.iter().any(|b| b.1 > 0.0)).then(|| (format!("{name}, {unit}"), bars))
        })
        .collect();
    if blocks.is_empty() {
        return String::new();
    }
    let title = format!("{}: what it cost.", group.name);
    let caption =
        "Medians over the valid runs; every block has its own scale, from zero. The table below has the figures.";
    let draw = |id: &str, width: f64| {
        let (bar, gap, head) = (20.0, 4.0, 24.0);
        let tall = |bars: usize| head + bars as f64 * (bar + gap) + 10.0;
        let height: f64 = blocks.iter().map(|b| tall(b.1.len())).sum();
        let mut svg = Svg::new(&title, caption, width, height);
        let names = group.sides.iter().map(|s| width_of(s.label)).fold(0.0, f64::max).min(width * 0.4);
        let room = width - names - 16.0 - 64.0;
        let mut top = 0.0;
        for (name, bars) in &blocks {
            svg.text((0.0, top + 15.0), Anchor::Start, "quiet", name);
            let most = bars.iter().map(|b| b.1).fold(f64::MIN_POSITIVE, f64::max);
            for (i, (at, value)) in bars.iter().enumerate() {
                let y = top + head + i as f64 * (bar + gap);
                let label = group.sides[*at].label;
                svg.text((names, y + 14.5), Anchor::End, "", &clipped(label, names + 7.0));
                svg.open(*at);
                let long = room * value / most;
                svg.rect(
                    (names + 8.0, y),
                    (long.max(1.0), bar),
                    "bar",
                    Some(&format!("{label}: {name} {}", three_digits(*value))),
                );
                svg.close();
                svg.text((names + 14.0 + long, y + 14.5), Anchor::Start, "", &three_digits(*value));
            }
            top += tall(bars.len());
        }
        svg.finish(id)
    };
    Figure {
        id: &id("costs", &group.name),
        title: &title,
        caption,
        legend: Vec::new(),
        draw: &draw,
        linear: None,
        below: "",
    }
    .html()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_band_is_the_interval_of_the_median_and_ends_with_half_of_the_runs() {
        let run = |scale: f64, n: usize| (0..n).map(|i| (i as f64, scale * (i + 1) as f64)).collect::<Vec<_>>();
        let six: Vec<_> = (1..=6).map(|k| run(f64::from(k), if k > 3 { 4 } else { 9 })).collect();
        let found = middle(&six);
        assert_eq!(found[0], (0.0, 1.0, 3.5, 6.0));
        // Three of six go on; then the interval is their range.
        assert_eq!((found.len(), found[8]), (9, (8.0, 9.0, 18.0, 27.0)));
        assert_eq!(middle(&six[..3])[0], (0.0, 1.0, 2.0, 3.0));
        let short: Vec<_> = (1..=5).map(|k| run(1.0, if k == 1 { 9 } else { 2 })).collect();
        assert_eq!(middle(&short).len(), 2);
        assert!(middle(&[]).is_empty());
    }

    #[test]
    fn a_change_reads_as_people_say_it() {
        let said: Vec<String> = [1.049, 0.951, 6.1, 0.25, f64::INFINITY].map(change).to_vec();
        assert_eq!(said, ["+4.9 %", "-4.9 %", "×6.10", "×0.250", "inf"]);
    }
}
