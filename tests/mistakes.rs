//! What msgbench answers to the mistakes that newcomers make: where, what was meant, what to write.

#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test that cannot go on fails here; helpers need no docs")]

use std::path::Path;
use std::process::Command;

const GOOD: &str = r#"name = "orders"
question = "How late are orders?"

[[system]]
driver = "nats"

[[workload]]
pattern = "fan-out"
load.rate = "1k/s"
"#;

const STREAM: &str = r#"name = "orders"
question = "How late are orders?"

[[system]]
driver = "kafka"
options = { linger = "5ms" }

[[workload]]
pattern = "stream"
load.rate = "1k/s"
"#;

/// What msgbench writes, in a folder of its own.
fn answer(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_msgbench"));
    command.current_dir(folder).args(arguments).env("MSGBENCH_CERTIFICATE", "").env_remove("MSGBENCH_KAFKA_HOME");
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.code().unwrap(), text.trim_end().to_owned())
}

/// What `check` says, and that `run` says the same before it connects to anything.
fn refused(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("orders.toml"), text).unwrap();
    let checked = answer(folder.path(), &["check", "orders.toml"]);
    let run = answer(folder.path(), &["run", "orders.toml", "--out", "results"]);
    assert_eq!(checked, run);
    assert_eq!(checked.0, 2, "{}", checked.1);
    assert!(!folder.path().join("results").exists(), "{}", checked.1);
    checked.1
}

fn change(good: &str, from: &str, to: &str) -> String {
    assert!(good.contains(from), "{from}");
    good.replacen(from, to, 1)
}

#[test]
fn every_mistake_is_answered_with_its_place_and_what_to_write() {
    let nats = |to: &str| change(GOOD, "driver = \"nats\"", to);
    let service = |driver: &str, target: &str| {
        let system = format!("driver = \"{driver}\"\nurl = \"{driver}://127.0.0.1\"");
        let pattern = format!("\"request-reply\"\ntarget = {{ {target} }}");
        change(&change(GOOD, "driver = \"nats\"", &system), "\"fan-out\"", &pattern)
    };
    let mistakes = [
        (
            "`name` under [[system]]",
            "[[system]]\nname = \"orders\"\nquestion = \"How late are orders?\"\ndriver = \"nats\"\n\n\
             [[workload]]\npattern = \"fan-out\"\nload.rate = \"1k/s\"\n"
                .to_owned(),
        ),
        ("keys without their number", format!("{GOOD}delivery.keys = \"zipf\"\n")),
        ("a duration without unit", change(STREAM, "\"5ms\"", "0")),
        ("round trips of a fan-out", format!("{GOOD}[[expect]]\nthat = \"rtt.p99 < 5ms\"\n")),
        ("storage asked of core NATS", format!("{GOOD}delivery.durable = true\n")),
        ("a scheme of others", nats("driver = \"nats\"\nurl = \"http://127.0.0.1:4222\"")),
        (
            "an option of a launched server beside a url",
            nats("driver = \"nats\"\nurl = \"nats://127.0.0.1:4222\"\noptions = { max-payload = \"8MiB\" }"),
        ),
        ("an option misspelt", change(STREAM, "linger = \"5ms\"", "ack = \"all\"")),
        ("one bracket for two", change(GOOD, "[[workload]]", "[workload]")),
        ("a system that there is no driver for", nats("driver = \"rabbitmq\"")),
        ("percentiles in per cent", format!("{GOOD}[run]\npercentiles = [0.5, 99]\n")),
        (
            "round trips asked of Redis",
            change(
                GOOD,
                "driver = \"nats\"\n\n[[workload]]\npattern = \"fan-out\"",
                "driver = \"redis\"\n\n[[workload]]\npattern = \"request-reply\"",
            ),
        ),
        ("TLS to Redis", nats("driver = \"redis\"\nurl = \"rediss://:s3cret@127.0.0.1:6379\"")),
        ("a subject asked of Kafka", service("kafka", "subject = \"orders.create\"")),
        ("topics asked of NATS", service("nats", "topic = \"orders\", reply-topic = \"orders-answers\"")),
        ("a topic without the one of the answers", service("kafka", "topic = \"orders\"")),
        ("a size without unit", format!("{GOOD}payload.size = 1024\n")),
        ("a key in the wrong table", change(GOOD, "load.rate = \"1k/s\"", "load.rate = \"1k/s\"\nduration = \"5s\"")),
    ];
    let told: Vec<String> = mistakes.iter().map(|(what, text)| format!("# {what}\n{}", refused(text))).collect();
    insta::assert_snapshot!(told.join("\n\n"));
}

/// All of them at once, in the order of the file.
#[test]
fn one_mistake_does_not_hide_the_next() {
    let text = r#"name = "or/ders"
question = "How late are orders?"
trials = 3

[[system]]
driver = "kafka"
url = "http://127.0.0.1:9092"
options = { ack = "all", linger = 0, tls = { caa = "x" }, broker = { nodes = 3 } }

[[system]]
driver = "natz"

[[workload]]
patern = "fan-out"

[[workload]]
pattern = "stream"
load.rate = 0
producers = 0
delivery = { durable = false, keys = "zipf" }
payload.size = "16B"

[run]
duration = "0s"
percentiles = [50, "p99"]
warmup = 3

[[expect]]
that = "e2e.p99 about 5ms"
"#;
    insta::assert_snapshot!(refused(text));
}

/// A rate may be a bare number: messages per second.
#[test]
fn a_rate_without_unit_is_per_second() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("orders.toml"), change(GOOD, "\"1k/s\"", "1000")).unwrap();
    for arguments in [&["check", "orders.toml"][..], &["check", "orders.toml", "--rate", "10000"]] {
        assert_eq!(answer(folder.path(), arguments), (0, String::new()));
    }
}

/// `--size` is an option; `--json` is one of other programs, and is answered with ours.
#[test]
fn options_of_other_programs_are_there_or_pointed_to() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("orders.toml"), GOOD).unwrap();
    assert_eq!(answer(folder.path(), &["check", "orders.toml", "--size", "1KiB"]), (0, String::new()));
    let (code, told) = answer(folder.path(), &["run", "orders.toml", "--json"]);
    assert_eq!((code, told.as_str()), (2, "msgbench: there is no option --json: write --format json"));
}

/// Where results were driven with different workloads: what differs and where it was written, the
/// results that were driven alike, and what else may have been meant.
#[test]
fn results_of_different_workloads_are_answered_with_those_of_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let driven = |name: &str, text: &str, options: &[&str]| {
        let short = "[run]\nwarmup = \"0s\"\nduration = \"100ms\"\ndrain = \"1s\"\ntrials = 1\n";
        std::fs::write(folder.path().join("orders.toml"), format!("{text}{short}")).unwrap();
        let out = format!("made/{name}");
        let arguments = [&["run", "orders.toml", "--quiet", "--out", &out][..], options].concat();
        let (_, told) = answer(folder.path(), &arguments);
        // One folder for the scenario, in it one for the time.
        let made = std::fs::read_dir(folder.path().join(&out).join("orders")).expect(&told).next().unwrap().unwrap();
        std::fs::create_dir_all(folder.path().join("results/orders")).unwrap();
        std::fs::rename(made.path(), folder.path().join("results").join(name)).unwrap();
    };
    let text =
        change(GOOD, "driver = \"nats\"", "driver = \"null\"\n\n[[system]]\nname = \"other\"\ndriver = \"null\"");
    driven("orders/1", &text, &[]);
    driven("orders/2", &text, &[]);
    let many = change(&text, "load.rate", "producers = 2\nconsumers = 3\nload.rate");
    driven("orders/3", &many, &["--rate", "2k"]);
    let compare = |arguments: &[&str]| {
        let (code, told) = answer(folder.path(), &[&["compare"][..], arguments].concat());
        assert_eq!(code, 2, "{told}");
        told
    };
    let mut told = vec![compare(&["results/orders/2", "results/orders/3"])];
    driven("orders/4", &many, &["--rate", "2k"]);
    let alike = compare(&["results/orders/2", "results/orders/3"]);
    told.push(alike[alike.find("\nhint").unwrap() + 1..].into());
    told.push(compare(&["results/orders"]));
    // What is proposed is accepted.
    for command in alike.split('`').filter_map(|quoted| quoted.strip_prefix("msgbench ")) {
        let arguments: Vec<&str> = command.split(' ').collect();
        let (code, said) = answer(folder.path(), &arguments);
        assert_ne!(code, 2, "{command}: {said}");
    }
    std::fs::create_dir_all(folder.path().join("results/other orders")).unwrap();
    for (from, to) in [("orders/3", "other orders/1"), ("orders/4", "other orders/2")] {
        let at = |name: &str| folder.path().join("results").join(name);
        std::fs::rename(at(from), at(to)).unwrap();
    }
    told.push(compare(&["results"]));
    let told = told.join("\n\n");
    let times: Vec<&str> = told.split(' ').filter(|w| w.len() == 20 && w.ends_with('Z')).collect();
    let told = times.into_iter().fold(told.clone(), |told, time| told.replace(time, "TIME"));
    insta::assert_snapshot!(told);
}

/// A server that is not there is said once, and its other trials are not tried.
#[test]
fn a_dead_url_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    // No free port is ever this low.
    let text = change(GOOD, "driver = \"nats\"", "driver = \"nats\"\nurl = \"nats://127.0.0.1:1\"");
    std::fs::write(folder.path().join("orders.toml"), format!("{text}[run]\ntrials = 3\n")).unwrap();
    let (code, told) = answer(folder.path(), &["run", "orders.toml", "--out", "results"]);
    assert_eq!(code, 6, "{told}");
    assert_eq!(told.matches("refused").count(), 1, "{told}");
    assert!(told.contains("nats://127.0.0.1:1: Connection refused"), "{told}");
    assert!(told.contains("correct its url in the scenario; its other 2 trials are skipped"), "{told}");
}

/// The cookbook holds what its files hold, and each is accepted.
#[test]
fn the_cookbook_is_what_its_scenarios_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let book = std::fs::read_to_string(root.join("docs/cookbook.md")).unwrap();
    let blocks: Vec<&str> = book.split("```toml\n").skip(1).map(|b| b.split("\n```").next().unwrap()).collect();
    let mut files = 0;
    for entry in std::fs::read_dir(root.join("scenarios/cookbook")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let (question, rest) = text.split_once('\n').unwrap();
        let name = format!("# scenarios/cookbook/{}\n", path.file_name().unwrap().to_str().unwrap());
        assert!(blocks.contains(&format!("{name}{}", rest.trim()).as_str()), "{name}");
        assert!(book.contains(question.strip_prefix("# Question: ").unwrap()), "{question}");
        assert_eq!(answer(root, &["check", path.to_str().unwrap()]), (0, String::new()), "{name}");
        files += 1;
    }
    assert_eq!((files, blocks.len()), (10, 10));
}

/// Some of them run on the built-in broker alone.
#[test]
fn scenarios_of_the_cookbook_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    for name in ["sensors", "dashboards", "rpc"] {
        let file = root.join(format!("scenarios/cookbook/{name}.toml"));
        // 200 connections take their time on a busy machine.
        let system = ["--system", "reference", "--quick", "--quiet", "--set", "run.connect=120s"];
        let arguments = [&["run", file.to_str().unwrap(), "--out", "results"][..], &system].concat();
        let (code, told) = answer(folder.path(), &arguments);
        // A busy host may make a trial invalid, or miss a limit of time; it is run and judged.
        assert!([0, 3, 4, 5].contains(&code), "{name}: {code} {told}");
        assert!(folder.path().join("results").join(name).is_dir(), "{name}");
    }
}

/// `check --connect` tries every address within the bound of a connection, and says which answers.
#[test]
fn check_says_which_addresses_answer() {
    use std::io::Write as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(b"INFO {\"version\":\"9.9\",\"max_payload\":1048576}\r\n");
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let live = format!("name = \"live\"\ndriver = \"nats\"\nurl = \"nats://me:s3cret@127.0.0.1:{port}\"");
    let text = change(GOOD, "driver = \"nats\"", &live);
    std::fs::write(folder.path().join("orders.toml"), &text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_msgbench"));
    let out = command.current_dir(folder.path()).args(["check", "orders.toml", "--connect"]).output().unwrap();
    let plan = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && plan.contains("answers     live at nats://") && plan.contains("version 9.9"),
        "{plan}"
    );
    assert!(!plan.contains("s3cret"), "{plan}");
    let dead = "\n[[system]]\nname = \"dead\"\ndriver = \"nats\"\nurl = \"nats://127.0.0.1:1\"\n";
    std::fs::write(folder.path().join("orders.toml"), text + dead).unwrap();
    assert_eq!(answer(folder.path(), &["check", "orders.toml"]), (0, String::new()), "it connects to nothing");
    let (code, told) = answer(folder.path(), &["check", "orders.toml", "--connect"]);
    assert_eq!(code, 6, "{told}");
    assert!(told.contains("orders.toml:16:7: dead does not answer: nats://127.0.0.1:1: Connection refused"), "{told}");
    assert!(
        told.contains("hint: start it, or correct its url in the scenario") && told.contains("answers: live"),
        "{told}"
    );
}
