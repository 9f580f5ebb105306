//! Folds what the threads of a trial brought home into the record: once, at the end, where time does not matter.

use std::collections::BTreeMap;

use crate::measure::hiccup;
use crate::measure::process::Usage;
use crate::measure::recorder::{KINDS, Kind, histogram};
use crate::measure::summary::summarise;
use crate::plan::{Arrivals, Case, Load, Workload};
use crate::record::{
    Check, Event, Interval, LatencySummary, Packed, Resources, TaggedInterval, Throughput, WorkloadResult,
};
use crate::units::{Nanos, SECOND};
use crate::validity::checks::{Observed, judge};
use crate::validity::noise;
use crate::validity::steadiness::keeps_up;

use super::books::Books;
use super::flow::Delivered;
use super::produce::{GAPS, Sent};
use super::shared::parts;
use super::trial::Raw;

/// What a trial came to.
pub struct Folded {
    pub workloads: Vec<WorkloadResult>,
    pub broker: Option<Resources>,
    pub generator: Resources,
    pub hiccup: LatencySummary,
    pub validity: Vec<crate::record::Check>,
    pub events: Vec<Event>,
    pub intervals: Vec<Interval>,
    pub hlog: Vec<TaggedInterval>,
}

/// Who delivers the messages of a workload, and so what its latency is called.
fn headline(w: &Workload, delivers: bool) -> &'static str {
    match (w.topology.reply, delivers) {
        _ if !delivers => "ack",
        (true, _) => "rtt",
        (false, _) => "e2e",
    }
}

fn tag(kind: Kind, headline: &str) -> String {
    match kind {
        Kind::Response => headline.into(),
        Kind::Service => format!("{headline}.service"),
        Kind::Lag => "lag".into(),
        Kind::Ack => "ack".into(),
        Kind::AckService => "ack.service".into(),
        Kind::Slow => format!("{headline}.slow"),
    }
}

/// What the fold must know beside the measurement.
pub struct Frame<'a> {
    /// Labels the intervals.
    pub round: u32,
    /// Whether the driver delivers to consumers.
    pub delivers: bool,
    /// Whether the pacer spun.
    pub spin: bool,
    /// The kernel's clock source.
    pub clocksource: &'a str,
    /// The quantiles of the plan.
    pub quantiles: &'a [f64],
}

/// Folds `raw`, measured in `case`.
pub fn fold(raw: &Raw, case: &Case, hiccups: Vec<hiccup::Interval>, frame: &Frame<'_>) -> Folded {
    let Frame { round, delivers, spin, clocksource, quantiles } = *frame;
    let hiccups: BTreeMap<u64, Packed> = hiccups.into_iter().collect();
    let seconds = (raw.measured as f64 / SECOND as f64).max(1e-9);
    let mut folded = Folded {
        workloads: Vec::new(),
        broker: None,
        generator: Resources::default(),
        hiccup: LatencySummary::default(),
        validity: Vec::new(),
        events: Vec::new(),
        intervals: Vec::new(),
        hlog: Vec::new(),
    };
    let several = case.workloads.len() > 1;
    // Of the measured phase, as the CPU time is that they are held against.
    let mut messages = 0;
    for (i, w) in case.workloads.iter().enumerate() {
        // Nobody may be listening.
        let delivers = delivers && w.topology.groups > 0;
        let books = Books::close(raw, i, w, delivers);
        let name = headline(w, delivers);
        let mut latency = BTreeMap::new();
        for kind in KINDS {
            let mut total = histogram();
            let length = case.phases.interval.0 as f64 / SECOND as f64;
            for ((_, _, interval), h) in raw.samples.range((i, kind, 0)..=(i, kind, u64::MAX)) {
                let _ = total.add(h.open());
                let tag = tag(kind, name);
                folded.hlog.push(TaggedInterval {
                    tag: if several { format!("{}/{tag}", w.name) } else { tag },
                    start_s: *interval as f64 * length,
                    length_s: length,
                    histogram: h.clone(),
                });
            }
            let open = matches!(w.load, Load::Open { .. });
            let lost = match kind {
                // What was given up may have been on its way.
                _ if raw.abandoned => 0,
                Kind::Response if !open || !delivers => 0,
                Kind::Service if !delivers => 0,
                Kind::Response | Kind::Service => missing(&books),
                Kind::Slow => books.groups.iter().filter(|g| g.role == "slow").map(|g| g.lost).sum(),
                Kind::Ack | Kind::AckService if books.ledger.acked > 0 => {
                    unsent(&books) + books.ledger.sent.saturating_sub(books.ledger.acked)
                }
                Kind::Lag | Kind::Ack | Kind::AckService => 0,
            };
            if total.is_empty() && lost == 0 {
                continue;
            }
            latency.insert(tag(kind, name), summarise(&total, lost, raw.clipped[i], raw.negative[i], quantiles));
        }
        for (hop, h) in raw.hops.iter().filter(|(_, h)| i == 0 && !h.is_empty()) {
            latency.insert(format!("{name}.{hop}"), summarise(h, 0, 0, 0, quantiles));
        }
        around_replay(&mut latency, raw, i, case, &books, quantiles);
        let rate = |count: u64| count as f64 / seconds;
        let sent_in_time: u64 = raw.sent[i].iter().flat_map(|(_, s)| &s.sent_by_interval).sum();
        let (first, received) = (books.within.first, books.within.received);
        let throughput = Throughput {
            offered: matches!(w.load, Load::Open { .. }).then_some(rate(books.ledger.scheduled)),
            sent: rate(sent_in_time),
            delivered: rate(first.0),
            delivered_bytes: rate(first.1),
            received: received.map(|r| rate(r.0)),
            received_bytes: received.map(|r| rate(r.1)),
        };
        let confirmed: u64 = raw.sent[i].iter().flat_map(|(_, s)| &s.confirmed_by_interval).sum();
        messages += match first.0.max(confirmed) {
            0 => sent_in_time,
            n => n,
        };
        intervals(&mut folded.intervals, raw, case, round, i, w, &hiccups, &books.within);
        let mut observed = observe(&books, raw, w, &latency, name);
        let longest = |key: &str| latency.get(key).and_then(|l| l.max_ns);
        let pause = hiccups.values().map(|h| h.open().max()).max();
        observed.longest = pause.zip(longest("lag")).zip(longest(name)).map(|((p, l), r)| (p, l, r));
        (observed.spinning, observed.clocksource) = (spin, clocksource.into());
        let block = case.phases.interval.0 / parts(case.phases.measure.0, case.phases.interval.0);
        let flow = books.within.flow(raw, i, w, books.consumed, books.answered, block);
        let keeps_up = (raw.measured > 0 && matches!(w.load, Load::Open { .. })).then(|| keeps_up(flow.as_ref()));
        for mut check in judge(&observed).into_iter().chain(keeps_up).chain(arrivals(raw, i, w, case)) {
            if several {
                check.name = format!("{} ({})", check.name, w.name);
            }
            folded.validity.push(check);
        }
        let promises = if delivers { books.promises(&raw.facts, raw.arriving) } else { Vec::new() };
        let Books { ledger, groups, replay, .. } = books;
        folded.workloads.push(WorkloadResult {
            name: w.name.clone(),
            ledger,
            throughput,
            latency,
            promises,
            groups,
            replay,
        });
    }
    folded.broker = raw.broker.map(|usage| resources(usage, messages));
    if let Some(broker) = &mut folded.broker {
        let samples = &raw.broker_intervals;
        let sum: u64 = samples.iter().map(|(_, rss)| rss).sum();
        broker.rss_mean_bytes = sum.checked_div(samples.len() as u64);
    }
    folded.generator = resources(raw.generator, messages);
    let mut all = histogram();
    let length = case.phases.interval.0;
    for (interval, h) in &hiccups {
        if interval * length < raw.measured {
            let _ = all.add(h.open());
            let start_s = (interval * length) as f64 / SECOND as f64;
            let length_s = length as f64 / SECOND as f64;
            folded.hlog.push(TaggedInterval { tag: "hiccup".into(), start_s, length_s, histogram: h.clone() });
        }
    }
    folded.hiccup = summarise(&all, 0, 0, 0, quantiles);
    let offset = |at: Nanos| (at as f64 - raw.origin as f64) / SECOND as f64;
    folded.events = raw.log.iter().map(|(at, text)| Event { at_s: offset(*at), text: text.clone() }).collect();
    folded
}

/// Latencies of the messages due before, while and after the backlog was read, by whole intervals.
fn around_replay(
    latency: &mut BTreeMap<String, LatencySummary>,
    raw: &Raw,
    i: usize,
    case: &Case,
    books: &Books,
    quantiles: &[f64],
) {
    let Some(replay) = &books.replay else { return };
    let length = case.phases.interval.0 as f64 / SECOND as f64;
    let begun = replay.begun_s;
    let over = replay.catch_up_s.map_or(f64::INFINITY, |s| begun + s);
    for (kind, name) in [(Kind::Ack, "ack"), (Kind::Response, "e2e")] {
        let mut windows = ["before", "during", "after"].map(|word| (word, histogram()));
        for ((_, _, k), h) in raw.samples.range((i, kind, 0)..=(i, kind, u64::MAX)) {
            let (from, to) = (*k as f64 * length, (*k + 1) as f64 * length);
            let window = if to <= begun { 0 } else { 1 + usize::from(from >= over) };
            let _ = windows[window].1.add(h.open());
        }
        for (word, h) in windows.iter().filter(|(_, h)| !h.is_empty()) {
            latency.insert(format!("{name}.{word}-replay"), summarise(h, 0, 0, 0, quantiles));
        }
    }
}

fn resources(usage: Usage, messages: u64) -> Resources {
    let cpu_seconds = usage.cpu_ns as f64 / SECOND as f64;
    Resources {
        cpu_seconds,
        cpu_us_per_msg: (messages > 0).then(|| cpu_seconds * 1e6 / messages as f64),
        rss_peak_bytes: usage.peak_rss_bytes,
        rss_mean_bytes: None,
        disk_written_bytes: usage.written_bytes,
        voluntary_switches: usage.voluntary,
        involuntary_switches: usage.involuntary,
        threads: usage.threads,
    }
}

/// Latencies of the headline that are +infinity: lost deliveries, and messages that were due but never sent.
fn missing(books: &Books) -> u64 {
    let lost = if books.groups.is_empty() {
        books.ledger.lost
    } else {
        books.groups.iter().filter(|g| g.role == "tail").map(|g| g.lost).sum()
    };
    lost + unsent(books) * books.copies.max(1)
}

fn unsent(books: &Books) -> u64 {
    books.ledger.scheduled.saturating_sub(books.ledger.sent)
}

/// V9: whether the first messages were sent as the arrival process of a constant rate asks, all producers together.
fn arrivals(raw: &Raw, i: usize, w: &Workload, case: &Case) -> Option<Check> {
    let Load::Open { arrivals, profile } = &w.load else { return None };
    let rate = profile.peak().0;
    if profile.segments.iter().any(|s| s.from.0 != rate || s.to.0 != rate) {
        return None;
    }
    // After the last of a producer whose room is full, the others would be alone.
    let full = |s: &&Sent| s.first.len() > GAPS;
    let sent = || raw.sent[i].iter().map(|(_, s)| s);
    let end = sent().filter(full).filter_map(|s| s.first.last()).min().copied().unwrap_or(Nanos::MAX);
    let mut at: Vec<Nanos> = sent().flat_map(|s| &s.first).copied().filter(|t| *t <= end).collect();
    at.sort_unstable();
    let gaps: Vec<f64> = at.windows(2).take(GAPS).map(|t| (t[1] - t[0]) as f64).collect();
    let (interval, parts) = (case.phases.interval.0, parts(case.phases.measure.0, case.phases.interval.0));
    let whole = raw.measured / interval.max(1);
    let counts: Vec<f64> =
        (0..whole).map(|k| sent().map(|s| of_interval(&s.sent_by_interval, k, parts)).sum::<u64>() as f64).collect();
    noise::arrival_process(&gaps, &counts, SECOND as f64 / rate, *arrivals == Arrivals::Poisson)
}

fn observe(books: &Books, raw: &Raw, w: &Workload, latency: &BTreeMap<String, LatencySummary>, name: &str) -> Observed {
    let open = matches!(w.load, Load::Open { .. });
    let tail = |key: &str| {
        let s = latency.get(key)?;
        s.percentiles.iter().rev().find(|p| p.printable).map(|p| p.value_ns)
    };
    let l = &books.ledger;
    let recorded = latency.get(name).filter(|_| open).or_else(|| latency.get(&format!("{name}.service")));
    let whole = l.lost + l.duplicated + l.dead_lettered == 0 && raw.failed.is_none() && !raw.interrupted;
    let balance = whole && recorded.is_some_and(|s| s.count > 0);
    Observed {
        scheduled: open.then_some(l.scheduled).filter(|_| !raw.abandoned),
        sent: l.sent.saturating_sub(l.sent_late),
        seconds: (raw.measured as f64 / SECOND as f64).max(1e-9),
        // The null driver has no response of its own to hold the lag against.
        lag_tail: tail("lag").flatten().filter(|_| name != "ack"),
        response_tail: tail(name),
        backpressure: raw.backpressure,
        expected: l.expected,
        lost: l.lost,
        arriving: raw.arriving,
        in_flight: l.in_flight,
        client_dropped: l.client_dropped,
        dropped: books.dropped,
        corrupted: l.corrupted,
        foreign: l.foreign,
        sojourn_from_stamps: balance.then_some((books.received_sum - books.intended_sum) as f64),
        sojourn_from_histogram: recorded.map_or(0.0, |s| s.mean_ns * s.count as f64),
        busiest: raw.busiest,
        waiting: raw.waiting,
        spinning: false,
        unthrottled: !open,
        clipped: raw.clipped.iter().sum(),
        negative: raw.negative.iter().sum(),
        longest: None,
        clocksource: String::new(),
    }
}

/// The count of an interval that is counted in `parts`.
fn of_interval(blocks: &[u64], interval: u64, parts: u64) -> u64 {
    blocks.iter().skip((interval * parts) as usize).take(parts as usize).sum()
}

#[allow(clippy::too_many_arguments, reason = "one call")]
fn intervals(
    out: &mut Vec<Interval>,
    raw: &Raw,
    case: &Case,
    round: u32,
    i: usize,
    w: &Workload,
    hiccups: &BTreeMap<u64, Packed>,
    within: &Delivered,
) {
    let length = case.phases.interval.0;
    let n = raw.measured.div_ceil(length);
    let parts = parts(case.phases.measure.0, length);
    let sum = |f: &dyn Fn(&Sent) -> &Vec<u64>, k: u64| {
        raw.sent[i].iter().map(|(_, s)| of_interval(f(s), k, parts)).sum::<u64>()
    };
    for k in 0..n {
        let at = k as usize;
        let response = raw
            .samples
            .get(&(i, Kind::Response, k))
            .or_else(|| raw.samples.get(&(i, Kind::Service, k)))
            .or_else(|| raw.samples.get(&(i, Kind::Ack, k)))
            .or_else(|| raw.samples.get(&(i, Kind::AckService, k)));
        let response = response.map(Packed::open);
        let q = |q: f64| response.as_ref().filter(|h| !h.is_empty()).map(|h| h.value_at_quantile(q).min(h.max()));
        let usage = raw.broker_intervals.get(at);
        out.push(Interval {
            case: case.id.clone(),
            round,
            workload: w.name.clone(),
            start_s: (k * length) as f64 / SECOND as f64,
            length_s: (raw.measured - k * length).min(length) as f64 / SECOND as f64,
            scheduled: sum(&|s| &s.scheduled_by_interval, k),
            sent: sum(&|s| &s.sent_by_interval, k),
            delivered: of_interval(&within.by_block, k, parts),
            p50_ns: q(0.5),
            p99_ns: q(0.99),
            p999_ns: q(0.999),
            max_ns: q(1.0),
            lag_max_ns: raw.samples.get(&(i, Kind::Lag, k)).map(|h| h.open().max()),
            hiccup_max_ns: hiccups.get(&k).map(|h| h.open().max()),
            broker_cpu_s: usage.map(|(cpu, _)| *cpu as f64 / SECOND as f64),
            broker_rss_bytes: usage.map(|(_, rss)| *rss),
        });
    }
}
