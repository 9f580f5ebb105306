//! Clients are placed by the labels of agents, and a run goes on without as many agents as it may
//! lose.

use serde_json::Value;

use crate::owed;
use crate::support::{Bench, Control, Listener, Process, came, check, labelled, record, states, trial, words};

/// Three producers and two consumers, for so many seconds.
fn bench(seconds: f64) -> Bench {
    Bench::new("pattern = \"m-to-n\"\nproducers = 3\nconsumers = 2\nload.rate = \"1500/s\"", seconds)
}

fn count(agent: &Value, key: &str) -> u64 {
    agent[key].as_u64().unwrap()
}

#[test]
fn producers_run_on_one_label_and_consumers_on_another() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let all =
        [("a0", "zone=b"), ("a1", "zone=a"), ("a2", "zone=c"), ("a3", "zone=b"), ("a4", "zone=a"), ("a5", "zone=a")];
    let _agents: Vec<Process> =
        all.iter().map(|(name, label)| labelled(&control.url, name, label, spool.path())).collect();
    let bench = bench(1.5);
    let labels = "labels = { \"zone=a\" = 3, \"zone=b\" = 2 }";
    bench.add(&format!(
        "[agents]\ncontrol = \"{}\"\npublish = \"zone=a\"\nconsume = \"zone=b\"\n{labels}\n",
        control.url
    ));
    let alone = trial(&bench.run(&["--agents", "0"]));
    assert!(alone["agents"].is_null(), "this process runs the load");
    let output = bench.run(&[]);
    let together = trial(&output);
    assert_eq!(together["outcome"]["status"], "complete", "{}", words(&output));
    assert_eq!(owed(&together), owed(&alone));
    assert!(owed(&alone)[0] > 1000 && owed(&alone)[4] == 0, "{:?}", owed(&alone));
    let parts = together["agents"].as_array().unwrap();
    let who: Vec<(&str, &str)> =
        parts.iter().map(|a| (a["name"].as_str().unwrap(), a["labels"]["zone"].as_str().unwrap())).collect();
    assert_eq!(who, [("a1", "a"), ("a4", "a"), ("a5", "a"), ("a0", "b"), ("a3", "b")]);
    for part in parts {
        let (publishes, zone) = (part["labels"]["zone"] == "a", &part["name"]);
        let clients = (count(part, "producers"), count(part, "consumers"));
        assert_eq!(clients, if publishes { (1, 0) } else { (0, 1) }, "{zone}");
        let (sent, received) = (count(part, "sent"), count(part, "received"));
        let third = owed(&alone)[1] / 3;
        assert!(
            if publishes { sent.abs_diff(third) <= 1 && received == 0 } else { sent == 0 && received > 0 },
            "{zone}"
        );
    }
}

#[test]
fn a_label_that_too_few_agents_have_is_named() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let _agents = ["a0", "a1", "a2"].map(|name| labelled(&control.url, name, "zone=a", spool.path()));
    let bench = bench(1.0);
    bench.add("[agents]\ncount = 2\npublish = \"zone=a\"\nconsume = \"zone=b\"\n");
    let output = bench.command(&["--control", &control.url, "--agents-wait", "3s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    assert!(words(&output).contains("with the label zone=b 0 of 1"), "{}", words(&output));
    assert!(words(&output).contains("--label zone=b`"), "{}", words(&output));
    let output = bench.run(&[]);
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    assert!(words(&output).contains("t.toml:") && words(&output).contains("--control nats://"), "{}", words(&output));
}

#[test]
fn a_run_goes_on_without_as_many_agents_as_it_may_lose() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let of = |name: &str, label: &str| labelled(&control.url, name, label, spool.path());
    let mut publishers = ["a0", "a1", "a2"].map(|name| Some(of(name, "zone=a")));
    let _consumer = of("a3", "zone=b");
    let bench = bench(3.0);
    bench.add("[agents]\nmay-lose = 1\npublish = \"zone=a\"\nconsume = \"zone=b\"\nlabels = { \"zone=a\" = 3, \"zone=b\" = 1 }\n");
    let listener = Listener::at(&control.url);
    let run = bench.command(&["--control", &control.url, "--trials", "2"]).spawn().unwrap();
    listener.all_send(3);
    drop(publishers[1].take());
    let output = run.wait_with_output().unwrap();
    let all = record(&output)["trials"].as_array().unwrap().clone();
    assert_eq!(all.len(), 2, "{}", words(&output));
    for it in &all {
        assert_eq!(it["outcome"]["status"], "complete", "{}", words(&output));
        assert_eq!(came(it), ["delivered", "lost", "delivered", "delivered"]);
        let present = check(it, "V19");
        assert_eq!(present["status"], "WARN");
        let observed = present["observed"].as_str().unwrap();
        assert!(observed.contains("66.7 % of the plan offered") && observed.ends_with("a1"), "{observed}");
        // The books are those of the others, and exact; what the lost one owed stands with it.
        let ledger = &it["workloads"][0]["ledger"];
        let [scheduled, sent, expected, delivered, lost, on_way] =
            ["scheduled", "sent", "expected", "delivered", "lost", "in_flight"]
                .map(|key| ledger[key].as_u64().unwrap_or(0));
        assert_eq!((scheduled, sent, expected, delivered, lost, on_way), (3000, 3000, 6000, 6000, 0, 0));
        assert_eq!(it["agents"][1]["scheduled"], 1500);
        assert_eq!(states(it)[1], "lost");
    }
    let infinite = |it: &Value| it["workloads"][0]["latency"]["e2e"]["lost"].as_u64();
    assert!(all.iter().all(|it| infinite(it) == Some(0)), "what a lost agent owed is not +infinity");
}
