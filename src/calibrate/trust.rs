//! What a certificate allows to be said: the highest rate, and the smallest difference that means
//! anything on this machine.

use super::certificate::{Certificate, ClaimLine, ClaimVerdict, Experiment, FigureUnit};
use crate::units::{count, time_words};

/// The experiment of constant delays: differences of two medians of one trial whose truth is known.
const DELAYS: u32 = 6;
/// How its lines on such a difference are named.
const DIFFERENCE: &str = "less control";

impl Experiment {
    /// The line whose error is largest beside its tolerance; of those that are exact, one that does
    /// not hold.
    pub fn worst(&self) -> Option<&ClaimLine> {
        let share = |line: &ClaimLine| match line.error() {
            Some(0.0) => 0.0,
            Some(error) if line.tolerance > 0.0 => error.abs() / line.tolerance,
            _ => f64::INFINITY,
        };
        // The first of those that are alike.
        self.lines.iter().rev().max_by(|a, b| share(a).total_cmp(&share(b)))
    }
}

/// What is known of the smallest difference that means anything.
enum SmallestDifference<'a> {
    /// The shortest injected delay was found to within so many ns, or could not have been found to
    /// better than that.
    Proved(&'a ClaimLine, f64),
    /// It was not found.
    Disproved,
    /// The experiment is not there.
    Unknown,
}

impl Certificate {
    fn smallest_difference(&self) -> SmallestDifference<'_> {
        let Some(delays) = self.experiments.iter().find(|e| e.number == DELAYS) else {
            return SmallestDifference::Unknown;
        };
        let differences = delays.lines.iter().filter(|l| l.unit == FigureUnit::Ns && l.what.ends_with(DIFFERENCE));
        let Some(line) = differences.min_by(|a, b| a.expected.total_cmp(&b.expected)) else {
            return SmallestDifference::Unknown;
        };
        match line.error() {
            Some(error) if line.verdict != ClaimVerdict::Fail => {
                SmallestDifference::Proved(line, error.abs().max(line.tolerance))
            }
            _ => SmallestDifference::Disproved,
        }
    }

    /// `Trust rates up to 700k/s; differences below 6 µs mean nothing on this machine.`
    pub fn trust(&self) -> String {
        let rate = match self.max_trustworthy_rate {
            r if r > 0.0 => format!("Trust rates up to {}/s", count(r)),
            _ => "Trust no rate: the generator kept none of its schedules here".into(),
        };
        let difference = match self.smallest_difference() {
            SmallestDifference::Proved(_, ns) => {
                format!("differences below {} mean nothing on this machine", time_words(ns.round() as u64))
            }
            SmallestDifference::Disproved => "a known difference was not found, so trust none".into(),
            SmallestDifference::Unknown => "how small a difference can be told was not measured".into(),
        };
        format!("{rate}; {difference}.")
    }

    /// Where the difference of [`Certificate::trust`] comes from.
    pub fn derivation(&self) -> String {
        match self.smallest_difference() {
            SmallestDifference::Proved(line, _) => {
                let [expected, _, error, tolerance, _] = line.cells();
                format!(
                    "The difference: experiment {DELAYS} injects {expected} and finds it with an error of {error}; an error below {tolerance} (5 us + 1 % + the scatter of the control) it cannot tell. The larger of the two counts. It holds for medians of one run each; how runs differ comes on top, and a comparison has it in its interval."
                )
            }
            SmallestDifference::Disproved => {
                format!("Experiment {DELAYS} injects a constant delay, and it was not what was measured.")
            }
            SmallestDifference::Unknown => format!("Experiment {DELAYS}, constant delays, is not in this certificate."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::{ClaimLine, HostNoise, sample};
    use super::*;

    fn with(lines: Vec<ClaimLine>) -> Certificate {
        let mut c = sample();
        c.experiments[1] = Experiment { number: DELAYS, lines, ..c.experiments[1].clone() };
        c
    }

    /// The figure is never smaller than what was proved: the larger of error and tolerance.
    #[test]
    fn the_difference_is_the_larger_of_error_and_tolerance_of_the_shortest_delay() {
        let line = |expected: f64, error: f64, tolerance: f64| {
            let what = format!("{expected}: median response less control");
            ClaimLine::difference(what, expected, Some(expected + error), tolerance, &HostNoise::default())
        };
        let said = |lines: Vec<ClaimLine>| with(lines).trust();
        let long = || line(1e7, 90e3, 105e3);
        assert!(said(vec![long(), line(1e5, 2e3, 6e3)]).contains("differences below 6 µs mean nothing"));
        let mut disturbed = line(1e5, 40e3, 6e3);
        assert_eq!(disturbed.verdict, ClaimVerdict::Fail);
        assert!(said(vec![long(), disturbed.clone()]).contains("was not found"));
        disturbed.verdict = ClaimVerdict::Disturbed;
        assert!(said(vec![long(), disturbed]).contains("differences below 40 µs mean nothing"));
        assert!(said(vec![]).contains("was not measured"));
        assert!(said(vec![]).starts_with("Trust rates up to 200k/s; "));
        let none = Certificate { max_trustworthy_rate: 0.0, ..sample() };
        assert!(none.trust().starts_with("Trust no rate"), "{}", none.trust());
    }

    #[test]
    fn the_worst_line_is_by_its_own_tolerance() {
        let c = sample();
        let worst: Vec<&str> = c.experiments.iter().map(|e| e.worst().unwrap().what.as_str()).collect();
        assert_eq!(worst, ["p99 of response", "1ms: median response less control", "lost", "max"]);
    }
}
