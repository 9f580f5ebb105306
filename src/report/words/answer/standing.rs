//! Which system is the best at the load point of the answer, and whether that is decided.

use super::AnswerContext;
use super::headline::apart;
use super::side::{AnswerSide, Measured};
use crate::compare::Verdict;

/// How a system stands beside the others, by what heads the answer: the median, or the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Better than all others, or the same as the one that is.
    Best,
    /// Better in every run, of which there are too few to decide.
    Ahead,
    /// It may be the best: that is not decided.
    Open,
    /// Another one is better.
    Behind,
    /// There is no other one, or no figure.
    Alone,
}

impl Standing {
    /// What stands in a cell; empty where there is nothing to say.
    pub fn word(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Ahead => "ahead, not certain",
            Self::Open => "not decided",
            Self::Behind | Self::Alone => "",
        }
    }
}

/// The standing of each side, in their order.
pub(super) fn standings(context: &AnswerContext<'_>) -> Vec<Standing> {
    let value = |s: &AnswerSide<'_>| match s.typical.as_ref() {
        Some(f) if f.measured == Measured::Rate => Some(-f.value),
        Some(f) => Some(f.value),
        None => None,
    };
    let known: Vec<&AnswerSide<'_>> = context.sides.iter().filter(|s| value(s).is_some()).collect();
    let best = known.iter().copied().min_by(|x, y| {
        let of = |s: &AnswerSide<'_>| value(s).unwrap_or(f64::INFINITY);
        of(x).total_cmp(&of(y))
    });
    let Some(best) = best.filter(|_| known.len() > 1) else {
        return vec![Standing::Alone; context.sides.len()];
    };
    let range = |s: &AnswerSide<'_>| s.typical.as_ref().and_then(|f| f.range);
    let against = |s: &AnswerSide<'_>| match context.row(best, s).map(|r| r.verdict) {
        Some(Verdict::Faster | Verdict::Slower) => Standing::Behind,
        Some(Verdict::Same) => Standing::Best,
        _ if apart(range(best), range(s)) => Standing::Ahead,
        _ => Standing::Open,
    };
    let others: Vec<Standing> = known.iter().filter(|s| !std::ptr::eq(**s, best)).map(|s| against(s)).collect();
    let first = match () {
        () if others.contains(&Standing::Open) => Standing::Open,
        () if others.contains(&Standing::Ahead) => Standing::Ahead,
        () => Standing::Best,
    };
    let of = |s: &AnswerSide<'_>| match against(s) {
        _ if value(s).is_none() => Standing::Alone,
        _ if std::ptr::eq(s, best) => first,
        // The best one is ahead of it.
        Standing::Ahead => Standing::Behind,
        // The same as one of which it is open whether it is the best.
        Standing::Best => first,
        other => other,
    };
    context.sides.iter().map(of).collect()
}
