//! What each fault of a trial did to a workload.

use crate::measure::outage::{FaultWindow, Mishap, OutageSide, SideOutage, side_outages};
use crate::plan::facts::Incident;
use crate::record::{FaultEffect, FaultRecord, LaneResult, LatencyAround, OutageResult};
use crate::units::{Nanos, SECOND};

use super::lost::LostSpan;
use super::raw::RawTrial;

fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / SECOND as f64
}

/// What each fault did to workload `i`; nothing where outages were not noted. `interval` is the
/// length of one of the time series.
pub fn effects(raw: &RawTrial, i: usize, lost: &[LostSpan], interval: Nanos) -> Vec<FaultEffect> {
    let Some(log) = raw.outages.get(i).and_then(Option::as_ref) else { return Vec::new() };
    let end = raw.origin + raw.measured;
    let instants: Vec<Nanos> = raw.faults.iter().map(|f| raw.origin + f.at_ns).collect();
    let windows = FaultWindow::of(&instants, end);
    // What was due later may still come in time.
    let known = (end + raw.drained).saturating_sub(log.grid().deadline);
    let writes = side_outages(log, OutageSide::Write, &windows, known);
    let reads = side_outages(log, OutageSide::Read, &windows, known);
    let mut all = Vec::new();
    for (k, (window, fault)) in windows.iter().zip(&raw.faults).enumerate() {
        let (write, read) = (writes.get(k), reads.get(k));
        let until = if window.until >= end { Nanos::MAX } else { window.until };
        let count = |mishap| log.count(mishap, window.at, until);
        let disconnects =
            raw.log.iter().filter(|(at, kind, _)| *kind == Incident::Disconnected && *at >= window.at && *at < until);
        let settled = fault.settled_ns.map(|at| raw.origin + at);
        let caught_up = settled.or_else(|| last_back(&[write, read]));
        all.push(FaultEffect {
            fault: k as u32,
            write: write.map(|side| result(side, window, raw.origin, end)),
            read: read.map(|side| result(side, window, raw.origin, end)),
            ready_s: raw.ready.get(&fault.at_ns).map(|at| seconds(at.saturating_sub(window.at))),
            duplicated: count(Mishap::Duplicated),
            reordered: count(Mishap::Reordered),
            refused: count(Mishap::Refused),
            disconnects: disconnects.count() as u64,
            catch_up_cpu_s: caught_up.and_then(|to| catch_up(raw, interval, window.at, to)),
            catch_up_bytes: caught_up.and_then(|to| catch_up_bytes(raw, window.at, to)),
            ..FaultEffect::default()
        });
    }
    let over: Vec<Nanos> = (0..windows.len())
        .map(|k| over(&windows[k], &raw.faults[k], raw.origin, &[writes.get(k), reads.get(k)]))
        .collect();
    for span in lost {
        if let Some(k) = culprit(span.at, &windows, &over) {
            all[k].lost_acked += span.messages;
            all[k].lost_acked_s += seconds(span.length);
        }
    }
    all
}

/// When the latency was as before on all sides that are measured.
fn last_back(sides: &[Option<&SideOutage>]) -> Option<Nanos> {
    sides.iter().flatten().map(|side| side.back).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Until when what goes wrong is the fault's.
fn over(window: &FaultWindow, fault: &FaultRecord, origin: Nanos, sides: &[Option<&SideOutage>]) -> Nanos {
    let back = last_back(sides).unwrap_or(window.until);
    let others = [fault.undone_ns, fault.settled_ns].into_iter().flatten().map(|at| origin + at);
    others.fold(back, Nanos::max).min(window.until)
}

/// The fault by which a message was lost that was sent at this instant: the one whose effects were
/// not over, or else the next one, or the last one.
fn culprit(sent: Nanos, windows: &[FaultWindow], over: &[Nanos]) -> Option<usize> {
    let last = windows.len().checked_sub(1)?;
    let within = (0..windows.len()).find(|k| windows[*k].at <= sent && sent < over[*k]);
    within.or_else(|| windows.iter().position(|w| w.at > sent)).or(Some(last))
}

/// CPU seconds beyond what was used before `from`, until `to`.
fn catch_up(raw: &RawTrial, interval: Nanos, from: Nanos, to: Nanos) -> Option<f64> {
    let used = |from: Nanos, to: Nanos| {
        let part = |(k, (cpu, _)): (usize, &(u64, u64))| {
            let start = raw.origin + k as Nanos * interval;
            let shared = to.min(start + interval).saturating_sub(from.max(start));
            *cpu as f64 * shared as f64 / interval as f64
        };
        raw.broker_intervals.iter().enumerate().map(part).sum::<f64>() / SECOND as f64
    };
    let before = from.saturating_sub(raw.origin);
    if raw.broker_intervals.is_empty() || before < interval {
        return None;
    }
    let usual = used(raw.origin, from) / seconds(before);
    Some((used(from, to) - usual * seconds(to.saturating_sub(from))).max(0.0))
}

/// Bytes that went to a disk beyond what was written before `from`, until `to`.
fn catch_up_bytes(raw: &RawTrial, from: Nanos, to: Nanos) -> Option<u64> {
    // Between two samples they are taken as written evenly.
    let at = |at: Nanos| {
        let after = raw.broker_written.partition_point(|(when, _)| *when < at);
        let (low, high) = (raw.broker_written.get(after.checked_sub(1)?)?, raw.broker_written.get(after)?);
        let share = (at - low.0) as f64 / (high.0 - low.0).max(1) as f64;
        Some(low.1 as f64 + share * high.1.saturating_sub(low.1) as f64)
    };
    let first = raw.broker_written.first()?;
    let (begun, ended) = (at(from)?, at(to)?);
    let before = from.checked_sub(first.0).filter(|span| *span >= SECOND)?;
    let usual = (begun - first.1 as f64) / before as f64;
    Some((ended - begun - usual * to.saturating_sub(from) as f64).max(0.0) as u64)
}

fn result(side: &SideOutage, window: &FaultWindow, origin: Nanos, end: Nanos) -> OutageResult {
    let since = |at: Nanos| seconds(at.saturating_sub(window.at));
    let runs = || side.lanes.iter().filter_map(|lane| Some((lane, lane.run?)));
    let lengths: Option<Vec<Nanos>> = runs().map(|(_, run)| run.length()).collect();
    let at_least = runs().map(|(_, run)| run.to.unwrap_or(end).saturating_sub(run.from)).max();
    let awaited = || side.lanes.iter().filter(|lane| lane.awaited);
    let first: Option<Vec<Nanos>> = awaited().map(|lane| lane.first).collect();
    OutageResult {
        longest_s: lengths.as_ref().map(|all| seconds(all.iter().max().copied().unwrap_or(0))),
        hidden_s: side.hidden.map(seconds),
        at_least_s: seconds(at_least.unwrap_or(0)),
        sum_s: lengths.map(|all| seconds(all.iter().sum())),
        first_s: first.and_then(|all| all.into_iter().max()).map(since),
        idle: awaited().next().is_none(),
        judged: side.judged,
        recovery_s: side.back.map(since),
        lanes: side.lanes.len() as u32,
        hit: runs().count() as u32,
        due: side.lanes.iter().map(|lane| lane.due).sum(),
        late: side.lanes.iter().map(|lane| lane.late).sum(),
        backlog: side.backlog,
        drain_s: side.drained.map(seconds),
        unsettled: side.unsettled,
        around: side
            .trace
            .iter()
            .map(|p| LatencyAround { s: (p.at as f64 - window.at as f64) / SECOND as f64, p99_ns: p.p99 })
            .collect(),
        by_lane: runs()
            .map(|(lane, run)| LaneResult {
                group: lane.group,
                lane: lane.lane,
                from_s: seconds(run.from.saturating_sub(origin)),
                outage_s: run.length().map(seconds),
            })
            .collect(),
    }
}
