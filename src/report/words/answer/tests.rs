//! Answers of records whose figures are known.

use super::*;
use crate::compare::sample::{A, B, C, by_agents, record};
use crate::plan::facts::{Delivery, Durability};
use crate::plan::{Action, Keep, Load, NodeChoice, Pattern, PlannedEvent, ServiceTarget};
use crate::record::{Check, Kept, Ledger, Outcome, Promise, TailDoubt, Throughput, sample};
use crate::units::Span;

/// What a reader sees first, as lines.
fn read(record: &Record) -> String {
    let a = of(record).unwrap();
    let mut lines = vec![format!("{}: {}", a.word, a.headline), a.losses.clone()];
    lines.extend(a.failures.iter().map(|f| f.sentence.clone()));
    lines.push(a.confidence.words());
    lines.extend(a.facts.rows.iter().map(|r| r.join(" | ")));
    lines.extend(a.remarks.iter().map(|r| format!("- {} {}", r.title, r.text)));
    lines.join("\n")
}

fn times(values: &[f64], by: f64) -> Vec<f64> {
    values.iter().map(|v| v * by).collect()
}

#[test]
fn what_is_decided_is_said_with_its_interval() {
    insta::assert_snapshot!(read(&record(&A, &times(&B, 18.0))));
    insta::assert_snapshot!(read(&record(&A, &C)));
    insta::assert_snapshot!(read(&record(&A[..2], &times(&B[..2], 18.0))));
}

/// Of many systems the second and the last are named, and the others counted.
#[test]
fn many_systems_fit_into_a_sentence() {
    let mut r = record(&A, &times(&B, 18.0));
    let (nats, spec) = (r.plan.cases[1].clone(), r.plan.systems[1].clone());
    let trials: Vec<_> = r.trials.iter().filter(|t| t.case == nats.id).cloned().collect();
    let mut more = |name: &str| {
        r.plan.systems.push(crate::plan::SystemSpec { name: name.into(), ..spec.clone() });
        let (id, system) = (name.to_owned(), r.plan.systems.len() - 1);
        r.plan.cases.push(crate::plan::Case { id, system, ..nats.clone() });
        r.trials.extend(trials.iter().map(|t| crate::record::Trial { case: name.into(), ..t.clone() }));
        of(&r).unwrap().headline
    };
    more("b");
    more("c");
    assert_eq!(more("d").matches(" in 7.6 ms").count(), 4, "five are named");
    let six = more("e");
    assert!(six.contains(", 3 others in between, and "), "{six}");
    assert_eq!(six.matches(" in 7.6 ms").count(), 2, "{six}");
}

#[test]
fn a_sample_with_everything_wrong() {
    insta::assert_snapshot!(read(&sample::record()));
}

/// Losing nothing, and having promised nothing, are different sentences.
#[test]
fn losses_say_whether_they_were_allowed() {
    let with = |level: Delivery, lost: u64, kept: bool| {
        let mut r = record(&A[..1], &B[..1]);
        for t in &mut r.trials {
            t.system.promised.delivery = level;
            t.workloads[0].promises = vec![Promise { promised: "p".into(), observed: String::new(), kept: true }];
        }
        let nats = r.trials.iter_mut().find(|t| t.case == "nats").unwrap();
        nats.workloads[0].ledger.lost = lost;
        nats.workloads[0].ledger.delivered -= lost;
        nats.workloads[0].promises[0].kept = kept;
        of(&r).unwrap().losses
    };
    let lines = [
        with(Delivery::AtMostOnce, 0, true),
        with(Delivery::AtLeastOnce, 0, true),
        with(Delivery::AtMostOnce, 1_234, true),
        with(Delivery::AtLeastOnce, 1_234, false),
        with(Delivery::Unstated, 0, true),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}

/// What was read back after a server was ended says what was lost where nobody received anything.
#[test]
fn what_was_lost_with_the_power_is_said() {
    let with = |action: Action, missing: u64, read: bool, kept: bool| {
        let mut r = record(&A[..1], &B[..1]);
        r.plan.events = vec![event(action)];
        for w in r.plan.cases.iter_mut().flat_map(|c| &mut c.workloads) {
            (w.topology.groups, w.topology.members, w.delivery.keep) = (0, 0, Some(Keep::default()));
        }
        for t in &mut r.trials {
            t.system.promised.durability = Durability::File;
            let w = &mut t.workloads[0];
            w.ledger.expected = 0;
            w.kept = Some(Kept { owed: 2_000, read: 2_000, holds: true, ..Kept::default() });
            w.promises = vec![Promise { promised: "p".into(), observed: String::new(), kept: true }];
        }
        let nats = &mut r.trials.iter_mut().find(|t| t.case == "nats").unwrap().workloads[0];
        nats.promises[0].kept = kept;
        nats.kept = nats.kept.clone().filter(|_| read);
        nats.kept.iter_mut().for_each(|k| k.missing = missing);
        of(&r).unwrap().losses
    };
    let lines = [
        with(Action::Power, 0, true, true),
        with(Action::Power, 1_234, true, true),
        with(Action::Power, 2_000, true, true),
        with(Action::Power, 2_000, true, false),
        with(Action::Power, 0, false, true),
        with(Action::Pause, 1_234, true, true),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}

fn event(action: Action) -> PlannedEvent {
    let node = NodeChoice::Number(0);
    let (workload, consumer, qdisc) = (None, None, None);
    let at = Span::secs(1);
    PlannedEvent { at, action, node, alone: false, workload, consumer, qdisc, repeat: None, within: None, lasts: None }
}

/// A service that was driven is named, and what it leaves unanswered is not laid on the broker.
#[test]
fn the_service_that_was_driven_is_named() {
    let driven = |mut r: Record| {
        for w in r.plan.cases.iter_mut().flat_map(|c| &mut c.workloads) {
            w.pattern = Pattern::RequestReply;
            (w.topology.groups, w.topology.members, w.topology.reply) = (0, 0, true);
            w.target = Some(ServiceTarget::Subject { subject: "orders.create".into() });
        }
        for w in r.trials.iter_mut().flat_map(|t| &mut t.workloads) {
            w.latency = std::mem::take(&mut w.latency).into_values().map(|l| ("rtt".into(), l)).take(1).collect();
            w.promises.clear();
        }
        r
    };
    let both = driven(record(&A, &times(&B, 18.0)));
    let mut one = both.clone();
    one.plan.systems.truncate(1);
    one.plan.cases.truncate(1);
    one.trials.retain(|t| t.case == one.plan.cases[0].id);
    let ledger = &mut one.trials[0].workloads[0].ledger;
    (ledger.lost, ledger.duplicated) = (8, 16);
    ledger.delivered -= 8;
    let first = |r: &Record| read(r).lines().take(2).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(format!("{}\n\n{}", first(&both), first(&one)));
}

#[test]
fn what_is_not_like_for_like_is_said_first() {
    let mut r = record(&A, &B);
    r.tool.profile = "release".into();
    for t in r.trials.iter_mut().filter(|t| t.case == "nats") {
        t.system.promised.delivery = Delivery::AtLeastOnce;
        t.system.promised.durability = Durability::SyncedFirst;
        t.system.guarantees.insert("producer linger.ms".into(), "5".into());
    }
    let first: Vec<String> =
        of(&r).unwrap().remarks.iter().take(2).map(|m| format!("{} {}", m.title, m.text)).collect();
    insta::assert_snapshot!(first.join("\n"));
}

fn check(id: &str, status: Status) -> Check {
    let text = String::new;
    Check {
        id: id.into(),
        name: text(),
        status,
        observed: "8000 due, 4000 made".into(),
        threshold: text(),
        message: text(),
    }
}

/// Trials that are not shown because a search had others to decide by are no loss, and every loss
/// has its reason.
#[test]
fn what_is_left_out_has_a_reason() {
    let mut r = record(&A, &B);
    r.trials[0].outcome = Outcome::Partial;
    r.trials[1].outcome = Outcome::Failed { phase: "measure".into(), error: "the server ended".into() };
    r.trials[2].validity.push(check("V1", Status::Invalid));
    let a = of(&r).unwrap();
    let remark = a.remarks.iter().find(|m| m.title.ends_with("are left out:")).unwrap();
    assert!(remark.text.starts_with("1 failed, 1 interrupted, ") && remark.text.len() > 30, "{remark:?}");
    r.trials[0].outcome = Outcome::Complete;
    r.trials[1].outcome = Outcome::Complete;
    r.trials[2].validity.clear();
    let a = of(&r).unwrap();
    assert!(!a.remarks.iter().any(|m| m.title.contains("left out")), "{:?}", a.remarks);
}

/// A page is INVALID only when nothing is left to judge.
#[test]
fn one_trial_that_counts_is_an_answer() {
    let mut r = record(&A, &B);
    for t in r.trials.iter_mut().filter(|t| t.round > 1) {
        t.validity.push(check("V1", Status::Invalid));
    }
    let a = of(&r).unwrap();
    assert_eq!((a.word, r.gravest()), ("OK", None));
    assert!(a.remarks.iter().any(|m| m.title == "18 of 20 runs are left out:"), "{:?}", a.remarks);
    for t in r.trials.iter_mut().filter(|t| t.case == "nats") {
        t.validity.push(check("V3", Status::Invalid));
    }
    let a = of(&r).unwrap();
    assert_eq!((a.word, r.gravest()), ("INCOMPLETE", Some(Gravest::Invalid)));
    assert_eq!(a.failure_of("nats"), Some("nats was overloaded, no trial counts: 8000 due, 4000 made."));
    assert!(a.headline.starts_with("reference delivers a message in"), "{}", a.headline);
    r.trials.iter_mut().for_each(|t| t.validity.push(check("V1", Status::Invalid)));
    let a = of(&r).unwrap();
    assert_eq!(a.word, "INVALID");
    assert!(a.headline.starts_with("No trial counts: less was offered than planned"), "{}", a.headline);
    assert_eq!(a.confidence.level, ConfidenceLevel::None);
    for t in &mut r.trials {
        t.outcome = Outcome::Failed { phase: "measure".into(), error: "gone".into() };
    }
    let a = of(&r).unwrap();
    assert_eq!((a.word, a.headline.as_str()), ("FAILED", "All systems failed: nothing was measured."));
    assert_eq!(a.failure_of("reference"), Some("reference failed in measure: gone."));
    r.trials.clear();
    assert!(of(&r).is_none());
}

/// Where nobody receives or confirms, the rate is that of sending, and no loss is denied.
#[test]
fn what_is_only_sent_is_not_said_to_be_delivered() {
    let mut r = record(&A, &B);
    for case in &mut r.plan.cases {
        case.workloads[0].load = Load::Unthrottled { window: 0 };
        case.workloads[0].topology.groups = 0;
    }
    for t in &mut r.trials {
        let per_second = if t.case == "nats" { 800_000.0 } else { 200_000.0 } + f64::from(t.round);
        let w = &mut t.workloads[0];
        w.latency.clear();
        w.throughput = Throughput { sent: per_second, ..Throughput::default() };
        w.ledger = Ledger { sent: per_second as u64, ..Ledger::default() };
    }
    let a = of(&r).unwrap();
    assert!(a.headline.starts_with("nats takes 800k/s, reference 200k/s, 4.0 times less"), "{}", a.headline);
    assert!(!read(&r).contains("eliver") && !read(&r).contains("lost"), "{}", read(&r));
    assert!(a.losses.contains("is not known"), "{}", a.losses);
    // What is confirmed is the rate again.
    for t in &mut r.trials {
        t.workloads[0].ledger.acked = t.workloads[0].ledger.sent;
        t.workloads[0].throughput.delivered = t.workloads[0].throughput.sent / 2.0;
    }
    let headline = of(&r).unwrap().headline;
    assert!(headline.starts_with("nats delivers 400k/s"), "{headline}");
}

/// A percentile that hangs on a few slow spells is marked, and lowers the confidence.
#[test]
fn slow_spells_are_marked() {
    let mut r = record(&A, &times(&B, 3.0));
    r.tool.profile = "release".into();
    let before = of(&r).unwrap().confidence;
    let doubt = TailDoubt { episodes: 1, share: 0.95, longest_ns: 1_000_000_000, at_s: 7.0, stall: true };
    for t in r.trials.iter_mut().filter(|t| t.case == "nats") {
        t.workloads[0].latency.get_mut("e2e").unwrap().percentiles.iter_mut().for_each(|p| p.doubt = Some(doubt));
    }
    let a = of(&r).unwrap();
    assert_eq!((before.level, a.confidence.level), (ConfidenceLevel::High, ConfidenceLevel::Medium), "{before:?}");
    assert!(a.sides[1].tail.as_ref().unwrap().words().ends_with('?'));
    assert!(a.remarks.iter().any(|m| m.text.contains("ranked by the median")), "{:?}", a.remarks);
}

/// What clocks leave open stands with the figure and in its range; and where it is more than a
/// twentieth of the median, a figure heads the answer that needs none.
#[test]
fn clocks_of_agents_are_said_with_the_figures() {
    // The median is 403 us, a twentieth of it 20 us.
    insta::assert_snapshot!("clocks_in_the_figure", read(&by_agents(Some(12), true)));
    insta::assert_snapshot!("clocks_set_aside", read(&by_agents(Some(90), true)));
    insta::assert_snapshot!("clocks_set_aside_for_acknowledgements", read(&by_agents(Some(90), false)));
    insta::assert_snapshot!("clocks_unknown", read(&by_agents(None, true)));
    let (with, without) = (by_agents(Some(12), true), by_agents(Some(0), true));
    let range = |r: &Record| of(r).unwrap().sides[0].typical.as_ref().unwrap().range.unwrap();
    let (wide, narrow) = (range(&with), range(&without));
    assert_eq!((wide.0, wide.1), (narrow.0 - 12e3, narrow.1 + 12e3));
    let typical = |r: &Record| of(r).unwrap().sides[0].typical.as_ref().unwrap().words();
    assert_eq!(typical(&with), "0.40 ms +/- 12 µs of clocks");
    assert_eq!(typical(&by_agents(Some(90), true)), "0.40 ms");
}
