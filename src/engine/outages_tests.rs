//! Outages of a fake whose channels take nothing at known times, through the whole engine; and what
//! is made of what a trial with faults has noted.

use super::lost::LostSpan;
use super::outages::effects;
use super::raw::RawTrial;
use super::tests::{drive_text, folded};
use crate::driver::Incident;
use crate::measure::outage::{Mishap, OutageLog, SlotGrid};
use crate::plan::Action;
use crate::record::{FaultEffect, FaultRecord, OutageResult};
use crate::system::Running;
use crate::units::{Nanos, SECOND};

const MS: Nanos = 1_000_000;

fn fault(at_ns: Nanos, undone_ns: Option<Nanos>, settled_ns: Option<Nanos>) -> FaultRecord {
    FaultRecord {
        event: 0,
        occurrence: 1,
        action: Action::Kill,
        nodes: vec![0],
        role: None,
        consumer: None,
        due_ns: at_ns,
        at_ns,
        undone_ns,
        settled_ns,
    }
}

/// A stream over three channels for 5 s, with these outages (channel, from, to; ms) and options.
fn drive(away: &[(u32, u64, u64)], mut options: serde_json::Value) -> (RawTrial, Vec<FaultEffect>) {
    options["away"] = serde_json::to_value(away).unwrap();
    let text = "name = \"t\"\nquestion = \"?\"\n[[system]]\ndriver = \"reference\"\n\
        [[workload]]\npattern = \"stream\"\nconsumers = 1\nchannels = 3\nload.rate = \"3k/s\"\n\
        [run]\nwarmup = \"100ms\"\nduration = \"5s\"\ninterval = \"100ms\"\ndrain = \"5s\"\ntrials = 1\n";
    let (case, mut raw) = drive_text(text.into(), options, &Running::default(), Some(50 * MS));
    assert!(raw.failed.is_none(), "{:?}", raw.failed);
    raw.faults = vec![fault(2 * SECOND, None, None)];
    let workload = folded(&raw, &case).workloads.remove(0);
    assert_eq!(workload.outages.len(), 1);
    (raw, workload.outages)
}

/// A busy machine makes an outage longer, and never shorter. (That each is found to 10 ms is tested
/// beside the code, where nothing takes time, and by `calibrate`.)
fn about(found: Option<f64>, known_s: f64) -> bool {
    found.is_some_and(|s| s > known_s - 0.011 && s < known_s + 1.5)
}

#[test]
fn a_channel_that_stays_away_longest_is_found() {
    let (_, effects) = drive(&[(0, 2_000, 2_400), (1, 2_000, 3_300), (2, 2_000, 2_020)], serde_json::json!({}));
    for side in [&effects[0].write, &effects[0].read] {
        let side: &OutageResult = side.as_ref().unwrap();
        assert!(about(side.longest_s, 1.3), "{side:?}");
        // Where the machine is busy the latency may never be as before.
        assert!(about(side.first_s, 1.3) && side.recovery_s.is_none_or(|s| s > 1.28), "{side:?}");
        assert!(side.lanes == 3 && side.hit >= 2 && !side.unsettled);
        let of = |lane: u32| side.by_lane.iter().find(|l| l.lane == lane).and_then(|l| l.outage_s);
        assert!(about(of(0), 0.4) && about(of(1), 1.3) && of(0) < of(1), "{:?}", side.by_lane);
        // 1000 a second and channel, without those of the last 50 ms of each outage.
        assert!((1_550..9_000).contains(&side.late), "{} late", side.late);
        assert!((1_250..9_000).contains(&side.backlog), "{} at most", side.backlog);
        assert!(!side.around.is_empty());
    }
    assert_eq!((effects[0].lost_acked, effects[0].duplicated), (0, 0));
}

#[test]
fn what_comes_twice_or_never_after_an_outage_is_the_faults() {
    let options = serde_json::json!({ "duplicate": 10, "lie": 50 });
    let (raw, effects) = drive(&[(0, 2_000, 2_600), (1, 2_000, 2_600), (2, 2_000, 2_600)], options);
    let (sent, effect) = (raw.sent[0][0].1.sent, &effects[0]);
    // Of 5 s, those of the last 3 come after the fault; every fifth of those is one of the lost.
    let known = sent * 3 / 5 / 10 * 4 / 5;
    assert!(effect.duplicated.abs_diff(known) <= known / 10, "{} of {sent}, not {known}", effect.duplicated);
    // Every fiftieth was lost all the while: what was sent before the fault is its doing, too.
    let lost = effect.lost_acked;
    assert!(lost.abs_diff(sent / 50) <= 2, "{lost} of {sent}");
    assert!(effect.lost_acked_s > 1.0 && effect.lost_acked_s <= 5.1, "{}", effect.lost_acked_s);
    let (write, read) = (effect.write.as_ref().unwrap(), effect.read.as_ref().unwrap());
    // Though the last message of a lane is one of the lost.
    assert!(about(write.longest_s, 0.6) && about(read.longest_s, 0.6), "{write:?} {read:?}");
}

/// What a trial has noted, of 60 s with faults at 20 and 40 s and an outage of 2 s after each.
fn noted() -> RawTrial {
    let origin = 5 * SECOND;
    let mut log = OutageLog::new(SlotGrid::new(origin, 60 * SECOND, 1, 1, SECOND));
    for k in 0..6_000u64 {
        let (due, second) = (origin + 10 * MS * k, 10 * MS * k / SECOND);
        let done = if second % 20 < 2 && second >= 20 { origin + (second / 20 * 20 + 2) * SECOND } else { due };
        log.due(0, due);
        log.acked(0, due, done + MS);
    }
    for (mishap, at) in
        [(Mishap::Duplicated, 21), (Mishap::Reordered, 39), (Mishap::Refused, 59), (Mishap::Refused, 70)]
    {
        log.note(mishap, origin + at * SECOND);
    }
    RawTrial {
        origin,
        measured: 60 * SECOND,
        drained: 10 * SECOND,
        faults: vec![
            fault(20 * SECOND, Some(25 * SECOND), Some(30 * SECOND)),
            fault(40 * SECOND, Some(45 * SECOND), None),
        ],
        outages: vec![Some(log)],
        log: [19, 20, 23, 44]
            .map(|s| (origin + s * SECOND, Incident::Disconnected, "gone".to_owned()))
            .into_iter()
            .chain([(origin + 21 * SECOND, Incident::Server, "words".to_owned())])
            .collect(),
        // A tenth of a core, and a whole one for the three seconds after each fault.
        broker_intervals: (0..60).map(|s| (if s >= 20 && s % 20 < 3 { SECOND } else { SECOND / 10 }, 0)).collect(),
        // A kilobyte a second, and ten in each of the three seconds after a fault.
        broker_written: (0..=60u64)
            .map(|s| {
                (origin + s * SECOND, 1_000 * s + 9_000 * (s.saturating_sub(20).min(3) + s.saturating_sub(40).min(3)))
            })
            .collect(),
        ..RawTrial::default()
    }
}

#[test]
fn each_fault_has_what_happened_in_its_window() {
    let raw = noted();
    let found = effects(&raw, 0, &[], SECOND);
    let counts = |f: &FaultEffect| [f.duplicated, f.reordered, f.refused, f.disconnects];
    assert_eq!(found.iter().map(counts).collect::<Vec<_>>(), [[1, 1, 0, 2], [0, 0, 2, 1]]);
    let close = |found: Option<f64>, known: f64| found.is_some_and(|s| (s - known).abs() < 0.03);
    for effect in &found {
        let write = effect.write.as_ref().unwrap();
        assert!(close(write.longest_s, 2.0) && close(write.sum_s, 2.0), "{write:?}");
        assert!(close(write.first_s, 2.0) && close(write.recovery_s, 2.0), "{write:?}");
        assert_eq!((write.lanes, write.hit, effect.read.is_none()), (1, 1, true));
    }
    // Until 30 s, when all replicas were up to date; then until the latency was as before. The
    // second fault is held against what was used before it, the first one's work included.
    let extra: Vec<f64> = found.iter().map(|f| f.catch_up_cpu_s.unwrap()).collect();
    let bytes: Vec<u64> = found.iter().map(|f| f.catch_up_bytes.unwrap()).collect();
    assert!(bytes[0].abs_diff(27_000) < 500 && bytes[1].abs_diff(18_000 - 2 * 675) < 500, "{bytes:?}");
    assert!((extra[0] - 2.7).abs() < 0.05 && (extra[1] - (2.0 - 2.0 * (4.0 + 2.7) / 40.0)).abs() < 0.05, "{extra:?}");
}

#[test]
fn what_was_lost_belongs_to_the_fault_that_can_have_lost_it() {
    let raw = noted();
    let span = |s: u64| LostSpan { at: raw.origin + s * SECOND, length: SECOND / 100, messages: 1 };
    // Before the first fault; in its outage, and until all replicas were up to date; between; and
    // after the last one.
    let spans = [3, 19, 21, 29, 31, 39, 59].map(span);
    let found = effects(&raw, 0, &spans, SECOND);
    assert_eq!(found.iter().map(|f| f.lost_acked).collect::<Vec<_>>(), [4, 3]);
    assert!((found[0].lost_acked_s - 0.04).abs() < 1e-9);
}
