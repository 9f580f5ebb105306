//! Brokers that msgbench starts: one, three, with a login; what becomes of them when they or
//! msgbench are killed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use msgbench::driver::{Consumer, Driver, Start};
use serde_json::json;

use super::support::{BOUND, ConsumerRecorder, launch, numbers, open_in, target_of, there, try_open, turn, workload};

fn gone(pid: u32) -> bool {
    let deadline = Instant::now() + BOUND;
    let alive = || {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
    };
    while alive() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    !alive()
}

#[test]
fn three_brokers_replicate_three_times() {
    if !there() {
        return;
    }
    let mut cluster = launch(json!({ "broker": { "nodes": 3, "heap": "256MiB" } }));
    assert_eq!(cluster.running.pids.len(), 3);
    assert_eq!(cluster.running.settings["java heap"], "256MiB");
    assert!(cluster.running.settings["version"].starts_with("Apache Kafka "));
    for pid in &cluster.running.pids {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        assert!(line.contains("kafka.Kafka") && line.contains(&format!("-Xmx{}", 256 << 20)), "{line}");
    }
    let bench = open_in(&cluster.running, json!({}), &workload(3, 1, 1));
    for (key, value) in [("brokers", "3"), ("replicas", "3"), ("in-sync replicas", "3"), ("partitions", "3")] {
        assert_eq!(bench.guarantee(key), value, "{key}");
    }
    assert_eq!(bench.guarantee("acknowledgement"), "by all in-sync replicas, at least 2 (acks=all)");
    let mut consumer = bench.consumer(0, 0, Start::Tail);
    let mut producer = bench.producer(0);
    assert_eq!(bench.send(&mut producer, 0, 0..300, |n| ((n % 3) as u32, None)).acked.len(), 300);
    assert_eq!(numbers(&bench.receive(&mut consumer, 300)), (0..300).collect::<Vec<_>>());
    bench.close(producer);
    drop(consumer);
    bench.cleanup();
    cluster.system.stop().unwrap();
    assert!(cluster.running.pids.iter().all(|pid| gone(*pid)));
}

#[test]
fn a_login_lets_the_right_password_in_and_says_what_is_wrong_with_another() {
    if !there() {
        return;
    }
    // Whatever else Kafka can be told reaches the broker, and the topic.
    let properties = json!({ "log.retention.ms": 7_200_000, "quota.window.num": 7 });
    let broker = launch(json!({ "broker": { "sasl": "PLAIN", "heap": "256MiB", "properties": properties } }));
    let topic = json!({ "topic": { "segment.bytes": 2_097_152 } });
    let bench = open_in(&broker.running, topic, &workload(1, 1, 1));
    assert_eq!(bench.guarantee("topic retention.ms"), "7200000");
    assert_eq!(bench.guarantee("topic segment.bytes"), "2097152");
    assert_eq!(broker.running.settings["broker quota.window.num"], "7");
    let mut consumer = bench.consumer(0, 0, Start::Tail);
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..10, |_| (0, None));
    assert_eq!(bench.receive(&mut consumer, 10).len(), 10);
    bench.close(producer);
    drop(consumer);
    bench.cleanup();
    assert_eq!(broker.running.settings["sasl"], "PLAIN");
    let wrong = json!({ "sasl": { "user": "msgbench", "password": "wrong" } });
    let mut to = target_of(&broker.running, &wrong);
    to.timeout = 4 * BOUND;
    let begun = Instant::now();
    let told = try_open(to, &workload(1, 1, 1)).err().unwrap().to_string();
    assert!(told.starts_with("cannot connect to kafka://127.0.0.1:"), "{told}");
    assert!(told.contains("Authentication failed: Invalid username or password"), "{told}");
    assert!(told.contains("has the right credentials") && !told.contains("wrong"), "{told}");
    // What can only fail again is not tried until the bound.
    assert!(begun.elapsed() < 2 * BOUND, "{:?}", begun.elapsed());
}

#[test]
fn a_broker_killed_under_load_ends_the_trial_and_not_the_patience() {
    if !there() {
        return;
    }
    let mut broker = launch(json!({ "broker": { "heap": "256MiB" } }));
    let mut to = target_of(&broker.running, &json!({}));
    to.timeout = Duration::from_secs(10);
    let bench = try_open(to, &workload(1, 1, 1)).unwrap();
    let mut consumer = bench.consumer(0, 0, Start::Tail);
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..10, |_| (0, None));
    assert_eq!(bench.receive(&mut consumer, 10).len(), 10);
    // SAFETY: the process is the broker this test has started, and not yet reaped.
    assert_eq!(unsafe { libc::kill(broker.running.pids[0] as i32, libc::SIGKILL) }, 0);
    let deadline = Instant::now() + BOUND;
    while broker.system.ended().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(broker.system.ended().as_deref(), Some("killed by SIGKILL"));
    // A driver that has no process to watch gives the brokers the bound on a connection to come
    // back.
    let mut collector = ConsumerRecorder { run: bench.run, heard: Vec::new() };
    let lost = bench.runtime.block_on(async {
        loop {
            // The engine's loop looks whether to stop as often.
            match tokio::time::timeout(Duration::from_millis(50), consumer.receive(&mut collector, usize::MAX)).await {
                Ok(Err(error)) => break Some(error.to_string()),
                Ok(Ok(())) => {}
                Err(_) if Instant::now() > deadline => break None,
                Err(_) => {}
            }
        }
    });
    let lost = lost.expect("the consumer gives up within the bound");
    assert!(lost.starts_with("connection to kafka://127.0.0.1:"), "{lost}");
    assert!(lost.contains("all brokers are away for more than 10 s") && lost.contains("refused"), "{lost}");
    assert!(bench.driver.incidents().disconnects_total() > 0);
    broker.system.stop().unwrap();
}

#[test]
fn msgbench_killed_takes_its_broker_with_it() {
    if !there() {
        return;
    }
    let _turn = turn();
    let out = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_msgbench"))
        .args(["run", "scenarios/fanout.toml", "--system", "kafka", "--duration", "60s", "--trials", "1", "--out"])
        .arg(out.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + 2 * BOUND;
    let broker = loop {
        let found = children(child.id()).into_iter().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("kafka.Kafka")
        });
        match found {
            Some(pid) => break pid,
            None => assert!(Instant::now() < deadline, "no broker came up"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(gone(broker), "the broker outlived msgbench");
}

/// The children of a process, from /proc.
fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|n| n.parse().ok()).collect::<Vec<_>>()).collect()
}

#[test]
fn a_run_by_the_program_accounts_for_every_message_and_leaves_nothing() {
    if !there() {
        return;
    }
    let _turn = turn();
    let out = tempfile::tempdir().unwrap();
    let args = [
        "run",
        "scenarios/fanout.toml",
        "--quick",
        "--system",
        "kafka",
        "--rate",
        "1k/s",
        // On a busy machine the first messages take seconds.
        "--set",
        "run.drain=60s",
        "--format",
        "record",
        "--out",
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_msgbench")).args(args).arg(out.path()).output().unwrap();
    let code = output.status.code().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    // 4: a busy machine makes a trial invalid, and says so; the books must balance all the same.
    assert!(code == 0 || code == 4, "{code}: {errors}");
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let trial = &record["trials"][0];
    let ledger = &trial["workloads"][0]["ledger"];
    let count = |key: &str| ledger[key].as_u64().unwrap_or_else(|| panic!("{key} in {ledger}"));
    assert!(count("sent") >= 1900, "{ledger}");
    assert_eq!(count("delivered"), 4 * count("sent"));
    assert_eq!(count("acked"), count("sent"));
    assert_eq!((count("lost"), count("duplicated"), count("reordered")), (0, 0, 0));
    let version = trial["system"]["version"].as_str().unwrap();
    assert!(version.starts_with("Apache Kafka 4"), "{version}");
    assert_eq!(trial["system"]["guarantees"]["delivery"], "at least once");
    assert!(Path::new("scenarios/fanout.toml").exists());
}

/// A client that copies messages takes a broker that is away for what it is: librdkafka tries
/// again, and what was published comes out when the broker is back.
#[test]
fn what_a_client_copies_survives_a_restart_of_the_broker() {
    if !there() {
        return;
    }
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("s.toml");
    let text = "name = \"restarted\"\nquestion = \"Is everything copied when the broker was away?\"\n\
        [[system]]\ndriver = \"kafka\"\n[system.options]\ntransform = \"client\"\nbroker = { heap = \"256MiB\" }\n\
        [[workload]]\npattern = \"stream\"\nload.rate = \"200/s\"\n\
        [[event]]\nat = \"1s\"\naction = \"kill\"\n[[event]]\nat = \"3s\"\naction = \"restart\"\n\
        [run]\nwarmup = \"1s\"\nduration = \"6s\"\nconnect = \"180s\"\ndrain = \"180s\"\ntrials = 1\n\
        percentiles = [0.5, 0.9]\n";
    std::fs::write(&scenario, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_msgbench"))
        .arg("run")
        .arg(&scenario)
        .args(["--format", "record", "--out"])
        .arg(dir.path())
        .output()
        .unwrap();
    let record: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let trial = &record["trials"][0];
    assert_eq!(trial["outcome"]["status"], "complete", "{}", trial["outcome"]);
    assert!(!trial["events"].to_string().contains("the transformer has stopped"), "{}", trial["events"]);
    let ledger = &trial["workloads"][0]["ledger"];
    assert_eq!((&ledger["acked"], &ledger["acked_lost"]), (&ledger["sent"], &0.into()), "{ledger}");
    assert_eq!(ledger["sent"], 1200, "{ledger}");
}

/// One of three brokers stands still for 800 ms: the messages of its partition wait, and those of
/// the others go on.
#[test]
fn acknowledgements_of_a_paused_broker_are_late_and_not_foreign() {
    if !there() {
        return;
    }
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("s.toml");
    let text = "name = \"paused\"\nquestion = \"Is what waits for one broker of three measured?\"\n\
        [[system]]\ndriver = \"kafka\"\n[system.options]\nreplicas = 1\nbroker = { nodes = 3, heap = \"256MiB\" }\n\
        [[workload]]\npattern = \"stream\"\nchannels = 3\nload.rate = \"6k/s\"\n\
        [[event]]\nat = \"2s\"\naction = \"pause\"\nnode = 1\n[[event]]\nat = \"2800ms\"\naction = \"resume\"\nnode = 1\n\
        [run]\nwarmup = \"2s\"\nduration = \"5s\"\ndrain = \"20s\"\ntrials = 1\npercentiles = [0.5, 0.9, 0.99]\n";
    std::fs::write(&scenario, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_msgbench"))
        .arg("run")
        .arg(&scenario)
        .args(["--format", "record", "--out"])
        .arg(dir.path())
        .output()
        .unwrap();
    let record: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let trial = &record["trials"][0];
    assert_eq!(trial["outcome"]["status"], "complete", "{}", trial["outcome"]);
    let ledger = &trial["workloads"][0]["ledger"];
    let count = |key: &str| ledger[key].as_u64().unwrap();
    assert!(count("sent") > 20_000, "{ledger}");
    assert_eq!((count("acked"), count("foreign"), count("lost")), (count("sent"), 0, 0), "{ledger}");
    let ack = &trial["workloads"][0]["latency"]["ack"];
    assert_eq!((ack["count"].as_u64(), ack["lost"].as_u64()), (Some(count("sent")), Some(0)), "{ack}");
    let paused = trial["events"].as_array().unwrap().iter().map(|e| e["at_s"].as_f64().unwrap());
    let stall = paused.clone().fold(0.0, f64::max) - paused.fold(f64::MAX, f64::min);
    let longest = ack["max_ns"].as_f64().unwrap() / 1e9;
    assert!(stall > 0.5 && longest > 0.9 * stall, "paused for {stall} s, the longest acknowledgement took {longest} s");
}
