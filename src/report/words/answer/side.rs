//! One system of the answer: its trials at the load point that heads the page, and its two figures.

use crate::plan::search::{Ending, Parameter, Purpose, Vote};
use crate::plan::{BringUp, Case, Load, SystemSpec, Workload};
use crate::record::{ClockDoubt, Headlines, Ledger, Outcome, Record, SearchResult, SystemFacts, Trial, WorkloadResult};
use crate::report::words::capacity as words;
use crate::report::words::view::{ShownLatency, clocks_words, trials, usable, widest_clocks};
use crate::stats::{median, shift};
use crate::units::{count, time_words};

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// Nanoseconds; less is better.
    Time,
    /// Messages a second; more is better.
    Rate,
}

/// One figure of a system over its runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFigure {
    pub measured: Measured,
    /// Median over the runs; infinite where messages were lost at this quantile.
    pub value: f64,
    /// 95 % interval of the median from six runs on, below that the range of the runs; `None` of
    /// one run.
    pub range: Option<(f64, f64)>,
    /// Whether `range` is an interval of 95 %.
    pub interval: bool,
    /// Whether it hangs on a few slow spells.
    pub doubtful: bool,
    /// Whether it is of one run, whose `range` is that of its clocks, where they have one.
    pub one_run: bool,
    /// How wrong it may be because sender and receiver have different clocks, which is in `range`.
    pub clocks: Option<ClockDoubt>,
}

impl RunFigure {
    fn of(values: &[f64], measured: Measured, doubtful: bool) -> Option<Self> {
        let value = median(values)?;
        let low_high = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        let interval = shift::median_interval(values, 0.95);
        let range = interval.or((values.len() > 1).then_some(low_high));
        Some(Self {
            measured,
            value,
            range,
            interval: interval.is_some(),
            doubtful,
            one_run: values.len() == 1,
            clocks: None,
        })
    }

    /// Of times in nanoseconds, one for each run or fault.
    pub fn of_times(values: &[f64]) -> Option<Self> {
        Self::of(values, Measured::Time, false)
    }

    /// The same, where clocks may be wrong by so much.
    fn known_to(self, clocks: Option<ClockDoubt>) -> Self {
        let Some(doubt) = clocks else { return self };
        let bound = doubt.bound_ns.map_or(f64::INFINITY, |ns| ns as f64);
        let (low, high) = self.range.unwrap_or((self.value, self.value));
        Self { range: Some(((low - bound).max(0.0), high + bound)), clocks, ..self }
    }

    /// `+/- 0.40 ms of clocks`; empty where no clock is in it.
    pub fn clock_words(&self) -> String {
        match clocks_words(self.clocks.filter(|_| self.value.is_finite())) {
            words if words.is_empty() => words,
            words => format!(" {words} of clocks"),
        }
    }

    /// A value of it in words: `145 µs`, `1.03M/s`, `never`.
    pub fn show(&self, value: f64) -> String {
        match self.measured {
            Measured::Time if value.is_finite() => time_words(value.round().max(0.0) as u64),
            Measured::Time => "never".into(),
            Measured::Rate => format!("{}/s", count(value)),
        }
    }

    /// `145 µs`; with `?` where it hangs on a few slow spells, and `+/- 20 µs of clocks`.
    pub fn words(&self) -> String {
        format!("{}{}{}", self.show(self.value), if self.doubtful { "?" } else { "" }, self.clock_words())
    }
}

/// What the search has found that a case is of.
fn capacity(record: &Record, case: &Case) -> Option<RunFigure> {
    if !matches!(record.plan.search.as_ref()?.parameter, Parameter::Rate { .. }) {
        return None;
    }
    let result = words::search_of(record, &case.id)?;
    let value = result.bracket.lower?;
    let mut range = (value, result.bracket.breaks().unwrap_or(value));
    // Of several searches: the median, and from the lowest to the highest answer.
    let all: Vec<_> = record.searches.iter().filter(|s| s.case == result.case).map(|s| s.bracket).collect();
    for bracket in all.iter().filter(|b| b.ending == Ending::Found) {
        range.0 = range.0.min(bracket.lower.unwrap_or(range.0));
        range.1 = range.1.max(bracket.upper.unwrap_or(range.1));
    }
    let value = median(&words::found_lower(record, &result.case)).unwrap_or(value);
    Some(RunFigure {
        measured: Measured::Rate,
        value,
        range: Some(range),
        interval: false,
        doubtful: false,
        one_run: false,
        clocks: None,
    })
}

/// Whether a trial is one of those that a search decided its case by: a warm-up, and what host or
/// generator spoiled, says nothing of the system; where a load was confirmed, what led there is no
/// evidence.
fn decides(result: &SearchResult, trial: &Trial) -> bool {
    let of = || result.trials.iter().filter(|t| t.case == trial.case && t.vote != Vote::Spoiled);
    let confirmed = of().any(|t| t.purpose == Purpose::Confirm);
    let counts = |p: Purpose| if confirmed { p == Purpose::Confirm } else { p != Purpose::WarmUp };
    of().any(|t| t.round == trial.round && counts(t.purpose))
}

/// One system at the load point of the answer.
#[derive(Debug, Clone)]
pub struct AnswerSide<'a> {
    pub spec: &'a SystemSpec,
    /// Its name in the scenario; with its settings where it was searched at several load points.
    label: &'a str,
    pub case: &'a Case,
    /// Index of the workload.
    pub workload: usize,
    /// All that were executed.
    pub all: Vec<&'a Trial>,
    /// Those that count; where none does, those that were interrupted.
    pub used: Vec<&'a Trial>,
    /// Whether `used` are parts of trials, which the user interrupted: shown, and said to be parts.
    pub partial: bool,
    /// `e2e`, `rtt`, `ack`; with `.service` where messages have no intended time; `e2e.same-agent`
    /// where clocks blur what goes from one agent to another.
    pub kind: &'static str,
    /// What a typical message takes, or, without a schedule, the rate.
    pub typical: Option<RunFigure>,
    /// What 1 in 100 messages takes longer than.
    pub tail: Option<RunFigure>,
    /// The highest rate that keeps the limits of a search; the range ends at the lowest that does
    /// not.
    pub capacity: Option<RunFigure>,
    /// The same in words, of any search: the highest load that keeps the limits, the lowest that
    /// breaks one.
    pub loads: (Option<String>, Option<String>),
}

impl<'a> AnswerSide<'a> {
    pub fn of(record: &'a Record, case: &'a Case, workload: usize, tail: f64) -> Option<Self> {
        let spec = case.changed.as_ref().or(record.plan.systems.get(case.system))?;
        let all: Vec<&Trial> = trials(record, &case.id).collect();
        let mut used: Vec<&Trial> = all.iter().copied().filter(|t| usable(t)).collect();
        if let Some(result) = words::search_of(record, &case.id) {
            used.retain(|t| decides(result, t));
        }
        let partial = used.is_empty() && all.iter().any(|t| t.outcome == Outcome::Partial);
        if partial {
            used = all.iter().copied().filter(|t| t.outcome == Outcome::Partial).collect();
        }
        let results: Vec<&WorkloadResult> = used.iter().filter_map(|t| t.workloads.get(workload)).collect();
        let heads = Headlines::of([record]);
        let latencies: Vec<_> = results.iter().filter_map(|r| heads.latency(workload, r)).collect();
        let kind = latencies.first().map_or("e2e", |(kind, _)| kind);
        let clocks = widest_clocks(latencies.iter().map(|(_, l)| *l));
        let at = |q: f64| {
            let points: Vec<_> = latencies.iter().filter_map(|(_, l)| l.at(q)).collect();
            let values: Vec<f64> = points
                .iter()
                .filter_map(|p| match ShownLatency::of(Some(p)) {
                    ShownLatency::Finite(ns) => Some(ns as f64),
                    ShownLatency::Infinite => Some(f64::INFINITY),
                    ShownLatency::Thin | ShownLatency::Absent => None,
                })
                .collect();
            let whole = values.len() == results.len();
            let figure = RunFigure::of(&values, Measured::Time, points.iter().any(|p| p.doubt.is_some()));
            figure.filter(|_| whole).map(|f| f.known_to(clocks))
        };
        let (mut typical, mut last) = (at(0.5), at(tail));
        if without_schedule(case.workloads.get(workload)?) {
            let rates: Vec<f64> = results.iter().map(|r| r.rate()).collect();
            (typical, last) = (RunFigure::of(&rates, Measured::Rate, false), None);
        }
        let capacity = capacity(record, case);
        let loads = record.plan.search.as_ref().map(|s| words::loads(record, s, &case.id)).unwrap_or_default();
        let label = words::search_of(record, &case.id).map_or(spec.name.as_str(), |s| words::name(record, s));
        Some(Self { spec, label, case, workload, all, used, partial, kind, typical, tail: last, capacity, loads })
    }

    /// Whether nobody receives or confirms what it is sent.
    pub fn only_sends(&self) -> bool {
        let mut all = self.used.iter().filter_map(|t| t.workloads.get(self.workload)).peekable();
        all.peek().is_some() && all.all(WorkloadResult::only_sends)
    }

    /// Its name beside the others.
    pub fn name(&self) -> &'a str {
        self.label
    }

    /// As it was found in the last trial.
    pub fn facts(&self) -> Option<&'a SystemFacts> {
        self.all.last().map(|t| &t.system)
    }

    /// Whether msgbench started it.
    pub fn launched(&self) -> bool {
        self.spec.bring_up == BringUp::Launch
    }

    /// The workload as planned.
    pub fn plan(&self) -> &'a Workload {
        &self.case.workloads[self.workload]
    }

    /// What its trials that ran to their end came to; or the part that there is.
    pub fn complete(&self) -> impl Iterator<Item = &'a WorkloadResult> + '_ {
        let partial = self.partial;
        let complete =
            self.all.iter().filter(move |t| t.outcome == Outcome::Complete || partial && t.outcome == Outcome::Partial);
        complete.filter_map(|t| t.workloads.get(self.workload))
    }

    /// Messages that were lost in its trials that ran to their end.
    pub fn lost(&self) -> u64 {
        self.complete().map(WorkloadResult::lost).sum()
    }

    /// The ledger of its trials that ran to their end, or of the part that there is.
    pub fn ledger(&self) -> Ledger {
        let mut total = Ledger::default();
        for l in self.complete().map(|w| &w.ledger) {
            total.sent += l.sent;
            total.acked += l.acked;
            total.acked_lost += l.acked_lost;
            total.expected += l.expected;
            total.delivered += l.delivered;
            total.lost += l.lost;
            total.client_dropped += l.client_dropped;
            total.duplicated += l.duplicated;
            total.reordered += l.reordered;
            total.dead_lettered += l.dead_lettered;
            total.superseded += l.superseded;
            total.in_flight += l.in_flight;
            total.corrupted += l.corrupted;
        }
        total
    }

    /// The error of a trial, where all failed.
    pub fn failure(&self) -> Option<(&'a str, &'a str)> {
        let failed = |t: &&'a Trial| match &t.outcome {
            Outcome::Failed { phase, error } => Some((phase.as_str(), error.as_str())),
            _ => None,
        };
        let all: Vec<_> = self.all.iter().filter_map(failed).collect();
        if all.len() == self.all.len() { all.first().copied() } else { None }
    }
}

/// Whether the system decides how fast messages go.
pub fn without_schedule(workload: &Workload) -> bool {
    matches!(workload.load, Load::Unthrottled { .. })
}
