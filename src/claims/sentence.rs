//! Verdicts and figures in words.

use super::file::Tier;
use super::judge::{Figure, RuleFinding, RuleResult};
use super::result::{ClaimResult, ClaimWord, ConditionResult, Outcomes};
use super::set::{Claim, ClaimBody, Measure};
use crate::plan::metric::Unit;
use crate::units::{digits, plural, three_digits};

/// What somebody else wrote, without what a terminal obeys.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// What its figures are alike in: the tier, and the share that its rate is.
pub fn tested_on(measure: &Measure) -> String {
    let rate = measure.rate.as_ref().map_or(String::new(), |rate| format!(", {}", rate.words()));
    format!("{}{rate}", tier(measure.tier, measure.copies))
}

/// `page cache, 3 copies`.
fn tier(tier: Tier, copies: u32) -> String {
    match tier {
        Tier::None | Tier::Various => tier.word().into(),
        _ if copies == 1 => format!("{}, one copy", tier.word()),
        _ => format!("{}, {copies} copies", tier.word()),
    }
}

/// Why a rule that its own interval decides is open among all others.
pub fn not_together(p: f64) -> String {
    format!(
        "its own interval would decide, but corrected for all tests of the report p is {}: more rounds would decide",
        three_digits(p)
    )
}

/// In how many of a hundred rounds something may be that was in none of so many. The tries are the
/// rounds and not the messages, which share the fate of their round: none in n has the exact 95 %
/// bound 1 - 0.05^(1/n).
fn at_most(runs: usize) -> f64 {
    100.0 * (1.0 - 0.05f64.powf(1.0 / runs as f64))
}

/// A figure with its interval.
pub fn figure(rule: &RuleResult) -> String {
    let kind = rule.kind.unwrap_or(Unit::Count);
    let (name, other) = (&rule.left, rule.right.as_deref().unwrap_or_default());
    let show = |v: f64| kind.show(v);
    let interval = |ci: Option<(f64, f64)>, show: &dyn Fn(f64) -> String| match ci {
        Some((low, high)) => format!(" ({} to {})", show(low), show(high)),
        None => String::new(),
    };
    match &rule.figure {
        Figure::None => format!("{name}: not measured"),
        Figure::Median { value, ci95, runs, .. } => {
            format!("{name}: {}{}, {}", show(*value), interval(*ci95, &show), plural(*runs as u64, "round"))
        }
        Figure::Ratio { value, ci95, left, right, .. } => {
            let times = |v: f64| three_digits(v);
            let interval = interval(*ci95, &times);
            format!("{name} is {} times{interval} that of {other}: {} and {}", times(*value), show(*left), show(*right))
        }
        Figure::Difference { value, ci95, left, right, .. } => {
            let signed = |v: f64| if v < 0.0 { format!("-{}", show(-v)) } else { show(v) };
            let interval = interval(*ci95, &signed);
            format!(
                "{name} is {} more{interval} than that of {other}: {} and {}",
                signed(*value),
                show(*left),
                show(*right)
            )
        }
        Figure::Count { value, of, runs } => {
            let of = of.map_or_else(String::new, |of| format!(" of {}", digits(of)));
            let all = format!("{name}: {}{of} in {}", digits(*value as u64), plural(*runs as u64, "round"));
            match *value == 0.0 && *runs > 0 {
                true => format!("{all} (95 %: in at most {:.0} % of rounds)", at_most(*runs)),
                false => all,
            }
        }
        // A searched value may break the limit with its other end.
        Figure::Worst { value, broken: 0, runs, .. } if rule.finding == RuleFinding::Open => {
            format!("{name}: {} at the worst in {}", show(*value), plural(*runs as u64, "round"))
        }
        Figure::Worst { value, broken: 0, runs, .. } => {
            let (value, all) = (show(*value), plural(*runs as u64, "round"));
            format!("{name}: {value} at the worst in {all} (95 %: broken in at most {:.0} % of rounds)", at_most(*runs))
        }
        Figure::Worst { value, broken, runs, .. } => {
            format!("{name}: {} at the worst; {broken} of {} break it", show(*value), plural(*runs as u64, "round"))
        }
    }
}

/// The rule that says most about a condition: the first one that decided it so.
pub fn decisive(condition: &ConditionResult) -> Option<&RuleResult> {
    condition.rules.iter().find(|r| r.finding == condition.finding).or(condition.rules.first())
}

/// Whether a condition holds, in a word.
pub fn word(condition: &ConditionResult) -> &'static str {
    match condition.finding {
        _ if condition.beside => "beside it:",
        RuleFinding::Holds => "holds",
        RuleFinding::Fails => "fails",
        RuleFinding::Open => "open",
    }
}

/// The figure that decides a condition, and why it is open where it is.
pub fn decided_by(condition: &ConditionResult) -> String {
    decisive(condition).map_or_else(String::new, |r| match (&r.open_because, r.finding) {
        (Some(why), RuleFinding::Open) if r.figure == Figure::None => why.clone(),
        (Some(why), RuleFinding::Open) => format!("{}, {why}", figure(r)),
        _ => figure(r),
    } + &aloud(r))
}

/// What must be said with a figure: in what both systems are not alike, and what was left out.
fn aloud(rule: &RuleResult) -> String {
    let unlike: Vec<&str> = rule.unlike.iter().map(|u| u.split(':').next().unwrap_or_default()).collect();
    let unlike = if unlike.is_empty() { String::new() } else { format!("; not alike in {}", unlike.join(", ")) };
    let left_out = rule.left_out.as_ref().map(|(n, why)| format!("; {} left out: {why}", plural(*n as u64, "round")));
    unlike + &left_out.unwrap_or_default()
}

/// `synced fails: e2e.p50 of a is 1.9 times (1.7 to 2.1) that of b`.
fn of_condition(condition: &ConditionResult) -> String {
    let figure = decided_by(condition);
    match &condition.when {
        Some(when) if condition.beside => format!("{when} (decides nothing): {figure}"),
        Some(when) => format!("{when} {}: {figure}", word(condition)),
        None => figure,
    }
}

/// The decisive figures of a claim.
pub fn figures(result: &ClaimResult) -> String {
    result.conditions.iter().map(of_condition).collect::<Vec<_>>().join("; ")
}

/// Why a claim has its verdict.
pub fn reason(claim: &Claim, verdict: ClaimWord, conditions: &[ConditionResult]) -> String {
    let figures = || conditions.iter().map(of_condition).collect::<Vec<_>>().join("; ");
    match (&claim.body, verdict) {
        (ClaimBody::Read { why, .. }, _) if conditions.is_empty() => why.clone(),
        (ClaimBody::Read { why, .. }, _) => format!("{} Measured all the same: {}", ended(why), figures()),
        (ClaimBody::NotTestable { why }, _) if conditions.is_empty() => why.clone(),
        (ClaimBody::NotTestable { why }, _) => format!("{} Measured all the same: {}", ended(why), figures()),
        (_, ClaimWord::NotTestable) => {
            format!("{} Seen here: {}", ended(claim.cannot_refute.as_deref().unwrap_or_default()), figures())
        }
        _ => figures(),
    }
}

fn ended(text: &str) -> String {
    let text = text.trim();
    if text.ends_with(['.', '!', '?']) { text.into() } else { format!("{text}.") }
}

/// The three sentences at the top of a report.
pub fn summary(o: &Outcomes) -> String {
    let count = |v: ClaimWord| o.count(|x| x == v);
    let read = o.count(|v| matches!(v, ClaimWord::Read(_)));
    let (all, supported, refuted) = (o.claims.len(), count(ClaimWord::Supported), count(ClaimWord::Refuted));
    let (depends, undecided, not) =
        (count(ClaimWord::Depends), count(ClaimWord::Undecided), count(ClaimWord::NotTestable));
    let first = format!(
        "Of {} put to the test {supported} hold as stated, {refuted} do not, and {depends} hold under some conditions only.",
        plural((all - read - not) as u64, "claim")
    );
    let ids = |v: ClaimWord| {
        let of = o.claims.iter().filter(|c| c.verdict == v).map(|c| c.id.to_string());
        of.collect::<Vec<_>>().join(", ")
    };
    let second = match (refuted, undecided) {
        (0, 0) => "None of them is left open.".to_owned(),
        (_, 0) => format!("Refuted: {}; none is left open.", ids(ClaimWord::Refuted)),
        (0, _) => format!("Left open: {}.", ids(ClaimWord::Undecided)),
        _ => format!("Refuted: {}; left open: {}.", ids(ClaimWord::Refuted), ids(ClaimWord::Undecided)),
    };
    let third = format!(
        "{} a matter of reading and not of measuring, and {not} cannot be tested on this host.",
        if read == 1 { "1 is".into() } else { format!("{read} are") }
    );
    format!("{first} {second} {third}")
}

/// How certain the verdicts are together.
pub fn certainty(o: &Outcomes) -> String {
    match o.quick {
        _ if o.tests == 0 => "No verdict rests on a test: counterexamples and facts need none.".into(),
        true => format!(
            "Quick form: each verdict is that of its own 95 % interval; over {} some of them may be chance. The full form corrects for all of them.",
            plural(o.tests as u64, "test")
        ),
        false => format!(
            "Each verdict needs its own 95 % interval and a p-value below 5 % after Holm's correction for {}.",
            plural(o.tests as u64, "test")
        ),
    }
}
