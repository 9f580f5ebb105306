//! A child process that cannot outlive msgbench.
//!
//! Invariant: whatever is started here is gone when its [`Child`] is dropped. Each child leads a
//! process group of its own, so that helpers it starts go with it and a Ctrl-C at the terminal
//! reaches msgbench alone, which then stops the child in order. Against msgbench itself being
//! killed stands `PR_SET_PDEATHSIG` (prctl(2)). That signal is sent when the *thread* that spawned
//! the child ends, not the process: spawn from a thread that lives as long as the child is to live.
//! The engine calls `System::start` from the main thread.
//!
//! The group is signalled only while its leader is not yet reaped: until then the kernel cannot
//! give its number away.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::CpuLimit;

/// How often a waiting caller looks whether the child has ended.
const POLL: Duration = Duration::from_millis(2);

/// Bound on a program that prints its version: a Java virtual machine on a busy host takes seconds.
const VERSION_BOUND: Duration = Duration::from_secs(60);

/// Bound on the kernel taking a process away after SIGKILL; longer means it hangs inside the
/// kernel.
const KILL_BOUND: Duration = Duration::from_secs(5);

/// Characters of an exception's line that are shown.
#[cfg(any(feature = "kafka", test))]
const EXCEPTION_CHARS: usize = 400;

/// How much of the end of a log is looked at for its last lines, in bytes.
const TAIL_BYTES: u64 = 64 * 1024;

/// Where the standard output of a child goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Into a pipe, taken with [`Child::take_stdout`]. Whoever takes it must keep reading.
    Piped,
    /// Into the log file, with standard error.
    Log,
}

/// A running child process with its log.
#[derive(Debug)]
pub struct Child {
    inner: std::process::Child,
    status: Option<ExitStatus>,
}

impl Child {
    /// Starts `command` in a process group of its own, with no standard input and standard error
    /// appended to `log`, within a bound of its processor time.
    ///
    /// The child gets SIGKILL when the calling thread ends (see the module head).
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn spawn(mut command: Command, log: &Path, output: Output, cpus: Option<&CpuLimit>) -> io::Result<Self> {
        let errors = open_log(log)?;
        let stdout = match output {
            Output::Piped => Stdio::piped(),
            Output::Log => errors.try_clone()?.into(),
        };
        command.stdin(Stdio::null()).stdout(stdout).stderr(errors).process_group(0);
        cpus.map_or(Ok(()), |limit| limit.put_on(&mut command))?;
        let parent = std::process::id();
        // SAFETY: between fork and exec the closure makes only the system calls prctl and getppid,
        // both async-signal-safe, and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // The parent may have died before the request was in place; then nobody would ever
                // tell the child.
                if libc::getppid() as u32 != parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                Ok(())
            });
        }
        Ok(Self { inner: command.spawn()?, status: None })
    }

    /// The process id, which is also the id of its group.
    pub fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// The read end of its standard output, once, if it was spawned with [`Output::Piped`].
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.inner.stdout.take()
    }

    /// How it ended, in words, once it has ended: `exited with code 1`, `killed by SIGKILL`.
    pub fn ended(&mut self) -> Option<String> {
        self.reap_if_exited();
        self.status.map(describe)
    }

    /// Waits until it ends by itself; `None` when it is still running after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            self.reap_if_exited();
            if self.status.is_some() || Instant::now() >= deadline {
                return self.status;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asks it to end with SIGTERM, waits up to `timeout`, then kills its group. Does nothing to a
    /// child that has ended.
    ///
    /// # Errors
    /// When it is still there some seconds after SIGKILL; the text says so.
    pub fn stop(&mut self, timeout: Duration) -> Result<(), String> {
        if self.ended().is_some() {
            return Ok(());
        }
        self.signal(self.pid() as libc::pid_t, libc::SIGTERM);
        if self.wait(timeout).is_some() {
            return Ok(());
        }
        self.kill()
    }

    /// Kills its group at once and reaps it. Does nothing to a child that has ended.
    ///
    /// # Errors
    /// When it is still there some seconds after SIGKILL; the text says so.
    pub fn kill(&mut self) -> Result<(), String> {
        if self.status.is_some() {
            return Ok(());
        }
        self.signal(-(self.pid() as libc::pid_t), libc::SIGKILL);
        match self.wait(KILL_BOUND) {
            Some(_) => Ok(()),
            None => Err(format!("process {} is still there {} s after SIGKILL", self.pid(), KILL_BOUND.as_secs())),
        }
    }

    fn reap_if_exited(&mut self) {
        if self.status.is_some() || !self.is_zombie() {
            return;
        }
        // Helpers left behind by the leader go before the leader is reaped and the number of the
        // group becomes free.
        self.signal(-(self.pid() as libc::pid_t), libc::SIGKILL);
        self.status = self.inner.try_wait().ok().flatten();
    }

    /// Whether it has ended and waits to be reaped.
    fn is_zombie(&self) -> bool {
        // SAFETY: siginfo_t is plain data for which all zeros is a valid value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: `info` is valid and writable for the call; WNOWAIT leaves the child to be reaped
        // later.
        let rc = unsafe { libc::waitid(libc::P_PID, self.pid(), &mut info, flags) };
        // SAFETY: waitid succeeded, so si_pid is the field of the union that is set (zero when
        // nothing has ended).
        rc == 0 && unsafe { info.si_pid() } != 0
    }

    fn signal(&self, target: libc::pid_t, signal: libc::c_int) {
        // SAFETY: kill touches no memory; the leader is not reaped, so the number is still ours.
        // ESRCH cannot hurt.
        unsafe { libc::kill(target, signal) };
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Nobody is left to tell; PDEATHSIG still stands behind a failure.
        let _ = self.kill();
    }
}

/// What a program prints when it is asked for its version.
///
/// # Errors
/// That it does not run, does not end in time, or says no.
pub(super) fn printed_version(program: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(args);
    let mut child =
        Child::spawn(command, Path::new("/dev/null"), Output::Piped, None).map_err(|error| error.to_string())?;
    let stdout = child.take_stdout();
    let status = child.wait(VERSION_BOUND).ok_or_else(|| format!("no version within {VERSION_BOUND:?}"))?;
    let text = stdout.map(io::read_to_string).transpose().map_err(|error| error.to_string())?.unwrap_or_default();
    if status.success() { Ok(text) } else { Err(format!("--version gave {status}")) }
}

/// Opens a log for appending, creating it when it is not there.
pub(super) fn open_log(log: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(log)
}

/// TCP ports on 127.0.0.1, all different, that nobody else is given until this is dropped.
///
/// Drop it just before what listens is started. Another process may take a port in that moment: try
/// again on a conflict.
#[derive(Debug)]
pub struct Held(Vec<TcpListener>);

impl Held {
    /// Holds `n` free ports.
    ///
    /// # Errors
    /// When the kernel has none left.
    pub fn new(n: usize) -> io::Result<Self> {
        (0..n).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<io::Result<_>>().map(Self)
    }

    /// Their numbers.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn ports(&self) -> io::Result<Vec<u16>> {
        self.0.iter().map(|l| Ok(l.local_addr()?.port())).collect()
    }
}

/// The line of the exception that ended a Java program, by its log: the deepest cause of the last
/// one.
#[cfg(any(feature = "kafka", test))]
pub fn exception(log: &Path) -> Option<String> {
    let bytes = std::fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let is_one = |line: &str| {
        let line = line.strip_prefix("Caused by: ").unwrap_or(line);
        let line = line
            .strip_prefix("Exception in thread ")
            .and_then(|l| l.splitn(3, '"').nth(2))
            .unwrap_or(line)
            .trim_start();
        let name = line.split([':', ' ']).next().unwrap_or_default();
        let named = ["Exception", "Error"].iter().any(|end| name.ends_with(end));
        named && name.contains('.') && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '$' | '_'))
    };
    // Causes follow what they caused, so that the last line is the deepest.
    let line = text.lines().rev().find(|line| is_one(line))?;
    Some(line.trim_start_matches("Caused by: ").trim_end().chars().take(EXCEPTION_CHARS).collect())
}

/// The last `lines` lines of a log, each after a line break and two spaces; empty when there is
/// nothing to read.
pub fn tail(log: &Path, lines: usize) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| format!("\n  {}", line.trim_end())).collect()
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("killed by {}", signal_name(signal)),
        (None, None) => status.to_string(),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &Path, output: Output) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Child::spawn(command, &dir.join("log"), output, None).unwrap()
    }

    fn alive(pid: u32) -> bool {
        // A process that was reaped has no entry; an orphan may stay a zombie until init looks.
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
    }

    fn gone_soon(pid: u32) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while alive(pid) && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        !alive(pid)
    }

    #[test]
    fn a_child_runs_until_it_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = shell("exec sleep 60", dir.path(), Output::Log);
        let pid = child.pid();
        assert_eq!(child.ended(), None);
        assert!(alive(pid));
        child.stop(Duration::from_secs(60)).unwrap();
        assert_eq!(child.ended().as_deref(), Some("killed by SIGTERM"));
        assert!(!alive(pid));
        child.stop(Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn a_child_deaf_to_sigterm_is_killed_with_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; sleep 60 & echo $! > helper; mv helper pid; while :; do sleep 1; done";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).current_dir(dir.path());
        let mut child = Child::spawn(command, &dir.path().join("log"), Output::Log, None).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !dir.path().join("pid").exists() && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        let helper: u32 = std::fs::read_to_string(dir.path().join("pid")).unwrap().trim().parse().unwrap();
        assert!(alive(helper));
        child.stop(Duration::from_millis(50)).unwrap();
        assert_eq!(child.ended().as_deref(), Some("killed by SIGKILL"));
        assert!(gone_soon(helper));
    }

    #[test]
    fn an_exit_code_is_put_into_words_and_the_log_keeps_both_streams() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = shell("echo out; echo err >&2; exit 3", dir.path(), Output::Log);
        assert!(child.wait(Duration::from_secs(60)).is_some());
        assert_eq!(child.ended().as_deref(), Some("exited with code 3"));
        assert_eq!(tail(&dir.path().join("log"), 10), "\n  out\n  err");
        assert_eq!(tail(&dir.path().join("log"), 1), "\n  err");
        assert_eq!(tail(&dir.path().join("no such log"), 1), "");
    }

    #[test]
    fn dropping_kills() {
        let dir = tempfile::tempdir().unwrap();
        let child = shell("exec sleep 60", dir.path(), Output::Log);
        let pid = child.pid();
        drop(child);
        assert!(!alive(pid));
    }

    #[test]
    fn the_kernel_kills_the_child_of_a_thread_that_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let mut child = std::thread::spawn(move || shell("exec sleep 60", &path, Output::Log)).join().unwrap();
        assert!(child.wait(Duration::from_secs(60)).is_some());
        assert_eq!(child.ended().as_deref(), Some("killed by SIGKILL"));
    }

    /// The largest system has 9 nodes of 3 ports. One port at a time, 94 of 2000 such sets held a
    /// port twice.
    #[test]
    fn the_ports_of_a_system_are_all_different_and_so_are_those_of_its_neighbours() {
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..250 {
                        let (one, other) = (Held::new(27).unwrap(), Held::new(27).unwrap());
                        let mut ports = [one.ports().unwrap(), other.ports().unwrap()].concat();
                        ports.sort_unstable();
                        ports.dedup();
                        assert_eq!(ports.len(), 54);
                    }
                    // All at once: what four launches hold at the same time is disjoint.
                    start.wait();
                    let mine = Held::new(27).unwrap();
                    start.wait();
                    assert!(mine.ports().unwrap().iter().all(|p| TcpListener::bind(("127.0.0.1", *p)).is_err()));
                    start.wait();
                });
            }
        });
        let held = Held::new(1).unwrap();
        let port = held.ports().unwrap()[0];
        drop(held);
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
    }

    #[test]
    fn of_a_java_failure_the_exceptions_line_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let shown = |text: &str| {
            std::fs::write(&log, text).unwrap();
            exception(&log)
        };
        let kafka = "[2026-01-01 10:00:00,000] ERROR Exiting Kafka due to fatal exception (kafka.Kafka$)\n\
            java.lang.IllegalArgumentException: requirement failed: Each listener must have a different port\n\
            \tat scala.Predef$.require(Predef.scala:337)\n\tat kafka.Kafka$.main(Kafka.scala:78)\n";
        assert_eq!(
            shown(kafka).unwrap(),
            "java.lang.IllegalArgumentException: requirement failed: Each listener must have a different port"
        );
        let class = "Error: Could not find or load main class kafka.Kafka\nCaused by: java.lang.ClassNotFoundException: kafka.Kafka\n";
        assert_eq!(shown(class).unwrap(), "java.lang.ClassNotFoundException: kafka.Kafka");
        let nested = "Exception in thread \"main\" org.apache.kafka.common.KafkaException: outer\n\tat a.B.c(D.java:1)\n\
            Caused by: java.net.BindException: Address already in use\n\tat e.F.g(H.java:2)\n\t... 3 more\nbye\n";
        assert_eq!(shown(nested).unwrap(), "java.net.BindException: Address already in use");
        let main = "Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space\n\tat a.b(C.java)\n";
        assert!(shown(main).unwrap().ends_with("java.lang.OutOfMemoryError: Java heap space"));
        assert_eq!(shown("INFO started\nAn Error: of no class\n"), None);
        assert_eq!(exception(&dir.path().join("none")), None);
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let program = Command::new("/no/such/program");
        let error = Child::spawn(program, &dir.path().join("log"), Output::Log, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
