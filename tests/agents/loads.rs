//! What else agents can do together: events, loads without a schedule, idle connections, backlogs,
//! what is kept, key-value stores, and clients without rights.

use serde_json::{Value, json};

use crate::needs;
use crate::owed;
use crate::support::{Bench, Control, Listener, Process, agents, came, trial, words};

/// Runs it by so many agents, and gives the trial.
fn together(bench: &Bench, agents_there: u32) -> Value {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let _agents = agents(&control.url, agents_there, spool.path());
    let output = bench.with(&control.url, agents_there).output().unwrap();
    let it = trial(&output);
    assert_eq!(it["outcome"]["status"], "complete", "{}", words(&output));
    assert_eq!(came(&it), vec!["delivered".to_owned(); agents_there as usize], "{}", words(&output));
    it
}

fn ledger<const N: usize>(it: &Value, keys: [&str; N]) -> [u64; N] {
    keys.map(|key| it["workloads"][0]["ledger"][key].as_u64().unwrap_or(0))
}

#[test]
fn the_coordinator_pauses_and_restarts_the_system_and_agents_note_the_outage() {
    let bench = Bench::new("pattern = \"fan-out\"\nconsumers = 2\nload.rate = \"1000/s\"", 5.0);
    bench.add(
        "[outage]\ndeadline = \"100ms\"\n[[event]]\nat = \"1s\"\naction = \"pause\"\nfor = \"600ms\"\n\
         [[event]]\nat = \"3s\"\naction = \"restart\"\n",
    );
    let it = together(&bench, 3);
    let faults = it["faults"].as_array().unwrap();
    let actions: Vec<&str> = faults.iter().map(|f| f["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["pause", "restart"]);
    assert!(faults.iter().all(|f| f["undone_ns"].is_u64()), "{faults:?}");
    let outages = it["workloads"][0]["outages"].as_array().unwrap();
    // Of the whole schedule, not of one agent's part of it; a message that is late waited for the
    // pause or for the server.
    let read = &outages[0]["read"];
    let longest = read["longest_s"].as_f64().unwrap();
    assert!((0.3..3.0).contains(&longest), "{read}");
    assert!(read["due"].as_u64() > Some(2 * 1500), "of both groups, and of all three agents: {read}");
    // How long a restart takes is the machine's matter; that the clients of each agent were cut off
    // is not.
    assert!(outages[1]["disconnects"].as_u64() >= Some(3), "{}", outages[1]["disconnects"]);
    assert_eq!(ledger(&it, ["scheduled"]), [5000]);
}

/// A client that gives up where its server ends is no failure of the agent that has it: it is the
/// coordinator that ends the server, and each agent knows when.
#[test]
fn a_server_that_the_scenario_ends_is_no_failure_of_an_agent() {
    let Some((_, _)) = needs::nats_server() else { return };
    let (control, spool) = (Control::start(), tempfile::tempdir().unwrap());
    let _agents = agents(&control.url, 2, spool.path());
    let bench = Bench::new("pattern = \"fan-out\"\nproducers = 2\nconsumers = 2\nload.rate = \"300/s\"", 1.5);
    bench.system("nats", "options = { client = \"wire\" }");
    bench.add("[[event]]\nat = \"700ms\"\naction = \"kill\"\n");
    let output = bench.with(&control.url, 2).args(["--set", "run.drain=2s"]).output().unwrap();
    let it = trial(&output);
    assert_eq!(it["outcome"]["status"], "complete", "{}", words(&output));
    assert_eq!(came(&it), ["delivered"; 2], "{}", words(&output));
    assert_eq!(it["faults"][0]["action"], "kill", "{}", it["faults"]);
    let [scheduled, delivered] = ledger(&it, ["scheduled", "delivered"]);
    assert!(scheduled == 450 && (1..900).contains(&delivered), "{delivered} of both groups");
}

#[test]
fn a_consumer_that_events_are_about_comes_and_goes_at_its_agent() {
    let bench = Bench::new("pattern = \"queue-group\"\nconsumers = 3\nload.rate = \"900/s\"", 3.0);
    bench.add("[[event]]\nat = \"1s\"\naction = \"consumer-leave\"\nconsumer = 1\n");
    bench.add("[[event]]\nat = \"2s\"\naction = \"consumer-join\"\nconsumer = 1\n");
    let it = together(&bench, 3);
    let changes = it["workloads"][0]["membership"].as_array().unwrap();
    let what: Vec<(&str, u64)> =
        changes.iter().map(|c| (c["action"].as_str().unwrap(), c["consumer"].as_u64().unwrap())).collect();
    assert_eq!(what, [("consumer-leave", 1), ("consumer-join", 1)]);
    let members = |n: usize| -> Vec<u64> {
        changes[n]["members"].as_array().unwrap().iter().map(|m| m["consumer"].as_u64().unwrap()).collect()
    };
    assert!([0, 2].iter().all(|n| members(0).contains(n)), "each runs at another agent: {changes:?}");
    assert_eq!(members(1), [0, 1, 2]);
    let first = changes[0]["members"][0]["first_s"].as_f64().unwrap();
    assert!((0.0..2.0).contains(&first), "in one clock: {first}");
}

#[test]
fn a_load_without_a_schedule_is_that_of_all_agents() {
    let bench = Bench::new("pattern = \"fan-in\"\nproducers = 3\nconsumers = 0\nload.mode = \"unthrottled\"", 1.0);
    let it = together(&bench, 3);
    let sent: Vec<u64> = it["agents"].as_array().unwrap().iter().map(|a| a["sent"].as_u64().unwrap()).collect();
    assert!(sent.iter().all(|n| *n > 0), "{sent:?}");
    assert_eq!([sent.iter().sum::<u64>()], ledger(&it, ["sent"]));
}

/// Sockets that a process has.
fn sockets(process: &Process) -> usize {
    let links = std::fs::read_dir(format!("/proc/{}/fd", process.0.id())).unwrap().flatten();
    let is_socket =
        |path: std::path::PathBuf| std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
    links.filter(|link| is_socket(link.path())).count()
}

#[test]
fn idle_connections_are_divided() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let all = agents(&control.url, 3, spool.path());
    let open = |idle: u32| -> Vec<usize> {
        let bench = Bench::new("pattern = \"m-to-n\"\nproducers = 3\nconsumers = 3\nload.rate = \"300/s\"", 2.0);
        let listener = Listener::at(&control.url);
        let set = format!("workload.idle-connections={idle}");
        let run = bench.with(&control.url, 3).args(["--set", &set]).spawn().unwrap();
        listener.all_send(3);
        let open = all.iter().map(sockets).collect();
        let output = run.wait_with_output().unwrap();
        assert_eq!(trial(&output)["outcome"]["status"], "complete", "{}", words(&output));
        open
    };
    // The thread that keeps them has sockets of its own.
    let (without, with) = (open(3), open(23));
    let more: Vec<usize> = with.iter().zip(&without).map(|(a, b)| a - b).collect();
    assert_eq!(more, [7, 7, 6]);
}

/// A workload of a stream at the reference broker.
fn streams(workload: &str, seconds: f64) -> Bench {
    let bench = Bench::new(workload, seconds);
    bench.system("reference", "options = { stored-by = \"streams\" }");
    bench
}

#[test]
fn what_is_kept_is_looked_at_when_all_have_sent() {
    let Some((_, _)) = needs::nats_server() else { return };
    let workload = "pattern = \"stream\"\nproducers = 3\nconsumers = 0\nload.rate = \"1500/s\"\n\
                    delivery.keep = { messages = 500 }";
    let bench = Bench::new(workload, 1.5);
    bench.system("jetstream", "");
    let it = together(&bench, 3);
    let kept = &it["workloads"][0]["kept"];
    assert_eq!((&kept["holds"], &kept["missing"]), (&json!(true), &json!(0)), "{kept}");
    assert!(kept["owed"].as_u64() > Some(334), "of all three agents: {kept}");
}

#[test]
fn a_backlog_is_stored_once_and_read_while_all_publish() {
    let workload = "pattern = \"replay\"\nproducers = 3\nconsumers = 2\nload.rate = \"900/s\"\n\
                    delivery = { backlog = 3000, replay-after = \"300ms\" }";
    let bench = streams(workload, 2.0);
    let alone = trial(&bench.run(&[]));
    let (control, spool) = (Control::start(), tempfile::tempdir().unwrap());
    let _agents = agents(&control.url, 3, spool.path());
    let listener = Listener::at(&control.url);
    let (run, system) = listener.begun(|| bench.with(&control.url, 3).spawn().unwrap());
    listener.all_send(3);
    // All of it is there before anything is published.
    let stored = Listener::at(&system).stored_in_streams();
    assert!((3000..=3000 + 1980).contains(&stored), "one agent stores the backlog, and not each: {stored}");
    let output = run.wait_with_output().unwrap();
    let it = trial(&output);
    assert_eq!((it["outcome"]["status"].as_str(), came(&it).len()), (Some("complete"), 3), "{}", words(&output));
    assert_eq!(owed(&it), owed(&alone));
    assert_eq!(ledger(&it, ["lost", "duplicated", "foreign"]), [0, 0, 0]);
    let replay = &it["workloads"][0]["replay"];
    assert_eq!((&replay["backlog"], &replay["delivered"]), (&json!(3000), &json!(3000)), "{replay}");
    let begun = replay["begun_s"].as_f64().unwrap();
    assert!((0.25..10.0).contains(&begun), "in one clock: {begun}");
    let latency = it["workloads"][0]["latency"].as_object().unwrap();
    assert!(latency.keys().any(|key| key.ends_with("-replay")), "{:?}", latency.keys());
}

#[test]
fn watchers_at_other_agents_see_each_update() {
    let Some((_, _)) = needs::nats_server() else { return };
    let workload = "pattern = \"key-value\"\nproducers = 2\nconsumers = 3\nload.rate = \"600/s\"\n\
                    delivery = { keys = { uniform = 5 }, history = 1 }";
    let bench = Bench::new(workload, 1.5);
    bench.system("jetstream", "");
    let it = together(&bench, 2);
    let [scheduled, sent, lost, delivered, superseded] =
        ledger(&it, ["scheduled", "sent", "lost", "delivered", "superseded"]);
    assert_eq!((scheduled, sent, lost), (900, 900, 0));
    assert_eq!(delivered + superseded, 3 * 900);
}

#[test]
fn who_has_no_right_gets_in_at_no_agent() {
    let Some((_, _)) = needs::nats_server() else { return };
    let bench = Bench::new("pattern = \"fan-out\"\nconsumers = 2\nload.rate = \"400/s\"\nintruders = 2", 1.5);
    bench.system("nats", "options = { auth = \"password\", permissions = true }");
    let it = together(&bench, 2);
    let [tries, refused, let_in, foreign] = ledger(&it, ["intrusions", "intrusions_refused", "let_in", "foreign"]);
    assert!(tries > 4 && refused == tries && let_in == 0 && foreign == 0, "{tries} tries, {refused} refused");
    let promised = it["workloads"][0]["promises"].as_array().unwrap();
    assert!(promised.iter().any(|p| p["promised"] == "intruders stay out" && p["kept"] == true), "{promised:?}");
    // Of more than four tries one agent has made the third, which is with a password.
    let who: Vec<&str> =
        it["workloads"][0]["intrusions"].as_array().unwrap().iter().map(|i| i["who"].as_str().unwrap()).collect();
    assert!(who.contains(&"with a wrong password"), "each agent knows who is not to get in: {who:?}");
}

#[test]
fn the_members_of_a_group_of_redis_run_at_several_agents() {
    let Some((_, _)) = needs::system("redis") else { return };
    let workload = "pattern = \"queue-group\"\nproducers = 3\nconsumers = 3\nload.rate = \"900/s\"\n\
                    delivery = { durable = true, dead-every = 50, max-deliver = 2 }";
    let bench = Bench::new(workload, 1.5);
    // A message that its reader has had for so long without an acknowledgement is another's: a busy
    // machine lets it wait for a processor.
    bench.system("redis", "options = { claim-after = \"1s\" }");
    let alone = trial(&bench.run(&[]));
    let it = together(&bench, 3);
    assert_eq!(owed(&it), owed(&alone));
    let [lost, dead, duplicated] = ledger(&it, ["lost", "dead_lettered", "duplicated"]);
    assert!(lost == 0 && duplicated == 0 && dead >= 24, "{lost} lost, {duplicated} duplicated, {dead} dead letters");
    let received: Vec<u64> = it["agents"].as_array().unwrap().iter().map(|a| a["received"].as_u64().unwrap()).collect();
    assert!(received.iter().all(|n| *n > 0), "{received:?}");
}
