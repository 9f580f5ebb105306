//! What a comparison says, schema `msgbench.compare/1`. In JSON an infinite number is `null`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::plan::gate::{Gate, Policy};
use crate::plan::metric::{Metric, Quantity, Unit};

/// The schema this program writes.
pub const SCHEMA: &str = "msgbench.compare/1";

/// The outcome of comparing two records, or the systems within one.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Comparison {
    /// Always `msgbench.compare/1`.
    pub schema: String,
    /// Name of the scenario.
    pub scenario: String,
    /// Version of the program that compared.
    pub tool: String,
    /// What is compared with.
    pub baseline: ComparedRecord,
    /// What is compared; the same record when its systems are compared.
    pub candidate: ComparedRecord,
    /// Which question it answers.
    pub question: Question,
    /// How the runs were laid out.
    pub design: Design,
    /// Thresholds and policies.
    pub gate: Gate,
    /// Whether the verdict decides the exit code: one system is compared with its own past, or a
    /// gate was asked for.
    pub gated: bool,
    /// What differs besides the systems' performance, first of all.
    pub differences: Vec<Difference>,
    /// What was not compared, and why.
    pub refused: Vec<RefusedCase>,
    /// Trials left out, and why.
    pub excluded: Vec<ExcludedTrial>,
    /// What is known to be doubtful about results of other tools, which check nothing themselves.
    pub doubts: Vec<TrialDoubt>,
    /// One for each pair, load point, workload and metric.
    pub rows: Vec<ComparisonRow>,
    /// The absolute limits of the candidate.
    pub expectations: Vec<ExpectResult>,
    /// All of it in one word.
    pub overall: Overall,
}

/// What a comparison is about; each question has its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Several systems, side by side: one is faster, slower, the same, or that is not decided.
    Systems,
    /// One system in two builds, or at two times: it regressed, improved, is equivalent, or that is
    /// inconclusive.
    Change,
}

/// A record that was compared.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ComparedRecord {
    pub label: String,
    /// When it was started, UTC.
    pub started_at: String,
    /// Version and build profile of the program that measured.
    pub tool: String,
    /// Whether that was another tool.
    pub foreign: bool,
    /// SHA-256 of the scenario.
    pub scenario_sha256: String,
    /// The machine in a line.
    pub host: String,
    /// Seed of the run.
    pub seed: u64,
    /// The command that made it.
    pub command: Vec<String>,
}

/// How the runs were laid out in time.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Design {
    /// Whether the runs of both sides alternate, so that drift of the host hits both.
    pub interleaved: bool,
    pub words: String,
}

/// A setting that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    pub what: String,
    pub baseline: String,
    pub candidate: String,
    /// Whether it may by itself explain a difference of the figures.
    pub confounds: bool,
    /// Whether it is a fact of a system that only one side states.
    pub one_sided: bool,
    /// Whether it bears on whether a message arrives, in order, and survives, or changes what is
    /// measured altogether.
    pub promise: bool,
}

/// A case that was not compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RefusedCase {
    pub case: String,
    /// Why.
    pub reason: String,
    /// Whether a verdict is missing for it: the baseline has it, or the gate names it. Then the
    /// policy for what is INVALID holds.
    pub missing: bool,
}

/// A trial that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExcludedTrial {
    /// Of which record.
    pub of: String,
    /// `Case::id`.
    pub case: String,
    pub round: u32,
    /// Why.
    pub reason: String,
    /// The checks that it did not pass, by their ids.
    pub checks: Vec<String>,
}

/// A doubt about the trials of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TrialDoubt {
    /// Of which record.
    pub of: String,
    /// `Case::id`.
    pub case: String,
    /// How many of its trials.
    pub trials: usize,
    /// Whether they do not count because of it.
    pub invalid: bool,
    pub text: String,
}

/// The values of one side, one for each valid trial.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SideSample {
    /// What is measured, as it is called in sentences.
    pub label: String,
    /// `Case::id` in its record.
    pub case: String,
    /// Valid trials.
    pub n: usize,
    /// Trials left out.
    pub excluded: usize,
    /// Why the first of them was left out.
    pub why_excluded: Option<String>,
    /// One value for each, in order of rounds.
    pub values: Vec<f64>,
    pub median: Option<f64>,
    /// Interval of the median at 95 %, from 6 trials on.
    pub median_ci95: Option<(f64, f64)>,
    /// By how much each value may be wrong because sender and receiver have different clocks, ns;
    /// infinite (null) where that is not known. It is in the intervals of `ratio` and `shift`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clocks_ns: Option<f64>,
}

/// An estimate with its intervals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Effect {
    /// The estimate.
    pub value: f64,
    /// 95 % interval, where there are enough runs for one.
    pub ci95: Option<(f64, f64)>,
    /// 90 % interval, which decides equivalence.
    pub ci90: Option<(f64, f64)>,
}

/// What is said of a metric; within each question ordered by how much it calls for attention. Of
/// systems side by side the first five, of one system and its past the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// The systems do not differ beyond the threshold: that is certain.
    Same,
    /// The second system is better: the interval leaves no other answer.
    Faster,
    /// The second system is worse: the interval leaves no other answer.
    Slower,
    /// Some of the systems differ; of a whole comparison only.
    Different,
    /// The interval holds both answers, or there are too few runs for one.
    #[serde(rename = "NOT DECIDED")]
    NotDecided,
    /// No difference beyond the threshold: that is certain.
    Equivalent,
    /// A difference is certain, but it is below the threshold.
    Changed,
    /// Better, beyond the threshold, and certain.
    Improved,
    /// Nothing is certain: more runs are needed.
    Inconclusive,
    /// Worse, beyond the threshold, and certain.
    Regressed,
    /// A limit of the scenario is not kept; of a whole comparison only.
    Unmet,
    /// There is nothing valid to compare.
    Invalid,
}

impl Verdict {
    /// The word in a report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Same => "SAME",
            Self::Faster => "FASTER",
            Self::Slower => "SLOWER",
            Self::Different => "DIFFERENT",
            Self::NotDecided => "NOT DECIDED",
            Self::Improved => "IMPROVED",
            Self::Equivalent => "EQUIVALENT",
            Self::Changed => "CHANGED",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Regressed => "REGRESSED",
            Self::Unmet => "UNMET",
            Self::Invalid => "INVALID",
        }
    }
    /// Whether it decides nothing.
    pub fn open(self) -> bool {
        matches!(self, Self::Inconclusive | Self::NotDecided)
    }
    /// The sign beside the word, so that colour is never the only cue.
    pub fn sign(self) -> char {
        match self {
            Self::Improved | Self::Faster => '▼',
            Self::Equivalent | Self::Same => '≈',
            Self::Changed | Self::Different => '~',
            Self::Inconclusive | Self::NotDecided => '?',
            Self::Regressed | Self::Slower => '▲',
            Self::Unmet | Self::Invalid => '✕',
        }
    }
}

/// One metric of one pair.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ComparisonRow {
    /// Scenario and load point.
    pub scenario: String,
    pub metric: Metric,
    /// What its values count: `ns`, `msg/s`, `B`, ...
    pub unit: String,
    /// The same as a type.
    #[serde(skip)]
    pub kind: Option<Unit>,
    /// Whether smaller is better.
    pub lower_is_better: bool,
    /// Whether it decides.
    pub primary: bool,
    /// The baseline.
    pub a: SideSample,
    /// The candidate.
    pub b: SideSample,
    /// b / a; absent where a value is zero.
    pub ratio: Option<Effect>,
    /// b - a, in the unit.
    pub shift: Option<Effect>,
    /// The test that p comes from.
    pub test: String,
    /// Two-sided p-value.
    pub p_raw: Option<f64>,
    /// Corrected for all comparisons made.
    pub p_adjusted: Option<f64>,
    /// How it was corrected.
    pub correction: String,
    /// p-value of the sign-flip test over rounds, where rounds are shared.
    pub p_paired: Option<f64>,
    /// Cliff's delta: P(b > a) - P(b < a).
    pub cliffs_delta: Option<f64>,
    /// The change that is of no practical importance, as a share.
    pub max_change: f64,
    /// What is said of it.
    pub verdict: Verdict,
    /// What a gate makes of it: the same, but for systems that are compared with each other.
    #[serde(skip)]
    pub gate: Verdict,
    /// Why this verdict.
    pub reason: String,
    /// Whether it is open because of clocks.
    #[serde(skip)]
    pub blurred: bool,
    /// Runs a side that would find a change as large as the threshold, where this many did not
    /// decide.
    pub runs_needed: Option<u64>,
    /// Runs a side that would find a change as large as the one that was seen, where that is above
    /// the threshold, or where systems are compared.
    pub runs_needed_seen: Option<u64>,
    pub sentence: String,
}

impl ComparisonRow {
    /// What is repeated to know its value: a run, or a search.
    pub fn one(&self) -> &'static str {
        if self.metric.quantity == Quantity::Capacity { "search" } else { "run" }
    }

    pub fn many(&self) -> &'static str {
        if self.metric.quantity == Quantity::Capacity { "searches" } else { "runs" }
    }

    /// The verdict in words that fit what was measured: of a rate, `FASTER` would be `HIGHER`.
    pub fn word(&self) -> &'static str {
        let latency = matches!(self.metric.quantity, Quantity::Latency(..) | Quantity::Hiccup(_));
        match (self.verdict, latency, self.lower_is_better) {
            (Verdict::Faster, false, true) | (Verdict::Slower, false, false) => "LOWER",
            (Verdict::Faster, false, false) | (Verdict::Slower, false, true) => "HIGHER",
            (verdict, _, _) => verdict.word(),
        }
    }
}

/// All of it in one word, with the exit code.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Overall {
    /// The gravest verdict of the primary metrics.
    pub verdict: Verdict,
    /// 0, 3, 4 or 5.
    pub exit_code: u8,
    /// The sentence that heads the report.
    pub sentence: String,
    /// What led to the exit code.
    pub reasons: Vec<String>,
}

/// Whether a limit is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ExpectVerdict {
    /// In every valid run.
    Met,
    /// Not in the median run.
    Unmet,
    /// The runs disagree, or too few samples stand behind them.
    Inconclusive,
    /// There is no valid run, or the metric was not measured, or nothing answers to its names.
    Invalid,
    /// It is about a system that this run does not have: not kept, and not broken.
    #[serde(rename = "NOT JUDGED")]
    NotJudged,
}

impl ExpectVerdict {
    /// The word in a report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Met => "MET",
            Self::Unmet => "UNMET",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Invalid => "INVALID",
            Self::NotJudged => "NOT JUDGED",
        }
    }
}

/// One limit at one case.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ExpectResult {
    /// `Case::id`.
    pub case: String,
    /// The limit as typed.
    pub that: String,
    /// What is limited.
    pub metric: Metric,
    /// Whether it is kept.
    pub verdict: ExpectVerdict,
    /// One value for each valid trial, in the unit of the metric; null is infinite.
    pub values: Vec<f64>,
    /// What was found, in words.
    pub sentence: String,
    /// What being inconclusive leads to.
    pub on_inconclusive: Policy,
}
