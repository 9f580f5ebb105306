//! Folds what the threads of a trial brought home into the record: once, at the end, where time
//! does not matter.

use std::collections::BTreeMap;

use crate::measure::hiccup;
use crate::measure::process::Usage;
use crate::measure::recorder::{KINDS, LatencyKind, histogram};
use crate::measure::summary::summarise;
use crate::plan::{Case, Load, PlannedEvent, Role, disturb};
use crate::record::{Event, Interval, LatencySummary, Packed, Resources, TaggedInterval, Throughput, WorkloadResult};
use crate::units::{Nanos, SECOND};
use crate::validity::CheckInput;

use super::accounting::Accounting;
use super::membership::changes;
use super::observe::{Place, observe, of_interval};
use super::outages::effects;
use super::produce::Sent;
use super::raw::RawTrial;
use super::shared::parts;

/// What a trial came to.
#[derive(Default)]
pub struct Folded {
    pub workloads: Vec<WorkloadResult>,
    pub broker: Option<Resources>,
    pub generator: Resources,
    pub application: Option<Resources>,
    pub hiccup: LatencySummary,
    /// What the checks look at, one for each workload.
    pub observed: Vec<CheckInput>,
    pub events: Vec<Event>,
    pub intervals: Vec<Interval>,
    pub hlog: Vec<TaggedInterval>,
}

fn tag(kind: LatencyKind, headline: &str) -> String {
    match kind {
        LatencyKind::Response => headline.into(),
        LatencyKind::Service => format!("{headline}.service"),
        LatencyKind::Lag => "lag".into(),
        LatencyKind::Ack => "ack".into(),
        LatencyKind::AckService => "ack.service".into(),
        LatencyKind::Slow => format!("{headline}.slow"),
        LatencyKind::SameAgent => format!("{headline}.same-agent"),
    }
}

/// Whether a latency ends at another client than it begins at.
fn two_clocks(kind: LatencyKind) -> bool {
    matches!(kind, LatencyKind::Response | LatencyKind::Service | LatencyKind::Slow)
}

/// What the fold must know beside the measurement.
#[derive(Clone, Copy)]
pub struct FoldContext<'a> {
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
    /// What the scenario did, by time.
    pub events: &'a [PlannedEvent],
}

/// Folds `raw`, measured in `case`.
pub fn fold(raw: &RawTrial, case: &Case, hiccups: Vec<hiccup::HiccupInterval>, frame: &FoldContext<'_>) -> Folded {
    let hiccups: BTreeMap<u64, Packed> = hiccups.into_iter().collect();
    let mut folded = Folded::default();
    // Of the measured phase, as the CPU time is that they are held against.
    let messages = (0..case.workloads.len()).map(|i| workload(&mut folded, raw, case, i, &hiccups, frame)).sum();
    folded.broker = raw.broker.map(|usage| resources(usage, messages));
    if let Some(broker) = &mut folded.broker {
        let samples = &raw.broker_intervals;
        let sum: u64 = samples.iter().map(|(_, rss)| rss).sum();
        broker.rss_mean_bytes = sum.checked_div(samples.len() as u64);
    }
    folded.generator = resources(raw.generator, messages);
    folded.application = raw.application.map(|usage| resources(usage, messages));
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
    folded.hiccup = summarise(&all, 0, 0, 0, frame.quantiles);
    let offset = |at: Nanos| (at as f64 - raw.origin as f64) / SECOND as f64;
    folded.events =
        raw.log.iter().map(|(at, kind, text)| Event { at_s: offset(*at), kind: *kind, text: text.clone() }).collect();
    folded
}

/// Folds one workload, and gives the messages that CPU time is held against: delivered for the
/// first time, or confirmed where those are more, or sent where there are neither.
fn workload(
    folded: &mut Folded,
    raw: &RawTrial,
    case: &Case,
    i: usize,
    hiccups: &BTreeMap<u64, Packed>,
    frame: &FoldContext<'_>,
) -> u64 {
    let w = &case.workloads[i];
    // Nobody may be listening.
    let delivers = frame.delivers && (w.topology.groups > 0 || w.topology.reply);
    let accounting = Accounting::close(raw, i, w, delivers);
    let FoldContext { round, spin, clocksource, .. } = *frame;
    let at = Place {
        raw,
        case,
        index: i,
        workload: w,
        headline: w.topology.latency_name(delivers),
        hiccups,
        disturbed: !frame.events.is_empty(),
        spin,
        clocksource,
    };
    let latency = latencies(folded, &at, &accounting, delivers, frame.quantiles);
    let seconds = (raw.measured as f64 / SECOND as f64).max(1e-9);
    let rate = |count: u64| count as f64 / seconds;
    let sent_in_time: u64 = raw.sent[i].iter().flat_map(|(_, s)| &s.sent_by_interval).sum();
    let (first, received) = (accounting.within.first, accounting.within.received);
    let throughput = Throughput {
        offered: matches!(w.load, Load::Open { .. }).then_some(rate(accounting.ledger.scheduled)),
        sent: rate(sent_in_time),
        delivered: rate(first.0),
        delivered_bytes: rate(first.1),
        received: received.map(|r| rate(r.0)),
        received_bytes: received.map(|r| rate(r.1)),
    };
    intervals(&mut folded.intervals, &at, round, &accounting.within.by_block);
    folded.observed.push(observe(&at, &accounting, &latency));
    let disturbed = disturb(frame.events);
    let promises =
        if delivers { accounting.promises(&raw.facts.guarantees, raw.arriving, disturbed) } else { Vec::new() };
    let kept = raw.kept.get(i).cloned().flatten();
    // Who receives a message misses it, or who reads all of it back.
    let lost = [&accounting.lost_spans[..], raw.kept_lost.get(i).map_or(&[], Vec::as_slice)];
    let outages = effects(raw, i, lost.iter().find(|l| !l.is_empty()).unwrap_or(&lost[0]), case.phases.interval.0);
    let Accounting { ledger, groups, replay, intrusions, .. } = accounting;
    let name = w.name.clone();
    let membership = changes(frame.events, raw.origin, &raw.received[i]);
    folded.workloads.push(WorkloadResult {
        name,
        ledger,
        throughput,
        latency,
        promises,
        groups,
        replay,
        kept,
        membership,
        outages,
        intrusions,
    });
    let confirmed: u64 = raw.sent[i].iter().flat_map(|(_, s)| &s.confirmed_by_interval).sum();
    match first.0.max(confirmed) {
        0 => sent_in_time,
        n => n,
    }
}

/// The latencies of a workload by name; the interval log gets their intervals.
fn latencies(
    folded: &mut Folded,
    at: &Place<'_>,
    accounting: &Accounting,
    delivers: bool,
    quantiles: &[f64],
) -> BTreeMap<String, LatencySummary> {
    let Place { raw, case, index: i, workload: w, headline: name, .. } = *at;
    let several = case.workloads.len() > 1;
    let length_s = case.phases.interval.0 as f64 / SECOND as f64;
    let mut latency = BTreeMap::new();
    // An answer comes back to the clock that asked.
    let one_way = raw.one_way.get(i).copied().flatten().filter(|_| name == "e2e");
    // Where all clocks are one, nobody asks for the messages that stay at their agent.
    for kind in KINDS.into_iter().filter(|kind| *kind != LatencyKind::SameAgent || one_way.is_some()) {
        let mut total = histogram();
        for ((_, _, interval), h) in raw.samples.range((i, kind, 0)..=(i, kind, u64::MAX)) {
            let _ = total.add(h.open());
            let tag = tag(kind, name);
            let tag = if several { format!("{}/{tag}", w.name) } else { tag };
            let start_s = *interval as f64 * length_s;
            folded.hlog.push(TaggedInterval { tag, start_s, length_s, histogram: h.clone() });
        }
        let open = matches!(w.load, Load::Open { .. });
        let lost = match kind {
            // What was given up may have been on its way.
            _ if raw.abandoned => 0,
            LatencyKind::Response if !open || !delivers => 0,
            LatencyKind::Service if !delivers => 0,
            LatencyKind::Response | LatencyKind::Service => missing(accounting),
            // It is not known which of them were for their own agent: all of them, at worst.
            LatencyKind::SameAgent if open && !total.is_empty() => missing(accounting),
            LatencyKind::Slow => accounting.groups.iter().filter(|g| g.role == Role::Slow).map(|g| g.lost).sum(),
            LatencyKind::Ack | LatencyKind::AckService if accounting.ledger.acked > 0 => {
                unsent(accounting) + accounting.ledger.sent.saturating_sub(accounting.ledger.acked)
            }
            LatencyKind::Lag | LatencyKind::Ack | LatencyKind::AckService | LatencyKind::SameAgent => 0,
        };
        if total.is_empty() && lost == 0 {
            continue;
        }
        let clocks = one_way.filter(|_| two_clocks(kind));
        let summary = summarise(&total, lost, raw.clipped[i], raw.negative[i], quantiles);
        latency.insert(tag(kind, name), LatencySummary { clocks, ..summary });
    }
    for ((_, hop), h) in raw.hops.iter().filter(|((workload, _), h)| *workload == i && !h.is_empty()) {
        latency.insert(format!("{name}.{hop}"), LatencySummary { clocks: one_way, ..summarise(h, 0, 0, 0, quantiles) });
    }
    around_replay(&mut latency, raw, i, case, accounting, quantiles);
    latency
}

/// Latencies of the messages due before, while and after the backlog was read, by whole intervals.
fn around_replay(
    latency: &mut BTreeMap<String, LatencySummary>,
    raw: &RawTrial,
    i: usize,
    case: &Case,
    accounting: &Accounting,
    quantiles: &[f64],
) {
    let Some(replay) = &accounting.replay else { return };
    let length = case.phases.interval.0 as f64 / SECOND as f64;
    let begun = replay.begun_s;
    let over = replay.catch_up_s.map_or(f64::INFINITY, |s| begun + s);
    for (kind, name) in [(LatencyKind::Ack, "ack"), (LatencyKind::Response, "e2e")] {
        let mut windows = ["before", "during", "after"].map(|word| (word, histogram()));
        for ((_, _, k), h) in raw.samples.range((i, kind, 0)..=(i, kind, u64::MAX)) {
            let (from, to) = (*k as f64 * length, (*k + 1) as f64 * length);
            let window = if to <= begun { 0 } else { 1 + usize::from(from >= over) };
            let _ = windows[window].1.add(h.open());
        }
        for (word, h) in windows.iter().filter(|(_, h)| !h.is_empty()) {
            let clocks = raw.one_way.get(i).copied().flatten().filter(|_| kind == LatencyKind::Response);
            let summary = LatencySummary { clocks, ..summarise(h, 0, 0, 0, quantiles) };
            latency.insert(format!("{name}.{word}-replay"), summary);
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

/// Latencies of the headline that are +infinity: lost deliveries, and messages that were due but
/// never sent.
fn missing(accounting: &Accounting) -> u64 {
    let lost = if accounting.groups.is_empty() {
        accounting.ledger.lost
    } else {
        accounting.groups.iter().filter(|g| g.role == Role::Tail).map(|g| g.lost).sum()
    };
    lost + unsent(accounting) * accounting.copies.max(1)
}

fn unsent(accounting: &Accounting) -> u64 {
    accounting.ledger.scheduled.saturating_sub(accounting.ledger.sent)
}

/// The lines of `intervals.csv` of a workload; `delivered` counts first deliveries, several counts
/// an interval.
fn intervals(out: &mut Vec<Interval>, at: &Place<'_>, round: u32, delivered: &[u64]) {
    let Place { raw, case, index: i, workload: w, hiccups, .. } = *at;
    let length = case.phases.interval.0;
    let n = raw.measured.div_ceil(length);
    let parts = parts(case.phases.measure.0, length);
    let sum = |f: &dyn Fn(&Sent) -> &Vec<u64>, k: u64| {
        raw.sent[i].iter().map(|(_, s)| of_interval(f(s), k, parts)).sum::<u64>()
    };
    for k in 0..n {
        let response = raw
            .samples
            .get(&(i, LatencyKind::Response, k))
            .or_else(|| raw.samples.get(&(i, LatencyKind::Service, k)))
            .or_else(|| raw.samples.get(&(i, LatencyKind::Ack, k)))
            .or_else(|| raw.samples.get(&(i, LatencyKind::AckService, k)));
        let response = response.map(Packed::open);
        let q = |q: f64| response.as_ref().filter(|h| !h.is_empty()).map(|h| h.value_at_quantile(q).min(h.max()));
        let usage = raw.broker_intervals.get(k as usize);
        out.push(Interval {
            case: case.id.clone(),
            round,
            workload: w.name.clone(),
            start_s: (k * length) as f64 / SECOND as f64,
            length_s: (raw.measured - k * length).min(length) as f64 / SECOND as f64,
            scheduled: sum(&|s| &s.scheduled_by_interval, k),
            sent: sum(&|s| &s.sent_by_interval, k),
            delivered: of_interval(delivered, k, parts),
            p50_ns: q(0.5),
            p99_ns: q(0.99),
            p999_ns: q(0.999),
            max_ns: q(1.0),
            lag_max_ns: raw.samples.get(&(i, LatencyKind::Lag, k)).map(|h| h.open().max()),
            hiccup_max_ns: hiccups.get(&k).map(|h| h.open().max()),
            broker_cpu_s: usage.map(|(cpu, _)| *cpu as f64 / SECOND as f64),
            broker_rss_bytes: usage.map(|(_, rss)| *rss),
        });
    }
}
