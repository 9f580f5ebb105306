//! What other tools wrote, as it is, and as it must not be.

use super::*;
use crate::compare::{CompareOptions, NamedRecord, Question, Verdict, pool, records};

fn omb(driver: &str, p99: f64) -> Vec<u8> {
    let json = serde_json::json!({
        "workload": "1 topic / 1 partition / 1Kb", "driver": driver, "messageSize": 1024,
        "topics": 1, "partitions": 1, "producersPerTopic": 1, "consumersPerTopic": 1,
        "publishRate": [1000.0, 1010.0, 0.0], "consumeRate": [1000.0, 1010.0, 0.0], "backlog": [0, 0, 0],
        "publishErrorRate": [0.0, 0.1, 0.0],
        "aggregatedPublishLatencyAvg": 3.0, "aggregatedPublishLatency50pct": 2.5,
        "aggregatedPublishLatency99pct": p99 / 2.0, "aggregatedPublishLatencyMax": 40.0,
        "aggregatedPublishDelayLatency99pct": 3366,
        "aggregatedEndToEndLatencyAvg": 4.0, "aggregatedEndToEndLatency50pct": 3.0,
        "aggregatedEndToEndLatency99pct": p99, "aggregatedEndToEndLatency999pct": 2.0 * p99,
        "aggregatedEndToEndLatencyMax": 90.0,
        "aggregatedEndToEndLatencyQuantiles": { "0.0": 1.0, "50.0": 3.0, "99.0": p99, "100.0": 90.0 }
    });
    serde_json::to_vec(&json).unwrap()
}

fn side(driver: &str, values: &[f64]) -> Record {
    let one = |(i, p99): (usize, &f64)| {
        let mut r = read("omb.json", &omb(driver, *p99), None).unwrap();
        r.started_at = format!("2026-11-23T12:{i:02}:00Z");
        r
    };
    let loaded = |record| crate::record::Loaded { record, intervals: Vec::new() };
    pool(values.iter().enumerate().map(one).map(loaded).collect()).unwrap().record
}

#[test]
fn an_omb_result_is_a_trial_of_service_latencies_whose_validity_is_not_known() {
    let r = side("Kafka", &[10.0]);
    let w = &r.trials[0].workloads[0];
    let e2e = &w.latency["e2e.service"];
    assert_eq!(e2e.at(0.99).unwrap().value_ns, Some(10_000_000));
    // 2010 messages of ten seconds each: 20 above p99.9.
    assert_eq!((e2e.count, e2e.at(0.999).unwrap().printable), (20_100, true));
    assert_eq!(w.latency["ack.service"].at(0.5).unwrap().value_ns, Some(2_500_000));
    assert_eq!(w.latency["lag"].at(0.99).unwrap().value_ns, Some(3_366_000), "publish delays are microseconds");
    assert!(!w.latency.contains_key("e2e"), "it is no response latency");
    let check = &r.trials[0].validity[0];
    assert!(check.observed.contains("validity not known"), "{}", check.observed);
    assert!(check.observed.contains("1 of 3 intervals without a message"), "{}", check.observed);
    assert!(check.observed.contains("whole milliseconds"), "{}", check.observed);
    assert!(e2e.curve.windows(2).all(|p| p[0].0 < p[1].0 && p[0].1 <= p[1].1) && e2e.curve.len() > 10);
}

#[test]
fn omb_results_are_compared_as_runs() {
    let a = [10.0, 10.1, 9.9, 10.2, 10.05, 9.8, 10.15, 9.95];
    let (x, y) = (side("Kafka", &a), side("Pulsar", &a.map(|v| v * 1.5)));
    let gate = x.plan.gate.clone().unwrap();
    let of = |label, record| NamedRecord { label, record };
    let c = records(of("a", &x), of("b", &y), &gate, CompareOptions::default()).unwrap();
    let row = c.rows.iter().find(|r| r.metric.to_string() == "e2e.service.p99").unwrap();
    assert_eq!((row.verdict, row.primary, row.a.n), (Verdict::Slower, true, 8), "{}", row.reason);
    assert!(row.sentence.contains("Pulsar is 50.0 % slower than Kafka"), "{}", row.sentence);
    assert_eq!((c.question, c.overall.exit_code), (Question::Systems, 0), "two systems, and no gate was asked for");
    assert!(c.rows.iter().all(|r| !r.metric.to_string().starts_with("ledger")), "what was lost is not known");
    assert!(!c.design.interleaved && c.design.words.contains("not known"), "{}", c.design.words);
    // Another machine, another tool: only when that is asked for.
    let own = crate::compare::sample::record(&a, &a);
    assert!(records(of("a", &own), of("b", &y), &gate, CompareOptions::default()).is_err());
}

#[test]
fn an_interval_log_is_read_in_the_unit_that_is_said() {
    let mut h = hdrhistogram::Histogram::<u64>::new(3).unwrap();
    (1..=10_000u64).for_each(|v| h.record(v).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let store = crate::record::Store { dir: dir.path().into() };
    let log = ["", "slow"].map(|tag| crate::record::TaggedInterval {
        tag: if tag.is_empty() { "x".into() } else { tag.into() },
        start_s: 0.0,
        length_s: 5.0,
        histogram: crate::record::Packed::of(&h),
    });
    let name = store.write_hlog("a", &log, std::time::SystemTime::now()).unwrap();
    let bytes = std::fs::read(dir.path().join(name)).unwrap();
    let r = read("a.hlog", &bytes, Some(LogUnit::Micros)).unwrap();
    let t = &r.trials[0];
    assert_eq!(t.workloads.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["slow", "x"]);
    let p50 = t.workloads[0].latency["e2e.service"].at(0.5).unwrap().value_ns.unwrap();
    assert!((4_990_000..5_020_000).contains(&p50), "{p50}");
    assert_eq!(t.workloads[0].throughput.delivered, 2_000.0);
    assert!(t.validity[0].observed.contains("microseconds, as was said"), "{}", t.validity[0].observed);
}

#[test]
fn what_it_is_not_is_said() {
    assert_eq!(read("x", b"{}", None), Err(ForeignError::Unknown));
    assert_eq!(read("x", b"", None), Err(ForeignError::Unknown));
    assert_eq!(read("x", b"hello", None), Err(ForeignError::Unknown));
    let bad = read("x", b"Tag=a,0.0,1.0,2.0,!!!\n", None).unwrap_err();
    assert!(matches!(bad, ForeignError::Unknown | ForeignError::Format { .. }), "{bad}");
    let half = br#"{"publishRate": [1], "aggregatedEndToEndLatency50pct": "fast"}"#;
    assert!(matches!(read("x", half, None), Err(ForeignError::Format { .. })));
}

/// A file of `tests/foreign`.
fn file(name: &str) -> Vec<u8> {
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(name)).unwrap()
}

fn latency<'a>(r: &'a Record, kind: &str) -> &'a LatencySummary {
    &r.trials[0].workloads[0].latency[kind]
}

/// What the library's own tests expect of its own old logs (HistogramLogReaderWriterTest).
#[test]
fn logs_of_the_encodings_v0_and_v1_are_read() {
    for (name, intervals, count, p999, max) in [
        ("jHiccup-2.0.1.logV0.hlog", 81, 61_256, 1_510_998_015u64, 1_569_718_271u64),
        ("jHiccup-2.0.6.logV1.hlog", 88, 65_964, 1_829_765_119, 1_888_485_375),
    ] {
        let bytes = file(name);
        let log = crate::record::hlog::read(&bytes).unwrap();
        // They add the two digits of the log up with three.
        let mut all = hdrhistogram::Histogram::<u64>::new(3).unwrap();
        log.iter().for_each(|i| all.add(i.histogram.open()).unwrap());
        assert_eq!((log.len(), all.len()), (intervals, count), "{name}");
        assert_eq!((all.value_at_quantile(0.999), all.max()), (p999, max), "{name}");
        let r = read(name, &bytes, None).unwrap();
        assert_eq!(latency(&r, "e2e.service").count, count);
    }
}

/// Logs as real programs wrote them: without a last line feed, with blank lines, with whole
/// seconds.
#[test]
fn interval_logs_of_real_users_are_read() {
    for (name, intervals, seconds) in
        [("no-final-newline.hlog", 62, 62.0), ("blank.hlog", 3, 3.0), ("int-times.hlog", 6, 6.0)]
    {
        let bytes = file(name);
        let log = crate::record::hlog::read(&bytes).unwrap();
        let count: u64 = log.iter().map(|i| i.histogram.open().len()).sum();
        assert_eq!(log.len(), intervals, "{name}");
        let r = read(name, &bytes, Some(LogUnit::Nanos)).unwrap();
        assert_eq!(latency(&r, "e2e.service").count, count);
        let rate = r.trials[0].workloads[0].throughput.delivered;
        assert!((rate * seconds / count as f64 - 1.0).abs() < 0.05, "{name}: {rate}/s");
        for changed in [
            bytes.iter().flat_map(|b| if *b == b'\n' { vec![b'\r', b'\n'] } else { vec![*b] }).collect(),
            [b"\xef\xbb\xbf".to_vec(), bytes.clone()].concat(),
        ] {
            assert_eq!(latency(&read(name, &changed, None).unwrap(), "e2e.service"), latency(&r, "e2e.service"));
        }
    }
}

const LINE: &str =
    "HISTFAAAAEV42pNpmSzMwMCgyAABTBDKT4GBgdnNYMcCBvsPEBEJISEuATEZMQ4uASkhIR4nrxg9v2lMaxhvMekILGZkKmcCAEf2CsI=";

#[test]
fn comments_and_tags_say_what_values_are() {
    let log = |lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(|l| l.replace("HISTOGRAM", LINE)).collect();
        lines.join("\n")
    };
    let p99 = |text: &str, unit| {
        read("x.hlog", text.as_bytes(), unit).map(|r| latency(&r, "e2e.service").at(0.99).unwrap().value_ns.unwrap())
    };
    let nanos = p99(&log(&["0,1,2,HISTOGRAM"]), None).unwrap();
    for (comment, factor) in [("#UNITS: us", 1e3), ("#[Units = milliseconds]", 1e6), ("# unit ns", 1.0)] {
        let found = p99(&log(&[comment, "0,1,2,HISTOGRAM"]), None).unwrap();
        assert!((found as f64 / nanos as f64 / factor - 1.0).abs() < 0.01, "{comment}: {found}");
    }
    let said = p99(&log(&["0,1,2,HISTOGRAM", "#UNITS: us"]), Some(LogUnit::Nanos)).unwrap_err().to_string();
    assert!(said.contains("line 2 says that its values are microseconds"), "{said}");
    let said = p99(&log(&["#UNITS fortnights", "0,1,2,HISTOGRAM"]), None).unwrap_err().to_string();
    assert!(said.contains("line 1") && said.contains("fortnights"), "{said}");
    let text = log(&[
        "Tag=WRITE-rt,0,1,2,HISTOGRAM",
        "Tag=WRITE-st,0,1,2,HISTOGRAM",
        "Tag=WRITE-wt,0,1,2,HISTOGRAM",
        "Tag=READ-st,0,1,2,HISTOGRAM",
    ]);
    let r = read("x.hlog", text.as_bytes(), None).unwrap();
    let of = |i: usize| {
        (
            r.trials[0].workloads[i].name.as_str(),
            r.trials[0].workloads[i].latency.keys().map(String::as_str).collect::<Vec<_>>(),
        )
    };
    assert_eq!(of(0), ("READ", vec!["e2e.service"]));
    assert_eq!(of(1), ("WRITE", vec!["e2e", "e2e.service", "lag"]));
    assert!(r.plan.gate.as_ref().unwrap().primary.iter().any(|m| m.to_string() == "e2e.p99"));
    // No length, no rate: a rate of nothing is not compared.
    let r = read("x.hlog", log(&["5,0,2,HISTOGRAM"]).as_bytes(), None).unwrap();
    assert!(r.trials[0].validity[0].observed.contains("no rate is known"), "{:?}", r.trials[0].validity);
    let mut other = r.clone();
    other.trials[0].seed = 1;
    let of = |label, record| NamedRecord { label, record };
    let c = records(of("a", &r), of("b", &other), r.plan.gate.as_ref().unwrap(), CompareOptions::default()).unwrap();
    assert!(c.rows.iter().all(|row| !row.metric.to_string().starts_with("throughput")), "{:?}", c.rows.len());
}

#[test]
fn a_fork_says_how_long_its_samples_are() {
    let bytes = file("omb-forks-samples-1s.json");
    let r = read("fork.json", &bytes, None).unwrap();
    assert_eq!(latency(&r, "e2e.service").count, 30_000);
    assert_eq!((r.trials[0].workloads[0].ledger.sent, r.plan.cases[0].phases.measure), (30_000, Span::secs(30)));
    let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let with = |json: &serde_json::Value| read("fork.json", &serde_json::to_vec(json).unwrap(), None).unwrap();
    // Without it the counts say so, and without these it is not known.
    json.as_object_mut().unwrap().remove("sampleRateMillis");
    assert_eq!(latency(&with(&json), "e2e.service").count, 30_000);
    json["publishFailed"][3] = 7.into();
    json["totalConsumerErrors"] = 2.into();
    let observed = &with(&json).trials[0].validity[0].observed;
    assert!(observed.contains("publishFailed is not zero in 1 intervals"), "{observed}");
    assert!(observed.contains("totalConsumerErrors is 2"), "{observed}");
    json.as_object_mut().unwrap().remove("sent");
    assert!(with(&json).trials[0].validity[0].observed.contains("taken for 10 s long"));
}

/// 9.9k/s sent and 8.5k/s received is overload, and every output says so.
#[test]
fn a_backlog_that_grows_is_overload_in_every_output() {
    use crate::report::export::{csv, github, junit};
    use crate::report::pages::comparison::{html, markdown, text};
    let growing = read("growing.json", &file("omb-growing-backlog.json"), None).unwrap();
    let check = growing.trials[0].validity.iter().find(|c| c.id == "V3").unwrap();
    assert!(check.status == Status::Invalid && check.message.starts_with("OVERLOADED"), "{check:?}");
    assert!(check.observed.starts_with("10018/s sent and 8515/s received: the backlog grew"), "{check:?}");
    let mut steady = growing.clone();
    steady.trials[0].seed = 1;
    steady.trials[0].validity.retain(|c| c.id != "V3");
    let gate = growing.plan.gate.clone().unwrap();
    let loaded = |record: &Record| crate::record::Loaded { record: record.clone(), intervals: Vec::new() };
    let mixed = pool(vec![loaded(&steady), loaded(&growing)]).unwrap().record;
    let mut calm = steady.clone();
    calm.trials[0].seed = 2;
    // Beside another result, beside itself, and as one of several runs of which others count.
    for (a, b, exit_code) in [(&steady, &growing, 4), (&growing, &growing, 4), (&calm, &mixed, 0)] {
        let named = [NamedRecord { label: "first", record: a }, NamedRecord { label: "second", record: b }];
        let c = records(named[0], named[1], &gate, CompareOptions::default()).unwrap();
        assert_eq!(c.overall.exit_code, exit_code, "{:?}", c.overall);
        let none = |_: &str| None;
        let series =
            [&[][..], &[][..]].map(|intervals| crate::report::charts::series::RunSeries { intervals, read: &none });
        for (format, page) in [
            ("text", text::page(&c)),
            ("markdown", markdown::page(&c)),
            ("html", html::page(&c, &named, &series, "msgbench compare")),
            ("json", serde_json::to_string(&c).unwrap()),
            ("junit", junit::page(&c).unwrap()),
            ("github", github::page(&c)),
            ("csv", csv::page(&c).unwrap()),
        ] {
            assert!(page.contains("10018/s sent and 8515/s received: the backlog grew"), "{format}: {page}");
            assert!(page.contains("OVERLOADED"), "{format}: {page}");
            assert!(page.contains("differences of two times of day"), "the doubts in {format}: {page}");
        }
    }
    // Below ten samples it is seen as well, and where no backlog is told.
    for (rates, backlog, overloaded) in [
        ((1000.0, 900.0), vec![100, 1100, 2100, 3100], true),
        ((1000.0, 900.0), vec![], true),
        ((1000.0, 990.0), vec![], false),
        ((1000.0, 1000.0), vec![5, 3, 8, 2], false),
        // Several subscriptions receive more than is sent.
        ((1000.0, 4000.0), vec![], false),
    ] {
        let mut json: serde_json::Value = serde_json::from_slice(&file("omb-forks-samples-1s.json")).unwrap();
        json["publishRate"] = vec![rates.0; 4].into();
        json["consumeRate"] = vec![rates.1; 4].into();
        json["backlog"] = backlog.clone().into();
        let r = read("x", &serde_json::to_vec(&json).unwrap(), None).unwrap();
        assert_eq!(r.trials[0].validity.iter().any(|c| c.id == "V3"), overloaded, "{rates:?} {backlog:?}");
    }
}

/// What is wrong is one sentence with line and key.
#[test]
fn mistakes_are_told_with_line_and_key() {
    let good = String::from_utf8(file("omb-growing-backlog.json")).unwrap();
    assert!(
        read("x", format!("\u{feff}{}", good.replace('\n', "\r\n")).as_bytes(), None).is_ok(),
        "marks and line ends"
    );
    let line = |text: &str, key: &str| text[..text.find(&format!("\"{key}\"")).unwrap()].matches('\n').count() + 1;
    for (from, to, key, why) in [
        ("\"messageSize\": 100", "\"messageSize\": -100", "messageSize", "is -100"),
        ("\"messageSize\": 100", "\"messageSize\": 10.5", "messageSize", "whole number"),
        ("\"messageSize\": 100", "\"messageSize\": NaN", "messageSize", "`NaN` is no number of JSON"),
        ("\"messageSize\": 100", "\"messageSize\": -Infinity", "messageSize", "no number of JSON"),
        ("\"topics\": 1", "\"topics\": 1e300", "topics", "must be a number"),
        ("10246.078481669669", "-5", "publishRate", "at place 1 is -5"),
        ("10246.078481669669", "\"fast\"", "publishRate", "at place 1 is"),
        (
            "\"aggregatedEndToEndLatency99pct\": 13.0",
            "\"aggregatedEndToEndLatency99pct\": \"NaN\"",
            "aggregatedEndToEndLatency99pct",
            "NaN",
        ),
        (
            "\"aggregatedEndToEndLatency99pct\": 13.0",
            "\"aggregatedEndToEndLatency99pct\": 1.0",
            "aggregatedEndToEndLatency99pct",
            "below a lower",
        ),
        ("\"driver\": \"", "\"driver\": 7, \"x\": \"", "driver", "must be a text"),
    ] {
        assert!(good.contains(from), "{from}");
        let text = good.replacen(from, to, 1);
        let said = read("x", text.as_bytes(), None).unwrap_err().to_string();
        assert!(said.contains(&format!("line {}", line(&text, key))) && said.contains(key), "{from}: {said}");
        assert!(said.contains(why) && !said.contains('\n') && said.len() < 300, "{from}: {said}");
    }
    for bytes in [&b"hello, world"[..], b"[1, 2]", b"{\"a\": 1}", b"\x89PNG\r\n", b"a,b,c,d\n1,2,3,4\n", b"<xml/>"] {
        let said = read("x", bytes, None).unwrap_err().to_string();
        for known in ["run.json", "OpenMessaging", "interval log"] {
            assert!(said.contains(known), "{said}");
        }
    }
}

mod any_bytes {
    use super::*;
    use proptest::prelude::*;

    /// A result, or one sentence.
    fn answered(bytes: &[u8]) -> Result<(), TestCaseError> {
        match read("x", bytes, None) {
            Ok(r) => {
                // What was read can be compared and written.
                let mut other = r.clone();
                other.trials[0].seed = 1;
                let gate = r.plan.gate.clone().unwrap();
                let of = |label, record| NamedRecord { label, record };
                let c = records(of("a", &r), of("b", &other), &gate, CompareOptions::default()).unwrap();
                prop_assert!(serde_json::to_string(&c).is_ok() && serde_json::to_string(&r).is_ok());
            }
            Err(e) => {
                let said = e.to_string();
                prop_assert!(!said.is_empty() && !said.contains('\n') && said.chars().count() < 420, "{said}");
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn random(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            answered(&bytes)?;
        }

        /// Real files, cut, with bytes changed, with a value put in the place of a number.
        #[test]
        fn damaged(which in 0usize..6, cut in 0.0f64..1.2, at in prop::collection::vec((0.0f64..1.0, any::<u8>()), 0..4), word in 0usize..9) {
            let names = ["blank.hlog", "int-times.hlog", "omb-forks-samples-1s.json", "omb-growing-backlog.json", "jHiccup-2.0.6.logV1.hlog", "no-final-newline.hlog"];
            let mut bytes = file(names[which]);
            bytes.truncate(3_000);
            bytes.truncate((bytes.len() as f64 * cut) as usize);
            for (i, (place, byte)) in at.iter().enumerate() {
                if bytes.is_empty() { break }
                let place = (bytes.len() as f64 * place) as usize;
                let words = ["NaN", "-1", "1e999", "null", "-0.0", "9223372036854775808", "\u{feff}", "\r\n", ","];
                match i {
                    0 => { bytes.splice(place..place, words[word].bytes()); }
                    _ => bytes[place] = *byte,
                }
            }
            answered(&bytes)?;
        }
    }
}
