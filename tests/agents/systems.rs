//! Systems whose clients depend on each other across agents: members of one group, dead letters,
//! applications between publisher and consumer.

use serde_json::{Value, json};

use crate::needs;
use crate::support::{Bench, Control, Process, agents, came, words};

/// Agents that run one scenario after another.
struct Together {
    control: Control,
    _agents: Vec<Process>,
    _spool: tempfile::TempDir,
    count: u32,
}

impl Together {
    fn of(count: u32) -> Self {
        let (control, spool) = (Control::start(), tempfile::tempdir().unwrap());
        let agents = agents(&control.url, count, spool.path());
        Self { control, _agents: agents, _spool: spool, count }
    }

    /// The trials of a scenario, each complete and with the results of all agents.
    fn trials(&self, bench: &Bench) -> Vec<Value> {
        let output = bench
            .with(&self.control.url, self.count)
            .args(["--set", "run.connect=180s", "--set", "run.drain=120s"])
            .output()
            .unwrap();
        let record: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", words(&output)));
        let trials = record["trials"].as_array().unwrap().clone();
        assert!(!trials.is_empty(), "{}: {}", words(&output), record["skipped"]);
        for it in &trials {
            assert_eq!(it["outcome"]["status"], "complete", "{}: {}", it["outcome"], words(&output));
            assert_eq!(came(it), vec!["delivered"; self.count as usize], "{}", words(&output));
        }
        trials
    }

    /// The only one.
    fn trial(&self, bench: &Bench) -> Value {
        self.trials(bench).remove(0)
    }
}

fn count(of: &Value, key: &str) -> u64 {
    of[key].as_u64().unwrap_or(0)
}

/// The books of the first workload balance: what was owed came once, or is a dead letter.
fn balanced(trial: &Value) -> &Value {
    let ledger = &trial["workloads"][0]["ledger"];
    let (sent, expected) = (count(ledger, "sent"), count(ledger, "expected"));
    assert!(sent > 100 && sent == count(ledger, "scheduled") && expected >= sent, "{}: {ledger}", trial["case"]);
    assert_eq!(count(ledger, "delivered") + count(ledger, "dead_lettered"), expected, "{}: {ledger}", trial["case"]);
    for fault in ["lost", "duplicated", "corrupted", "foreign", "refused", "in_flight"] {
        assert_eq!(count(ledger, fault), 0, "{}: {fault}: {ledger}", trial["case"]);
    }
    ledger
}

/// What each agent received.
fn received(trial: &Value) -> Vec<u64> {
    trial["agents"].as_array().unwrap().iter().map(|a| count(a, "received")).collect()
}

const GROUP: &str = "pattern = \"queue-group\"\nproducers = 3\nconsumers = 3\nchannels = 6\nload.rate = \"900/s\"\n\
                     delivery = { durable = true }";

/// The members of a group run at one agent each, whoever deals out the partitions, and each has
/// its two.
#[test]
fn the_members_of_a_group_are_dealt_the_partitions_at_several_agents() {
    let fleet = Together::of(3);
    for options in ["", "group-protocol = \"consumer\"", "assignor = \"cooperative-sticky\"", "consumers = \"assign\""]
    {
        let bench = Bench::new(GROUP, 1.5);
        bench.system("reference", &format!("options = {{ kafka = {{ {options} }} }}"));
        let it = fleet.trial(&bench);
        assert_eq!(count(balanced(&it), "expected"), count(balanced(&it), "sent"), "{options}: one of them");
        // On a busy machine some come after the measured phase, and all are in the books.
        assert!(received(&it).iter().all(|n| *n > 0), "{options}: {:?}", received(&it));
    }
}

/// More members than partitions: who has none waits, and all comes through the others.
#[test]
fn members_without_a_partition_do_not_hold_up_the_start() {
    let fleet = Together::of(3);
    let bench = Bench::new(&GROUP.replace("channels = 6", "channels = 2"), 1.5);
    bench.system("reference", "options = { kafka = {} }");
    let it = fleet.trial(&bench);
    balanced(&it);
    assert_eq!(received(&it).iter().filter(|n| **n == 0).count(), 1, "{:?}", received(&it));
}

/// Several groups, of which each has all messages, with members at other agents than their own.
#[test]
fn groups_of_several_members_cross_agents() {
    let fleet = Together::of(2);
    let bench = Bench::new(&GROUP.replace("consumers = 3", "consumers = 5"), 1.5);
    bench.system("reference", "options = { kafka = {} }");
    let it = fleet.trial(&bench);
    balanced(&it);
    assert!(received(&it).iter().all(|n| *n > 0), "{:?}", received(&it));
}

/// A message that is rejected comes again to the member that rejected it, and ends as a dead
/// letter, at whichever agent.
#[test]
fn rejected_messages_come_again_and_end_at_each_agent() {
    let fleet = Together::of(3);
    let rejects = "delivery = { durable = true, reject-every = 20, dead-every = 50, max-deliver = 3 }";
    let mut systems = vec![("reference", "options = { kafka = {} }")];
    if needs::nats_server().is_some() {
        systems.push(("jetstream", ""));
        systems.push(("jetstream", "options = { dead-letters = \"term\" }"));
    }
    for (driver, options) in systems {
        let bench = Bench::new(&GROUP.replace("delivery = { durable = true }", rejects), 1.5);
        bench.system(driver, options);
        let it = fleet.trial(&bench);
        let ledger = balanced(&it);
        let (dead, again) = (count(ledger, "dead_lettered"), count(ledger, "redelivered"));
        assert!(dead >= 24 && again > 0, "{driver} {options}: {ledger}");
        assert!(received(&it).iter().all(|n| *n > 0), "{driver} {options}: {:?}", received(&it));
    }
}

/// Members of Kafka's own groups, of both kinds, with and without rejected messages.
#[test]
fn groups_of_kafka_run_at_several_agents() {
    let Some((_, _)) = needs::system("kafka") else { return };
    let fleet = Together::of(3);
    let rejects = "delivery = { durable = true, reject-every = 20, dead-every = 50, max-deliver = 3 }";
    let bench = Bench::new(&GROUP.replace("delivery = { durable = true }", rejects), 2.0);
    let heap = "broker = { heap = \"384MiB\" }";
    bench.system(
        "kafka",
        &format!(
            "name = \"group\"\noptions = {{ {heap} }}\n[[system]]\nname = \"consumer\"\ndriver = \"kafka\"\n\
             options = {{ group-protocol = \"consumer\", {heap} }}\n[[system]]\nname = \"share\"\ndriver = \"kafka\"\n\
             options = {{ consumers = \"share\", {heap} }}"
        ),
    );
    for it in fleet.trials(&bench) {
        let ledger = balanced(&it);
        assert!(count(ledger, "dead_lettered") >= 30, "{}: {ledger}", it["case"]);
        assert!(received(&it).iter().all(|n| *n > 0), "{}: {:?}", it["case"], received(&it));
    }
}

/// An application between publisher and consumer runs at the coordinator, and dies there in a
/// transaction.
#[test]
fn the_coordinator_kills_a_producer_in_a_transaction() {
    let fleet = Together::of(2);
    let bench = Bench::new("pattern = \"stream\"\nproducers = 2\nload.rate = \"300/s\"", 4.0);
    let raw = "raw = { \"transaction.timeout.ms\" = 3000 }";
    bench.system("reference", &format!("options = {{ kafka = {{ exactly-once = \"transactional\", {raw} }} }}"));
    bench.add("[[event]]\nat = \"1s\"\naction = \"producer-kill\"\n");
    let it = fleet.trial(&bench);
    balanced(&it);
    assert_eq!(it["faults"].as_array().unwrap().len(), 1, "{}", it["faults"]);
    let events = it["events"].to_string();
    for said in ["the producer died in a transaction of ", "another producer took its place"] {
        assert_eq!(events.matches(said).count(), 1, "{said}: {events}");
    }
}

#[test]
fn a_bridge_forwards_at_the_coordinator() {
    let (Some(_), Some(_)) = (needs::nats_server(), needs::system("kafka")) else { return };
    let fleet = Together::of(2);
    let bench = Bench::new("pattern = \"fan-out\"\nproducers = 2\nconsumers = 2\nload.rate = \"400/s\"", 2.0);
    bench.system("bridge", "options = { from = \"jetstream\" }");
    let it = fleet.trial(&bench);
    balanced(&it);
    assert!(received(&it).iter().all(|n| *n > 0), "{:?}", received(&it));
    let latency = it["workloads"][0]["latency"].as_object().unwrap();
    let hops: Vec<&str> = latency.keys().map(String::as_str).filter(|key| key.ends_with("-bridge")).collect();
    assert_eq!(hops, ["e2e.to-bridge"], "when a message left the bridge the agents do not know");
}

#[test]
fn the_null_driver_measures_the_generators_of_all_agents() {
    let fleet = Together::of(2);
    let bench = Bench::new("pattern = \"fan-out\"\nproducers = 2\nload.rate = \"2000/s\"", 1.0);
    bench.system("null", "");
    let it = fleet.trial(&bench);
    let ledger = &it["workloads"][0]["ledger"];
    assert_eq!(["scheduled", "sent", "acked"].map(|key| count(ledger, key)), [2000; 3], "{ledger}");
    assert!(it["agents"].as_array().unwrap().iter().all(|a| count(a, "sent") == 1000));
}

/// Keys are got while others put them, and clients that come and go do so from each agent.
#[test]
fn gets_and_clients_that_come_and_go_are_divided() {
    let Some((_, _)) = needs::nats_server() else { return };
    let fleet = Together::of(2);
    let keys = "delivery = { keys = { uniform = 20 }, history = 1 }";
    let workload = format!("pattern = \"key-value\"\nproducers = 2\nconsumers = 2\nload.rate = \"400/s\"\n{keys}");
    let bench = Bench::new(&workload, 1.5);
    bench.system("jetstream", "");
    bench.add("[[workload]]\nname = \"get\"\npattern = \"request-reply\"\ntarget = { bucket = \"key-value\" }\nload.rate = \"300/s\"\n");
    let it = fleet.trial(&bench);
    let get = &it["workloads"][1]["ledger"];
    assert_eq!(["scheduled", "sent", "delivered"].map(|key| count(get, key)), [450; 3], "{get}");
    assert_eq!((count(get, "lost"), count(get, "duplicated")), (0, 0), "{get}");
    for (driver, line) in [("jetstream", ""), ("nats", "options = { client = \"wire\" }"), ("reference", "")] {
        let bench = Bench::new("pattern = \"connect\"\nproducers = 2\nload.rate = \"100/s\"", 1.5);
        bench.system(driver, line);
        let it = fleet.trial(&bench);
        let ledger = &it["workloads"][0]["ledger"];
        assert_eq!((&ledger["sent"], &ledger["lost"]), (&json!(150), &json!(0)), "{driver}: {ledger}");
        let sent: Vec<u64> = it["agents"].as_array().unwrap().iter().map(|a| count(a, "sent")).collect();
        assert_eq!(sent, [75, 75], "{driver}");
    }
}

/// Whom a priority group serves is one client, at whichever agent it is.
#[test]
fn a_priority_group_has_its_members_at_several_agents() {
    let Some((_, _)) = needs::nats_server() else { return };
    let fleet = Together::of(3);
    for (policy, one) in
        [("priority-policy = \"pinned-client\"", true), ("priority-policy = \"overflow\", min-pending = 1", false)]
    {
        let bench = Bench::new(GROUP, 1.5);
        bench.system("jetstream", &format!("options = {{ consumer = \"pull\", {policy} }}"));
        let it = fleet.trial(&bench);
        balanced(&it);
        let served = received(&it).iter().filter(|n| **n > 0).count();
        assert!(if one { served == 1 } else { served > 0 }, "{policy}: {:?}", received(&it));
    }
}
