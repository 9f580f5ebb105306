//! The proof through a broker that is not ours: a real nats-server that the kernel stops, and a
//! network that is slower by a known time. Margins are those of a test machine: what the hiccup
//! meter saw, and the spread of what is not delayed.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::proxy::Proxy;
use super::server::Server;
use super::{record, run, words};

fn quantile(latency: &Value, quantile: f64) -> f64 {
    let all = latency["percentiles"].as_array().unwrap();
    let one = all.iter().find(|p| (p["quantile"].as_f64().unwrap() - quantile).abs() < 1e-9).unwrap();
    one["value_ns"].as_f64().unwrap_or(f64::INFINITY)
}

/// stats.md C2: a freeze of length S in a run of length T at a load near zero gives q_p = S - T
/// (1 - p) above the knee.
#[test]
fn a_nats_server_that_stands_still_is_in_the_percentiles() {
    if super::needs::nats_server().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let text = "name = \"stall\"\nquestion = \"Is a stopped nats-server in the percentiles?\"\n[[system]]\ndriver = \"nats\"\n\
        [[workload]]\nname = \"open\"\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"1k/s\"\n\
        [[workload]]\nname = \"closed\"\npattern = \"request-reply\"\nload = { mode = \"closed\", think = \"1ms\" }\n\
        [[event]]\nat = \"3s\"\naction = \"pause\"\n[[event]]\nat = \"3500ms\"\naction = \"resume\"\n\
        [run]\nwarmup = \"500ms\"\nduration = \"10s\"\ntrials = 1\npercentiles = [0.5, 0.99, 0.995, 0.999]\n";
    let output = run(dir.path(), text, &["--format", "record"]);
    let trial = record(&output)["trials"][0].clone();
    assert_eq!(trial["outcome"]["status"], "complete", "{} {}", trial["outcome"], words(&output));
    let at: Vec<f64> = trial["events"].as_array().unwrap().iter().map(|e| e["at_s"].as_f64().unwrap()).collect();
    let stall = (at[1] - at[0]) * 1e9;
    assert!(stall > 0.4e9, "{}", trial["events"]);
    let hiccup = trial["hiccup"]["max_ns"].as_f64().unwrap();
    let open = &trial["workloads"][0];
    assert_eq!(open["ledger"]["lost"], 0);
    for p in [0.99, 0.995, 0.999] {
        let exact = quantile(&open["latency"]["e2e"], 0.5) + stall - 10e9 * (1.0 - p);
        let measured = quantile(&open["latency"]["e2e"], p);
        let margin = 0.03 * exact + 3.0 * hiccup;
        assert!((measured - exact).abs() < margin, "q{p}: measured {measured}, exact {exact}, margin {margin}");
    }
    // The control must be wrong: it has met the stall once, and its p99 does not know of it.
    let closed = &trial["workloads"][1]["latency"]["rtt.service"];
    assert!(closed["max_ns"].as_f64().unwrap() > 0.8 * stall, "{closed}");
    assert!(quantile(closed, 0.99) < 0.25 * stall + hiccup, "{closed}");
}

/// The median of what a slower network delays, less that of what it does not delay, through one
/// proxy in one trial; with half the interquartile range of the latter, ns.
fn recovered(server: &Server, delay: Duration) -> (f64, f64) {
    let target: SocketAddr = server.running.url.trim_start_matches("nats://").parse().unwrap();
    // Workload 0 subscribes to mb.<run>.0.*, its connection is the one that is delayed.
    let proxy = Proxy::start(target, ".0.* ", delay);
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "name = \"delay\"\nquestion = \"Is a slower network what is measured?\"\n\
         [[system]]\ndriver = \"nats\"\nurl = \"nats://{}\"\n\
         [[workload]]\nname = \"hit\"\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"450/s\"\n\
         [[workload]]\nname = \"control\"\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"457/s\"\n\
         [run]\nwarmup = \"500ms\"\nduration = \"4s\"\ntrials = 1\npercentiles = [0.05, 0.25, 0.5, 0.75]\n",
        proxy.address
    );
    let output = run(dir.path(), &text, &["--format", "record"]);
    let trial = record(&output)["trials"][0].clone();
    assert_eq!(trial["outcome"]["status"], "complete", "{} {}", trial["outcome"], words(&output));
    let of = |i: usize, p| quantile(&trial["workloads"][i]["latency"]["e2e"], p);
    let floor = of(0, 0.05) - of(1, 0.5);
    let least = delay.as_nanos() as f64 - (of(1, 0.5) - of(1, 0.05));
    assert!(floor >= least - 50e3, "nothing is faster than its delay: {floor} below {least}");
    (of(0, 0.5) - of(1, 0.5), (of(1, 0.75) - of(1, 0.25)) / 2.0)
}

#[test]
fn a_slower_network_is_recovered_through_a_nats_server() {
    let Some(server) = Server::launch("nats", json!({})) else { return };
    for delay in [Duration::from_millis(1), Duration::from_millis(10)] {
        let exact = delay.as_nanos() as f64;
        let (measured, spread) = recovered(&server, delay);
        // On a quiet host the difference is some 10 us; a busy one adds waits for a core on both
        // sides of the proxy.
        let margin = 0.05 * exact + 200e3 + 3.0 * spread;
        eprintln!(
            "{delay:?}: {:.1} us off, half the interquartile range of the control {:.1} us",
            (measured - exact) / 1e3,
            spread / 1e3
        );
        assert!((measured - exact).abs() < margin, "{delay:?}: measured {measured}, margin {margin}");
    }
}
