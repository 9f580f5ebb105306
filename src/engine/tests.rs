//! The engine against a broker that misbehaves as told: what is injected is what the books say, to
//! the message.

use super::finish::{About, finish};
use super::fold::{FoldContext, Folded, fold};
use super::produce::GAPS;
use super::raw::RawTrial;
use super::setup::TrialSetup;
use super::sides::TrialSide;
use super::trial::execute;
use super::{Conditions, Interrupt, Register};
use crate::driver::fake::FakeDriver;
use crate::plan::{Case, Role, SystemSpec};
use crate::record::{Check, RunClock, Status, WorkloadResult};
use crate::scenario::{Overrides, parse};
use crate::system::{Running, SystemContext};
use crate::units::Nanos;

/// Drives the workload against a fake with these options.
fn drive(workload: &str, options: serde_json::Value) -> (Case, RawTrial, Folded) {
    drive_beside(workload, options, 100, Running::default())
}

/// The same in intervals of so many milliseconds, beside processes that are taken for the system's.
fn drive_beside(
    workload: &str,
    options: serde_json::Value,
    interval: u32,
    running: Running,
) -> (Case, RawTrial, Folded) {
    let text = format!(
        "name = \"t\"\nquestion = \"does it add up?\"\n[[system]]\nname = \"null\"\ndriver = \"reference\"\n[[workload]]\n{workload}\n\
         [run]\nwarmup = \"100ms\"\nduration = \"500ms\"\ninterval = \"{interval}ms\"\ndrain = \"2s\"\ntrials = 1\n"
    );
    let (case, raw) = drive_text(text, options, &running, None);
    let folded = folded(&raw, &case);
    (case, raw, folded)
}

/// Drives the first case of a scenario against a fake with these options; outages are noted with a
/// deadline.
pub(super) fn drive_text(
    text: String,
    options: serde_json::Value,
    running: &Running,
    deadline: Option<Nanos>,
) -> (Case, RawTrial) {
    let plan =
        parse(std::path::Path::new("t.toml"), text, &Overrides::default(), &Register::built_in().types()).unwrap().plan;
    let case = plan.cases[0].clone();
    let context = SystemContext { dir: std::env::temp_dir(), timeout: std::time::Duration::from_secs(1), cpus: None };
    // Any system will do: the fake is the client.
    let spec = SystemSpec { driver: "null".into(), ..plan.systems[0].clone() };
    let mut system = Register::built_in().create(&spec, context).unwrap();
    let options = options.as_object().unwrap().clone();
    let interrupt = Interrupt::default();
    let setup = TrialSetup {
        side: TrialSide::Alone,
        order: None,
        case: &case,
        seed: 5,
        options: &options,
        spin: false,
        running,
        interrupt: &interrupt,
        events: &plan.events,
        deadline,
        reconnect: Default::default(),
        tick: &|_| {},
        measured_from: &|_| {},
    };
    let raw = execute::<FakeDriver>(&setup, system.as_mut());
    (case, raw)
}

/// A trial as it is folded.
pub(super) fn folded(raw: &RawTrial, case: &Case) -> Folded {
    let quantiles = [0.5, 0.99];
    let frame =
        FoldContext { round: 1, delivers: true, spin: false, clocksource: "tsc", quantiles: &quantiles, events: &[] };
    fold(raw, case, Vec::new(), &frame)
}

/// A check of the finished trial.
fn check(raw: &RawTrial, case: &Case, id: &str) -> Option<Check> {
    let (clock, quantiles) = (RunClock::start(), [0.5, 0.99]);
    let about = About {
        case,
        seed: 5,
        started: std::time::SystemTime::now(),
        clock: &clock,
        frame: FoldContext {
            round: 1,
            delivers: true,
            spin: false,
            clocksource: "tsc",
            quantiles: &quantiles,
            events: &[],
        },
        calibration: None,
        running: Running::default(),
        told_to_fail: false,
        disturbance: Vec::new(),
        held: None,
    };
    finish(raw, Vec::new(), about).trial.validity.into_iter().find(|c| c.id == id)
}

/// How many numbers of the measured range are hit by a fault of this period.
fn hits(raw: &RawTrial, every: u64) -> u64 {
    let count = |to: u64| to / every;
    raw.sent[0].iter().map(|(_, s)| count(s.range.1) - count(s.range.0)).sum()
}

fn kept(w: &WorkloadResult, promised: &str) -> bool {
    w.promises.iter().find(|p| p.promised.starts_with(promised)).unwrap().kept
}

const FAN_OUT: &str = "pattern = \"fan-out\"\nconsumers = 2\nload.rate = \"20k/s\"";
const STREAM: &str = "pattern = \"stream\"\nload.rate = \"20k/s\"";

#[test]
fn an_honest_broker_leaves_nothing_open() {
    let (_, raw, folded) = drive(FAN_OUT, serde_json::json!({}));
    let (w, l) = (&folded.workloads[0], &folded.workloads[0].ledger);
    assert!(raw.failed.is_none() && l.sent > 1000, "{:?} {l:?}", raw.failed);
    assert_eq!((l.scheduled, l.expected, l.delivered), (l.sent, 2 * l.sent, 2 * l.sent));
    assert_eq!((l.lost, l.duplicated, l.reordered, l.corrupted, l.foreign), (0, 0, 0, 0, 0));
    assert_eq!((w.latency["e2e"].count, w.latency["lag"].count), (2 * l.sent, l.sent));
    assert!(w.promises.iter().all(|p| p.kept), "{:?}", w.promises);
    let by_interval: u64 = folded.intervals.iter().map(|i| i.sent).sum();
    // Late ones of the warm-up are in the rate, what a busy machine sends after the end is not:
    // both by wall time.
    let within = (w.throughput.sent * raw.measured as f64 / 1e9).round() as u64;
    assert!(by_interval == within && by_interval >= l.sent - l.sent_late, "{by_interval} {within} {l:?}");
}

#[test]
fn clients_that_come_and_go_are_counted_one_by_one() {
    for (fault, every) in [("none", 0), ("refuse", 19), ("corrupt", 17)] {
        let (_, raw, folded) =
            drive("pattern = \"connect\"\nload.rate = \"2k/s\"", serde_json::json!({ fault: every }));
        let (w, l) = (&folded.workloads[0], &folded.workloads[0].ledger);
        let n = if every > 0 { hits(&raw, every) } else { 0 };
        assert!(raw.failed.is_none() && l.scheduled > 900, "{:?} {l:?}", raw.failed);
        match fault {
            "refuse" => {
                // It has not got its message, and why is told beside.
                assert_eq!((l.refused, l.lost, l.sent), (n, n, l.scheduled), "{l:?}");
                let words = raw.log.iter().find(|(.., words)| words.contains("too many clients"));
                assert!(words.is_some(), "the first refusal is told: {:?}", raw.log);
            }
            "corrupt" => assert_eq!((l.refused, l.lost, l.sent), (0, n, l.scheduled), "{l:?}"),
            _ => assert_eq!((l.refused, l.lost, l.delivered, l.sent), (0, 0, l.sent, l.scheduled), "{l:?}"),
        }
        assert_eq!(w.latency["rtt"].count, l.scheduled - n, "{fault} {l:?}");
        // Of those that begin in the measured phase; at its edges a busy machine is late. A
        // histogram holds three digits.
        for (step, at_least) in [("connected", 995_000), ("subscribed", 995_000), ("first-message", 900_000)] {
            let step = &w.latency[&format!("rtt.{step}")];
            assert!(step.min_ns >= at_least, "{step:?}");
            assert!(step.count > l.delivered / 2 && step.count <= l.scheduled + 200, "{step:?} {l:?}");
        }
        assert!(w.latency["rtt"].min_ns >= 2_900_000, "{:?}", w.latency["rtt"]);
    }
}

#[test]
fn faults_are_counted_to_the_message() {
    for (fault, every) in [("drop", 7), ("duplicate", 11), ("swap", 13), ("corrupt", 17), ("refuse", 19)] {
        let (_, raw, folded) = drive(FAN_OUT, serde_json::json!({ fault: every }));
        let (w, l) = (&folded.workloads[0], &folded.workloads[0].ledger);
        let n = 2 * hits(&raw, every);
        // Of a swapped pair at the edge of the measured phase one may lie outside of it.
        let near = |seen: u64| seen.abs_diff(n) <= 2;
        assert!(n > 100, "{fault}: {n}");
        match fault {
            "drop" => assert_eq!((l.lost, l.duplicated, l.reordered, l.corrupted), (n, 0, 0, 0), "{fault} {l:?}"),
            "duplicate" => assert_eq!((l.lost, l.duplicated, l.corrupted), (0, n, 0), "{fault} {l:?}"),
            "swap" => assert!(near(l.reordered) && l.lost + l.duplicated == 0, "{fault} {n} {l:?}"),
            // The envelope of a message that does not verify is not believed: it counts as
            // corrupted, and as lost.
            "corrupt" => {
                assert_eq!((l.lost, l.duplicated), (n, 0), "{fault} {l:?}");
                assert!(l.corrupted >= n && l.corrupted <= n + 2 * 2000 / every + 2, "{fault} {n} {l:?}");
            }
            _ => assert_eq!((l.refused, l.lost, l.sent + l.refused), (n / 2, 0, l.scheduled), "{fault} {l:?}"),
        }
        assert_eq!(w.latency["e2e"].lost, l.lost + 2 * l.refused, "{fault}: what never arrives is infinitely late");
        assert_eq!(kept(w, "at least once"), l.lost == 0, "{fault}");
        assert_eq!(kept(w, "order"), fault != "swap", "{fault}");
    }
}

#[test]
fn an_acknowledged_message_that_is_lost_breaks_the_promise_and_an_unacknowledged_one_does_not() {
    let (_, raw, folded) = drive(STREAM, serde_json::json!({ "drop": 50 }));
    let (w, l) = (&folded.workloads[0], &folded.workloads[0].ledger);
    assert_eq!((l.lost, l.acked_lost), (hits(&raw, 50), 0));
    assert_eq!(l.acked, l.sent - l.lost);
    assert!(kept(w, "at least once"));
    assert_eq!(w.latency["ack"].lost, l.lost);
    let (_, raw, folded) = drive(STREAM, serde_json::json!({ "lie": 50 }));
    let (w, l) = (&folded.workloads[0], &folded.workloads[0].ledger);
    assert_eq!((l.lost, l.acked_lost, l.acked), (hits(&raw, 50), hits(&raw, 50), l.sent));
    assert!(!kept(w, "at least once"));
}

/// A trial that fails is over at once, and has no drain: what has not come may be on its way.
#[test]
fn a_trial_that_fails_breaks_no_promise_by_what_has_not_come() {
    let text = |event: &str| {
        format!(
            "name = \"t\"\nquestion = \"is it lost?\"\n[[system]]\nname = \"null\"\ndriver = \"reference\"\n[[workload]]\n\
             {STREAM}\n{event}[run]\nwarmup = \"0s\"\nduration = \"500ms\"\ndrain = \"2s\"\ntrials = 1\n"
        )
    };
    // No producer of the fake has transactions, which is how it fails.
    let fails = "[[event]]\nat = \"200ms\"\naction = \"producer-kill\"\n";
    for (event, kept) in [("", [Some(false)]), (fails, [None])] {
        let options = serde_json::json!({ "lie": 50, "delivery": "at-least-once" });
        let (case, raw) = drive_text(text(event), options, &Running::default(), None);
        let folded = folded(&raw, &case);
        let (w, l) = (&folded.workloads[0], &folded.workloads[0].ledger);
        assert_eq!(raw.failed.is_some(), !event.is_empty(), "{:?}", raw.failed);
        let missing = if event.is_empty() { (l.acked_lost, l.in_flight) } else { (l.in_flight, l.acked_lost) };
        assert!(missing.0 > 10 && missing.1 == 0, "{event}: {l:?}");
        let once = w.promises.iter().find(|p| p.promised.starts_with("at least once")).map(|p| p.kept);
        assert_eq!([once], kept, "{event}: {:?}", w.promises);
    }
}

/// One partition of three that lags: at 20k/s its stamps are 4,000 messages back, in a ring that
/// begins with 1,024.
#[test]
fn acknowledgements_that_come_late_are_measured_and_are_not_foreign() {
    let (case, raw, folded) = drive(STREAM, serde_json::json!({ "late": 3 }));
    let (w, l) = (&folded.workloads[0], &folded.workloads[0].ledger);
    let late = hits(&raw, 3);
    assert!(late > 1000 && l.lost == 0, "{late} {l:?}");
    assert_eq!((l.acked, l.foreign, l.duplicated), (l.sent, 0, 0));
    assert_eq!((w.latency["ack"].count, w.latency["ack"].lost), (l.sent, 0));
    let p99 = w.latency["ack"].percentiles[1].value_ns.unwrap();
    assert!(p99 >= 200_000_000, "a third is late by 200 ms: {p99}");
    let v4 = check(&raw, &case, "V4").unwrap();
    assert_eq!(v4.status, Status::Ok, "{v4:?}");
}

#[test]
fn acknowledgements_of_what_was_never_sent_are_seen_by_v4() {
    let (case, raw, folded) = drive(STREAM, serde_json::json!({ "stray": 100, "again": 70 }));
    let l = &folded.workloads[0].ledger;
    let near = |seen: u64, n: u64| seen >= n && seen <= n + n / 2 + 25;
    assert!(near(l.foreign, hits(&raw, 100)) && near(l.duplicated, hits(&raw, 70)), "{l:?}");
    assert_eq!((l.acked, l.lost), (l.sent, 0), "{l:?}");
    let v4 = check(&raw, &case, "V4").unwrap();
    assert!(v4.status == Status::Warn && v4.observed.contains(&format!("{} foreign", l.foreign)), "{v4:?}");
}

/// A process with one thread cannot use more CPU time than there is.
#[test]
fn the_cpu_time_of_each_interval_is_that_of_the_interval() {
    let mut busy = std::process::Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    let running = Running { pids: vec![busy.id()], ..Running::default() };
    let (_, raw, folded) =
        drive_beside("pattern = \"stream\"\nload.rate = \"1k/s\"", serde_json::json!({}), 10, running);
    busy.kill().unwrap();
    busy.wait().unwrap();
    let used: Vec<f64> = folded.intervals.iter().filter_map(|i| i.broker_cpu_s).collect();
    assert_eq!((used.len(), folded.intervals.len()), (50, 50));
    // The kernel adds up a running thread at its tick (1 to 10 ms). Where the host pauses this
    // thread at each of three tries, a look may be off. SAFETY: sysconf touches no memory.
    let tick = 1.0 / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let over = used.iter().filter(|&&used| used > 0.011 + tick).count();
    assert!(over <= 2, "{over} of 50 intervals of 10 ms have more CPU than that and a tick: {used:?}");
    let mean = used.iter().sum::<f64>() / used.len() as f64;
    assert!(mean <= 0.0102, "{mean} s of CPU in an interval of 10 ms");
    let (sum, whole) = (used.iter().sum::<f64>(), raw.broker.unwrap().cpu_ns as f64 / 1e9);
    assert!((sum - whole).abs() < 0.2 * whole + 0.02, "{sum} in all intervals, {whole} in all");
}

#[test]
fn exactly_once_is_broken_by_a_duplicate() {
    let options = serde_json::json!({ "duplicate": 100, "delivery": "exactly-once" });
    let (_, raw, folded) = drive(STREAM, options);
    assert_eq!(folded.workloads[0].ledger.duplicated, hits(&raw, 100));
    assert!(!kept(&folded.workloads[0], "exactly once"));
}

#[test]
fn rejected_messages_come_again_and_hopeless_ones_become_dead_letters() {
    let workload = format!("{STREAM}\n[workload.delivery]\nreject-every = 10\ndead-every = 25\nmax-deliver = 3");
    let (_, raw, folded) = drive(&workload, serde_json::json!({}));
    let l = &folded.workloads[0].ledger;
    // Every 50th is hit by both rules: it becomes a dead letter.
    let (dead, once) = (hits(&raw, 25), hits(&raw, 10) - hits(&raw, 50));
    assert_eq!((l.dead_lettered, l.redelivered, l.rejected), (dead, once, once + 3 * dead), "{l:?}");
    assert_eq!((l.delivered + l.dead_lettered, l.lost, l.duplicated, l.reordered), (l.sent, 0, 0, 0), "{l:?}");
}

#[test]
fn a_backlog_is_read_to_its_end_and_told_apart_from_the_tail() {
    let workload = "pattern = \"replay\"\nload.rate = \"5k/s\"\n[workload.delivery]\nbacklog = 5000";
    let (_, raw, folded) = drive(workload, serde_json::json!({}));
    let w = &folded.workloads[0];
    assert!(raw.failed.is_none(), "{:?}", raw.failed);
    let replay = w.replay.as_ref().unwrap();
    assert_eq!((replay.backlog, replay.delivered), (5000, 5000));
    assert!(replay.catch_up_s.is_some() && replay.rate.unwrap() > 0.0, "{replay:?}");
    assert!(replay.begun_s >= 0.125, "{replay:?}");
    assert_eq!(w.groups.iter().map(|g| (g.role, g.lost)).collect::<Vec<_>>(), [(Role::Tail, 0), (Role::CatchUp, 0)]);
    assert_eq!(w.latency["e2e"].count, w.ledger.sent, "the reader of the backlog is not in the headline");
    assert!(w.latency.contains_key("ack.before-replay") && w.latency.contains_key("ack.during-replay"));
}

#[test]
fn a_slow_consumer_is_told_apart() {
    let workload = "pattern = \"fan-out\"\nconsumers = 3\nload.rate = \"200/s\"\n\
                    [workload.delivery]\nslow = { consumers = 1, think = \"2ms\" }";
    let (_, raw, folded) = drive(workload, serde_json::json!({}));
    let w = &folded.workloads[0];
    assert!(raw.failed.is_none());
    assert_eq!(w.groups.iter().filter(|g| g.role == Role::Slow).count(), 1);
    assert_eq!(w.latency["e2e"].count, 2 * w.ledger.sent);
    assert_eq!(w.latency["e2e.slow"].count, w.ledger.sent);
}

#[test]
fn members_of_a_group_share_and_keys_keep_their_order() {
    let workload = "pattern = \"queue-group\"\nproducers = 3\nconsumers = 4\nload.rate = \"20k/s\"\n\
                    [workload.delivery]\nkeys = { uniform = 10 }";
    let (_, _, folded) = drive(workload, serde_json::json!({}));
    let l = &folded.workloads[0].ledger;
    assert_eq!((l.expected, l.delivered, l.lost, l.duplicated), (l.sent, l.sent, 0, 0), "{l:?}");
}

/// Messages that two members got are no replacement for those that are still to come.
#[test]
fn what_members_of_a_group_got_twice_does_not_end_the_drain() {
    let workload = "pattern = \"queue-group\"\nproducers = 1\nconsumers = 2\nchannels = 2\nload.rate = \"2k/s\"";
    // A quarter of the messages is on its way when the load ends, and comes 350 ms later.
    let options = serde_json::json!({ "duplicate": 2, "away": [[1, 250, 850]] });
    let (_, _, folded) = drive(workload, options);
    let l = &folded.workloads[0].ledger;
    assert!(l.duplicated > l.sent / 4, "{l:?}");
    assert_eq!((l.expected, l.delivered, l.lost), (l.sent, l.sent, 0), "{l:?}");
}

/// V9 as the fold has it: from when each producer handed its first messages over, all of them
/// together.
#[test]
fn arrivals_are_judged_by_when_all_producers_sent() {
    let v9 = |raw: &RawTrial, case: &Case| check(raw, case, "V9");
    let three = format!("{STREAM}\nproducers = 3");
    let (case, mut raw, _) = drive(&three, serde_json::json!({}));
    let found = v9(&raw, &case).unwrap();
    assert!(found.observed.starts_with("99 % of gaps are within "), "{}", found.observed);
    // 20k/s are 50 us apart. Three producers send every third message each, which is right only
    // together.
    let gap = 50_000;
    let third = |k: u64| -> Vec<u64> { (0..=GAPS as u64).map(|i| (3 * i + k) * gap).collect() };
    raw.sent[0].iter_mut().zip(0..).for_each(|((_, s), k)| s.first = third(k));
    let even = v9(&raw, &case).unwrap();
    assert_eq!((even.status, even.observed.starts_with("99 % of gaps are within 0 %")), (Status::Ok, true), "{even:?}");
    raw.sent[0][1..].iter_mut().for_each(|(_, s)| s.first.clear());
    assert_eq!(v9(&raw, &case).unwrap().status, Status::Warn, "one of three sends too rarely");
    // Four at once and then none for a while: the same rate, another load.
    raw.sent[0][0].1.first = (0..=GAPS as u64).map(|i| i / 4 * 4 * gap).collect();
    let bursts = v9(&raw, &case).unwrap();
    assert!(bursts.status == Status::Warn && bursts.message.contains("bursts"), "{bursts:?}");
    raw.sent[0][0].1.first.truncate(5);
    assert_eq!(v9(&raw, &case), None, "too few to say");

    let poisson = "pattern = \"stream\"\nload.rate = \"20k/s\"\nload.arrivals = \"poisson\"";
    let (case, mut raw, _) = drive(poisson, serde_json::json!({}));
    let found = v9(&raw, &case).unwrap();
    assert!(found.observed.starts_with("A^2 of gaps "), "{}", found.observed);
    raw.sent[0][0].1.first = third(0);
    assert_eq!(v9(&raw, &case).unwrap().status, Status::Warn, "a clock is no Poisson process");

    let closed = "pattern = \"stream\"\nload = { mode = \"closed\", outstanding = 8 }";
    let (case, raw, _) = drive(closed, serde_json::json!({}));
    assert_eq!(v9(&raw, &case), None, "without a schedule there is nothing to hold the gaps against");
}

/// Keeps the trials of a run, as a user of the library would.
#[derive(Default)]
struct CollectingSink(std::sync::Mutex<Vec<super::TrialFiles>>);

impl super::RunSink for CollectingSink {
    fn begin(&self, _: &Case, _: u32, _: usize, _: usize) {}
    fn tick(&self, _: super::Tick) {}
    fn skip(&self, _: crate::record::Skipped) {}
    fn trial(&self, files: super::TrialFiles) -> std::io::Result<()> {
        self.0.lock().unwrap().push(files);
        Ok(())
    }
}

#[test]
fn every_check_is_made_whoever_runs_the_plan() {
    let text = "name = \"t\"\nquestion = \"is it judged?\"\n[[system]]\ndriver = \"null\"\n[[workload]]\n\
                pattern = \"stream\"\nload.rate = \"20k/s\"\n\
                [run]\nwarmup = \"50ms\"\nduration = \"1s\"\ninterval = \"50ms\"\ndrain = \"1s\"\ntrials = 1\n";
    let register = Register::built_in();
    let plan =
        parse(std::path::Path::new("t.toml"), text.into(), &Overrides::default(), &register.types()).unwrap().plan;
    let scratch = tempfile::tempdir().unwrap();
    let kept = CollectingSink::default();
    let interrupt = Interrupt::default();
    let conditions = Conditions {
        side: TrialSide::Alone,
        register: &register,
        scratch: scratch.path(),
        clocksource: "tsc",
        calibration: None,
        interrupt: &interrupt,
        taken_up: &[],
        done: &[],
    };
    super::run(&plan, &conditions, &kept).unwrap();
    let files = kept.0.into_inner().unwrap().pop().unwrap();
    let ids: Vec<&str> = files.trial.validity.iter().map(|c| c.id.as_str()).collect();
    for id in ["V1", "V3", "V6", "V7", "V8", "V13", "V14"] {
        assert!(ids.contains(&id), "{id} is not among {ids:?}");
    }
    let p50 = files.trial.workloads[0].latency["ack"].at(0.5).unwrap();
    assert!(p50.ci95_ns.is_some(), "the interval within the run is missing: {p50:?}");
}
