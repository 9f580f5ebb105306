//! Verdicts at samples whose statistics are known, and everything that must not be compared.

use super::sample::{A, B, C, again, record};
use super::*;
use crate::plan::gate::{Comparator, Expectation, Policy, Share};
use crate::plan::{Load, ServiceTarget};
use crate::record::{ClockDoubt, Outcome, Status};
use crate::units::{Rate, Span};

fn named(record: &Record) -> NamedRecord<'_> {
    NamedRecord { label: "result", record }
}
/// The two samples as one system and its past.
fn against(reference: &[f64], nats: &[f64], gate: &Gate) -> Comparison {
    as_change(&record(reference, nats), gate)
}
fn as_change(record: &Record, gate: &Gate) -> Comparison {
    let pairing = pair::systems(named(record), Some("reference"), CompareOptions::default()).unwrap();
    assemble(pairing::Pairing { question: Question::Change, gated: true, ..pairing }, gate)
}
/// The same as two systems side by side.
fn side_by_side(reference: &[f64], nats: &[f64]) -> Comparison {
    let record = record(reference, nats);
    systems(named(&record), Some("reference"), &Gate::default(), CompareOptions::default()).unwrap()
}
fn row<'a>(c: &'a Comparison, metric: &str) -> &'a ComparisonRow {
    c.rows.iter().find(|r| r.metric.to_string() == metric).unwrap_or_else(|| panic!("no {metric}"))
}
fn with(change: f64) -> Gate {
    Gate { max_change: Share(change), ..Gate::default() }
}

#[test]
fn the_reference_samples_have_the_reference_verdicts() {
    let c = against(&A, &B, &with(0.05));
    let p99 = row(&c, "e2e.p99");
    assert_eq!((p99.verdict, c.overall.exit_code), (Verdict::Changed, 0));
    assert!((p99.ratio.unwrap().value - 1.049005511).abs() < 1e-8);
    assert_eq!(p99.cliffs_delta, Some(0.98));
    assert!(p99.p_adjusted.unwrap() < 0.001 && c.design.interleaved);
    let c = against(&A, &B, &Gate { strict: true, ..with(0.03) });
    assert_eq!((row(&c, "e2e.p99").verdict, c.overall.exit_code), (Verdict::Regressed, 3));
    let c = against(&B, &A, &with(0.03));
    assert_eq!((row(&c, "e2e.p99").verdict, c.overall.exit_code), (Verdict::Improved, 0));
    let c = against(&A, &C, &with(0.03));
    assert_eq!((row(&c, "e2e.p99").verdict, c.overall.exit_code), (Verdict::Equivalent, 0));
    assert_eq!(row(&c, "throughput.delivered").verdict, Verdict::Equivalent);
    let paired = against(&A, &B, &Gate { paired: true, ..with(0.03) });
    assert_eq!(row(&paired, "e2e.p99").p_raw, Some(2.0 / 1024.0));
}

#[test]
fn the_sentence_says_who_how_much_and_how_certain() {
    let slow: Vec<f64> = A.iter().map(|v| v * 6.1).collect();
    let all = [
        against(&A, &slow, &Gate::default()),
        against(&slow, &A, &Gate::default()),
        against(&A, &B, &Gate::default()),
        against(&A, &C, &Gate::default()),
        against(&A[..3], &B[..3], &Gate::default()),
        against(&A[..5], &[1000., 700., 820., 600., 900.], &Gate::default()),
        against(&A, &[f64::INFINITY; 10], &Gate::default()),
    ];
    let lines: Vec<String> =
        all.iter().map(|c| format!("{} {}", row(c, "e2e.p99").verdict.word(), c.overall.sentence)).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn too_few_runs_are_inconclusive_and_the_policy_decides() {
    let c = against(&A[..3], &B[..3], &Gate::default());
    assert_eq!((row(&c, "e2e.p99").verdict, c.overall.exit_code), (Verdict::Inconclusive, 0));
    let c = against(&A[..3], &B[..3], &Gate { on_inconclusive: Policy::Fail, ..Gate::default() });
    assert_eq!(c.overall.exit_code, 5);
    assert!(row(&c, "e2e.p99").runs_needed.unwrap() > 3);
}

#[test]
fn two_looks_and_no_more() {
    let gate = Gate { looks: Some((5, 10)), alpha: 0.05, ..with(0.03) };
    assert!(row(&against(&A[..4], &B[..4], &gate), "e2e.p99").reason.contains("first look is at 5"));
    // Between the looks only the first is taken: the further runs change nothing.
    let (five, eight) = (against(&A[..5], &B[..5], &gate), against(&A[..8], &B[..8], &gate));
    assert_eq!(row(&five, "e2e.p99").p_raw, row(&eight, "e2e.p99").p_raw);
    assert!(row(&eight, "e2e.p99").reason.contains("look 1 of 2"));
    let ten = against(&A, &B, &gate);
    assert_eq!(row(&ten, "e2e.p99").verdict, Verdict::Regressed);
    assert!(row(&ten, "e2e.p99").reason.contains("look 2 of 2"));
}

#[test]
fn invalid_trials_are_listed_and_never_compared() {
    let mut r = record(&A, &B);
    let check = crate::record::Check {
        id: "V1".into(),
        name: "offered rate achieved".into(),
        status: Status::Invalid,
        observed: "90 %".into(),
        threshold: String::new(),
        message: String::new(),
    };
    // The faster half of nats is invalid: it must not count.
    for t in r.trials.iter_mut().filter(|t| t.case == "nats" && t.round <= 2) {
        t.validity.push(check.clone());
    }
    if let Some(t) = r.trials.iter_mut().find(|t| t.case == "nats" && t.round == 3) {
        t.outcome = Outcome::Partial;
    }
    let c = systems(named(&r), Some("reference"), &Gate::default(), CompareOptions::default()).unwrap();
    let p99 = row(&c, "e2e.p99");
    assert_eq!((p99.a.n, p99.b.n, p99.b.excluded, c.excluded.len()), (10, 7, 3, 3));
    assert!(c.excluded[0].reason.contains("V1"));
    for t in r.trials.iter_mut().filter(|t| t.case == "nats") {
        t.validity.push(check.clone());
    }
    let c = systems(named(&r), Some("reference"), &Gate::default(), CompareOptions::default()).unwrap();
    assert_eq!((c.overall.verdict, c.overall.exit_code), (Verdict::Invalid, 4));
    assert!(c.rows.iter().all(|r| r.verdict == Verdict::Invalid && r.primary), "{:?}", c.rows.len());
}

#[test]
fn what_is_not_comparable_is_refused() {
    let (a, mut b) = (record(&A, &B), again(record(&A, &C)));
    let compare = |a: &Record, b: &Record| {
        records(
            NamedRecord { label: "old", record: a },
            NamedRecord { label: "new", record: b },
            &Gate::default(),
            CompareOptions::default(),
        )
    };
    assert!(compare(&a, &b).is_ok());
    b.host.cpu = "Another CPU".into();
    assert!(matches!(compare(&a, &b), Err(NotComparable::Host(_))));
    let across = CompareOptions { across_hosts: true, ..CompareOptions::default() };
    let c = records(named(&a), named(&b), &Gate::default(), across).unwrap();
    assert!(c.differences.iter().any(|d| d.what == "machine" && d.confounds));
    b = again(record(&A, &C));
    b.tool.profile = "debug".into();
    assert!(matches!(compare(&a, &b), Err(NotComparable::Profile(label)) if label == "new"));
    b = again(record(&A, &C));
    b.schema = "msgbench.run/2".into();
    assert!(matches!(compare(&a, &b), Err(NotComparable::Schema { .. })));
    b = again(record(&A, &C));
    b.plan.cases[0].workloads[0].topology.producers = 7;
    let c = compare(&a, &b).unwrap();
    assert!(c.refused[0].reason.ends_with("the workload is not the same: producers is 1 and 7"), "{:?}", c.refused);
    assert!(c.rows.iter().all(|r| r.a.label.starts_with("nats")));
    b.plan.systems.iter_mut().for_each(|s| s.name.push('2'));
    assert!(matches!(compare(&a, &b), Err(NotComparable::Nothing { .. })));
    assert!(matches!(
        systems(named(&a), Some("kafka"), &Gate::default(), CompareOptions::default()),
        Err(NotComparable::System { .. })
    ));
}

/// A service that was driven is what regresses, not the system that carries its messages.
#[test]
fn a_service_is_judged_by_its_own_name() {
    let driven = |mut r: Record, systems: usize| {
        r.plan.systems.truncate(systems);
        r.plan.cases.truncate(systems);
        let cases = &mut r.plan.cases;
        r.trials.retain(|t| cases.iter().any(|c| c.id == t.case));
        for w in cases.iter_mut().flat_map(|c| &mut c.workloads) {
            w.target = Some(ServiceTarget::Subject { subject: "orders.create".into() });
        }
        r
    };
    for (systems, label) in [(1, "orders.create (result)"), (2, "orders.create through nats (result)")] {
        let slow: Vec<f64> = A.iter().map(|v| v * 3.0).collect();
        let (a, b) = (driven(record(&A, &B), systems), driven(again(record(&slow, &B)), systems));
        let c = records(named(&a), named(&b), &Gate::default(), CompareOptions::default()).unwrap();
        assert!(c.rows.iter().any(|r| r.a.label == label && r.b.label == label), "{:?}", c.rows[0].a.label);
        assert!(c.sentences()[0].contains("orders.create"), "{:?}", c.sentences());
    }
}

/// Where nothing is driven alike there is no comparison, and what differs is named by the keys of a
/// scenario.
#[test]
fn workloads_that_differ_are_no_comparison() {
    let a = record(&A, &B);
    let refused = |change: &dyn Fn(&mut crate::plan::Workload)| {
        let mut b = again(record(&A, &C));
        b.plan.cases.iter_mut().for_each(|c| change(&mut c.workloads[0]));
        match records(named(&a), named(&b), &Gate::default(), CompareOptions::default()) {
            Err(NotComparable::Workload(changes)) => changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&|w| w.topology.producers = 7), ["producers is 1 and 7"]);
    let groups = a.plan.cases[0].workloads[0].topology.groups;
    assert_eq!(refused(&|w| w.topology.groups = 90), [format!("consumers is {groups} and 90")]);
    assert_eq!(refused(&|w| w.topology.reply = !w.topology.reply), ["pattern is false and true"]);
    let closed = Load::Closed { outstanding: 8, think: Span(0) };
    assert_eq!(refused(&|w| w.load = closed.clone()), ["load.mode is open and closed"]);
    let faster = |w: &mut crate::plan::Workload, segment: usize| {
        let Load::Open { profile, .. } = &mut w.load else { panic!("the sample is an open loop") };
        let one = profile.segments[0];
        profile.segments.resize(segment + 1, one);
        (profile.segments[segment].from, profile.segments[segment].to) = (Rate(77.0), Rate(77.0));
    };
    assert_eq!(refused(&|w| faster(w, 0)).len(), 1);
    assert!(refused(&|w| faster(w, 0))[0].starts_with("load.rate is "));
    assert_eq!(refused(&|w| faster(w, 1)), ["load is of one shape and of another"]);
    // Every setting of a workload, one at a time: none is passed over.
    let all = differences::flat(&a.plan.cases[0]);
    for what in all.keys().filter(|k| k.starts_with("workloads")) {
        let (baseline, candidate) = ("x".to_string(), "y".to_string());
        let (confounds, one_sided, promise) = (true, false, false);
        let one = Difference { what: what.clone(), baseline, candidate, confounds, one_sided, promise };
        assert_eq!(workloads::changes(&[one]).len(), 1, "{what}");
    }
    let mut b = again(record(&A, &C));
    b.plan.cases.iter_mut().for_each(|c| c.workloads.push(c.workloads[0].clone()));
    let told = records(named(&a), named(&b), &Gate::default(), CompareOptions::default()).unwrap_err().to_string();
    let name = &a.plan.cases[0].workloads[0].name;
    assert_eq!(told, format!("the workload is not the same: workload 2 is (absent) and {name}"));
}

/// A system that is not installed anywhere must not fail a job; one that is missing in the
/// candidate only must.
#[test]
fn a_system_that_neither_has_is_no_fault_and_one_that_is_gone_is() {
    let mut a = record(&A, &B);
    a.trials.retain(|t| t.case == "reference");
    let gone = crate::record::Skipped { system: "nats".into(), reason: "no nats-server".into(), remedy: String::new() };
    a.skipped.push(gone);
    let of = |label, record| NamedRecord { label, record };
    let later = again(a.clone());
    let c = records(of("old", &a), of("new", &later), &Gate::default(), CompareOptions::default()).unwrap();
    assert_eq!((c.overall.verdict, c.overall.exit_code), (Verdict::Equivalent, 0));
    assert!(c.refused[0].reason.contains("neither result: no nats-server"), "{:?}", c.refused);
    let full = record(&A, &B);
    let c = records(of("old", &full), of("new", &later), &Gate::default(), CompareOptions::default()).unwrap();
    assert_eq!((c.overall.verdict, c.overall.exit_code), (Verdict::Invalid, 4));
}

#[test]
fn settings_that_differ_are_said_first() {
    let (a, mut b) = (record(&A, &B), again(record(&A, &C)));
    for t in b.trials.iter_mut().filter(|t| t.case == "nats") {
        t.system.version = "nats 1.3.0".into();
        t.system.guarantees.insert("durability".into(), "fsync".into());
    }
    b.plan.cases[1].phases.measure = crate::units::Span::secs(40);
    let c = records(
        NamedRecord { label: "old", record: &a },
        NamedRecord { label: "new", record: &b },
        &Gate::default(),
        CompareOptions::default(),
    )
    .unwrap();
    let said: Vec<_> = c
        .differences
        .iter()
        .map(|d| (d.what.as_str(), d.baseline.as_str(), d.candidate.as_str(), d.confounds))
        .collect();
    assert!(said.contains(&("nats: version", "nats 1.2.3", "nats 1.3.0", false)), "{said:?}");
    assert!(said.contains(&("nats: durability", "(not said)", "fsync", true)), "{said:?}");
    assert!(said.contains(&("phases.measure", "20s", "40s", true)), "{said:?}");
}

#[test]
fn limits_are_met_broken_or_open() {
    let expect = |that: &str, metric: &str, comparator, limit| Expectation {
        that: that.into(),
        metric: metric.parse().unwrap(),
        comparator,
        limit,
        system: Some("nats".into()),
        on_inconclusive: Policy::Fail,
    };
    let r = record(&A, &B);
    let verdict = |e: Expectation| {
        let found = expectations(&r, &[e]);
        assert_eq!(found.len(), 1);
        (found[0].verdict, found[0].exit_code())
    };
    let p99 = |limit| expect("e2e.p99 < limit", "e2e.p99", Comparator::Less, limit);
    assert_eq!(verdict(p99(871e3)), (ExpectVerdict::Met, 0));
    assert_eq!(verdict(p99(860e3)), (ExpectVerdict::Inconclusive, 5));
    assert_eq!(verdict(p99(840e3)), (ExpectVerdict::Unmet, 3));
    assert_eq!(verdict(expect("", "ledger.lost", Comparator::Equal, 0.0)), (ExpectVerdict::Met, 0));
    assert_eq!(verdict(expect("", "throughput.delivered", Comparator::AtLeast, 2000.0)), (ExpectVerdict::Unmet, 3));
    assert_eq!(verdict(expect("", "rtt.p99", Comparator::Less, 1.0)), (ExpectVerdict::Invalid, 4));
    // p99.9 of 20 000 has 20 samples above it, and the largest of all is at 2.6 ms.
    assert_eq!(verdict(expect("", "e2e.p99.9", Comparator::Less, 2e6)), (ExpectVerdict::Inconclusive, 5));
    assert_eq!(verdict(expect("", "e2e.p99.9", Comparator::Less, 2.7e6)), (ExpectVerdict::Met, 0));
    // One run is held to its interval: 846 us with an interval up to 900 us.
    let mut single = record(&A[..1], &B[..1]);
    assert_eq!(expectations(&single, &[p99(871e3)])[0].verdict, ExpectVerdict::Met);
    for t in single.trials.iter_mut().filter(|t| t.case == "nats") {
        let summary = t.workloads[0].latency.get_mut("e2e").unwrap();
        summary.percentiles[1].ci95_ns = Some((800_000, Some(900_000)));
        summary.max_ns = Some(2_000_000);
    }
    assert_eq!(expectations(&single, &[p99(871e3)])[0].verdict, ExpectVerdict::Inconclusive);
    assert_eq!(expectations(&single, &[p99(901e3)])[0].verdict, ExpectVerdict::Met);
    let lost = record(&A, &[f64::INFINITY; 10]);
    assert_eq!(expectations(&lost, &[p99(1e15)])[0].verdict, ExpectVerdict::Unmet);
    let c = against(&A, &C, &Gate::default()).with_expectations(expectations(&r, &[p99(840e3)]));
    assert_eq!((c.overall.exit_code, c.overall.verdict), (3, Verdict::Unmet));
}

/// Ten runs around `centre` microseconds whose logarithms have the standard deviation `cv`.
fn runs(seed: &mut u64, centre: f64, cv: f64) -> Vec<f64> {
    let mut uniform = || {
        *seed = *seed * 48271 % 2_147_483_647;
        *seed as f64 / 2_147_483_647.0
    };
    (0..10)
        .map(|_| centre * (cv * (-2.0 * uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * uniform()).cos()).exp())
        .collect()
}

/// The certificate of the gate at its defaults (5 %, alpha 0.01): nothing against itself, and 10 %
/// more, 200 times each.
#[test]
fn the_gate_cries_wolf_rarely_and_sees_ten_percent() {
    let mut seed = 1;
    let mut regressed = |change: f64, cv: f64| {
        let one = |_: &u32| {
            let (a, b) = (runs(&mut seed, 800.0, cv), runs(&mut seed, 800.0 * (1.0 + change), cv));
            against(&a, &b, &Gate::default()).overall.exit_code == 3
        };
        (0..200).filter(one).count()
    };
    // Five of 200 is the 95 % upper bound of a rate of 1 %.
    assert!(regressed(0.0, 0.03) <= 5);
    assert!(regressed(0.0, 0.10) <= 5);
    let seen = regressed(0.10, 0.03);
    assert!(seen >= 180, "{seen} of 200 changes by 10 % were seen");
}

/// A result beside itself, or beside a copy of it under any name, is one set of runs.
#[test]
fn the_same_runs_are_no_further_runs() {
    let a = record(&A, &B);
    let compare = |b: &Record| {
        let of = |label, record| NamedRecord { label, record };
        let lenient = Gate { on_invalid: Policy::Pass, ..Gate::default() };
        records(of("main", &a), of("pull", b), &lenient, CompareOptions::default()).unwrap()
    };
    let copy = |change: &dyn Fn(&mut Record)| {
        let mut b = a.clone();
        change(&mut b);
        compare(&b)
    };
    let copies: [&dyn Fn(&mut Record); 6] = [
        &|_| (),
        &|b| b.started_at = "2027-01-01T00:00:00Z".into(),
        &|b| b.trials.iter_mut().for_each(|t| t.hlog = Some("renamed.hlog".into())),
        &|b| b.trials.reverse(),
        &|b| b.trials.iter_mut().for_each(|t| t.round += 10),
        // One that is the same is enough to say so.
        &|b| b.trials.iter_mut().skip(1).for_each(|t| t.seed += 1),
    ];
    for (i, change) in copies.iter().enumerate() {
        let c = copy(change);
        assert_eq!((c.overall.verdict, c.overall.exit_code), (Verdict::Invalid, 4), "{i}: {:?}", c.overall);
        assert!(c.overall.sentence.contains("`pull` and `main` have"), "{:?}", c.overall);
        assert!(c.rows.iter().all(|r| r.verdict == Verdict::Invalid && r.a.n == 10), "the figures are shown");
    }
    assert_eq!(compare(&again(a.clone())).overall.exit_code, 0);
    let loaded = |record: &Record| crate::record::Loaded { record: record.clone(), intervals: Vec::new() };
    assert!(matches!(pool(vec![loaded(&a), loaded(&a)]), Err(PoolError::Twice { .. })));
    assert!(pool(vec![loaded(&a), loaded(&again(a.clone()))]).is_ok());
}

/// A case that the baseline has and the candidate lost, and a metric that is to decide and that
/// nothing has: a verdict is missing, and missing is not passed.
#[test]
fn a_verdict_that_is_missing_does_not_pass() {
    let (a, full) = (record(&A, &B), again(record(&A, &C)));
    let compare = |a: &Record, b: &Record, gate: &Gate| {
        let of = |label, record| NamedRecord { label, record };
        records(of("old", a), of("new", b), gate, CompareOptions::default()).unwrap()
    };
    let mut fewer = full.clone();
    fewer.plan.cases.truncate(1);
    fewer.trials.retain(|t| t.case == "reference");
    let c = compare(&a, &fewer, &Gate::default());
    assert_eq!((c.overall.exit_code, c.overall.verdict), (4, Verdict::Invalid), "{:?}", c.overall);
    assert!(c.overall.sentence.starts_with("nats is not compared: only in old"), "{}", c.overall.sentence);
    assert_eq!(compare(&fewer, &a, &Gate::default()).overall.exit_code, 0, "a new case has no past");
    let lenient = Gate { on_invalid: Policy::Warn, ..Gate::default() };
    assert_eq!(compare(&a, &fewer, &lenient).overall.exit_code, 0);
    let mut other = full.clone();
    other.plan.cases[1].workloads[0].topology.producers = 7;
    assert_eq!(compare(&a, &other, &Gate::default()).overall.exit_code, 4);
    let gate = Gate { primary: vec!["e2e.p99".parse().unwrap(), "orders.e2e.p50".parse().unwrap()], ..Gate::default() };
    let c = compare(&a, &full, &gate);
    assert_eq!(c.overall.exit_code, 4, "{:?}", c.overall);
    assert!(c.overall.reasons[0].contains("gate.primary `orders.e2e.p50`"), "{:?}", c.overall.reasons);
}

/// A limit whose names match nothing is in the list, and not as kept.
#[test]
fn a_limit_that_applies_to_nothing_is_never_kept() {
    let r = record(&A, &B);
    let limit = |metric: &str, system: Option<&str>| Expectation {
        that: format!("{metric} < 1h"),
        metric: metric.parse().unwrap(),
        comparator: Comparator::Less,
        limit: 3.6e12,
        system: system.map(String::from),
        on_inconclusive: Policy::Fail,
    };
    for (metric, system) in [("orders.e2e.p99", None), ("orders.e2e.p99", Some("nats")), ("rtt.p99", None)] {
        let found = expectations(&r, &[limit(metric, system)]);
        assert!(!found.is_empty() && found.iter().all(|e| e.exit_code() == 4), "{metric}: {found:?}");
    }
    let left_out = expectations(&r, &[limit("e2e.p99", Some("kafka"))]);
    assert_eq!((left_out[0].verdict, left_out[0].exit_code()), (ExpectVerdict::NotJudged, 0), "{left_out:?}");
    assert!(left_out[0].sentence.contains("does not have the system kafka"), "{left_out:?}");
    let mut absent = r.clone();
    absent.trials.retain(|t| t.case == "reference");
    let gone = crate::record::Skipped { system: "nats".into(), reason: "no nats-server".into(), remedy: String::new() };
    absent.skipped.push(gone);
    let found = expectations(&absent, &[limit("e2e.p99", Some("nats"))]);
    assert_eq!((found[0].verdict, found[0].exit_code()), (ExpectVerdict::NotJudged, 5), "{found:?}");
    assert!(found[0].sentence.contains("no nats-server"), "{found:?}");
    assert_eq!(expectations(&absent, &[limit("e2e.p99", None)]).len(), 1, "the other system is held to it");
}

/// Zero on both sides is equal, with any number of runs.
#[test]
fn nothing_against_nothing_is_equal() {
    for n in [1, 2, 4, 10] {
        let gate =
            Gate { primary: vec!["ledger.lost".parse().unwrap()], on_inconclusive: Policy::Fail, ..Gate::default() };
        let c = against(&A[..n], &C[..n], &gate);
        assert_eq!((row(&c, "ledger.lost").verdict, c.overall.exit_code), (Verdict::Equivalent, 0), "{n} runs");
    }
}

/// Each question has its own words; a verdict never contradicts its interval, whatever a gate asks
/// for.
#[test]
fn systems_side_by_side_are_faster_slower_the_same_or_not_decided() {
    let slow: Vec<f64> = A.iter().map(|v| v * 18.0).collect();
    let all = [
        side_by_side(&A, &slow),
        side_by_side(&slow, &A),
        side_by_side(&A, &B),
        side_by_side(&A, &C),
        side_by_side(&A[..3], &B[..3]),
        side_by_side(&A[..5], &[1000., 700., 820., 600., 900.]),
        side_by_side(&A, &[f64::INFINITY; 10]),
    ];
    let lines: Vec<String> =
        all.iter().map(|c| format!("{} {}", row(c, "e2e.p99").word(), row(c, "e2e.p99").sentence)).collect();
    insta::assert_snapshot!(lines.join("\n"));
    for c in &all {
        assert_eq!(c.overall.exit_code, 0, "no gate was asked for");
        for r in &c.rows {
            let words = ["REGRESSED", "IMPROVED", "EQUIVALENT", "INCONCLUSIVE", "regressed", "improved"];
            let text = format!("{} {} {} {}", r.word(), r.sentence, r.reason, c.overall.sentence);
            assert!(!words.iter().any(|w| text.contains(w)), "{text}");
        }
    }
    // Few samples above the percentile hold a gate back, not the answer.
    let mut thin = record(&A, &slow);
    for t in &mut thin.trials {
        let p99 = &mut t.workloads[0].latency.get_mut("e2e").unwrap().percentiles;
        p99.iter_mut().for_each(|p| p.effective = Some(12.0));
    }
    let of = |gated| {
        systems(
            named(&thin),
            Some("reference"),
            &Gate::default(),
            CompareOptions { gated, ..CompareOptions::default() },
        )
    };
    let (free, gated) = (of(false).unwrap(), of(true).unwrap());
    assert_eq!(row(&free, "e2e.p99").verdict, Verdict::Slower);
    assert_eq!((row(&gated, "e2e.p99").verdict, row(&gated, "e2e.p99").gate), (Verdict::Slower, Verdict::Inconclusive));
    let change = as_change(&thin, &Gate::default());
    let sentence = &row(&change, "e2e.p99").sentence;
    assert!(
        sentence.contains("nats is 18 times slower") && sentence.contains("the gate decides nothing"),
        "{sentence}"
    );
    // A gate that was asked for gates.
    let gate = CompareOptions { gated: true, ..CompareOptions::default() };
    let c = systems(named(&record(&A, &slow)), Some("reference"), &Gate::default(), gate).unwrap();
    assert_eq!((c.overall.verdict, c.overall.exit_code), (Verdict::Different, 3));
    assert!(c.overall.reasons[0].starts_with("SLOWER "), "{:?}", c.overall.reasons);
}

/// The number of runs for the threshold, and for the change that was seen.
#[test]
fn both_numbers_of_runs_are_told() {
    let noisy = [600., 1100., 780., 1400., 900., 700., 1250.];
    let c = against(&A[..7], &noisy.map(|v| v * 1.2), &Gate::default());
    let p99 = row(&c, "e2e.p99");
    assert_eq!(p99.verdict, Verdict::Inconclusive, "{}", p99.reason);
    let (all, seen) = (p99.runs_needed.unwrap(), p99.runs_needed_seen.unwrap());
    assert!(seen * 3 < all && seen > 7, "{all} and {seen}");
    assert!(
        p99.sentence.contains(&format!("about {all} runs each would find a change by 5 %, about {seen} one by the ")),
        "{}",
        p99.sentence
    );
}

/// 12,000 samples below a median are not too few; that they come in bursts is what must be said.
#[test]
fn a_median_is_never_told_to_gate_lower() {
    let mut r = record(&A, &B);
    for t in &mut r.trials {
        let p50 = &mut t.workloads[0].latency.get_mut("e2e").unwrap().percentiles[0];
        (p50.exceedances, p50.effective) = (6_000.0, Some(12.0));
    }
    let c = as_change(&r, &Gate::default());
    let reason = &row(&c, "e2e.p50").reason;
    assert!(reason.contains("come in bursts and are worth only 12") && !reason.contains("lower"), "{reason}");
    let limit = Expectation {
        that: "e2e.p50 < 500us".into(),
        metric: "e2e.p50".parse().unwrap(),
        comparator: Comparator::Less,
        limit: 500e3,
        system: None,
        on_inconclusive: Policy::Fail,
    };
    let found = expectations(&r, &[limit]);
    assert_eq!(found[0].verdict, ExpectVerdict::Inconclusive);
    assert!(found[0].sentence.contains("bursts") && !found[0].sentence.contains("lower"), "{}", found[0].sentence);
    // Where the number itself is small, a median has no lower one either.
    assert!(!observe::thin(Some(0.5), Some(5.0), Some(5.0)).contains("lower"));
    assert!(observe::thin(Some(0.99), Some(5.0), Some(5.0)).contains("lower"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(150))]
    /// No verdict contradicts its own interval, whatever the values, the test and the policy.
    #[test]
    fn a_verdict_never_contradicts_its_interval(
        a in proptest::collection::vec(0u32..40, 2..11), b in proptest::collection::vec(0u32..40, 2..11),
        scale in 1u32..50, paired: bool, strict: bool, percent in 1u32..60
    ) {
        let values = |v: &[u32]| v.iter().map(|x| 700.0 + f64::from(x * scale)).collect::<Vec<_>>();
        let gate = Gate { paired, strict, alpha: 0.05, ..with(f64::from(percent) / 100.0) };
        let mut r = record(&values(&a), &values(&b));
        // The same small numbers as counts, many of them zero and tied.
        for t in &mut r.trials {
            let v = if t.case == "nats" { &b } else { &a };
            t.workloads[0].ledger.lost = u64::from(v[t.round as usize - 1].saturating_sub(20));
        }
        let c = systems(named(&r), Some("reference"), &gate, CompareOptions::default()).unwrap();
        for row in &c.rows {
            let (sign, none) = match (&row.ratio, &row.shift) {
                (Some(e), _) => (e, 1.0),
                (None, Some(e)) => (e, 0.0),
                _ => continue,
            };
            let worse_above = row.lower_is_better;
            let (low, high) = sign.ci95.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
            let fits = match row.verdict {
                Verdict::Regressed => if worse_above { high > none && low >= none } else { low < none && high <= none },
                Verdict::Improved => if worse_above { low < none && high <= none } else { high > none && low >= none },
                Verdict::Changed => low > none || high < none,
                _ => true,
            };
            proptest::prop_assert!(fits, "{} is {} with {:?}", row.metric, row.verdict.word(), sign);
            if let (Verdict::Equivalent, Some(ratio)) = (row.verdict, &row.ratio) {
                let (l, h) = ratio.ci90.unwrap();
                proptest::prop_assert!(l > 1.0 / (1.0 + row.max_change) && h < 1.0 + row.max_change);
            }
        }
    }
}

/// The reference samples with clocks of both sides in them, known to so many microseconds.
fn with_clocks(reference: &[f64], nats: &[f64], bounds_us: [Option<f64>; 2]) -> Record {
    let mut record = record(reference, nats);
    for trial in &mut record.trials {
        let bound_us = bounds_us[usize::from(trial.case == "nats")];
        let bound_ns = bound_us.map(|us| (us * 1e3) as u64);
        trial.workloads[0].latency.get_mut("e2e").unwrap().clocks = Some(ClockDoubt { bound_ns });
    }
    record
}

/// A difference of the medians of 40 us (A is 807 us, B 847.5 us) is decided up to bounds that
/// leave no doubt, and not beyond; and whatever the number of runs.
#[test]
fn a_difference_below_what_clocks_may_be_wrong_by_is_not_decided() {
    let systems = |bounds: [Option<f64>; 2]| {
        let record = with_clocks(&A, &B, bounds);
        let c = systems(named(&record), Some("reference"), &with(0.001), CompareOptions::default()).unwrap();
        row(&c, "e2e.p99").clone()
    };
    let change =
        |bounds: [Option<f64>; 2]| row(&as_change(&with_clocks(&A, &B, bounds), &with(0.001)), "e2e.p99").clone();
    // The interval of the difference begins 29 us above nothing: bounds take from that.
    for (bounds, side_by_side, gated) in [
        ([Some(0.0), Some(0.0)], Verdict::Slower, Verdict::Regressed),
        ([Some(9.0), Some(9.0)], Verdict::Slower, Verdict::Regressed),
        ([Some(19.0), Some(19.0)], Verdict::NotDecided, Verdict::Inconclusive),
        ([Some(25.0), Some(25.0)], Verdict::NotDecided, Verdict::Inconclusive),
        ([Some(0.0), Some(50.0)], Verdict::NotDecided, Verdict::Inconclusive),
        ([Some(9.0), None], Verdict::NotDecided, Verdict::Inconclusive),
    ] {
        assert_eq!(systems(bounds).verdict, side_by_side, "{bounds:?}");
        assert_eq!((change(bounds).verdict, change(bounds).gate), (gated, gated), "{bounds:?}");
    }
    // Beside the difference of the medians nothing that is measured again would help.
    let (within, beyond) = (systems([Some(19.0), Some(19.0)]), systems([Some(25.0), Some(25.0)]));
    assert!(within.reason.ends_with("leaves it open"), "{}", within.reason);
    assert!(beyond.reason.contains("more runs do not make it smaller"), "{}", beyond.reason);
    assert_eq!((beyond.runs_needed, beyond.runs_needed_seen), (None, None));
    // Without clocks the row is what it was.
    let plain = row(&self::systems_of(&record(&A, &B)), "e2e.p99").clone();
    assert_eq!(plain.ratio, systems([Some(0.0), Some(0.0)]).ratio);
    insta::assert_snapshot!(
        [&within.sentence, &beyond.sentence, &systems([Some(9.0), None]).sentence].map(String::as_str).join("\n")
    );
}

fn systems_of(record: &Record) -> Comparison {
    systems(named(record), Some("reference"), &with(0.001), CompareOptions::default()).unwrap()
}

/// Equivalence within a threshold is decided where the bound is small beside it, and only there.
#[test]
fn equivalence_has_the_clocks_in_it() {
    let verdict = |us: f64| {
        let record = with_clocks(&A, &C, [Some(us), Some(us)]);
        row(&as_change(&record, &with(0.05)), "e2e.p99").verdict
    };
    assert_eq!(verdict(5.0), Verdict::Equivalent);
    assert_eq!(verdict(30.0), Verdict::Inconclusive);
}

/// A limit that is closer to the median than the clocks are known is neither kept nor broken.
#[test]
fn a_limit_within_the_bound_of_the_clocks_is_open() {
    let verdict = |limit_us: f64, bound: Option<f64>| {
        let record = with_clocks(&A, &B, [bound; 2]);
        let limit = Expectation {
            that: "e2e.p99 < it".into(),
            metric: "e2e.p99".parse().unwrap(),
            comparator: Comparator::Less,
            limit: limit_us * 1e3,
            system: Some("reference".into()),
            on_inconclusive: Policy::Fail,
        };
        expectations(&record, &[limit])[0].verdict
    };
    assert_eq!(verdict(900.0, Some(40.0)), ExpectVerdict::Met);
    assert_eq!(verdict(900.0, Some(100.0)), ExpectVerdict::Inconclusive);
    assert_eq!(verdict(780.0, Some(20.0)), ExpectVerdict::Unmet);
    assert_eq!(verdict(780.0, Some(40.0)), ExpectVerdict::Inconclusive);
    assert_eq!(verdict(900.0, None), ExpectVerdict::Inconclusive);
}
