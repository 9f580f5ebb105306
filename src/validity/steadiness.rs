//! Does the system keep up, and do its latencies stay the same over the trial? V3, V7 and V8 of
//! stats.md A5.

use super::outcome::check;
use crate::record::{Check, Status};
use crate::stats::change::{self, ChangeSettings};
use crate::stats::{mean, series};

/// The fewest blocks from which these checks are made.
const FEWEST_BLOCKS: usize = series::FEWEST;
/// The fewest deliveries due from which V3 is judged.
const FEWEST_MESSAGES: u64 = 20;
/// A change of latency that is of no practical importance.
const DELTA: f64 = 0.05;

/// Latencies of the blocks of a trial, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockLatencies {
    /// Median of each block, ns.
    pub p50: Vec<f64>,
    /// p99 of each block, ns.
    pub p99: Vec<f64>,
    /// Length of a block.
    pub seconds: f64,
}

/// Deliveries of a measured phase, block by block, warm-up and drain included where they belong.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BlockFlow {
    /// Due in the block by the schedule.
    pub due: Vec<u64>,
    /// Of those, made at all, whenever that was: what was lost is no backlog.
    pub owed: Vec<u64>,
    /// Made within the block for the first time, whenever they were due.
    pub done: Vec<u64>,
    /// Due, and at the end of the measured phase not handed over.
    pub unsent: u64,
    /// Length of a block.
    pub seconds: f64,
    /// Whether the load is the same all the time.
    pub constant: bool,
    /// Whether the scenario does something to the system, or to a consumer.
    pub disturbed: bool,
}

impl BlockFlow {
    /// Whether most of what is not done at the end was not even sent, so that the backlog is the
    /// generator's.
    pub(super) fn mostly_unsent(&self) -> bool {
        let sum = |counts: &[u64]| counts.iter().sum::<u64>();
        2 * self.unsent > sum(&self.owed).saturating_sub(sum(&self.done))
    }
}

/// V3, keeping up, in a trial of any length: the backlog is what was due and came at all, less what
/// had come. INVALID when it grows without end: Mann-Kendall at 1 %, and Theil-Sen's slope times
/// the length, and twice what the second half of the trial adds, above 5 % of a second's
/// deliveries. Then percentiles measure the length of the trial, not the system. One pause at the
/// end has no slope (it is NOT JUDGED), and the first messages of a long way add nothing in the
/// second half. NOT JUDGED where there is too little to say so, or where the load changes or
/// something is done to the system by design, and a backlog is left: to leave out who needs longest
/// to come back would make a system look better.
pub(super) fn keeps_up(flow: Option<&BlockFlow>) -> Check {
    let of = |status, observed, message: &str| {
        check(
            "V3",
            "keeps up",
            status,
            observed,
            "INVALID when the backlog grows (p < 0.01) by more than 5 % of a second's deliveries (of the trial's, where it is \
             shorter), WARN when more than 1 % of what was due never came",
            message,
        )
    };
    let Some(flow) = flow else {
        let why = "nobody receives or acknowledges messages: whether the system keeps up cannot be seen";
        return of(Status::NotJudged, "neither deliveries nor acknowledgements".into(), why);
    };
    let sum = |counts: &[u64]| counts.iter().sum::<u64>();
    let (due, owed, done) = (sum(&flow.due), sum(&flow.owed), sum(&flow.done));
    let length = flow.due.len() as f64 * flow.seconds;
    let rate = due as f64 / length.max(1e-9);
    let mut there = 0.0;
    let backlog: Vec<f64> = flow
        .owed
        .iter()
        .zip(&flow.done)
        .map(|(owed, done)| {
            there += *owed as f64 - *done as f64;
            there
        })
        .collect();
    let observed = format!(
        "{due} deliveries due, {done} made by the end of the measured phase; the backlog at its end was {} ({:.2} s of the load)",
        there.max(0.0),
        there.max(0.0) / rate.max(1e-9)
    );
    // Until the first one has come the way is being filled, however long it is.
    let first = flow.done.iter().position(|n| *n > 0).unwrap_or(flow.done.len());
    let filled = &backlog[first.min(backlog.len())..];
    if due < FEWEST_MESSAGES || filled.len() < FEWEST_BLOCKS {
        let why = "too few deliveries within the measured phase to say whether the system keeps up: measure longer";
        return of(Status::NotJudged, observed, why);
    }
    let enough = (0.05 * rate * length.min(1.0)).max(3.0);
    if flow.disturbed && there > enough {
        let why = "the scenario disturbs the system, and the backlog of that was not worked off at the end: the \
                   figures of outages say how long it takes; measure longer to see its end";
        return of(Status::NotJudged, observed, why);
    }
    if !flow.constant && there > enough {
        let why = "the load changes by design: whether this backlog would have gone is not known; measure longer";
        return of(Status::NotJudged, observed, why);
    }
    let trend = series::trend(filled).filter(|_| flow.constant);
    let late = 2.0 * (there - filled[filled.len() / 2]);
    let growth = trend.map_or(0.0, |t| (t.slope * (filled.len() - 1) as f64).min(late));
    if trend.is_some_and(|t| t.p < 0.01) && growth > enough {
        let whose = match flow.mostly_unsent() {
            true => "; most of the backlog had not been sent: see V1",
            false => "",
        };
        let words =
            "OVERLOADED: latencies grow as long as the trial lasts and say nothing but its length; lower the rate";
        return of(Status::Invalid, observed, &format!("{words}{whose}"));
    }
    if flow.constant && late / 2.0 > enough {
        let why = "a backlog at the end that is not seen to grow all the time: a pause, or an overload that began; measure longer";
        return of(Status::NotJudged, observed, why);
    }
    let missing = 1.0 - owed as f64 / due as f64;
    match missing > 0.01 {
        true => of(
            Status::Warn,
            format!("{observed}; {:.1} % of what was due never came", 100.0 * missing),
            "no backlog grows, but what is lost or shed was not kept up with either",
        ),
        false => of(Status::Ok, observed, ""),
    }
}

/// V7, stationarity: a trend of block medians (Mann-Kendall at 1 % and more than half of 5 % over
/// the trial), a level that wanders (KPSS above its 1 % point), or a warm-up that was too short
/// (MSER drops blocks that differ by more than 5 %).
pub(super) fn stationary(blocks: &BlockLatencies) -> Check {
    let logs: Vec<f64> = blocks.p50.iter().map(|v| v.ln()).collect();
    let Some(trend) = series::trend(&logs).filter(|_| logs.len() >= FEWEST_BLOCKS) else {
        return few("V7", "stationary", logs.len());
    };
    let drift = (trend.slope * (logs.len() - 1) as f64).exp() - 1.0;
    let kpss = series::kpss(&logs, series::kpss_lag(logs.len()));
    let late = [&blocks.p50, &blocks.p99].into_iter().filter_map(|v| warm_up(v)).max();
    let drifts = trend.p < 0.01 && drift.abs() > DELTA / 2.0;
    // A level that wanders by less than matters is steady enough.
    let spread =
        logs.iter().copied().fold(f64::NEG_INFINITY, f64::max) - logs.iter().copied().fold(f64::INFINITY, f64::min);
    let wanders = kpss > 0.739 && spread > DELTA;
    let message = match late {
        Some(n) => format!(
            "WARMUP_TOO_SHORT: the first {:.1} s differ from the rest; lengthen the warm-up by that",
            n as f64 * blocks.seconds
        ),
        None => "the latency drifts during the trial: it depends on when one measures; see the timeline".into(),
    };
    check(
        "V7",
        "stationary",
        if drifts || wanders || late.is_some() { Status::Warn } else { Status::Ok },
        format!("median drifts by {:+.1} % over the trial (p {:.3}), KPSS {kpss:.2}", drift * 100.0, trend.p),
        "WARN when it drifts by more than 2.5 % (p < 0.01), KPSS above 0.739, or the first blocks differ",
        &message,
    )
}

/// A check that needs more intervals than there are.
fn few(id: &str, name: &str, intervals: usize) -> Check {
    check(
        id,
        name,
        Status::NotJudged,
        format!("{intervals} intervals with a median"),
        &format!("from {FEWEST_BLOCKS} intervals on"),
        "too few intervals: measure longer, or set a shorter `run.interval`",
    )
}

/// Blocks at the start that differ from the rest by more than matters.
fn warm_up(values: &[f64]) -> Option<usize> {
    let logs: Vec<f64> = values.iter().map(|v| v.ln()).collect();
    let cut = series::mser(&logs, 1)?;
    let differs = cut.drop > 0 && (mean(&logs[..cut.drop]) - mean(&logs[cut.drop..])) > (1.0 + DELTA).ln();
    // Half-way is no warm-up but no steady state: the trend says so.
    (differs && !cut.unsteady).then_some(cut.drop)
}

/// V8, a step within the trial: change points of block medians at 1e-4, larger than 5 %.
pub(super) fn steps(blocks: &BlockLatencies) -> Check {
    let logs: Vec<f64> = blocks.p50.iter().map(|v| v.ln()).collect();
    if logs.len() < FEWEST_BLOCKS {
        return few("V8", "no step within the trial", logs.len());
    }
    let found = change::change_points(&logs, ChangeSettings { max_p: 1e-4, min_change: (1.0 + DELTA).ln() });
    let where_: Vec<String> = found
        .iter()
        .map(|c| {
            format!("{:+.0} % at {:.0} s", ((c.after - c.before).exp() - 1.0) * 100.0, c.index as f64 * blocks.seconds)
        })
        .collect();
    check(
        "V8",
        "no step within the trial",
        if found.is_empty() { Status::Ok } else { Status::Warn },
        if found.is_empty() { "no step of the median".into() } else { format!("median {}", where_.join(", ")) },
        "WARN at a step above 5 % (p < 1e-4)",
        "something changed while measuring: the percentiles mix two states; see the timeline and the events",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOISE: [f64; 20] = [
        102., 98., 101., 99., 100., 103., 97., 100., 101., 99., 98., 102., 100., 101., 99., 100., 98., 103., 100., 99.,
    ];

    fn blocks(p50: Vec<f64>) -> BlockLatencies {
        BlockLatencies { p99: p50.iter().map(|v| v * 4.0).collect(), p50, seconds: 2.0 }
    }

    /// A queue in blocks: `due` of each, a server that makes `room` of each, and a way of `way`
    /// blocks; what is due in `lost` never comes.
    fn served(due: &[u64], room: &[u64], way: usize, lost: &[usize]) -> BlockFlow {
        let owed: Vec<u64> = due.iter().enumerate().map(|(k, n)| if lost.contains(&k) { 0 } else { *n }).collect();
        let (mut waiting, mut done) = (0, vec![0; due.len()]);
        for k in 0..due.len() {
            waiting += owed[k];
            let made = waiting.min(room[k]);
            waiting -= made;
            if let Some(slot) = done.get_mut(k + way) {
                *slot = made;
            }
        }
        BlockFlow { due: due.to_vec(), owed, done, unsent: 0, seconds: 0.2, constant: true, disturbed: false }
    }
    fn v3(flow: &BlockFlow) -> Status {
        keeps_up(Some(flow)).status
    }

    #[test]
    fn a_backlog_that_grows_is_overload() {
        let (due, enough) = ([800; 20], [2_000; 20]);
        assert_eq!(v3(&served(&due, &enough, 0, &[])), Status::Ok);
        let short = served(&due, &[400; 20], 0, &[]);
        let found = keeps_up(Some(&short));
        assert!(found.status == Status::Invalid && found.message.starts_with("OVERLOADED"), "{found:?}");
        assert!(found.observed.contains("8000 made") && found.observed.contains("8000 (2.00 s"), "{found:?}");
        assert_eq!(v3(&served(&due, &[400; 20], 0, &[2, 11, 16])), Status::Invalid, "with loss as well");
        assert_eq!(v3(&served(&due, &enough, 0, &[2])), Status::Warn, "5 % never came");
        // A pause of three blocks in the middle and at the end; a way of eight blocks.
        let paused =
            |from: usize| (0..20).map(|k| if (from..from + 3).contains(&k) { 0 } else { 2_000 }).collect::<Vec<_>>();
        assert_eq!(v3(&served(&due, &paused(9), 0, &[])), Status::Ok);
        assert_eq!(v3(&served(&due, &paused(17), 0, &[])), Status::NotJudged, "it may be the beginning of an overload");
        assert_eq!(v3(&served(&due, &enough, 8, &[])), Status::Ok);
        let held = BlockFlow { unsent: 8_000, ..short };
        assert!(keeps_up(Some(&held)).message.ends_with("see V1"), "whose backlog it is");
    }

    #[test]
    fn what_cannot_be_judged_is_said_and_is_no_pass() {
        let found = keeps_up(None);
        assert!(found.status == Status::NotJudged && !found.message.is_empty(), "{found:?}");
        assert_eq!(v3(&served(&[800; 9], &[400; 9], 0, &[])), Status::NotJudged, "too few blocks");
        assert_eq!(v3(&served(&[0, 1].repeat(15), &[1; 30], 0, &[])), Status::NotJudged, "too few messages");
        assert_eq!(v3(&served(&[800; 20], &[800; 20], 15, &[])), Status::NotJudged, "too long a way");
        assert_eq!(v3(&BlockFlow::default()), Status::NotJudged);
        let changes = |room| BlockFlow { constant: false, ..served(&[800; 20], &[room; 20], 0, &[]) };
        assert_eq!((v3(&changes(400)), v3(&changes(900))), (Status::NotJudged, Status::Ok));
        // A broker that is killed in block 5 and does not come back within the phase, or does.
        let killed = |back: usize| {
            let room: Vec<u64> = (0..20).map(|k| if (5..back).contains(&k) { 0 } else { 4_000 }).collect();
            BlockFlow { disturbed: true, ..served(&[800; 20], &room, 0, &[]) }
        };
        assert_eq!((v3(&killed(20)), v3(&killed(9))), (Status::NotJudged, Status::Ok));
        assert_eq!(v3(&BlockFlow { disturbed: false, ..killed(20) }), Status::Invalid, "nobody disturbed it");
    }

    proptest! {
        #[test]
        fn overload_by_a_tenth_is_seen_whatever_is_lost(
            rate in 100u64..50_000,
            blocks in 20usize..60,
            share in 10u64..90,
            lost in prop::collection::btree_set(0usize..60, 0..3),
        ) {
            let lost: Vec<usize> = lost.into_iter().filter(|k| *k < blocks).collect();
            // Blocks in which nothing comes give the queue time to get shorter.
            let share = if lost.is_empty() { share } else { share.min(60) };
            let due = vec![rate; blocks];
            prop_assert_eq!(v3(&served(&due, &vec![rate * share / 100; blocks], 0, &lost)), Status::Invalid);
            let kept = v3(&served(&due, &vec![rate * 2; blocks], 0, &lost));
            prop_assert!(kept < Status::Invalid && kept != Status::NotJudged, "{:?}", kept);
        }
    }

    #[test]
    fn warm_up_drift_and_step_are_told_apart() {
        let flat = blocks(NOISE.to_vec());
        assert_eq!((stationary(&flat).status, steps(&flat).status), (Status::Ok, Status::Ok));
        let extra = [40., 25., 15., 9., 5., 3.];
        let warm = blocks(NOISE.iter().enumerate().map(|(i, v)| v + extra.get(i).unwrap_or(&0.0)).collect());
        let found = stationary(&warm);
        assert!(found.status == Status::Warn && found.message.starts_with("WARMUP_TOO_SHORT: the first"), "{found:?}");
        let drift = blocks(NOISE.iter().enumerate().map(|(i, v)| v + 0.8 * i as f64).collect());
        assert_eq!(stationary(&drift).status, Status::Warn);
        let step = blocks(NOISE.iter().enumerate().map(|(i, v)| v * if i < 12 { 1.0 } else { 1.3 }).collect());
        let found = steps(&step);
        assert!(found.status == Status::Warn && found.observed.contains("+30 % at 24 s"), "{found:?}");
    }
}
