//! Agents whose clocks differ: by how much is known to the kernel.

use serde_json::Value;

use super::needs;
use super::support::{Bench, Control, agent, check, shifted_agent, trial, words};

/// Whether clocks can be shifted here.
fn time_namespaces() -> bool {
    let tried = std::process::Command::new("unshare").args(["--time", "--monotonic", "1", "--fork", "true"]).output();
    match tried {
        Ok(done) if done.status.success() => true,
        tried => {
            let said = tried.map(|done| String::from_utf8_lossy(&done.stderr).trim().to_owned());
            let said = said.unwrap_or_else(|e| e.to_string());
            needs::lack(
                &format!("no time namespace ({said})"),
                "run the tests as root, on a kernel with time namespaces",
            );
            false
        }
    }
}

fn number(of: &Value) -> i128 {
    of.as_i64().map(i128::from).or(of.as_u64().map(i128::from)).unwrap_or_else(|| panic!("{of} is no number"))
}

/// Three agents of three clocks, the third of which is the coordinator's: what is found of them is
/// true, their exchanges with each other agree, and what is left open is in the figures of messages
/// from one to another, and in no other.
#[test]
fn shifted_clocks_are_found_and_what_they_leave_open_is_in_the_figures() {
    if !time_namespaces() {
        return;
    }
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let ahead = [1_000, 250_000, 0];
    let _agents = [0, 1, 2].map(|i| match ahead[i] {
        0 => agent(&control.url, "a2", spool.path()),
        s => shifted_agent(&control.url, &format!("a{i}"), s, spool.path()),
    });
    let bench = Bench::new("pattern = \"m-to-n\"\nproducers = 3\nconsumers = 3\nload.rate = \"600/s\"", 3.0);
    let output = bench.with(&control.url, 3).output().unwrap();
    let it = trial(&output);
    assert_eq!(it["outcome"]["status"], "complete", "{}", words(&output));
    let all = it["agents"].as_array().unwrap();
    let mut bounds = Vec::new();
    for (agent, ahead) in all.iter().zip(ahead) {
        let (offset, bound) = (number(&agent["clock"]["offset_ns"]), number(&agent["clock"]["bound_ns"]));
        let truth = i128::from(ahead) * 1_000_000_000;
        assert!((offset - truth).abs() <= bound, "{}: {offset} of {truth}, +/- {bound}", agent["name"]);
        assert_eq!(bound == 0, ahead == 0, "{agent}");
        bounds.push(bound);
        for peer in agent["peers"].as_array().unwrap() {
            assert!(number(&peer["exchanges"]) > 5 && peer["apart_ns"].is_null(), "{}: {peer}", agent["name"]);
        }
    }
    let pairs: usize = all.iter().map(|a| a["peers"].as_array().unwrap().len()).sum();
    assert_eq!(pairs, 3, "each pair of the three");
    let latency = &it["workloads"][0]["latency"];
    let doubt = number(&latency["e2e"]["clocks"]["bound_ns"]);
    assert!(doubt > 0 && doubt <= bounds[0] + bounds[1], "{doubt} {bounds:?}");
    let count = |kind: &str| number(&latency[kind]["count"]);
    assert_eq!(count("e2e"), 3 * count("e2e.same-agent"), "one of three receivers is at the sender's agent");
    assert!(latency["e2e.same-agent"]["clocks"].is_null() && latency["lag"]["clocks"].is_null());
    assert_ne!(check(&it, "V20")["status"], "INVALID");
    assert!(check(&it, "V20")["observed"].as_str().unwrap().starts_with("off by"));
}
