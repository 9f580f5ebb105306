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
pub enum Thoroughness {
    /// Under 30 s.
    Quick,
    /// Under 5 min.
    Full,
}

impl Thoroughness {
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
    pub form: Thoroughness,
    /// When it began, UTC, RFC 3339.
    pub started_at: String,
    /// How long it took.
    pub seconds: f64,
    /// The machine.
    pub host: Host,
    /// The highest rate at which the generator alone kept its schedule here, messages per second; 0
    /// when at none.
    pub max_trustworthy_rate: f64,
    /// The smallest latencies that can be told on this host.
    pub floor: Vec<Floor>,
    pub experiments: Vec<Experiment>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Experiment {
    /// Its number in docs/calibration.md.
    pub number: u32,
    pub name: String,
    /// What is claimed, and how it is proved, in a sentence.
    pub claim: String,
    /// What was compared.
    pub lines: Vec<ClaimLine>,
    /// What the host did meanwhile, in words; empty when nothing was measured beside it.
    pub host: String,
    /// How long it took, seconds.
    pub seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FigureUnit {
    /// Nanoseconds.
    Ns,
    /// A number of messages or of events.
    Count,
    /// Messages per second.
    PerSecond,
    /// A plain number.
    Number,
}

/// The verdict on one comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ClaimVerdict {
    /// Within its tolerance.
    Pass,
    /// Outside of it, and the host's own pauses or stolen time are as large as the error: repeat on
    /// a quiet host.
    Disturbed,
    /// Outside of it.
    Fail,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimLine {
    /// What is compared.
    pub what: String,
    /// What is true: injected, or exact by a formula.
    pub expected: f64,
    /// What msgbench says; null is +infinity.
    pub measured: Option<f64>,
    /// The largest difference that is accepted.
    pub tolerance: f64,
    /// Of all three.
    pub unit: FigureUnit,
    /// What came of it.
    pub verdict: ClaimVerdict,
}

/// How long something was held up, ns, at four levels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pauses {
    /// Exceeded in one case of ten.
    pub p90: Nanos,
    /// Exceeded in one of a hundred.
    pub p99: Nanos,
    /// Exceeded in one of a thousand.
    pub p999: Nanos,
    pub max: Nanos,
}

impl Pauses {
    fn worse(self, o: Self) -> Self {
        Self {
            p90: self.p90.max(o.p90),
            p99: self.p99.max(o.p99),
            p999: self.p999.max(o.p999),
            max: self.max.max(o.max),
        }
    }
}

/// Noise of the host during an experiment, ns.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HostNoise {
    /// Pauses of the host, by the hiccup meter.
    pub hiccup: Pauses,
    /// How late the server of the faults was, by its own log; zero where none was timed, or where
    /// the log is what is expected.
    pub late: Pauses,
    /// How late the generator handed messages over.
    pub lag: Pauses,
    /// How far messages of the same trial that the faults do not hit were above their median; zero
    /// where there are none.
    pub way: Pauses,
    /// Share of CPU time given to other guests, per cent.
    pub steal: f64,
}

impl HostNoise {
    pub fn words(&self) -> String {
        let also = |what: &str, p: Pauses| match p.max {
            0 => String::new(),
            max => format!("; {what} by p90 {}, max {}", latency(p.p90), latency(max)),
        };
        format!(
            "hiccup p90 {}, p99.9 {}, max {}; generator late by p90 {}, max {}{}{}; steal {} %",
            latency(self.hiccup.p90),
            latency(self.hiccup.p999),
            latency(self.hiccup.max),
            latency(self.lag.p90),
            latency(self.lag.max),
            also("server of the faults late", self.late),
            also("control above its median", self.way),
            three_digits(self.steal)
        )
    }

    /// The worse of two.
    pub fn worse(self, other: Self) -> Self {
        Self {
            hiccup: self.hiccup.worse(other.hiccup),
            late: self.late.worse(other.late),
            lag: self.lag.worse(other.lag),
            way: self.way.worse(other.way),
            steal: self.steal.max(other.steal),
        }
    }

    /// The longest pause that can have moved the quantile `p`, by each independent measurement: the
    /// one that is exceeded in a tenth of the share of messages above `p` (for a median: in one
    /// case of ten). By the union bound the quantile of X + N at `p` is at most that of X at p +
    /// (1 - p) / 10 and that of N at 1 - (1 - p) / 10 together: rarer pauses, however long, do not
    /// move it further.
    pub fn reach(&self, p: f64) -> Nanos {
        let level = |pauses: Pauses| match p {
            p if p < 0.9 => pauses.p90,
            p if p < 0.99 => pauses.p99,
            p if p < 0.999 => pauses.p999,
            _ => pauses.max,
        };
        [self.hiccup, self.late, self.lag, self.way].into_iter().map(level).max().unwrap_or(0)
    }

    /// Whether a pause of the host can have added `excess` ns, beyond what is tolerated, to the
    /// quantile `p`.
    ///
    /// A message of a first-come-first-served queue comes later by no more than the time for which
    /// its way was held: Lindley's recursion never magnifies a delay. A load makes a pause felt by
    /// more messages, not felt longer. Stolen time excuses nothing by itself: what is measured here
    /// are waits, which it reaches by the pauses that it makes, and those are seen.
    pub fn explains(&self, excess: f64, p: f64) -> bool {
        excess <= self.reach(p) as f64
    }
}

impl ClaimLine {
    /// A figure that must be met to the last one.
    pub fn exact(what: impl Into<String>, expected: u64, measured: u64) -> Self {
        Self::judged(what.into(), expected as f64, Some(measured as f64), 0.0, FigureUnit::Count)
    }

    /// The quantile `p` of a latency, ns, which the host may have made longer, never shorter: what
    /// is below its tolerance has failed, whatever the host did.
    pub fn latency(
        what: impl Into<String>,
        expected: f64,
        measured: Option<f64>,
        tolerance: f64,
        p: f64,
        u: &HostNoise,
    ) -> Self {
        let line = Self::judged(what.into(), expected, measured, tolerance, FigureUnit::Ns);
        let added = line.error().is_some_and(|e| e > 0.0 && u.explains(e - tolerance, p));
        line.excused(added)
    }

    /// A difference of two medians that were both measured, ns: the host may have lifted either.
    pub fn difference(
        what: impl Into<String>,
        expected: f64,
        measured: Option<f64>,
        tolerance: f64,
        u: &HostNoise,
    ) -> Self {
        let line = Self::judged(what.into(), expected, measured, tolerance, FigureUnit::Ns);
        let added = line.error().is_some_and(|e| u.explains(e.abs() - tolerance, 0.5));
        line.excused(added)
    }

    /// The same line, excused where it does not hold and `host` says that the host is the cause.
    pub fn excused(mut self, host: bool) -> Self {
        if self.verdict == ClaimVerdict::Fail && host {
            self.verdict = ClaimVerdict::Disturbed;
        }
        self
    }

    /// The same line, where a part of what is expected is the median of the control: on a host
    /// whose control scatters by `ns`, it may be too long by as much.
    pub fn by_control(self, ns: f64) -> Self {
        let shorter = self.error().is_some_and(|e| e < 0.0 && -e - self.tolerance <= ns);
        self.excused(shorter)
    }

    /// Any figure; what is outside of the tolerance has failed.
    pub fn judged(what: String, expected: f64, measured: Option<f64>, tolerance: f64, unit: FigureUnit) -> Self {
        let holds = measured.is_some_and(|m| (m - expected).abs() <= tolerance);
        let verdict = if holds { ClaimVerdict::Pass } else { ClaimVerdict::Fail };
        Self { what, expected, measured, tolerance, unit, verdict }
    }

    /// Measured less expected; `None` where that is infinite.
    pub fn error(&self) -> Option<f64> {
        self.measured.map(|m| m - self.expected)
    }

    /// A figure as it is shown.
    pub fn show(&self, value: f64) -> String {
        match self.unit {
            FigureUnit::Ns if value < 0.0 => format!("-{}", latency(-value as Nanos)),
            FigureUnit::Ns => latency(value as Nanos),
            FigureUnit::Count => format!("{value:.0}"),
            FigureUnit::PerSecond => format!("{}/s", count(value)),
            FigureUnit::Number => three_digits(value),
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

impl ClaimVerdict {
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
    pub fn verdict(&self) -> ClaimVerdict {
        self.lines.iter().map(|l| l.verdict).max().unwrap_or(ClaimVerdict::Fail)
    }
}

impl Certificate {
    /// The worst of the experiments.
    pub fn verdict(&self) -> ClaimVerdict {
        self.experiments.iter().map(Experiment::verdict).max().unwrap_or(ClaimVerdict::Fail)
    }

    /// The verdict in a sentence.
    pub fn sentence(&self) -> String {
        let count = |v| self.experiments.iter().filter(|e| e.verdict() == v).count();
        let n = self.experiments.len();
        match (count(ClaimVerdict::Fail), count(ClaimVerdict::Disturbed)) {
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
        let _ = writeln!(
            out,
            "max_trustworthy_rate {}/s\n{}\n\n{}\n{}",
            count(self.max_trustworthy_rate),
            self.derivation(),
            self.sentence(),
            self.trust()
        );
        out
    }
}

/// A certificate with a line of each verdict.
#[cfg(test)]
pub(super) fn sample() -> Certificate {
    let pauses = |p90, p99, p999, max| Pauses { p90, p99, p999, max };
    let quiet = HostNoise { hiccup: pauses(20_000, 40_000, 80_000, 200_000), ..HostNoise::default() };
    let loud = HostNoise {
        hiccup: pauses(90_000, 400_000, 4_000_000, 9_000_000),
        late: pauses(900, 9_000, 90_000, 8_000_000),
        lag: pauses(70_000, 300_000, 3_000_000, 9_100_000),
        way: pauses(60_000, 300_000, 3_000_000, 8_800_000),
        steal: 0.2,
    };
    let experiment = |number, name: &str, lines, host_noise: &HostNoise| Experiment {
        number,
        name: name.into(),
        claim: "What was injected is what was measured.".into(),
        lines,
        host: host_noise.words(),
        seconds: 2.5,
    };
    Certificate {
        schema: SCHEMA.into(),
        version: "0.1.0".into(),
        profile: "release".into(),
        form: Thoroughness::Quick,
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
            experiment(
                3,
                "stall",
                vec![ClaimLine::latency("p99 of response", 50e6, Some(50.4e6), 1e6, 0.99, &quiet)],
                &quiet,
            ),
            experiment(
                6,
                "delay",
                vec![ClaimLine::latency("1ms: median response less control", 1e6, Some(1.2e6), 15e3, 0.9, &loud)],
                &loud,
            ),
            experiment(
                7,
                "counts",
                vec![ClaimLine::exact("lost", 1428, 1427), ClaimLine::exact("duplicated", 0, 0)],
                &loud,
            ),
            experiment(8, "rate", vec![ClaimLine::latency("max", 1e9, None, 1e7, 1.0, &loud)], &quiet),
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
        assert_eq!(verdicts, [ClaimVerdict::Pass, ClaimVerdict::Disturbed, ClaimVerdict::Fail, ClaimVerdict::Fail]);
        assert_eq!(c.verdict(), ClaimVerdict::Fail);
        let nothing = Experiment { lines: vec![], ..c.experiments[0].clone() };
        assert_eq!(nothing.verdict(), ClaimVerdict::Fail);
        let json = serde_json::to_string(&c).unwrap();
        assert_eq!(serde_json::from_str::<Certificate>(&json).unwrap(), c);
    }

    /// An ordinary virtual machine: one pause of some milliseconds a second, little steal.
    fn ordinary() -> HostNoise {
        let pauses = Pauses { p90: 80_000, p99: 300_000, p999: 4_000_000, max: 9_000_000 };
        HostNoise { hiccup: pauses, lag: pauses, steal: 1.3, ..HostNoise::default() }
    }

    #[test]
    fn the_host_explains_what_a_pause_can_add_at_that_quantile_and_no_more() {
        let verdict = |measured, p| ClaimLine::latency("x", 1e6, Some(measured), 1e4, p, &ordinary()).verdict;
        assert_eq!(verdict(1e6 + 9e3, 0.5), ClaimVerdict::Pass);
        assert_eq!(verdict(1e6 + 89e3, 0.5), ClaimVerdict::Disturbed);
        assert_eq!(verdict(1e6 + 91e3, 0.5), ClaimVerdict::Fail, "rare pauses do not move a median");
        assert_eq!(verdict(1e6 + 311e3, 0.9), ClaimVerdict::Fail);
        assert_eq!(verdict(1e6 + 4.01e6, 0.99), ClaimVerdict::Disturbed);
        assert_eq!(verdict(1e6 + 4.02e6, 0.99), ClaimVerdict::Fail);
        assert_eq!(verdict(1e6 + 9.02e6, 1.0), ClaimVerdict::Fail, "a pause is not made longer by a queue");
    }

    #[test]
    fn no_host_makes_a_latency_shorter_or_a_message_vanish() {
        let stolen = HostNoise { steal: 20.0, ..ordinary() };
        assert_eq!(ClaimLine::latency("x", 1e8, Some(0.97e8), 2e6, 0.999, &stolen).verdict, ClaimVerdict::Fail);
        assert_eq!(ClaimLine::latency("x", 1e8, None, 2e6, 0.999, &stolen).verdict, ClaimVerdict::Fail);
        assert_eq!(ClaimLine::exact("lost", 7, 6).verdict, ClaimVerdict::Fail);
    }
}
