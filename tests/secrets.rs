//! What is secret in a scenario stands in no file and no output of a run, whether the run succeeds or fails.
//!
//! That every option which holds a secret is declared is held beside the option types; here it is the addresses of every
//! driver, options of every kind, and the environment.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::path::Path;
use std::process::{Child, Command, Stdio};

const LOAD: &str = "[[workload]]\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"200/s\"\n\
    [run]\nduration = \"300ms\"\nwarmup = \"0s\"\ndrain = \"2s\"\ntrials = 1\nconnect = \"2s\"\n";

fn port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn scenario(dir: &Path, system: &str) {
    let text = format!("name = \"s\"\nquestion = \"?\"\n[[system]]\n{system}\n{LOAD}");
    std::fs::write(dir.join("s.toml"), text).unwrap();
}

/// Everything that a command said, and its exit code.
fn says(dir: &Path, args: &[&str]) -> (String, i32) {
    let out = Command::new(env!("CARGO_BIN_EXE_msgbench"))
        .args(args)
        .current_dir(dir)
        .env("MSGBENCH_CERTIFICATE", "")
        .env("SECRET_OF_THE_ENVIRONMENT", "En%76secret7")
        .output()
        .unwrap();
    let said = [out.stdout, out.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), out.status.code().unwrap())
}

fn files(dir: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            found.push((path.display().to_string(), text));
        }
    }
}

/// Runs the scenario in every format and renders its reports: nothing of `secrets` may stand anywhere.
fn nothing_of(secrets: &[&str], dir: &Path) -> Vec<i32> {
    let mut all = Vec::new();
    let mut codes = Vec::new();
    for args in [
        &["run", "s.toml", "--out", "results"][..],
        &["run", "s.toml", "--out", "results", "--format", "json"],
        &["check", "s.toml"],
        &["check", "s.toml", "--format", "json"],
    ] {
        let (said, code) = says(dir, args);
        all.push((args.join(" "), said));
        codes.push(code);
    }
    if dir.join("results").exists() {
        files(&dir.join("results"), &mut all);
        assert!(all.iter().any(|(name, _)| name.ends_with("run.json")), "{all:?}");
    }
    for (name, text) in &all {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} stands in {name}:\n{text}");
        }
    }
    codes
}

#[test]
fn no_part_of_an_address_is_shown_when_nobody_answers() {
    let dead = format!("127.0.0.1:{}", port());
    for (driver, url) in [
        ("nats", format!("nats://me:Plain5ecret@{dead}")),
        ("nats", format!("nats://Plain5ecret@{dead}, nats://Plain5ecret@{dead}")),
        ("jetstream", format!("tls://me:Enc%6fded5ecret@{dead}")),
        ("reference", format!("nats://me:Com,ma5ecret@{dead}")),
        ("reference", format!("nats://me:${{SECRET_OF_THE_ENVIRONMENT}}@{dead}")),
        ("kafka", format!("kafka://me:p@Plain5ecret@{dead},{dead}")),
        ("bridge", format!("nats://me:Plain5ecret@{dead} kafka://me:Enc%6fded5ecret@{dead}")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        scenario(dir.path(), &format!("driver = \"{driver}\"\nurl = \"{url}\""));
        let secrets = ["Plain5ecret", "Enc%6fded5ecret", "Encoded5ecret", "ma5ecret", "En%76secret7", "Envsecret7"];
        let codes = nothing_of(&secrets, dir.path());
        assert_eq!(codes[2..], [0, 0], "{url}");
        assert!(codes[..2].iter().all(|c| *c == 6), "{url}: {codes:?}");
    }
}

#[test]
fn no_option_is_shown_when_nobody_answers() {
    let dead = format!("127.0.0.1:{}", port());
    let raw = "raw = { \"sasl.password\" = \"Raw5ecret\", \"ssl.key.password\" = \"Key5ecret\", \"ssl.key.pem\" = \"Pem5ecret\" }";
    for (driver, scheme, options) in [
        ("nats", "nats", "user = \"me\", password = \"Plain5ecret\"".to_owned()),
        ("jetstream", "nats", "token = \"Plain5ecret\"".into()),
        ("nats", "nats", "nkey = \"SUAPLAIN5ECRETAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"".into()),
        ("kafka", "kafka", format!("sasl = {{ user = \"me\", password = \"Plain5ecret\" }}, {raw}")),
        ("kafka", "kafka", "sasl = { user = \"me\", password-env = \"SECRET_OF_THE_ENVIRONMENT\" }".into()),
        ("nats", "nats", "user = \"me\", password = \"${SECRET_OF_THE_ENVIRONMENT}\"".into()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        scenario(dir.path(), &format!("driver = \"{driver}\"\nurl = \"{scheme}://{dead}\"\noptions = {{ {options} }}"));
        let codes = nothing_of(
            &["Plain5ecret", "PLAIN5ECRET", "Raw5ecret", "Key5ecret", "Pem5ecret", "En%76secret7"],
            dir.path(),
        );
        assert_eq!(codes, [6, 6, 0, 0], "{options}");
    }
}

/// A reference broker that wants a password, stopped when it is dropped.
struct Broker(Child, u16);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn broker(user: &str, password: &str) -> Broker {
    let port = port();
    let listen = format!("127.0.0.1:{port}");
    let child = Command::new(env!("CARGO_BIN_EXE_msgbench"))
        .args(["broker", "--listen", &listen, "--user", user, "--pass", password])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let broker = Broker(child, port);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while std::net::TcpStream::connect(&listen).is_err() {
        assert!(std::time::Instant::now() < deadline, "the broker does not listen");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    broker
}

#[test]
fn encoded_credentials_are_decoded_and_nothing_is_shown_of_a_run_that_succeeds() {
    let broker = broker("user@x", "p,w:5ecret");
    let address = format!("127.0.0.1:{}", broker.1);
    for client in ["async-nats", "wire"] {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("nats://user%40x:p%2Cw%3A5ecret@{address}");
        scenario(dir.path(), &format!("driver = \"nats\"\nurl = \"{url}\"\noptions.client = \"{client}\""));
        let codes = nothing_of(&["p%2Cw%3A5ecret", "p,w:5ecret"], dir.path());
        // 4: a busy machine makes a trial invalid.
        assert!(codes[..2].iter().all(|c| matches!(c, 0 | 4)), "{codes:?}");
        scenario(dir.path(), &format!("driver = \"nats\"\nurl = \"nats://user%40x:wr%6fng5ecret@{address}\""));
        let codes = nothing_of(&["wr%6fng5ecret", "wrong5ecret"], dir.path());
        assert_eq!(codes[0], 6);
    }
}

#[test]
fn schemes_that_are_not_done_and_variables_that_are_not_set_are_refused_by_check_at_their_place() {
    for (system, place, words) in [
        ("driver = \"kafka\"\nurl = \"SASL_SSL://me:Plain5ecret@h:1\"", "s.toml:5:7: ", "not by SASL_SSL://"),
        ("driver = \"kafka\"\nurl = \"SSL://h:1\"", "s.toml:5:7: ", "`tls = {"),
        ("driver = \"nats\"\nurl = \"ws://h:1\"", "s.toml:5:7: ", "not by ws://"),
        ("driver = \"nats\"\nurl = \"http://h:1\"", "s.toml:5:7: ", "not by http://"),
        ("driver = \"reference\"\nurl = \"tls://h:1\"", "s.toml:5:7: ", "it has no TLS"),
        ("driver = \"nats\"\nurl = \"tls://h:1\"\noptions.client = \"wire\"", "s.toml:5:7: ", "speaks no TLS"),
        (
            "driver = \"nats\"\nurl = \"nats://h:1\"\noptions.monitor = \"https://h:8222\"",
            "option `monitor`",
            "http://",
        ),
        (
            "driver = \"nats\"\nurl = \"nats://me:${NOT_SET_ANYWHERE}@h\"",
            "s.toml:5:18: ",
            "`NOT_SET_ANYWHERE` is not set",
        ),
        ("driver = \"bridge\"\nurl = \"nats://h:1\"", "s.toml:5:7: ", "two addresses"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        scenario(dir.path(), system);
        let (said, code) = says(dir.path(), &["check", "s.toml"]);
        assert_eq!(code, 2, "{system}: {said}");
        assert!(said.contains(place) && said.contains(words), "{system}: {said}");
        assert!(!said.contains("Plain5ecret"), "{said}");
    }
}
