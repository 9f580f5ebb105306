//! Decision rules: `e2e.p99 of nats < 1ms`, `e2e.p50 of jetstream < 1.5 * e2e.p50 of kafka`.

use crate::plan::gate::Comparator;
use crate::plan::metric::{Metric, Unit};
use crate::units::ParseError;

/// A metric of a system, at a load point of a measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Operand {
    pub metric: Metric,
    pub system: String,
    /// Settings that were swept, each as key and value; the key may be its last word alone.
    pub at: Vec<(String, String)>,
    /// The measurement; that of the claim where absent.
    pub measure: Option<String>,
}

/// What the left side is held against.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// A value in the unit of the metric.
    Limit(f64),
    /// So many times what was measured.
    Measured { factor: f64, operand: Operand },
}

/// What must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// As typed.
    pub that: String,
    pub left: Operand,
    pub comparator: Comparator,
    pub right: Bound,
    /// Whether each round must keep it, and not the median over rounds: one that breaks it decides.
    pub each: bool,
}

/// How a rule is written, for those who wrote it otherwise.
const FORM: &str = "write it as \"e2e.p99 of nats < 1ms\" or \"e2e.p50 of a < 1.5 * e2e.p50 of b\"";

/// Stands behind a limit that each round must keep.
const EACH: &str = " in each round";

/// The signs, those of two characters first.
const SIGNS: [(&str, Comparator); 5] = [
    ("<=", Comparator::AtMost),
    (">=", Comparator::AtLeast),
    ("==", Comparator::Equal),
    ("<", Comparator::Less),
    (">", Comparator::Greater),
];

/// Both sides of the first sign, and the sign.
pub(super) fn signed(that: &str) -> Option<(&str, Comparator, &str)> {
    SIGNS.into_iter().find_map(|(sign, c)| that.split_once(sign).map(|(l, r)| (l, c, r)))
}

/// What is wrong, and what to write.
pub type RuleError = (String, Option<String>);

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn read(that: &str) -> Result<Self, RuleError> {
        let plain = |words: String| (words, Some(FORM.to_owned()));
        let (typed, each) = match that.trim_end().strip_suffix(EACH) {
            Some(typed) => (typed, true),
            None => (that, false),
        };
        let Some((left, comparator, right)) = signed(typed) else {
            return Err(plain(format!("`{}` compares nothing", that.escape_debug())));
        };
        let left = Operand::read(left)?;
        let right = match right.contains(" of ") {
            false => {
                let value = left.metric.quantity.read(right.trim());
                Bound::Limit(value.map_err(|e: ParseError| (e.0, None))?)
            }
            true => {
                let (factor, operand) = right.split_once('*').unwrap_or(("1", right));
                let factor: f64 = factor.trim().parse().map_err(|_| {
                    plain(format!("`{}` is not a number to multiply with", factor.trim().escape_debug()))
                })?;
                if !(factor.is_finite() && factor > 0.0) {
                    return Err(plain(format!("{factor} is not above 0")));
                }
                Bound::Measured { factor, operand: Operand::read(operand)? }
            }
        };
        let rule = Self { that: that.trim().into(), left, comparator, right, each };
        rule.sensible()?;
        Ok(rule)
    }

    /// Refuses what could be read and says nothing.
    fn sensible(&self) -> Result<(), RuleError> {
        if let Bound::Measured { operand, .. } = &self.right {
            if self.each {
                let words = "rounds of two systems are not held against each other one by one".to_owned();
                return Err((words, Some("leave out `in each round`, or write a limit".into())));
            }
            let (a, b) = (self.left.metric.quantity.unit(), operand.metric.quantity.unit());
            if a != b {
                let words = format!("{} and {} do not count the same", self.left.metric, operand.metric);
                return Err((words, None));
            }
            if *operand == self.left {
                return Err(("both sides are the same".into(), None));
            }
        }
        let zero = self.of_zero();
        if zero && self.each {
            let words = "a count that is 0 or not is that of all rounds".to_owned();
            return Err((words, Some("leave out `in each round`".into())));
        }
        if self.comparator == Comparator::Equal && !zero {
            let words = "what is measured is never exactly equal, but for a count of 0".to_owned();
            return Err((words, Some("write two rules, with >= and <=".into())));
        }
        if zero && matches!(self.comparator, Comparator::Less | Comparator::AtLeast) {
            let words = "no count is below 0, and every count is 0 at least".to_owned();
            return Err((words, Some("write == 0 or > 0".into())));
        }
        Ok(())
    }

    /// Both operands, with the measurements that they look at.
    pub fn operands(&self) -> Vec<&Operand> {
        let right = match &self.right {
            Bound::Measured { operand, .. } => Some(operand),
            Bound::Limit(_) => None,
        };
        std::iter::once(&self.left).chain(right).collect()
    }

    /// What tells it from other rules, however it is typed: one that two claims have is one test.
    pub fn identity(&self) -> String {
        format!("{:?} {:?} {:?} {}", self.left, self.comparator, self.right, self.each)
    }

    /// Whether it is about a count that is 0 or not.
    fn of_zero(&self) -> bool {
        let zero = matches!(self.right, Bound::Limit(0.0));
        zero && self.left.metric.quantity.unit() == Unit::Count
    }

    /// Whether one counterexample decides it, so that no number of rounds is needed.
    pub fn by_counterexample(&self) -> bool {
        self.each || self.of_zero()
    }
}

impl Operand {
    pub(super) fn read(typed: &str) -> Result<Self, RuleError> {
        let typed = typed.trim();
        let Some((metric, rest)) = typed.split_once(" of ") else {
            let words = format!("`{}` does not say of which system", typed.escape_debug());
            return Err((words, Some(FORM.to_owned())));
        };
        let metric: Metric = metric.parse().map_err(|e: ParseError| (e.0, None))?;
        let (rest, measure) = match rest.split_once(" in ") {
            Some((rest, measure)) => (rest, Some(measure.trim().to_owned())),
            None => (rest, None),
        };
        let (system, at) = match rest.split_once(" at ") {
            Some((system, at)) => (system, Some(at)),
            None => (rest, None),
        };
        let setting = |s: &str| {
            let pair = s.split_once('=').map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()));
            pair.ok_or_else(|| {
                let words = format!("`{}` is not a setting and its value", s.trim().escape_debug());
                (words, Some("write what is swept: \"e2e.p99 of nats at rate=2k/s < 1ms\"".to_owned()))
            })
        };
        let at = at.into_iter().flat_map(|list| list.split(',')).map(setting).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { metric, system: system.trim().into(), at, measure })
    }
}

impl Operand {
    /// `nats at rate=5k/s`.
    pub fn place(&self) -> String {
        let at: Vec<String> = self.at.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if at.is_empty() { self.system.clone() } else { format!("{} at {}", self.system, at.join(", ")) }
    }
}

impl std::fmt::Display for Operand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.metric, self.place())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_they_are_written() {
        let rule = Rule::read("e2e.p99 of nats at rate=2k/s in core < 1ms").unwrap();
        assert_eq!((rule.left.system.as_str(), rule.left.measure.as_deref()), ("nats", Some("core")));
        assert_eq!(rule.left.at, [("rate".to_owned(), "2k/s".to_owned())]);
        assert_eq!((rule.comparator, rule.right), (Comparator::Less, Bound::Limit(1e6)));
        let rule = Rule::read("throughput.delivered of a-b >= 1.5 * throughput.delivered of kafka in other").unwrap();
        let Bound::Measured { factor, operand } = &rule.right else { panic!("{rule:?}") };
        assert_eq!((*factor, operand.system.as_str(), operand.measure.as_deref()), (1.5, "kafka", Some("other")));
        assert!(Rule::read("ledger.lost of kafka == 0").unwrap().by_counterexample());
        assert!(!Rule::read("ledger.lost of kafka < 5").unwrap().by_counterexample());
        let each = Rule::read("outage.write.max of kafka in other < 30s in each round").unwrap();
        assert!(each.each && each.by_counterexample(), "{each:?}");
        assert_eq!((&each.right, each.left.measure.as_deref()), (&Bound::Limit(30e9), Some("other")));
        // It is another test than that of the median.
        let median = Rule::read("outage.write.max of kafka in other < 30s").unwrap();
        assert_ne!(each.identity(), median.identity());
    }

    #[test]
    fn mistakes_are_answered() {
        let said = |text: &str| {
            let (words, hint) = Rule::read(text).unwrap_err();
            format!("{words}; {}", hint.unwrap_or_default())
        };
        insta::assert_snapshot!(
            [
                "e2e.p99 of nats",
                "e2e.p99 < 1ms",
                "e2e.p98x of nats < 1ms",
                "e2e.p99 of nats < 1",
                "e2e.p99 of nats < two * e2e.p99 of kafka",
                "e2e.p99 of nats < 0 * e2e.p99 of kafka",
                "e2e.p99 of nats < throughput.sent of kafka",
                "e2e.p99 of nats < e2e.p99 of nats",
                "e2e.p99 of nats == 1ms",
                "e2e.p99 of nats at 2k/s < 1ms",
                "ledger.lost of nats < 0",
                "ledger.lost of nats >= 0",
                "ledger.lost of nats == 0 in each round",
                "e2e.p99 of nats < e2e.p99 of kafka in each round",
            ]
            .map(said)
            .join("\n")
        );
    }
}
