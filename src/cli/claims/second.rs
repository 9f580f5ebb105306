//! Runs a second method, and keeps what it said.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::claims::{Form, SecondFound, SecondMethod};
use crate::engine::Interrupt;
use crate::record::store;
use crate::units::hex;

use super::kept::KeptRuns;

/// What its exit code says where what it needs is not here.
const NOT_HERE: i32 = 77;
/// How long one that was told to stop may take to take its servers down.
const TO_STOP: Duration = Duration::from_secs(15);

/// How much of the end of what it says is kept.
const MOST: usize = 1 << 20;

/// Of what it depends on, what is beside the file of claims.
const COMMAND: &str = "the command";
const FILES: &str = "its files";

/// What is kept of it.
#[derive(Debug, Serialize, Deserialize)]
struct KeptSecond {
    said: SecondFound,
    circumstances: BTreeMap<String, String>,
}

/// The folder of the file of claims, in which it is run.
fn folder(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What it depends on: its command, the files beside those that the command names relative to the
/// file of claims, the host, and the versions of the servers.
fn circumstances(method: &SecondMethod, file: &Path, runs: &KeptRuns) -> BTreeMap<String, String> {
    let mut all = runs.around();
    all.insert(COMMAND.into(), method.command.join(" "));
    let mut hash = Sha256::new();
    // A program elsewhere stands among many that have nothing to do with it.
    let ours = method.command.iter().filter(|word| Path::new(word).is_relative());
    for place in ours.map(|word| folder(file).join(word)).filter(|p| p.is_file()) {
        let beside = place.parent().and_then(|p| std::fs::read_dir(p).ok()).into_iter().flatten().flatten();
        let mut files: Vec<_> = beside.map(|e| e.path()).filter(|p| p.is_file()).collect();
        files.sort();
        files.iter().filter_map(|p| std::fs::read(p).ok()).for_each(|bytes| hash.update(bytes));
    }
    all.insert(FILES.into(), hex(&hash.finalize()));
    all
}

fn name(method: &SecondMethod) -> String {
    format!("{}.json", method.name)
}

fn place(runs: &KeptRuns, form: Form) -> std::path::PathBuf {
    runs.of_form(form).join("second")
}

fn read(method: &SecondMethod, form: Form, runs: &KeptRuns) -> Option<KeptSecond> {
    let bytes = std::fs::read(place(runs, form).join(name(method))).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// What it said when it was last run, or why it said nothing.
pub(super) fn newest(method: &SecondMethod, form: Form, runs: &KeptRuns) -> SecondFound {
    read(method, form, runs).map_or_else(|| Err("not run yet".into()), |kept| kept.said)
}

/// What of it has changed since it was last run: not the host, and no server's version.
pub(super) fn otherwise(method: &SecondMethod, form: Form, file: &Path, runs: &KeptRuns) -> Vec<&'static str> {
    let Some(kept) = read(method, form, runs) else { return Vec::new() };
    let now = circumstances(method, file, runs);
    let other = |what: &&str| kept.circumstances.get(*what).is_some_and(|was| now.get(*what) != Some(was));
    [COMMAND, FILES].into_iter().filter(other).collect()
}

/// What it said, where everything it depends on is as it was.
pub(super) fn unchanged(method: &SecondMethod, form: Form, file: &Path, runs: &KeptRuns) -> Option<String> {
    let now = circumstances(method, file, runs);
    read(method, form, runs).filter(|kept| kept.circumstances == now).and_then(|kept| kept.said.ok())
}

/// Runs it, and keeps what it says, also that it said nothing.
pub(super) fn run(
    method: &SecondMethod,
    form: Form,
    file: &Path,
    runs: &KeptRuns,
    interrupt: &Interrupt,
) -> SecondFound {
    let said = said(method, file, interrupt);
    if interrupt.count() > 0 {
        return said;
    }
    let kept = KeptSecond { said: said.clone(), circumstances: circumstances(method, file, runs) };
    let text = serde_json::to_vec_pretty(&kept).map_err(|e| e.to_string())?;
    let dir = place(runs, form);
    std::fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
    store::Store { dir }.write_file(&name(method), &text).map_err(|e| e.to_string())?;
    said
}

/// The last line that it prints.
fn said(method: &SecondMethod, file: &Path, interrupt: &Interrupt) -> SecondFound {
    let (program, arguments) = method.command.split_first().ok_or("it names no program")?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder(file))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // What it starts is told with it.
        .process_group(0)
        .spawn()
        .map_err(|e| format!("cannot run {program}: {e}"))?;
    let (say, heard) = std::sync::mpsc::channel();
    let output = child.stdout.take();
    std::thread::spawn(move || say.send(output.map_or_else(|| Ok(String::new()), tail)));
    let status = wait(child, (method.within.duration(), TO_STOP), interrupt).map_err(|e| e.to_string())?;
    let status = status.ok_or_else(|| match interrupt.count() {
        0 => format!("it was not ready within {}", method.within),
        _ => "interrupted".to_owned(),
    })?;
    // Whoever it left behind may hold its output open.
    let text = heard.recv_timeout(Duration::from_secs(5)).map_err(|_| "it left something behind that goes on")?;
    let text = text.map_err(|e| format!("cannot read what it says: {e}"))?;
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned();
    match status.code() {
        Some(0) if !last.is_empty() => Ok(last),
        Some(0) => Err("it printed nothing".into()),
        Some(NOT_HERE) if !last.is_empty() => Err(last),
        Some(NOT_HERE) => Err("what it needs is not here, and it does not say what".into()),
        code => Err(format!("it ended with {}: {last}", code.map_or("a signal".into(), |c| format!("exit code {c}")))),
    }
}

/// The end of what is read, all of which is taken: whoever is not listened to does not go on.
fn tail(mut from: impl Read) -> io::Result<String> {
    let (mut kept, mut piece) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let n = match from.read(&mut piece) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if n == 0 {
            let rest = kept.len().saturating_sub(MOST);
            return Ok(String::from_utf8_lossy(&kept[rest..]).into_owned());
        }
        kept.extend_from_slice(&piece[..n]);
        if kept.len() > 2 * MOST {
            kept.drain(..kept.len() - MOST);
        }
    }
}

/// Waits for it; tells it to stop when its time is over or the user wishes so. What it has started
/// ends with it.
fn wait(
    mut child: Child,
    (within, to_stop): (Duration, Duration),
    interrupt: &Interrupt,
) -> io::Result<Option<ExitStatus>> {
    let id = child.id();
    let tell = |signal: libc::c_int| {
        let Ok(group) = libc::pid_t::try_from(id) else { return false };
        // SAFETY: kill touches no memory; while the child is not reaped, or another is in its
        // group, the kernel gives the number of the group to nobody else.
        unsafe { libc::kill(-group, signal) == 0 }
    };
    let began = Instant::now();
    let mut told = None::<Instant>;
    loop {
        if let Some(status) = child.try_wait()? {
            end_rest(&tell, to_stop);
            return Ok(told.is_none().then_some(status));
        }
        match told {
            None if began.elapsed() >= within || interrupt.count() > 0 => {
                tell(libc::SIGTERM);
                told = Some(Instant::now());
            }
            Some(at) if at.elapsed() >= to_stop => {
                tell(libc::SIGKILL);
            }
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ends what is left of a group after its leader; `tell` says whether anybody was there to be told.
fn end_rest(tell: &impl Fn(libc::c_int) -> bool, to_stop: Duration) {
    let began = Instant::now();
    let mut left = tell(libc::SIGTERM);
    while left && began.elapsed() < to_stop {
        std::thread::sleep(Duration::from_millis(20));
        left = tell(0);
    }
    if left {
        tell(libc::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a command of the shell in a folder.
    fn shell(dir: &Path, command: &str, within: Duration) -> SecondFound {
        let method = SecondMethod {
            name: "probe".into(),
            by: "a probe".into(),
            command: ["sh", "-c", command].map(String::from).to_vec(),
            within: crate::units::Span(within.as_nanos() as u64),
            full_only: false,
        };
        said(&method, &dir.join("claims.toml"), &Interrupt::default())
    }

    /// Whether the process that the command has noted runs; one that is only not reaped does not.
    fn runs(dir: &Path) -> bool {
        let pid = std::fs::read_to_string(dir.join("pid")).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
    }

    #[test]
    fn what_a_method_leaves_behind_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let command = "sleep 300 >/dev/null & echo $! > pid; echo 40ms";
        assert_eq!(shell(dir.path(), command, Duration::from_secs(60)), Ok("40ms".into()));
        assert!(!runs(dir.path()));
    }

    /// The one that is told ends at once, and what it has started does not listen.
    #[test]
    fn what_does_not_end_in_time_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let command = "(trap '' TERM; exec sleep 300 >/dev/null) & echo $! > pid; exec sleep 300";
        let mut sh = Command::new("sh");
        sh.args(["-c", command]).current_dir(dir.path()).stdout(Stdio::null()).process_group(0);
        let times = (Duration::from_secs(2), Duration::from_millis(200));
        assert!(wait(sh.spawn().unwrap(), times, &Interrupt::default()).unwrap().is_none());
        let until = Instant::now() + Duration::from_secs(20);
        while runs(dir.path()) {
            assert!(Instant::now() < until, "it goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_method_that_says_much_is_heard_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let command = "yes 0123456789 | head -c 5000000; echo; echo 40ms";
        assert_eq!(shell(dir.path(), command, Duration::from_secs(60)), Ok("40ms".into()));
    }
}
