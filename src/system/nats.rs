//! A single nats-server, launched fresh on a free port of 127.0.0.1.
//!
//! A free port may be taken by somebody else before the server binds it; then the server ends and is started again
//! on another. The server is given a name of our making and must say that name back, so that a stranger who answers on
//! the port is never measured in its place.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::external::{info, plain, settings};
use super::process::{Child, Output, free_port, tail};
use super::{Availability, Context, Running, System, SystemError};

/// What would make nats-server available.
const REMEDY: &str = "apt-get install nats-server, or go install github.com/nats-io/nats-server/v2@latest, or set \
                      MSGBENCH_NATS_SERVER to its path";

/// Starts when the port turns out to be taken.
const ATTEMPTS: u32 = 3;

/// Pause between two looks whether it answers.
const POLL: Duration = Duration::from_millis(10);

/// Bound on one look: a stranger that accepts and says nothing must not hide that our server has ended.
const PROBE: Duration = Duration::from_secs(1);

/// Lines of the log that an error carries.
const TAIL_LINES: usize = 10;

/// Bound on `nats-server --version`.
const VERSION_BOUND: Duration = Duration::from_secs(5);

/// A nats-server of our own.
#[derive(Debug)]
pub struct Nats {
    name: String,
    program: PathBuf,
    context: Context,
    child: Option<Child>,
}

impl Nats {
    /// `name` as in the plan, `program` from [`availability`].
    pub fn new(name: &str, program: PathBuf, context: Context) -> Self {
        Self { name: name.to_owned(), program, context, child: None }
    }

    fn log(&self) -> PathBuf {
        self.context.dir.join("nats-server.log")
    }

    fn failed(&self, words: String) -> SystemError {
        SystemError::Start { system: self.name.clone(), words, log: tail(&self.log(), TAIL_LINES) }
    }

    /// One start on one port; `Ok(None)` when the port was taken.
    fn attempt(&mut self, deadline: Instant) -> Result<Option<Running>, SystemError> {
        let port = free_port().map_err(|error| self.failed(format!("no free port: {error}")))?;
        let server = format!("msgbench-{}-{port}", std::process::id());
        let log = self.log();
        let mut command = Command::new(&self.program);
        command.args(["-a", "127.0.0.1", "-p"]).arg(port.to_string()).args(["-n", &server, "-l"]).arg(&log);
        let before = std::fs::metadata(&log).map_or(0, |meta| meta.len());
        let mut child = Child::spawn(command, &log, Output::Log)
            .map_err(|error| self.failed(format!("{} could not be started: {error}", self.program.display())))?;
        let mut seen = "it has not been asked".to_owned();
        while Instant::now() < deadline {
            if let Some(end) = child.ended() {
                return if port_was_taken(&log, before) { Ok(None) } else { Err(self.failed(end)) };
            }
            match info("127.0.0.1", port, PROBE.min(deadline.saturating_duration_since(Instant::now()))) {
                Ok(info) if info.get("server_name").map(plain).as_deref() == Some(server.as_str()) => {
                    let running = Running {
                        url: format!("nats://127.0.0.1:{port}"),
                        pids: vec![child.pid()],
                        settings: settings(&info),
                    };
                    self.child = Some(child);
                    return Ok(Some(running));
                }
                Ok(_) => seen = format!("another server answers on port {port}"),
                Err(error) => seen = error.to_string(),
            }
            std::thread::sleep(POLL);
        }
        Err(self.failed(format!("no answer within {:?}: {seen}", self.context.timeout)))
    }
}

/// Whether what was written to the log after `before` says that the address was in use.
fn port_was_taken(log: &Path, before: u64) -> bool {
    let bytes = std::fs::read(log).unwrap_or_default();
    let new = bytes.get(usize::try_from(before).unwrap_or(usize::MAX)..).unwrap_or_default();
    String::from_utf8_lossy(new).contains("address already in use")
}

impl System for Nats {
    fn start(&mut self) -> Result<Running, SystemError> {
        if self.child.is_some() {
            return Err(self.failed("it was started already".to_owned()));
        }
        let deadline = Instant::now() + self.context.timeout;
        for _ in 0..ATTEMPTS {
            if let Some(running) = self.attempt(deadline)? {
                return Ok(running);
            }
        }
        Err(self.failed(format!("the port was taken by somebody else {ATTEMPTS} times")))
    }

    fn ended(&mut self) -> Option<String> {
        self.child.as_mut()?.ended()
    }

    fn stop(&mut self) -> Result<(), SystemError> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.stop(self.context.timeout).map_err(|words| SystemError::Stop { system: self.name.clone(), words })
    }

    fn logs(&self) -> Vec<PathBuf> {
        vec![self.log()]
    }
}

/// Whether a nats-server is to be had: at `explicit` if given, else in the folders of `path`, else in `/usr/sbin`.
pub(super) fn availability(explicit: Option<OsString>, path: Option<OsString>) -> Availability {
    let missing = |reason: String| Availability::Missing { reason, remedy: REMEDY.to_owned() };
    let program = match explicit {
        Some(program) => PathBuf::from(program),
        None => {
            let folders: Vec<PathBuf> = std::env::split_paths(&path.unwrap_or_default()).collect();
            let mut candidates = folders.iter().map(|folder| folder.join("nats-server"));
            match candidates.find(|file| file.is_file()) {
                Some(program) => program,
                // Debian puts it there, and the PATH of an ordinary user leaves that folder out.
                None if Path::new("/usr/sbin/nats-server").is_file() => PathBuf::from("/usr/sbin/nats-server"),
                None => return missing("nats-server is neither in PATH nor in /usr/sbin".to_owned()),
            }
        }
    };
    match version(&program) {
        Ok(version) => Availability::Found { program, version },
        Err(reason) => missing(format!("{} does not run: {reason}", program.display())),
    }
}

/// The version a nats-server prints, without its `nats-server: v`.
fn version(program: &Path) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg("--version");
    let mut child = Child::spawn(command, Path::new("/dev/null"), Output::Piped).map_err(|error| error.to_string())?;
    let stdout = child.take_stdout();
    let status = child.wait(VERSION_BOUND).ok_or_else(|| format!("no version within {VERSION_BOUND:?}"))?;
    let text = stdout.map(std::io::read_to_string).transpose().map_err(|error| error.to_string())?.unwrap_or_default();
    if !status.success() {
        return Err(format!("--version gave {status}"));
    }
    let word = text.split_whitespace().last().ok_or("--version printed nothing")?;
    Ok(word.trim_start_matches('v').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The installed server; `None`, said aloud, when there is none and skipping is allowed.
    fn installed() -> Option<PathBuf> {
        match availability(std::env::var_os("MSGBENCH_NATS_SERVER"), std::env::var_os("PATH")) {
            Availability::Found { program, .. } => Some(program),
            Availability::Missing { reason, remedy } => {
                let forced = std::env::var_os("MSGBENCH_NO_SKIP").is_some_and(|value| value == "1");
                assert!(!forced, "MSGBENCH_NO_SKIP=1, but {reason}; {remedy}");
                eprintln!("SKIPPED: {reason}; {remedy}");
                None
            }
        }
    }

    fn context(dir: &Path) -> Context {
        Context { dir: dir.to_owned(), timeout: Duration::from_secs(10) }
    }

    #[test]
    fn a_server_comes_up_says_what_it_is_and_goes_away() {
        let Some(program) = installed() else { return };
        let dir = tempfile::tempdir().unwrap();
        let mut nats = Nats::new("nats", program, context(dir.path()));
        let running = nats.start().unwrap();
        assert!(running.url.starts_with("nats://127.0.0.1:"));
        assert_eq!(running.pids.len(), 1);
        assert!(running.settings["version"].starts_with(|c: char| c.is_ascii_digit()));
        assert!(running.settings["max_payload"].parse::<u64>().unwrap() > 0);
        assert_eq!(nats.ended(), None);
        assert!(nats.start().is_err());
        nats.stop().unwrap();
        nats.stop().unwrap();
        assert!(!Path::new(&format!("/proc/{}", running.pids[0])).exists());
        assert!(nats.logs()[0].is_file());
    }

    #[test]
    fn a_server_killed_from_outside_is_noticed() {
        let Some(program) = installed() else { return };
        let dir = tempfile::tempdir().unwrap();
        let mut nats = Nats::new("nats", program, context(dir.path()));
        let pid = nats.start().unwrap().pids[0];
        // SAFETY: kill touches no memory; the process is our child and not yet reaped.
        assert_eq!(unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) }, 0);
        let deadline = Instant::now() + Duration::from_secs(5);
        while nats.ended().is_none() && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        assert_eq!(nats.ended().as_deref(), Some("killed by SIGKILL"));
        nats.stop().unwrap();
    }

    #[test]
    fn a_program_that_is_no_server_is_refused_with_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut nats = Nats::new("nats", PathBuf::from("/bin/false"), context(dir.path()));
        assert_eq!(nats.start().unwrap_err().to_string(), "nats did not come up: exited with code 1");
    }

    #[test]
    fn a_taken_port_is_told_from_other_ends() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "listen tcp 127.0.0.1:1: bind: address already in use\n").unwrap();
        assert!(port_was_taken(&log, 0));
        assert!(!port_was_taken(&log, std::fs::metadata(&log).unwrap().len()));
        assert!(!port_was_taken(&dir.path().join("none"), 0));
    }

    #[test]
    fn what_is_missing_comes_with_its_remedy() {
        let Availability::Missing { reason, remedy } = availability(Some("/no/such/server".into()), None) else {
            panic!("found what is not there");
        };
        assert!(reason.starts_with("/no/such/server does not run: No such file"), "{reason}");
        for way in ["apt-get install nats-server", "go install github.com/nats-io", "MSGBENCH_NATS_SERVER"] {
            assert!(remedy.contains(way), "{remedy}");
        }
    }
}
