//! `msgbench claims`: a team's objectives against the reference broker, from the file to the page.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "common/calm.rs"]
mod calm;
#[path = "claims/kept.rs"]
mod kept;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Objectives that hold by far, one that cannot, and statements that nobody measures.
const OBJECTIVES: &str = r#"
name = "orders"
title = "Objectives of the order service"

[[measure]]
name = "stream-1k"
scenario = "small.toml"
systems = ["reference"]
set = { "workload.load.rate" = "1k/s", "run.trials" = 8 }
tier = "page-cache"

[[claim]]
id = 1
says = "half of all below 500 ms at 1k/s"
place = "objectives, page 2"
measure = "stream-1k"
holds = ["e2e.p50 of reference < 500ms", "ledger.lost of reference == 0"]

[[second]]
name = "probe"
by = "a probe"
command = ["sh", "-c", "echo first; echo 40ms"]

[[claim]]
id = 4
says = "faster than light"
second = ["probe < 1ns"]
place = "objectives, page 3"
measure = "stream-1k"
holds = ["e2e.p50 of reference < 1ns"]

[[claim]]
id = 5
says = "pleasant to operate"
place = "objectives, page 3"
fact = "OPINION"
why = "Nobody measures that."
"#;

const SCENARIO: &str = r#"
name = "small"
question = "How late is a stored message?"
[[system]]
driver = "reference"
[[workload]]
pattern = "stream"
consumers = 1
load.rate = "500/s"
[run]
warmup = "100ms"
duration = "500ms"
drain = "5s"
"#;

fn file(dir: &Path, text: &str) {
    std::fs::write(dir.join("objectives.toml"), text).unwrap();
    std::fs::write(dir.join("small.toml"), SCENARIO).unwrap();
}

fn claims(dir: &Path, args: &[&str]) -> Output {
    by(Path::new(env!("CARGO_BIN_EXE_msgbench")), dir, args)
}

fn by(program: &Path, dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    let root = calm::calm(&mut command);
    command.arg("claims").arg(args[0]).arg(dir.join("objectives.toml")).args(&args[1..]);
    let output = command.current_dir(dir).output().unwrap();
    drop(root);
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn verdicts(dir: &Path) -> Vec<(u64, String)> {
    let all = std::fs::read(dir.join("results/claims/orders/claims.json")).unwrap();
    let all: Value = serde_json::from_slice(&all).unwrap();
    let of = |c: &Value| {
        let verdict = c["verdict"].as_str().map_or_else(|| c["verdict"]["read"].to_string(), str::to_owned);
        (c["id"].as_u64().unwrap(), verdict)
    };
    all["claims"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn objectives_get_verdicts_and_are_measured_once() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), OBJECTIVES);
    let first = claims(dir.path(), &["run", "--gate"]);
    let said = text(&first.stdout);
    assert_eq!(first.status.code(), Some(3), "{said}\n{}", text(&first.stderr));
    let expected = [(1, "supported".to_owned()), (4, "refuted".into()), (5, "\"OPINION\"".into())];
    assert_eq!(verdicts(dir.path()), expected, "{said}");
    for words in ["SUPPORTED", "REFUTED", "OPINION", " rounds", "a probe found 40ms (probe < 1ns); it agrees"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let folder = dir.path().join("results/claims/orders");
    let page = std::fs::read_to_string(folder.join("claims.html")).unwrap();
    assert!(page.contains("faster than light") && page.contains("stream-1k/small/"), "{page}");
    let junit = std::fs::read_to_string(folder.join("claims.xml")).unwrap();
    assert!(junit.contains("failures=\"1\"") && junit.contains("skipped"), "{junit}");
    let markdown = std::fs::read_to_string(folder.join("claims.md")).unwrap();
    assert!(markdown.contains("| REFUTED |"), "{markdown}");

    // Held against itself no verdict changed; against one with another verdict it did.
    let now = folder.join("claims.json");
    let edited = dir.path().join("before.json");
    std::fs::write(&edited, std::fs::read_to_string(&now).unwrap().replace("\"supported\"", "\"undecided\"")).unwrap();
    let compare = |before: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msgbench"));
        command.args(["claims", "compare", "--gate"]).arg(before).arg(&now).output().unwrap()
    };
    let (same, changed) = (compare(&now), compare(&edited));
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stderr));
    assert!(text(&same.stdout).contains("Of 3 claims in both, 3 have the same"), "{}", text(&same.stdout));
    assert_eq!(changed.status.code(), Some(3), "{}", text(&changed.stderr));
    assert!(text(&changed.stdout).contains("1  UNDECIDED \u{2192} SUPPORTED"), "{}", text(&changed.stdout));

    // What is there is not measured again; what changed is, and says why.
    let results = || std::fs::read_dir(folder.join("full/stream-1k/small")).unwrap().count();
    let second = claims(dir.path(), &["run"]);
    assert_eq!((second.status.code(), results()), (Some(0), 1), "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains("1 run there and unchanged"), "{}", text(&second.stderr));
    // So it is with what a second method said; one that is not ready in time is ended.
    assert!(!text(&second.stderr).contains("second method"), "{}", text(&second.stderr));
    let slow = "command = [\"sh\", \"-c\", \"sleep 600\"]\nwithin = \"1s\"";
    file(dir.path(), &OBJECTIVES.replace("command = [\"sh\", \"-c\", \"echo first; echo 40ms\"]", slow));
    let ended = claims(dir.path(), &["run"]);
    assert!(text(&ended.stdout).contains("it was not ready within 1s"), "{}", text(&ended.stdout));
    let absent = "command = [\"sh\", \"-c\", \"echo the probe is not here; exit 77\"]";
    file(dir.path(), &OBJECTIVES.replace("command = [\"sh\", \"-c\", \"echo first; echo 40ms\"]", absent));
    let absent = [claims(dir.path(), &["run"]), claims(dir.path(), &["report"])];
    for output in absent {
        let said = text(&output.stdout);
        assert!(said.contains("found nothing: the probe is not here"), "{said}");
    }
    file(dir.path(), &OBJECTIVES.replace("1k/s\", \"run", "900/s\", \"run"));
    let third = claims(dir.path(), &["run"]);
    assert!(text(&third.stderr).contains("the settings changed"), "{}", text(&third.stderr));
    assert_eq!(results(), 2);
}

/// The records of the results of the one measurement, oldest first.
fn records(dir: &Path) -> Vec<Value> {
    let folder = dir.join("results/claims/orders/full/stream-1k/small");
    let mut all: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    all.sort();
    let read = |path: std::path::PathBuf| std::fs::read(path.join("run.json")).ok();
    all.into_iter().filter_map(read).filter_map(|bytes| serde_json::from_slice(&bytes).ok()).collect()
}

fn starts(record: &Value) -> Vec<String> {
    let whole = record["trials"].as_array().unwrap().iter().filter(|t| t["outcome"]["status"] != "partial");
    whole.map(|t| t["started_at"].to_string()).collect()
}

/// Ctrl-C keeps the rounds that are done: the same command goes on after them.
#[test]
fn an_interrupted_run_keeps_its_rounds() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), &OBJECTIVES.replace("\"run.trials\" = 8", "\"run.trials\" = 8, \"run.duration\" = \"700ms\""));
    let mut command = Command::new(env!("CARGO_BIN_EXE_msgbench"));
    let root = calm::calm(&mut command);
    let mut first = command
        .args(["claims", "run", "objectives.toml"])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while records(dir.path()).first().is_none_or(|r| starts(r).len() < 2) {
        assert!(std::time::Instant::now() < until, "no two rounds in a minute");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // SAFETY: kill touches no memory; the child is not reaped, so the number is its own.
    unsafe { libc::kill(libc::pid_t::try_from(first.id()).unwrap(), libc::SIGINT) };
    assert_eq!(first.wait().unwrap().code(), Some(130));
    drop(root);
    let before = starts(&records(dir.path())[0]);
    assert!((2..8).contains(&before.len()), "{before:?}");
    let second = claims(dir.path(), &["run"]);
    assert_eq!(second.status.code(), Some(0), "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains("it was interrupted"), "{}", text(&second.stderr));
    let all = records(dir.path());
    let after = starts(&all[1]);
    assert_eq!((all.len(), after.len(), &after[..before.len()]), (2, 8, &before[..]));
}

/// Two builds of one version differ in their bytes alone: what one of them measured is measured
/// again by the other.
#[test]
fn another_build_measures_again() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), &OBJECTIVES.replace("\"run.trials\" = 8", "\"run.trials\" = 1"));
    let first = claims(dir.path(), &["run", "--only", "1"]);
    assert_eq!((first.status.code(), records(dir.path()).len()), (Some(0), 1), "{}", text(&first.stderr));
    let other = dir.path().join("msgbench-other");
    std::fs::copy(env!("CARGO_BIN_EXE_msgbench"), &other).unwrap();
    // What stands behind the parts of a program does not change what it does.
    let mut end = std::fs::OpenOptions::new().append(true).open(&other).unwrap();
    end.write_all(b"x").unwrap();
    drop(end);
    let second = by(&other, dir.path(), &["run", "--only", "1"]);
    assert!(text(&second.stderr).contains("this build of msgbench changed"), "{}", text(&second.stderr));
    assert_eq!(records(dir.path()).len(), 2);
    let third = by(&other, dir.path(), &["run", "--only", "1"]);
    assert!(text(&third.stderr).contains("1 run there and unchanged"), "{}", text(&third.stderr));
    assert_eq!(records(dir.path()).len(), 2);
}

/// A share of what a search finds: the search is made first, and what it has found is the base.
#[test]
fn a_share_of_a_capacity_is_searched_first() {
    let dir = tempfile::tempdir().unwrap();
    // The backlog beyond the cap is the cap's doing and not the host's.
    let fan_out = SCENARIO.replace("\"small\"", "\"capped\"").replace("\"stream\"", "\"fan-out\"");
    let capped = fan_out.replace("500/s", "250/s").replace("500ms", "600ms")
        + "[faults]\nrate-cap = { rate = \"200/s\" }\n[search]\nlimits = [\"e2e.p50 < 400ms\"]\n\
           width = \"30%\"\nlead = 1\nmax = \"100k/s\"\nmost-trials = 60\n";
    std::fs::write(dir.path().join("capped.toml"), capped).unwrap();
    let measures = "name = \"orders\"\ntitle = \"t\"\n[[measure]]\nname = \"most\"\nscenario = \"capped.toml\"\n\
        tier = \"page-cache\"\n[[measure]]\nname = \"stream-1k\"\nscenario = \"small.toml\"\ntier = \"page-cache\"\n\
        set = { \"run.trials\" = 1 }\nrate = { share = \"30%\", of = \"capacity of reference in most\" }\n";
    let claim = "[[claim]]\nid = 1\nsays = \"none lost at a third\"\nplace = \"p\"\nmeasure = \"stream-1k\"\n\
        holds = [\"ledger.lost of reference == 0\"]\n";
    file(dir.path(), &format!("{measures}{claim}"));
    let run = || {
        let output = claims(dir.path(), &["run"]);
        format!("{}{}", text(&output.stdout), text(&output.stderr))
    };
    let mut said = run();
    for _ in 0..3 {
        // A host that is full spoils trials, and three in a row end a search: it is asked again.
        if said.contains("its rate is not known") {
            std::fs::remove_dir_all(dir.path().join("results")).unwrap();
            said = run();
        }
    }
    assert_eq!(verdicts(dir.path()), [(1, "supported".to_owned())], "{said}");
    assert!(said.contains("most (claims 1): "), "{said}");
    // The search ends within 30 % of the cap.
    let json = std::fs::read_to_string(dir.path().join("results/claims/orders/claims.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let tier = json["claims"][0]["tiers"][0].as_str().unwrap();
    let rate = tier.strip_prefix("page cache, one copy, at 30 % of capacity of reference in most, ").unwrap_or(tier);
    let rate: f64 = rate.trim_end_matches("/s").parse().unwrap_or_else(|_| panic!("{tier}: {said}"));
    assert!((45.0..=80.0).contains(&rate), "{rate}: {said}");
    let record = &records(dir.path())[0];
    assert!(record["plan"].to_string().contains(&format!("{rate}")), "{}", record["plan"]);
    // Rounds of a rule about a capacity are searches.
    let rule = claim.replace("ledger.lost of reference == 0", "capacity of reference in most > 1/s");
    file(dir.path(), &format!("{measures}{claim}{}", rule.replace("id = 1", "id = 2")));
    let check = text(&claims(dir.path(), &["check"]).stdout);
    assert!(check.contains("capped.toml --set search.searches=12\n"), "{check}");
    let quick = text(&claims(dir.path(), &["check", "--quick"]).stdout);
    assert!(quick.contains("capped.toml --quick\n"), "{quick}");
}

#[test]
fn what_was_not_run_is_undecided_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), OBJECTIVES);
    let report = claims(dir.path(), &["report", "--only", "1,5", "--gate"]);
    assert_eq!(report.status.code(), Some(5), "{}", text(&report.stderr));
    assert_eq!(verdicts(dir.path()), [(1, "undecided".into()), (5, "\"OPINION\"".into())]);
    assert!(text(&report.stdout).contains("`stream-1k` was not run yet"), "{}", text(&report.stdout));
}

#[test]
fn mistakes_are_shown_where_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let said = |from: &str, to: &str| {
        assert!(OBJECTIVES.contains(from), "{from}");
        file(dir.path(), &OBJECTIVES.replacen(from, to, 1));
        let output = claims(dir.path(), &["check"]);
        assert_eq!(output.status.code(), Some(2), "{from}: {}", text(&output.stdout));
        text(&output.stderr).replace(&dir.path().display().to_string(), "DIR")
    };
    let all = [
        said("tier = \"page-cache\"", "tier = \"page-cash\""),
        said("says = \"faster", "sais = \"faster"),
        said("e2e.p50 of reference < 1ns", "e2e.p50 of referense < 1ns"),
        said("e2e.p50 of reference < 1ns", "rtt.p50 of reference < 1ns"),
        said("e2e.p50 of reference < 1ns", "e2e.p50 of reference at rate=9k/s < 1ns"),
        said("e2e.p50 of reference < 1ns", "e2e.p50 < 1ns"),
        said("e2e.p50 of reference < 1ns", "e2e.p50 < 1ns\", \"e2e.p50 of nobody < 1ns"),
        said("e2e.p50 of reference < 1ns", "ledger.lost of reference >= 0"),
        said("measure = \"stream-1k\"\nholds = [\"e2e.p50 of reference < 1ns\"]", ""),
        said("scenario = \"small.toml\"", "scenario = \"smal\""),
        said("id = 4", "id = 1"),
        said("why = \"Nobody measures that.\"", ""),
        said("probe < 1ns", "prob < 1ns"),
        said("probe < 1ns", "probe < soon"),
        said("second = [\"probe < 1ns\"]", ""),
    ];
    insta::assert_snapshot!(all.join("\n"));
    file(dir.path(), OBJECTIVES);
    let wrong = claims(dir.path(), &["check", "--only", "9"]);
    assert!(text(&wrong.stderr).contains("there is no claim 9; the last one is 5"), "{}", text(&wrong.stderr));
}

/// Every row of every table of the article is the place of a claim, and the file is one that runs.
#[test]
fn the_article_is_there_as_a_whole() {
    const ROWS: [std::ops::RangeInclusive<u32>; 6] = [145..=150, 182..=185, 223..=227, 245..=250, 267..=269, 370..=379];
    let text = std::fs::read_to_string("claims/nats-vs-kafka.toml").unwrap();
    let file: toml::Table = toml::from_str(&text).unwrap();
    let claims = file["claim"].as_array().unwrap();
    let places: Vec<&str> = claims.iter().map(|c| c["place"].as_str().unwrap()).collect();
    let named: Vec<u32> =
        places.iter().flat_map(|p| p.split(|c: char| !c.is_ascii_digit())).filter_map(|n| n.parse().ok()).collect();
    let missing: Vec<u32> = ROWS.into_iter().flatten().filter(|row| !named.contains(row)).collect();
    assert!(missing.is_empty(), "rows of tables that no claim has: {missing:?}");
    // Quoted in a few words.
    for claim in claims {
        let says = claim["says"].as_str().unwrap();
        assert!(says.split_whitespace().count() <= 14, "{says}");
    }
    let check = Command::new(env!("CARGO_BIN_EXE_msgbench"))
        .args(["claims", "check", "claims/nats-vs-kafka.toml", "--quick"])
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", self::text(&check.stderr));
    assert!(self::text(&check.stdout).contains(&format!("{} claims", claims.len())));
}

/// One system that this build cannot make leaves the others to be measured, and says why it is not.
#[cfg(not(feature = "kafka-tls"))]
#[test]
fn what_a_build_has_not_leaves_one_system_out() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = SCENARIO.replacen(
        "[[workload]]",
        "[[system]]\ndriver = \"kafka\"\noptions = { broker = { tls = \"server\" } }\n[[workload]]",
        1,
    );
    let objectives = "name = \"orders\"\ntitle = \"t\"\n[[measure]]\nname = \"encrypted\"\nscenario = \"small.toml\"\n\
        systems = [\"reference\", \"kafka\"]\nset = { \"run.trials\" = 1 }\ntier = \"various\"\n[[claim]]\nid = 1\n\
        says = \"one\"\nplace = \"p\"\nmeasure = \"encrypted\"\nholds = [\"ledger.lost of reference == 0\"]\n\
        [[claim]]\nid = 2\nsays = \"the other\"\nplace = \"p\"\nmeasure = \"encrypted\"\nholds = [\"ledger.lost of kafka == 0\"]\n";
    std::fs::write(dir.path().join("objectives.toml"), objectives).unwrap();
    std::fs::write(dir.path().join("small.toml"), scenario).unwrap();
    let output = claims(dir.path(), &["run"]);
    let said = text(&output.stdout);
    assert_eq!(verdicts(dir.path()), [(1, "supported".to_owned()), (2, "undecided".into())], "{said}");
    assert!(!said.contains("interrupted"), "{said}");
}
