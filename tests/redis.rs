//! Redis Streams against a real redis-server: every message is accounted for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "common/needs.rs"]
mod needs;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use msgbench::engine::{Register, RunSink, Tick, TrialFiles, run_with};
use msgbench::plan::facts::Durability;
use msgbench::plan::{BringUp, Case, SystemSpec};
use msgbench::record::{Ledger, Outcome, Skipped, Trial};
use msgbench::scenario::{Overrides, parse};
use msgbench::system::SystemContext;

#[derive(Default)]
struct Results(Mutex<Vec<Trial>>);

impl RunSink for Results {
    fn begin(&self, _: &Case, _: u32, _: usize, _: usize) {}
    fn tick(&self, _: Tick) {}
    fn skip(&self, skipped: Skipped) {
        panic!("the system was not measured: {skipped:?}");
    }
    fn trial(&self, files: TrialFiles) -> std::io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(files.trial);
        Ok(())
    }
}

fn text(system: &str, workload: &str) -> String {
    format!(
        "name = \"t\"\nquestion = \"?\"\n[[system]]\ndriver = \"redis\"\nrequire = true\n{system}\n[[workload]]\n{workload}\n\
         [run]\nwarmup = \"200ms\"\nduration = \"1s\"\ndrain = \"20s\"\nconnect = \"30s\"\ntrials = 1\n"
    )
}

/// One trial of a workload.
fn run(system: &str, workload: &str) -> Trial {
    let register = Register::built_in();
    let scenario =
        parse(Path::new("t.toml"), text(system, workload), &Overrides::default(), &register.types()).unwrap();
    let results = Results::default();
    run_with(&scenario.plan, &register, &results).unwrap();
    results.0.into_inner().unwrap_or_else(PoisonError::into_inner).pop().unwrap()
}

fn whole(trial: &Trial) -> &Ledger {
    assert!(matches!(trial.outcome, Outcome::Complete), "{:?}", trial.outcome);
    let w = &trial.workloads[0];
    let broken: Vec<_> = w.promises.iter().filter(|p| !p.kept).collect();
    assert!(broken.is_empty(), "{broken:?} {:?}", w.ledger);
    assert!(w.ledger.sent > 500, "{:?}", w.ledger);
    &w.ledger
}

#[test]
fn streams_fan_out_and_queue_groups_lose_and_double_nothing() {
    let Some(_) = needs::system("redis") else { return };
    for (workload, copies) in [
        ("pattern = \"stream\"\nconsumers = 1\nload.rate = \"5k/s\"", 1),
        ("pattern = \"fan-out\"\nconsumers = 3\nchannels = 2\nload.rate = \"2k/s\"", 3),
        ("pattern = \"queue-group\"\nproducers = 2\nconsumers = 4\nload.rate = \"2k/s\"", 1),
        (
            "pattern = \"stream\"\nconsumers = 1\nchannels = 4\nload.rate = \"2k/s\"\ndelivery.keys = { uniform = 50 }",
            1,
        ),
    ] {
        let trial = run("", workload);
        let l = whole(&trial);
        assert_eq!((l.acked, l.delivered), (l.sent, copies * l.sent), "{workload}: {l:?}");
        assert_eq!((l.lost, l.duplicated, l.corrupted, l.foreign), (0, 0, 0, 0), "{workload}: {l:?}");
    }
}

#[test]
fn what_is_rejected_comes_again_and_becomes_a_dead_letter() {
    let Some(_) = needs::system("redis") else { return };
    let workload = "pattern = \"stream\"\nconsumers = 1\nload.rate = \"1k/s\"\n\
                    [workload.delivery]\nreject-every = 10\ndead-every = 25\nmax-deliver = 3";
    let trial = run("", workload);
    let l = whole(&trial);
    assert!(l.redelivered > 0 && l.dead_lettered > 0, "{l:?}");
    assert_eq!(l.rejected, l.redelivered + 3 * l.dead_lettered, "{l:?}");
    assert_eq!((l.delivered + l.dead_lettered, l.lost, l.duplicated), (l.sent, 0, 0), "{l:?}");
}

#[test]
fn a_backlog_is_replayed_to_its_end() {
    let Some(_) = needs::system("redis") else { return };
    let workload = "pattern = \"replay\"\nload.rate = \"1k/s\"\n[workload.delivery]\nbacklog = 5000";
    let trial = run("", workload);
    whole(&trial);
    let replay = trial.workloads[0].replay.as_ref().unwrap();
    assert_eq!((replay.backlog, replay.delivered), (5000, 5000), "{replay:?}");
}

#[test]
fn durability_is_what_the_server_says() {
    let Some(_) = needs::system("redis") else { return };
    let workload = "pattern = \"stream\"\nconsumers = 1\nload.rate = \"1k/s\"";
    for (options, level) in [
        ("", Durability::Synced),
        ("options = { appendfsync = \"always\" }", Durability::SyncedFirst),
        ("options = { appendonly = false }", Durability::Memory),
        ("options = { config = [\"appendfsync no\"] }", Durability::File),
    ] {
        let trial = run(options, workload);
        assert_eq!(trial.system.promised.durability, level, "{options} {:?}", trial.system.guarantees);
        assert!(trial.system.version.starts_with("Redis "), "{}", trial.system.version);
    }
}

/// A restart in the middle of the measured phase.
const RESTART: &str = "[[event]]\nat = \"500ms\"\naction = \"restart\"";

#[test]
fn after_a_restart_clients_come_back_and_nothing_acknowledged_is_lost() {
    let Some(_) = needs::system("redis") else { return };
    let workload = format!(
        "pattern = \"fan-out\"\nconsumers = 2\nload.rate = \"2k/s\"\ndelivery = {{ durable = true }}\n{RESTART}"
    );
    let trial = run("", &workload);
    let l = comes_back(&trial);
    assert_eq!((l.acked_lost, l.corrupted, l.foreign), (0, 0, 0), "{l:?}");
    // What the socket had taken when the server died may be unanswered: a moment's messages.
    assert!(l.sent - l.acked < l.sent / 4 && l.delivered >= 2 * l.acked, "{l:?}");
}

#[test]
fn what_a_server_without_a_file_forgets_is_counted() {
    let Some(_) = needs::system("redis") else { return };
    let workload = format!("pattern = \"stream\"\nconsumers = 1\nload.rate = \"2k/s\"\n{RESTART}");
    let trial = run("options = { appendonly = false }", &workload);
    let l = comes_back(&trial);
    assert_eq!((l.duplicated, l.corrupted, l.foreign), (0, 0, 0), "{l:?}");
}

fn comes_back(trial: &Trial) -> &Ledger {
    assert!(matches!(trial.outcome, Outcome::Complete), "{:?}", trial.outcome);
    let l = &trial.workloads[0].ledger;
    assert!(trial.events.iter().any(|e| e.text.contains("disconnected")), "{:?}", trial.events);
    assert_eq!(l.delivered + l.lost, l.expected, "{l:?}");
    // Of 1 s, half comes after the restart.
    assert!(l.delivered * 10 > l.expected * 6, "{l:?} {:?}", trial.events);
    l
}

#[test]
fn a_server_that_is_running_is_measured_by_url_and_left_as_it_was() {
    let Some(_) = needs::system("redis") else { return };
    let register = Register::built_in();
    let dir = tempfile::tempdir().unwrap();
    let options = serde_json::json!({ "config": ["requirepass s3cret"] });
    let spec = SystemSpec {
        name: "it".into(),
        driver: "redis".into(),
        bring_up: BringUp::Launch,
        require: true,
        cpus: None,
        options: options.as_object().unwrap().clone(),
    };
    // With a password INFO is refused: that is no answer of the server that was started.
    let short = SystemContext { dir: dir.path().to_owned(), timeout: Duration::from_secs(3), cpus: None };
    let words = register.create(&spec, short).unwrap().start().unwrap_err().to_string();
    assert!(words.contains("NOAUTH"), "{words}");

    let spec = SystemSpec { options: serde_json::Map::new(), ..spec };
    let context = SystemContext { dir: dir.path().to_owned(), timeout: Duration::from_secs(30), cpus: None };
    let mut system = register.create(&spec, context).unwrap();
    let running = system.start().unwrap();
    let url = format!("url = \"{}\"", running.url);
    let trial = run(&url, "pattern = \"stream\"\nconsumers = 1\nload.rate = \"1k/s\"");
    let l = whole(&trial);
    assert_eq!((l.delivered, l.lost), (l.sent, 0));
    let address = running.url.trim_start_matches("redis://").to_owned();
    assert_eq!(keys(&address), ":0\r\n", "streams are left behind");
    system.stop().unwrap();
    let gone = parse(
        Path::new("t.toml"),
        text(&url.replace("redis://", "rediss://"), "pattern = \"stream\""),
        &Overrides::default(),
        &register.types(),
    );
    assert!(gone.unwrap_err().to_string().contains("not by rediss://"));
}

/// What DBSIZE answers.
fn keys(address: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"DBSIZE\r\n").unwrap();
    let mut bytes = [0; 64];
    let n = stream.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..n]).into_owned()
}
