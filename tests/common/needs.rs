//! What a test cannot do without: a server, a client, a browser, rights. Where it is missing, the
//! test is skipped. That is said at once on standard error and counted at the end of the run
//! (`tests/zz_skipped.rs`, `scripts/test.sh`). With MSGBENCH_NO_SKIP=1 the test fails instead. A
//! test skips in no other way, which `tests/house/skips.rs` holds.
//!
//! What an older server has not yet is another matter: with MSGBENCH_OLD_SERVERS=1, as `.ci/run
//! oldest` says, such a test is left out, and is in the count, and does not fail.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use msgbench::engine::Register;
use msgbench::plan::{BringUp, SystemSpec};
use msgbench::system::{Availability, SystemContext, SystemError};

/// Notes that the running test, or a part of it, is skipped. Fails it where skipping is forbidden.
pub fn lack(reason: &str, remedy: &str) {
    let forbidden = std::env::var_os("MSGBENCH_NO_SKIP").is_some_and(|value| value == "1");
    assert!(!forbidden, "MSGBENCH_NO_SKIP=1, but {reason}; {remedy}");
    leave_out(reason, remedy);
}

/// Says that the running test, or a part of it, is not run, and counts it.
fn leave_out(reason: &str, remedy: &str) {
    let binary = std::env::current_exe().ok();
    let binary = binary.as_deref().and_then(Path::file_stem).map_or_else(String::new, |n| n.to_string_lossy().into());
    // Cargo puts a hash behind the name.
    let binary = binary.rsplit_once('-').map_or(binary.as_str(), |(name, _)| name);
    // The thread of a test has its name, except with one thread.
    let thread = std::thread::current();
    let test = format!("{binary} {}", thread.name().unwrap_or("?"));
    // The macros that print are captured where a test passes; the stream itself is not.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}; {remedy}");
    note(&file(), &test, reason, remedy);
}

/// Adds a line to the file of a run.
pub fn note(file: &Path, test: &str, reason: &str, remedy: &str) {
    let line = format!("{test}\t{reason}; {remedy}").replace('\n', " ") + "\n";
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).expect("a folder for what was skipped");
    let mut open = std::fs::OpenOptions::new().create(true).append(true).open(file).expect("what was skipped is noted");
    // One call for one line: binaries of nextest run side by side.
    open.write_all(line.as_bytes()).expect("what was skipped is noted");
}

/// The lines of a run in words, with the number of tests in front.
pub fn summary(lines: &str) -> String {
    let lines: BTreeSet<(&str, &str)> = lines.lines().filter_map(|line| line.split_once('\t')).collect();
    let tests: BTreeSet<&str> = lines.iter().map(|(test, _)| *test).collect();
    let each: String = lines.iter().map(|(test, why)| format!("\n  {test}: {why}")).collect();
    match tests.len() {
        0 => "no test skipped".into(),
        1 => format!("1 test skipped, wholly or in part:{each}"),
        n => format!("{n} tests skipped, wholly or in part:{each}"),
    }
}

/// Where the run of this process notes what it skips: MSGBENCH_SKIPPED, or a file named after the
/// process that started this one, which is cargo, and its start, because process ids come again.
pub fn file() -> PathBuf {
    if let Some(file) = std::env::var_os("MSGBENCH_SKIPPED") {
        return file.into();
    }
    let run = std::os::unix::process::parent_id();
    folder().join(format!("{run}-{}", started(run).unwrap_or_default()))
}

/// The folder of these files, beside the folder of the test binaries.
pub fn folder() -> PathBuf {
    let exe = std::env::current_exe().expect("a test binary has a path");
    exe.ancestors().nth(2).unwrap_or(Path::new(".")).join("skipped-tests")
}

/// When a process started, in ticks of the kernel since it came up; `None` when there is no such
/// process.
pub fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold blanks and brackets. The start is field 22 of all.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The program and version of a type of system that can be launched, by its name in the register.
pub fn system(kind: &str) -> Option<(PathBuf, String)> {
    match Register::built_in().availability(kind) {
        Availability::Found { program, version } => Some((program, version)),
        Availability::Missing { reason, remedy } => {
            lack(&reason, &remedy);
            None
        }
    }
}

/// Whether this system can be created with its options; where a part of it is missing, the test is
/// skipped.
pub fn part(spec: &SystemSpec) -> bool {
    let context = SystemContext { dir: std::env::temp_dir(), timeout: std::time::Duration::from_secs(1), cpus: None };
    match Register::built_in().create(spec, context) {
        Ok(_) => true,
        Err(SystemError::Unavailable { reason, remedy, .. }) => {
            lack(&reason, &remedy);
            false
        }
        Err(other) => panic!("{other}"),
    }
}

/// A Kafka that can be launched with the application of Kafka Streams beside it.
pub fn kafka_streams() -> bool {
    let options = serde_json::json!({ "transform": "streams" }).as_object().cloned().unwrap_or_default();
    let (name, driver) = ("kafka".to_owned(), "kafka".to_owned());
    part(&SystemSpec { name, driver, bring_up: BringUp::Launch, require: false, cpus: None, options })
}

/// A system that can be launched, in this version or a later one: `since("nats", "2.11")`. Where
/// nobody knows the version it is taken for the newest.
pub fn since(kind: &str, wanted: &str) -> Option<()> {
    let (program, version) = system(kind)?;
    if numbers(&version).is_none_or(|found| Some(found) >= numbers(wanted)) {
        return Some(());
    }
    let reason = format!("{kind} {version} is older than {wanted}");
    let remedy = format!("a newer one than {} has what is tested", program.display());
    if std::env::var_os("MSGBENCH_OLD_SERVERS").is_some_and(|value| value == "1") {
        leave_out(&reason, &remedy);
    } else {
        lack(&reason, &remedy);
    }
    None
}

/// The first two numbers of a version.
pub fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut words = version.split(|c: char| c.is_whitespace() || c == '-').map(|word| word.trim_start_matches('v'));
    words.find_map(|word| {
        let mut parts = word.split('.').map(|part| part.parse().ok());
        Some((parts.next()??, parts.next()??))
    })
}

/// The nats-server and its version.
pub fn nats_server() -> Option<(PathBuf, String)> {
    system("nats")
}

/// A Python with this module, which comes in this package.
pub fn python(module: &str, package: &str) -> Option<String> {
    let python = std::env::var("MSGBENCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let reason = match Command::new(&python).args(["-c", &format!("import {module}")]).output() {
        Ok(output) if output.status.success() => return Some(python),
        Ok(output) => String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned(),
        Err(error) => error.to_string(),
    };
    let remedy = format!("`python3 -m pip install {package}`, and name that Python in MSGBENCH_PYTHON");
    lack(&format!("{python} has no {package} ({reason})"), &remedy);
    None
}

/// kcat, in the path.
pub fn kcat() -> bool {
    let tried = Command::new("kcat").arg("-V").output();
    if let Err(error) = &tried {
        lack(&format!("no kcat ({error})"), "apt-get install kcat");
    }
    tried.is_ok()
}

/// The script that runs Kafka's own tools.
pub fn kafka_tools() -> Option<PathBuf> {
    let home = std::env::var_os("MSGBENCH_KAFKA_HOME")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/kafka")), PathBuf::from);
    let script = home.join("bin/kafka-run-class.sh");
    let reason = match Command::new("java").arg("-version").output() {
        _ if !script.exists() => format!("there is no {}", script.display()),
        Ok(output) if output.status.success() => return Some(script),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => format!("java: {error}"),
    };
    lack(&format!("no tools of Kafka ({reason})"), "`scripts/get-kafka.sh`, with Java 17 or newer");
    None
}

/// A Chromium that runs.
pub fn chromium() -> Option<PathBuf> {
    let asked = std::env::var_os("MSGBENCH_CHROMIUM").map(PathBuf::from);
    let names = ["chromium", "chromium-browser", "google-chrome"].map(PathBuf::from);
    let runs = |p: &PathBuf| Command::new(p).arg("--version").output().is_ok_and(|o| o.status.success());
    let found = asked.into_iter().chain(names).find(runs);
    if found.is_none() {
        lack("no Chromium runs", "apt-get install chromium, or name it in MSGBENCH_CHROMIUM");
    }
    found
}

/// Namespaces and queueing of the kernel: `said` is what a run said that was given no network of
/// its own.
pub fn network(said: &str) {
    lack(said.trim(), "run the tests where user and network namespaces are allowed, with the kernel's qdiscs");
}

/// Whether a run, or a check, was given the network that it wants, by its exit code and what it
/// said.
pub fn own_network(code: Option<i32>, said: &str) -> bool {
    let lacks = ["a network namespace cannot be made", "no node can be cut off alone", "cannot be shaped by"];
    let given = code != Some(2) || !lacks.iter().any(|lack| said.contains(lack));
    if !given {
        network(said);
    }
    given
}

/// A mount that is gone when it is dropped. It needs root, and a kernel that allows it.
pub struct Mount(PathBuf);

impl Mount {
    pub fn new(args: &[&str], at: &Path) -> Option<Self> {
        let reason = match Command::new("mount").args(args).arg(at).output() {
            Ok(output) if output.status.success() => return Some(Self(at.to_path_buf())),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        lack(&format!("no mount {} ({reason})", args.join(" ")), "run the tests as root, where it may mount");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A mount namespace of the test's own thread, in which `program`, which is msgbench, serves stores
/// that lose their power; they go with the thread and what it has started.
pub fn power(program: &str) -> Option<()> {
    use msgbench::system::power::{NameLoss, PowerStore, separate};
    let probe = || {
        separate()?;
        let dir = tempfile::tempdir()?;
        let (kept, at) = (dir.path().join("kept"), dir.path().join("at"));
        PowerStore::open(Path::new(program), &kept, &at, NameLoss::Ordered).map(drop)
    };
    match probe() {
        Ok(()) => Some(()),
        Err(error) => {
            lack(
                &format!("no store that loses its power ({error})"),
                "run the tests as root, where there is /dev/fuse",
            );
            None
        }
    }
}
