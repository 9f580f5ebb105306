//! What a run does when things around it break: signals, killed runs, disks that are full or
//! read-only, folders that go away, addresses where nobody listens, files that are no scenarios.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "common/needs.rs"]
mod needs;
#[path = "common/work.rs"]
mod work;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use needs::Mount;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_msgbench");

/// Bound on every wait; a busy machine takes long to start things.
const BOUND: Duration = Duration::from_secs(90);

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + BOUND;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "not within {BOUND:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `msgbench run` of the reference broker, with temporary folders in `temp` and results in `out`.
fn command(temp: &Path, out: &Path, extra: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["run", "scenarios/fanout.toml", "--system", "reference", "--rate", "1k/s", "--set", "run.warmup=0s"]);
    command.args(["--out", out.to_str().unwrap()]).args(extra).env("TMPDIR", temp);
    // Tests that are run by nohup(1) have inherited that it is ignored.
    // SAFETY: signal is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        })
    };
    command
}

/// A run with what it says on standard error, line by line.
struct Run {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Run {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr: ChildStderr = child.stderr.take().unwrap();
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).all(|line| tell.send(line).is_ok())
        });
        Self { child, lines, said: Vec::new() }
    }
    /// Waits for a line that holds `words`.
    fn says(&mut self, words: &str) {
        let end = Instant::now() + BOUND;
        while !self.said.iter().any(|line| line.contains(words)) {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            self.said.push(line.unwrap_or_else(|e| panic!("{e}: `{words}` is not in {:#?}", self.said)));
        }
    }
    fn signal(&self, signal: i32) {
        // SAFETY: the child is ours and not reaped yet.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }
    /// The processes that it has started.
    fn children(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }
    /// Waits for its end: exit code, standard output, standard error.
    fn end(mut self) -> (Option<i32>, String, String) {
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        let code = self.child.wait().unwrap().code();
        self.said.extend(self.lines.iter());
        (code, out, self.said.join("\n"))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A test that fails leaves no run behind; one that has ended is reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).map(|all| all.map(|e| e.unwrap().path()).collect()).unwrap_or_default()
}

/// The folder of the only run below `out`.
fn result(out: &Path) -> Option<PathBuf> {
    entries(&out.join("fanout")).into_iter().next()
}

fn json(bytes: impl AsRef<[u8]>) -> Value {
    serde_json::from_slice(bytes.as_ref())
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(bytes.as_ref())))
}

fn words(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn hangup_terminate_and_interrupt_keep_what_is_measured_and_leave_nothing_behind() {
    std::thread::scope(|scope| {
        for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGINT] {
            scope.spawn(move || {
                let (temp, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
                let extra = ["--trials", "2", "--duration", "60s", "--format", "record"];
                let mut run = Run::start(command(temp.path(), out.path(), &extra).env("RUST_BACKTRACE", "1"));
                let broker = until("its broker", || run.children().first().copied());
                until("files of the broker", || (!entries(temp.path()).is_empty()).then_some(()));
                // Into the measured phase, of which a quiet run says nothing.
                work::worked(broker, 1000);
                run.signal(signal);
                run.says("ending this trial");
                let (code, record, said) = run.end();
                assert_eq!(code, Some(130), "signal {signal}: {said}");
                let (record, kept) = (json(record), result(out.path()).unwrap().join("run.json"));
                assert_eq!(record, json(std::fs::read(kept).unwrap()));
                assert_eq!(record["completion"], "interrupted");
                assert_eq!(record["trials"][0]["outcome"]["status"], "partial");
                assert!(record["trials"][0]["workloads"][0]["latency"]["e2e"]["count"].as_u64().unwrap() > 100);
                assert!(!alive(broker), "signal {signal}");
                assert_eq!(entries(temp.path()), Vec::<PathBuf>::new(), "signal {signal}");
            });
        }
    });
}

/// nohup(1) and the shells start a program with SIGHUP ignored when it is to live on.
#[test]
fn a_hangup_that_is_ignored_from_the_start_stays_ignored() {
    let (temp, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = command(temp.path(), out.path(), &["--trials", "1", "--duration", "2s", "--format", "record"]);
    // SAFETY: signal is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        })
    };
    let run = Run::start(&mut command);
    until("its broker", || run.children().first().copied());
    run.signal(libc::SIGHUP);
    let (code, record, said) = run.end();
    assert_ne!(code, Some(130), "{said}");
    assert_eq!(json(record)["completion"], "complete");
}

#[test]
fn folders_of_killed_runs_are_removed_by_a_later_run_and_those_of_live_ones_are_not() {
    let (temp, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let new = |known: &[PathBuf]| {
        let fresh = || entries(temp.path()).into_iter().find(|p| !known.contains(p));
        until("a folder with files of the broker", || fresh().filter(|p| !entries(p).is_empty()))
    };
    let live = Run::start(&mut command(temp.path(), out.path(), &["--duration", "300s"]));
    let of_live = new(&[]);
    let mut killed = Run::start(&mut command(temp.path(), out.path(), &["--duration", "300s"]));
    let of_killed = new(std::slice::from_ref(&of_live));
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    assert!(of_killed.is_dir(), "nobody could remove it");
    let (_, _, said) =
        words(&command(temp.path(), out.path(), &["--trials", "1", "--duration", "300ms"]).output().unwrap());
    assert_eq!(entries(temp.path()), [of_live.as_path()], "{said}");
    assert!(said.contains("1 temporary folder"), "{said}");
    assert!(!entries(&of_live).is_empty());
    live.signal(libc::SIGINT);
    assert_eq!(live.end().0, Some(130));
    assert_eq!(entries(temp.path()), Vec::<PathBuf>::new());
}

/// What holds for every way in which results cannot be written: the summary is printed, file and
/// reason are named once, the exit code is 7, and what is on disk is whole.
fn unwritten(output: &Output, out: &Path, os: &str) {
    let (code, summary, said) = words(output);
    assert_eq!(code, Some(7), "{said}\n{summary}");
    // On a busy machine no trial counts; what arrived is known all the same.
    assert!(summary.contains("typical") && summary.contains("reference lost no message ("), "{summary}");
    assert_eq!(said.matches(os).count(), 1, "once: {said}");
    assert!(said.contains(out.to_str().unwrap()), "the place: {said}");
    for folder in entries(&out.join("fanout")) {
        assert!(!entries(&folder).iter().any(|f| f.extension().is_some_and(|e| e == "tmp")), "{folder:?}");
        let Ok(kept) = std::fs::read(folder.join("run.json")) else { continue };
        let kept = json(kept);
        for trial in kept["trials"].as_array().unwrap() {
            let hlog = trial["hlog"].as_str();
            assert!(hlog.is_none_or(|name| folder.join(name).is_file()), "a log that is not there: {hlog:?}");
        }
        let rows = std::fs::read_to_string(folder.join("intervals.csv")).unwrap_or_default();
        assert!(rows.is_empty() || rows.ends_with('\n'), "half a row: {rows:?}");
    }
}

#[test]
fn a_results_folder_that_cannot_be_made_costs_no_figures() {
    let (temp, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = out.path().join("a-file");
    std::fs::write(&file, "in the way").unwrap();
    let output = command(temp.path(), &file, &["--trials", "1", "--duration", "300ms"]).output().unwrap();
    unwritten(&output, &file, "Not a directory");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "in the way");
    assert_eq!(entries(temp.path()), Vec::<PathBuf>::new());
}

/// A limit on the size of files is as good as a disk that is full, and needs no rights.
#[test]
fn files_that_may_not_grow_cost_no_figures_and_no_trial_that_fits() {
    for kib in [16, 48] {
        let (temp, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut command = command(temp.path(), out.path(), &["--trials", "3", "--duration", "300ms"]);
        let limit = libc::rlimit { rlim_cur: kib << 10, rlim_max: kib << 10 };
        // SAFETY: setrlimit is a plain system call on a valid struct.
        unsafe {
            command.pre_exec(move || {
                libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
                Ok(())
            })
        };
        let output = command.output().unwrap();
        unwritten(&output, out.path(), "File too large");
        assert!(String::from_utf8_lossy(&output.stdout).contains("/3"), "all trials are in the summary");
    }
}

#[test]
fn a_full_disk_costs_no_figures_and_no_trial_that_fits() {
    for size in ["4k", "160k", "480k"] {
        let (temp, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let size = format!("size={size}");
        let Some(_mount) = Mount::new(&["-t", "tmpfs", "-o", &size, "tmpfs"], out.path()) else {
            return;
        };
        let output = command(temp.path(), out.path(), &["--trials", "3", "--duration", "300ms"]).output().unwrap();
        unwritten(&output, out.path(), "No space left on device");
        if size == "size=480k" {
            let kept = json(std::fs::read(result(out.path()).unwrap().join("run.json")).unwrap());
            assert_eq!(kept["trials"].as_array().unwrap().len(), 3, "the record of all trials fits");
            assert_eq!(kept["completion"], "complete");
        }
    }
}

#[test]
fn a_read_only_disk_costs_no_figures() {
    let (temp, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(_mount) = Mount::new(&["-t", "tmpfs", "-o", "ro,size=1m", "tmpfs"], out.path()) else {
        return;
    };
    let output = command(temp.path(), out.path(), &["--trials", "1", "--duration", "300ms"]).output().unwrap();
    unwritten(&output, out.path(), "Read-only file system");
}

#[test]
fn a_results_folder_that_is_removed_meanwhile_is_said_and_made_again() {
    let (temp, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = Run::start(&mut command(temp.path(), out.path(), &["--trials", "3", "--duration", "1s"]));
    let folder = until("the first trial", || {
        result(out.path()).filter(|f| f.join("reference-1.hlog").exists() && f.join("intervals.csv").exists())
    });
    until("removed", || std::fs::remove_dir_all(&folder).ok());
    let (code, summary, said) = run.end();
    assert_eq!(code, Some(7), "the log of the first trial is gone: {said}\n{summary}");
    assert!(said.contains("removed while") && said.contains("reference-1.hlog"), "{said}");
    assert_eq!(result(out.path()), Some(folder.clone()));
    let kept = json(std::fs::read(folder.join("run.json")).unwrap());
    let trials = kept["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 3);
    assert!(trials[0]["hlog"].is_null() && trials[2]["hlog"] == "reference-3.hlog", "{trials:?}");
    let rows = std::fs::read_to_string(folder.join("intervals.csv")).unwrap();
    assert!((1..=3).all(|round| rows.contains(&format!("reference,{round},"))), "{rows}");
    assert!(folder.join("report.html").exists() && folder.join("run.schema.json").exists());
}

#[test]
fn a_second_interrupt_does_not_count_as_lost_what_is_on_its_way() {
    let (temp, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let extra = ["--trials", "1", "--duration", "60s", "--set", "run.drain=60s"];
    let mut run = Run::start(&mut command(temp.path(), out.path(), &extra));
    let broker = until("its broker", || run.children().first().copied()) as i32;
    run.says("measure, ");
    // SAFETY: the broker is the only child of our child, which has not reaped it.
    assert_eq!(unsafe { libc::kill(broker, libc::SIGSTOP) }, 0);
    // Enough that a busy machine has sent some of them.
    std::thread::sleep(Duration::from_millis(1500));
    run.signal(libc::SIGINT);
    run.says("ending this trial");
    std::thread::sleep(Duration::from_millis(100));
    run.signal(libc::SIGINT);
    run.says("giving up");
    let (code, summary, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    let kept = json(std::fs::read(result(out.path()).unwrap().join("run.json")).unwrap());
    let workload = &kept["trials"][0]["workloads"][0];
    let ledger = &workload["ledger"];
    assert_eq!(ledger["lost"], 0, "{ledger}");
    assert!(ledger["in_flight"].as_u64().unwrap() > 100, "{ledger}");
    assert_eq!(workload["latency"]["e2e"]["lost"], 0, "{}", workload["latency"]["e2e"]);
    assert!(workload["promises"].as_array().unwrap().iter().all(|p| p["kept"] == true), "{}", workload["promises"]);
    assert!(summary.contains("on their way") && !summary.contains("BROKEN"), "{summary}");
    assert_eq!(entries(temp.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_dead_address_is_said_once_and_not_tried_again() {
    let (temp, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // No free port is ever this low, so that no other test can listen there.
    let url = "system.nats.url=nats://127.0.0.1:1";
    let extra = ["--system", "nats", "--trials", "3", "--duration", "300ms", "--set", url];
    let (code, summary, said) = words(&command(temp.path(), out.path(), &extra).output().unwrap());
    assert_eq!(code, Some(6), "{said}");
    let kept = json(std::fs::read(result(out.path()).unwrap().join("run.json")).unwrap());
    let rounds = |case: &str| kept["trials"].as_array().unwrap().iter().filter(|t| t["case"] == case).count();
    assert_eq!((rounds("nats"), rounds("reference")), (1, 3));
    for (name, text) in [("summary", &summary), ("standard error", &said)] {
        // Lines end where they are full.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(text.matches("Connection refused").count(), 1, "{name}: {text}");
        assert!(text.contains("its other 2 trials are skipped"), "{name}: {text}");
    }
    // Advice on a load that never was.
    let nats = kept["trials"].as_array().unwrap().iter().find(|t| t["case"] == "nats").unwrap();
    assert_eq!(nats["validity"], serde_json::json!([]), "{nats}");
    let advice = summary.lines().find(|l| l.contains("V1 ") && l.contains("nats"));
    assert_eq!(advice, None);
}

/// Runs a command that must end by itself, soon, and with exit code 2: what it said.
fn refused(args: &[&str]) -> String {
    let mut child =
        Command::new(PROGRAM).args(args).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{args:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(status.code(), Some(2), "{args:?}: {said}");
    said
}

#[test]
fn what_is_no_scenario_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    std::fs::File::create(at("large")).unwrap().set_len(20 << 20).unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    std::fs::write(at("latin1"), b"name = \"caf\xe9\"\n").unwrap();
    let result = "results/example/2";
    for (file, what) in [
        ("/dev/zero".to_owned(), "device"),
        (at("fifo"), "FIFO"),
        (at("socket"), "socket"),
        (at("folder"), "folder"),
        (at("large"), "10 MiB"),
        (at("latin1"), "UTF-8"),
    ] {
        for args in [vec!["check", &file], vec!["run", &file], vec!["compare", result, result, "--gate", &file]] {
            let said = refused(&args);
            assert!(said.contains(what) && said.contains(&file), "{args:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        }
    }
}

/// Process substitution of a shell hands over a pipe.
#[test]
fn a_scenario_may_come_through_a_pipe() {
    let script = "(sleep 0.2; cat scenarios/fanout.toml) | \"$0\" check /dev/stdin";
    let output = Command::new("/bin/sh").args(["-c", script]).arg(PROGRAM).output().unwrap();
    let (code, plan, said) = words(&output);
    assert_eq!(code, Some(0), "{said}");
    assert!(plan.contains("fanout"), "{plan}");
}

#[test]
fn a_diagnostic_shows_at_most_200_characters_of_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("long.toml");
    std::fs::write(&file, format!("name = \"{}\"\nquestion = 7\n{}sise = 3\n", "x".repeat(30_000), "y".repeat(5_000)))
        .unwrap();
    let said = refused(&["check", file.to_str().unwrap()]);
    assert!(!said.contains(&"y".repeat(201)) && !said.contains(&"x".repeat(201)), "{said}");
    let set = format!("run.trials={}", "z".repeat(5_000));
    let said = refused(&["check", "scenarios/fanout.toml", "--set", &set]);
    assert!(!said.contains(&"z".repeat(201)), "{said}");
}
