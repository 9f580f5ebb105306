//! What a run can honestly say, in sentences: for each system whether its trials count, what was
//! promised and kept, and its headline figure with an interval; then, with several systems, what
//! [`crate::compare`] says of them. No figure is judged here that is not judged there.

use super::view::{ShownLatency, check_number, median_trial, response, status_word, usable};
use crate::compare::{self, CompareOptions, ComparisonRow, ExpectVerdict, NamedRecord, Verdict};
use crate::plan::metric::Quantity;
use crate::record::{Check, Gravest, Outcome, Percentile, Record, Status, TailDoubt, Trial};
use crate::stats::{decide, median, shift};
use crate::units::latency;

/// The check of keeping up.
const OVERLOAD: &str = "V3";

#[derive(Debug, Clone, PartialEq)]
pub struct RunVerdict {
    /// `FAILED`, `BROKEN`, `INVALID`, `UNMET`, `WARN` or `OK`: the gravest thing that there is to
    /// say.
    pub word: &'static str,
    /// One sentence for each system, then those of the comparison.
    pub sentences: Vec<String>,
    /// The limits of the scenario: word and sentence of each.
    pub limits: Vec<(&'static str, String)>,
}

/// The verdict on a run; `None` where nothing was measured.
pub fn of(record: &Record) -> Option<RunVerdict> {
    if record.trials.is_empty() {
        return None;
    }
    let mut sentences: Vec<String> = record.plan.systems.iter().filter_map(|s| system(record, &s.name)).collect();
    sentences.extend(between(record));
    let mut limits = compare::expectations(record, &record.plan.expect);
    let any = |f: &dyn Fn(&Trial) -> bool| record.trials.iter().any(f);
    let word = match record.gravest() {
        Some(Gravest::Failed) => "FAILED",
        Some(Gravest::Broken) => "BROKEN",
        Some(Gravest::Invalid) => "INVALID",
        None if limits.iter().any(|l| l.verdict == ExpectVerdict::Unmet) => "UNMET",
        None if any(&|t| warns(t) || t.outcome == Outcome::Partial) => "WARN",
        None => "OK",
    };
    // The gravest first.
    let rank = |v: ExpectVerdict| match v {
        ExpectVerdict::Unmet => 0,
        ExpectVerdict::Invalid => 1,
        ExpectVerdict::Inconclusive => 2,
        ExpectVerdict::NotJudged => 3,
        ExpectVerdict::Met => 4,
    };
    limits.sort_by_key(|l| rank(l.verdict));
    let limits = limits.into_iter().map(|l| (l.verdict.word(), format!("{}: {}.", l.case, l.sentence))).collect();
    Some(RunVerdict { word, sentences, limits })
}

/// Whether something about a trial must be known, or was not judged that could have made it
/// INVALID.
fn warns(trial: &Trial) -> bool {
    let open = |c: &Check| c.status == Status::NotJudged && c.id == OVERLOAD;
    trial.validity.iter().any(|c| c.status == Status::Warn || open(c))
}

/// `1,200,000`: counts are compared digit by digit.
fn digits(n: u64) -> String {
    let text = n.to_string();
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i > 0 && (text.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `All 3 trials of nats`, `2 of 3 trials of nats`.
fn share(part: usize, whole: usize, name: &str) -> String {
    match whole {
        n if part < n => format!("{part} of {n} trials of {name}"),
        1 => format!("The trial of {name}"),
        2 => format!("Both trials of {name}"),
        n => format!("All {n} trials of {name}"),
    }
}

fn system(record: &Record, name: &str) -> Option<String> {
    let index = record.plan.systems.iter().position(|s| s.name == name)?;
    let cases: Vec<_> = record.plan.cases.iter().filter(|c| c.system == index).collect();
    let of: Vec<&Trial> = record.trials.iter().filter(|t| cases.iter().any(|c| c.id == t.case)).collect();
    if of.is_empty() {
        return None;
    }
    let complete: Vec<&Trial> = of.iter().copied().filter(|t| t.outcome == Outcome::Complete).collect();
    let promised = complete.iter().any(|t| t.workloads.iter().any(|w| !w.promises.is_empty()));
    let mut text = match promised {
        true => {
            let kept = complete.iter().filter(|t| t.kept()).count();
            let whose = if of.len() == 1 && kept == 1 { "its" } else { "their" };
            format!("{} kept {whose} promises", share(kept, of.len(), name))
        }
        false => {
            let verb = if of.len() == 1 || complete.len() == 1 { "was" } else { "were" };
            format!("{} {verb} completed", share(complete.len(), of.len(), name))
        }
    };
    let sum = |f: fn(&crate::record::Ledger) -> u64| -> u64 {
        complete.iter().flat_map(|t| &t.workloads).map(|w| f(&w.ledger)).sum()
    };
    let (expected, lost) = (sum(|l| l.expected), sum(|l| l.lost));
    if expected > 0 {
        text.push_str(&format!(": {} of {} delivered", digits(expected.saturating_sub(lost)), digits(expected)));
    } else if sum(|l| l.sent) > 0 {
        text.push_str(&format!(": {} of {} acknowledged", digits(sum(|l| l.acked)), digits(sum(|l| l.sent))));
    }
    match cases[..] {
        [case] => {
            for (i, w) in case.workloads.iter().enumerate() {
                let of = if case.workloads.len() > 1 { format!(" of {}", w.name) } else { String::new() };
                text.extend(headline(record, &case.id, i).map(|h| format!(", {h}{of}")));
            }
        }
        _ => text.push_str(&format!(" at {} load points", cases.len())),
    }
    Some(format!("{}{text}; {}.", first(&of, name), validity_sentence(&of)))
}

/// `e2e p99 829us (95 % CI 810us to 850us, median of 8 runs)`: the interval of the median over runs
/// from six on, below that their range, and of one run the interval within it.
fn headline(record: &Record, case: &str, workload: usize) -> Option<String> {
    let shown = median_trial(record, case, workload)?;
    let (kind, _) = shown.workloads.get(workload).and_then(response)?;
    let valid: Vec<&Trial> = record.trials.iter().filter(|t| t.case == case && usable(t)).collect();
    let measured = |q: f64| valid.iter().all(|t| at(t, workload, q).is_some_and(|p| p.printable));
    let q = [0.99, 0.9, 0.5].into_iter().find(|q| measured(*q))?;
    let name = format!("{kind} {}", super::view::quantile_name(q));
    let all: Vec<&Percentile> = valid.iter().filter_map(|t| at(t, workload, q)).collect();
    let middle = ShownLatency::median(all.iter().map(|p| ShownLatency::of(Some(p))).collect());
    let ns: Vec<f64> = all.iter().map(|p| p.value_ns.map_or(f64::INFINITY, |v| v as f64)).collect();
    let show = |v: f64| if v.is_finite() { latency(v.round() as u64) } else { "inf".into() };
    let around = match (shift::median_interval(&ns, 0.95), &all[..]) {
        (Some((low, high)), _) => {
            format!("95 % CI {} to {}, median of {} runs", show(low), show(high), ns.len())
        }
        (None, [one]) => match one.ci95_ns {
            Some((low, Some(high))) => format!("95 % CI {} to {} within the run", latency(low), latency(high)),
            _ => "one run".into(),
        },
        _ => {
            let range = ns.iter().fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(*v), h.max(*v)));
            format!("{} to {} over {} runs", show(range.0), show(range.1), ns.len())
        }
    };
    let doubt = if all.iter().any(|p| p.doubt.is_some()) { "?" } else { "" };
    Some(format!("{name} {middle}{doubt} ({around})"))
}

fn at(trial: &Trial, workload: usize, quantile: f64) -> Option<&Percentile> {
    trial.workloads.get(workload).and_then(response)?.1.at(quantile)
}

/// What comes before everything else: that the latencies are those of an overload, and the event
/// that decides a percentile.
fn first(of: &[&Trial], name: &str) -> String {
    let overload = |t: &&&Trial| t.validity.iter().any(|c| c.id == OVERLOAD && c.status == Status::Invalid);
    let over: Vec<&&Trial> = of.iter().filter(overload).collect();
    if let Some(worst) = over.first().and_then(|t| t.validity.iter().find(|c| c.id == OVERLOAD)) {
        let was = if of.len() == 1 || over.len() == 1 { "was" } else { "were" };
        let round = if of.len() > 1 { format!("round {}: ", over[0].round) } else { String::new() };
        return format!("{} {was} overloaded ({round}{}). ", share(over.len(), of.len(), name), worst.observed);
    }
    let mut hit: Vec<(&Trial, TailDoubt, String)> = Vec::new();
    for t in of.iter().filter(|t| usable(t)) {
        for w in &t.workloads {
            let Some((kind, l)) = response(w) else { continue };
            let doubted: Vec<(f64, TailDoubt)> =
                l.percentiles.iter().filter(|p| p.printable).filter_map(|p| Some((p.quantile, p.doubt?))).collect();
            // The highest one tells the event best: above a lower one there may be other slow
            // spells.
            let Some((_, event)) = doubted.iter().rev().find(|(_, d)| d.decides()) else { continue };
            let same = |d: &TailDoubt| d.decides() && (d.episodes, d.at_s) == (event.episodes, event.at_s);
            let names = doubted.iter().filter(|(_, d)| same(d)).map(|(q, _)| super::view::quantile_name(*q));
            let of = if t.workloads.len() > 1 { format!("{} {kind}", w.name) } else { kind.to_owned() };
            hit.push((t, *event, format!("{} of {of}", names.collect::<Vec<_>>().join(", "))));
        }
    }
    let Some((trial, event, names)) = hit.iter().max_by_key(|(_, d, _)| d.longest_ns) else { return String::new() };
    let whole = format!("{event} decide{} {}", if event.episodes == 1 { "s" } else { "" }, names);
    let whole =
        whole.chars().next().map_or_else(String::new, |c| c.to_uppercase().chain(whole.chars().skip(1)).collect());
    match of.len() {
        1 => format!("{whole}. "),
        n => format!("{whole} ({name}, round {}; {} of {n} rounds have one). ", trial.round, hit.len()),
    }
}

/// `valid`, `valid with 2 warnings (V6, V13)`, `1 of 3 INVALID (V2) and left out`.
fn validity_sentence(of: &[&Trial]) -> String {
    let ids = |status: Status| {
        let hit = of.iter().flat_map(|t| &t.validity).filter(|c| c.status == status);
        let mut ids: Vec<&str> = hit.map(|c| c.id.as_str()).collect();
        ids.sort_by_key(|id| check_number(id));
        let hits = ids.len();
        ids.dedup();
        (hits, ids.join(", "))
    };
    let number = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let (warnings, warned) = ids(Status::Warn);
    let with = if warnings > 0 { format!(" with {} ({warned})", number(warnings, "warning")) } else { String::new() };
    let (_, unjudged) = ids(Status::NotJudged);
    let with = if unjudged.is_empty() { with } else { format!("{with} (not judged: {unjudged})") };
    let valid = of.iter().filter(|t| usable(t)).count();
    let failed = of.iter().filter(|t| matches!(t.outcome, Outcome::Failed { .. })).count();
    let partial = of.iter().filter(|t| t.outcome == Outcome::Partial).count();
    let invalid = of.len() - valid - failed - partial;
    let mut bad = Vec::new();
    for (n, word) in [(failed, "FAILED"), (partial, "interrupted")] {
        if n > 0 {
            bad.push(format!("{n} {word}"));
        }
    }
    if invalid > 0 {
        bad.push(format!("{invalid} {} ({})", status_word(Status::Invalid), ids(Status::Invalid).1));
    }
    match (bad.is_empty(), valid) {
        (true, _) => format!("valid{with}"),
        (false, 0) => format!("none counts: {}", bad.join(", ")),
        (false, n) => format!("{n} valid{with}, left out: {}", bad.join(", ")),
    }
}

/// What the comparison of all pairs says at p99 of the best system against each other one; of
/// several load points its headline.
fn between(record: &Record) -> Vec<String> {
    let gate = record.plan.gate.clone().unwrap_or_default();
    let named = NamedRecord { label: &record.plan.name, record };
    let Ok(c) = compare::systems(named, None, &gate, CompareOptions::default()) else {
        return Vec::new();
    };
    let tail = |r: &&ComparisonRow| {
        r.primary
            && r.lower_is_better
            && matches!(r.metric.quantity, Quantity::Latency(..))
            && r.metric.quantity.quantile().is_some_and(|q| (q - 0.99).abs() < 1e-9)
    };
    let rows: Vec<&ComparisonRow> = c.rows.iter().filter(tail).collect();
    let points: std::collections::BTreeSet<(&str, Option<&String>)> =
        rows.iter().map(|r| (r.scenario.as_str(), r.metric.workload.as_ref())).collect();
    if points.len() != 1 {
        let more = if points.is_empty() { "" } else { " `msgbench compare` has every load point." };
        return vec![format!("{}{more}", c.overall.sentence)];
    }
    let sides = || rows.iter().flat_map(|r| [&r.a, &r.b]).filter(|s| s.n > 0);
    let best = sides().min_by(|a, b| middle(&a.values).total_cmp(&middle(&b.values))).map(|s| s.label.as_str());
    let about = rows.iter().filter(|r| best.is_some_and(|b| r.a.label == b || r.b.label == b));
    let family = c.rows.iter().filter(|r| r.primary).count().max(1) as f64;
    let alpha = if gate.looks.is_some() { decide::two_looks(gate.alpha) } else { gate.alpha };
    about.map(|r| sentence(r, alpha / family)).collect()
}

fn middle(values: &[f64]) -> f64 {
    median(values).unwrap_or(f64::INFINITY)
}

/// The row in a sentence; where more runs would decide, how many more. With so few that not even
/// their spread is known, as many as `level` asks for at least.
fn sentence(row: &ComparisonRow, level: f64) -> String {
    let n = row.a.n.min(row.b.n) as u64;
    let unknown = row.ratio.is_some_and(|r| r.ci95.is_none());
    let least = decide::runs_needed(row.max_change, 0.0, level, 0.8).filter(|least| unknown && *least > n);
    let few = row.runs_needed.or(least).filter(|_| row.verdict == Verdict::Inconclusive);
    match few {
        Some(needed) => {
            let more = needed.saturating_sub(n);
            let about = if row.runs_needed.is_some() { "about" } else { "at least" };
            let ratio = row.ratio.map_or_else(String::new, |r| format!(", ratio {:.2}", r.value));
            // The threshold is the smallest change that matters; one as large as the one seen needs
            // fewer.
            let to_find = row.runs_needed.map_or_else(String::new, |_| {
                let seen = row.runs_needed_seen.map(|k| (k.saturating_sub(n), row.ratio.map_or(0.0, |r| r.value)));
                let seen = seen.map_or_else(String::new, |(k, r)| {
                    format!(", about {k} more one by the {} seen", compare::percent(r.max(1.0 / r) - 1.0))
                });
                format!(" to find a change by {}{seen}", compare::percent(row.max_change))
            });
            format!(
                "Between {} and {} at {} there are too few runs for a verdict ({} + {}{ratio}): {about} {more} more of each are needed{to_find}.",
                row.a.label, row.b.label, row.metric, row.a.n, row.b.n
            )
        }
        None if row.verdict == Verdict::Inconclusive && !row.sentence.contains(&row.reason) => {
            format!("{}; {}.", row.sentence.trim_end_matches('.'), row.reason)
        }
        None => format!("{}.", row.sentence.trim_end_matches('.')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample::{A, B, record};
    use crate::record::Promise;
    use crate::record::sample;

    fn promised(mut r: Record, kept: bool) -> Record {
        for t in &mut r.trials {
            t.workloads[0].promises = vec![Promise { promised: "at most once".into(), observed: "so".into(), kept }];
        }
        r
    }

    #[test]
    fn ten_rounds_give_an_interval_and_a_verdict() {
        let twice: Vec<f64> = B.iter().map(|v| 2.0 * v).collect();
        let said = of(&promised(record(&A, &twice), true)).unwrap();
        insta::assert_snapshot!(format!("{}\n{}", said.word, said.sentences.join("\n")), @r"
        OK
        All 10 trials of reference kept their promises: 200,000 of 200,000 delivered, e2e p99 807us (95 % CI 798us to 821us, median of 10 runs); valid.
        All 10 trials of nats kept their promises: 200,000 of 200,000 delivered, e2e p99 1.70ms (95 % CI 1.67ms to 1.72ms, median of 10 runs); valid.
        nats is 2.1 times slower than reference at e2e.p99 (95 % CI 2.07 to 2.13, 10 + 10 interleaved runs, p < 0.001).
        ");
        let said = of(&promised(record(&A[..3], &B[..3]), true)).unwrap();
        insta::assert_snapshot!(said.sentences.join("\n"), @r"
        All 3 trials of reference kept their promises: 60,000 of 60,000 delivered, e2e p99 805us (798us to 812us over 3 runs); valid.
        All 3 trials of nats kept their promises: 60,000 of 60,000 delivered, e2e p99 846us (839us to 861us over 3 runs); valid.
        Between reference and nats at e2e.p99 there are too few runs for a verdict (3 + 3, ratio 1.05): about 3 more of each are needed to find a change by 5 %.
        ");
    }

    #[test]
    fn what_is_wrong_comes_before_what_is_good() {
        let said = of(&sample::record()).unwrap();
        assert_eq!(said.word, "INVALID");
        insta::assert_snapshot!(said.sentences.join("\n"), @r"
        Both trials of reference were completed: 40,000 of 40,000 delivered, e2e p99 152us (one run); 1 valid, left out: 1 INVALID (V1).
        Both trials of nats were completed: 39,950 of 40,000 delivered, e2e p99 451us (428us to 474us over 2 runs); valid with 1 warning (V6).
        Between reference and nats at e2e.p99 there are too few runs for a verdict (1 + 2, ratio 2.96): at least 5 more of each are needed.
        ");
        let mut broken = promised(record(&A[..1], &B[..1]), false);
        assert_eq!(of(&broken).unwrap().word, "BROKEN");
        broken.trials[0].outcome = Outcome::Failed { phase: "measure".into(), error: "gone".into() };
        let said = of(&broken).unwrap();
        assert!(said.word == "FAILED" && said.sentences[0].contains("none counts: 1 FAILED"), "{said:?}");
        broken.trials.clear();
        assert_eq!(of(&broken), None);
    }

    fn overload(t: &mut Trial, status: Status) {
        let (observed, name) = ("8000 due, 4000 made".to_string(), "keeps up".to_string());
        let (threshold, message) = (String::new(), "OVERLOADED".to_string());
        t.validity.push(Check { id: OVERLOAD.into(), name, status, observed, threshold, message });
    }

    #[test]
    fn an_overload_and_a_stall_come_first() {
        let mut r = promised(record(&A[..2], &B[..2]), true);
        let first = |r: &Record| {
            let said = of(r).unwrap();
            format!("{}: {}", said.word, said.sentences[0])
        };
        let doubt = |at_s, longest_ns| TailDoubt { episodes: 1, share: 0.95, longest_ns, at_s, stall: true };
        for (i, t) in r.trials.iter_mut().enumerate() {
            let l = t.workloads[0].latency.get_mut("e2e").unwrap();
            l.percentiles.iter_mut().for_each(|p| p.doubt = Some(doubt(7.0 + i as f64, 1_000_000_000 - i as u64)));
        }
        let begins = "OK: One stall of 1.00s (at 7.0 s) decides p50, p99, p99.9 of e2e (reference, round 1; 2 of 2 rounds have one). \
                      Both trials of reference kept their promises: 40,000 of 40,000 delivered, e2e p99 805us? (";
        assert!(first(&r).starts_with(begins), "{}", first(&r));
        let mut few = r.clone();
        few.trials.truncate(1);
        let begins = "OK: One stall of 1.00s (at 7.0 s) decides p50, p99, p99.9 of e2e. The trial of reference kept its promises: ";
        assert!(first(&few).starts_with(begins), "{}", first(&few));
        // Above a lower percentile there is another spell: that makes no second stall.
        let l = few.trials[0].workloads[0].latency.get_mut("e2e").unwrap();
        l.percentiles[0].doubt = Some(TailDoubt { episodes: 2, ..doubt(7.0, 1_000_000_000) });
        let begins = "OK: One stall of 1.00s (at 7.0 s) decides p99, p99.9 of e2e. The trial";
        assert!(first(&few).starts_with(begins), "{}", first(&few));
        let two = TailDoubt { episodes: 2, ..doubt(7.0, 1_000_000_000) }.to_string();
        assert_eq!(two, "2 slow spells, the longest a stall of 1.00s (at 7.0 s)");
        let index = r.trials.iter().position(|t| t.case.starts_with("reference")).unwrap();
        overload(&mut r.trials[index], Status::Invalid);
        let begins = "INVALID: 1 of 2 trials of reference was overloaded (round 1: 8000 due, 4000 made). Both trials of reference kept";
        assert!(first(&r).starts_with(begins), "{}", first(&r));
        let mut open = promised(record(&A[..1], &B[..1]), true);
        assert!(first(&open).starts_with("OK: "), "{}", first(&open));
        overload(&mut open.trials[0], Status::NotJudged);
        overload(&mut open.trials[1], Status::NotJudged);
        let said = first(&open);
        assert!(said.starts_with("WARN: ") && said.contains("(not judged: V3)"), "no pass: {said}");
    }

    #[test]
    fn counts_are_read_digit_by_digit() {
        assert_eq!([7, 999, 1_000, 1_200_000].map(digits), ["7", "999", "1,000", "1,200,000"]);
    }
}
