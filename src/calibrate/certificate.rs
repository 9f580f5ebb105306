//! What a calibration found: the certificate, and how it reads.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::{Floor, Host};
use crate::units::{Nanos, count, latency, three_digits};

/// The schema of `certificate.json`.
pub const SCHEMA: &str = "msgbench.calibration/1";

/// How thorough a calibration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Under 30 s.
    Quick,
    /// Under 5 min.
    Full,
}

impl Form {
    /// `quick` or `full`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

/// What a calibration found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// Always `msgbench.calibration/1`.
    pub schema: String,
    /// Version of msgbench.
    pub version: String,
    /// Build profile; a debug build calibrates itself, not the release.
    pub profile: String,
    /// How thorough it was.
    pub form: Form,
    /// When it began, UTC, RFC 3339.
    pub started_at: String,
    /// How long it took.
    pub seconds: f64,
    /// The machine.
    pub host: Host,
    /// The highest rate at which the generator alone kept its schedule here, messages per second; 0 when at none.
    pub max_trustworthy_rate: f64,
    /// The smallest latencies that can be told on this host.
    pub floor: Vec<Floor>,
    /// The experiments.
    pub experiments: Vec<Experiment>,
}

/// One experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Experiment {
    /// Its number in docs/calibration.md.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// What is claimed, and how it is proved, in a sentence.
    pub claim: String,
    /// What was compared.
    pub lines: Vec<Line>,
    /// What the host did meanwhile, in words; empty when nothing was measured beside it.
    pub host: String,
    /// How long it took, seconds.
    pub seconds: f64,
}

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// A number of messages or of events.
    Count,
    /// Messages per second.
    PerSecond,
    /// A plain number.
    Number,
}

/// What came of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Within its tolerance.
    Pass,
    /// Outside of it, and the host's own pauses or stolen time are as large as the error: repeat on a quiet host.
    Disturbed,
    /// Outside of it.
    Fail,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// What is compared.
    pub what: String,
    /// What is true: injected, or exact by a formula.
    pub expected: f64,
    /// What msgbench says; null is +infinity.
    pub measured: Option<f64>,
    /// The largest difference that is accepted.
    pub tolerance: f64,
    /// Of all three.
    pub unit: Unit,
    /// What came of it.
    pub verdict: Verdict,
}

/// What the host did during an experiment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Unrest {
    /// Pauses of the host, ns: p90, p99.9 and the longest.
    pub hiccup_p90: Nanos,
    /// See `hiccup_p90`.
    pub hiccup_p999: Nanos,
    /// See `hiccup_p90`.
    pub hiccup_max: Nanos,
    /// How late the server of the faults was by its own log, ns: p90 and at most; zero where none was timed.
    pub late_p90: Nanos,
    /// See `late_p90`.
    pub late_max: Nanos,
    /// How late the generator handed messages over, ns: p90 and at most.
    pub lag_p90: Nanos,
    /// See `lag_p90`.
    pub lag_max: Nanos,
    /// How far messages of the same trial that the faults do not hit were above their median, ns: p90 and at most; zero where there
    /// are none.
    pub way_p90: Nanos,
    /// See `way_p90`.
    pub way_max: Nanos,
    /// Share of CPU time given to other guests, per cent.
    pub steal: f64,
}

impl Unrest {
    /// In words.
    pub fn words(&self) -> String {
        let server = match self.late_max {
            0 => String::new(),
            max => format!("; server of the faults late by p90 {}, max {}", latency(self.late_p90), latency(max)),
        };
        let way = match self.way_max {
            0 => String::new(),
            max => format!("; control above its median by p90 {}, max {}", latency(self.way_p90), latency(max)),
        };
        format!(
            "hiccup p90 {}, p99.9 {}, max {}; generator late by p90 {}, max {}{server}{way}; steal {} %",
            latency(self.hiccup_p90),
            latency(self.hiccup_p999),
            latency(self.hiccup_max),
            latency(self.lag_p90),
            latency(self.lag_max),
            three_digits(self.steal)
        )
    }
    /// The worse of two.
    pub fn worse(self, other: Self) -> Self {
        Self {
            hiccup_p90: self.hiccup_p90.max(other.hiccup_p90),
            hiccup_p999: self.hiccup_p999.max(other.hiccup_p999),
            hiccup_max: self.hiccup_max.max(other.hiccup_max),
            late_p90: self.late_p90.max(other.late_p90),
            late_max: self.late_max.max(other.late_max),
            lag_p90: self.lag_p90.max(other.lag_p90),
            lag_max: self.lag_max.max(other.lag_max),
            way_p90: self.way_p90.max(other.way_p90),
            way_max: self.way_max.max(other.way_max),
            steal: self.steal.max(other.steal),
        }
    }
    /// For a figure that rare pauses do not move, such as a median: only what the host does in one case of ten counts.
    pub fn usual(self) -> Self {
        let Self { hiccup_p90, late_p90, lag_p90, way_p90, .. } = self;
        Self { hiccup_max: hiccup_p90, late_max: late_p90, lag_max: lag_p90, way_max: way_p90, ..self }
    }
    /// Whether this can be the cause of an error of so many ns. Queues make a pause longer: by 1 / (1 - load), up to 5 here.
    pub fn explains(&self, error: f64) -> bool {
        self.steal > 1.0 || 5.0 * self.hiccup_max.max(self.late_max).max(self.lag_max).max(self.way_max) as f64 >= error
    }
}

impl Line {
    /// A figure that must be met to the last one.
    pub fn exact(what: impl Into<String>, expected: u64, measured: u64) -> Self {
        Self::judged(what.into(), expected as f64, Some(measured as f64), 0.0, Unit::Count, None)
    }

    /// A latency in ns, which pauses of the host may have made longer.
    pub fn latency(what: impl Into<String>, expected: f64, measured: Option<f64>, tolerance: f64, u: &Unrest) -> Self {
        Self::judged(what.into(), expected, measured, tolerance, Unit::Ns, Some(u))
    }

    /// The same line, excused where it does not hold and `host` says that the host is the cause.
    pub fn excused(mut self, host: bool) -> Self {
        if self.verdict == Verdict::Fail && host {
            self.verdict = Verdict::Disturbed;
        }
        self
    }

    /// A rate, or a number that grows at `per_second`: a pause of the host at the wrong moment takes its share of it.
    pub fn rate(what: &str, expected: f64, measured: f64, tolerance: f64, per_second: f64, u: &Unrest) -> Self {
        let unit = if expected == per_second { Unit::PerSecond } else { Unit::Count };
        let line = Self::judged(what.into(), expected, Some(measured), tolerance, unit, None);
        line.excused(u.explains((measured - expected).abs() / per_second * 1e9))
    }

    /// Any figure. `unrest` is given where pauses of the host may be the cause of an error, which then is a latency in ns.
    pub fn judged(
        what: String,
        expected: f64,
        measured: Option<f64>,
        tolerance: f64,
        unit: Unit,
        unrest: Option<&Unrest>,
    ) -> Self {
        let error = measured.map(|m| (m - expected).abs());
        let verdict = match error {
            Some(e) if e <= tolerance => Verdict::Pass,
            Some(e) if unrest.is_some_and(|u| u.explains(e)) => Verdict::Disturbed,
            _ => Verdict::Fail,
        };
        Self { what, expected, measured, tolerance, unit, verdict }
    }

    /// A figure as it is shown.
    pub fn show(&self, value: f64) -> String {
        match self.unit {
            Unit::Ns if value < 0.0 => format!("-{}", latency(-value as Nanos)),
            Unit::Ns => latency(value as Nanos),
            Unit::Count => format!("{value:.0}"),
            Unit::PerSecond => format!("{}/s", count(value)),
            Unit::Number => three_digits(value),
        }
    }

    /// Expected, measured, error, tolerance and verdict, as they are shown.
    pub fn cells(&self) -> [String; 5] {
        let error = self.measured.map_or("inf".into(), |m| {
            let sign = if m > self.expected { "+" } else { "" };
            format!("{sign}{}", self.show(m - self.expected))
        });
        let measured = self.measured.map_or("inf".into(), |m| self.show(m));
        let tolerance = if self.tolerance == 0.0 { "exact".into() } else { self.show(self.tolerance) };
        [self.show(self.expected), measured, error, tolerance, self.verdict.word().into()]
    }
}

impl Verdict {
    /// `PASS`, `DISTURBED`, `FAIL`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Disturbed => "DISTURBED",
            Self::Fail => "FAIL",
        }
    }
}

impl Experiment {
    /// The worst of its lines; an experiment that compared nothing has failed.
    pub fn verdict(&self) -> Verdict {
        self.lines.iter().map(|l| l.verdict).max().unwrap_or(Verdict::Fail)
    }
}

impl Certificate {
    /// The worst of the experiments.
    pub fn verdict(&self) -> Verdict {
        self.experiments.iter().map(Experiment::verdict).max().unwrap_or(Verdict::Fail)
    }

    /// The verdict in a sentence.
    pub fn sentence(&self) -> String {
        let count = |v| self.experiments.iter().filter(|e| e.verdict() == v).count();
        let n = self.experiments.len();
        match (count(Verdict::Fail), count(Verdict::Disturbed)) {
            (0, 0) => format!("All {n} experiments hold: what was injected is what was measured."),
            (0, d) => format!(
                "{} of {n} experiments hold; {d} could not be judged because the host itself paused. Repeat on a quiet host.",
                n - d
            ),
            (f, d) => format!(
                "{f} of {n} experiments FAILED, {d} were disturbed: figures of this build on this host are not proved."
            ),
        }
    }

    /// For people, as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let form = self.form.word();
        let _ = writeln!(
            out,
            "msgbench {} ({}), {form} calibration of {}, {:.0} s\n{}, {} CPUs, kernel {}, clock {}\n",
            self.version,
            self.profile,
            self.started_at,
            self.seconds,
            self.host.cpu,
            self.host.cpus,
            self.host.kernel,
            self.host.clocksource
        );
        for e in &self.experiments {
            let _ = writeln!(out, "{:>2}  {:<9} {}", e.number, e.verdict().word(), e.name);
            let _ = writeln!(out, "    {}", e.claim);
            for line in &e.lines {
                let [expected, measured, error, tolerance, verdict] = line.cells();
                let _ = writeln!(
                    out,
                    "    {:<46} {expected:>10} {measured:>10} {error:>10} {tolerance:>10}  {verdict}",
                    line.what
                );
            }
            if !e.host.is_empty() {
                let _ = writeln!(out, "    host meanwhile: {}", e.host);
            }
        }
        let _ = writeln!(out, "\nColumns: expected, measured, error, tolerance, verdict. The floor of this host:");
        let ns = |v: Option<Nanos>| v.map_or("-".into(), latency);
        for f in &self.floor {
            let _ = writeln!(
                out,
                "    {:<17} {:>8}/s   p50 {:>8}   p99 {:>8}   p99.9 {:>8}{}",
                f.through,
                count(f.rate),
                ns(f.p50_ns),
                ns(f.p99_ns),
                ns(f.p999_ns),
                if f.kept { "" } else { "   schedule not kept" }
            );
        }
        let _ = writeln!(out, "max_trustworthy_rate {}/s\n\n{}", count(self.max_trustworthy_rate), self.sentence());
        out
    }
}

/// A certificate with a line of each verdict.
#[cfg(test)]
pub(super) fn sample() -> Certificate {
    let quiet = Unrest { hiccup_p90: 20_000, hiccup_p999: 80_000, hiccup_max: 200_000, ..Unrest::default() };
    let loud = Unrest {
        hiccup_p90: 90_000,
        hiccup_p999: 4_000_000,
        hiccup_max: 9_000_000,
        late_p90: 900,
        late_max: 8_000_000,
        lag_p90: 70_000,
        lag_max: 9_100_000,
        way_p90: 60_000,
        way_max: 8_800_000,
        steal: 0.2,
    };
    let experiment = |number, name: &str, lines, unrest: &Unrest| Experiment {
        number,
        name: name.into(),
        claim: "What was injected is what was measured.".into(),
        lines,
        host: unrest.words(),
        seconds: 2.5,
    };
    Certificate {
        schema: SCHEMA.into(),
        version: "0.1.0".into(),
        profile: "release".into(),
        form: Form::Quick,
        started_at: "2026-01-02T03:04:05Z".into(),
        seconds: 27.4,
        host: Host {
            kernel: "6.1".into(),
            cpu: "Some <CPU>".into(),
            cpus: 2,
            clocksource: "tsc".into(),
            ..Host::default()
        },
        max_trustworthy_rate: 200_000.0,
        floor: vec![Floor {
            through: "null driver".into(),
            rate: 1000.0,
            p50_ns: Some(555),
            p99_ns: Some(2_680),
            p999_ns: None,
            kept: true,
        }],
        experiments: vec![
            experiment(3, "stall", vec![Line::latency("p99 of response", 50e6, Some(50.4e6), 1e6, &quiet)], &quiet),
            experiment(6, "delay", vec![Line::latency("1ms", 1e6, Some(1.2e6), 15e3, &loud)], &loud),
            experiment(7, "counts", vec![Line::exact("lost", 1428, 1427), Line::exact("duplicated", 0, 0)], &loud),
            experiment(8, "rate", vec![Line::latency("max", 1e9, None, 1e7, &loud)], &quiet),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_can_read_it() {
        insta::assert_snapshot!(sample().text());
    }

    #[test]
    fn the_worst_decides_and_counts_are_never_disturbed() {
        let c = sample();
        let verdicts: Vec<_> = c.experiments.iter().map(Experiment::verdict).collect();
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Disturbed, Verdict::Fail, Verdict::Fail]);
        assert_eq!(c.verdict(), Verdict::Fail);
        let nothing = Experiment { lines: vec![], ..c.experiments[0].clone() };
        assert_eq!(nothing.verdict(), Verdict::Fail);
        let quiet = Unrest { hiccup_max: 1_000, ..Unrest::default() };
        assert_eq!(Line::latency("x", 0.0, Some(1e6), 1e3, &quiet).verdict, Verdict::Fail);
        let json = serde_json::to_string(&c).unwrap();
        assert_eq!(serde_json::from_str::<Certificate>(&json).unwrap(), c);
    }
}
