//! What is secret in a scenario stands in no file and no output of a run, whether the run succeeds
//! or fails.
//!
//! Options declare in their schemas what of them is secret. From these schemas one scenario is made
//! for each option, put to a server that is not there, to a broker that takes the password, and to
//! servers that are launched.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod broker;
#[path = "../common/needs.rs"]
mod needs;
mod plant;

use std::path::Path;
use std::process::Command;

use broker::{Broker, broker};
use msgbench::engine::Register;
use msgbench::plan::options::{OptionSet, joined};
use plant::{OTHERS, Planted, RIGHT, VARIABLE, of_bridge, planted, put, undeclared};
use serde_json::{Map, Value, json};

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
        .env(VARIABLE, RIGHT)
        .env("HOME", dir.join("home-folder"))
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

/// Runs the scenario in every format and renders its reports: nothing of `secrets` may stand
/// anywhere.
fn nothing_of(secrets: &[&str], dir: &Path) -> Vec<i32> {
    let mut all = Vec::new();
    let mut codes = Vec::new();
    for args in [
        &["run", "s.toml", "--out", "results"][..],
        &["run", "s.toml", "--out", "results", "--format", "json"],
        &["run", "s.toml", "--out", "results", "--format", "record"],
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
    // No free port is ever this low, so that no other test can listen there.
    let dead = "127.0.0.1:1";
    for (driver, url) in [
        ("nats", format!("nats://me:Plain5ecret@{dead}")),
        ("nats", format!("nats://Plain5ecret@{dead}, nats://Plain5ecret@{dead}")),
        ("jetstream", format!("tls://me:Enc%6fded5ecret@{dead}")),
        ("reference", format!("nats://me:Com,ma5ecret@{dead}")),
        ("reference", format!("nats://me:${{SECRET_OF_THE_ENVIRONMENT}}@{dead}")),
        ("kafka", format!("kafka://me:p@Plain5ecret@{dead},{dead}")),
        ("bridge", format!("nats://me:Plain5ecret@{dead} kafka://me:Enc%6fded5ecret@{dead}")),
        ("redis", format!("redis://me:Plain5ecret@{dead}")),
        ("redis", format!("redis://:Enc%6fded5ecret@{dead}")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        scenario(dir.path(), &format!("driver = \"{driver}\"\nurl = \"{url}\""));
        let secrets = ["Plain5ecret", "Enc%6fded5ecret", "Encoded5ecret", "ma5ecret", "En%76secret7", "Envsecret7"];
        let codes = nothing_of(&secrets, dir.path());
        assert_eq!(codes[3..], [0, 0], "{url}");
        assert!(codes[..3].iter().all(|c| *c == 6), "{url}: {codes:?}");
    }
}

#[test]
fn encoded_credentials_are_decoded_and_nothing_is_shown_of_a_run_that_succeeds() {
    let broker = broker("user@x", "p,w:5ecret");
    let Broker { nats, kafka, .. } = &broker;
    let (right, wrong) = ("user%40x:p%2Cw%3A5ecret", "user%40x:wr%6fng5ecret");
    for (system, url) in [
        ("driver = \"nats\"", format!("nats://WHO@{nats}")),
        ("driver = \"nats\"\noptions.client = \"wire\"", format!("nats://WHO@{nats}")),
        ("driver = \"reference\"", format!("nats://WHO@{nats}")),
        ("driver = \"kafka\"", format!("kafka://WHO@{kafka}")),
        ("driver = \"bridge\"\noptions.from = \"reference\"", format!("nats://WHO@{nats} kafka://WHO@{kafka}")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        scenario(dir.path(), &format!("{system}\nurl = \"{}\"", url.replace("WHO", right)));
        let codes = nothing_of(&["p%2Cw%3A5ecret", "p,w:5ecret"], dir.path());
        // 4: a busy machine makes a trial invalid.
        assert!(codes[..3].iter().all(|c| matches!(c, 0 | 4)), "{system}: {codes:?}");
        scenario(dir.path(), &format!("{system}\nurl = \"{}\"", url.replace("WHO", wrong)));
        let codes = nothing_of(&["wr%6fng5ecret", "wrong5ecret"], dir.path());
        assert_eq!(codes[0], 6, "{system}");
    }
}

/// A redis-server that wants a password, of a user with a name or of the default one; stopped when
/// it is dropped.
struct Redis {
    child: std::process::Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Redis {
    fn start(program: &Path, user: &str, password: &str) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), port());
        let conf = dir.path().join("redis.conf");
        let text = format!(
            "bind 127.0.0.1\nport {port}\nsave \"\"\nrequirepass {password}\nuser {user} on >{password} ~* &* +@all\n"
        );
        std::fs::write(&conf, text).unwrap();
        let null = std::process::Stdio::null;
        let child = Command::new(program).arg(&conf).current_dir(dir.path()).stdout(null()).stderr(null()).spawn();
        let address = format!("127.0.0.1:{port}");
        let redis = Self { child: child.unwrap(), address, _dir: dir };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while std::net::TcpStream::connect(&redis.address).is_err() {
            assert!(std::time::Instant::now() < deadline, "the redis-server does not answer");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        redis
    }
}

/// A password in the address of a Redis works, with a user and without one, and is not shown.
#[test]
fn the_password_of_a_redis_works_and_is_not_shown() {
    let Some((program, _)) = needs::system("redis") else { return };
    let redis = Redis::start(&program, "user@x", "p,w:5ecret");
    for (login, right) in [
        ("user%40x:p%2Cw%3A5ecret@", true),
        (":p%2Cw%3A5ecret@", true),
        ("default:p%2Cw%3A5ecret@", true),
        ("user%40x:wr%6fng5ecret@", false),
        (":wr%6fng5ecret@", false),
        ("", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        scenario(dir.path(), &format!("driver = \"redis\"\nurl = \"redis://{login}{}\"", redis.address));
        let codes = nothing_of(&["p%2Cw%3A5ecret", "p,w:5ecret", "wr%6fng5ecret", "wrong5ecret"], dir.path());
        let as_said = |code: &i32| if right { matches!(code, 0 | 4) } else { *code == 6 };
        assert!(codes[..3].iter().all(as_said), "{login}: {codes:?}");
        let (said, _) = says(dir.path(), &["check", "s.toml", "--connect"]);
        assert_eq!(said.contains("answers "), right, "{login}: {said}");
        assert!(!said.contains("5ecret"), "{login}: {said}");
    }
}

/// The schema of the options of the clients of a type of system.
fn client_shape(kind: &str) -> Value {
    joined(Register::built_in().types().get(kind).unwrap().client_options.iter().map(OptionSet::shape))
}

/// That of a launched system.
fn launch_shape(kind: &str) -> Value {
    joined(Register::built_in().types().get(kind).unwrap().options.iter().map(OptionSet::shape))
}

/// A system of a scenario.
fn of(kind: &str, name: &str, url: Option<&str>, options: &Map<String, Value>) -> Value {
    let mut system = json!({ "name": name, "driver": kind, "options": options });
    if let Some(url) = url {
        system["url"] = url.into();
    }
    system
}

/// Writes a scenario of these systems.
fn scenario_of(dir: &Path, systems: &[Value]) {
    let mut all: Map<String, Value> = toml::from_str(&format!("name = \"s\"\nquestion = \"?\"\n{LOAD}")).unwrap();
    all.insert("system".into(), systems.into());
    // What is launched may be slow to come up on a busy machine.
    if systems.iter().any(|system| system.get("url").is_none()) {
        put(&mut all, &["run".to_owned(), "connect".to_owned()], "2m".into());
        put(&mut all, &["run".to_owned(), "drain".to_owned()], "30s".into());
    }
    std::fs::write(dir.join("s.toml"), toml::to_string(&all).unwrap()).unwrap();
}

fn clean(name: &str, text: &str) {
    for secret in OTHERS.iter().copied().chain([&RIGHT[1..]]) {
        assert!(!text.contains(secret), "{secret} stands in {name}:\n{text}");
    }
}

/// An option needs so many others beside it at most.
const MOST_ASKED: u32 = 4;

/// The options with which `check` is content, with what it says is needed beside them; those it
/// refuses, and why.
fn accepted(kind: &str, url: Option<&str>, all: Vec<Planted>) -> (Vec<Planted>, Vec<(String, String)>) {
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    for mut it in all {
        let mut asked = 0;
        loop {
            let dir = tempfile::tempdir().unwrap();
            scenario_of(dir.path(), &[of(kind, "s", url, &it.options)]);
            let (said, code) = says(dir.path(), &["check", "s.toml", "--format", "json"]);
            clean(&it.place, &said);
            let beside = said.split_once("it needs `").and_then(|(_, rest)| rest.split_once("` beside it"));
            match (code, beside) {
                (0, _) => good.push(it),
                (2, Some((name, _))) if !said.contains("is for OAUTHBEARER") => {
                    let table =
                        it.place.split(" (").next().unwrap_or_default().rsplit_once('.').map(|(table, _)| table);
                    let tables = table.into_iter().flat_map(|table| table.split('.'));
                    let path: Vec<String> = tables.chain([name]).map(str::to_owned).collect();
                    assert!(asked < MOST_ASKED, "{}: {said}", it.place);
                    asked += 1;
                    put(&mut it.options, &path, "me".into());
                    continue;
                }
                (2, _) => refused.push((it.place, said)),
                _ => panic!("{}: {code}: {said}", it.place),
            }
            break;
        }
    }
    (good, refused)
}

/// Runs all of them in one scenario, looks for secrets in all that it says and leaves, and gives
/// the places of the trials that ran to their end.
fn run_all(kind: &str, url: Option<&str>, all: &[Planted], format: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let systems: Vec<Value> =
        all.iter().enumerate().map(|(i, it)| of(kind, &format!("s{i}"), url, &it.options)).collect();
    scenario_of(dir.path(), &systems);
    let (said, code) = says(dir.path(), &["run", "s.toml", "--out", "results", "--force", "--format", format]);
    clean(kind, &said);
    let mut found = Vec::new();
    assert!(dir.path().join("results").exists(), "{kind:?}: {code}: {said}");
    files(&dir.path().join("results"), &mut found);
    found.iter().for_each(|(name, text)| clean(&format!("{name} ({kind:?})"), text));
    let (_, record) = found.iter().find(|(name, _)| name.ends_with("run.json")).unwrap();
    let record: Value = serde_json::from_str(record).unwrap();
    let trials = record["trials"].as_array().unwrap();
    assert_eq!(trials.len(), all.len(), "{kind:?}: {said}");
    let done = |i: usize| {
        let case = format!("s{i}");
        trials.iter().any(|t| t["case"] == case.as_str() && t["outcome"]["status"] == "complete")
    };
    (0..all.len()).filter(|i| done(*i)).map(|i| all[i].place.clone()).collect()
}

const DRIVERS: [&str; 4] = ["nats", "jetstream", "reference", "kafka"];

/// A new option that takes text says whether it is secret, or this fails.
#[test]
fn every_option_that_takes_text_declares_whether_it_is_secret() {
    for kind in DRIVERS.into_iter().chain(["redis"]) {
        for shape in [client_shape(kind), launch_shape(kind)] {
            let mut found = Vec::new();
            undeclared(&shape, kind, &mut found);
            assert_eq!(found, Vec::<String>::new(), "add #[schemars(extend(\"secret\" = ...))]");
        }
    }
}

/// What `check` may refuse: a build without OpenSSL has no TLS for Kafka, and a monitoring page has
/// no user. A token is for a mechanism that needs OpenSSL, too.
fn refusals_are_known(kind: &str, refused: &[(String, String)]) {
    for (place, said) in refused {
        // And librdkafka refuses settings of its own that it does not have.
        let known = ["has neither TLS nor SCRAM", "option `raw`", "option `monitor`", "is for OAUTHBEARER"];
        let known = known.iter().any(|words| said.contains(words));
        assert!(known, "{kind:?}: {place}: {said}");
    }
}

#[test]
fn no_option_is_shown_when_nobody_answers() {
    // No free port is ever this low, so that no other test can listen there.
    let dead = format!("me:%50{}@127.0.0.1:1", &RIGHT[1..]);
    std::thread::scope(|scope| {
        for kind in DRIVERS.into_iter().chain(["bridge"]) {
            let (all, url) = match kind {
                "bridge" => (of_bridge(client_shape), format!("nats://{dead} kafka://{dead}")),
                "kafka" => (planted(&client_shape(kind)), format!("kafka://{dead}")),
                _ => (planted(&client_shape(kind)), format!("nats://{dead}")),
            };
            scope.spawn(move || {
                let least = if kind == "bridge" { 50 } else { 12 };
                let (all, refused) = accepted(kind, Some(&url), all);
                refusals_are_known(kind, &refused);
                assert!(all.len() + refused.len() >= least && all.len() > 6, "{kind:?}: {all:?}");
                assert_eq!(run_all(kind, Some(&url), &all, "text"), Vec::<String>::new());
            });
        }
    });
}

#[test]
fn no_option_is_shown_when_a_broker_answers_and_takes_the_password() {
    let broker = broker("me", RIGHT);
    for kind in DRIVERS {
        let (scheme, address) = if kind == "kafka" { ("kafka", &broker.kafka) } else { ("nats", &broker.nats) };
        let url = format!("{scheme}://me:%50{}@{address}", &RIGHT[1..]);
        let (all, _) = accepted(kind, Some(&url), planted(&client_shape(kind)));
        let done = run_all(kind, Some(&url), &all, "json");
        // The router has no streams.
        let right: &[&str] = match kind {
            "jetstream" => &[],
            "kafka" => &["sasl.password (value)", "sasl.password-env (variable)", "raw.sasl.password (entries)"],
            _ => &["password (value)"],
        };
        assert!(right.iter().all(|place| done.iter().any(|d| d == place)), "{kind:?}: {done:?}");
        assert!(done.len() < all.len(), "{kind:?}: none has failed: {done:?}");
    }
}

#[test]
fn no_option_of_a_launched_server_is_shown_whether_it_starts_or_not() {
    for (kind, comment, bad) in [
        ("nats", "comment", json!({ "config": ["no_such_setting: \"nats://u:Url4lso5ecret@h\""] })),
        ("jetstream", "comment", json!({ "config": ["password: \"Text4lso5ecret\" {{{"] })),
        ("redis", "comment", json!({ "config": ["no-such-setting redis://u:Url4lso5ecret@h Text4lso5ecret"] })),
        ("kafka", "define", json!({ "broker": { "properties": { "listeners": "BAD://u:Url4lso5ecret@h:1" } } })),
    ] {
        if needs::system(kind).is_none() {
            continue;
        }
        let (all, refused) = accepted(kind, None, planted(&launch_shape(kind)));
        assert!(refused.is_empty(), "{refused:?}");
        // Text is planted as a comment of a configuration and as a definition for Java; each fits
        // one of the servers.
        let fits = |it: &Planted| !it.place.contains("(text)") || it.place.contains(comment);
        let mut all: Vec<Planted> = all.into_iter().filter(fits).collect();
        // One start holds them all.
        let mut one = Map::new();
        for it in &all {
            merge(&mut one, &it.options);
        }
        all = vec![Planted { place: "good".into(), options: one }];
        all.push(Planted { place: "bad".into(), options: bad.as_object().unwrap().clone() });
        assert_eq!(run_all(kind, None, &all, "text"), ["good"], "{kind:?}");
    }
}

fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from),
            _ => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

/// Each option that names a file, and the file of messages, may begin with `~/`.
#[test]
fn files_are_looked_for_in_the_home_folder() {
    let broker = broker("me", RIGHT);
    let url = format!("nats://{}", broker.nats);
    let shape = client_shape("nats");
    let mut tried = 0;
    for (name, option) in shape["properties"].as_object().unwrap() {
        if option["secret"] != "file" {
            continue;
        }
        tried += 1;
        let dir = tempfile::tempdir().unwrap();
        let mut options = Map::from_iter([(name.clone(), Value::from("~/no-such-file"))]);
        for (one, other) in [("cert", "key"), ("key", "cert")] {
            if name == one {
                options.insert(other.into(), "s.toml".into());
            }
        }
        scenario_of(dir.path(), &[of("nats", "s", Some(&url), &options)]);
        let (said, code) = says(dir.path(), &["run", "s.toml", "--out", "results"]);
        let path = dir.path().join("home-folder/no-such-file");
        let words = format!("option `{name}`: {}: ", path.display());
        assert!(code == 6 && said.contains(&words), "{name}: {code}: {said}");
    }
    assert_eq!(tried, 5);
    let dir = tempfile::tempdir().unwrap();
    scenario(dir.path(), "driver = \"null\"");
    let text = std::fs::read_to_string(dir.path().join("s.toml")).unwrap();
    std::fs::write(dir.path().join("s.toml"), text.replacen("load.rate", "payload.file = \"~/none\"\nload.rate", 1))
        .unwrap();
    let (said, code) = says(dir.path(), &["check", "s.toml"]);
    let words = format!("cannot use {} as messages", dir.path().join("home-folder/none").display());
    assert!(code == 2 && said.contains(&words), "{code}: {said}");
}

#[test]
fn schemes_that_are_not_done_and_variables_that_are_not_set_are_refused_by_check_at_their_place() {
    for (system, place, words) in [
        ("driver = \"kafka\"\nurl = \"SASL_SSL://me:Plain5ecret@h:1\"", "s.toml:5:7: ", "not by SASL_SSL://"),
        ("driver = \"redis\"\nurl = \"rediss://:Plain5ecret@h:1\"", "s.toml:5:7: ", "not by rediss://"),
        ("driver = \"redis\"\nurl = \"redis://me:Plain5ecret@h:1/0\"", "s.toml:5:7: ", "path, a query"),
        ("driver = \"kafka\"\nurl = \"SSL://h:1\"", "s.toml:5:7: ", "`tls = {"),
        ("driver = \"nats\"\nurl = \"ws://h:1\"", "s.toml:5:7: ", "not by ws://"),
        ("driver = \"nats\"\nurl = \"http://h:1\"", "s.toml:5:7: ", "not by http://"),
        ("driver = \"reference\"\nurl = \"ssl://h:1\"", "s.toml:5:7: ", "not by ssl://"),
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
        ("driver = \"bridge\"\nurl = \"nats://h:1\"", "s.toml:5:7: ", "2 addresses"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        scenario(dir.path(), system);
        let (said, code) = says(dir.path(), &["check", "s.toml"]);
        assert_eq!(code, 2, "{system}: {said}");
        assert!(said.contains(place) && said.contains(words), "{system}: {said}");
        assert!(!said.contains("Plain5ecret"), "{said}");
    }
}
