//! `--quick`: a scenario made so short that it is a smoke test.

use super::edit::Edit;
use super::file::{EventTable, ScenarioFile};
use crate::plan::Action;
use crate::plan::gate::Share;
use crate::units::Span;

/// What `--quick` allows for warm-up and load of all trials, without the starts of servers.
const QUICK: Span = Span::secs(10);

/// The measured phase where a cluster is disturbed: servers end, start again and elect.
const DISTURBED: Span = Span::secs(4);

/// One short trial of the ends of each sweep; ramps, steps and long bursts shrink in
/// proportion, so that all of them is still seen. Load takes no longer than [`QUICK`] over all
/// cases.
pub(super) fn apply(file: &mut ScenarioFile, edits: &[Edit]) {
    let explicit = |key: &str| edits.iter().any(|e| e.path == ["run", key]);
    for values in file.sweep.values_mut().filter(|v| v.len() > 2) {
        values.drain(1..values.len() - 1);
    }
    if file.search.is_some() {
        // Each load point is a search of its own.
        file.sweep.values_mut().for_each(|values| values.truncate(1));
    }
    let cases = file.system.len().max(1) * file.sweep.values().map(Vec::len).product::<usize>().max(1);
    let share = QUICK.0 / cases as u64;
    let run = &mut file.run;
    let before = run.duration;
    if !explicit("trials") {
        run.trials = 1;
    }
    if !explicit("duration") && file.event.iter().any(disturbs) {
        run.duration = run.duration.min(DISTURBED).min(Span(share / 8 * 7));
    } else if !explicit("duration") {
        run.duration = run.duration.min(Span::secs(2)).min(Span(share / 8 * 5).max(Span::millis(300)));
    }
    if !explicit("warmup") {
        run.warmup = run.warmup.min(Span::millis(500)).min(Span(share / 8));
    }
    if !explicit("drain") {
        // A bound and no length: it ends when everything is accounted for, which a cold Kafka
        // takes seconds for, and one whose leader died half a minute.
        // What a dead consumer had comes when its session or lock has run out.
        let dies = |e: &EventTable| e.action == Action::ConsumerKill && !run.may_break;
        let bound = if file.event.iter().any(|e| disturbs(e) || dies(e)) { 30 } else { 4 };
        run.drain = run.drain.min(Span::secs(bound));
    }
    if let Some(search) = &mut file.search {
        // It shows that a search works, and about where the limit is.
        search.width = Some(Share(search.width.map_or(0.3, |w| w.0.max(0.3))));
        search.lead = Some(1);
        search.searches = Some(1);
        search.most_trials = Some(search.most_trials.unwrap_or(16).min(16));
    }
    let factor = if before.0 == 0 { 1.0 } else { run.duration.0 as f64 / before.0 as f64 };
    let after = run.duration;
    let shorten = |span: &mut Span| {
        // Zero stays zero, to be refused as such.
        span.0 = ((span.0 as f64 * factor).round() as u64).max(span.0.min(1));
    };
    shorten_events(&mut file.event, before, after);
    if let Some(at) = file.faults.as_mut().and_then(|f| f.stall.as_mut()?.at.as_mut()) {
        shorten(at);
    }
    for w in &mut file.workload {
        if let Some(backlog) = &mut w.delivery.backlog {
            *backlog = (*backlog).min(20_000);
        }
        if let Some(after) = &mut w.delivery.replay_after {
            shorten(after);
        }
        let load = &mut w.load;
        if let Some(ramp) = &mut load.ramp {
            shorten(&mut ramp.over);
        }
        for step in load.steps.iter_mut().flatten() {
            shorten(&mut step.span);
        }
        if let Some(burst) = &mut load.burst {
            let cycle: u64 = [burst.every, burst.on, burst.off].into_iter().flatten().map(|s| s.0).sum();
            if cycle > after.0 {
                [&mut burst.every, &mut burst.length, &mut burst.on, &mut burst.off]
                    .into_iter()
                    .flatten()
                    .for_each(shorten);
            }
        }
    }
}

/// Whether it takes a cluster its time.
fn disturbs(event: &EventTable) -> bool {
    let planned = matches!(event.action, Action::Transfer | Action::RollingRestart) || event.action.starts_again();
    planned || event.every.is_some() || event.lasts.is_some() || event.node.is_some_and(|n| n.role().is_some())
}

/// Events happen once, and all of their times shrink alike, so that they keep their order and fit.
fn shorten_events(events: &mut [EventTable], before: Span, after: Span) {
    for event in events.iter_mut().filter(|e| e.every.is_some()) {
        event.count = event.count.map(|count| count.min(1));
    }
    let span = |s: Option<Span>| s.map_or(0, |s| s.0);
    let end = |e: &EventTable| e.at.0.saturating_add(span(e.within)).saturating_add(span(e.lasts));
    let last = events.iter().map(end).max().unwrap_or(0);
    // What did not fit before is to be refused, and not to be made to fit.
    let whole = if events.iter().any(disturbs) { last.saturating_add(last / 2).min(before.0) } else { before.0 };
    let factor = if whole == 0 { 1.0 } else { (after.0 as f64 / whole as f64).min(1.0) };
    for event in events {
        let times = [Some(&mut event.at), event.within.as_mut(), event.lasts.as_mut(), event.every.as_mut()];
        // Zero stays zero, to be refused as such.
        let shorten = |s: &mut Span| s.0 = ((s.0 as f64 * factor) as u64).max(s.0.min(1));
        times.into_iter().flatten().for_each(shorten);
    }
}
