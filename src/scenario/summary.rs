//! A plan for people: what `check` prints before anything runs.

use std::fmt::Write;

use super::suits::unsuited;
use crate::plan::search::{Parameter, SearchPlan};
use crate::plan::{
    Arrivals, BringUp, Case, Content, Keys, LabelledAgents, Load, PayloadSize, Plan, Profile, SystemTypes, Workload,
};
use crate::units::{Span, count};

/// Samples that must lie above a quantile before it is more than the luck of a few messages.
const SAMPLES_ABOVE: f64 = 10.0;

/// The most a trial takes once connected: warm-up, measurement, and the whole of the drain.
fn trial_bound(case: &Case) -> Span {
    let p = &case.phases;
    Span(p.warmup.0.saturating_add(p.measure.0).saturating_add(p.drain.0))
}

/// The most the plan takes, without bringing systems up.
pub fn wall_time(plan: &Plan) -> Span {
    let round = plan.cases.iter().fold(0u64, |sum, c| sum.saturating_add(trial_bound(c).0));
    Span(round.saturating_mul(u64::from(plan.trials)))
}

/// Trials of a search, as a rule: the median of simulated ones.
const SEARCHED: u64 = 30;
/// What a trial takes besides its load: the start of the system, the last messages.
const BESIDES: Span = Span::secs(1);

/// How many searches a plan asks for, and about how long they take.
fn searched(plan: &Plan, search: &SearchPlan) -> (u64, Span) {
    let values = match &search.parameter {
        Parameter::Rate { .. } => 1,
        Parameter::Listed { values, .. } => values.len().max(1),
    };
    let each = (plan.cases.len() / values) as u64 * u64::from(search.searches);
    let trial = plan.cases.first().map_or(0, |c| c.phases.warmup.0.saturating_add(c.phases.measure.0));
    (each, Span((trial + BESIDES.0).saturating_mul(SEARCHED).saturating_mul(each)))
}

/// Latency samples of one trial: deliveries, or answers. None where the system decides.
fn samples(case: &Case, w: &Workload) -> Option<f64> {
    let copies = if w.topology.reply { 1.0 } else { f64::from(w.topology.groups) };
    w.load.messages(case.phases.measure).map(|n| n * copies)
}

/// `0.999` as `p99.9`.
fn percentile(q: f64) -> String {
    let text = format!("{:.6}", q * 100.0);
    format!("p{}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A span at the precision a reader wants: `34.5s`, `3m 27s`.
fn about(span: Span) -> String {
    let secs = span.as_secs_f64().round() as u64;
    match secs {
        0..=119 => span.to_string(),
        120..=7199 => format!("{}m {}s", secs / 60, secs % 60),
        _ => format!("{}h {}m", secs / 3600, secs % 3600 / 60),
    }
}

fn shape(profile: &Profile) -> String {
    let one = |s: &crate::plan::ProfileSegment| match (s.from == s.to, s.from.0 == 0.0) {
        (true, true) => format!("silent for {}", s.span),
        (true, false) => format!("{} for {}", s.from, s.span),
        _ => format!("{} to {} over {}", s.from, s.to, s.span),
    };
    if let ([only], false) = (profile.segments.as_slice(), profile.repeat)
        && only.from == only.to
    {
        return only.from.to_string();
    }
    let mut text: Vec<String> = profile.segments.iter().take(4).map(one).collect();
    if profile.segments.len() > 4 {
        text.push(format!("and {} more", profile.segments.len() - 4));
    }
    format!("{}{}", text.join(", "), if profile.repeat { ", again and again" } else { "" })
}

fn load(load: &Load, producers: u32) -> String {
    match load {
        Load::Open { arrivals, profile } => {
            let arrivals = if *arrivals == Arrivals::Constant { "constant" } else { "poisson" };
            let whose = match (profile.segments.as_slice(), producers) {
                (_, 1) => String::new(),
                ([only], n) if only.from == only.to => {
                    format!(" of all {n} producers, {}/s each", count(only.from.0 / f64::from(n)))
                }
                (_, n) => format!(", of all {n} producers"),
            };
            format!("open, {arrivals}, {}{whose}", shape(profile))
        }
        Load::Unthrottled { .. } => "unthrottled: service latency only".into(),
        Load::Closed { outstanding, think } => format!("closed, {outstanding} outstanding, think {think}"),
    }
}

fn payload(w: &Workload) -> String {
    let size = match w.payload.size {
        PayloadSize::Fixed(size) => size.to_string(),
        PayloadSize::Uniform { min, max } => format!("{min} to {max}"),
        PayloadSize::LogNormal { median, p99, max } => format!("median {median}, p99 {p99}, at most {max}"),
    };
    match &w.payload.content {
        Content::Random => format!("{size}, random"),
        Content::Text => format!("{size}, text"),
        Content::Zero => format!("{size}, zero"),
        Content::File { path, messages, .. } => format!("{size}, {messages} messages of {path}"),
    }
}

/// What else is asked of a workload: keys, rejections, slow consumers, a backlog.
fn delivery(w: &Workload) -> Vec<(&'static str, String)> {
    let d = &w.delivery;
    let mut out = Vec::new();
    if let Some(target) = &w.target {
        let what = if w.gets() { "the key-value store of" } else { "the service at" };
        let about = "its answers are counted, what is in them is not checked";
        out.push(("target", format!("{what} {target}: {about}")));
    }
    for (side, label) in [("producers", &w.agents.publish), ("consumers", &w.agents.consume)] {
        if let Some(label) = label {
            out.push((side, format!("run by agents with {label}")));
        }
    }
    for (side, names) in [("producers", &w.at.producers), ("consumers", &w.at.consumers)] {
        if !names.is_empty() {
            out.push((side, format!("at {}", names.join(", "))));
        }
    }
    if w.intruders > 0 {
        let about = "without the right to, who try to publish and to subscribe; none may get in";
        out.push(("intruders", format!("{}, {about}", w.intruders)));
    }
    if w.idle_connections > 0 {
        out.push(("idle connections", format!("{}, open all the while, with nothing on them", w.idle_connections)));
    }
    if d.durable {
        out.push(("stored", "by the broker, which acknowledges each message".to_owned()));
    }
    match d.keys {
        Keys::None => {}
        Keys::RoundRobin(n) => out.push(("keys", format!("{n}, in turn"))),
        Keys::Uniform(n) => out.push(("keys", format!("{n}, each equally likely"))),
        Keys::Zipf { n, exponent } => out.push(("keys", format!("{n}, by Zipf's law with exponent {exponent}"))),
    }
    if d.history > 0 {
        out.push(("history", format!("{} of each key", crate::units::plural(d.history.into(), "value"))));
    }
    if let Some(keep) = d.keep {
        out.push(("kept", format!("{keep}; looked at when the load is over, for up to {}", keep.within())));
    }
    if d.backlog > 0 {
        out.push(("backlog", format!("{} messages, read after {}", count(d.backlog as f64), d.replay_after)));
    }
    let rejected = [(d.reject_every, "at its first delivery"), (d.dead_every, "at every delivery")];
    for (every, when) in rejected.into_iter().filter(|(every, _)| *every > 0) {
        out.push(("rejected", format!("one in {every}, {when}")));
    }
    if d.max_deliver > 0 {
        out.push(("dead", format!("letter after {} deliveries", d.max_deliver)));
    }
    if let Some(slow) = d.slow {
        out.push(("slow", format!("{} consumers, {} for each message", slow.consumers, slow.think)));
    }
    out
}

/// Faults and events, gate and limits.
fn conditions(plan: &Plan) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    for s in &plan.systems {
        if let Some(faults) = s.options.get("faults") {
            out.push(("faults", format!("of {}: {faults}", s.name)));
        }
    }
    for e in &plan.events {
        let whom = match &e.qdisc {
            Some(qdisc) => format!("the network: {qdisc}"),
            None if e.action.of_process() => format!("{} of each system", e.whom()),
            None => e.whom(),
        };
        out.push(("event", format!("{}: {} {whom}", e.when(), e.action.name())));
    }
    if let Some(g) = &plan.gate {
        let primary: Vec<String> = g.primary.iter().map(ToString::to_string).collect();
        let primary = match primary.as_slice() {
            [] => "p50 and p99 of each response latency, throughput.delivered".into(),
            some => some.join(", "),
        };
        let strict = if g.strict { ", with the whole interval" } else { "" };
        out.push(("gate", format!("a change above {}{strict}, from {} runs a side on", g.max_change, g.min_runs)));
        out.push(("", format!("of {primary}")));
        out.extend(g.max_change_of.iter().map(|(metric, share)| ("", format!("{metric}: above {share}"))));
    }
    if let Some(agents) = &plan.agents {
        let labelled = |l: &LabelledAgents| format!("{} with {}", l.agents, l.label);
        let labels: Vec<String> = agents.labels.iter().map(labelled).collect();
        let labels = if labels.is_empty() { String::new() } else { format!(": {}", labels.join(", ")) };
        let lost = if agents.may_lose > 0 { format!("; {} may be lost", agents.may_lose) } else { String::new() };
        out.push(("agents", format!("{} run the load{labels}{lost}", agents.count)));
    }
    for e in &plan.expect {
        let of = e.system.as_ref().map_or(String::new(), |s| format!(" (of {s})"));
        out.push(("limit", format!("{}{of}", e.that)));
    }
    if plan.may_break {
        out.push(("promises", "may be broken".into()));
    }
    out
}

/// The plan as aligned text: systems, load, cases, time, and which percentiles the samples of one
/// trial support.
pub fn describe(plan: &Plan, types: &SystemTypes) -> String {
    let mut out = String::new();
    let mut line = |key: &str, text: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}", format!("{key:<12}{text}").trim_end());
    };
    line("scenario", &plan.name);
    line("question", &plan.question);
    for (i, s) in plan.systems.iter().enumerate() {
        let up = match &s.bring_up {
            BringUp::Launch => "started for each trial".to_string(),
            BringUp::External { url } => format!("already at {url}"),
        };
        let require = if s.require { ", required" } else { "" };
        line(if i == 0 { "systems" } else { "" }, &format!("{} ({}, {up}{require})", s.name, s.driver));
        let options = s.options.iter().filter(|(k, _)| *k != "faults").map(|(k, v)| format!("{k} = {v}"));
        let options: Vec<String> = s.cpus.map(|n| format!("cpus = {n}")).into_iter().chain(options).collect();
        if !options.is_empty() {
            line("", &format!("  {}", options.join(", ")));
        }
    }
    for it in unsuited(plan, types) {
        line("left out", &format!("{}, which cannot do this: {}", plan.systems[it.system].name, it.lack));
    }
    // Systems share their load points, so each point is described once.
    let points: Vec<&Case> = plan.cases.iter().filter(|c| c.system == 0).collect();
    for case in &points {
        let point: Vec<String> = case.point.iter().map(|(k, v)| format!("{k} = {v}")).collect();
        if !point.is_empty() {
            line("", "");
            line("point", &point.join(", "));
        }
        for w in &case.workloads {
            let t = &w.topology;
            line("workload", &format!("{} ({})", w.name, w.pattern.name()));
            let who = format!(
                "{} producers, {} channels, {} groups of {} consumers",
                t.producers, t.channels, t.groups, t.members
            );
            line("  topology", &who);
            line("  load", &load(&w.load, t.producers));
            line("  payload", &payload(w));
            delivery(w).iter().for_each(|(key, text)| line(&format!("  {key}"), text));
            match (w.load.messages(case.phases.measure), samples(case, w)) {
                (Some(sent), Some(samples)) => {
                    line(
                        "  messages",
                        &format!("{} per trial, {} samples", count(sent.round()), count(samples.round())),
                    );
                    let (yes, no): (Vec<f64>, Vec<f64>) =
                        plan.percentiles.iter().partition(|q| samples * (1.0 - **q) + 1e-6 >= SAMPLES_ABOVE);
                    let names = |qs: &[f64]| qs.iter().map(|q| percentile(*q)).collect::<Vec<_>>().join(", ");
                    line("  supported", if yes.is_empty() { "none".into() } else { names(&yes) }.as_str());
                    if !no.is_empty() {
                        line("  too few", &format!("{}: fewer than 10 samples above", names(&no)));
                    }
                }
                _ => line("  messages", "as many as the system takes"),
            }
        }
        let p = &case.phases;
        let phases = format!("warm-up {}, measure {}, drain at most {}", p.warmup, p.measure, p.drain);
        line("phases", &phases);
    }
    line("", "");
    conditions(plan).iter().for_each(|(key, text)| line(key, text));
    line("cases", &format!("{} ({} systems x {} points)", plan.cases.len(), plan.systems.len(), points.len()));
    if let Some(search) = &plan.search {
        let (each, time) = searched(plan, search);
        let limits: Vec<&str> = search.limits.iter().map(|l| l.that.as_str()).collect();
        line("search", &format!("{}; the two loads that are left at most {} apart", limits.join(", "), search.width));
        line("trials", &format!("about {SEARCHED} for each of {each} searches, seed {}", plan.seed));
        line("time", &format!("about {}", about(time)));
        return out;
    }
    line("trials", &format!("{} of each case, seed {}", plan.trials, plan.seed));
    line("time", &format!("at most {} once connected", about(wall_time(plan))));
    out
}
