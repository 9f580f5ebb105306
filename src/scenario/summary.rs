//! A plan for people: what `check` prints before anything runs.

use std::fmt::Write;

use crate::plan::{Arrivals, BringUp, Case, Content, Load, PayloadSize, Plan, Profile, Workload};
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

fn load(load: &Load) -> String {
    match load {
        Load::Open { arrivals, profile } => {
            let arrivals = if *arrivals == Arrivals::Constant { "constant" } else { "poisson" };
            format!("open, {arrivals}, {}", shape(profile))
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

/// The plan as aligned text: systems, load, cases, time, and which percentiles the samples of one
/// trial support.
pub fn describe(plan: &Plan) -> String {
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
            line("  load", &load(&w.load));
            line("  payload", &payload(w));
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
    line("cases", &format!("{} ({} systems x {} points)", plan.cases.len(), plan.systems.len(), points.len()));
    line("trials", &format!("{} of each case, seed {}", plan.trials, plan.seed));
    line("time", &format!("at most {} once connected", about(wall_time(plan))));
    out
}
