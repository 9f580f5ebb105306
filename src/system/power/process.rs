//! The process that serves a store, and what it is asked: one word a line on its standard input,
//! one line of answer on its standard output.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::mount::StoreMount;
use super::{NameLoss, PowerLoss};

/// Bound on one answer: the disk of the host may have gigabytes to take back.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest answer.
const LINE: usize = 1000;

/// Serves what is in the folder `tree` within `dir` at the folder `at` until standard input ends;
/// both are made where they are not there. What is there is taken for synced.
///
/// # Errors
/// When standard output is gone.
pub fn serve(dir: &Path, at: &Path, loss: NameLoss) -> io::Result<()> {
    let say = |words: Result<String, io::Error>| {
        let words = words.unwrap_or_else(|error| format!("error {}", error.to_string().replace('\n', " ")));
        let mut out = io::stdout().lock();
        writeln!(out, "{words}").and_then(|()| out.flush())
    };
    let mut store = match StoreMount::open(dir, at, loss) {
        Ok(store) => store,
        Err(error) => return say(Err(error)),
    };
    say(Ok("ready".to_owned()))?;
    for line in io::stdin().lock().lines() {
        match line?.as_str() {
            "cut" => say(store.cut().map(|PowerLoss { bytes, names }| format!("cut {bytes} {names}")))?,
            other => say(Err(io::Error::other(format!("there is no `{other}`"))))?,
        }
    }
    Ok(())
}

/// A folder that is served at a place by a process of its own, and can lose its power. It goes when
/// this is dropped; what it keeps on the host stays.
#[derive(Debug)]
pub struct PowerStore {
    server: Child,
    /// Nothing once it is to end.
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl PowerStore {
    /// Starts `program`, which is msgbench, to serve a folder as [`serve`] does.
    ///
    /// # Errors
    /// When it cannot be started, /dev/fuse cannot be used, or nothing may be mounted here.
    pub fn open(program: &Path, dir: &Path, at: &Path, loss: NameLoss) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg("power-store").arg(dir).arg(at).args(["--names", loss.name()]);
        // A Ctrl-C at the terminal is for who has started it.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn()?;
        let (ask, answers) = (server.stdin.take(), server.stdout.take());
        let Some(answers) = answers else { return Err(io::Error::other("its output is not to be had")) };
        let mut store = Self { server, ask, answers: BufReader::new(answers) };
        match store.answer()?.as_str() {
            "ready" => Ok(store),
            other => Err(io::Error::other(other.trim_start_matches("error ").to_owned())),
        }
    }

    /// The process that serves it.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// The power goes and comes back: what was not synced is gone. Who has files open there gets
    /// errors from then on; end them before, as a loss of power does.
    ///
    /// # Errors
    /// When the folder of the host cannot be changed, or not be served again.
    pub fn cut(&mut self) -> io::Result<PowerLoss> {
        let ask = self.ask.as_mut().ok_or_else(|| io::Error::other("it has ended"))?;
        ask.write_all(b"cut\n")?;
        let answer = self.answer()?;
        let numbers = answer.strip_prefix("cut ").and_then(|rest| rest.split_once(' '));
        let loss = numbers
            .and_then(|(bytes, names)| Some(PowerLoss { bytes: bytes.parse().ok()?, names: names.parse().ok()? }));
        loss.ok_or_else(|| io::Error::other(answer.trim_start_matches("error ").to_owned()))
    }

    /// The next line of it.
    fn answer(&mut self) -> io::Result<String> {
        let deadline = Instant::now() + ANSWER;
        let mut line = Vec::new();
        while line.len() < LINE {
            if self.answers.buffer().is_empty() && !readable(self.answers.get_ref(), deadline)? {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {ANSWER:?}")));
            }
            let mut byte = [0];
            match self.answers.read(&mut byte)? {
                0 => return Err(io::Error::other("the process that serves it has ended")),
                _ if byte[0] == b'\n' => break,
                _ => line.push(byte[0]),
            }
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

impl Drop for PowerStore {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.ask = None;
        let deadline = Instant::now() + ANSWER;
        while matches!(self.server.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.server.kill();
                let _ = self.server.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Waits until there is something to read, or the other end is gone.
fn readable(from: &ChildStdout, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let mut waits = libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: there is one pollfd, and it lives until the call returns.
        match unsafe { libc::poll(&mut waits, 1, left as libc::c_int) } {
            0 => return Ok(false),
            n if n > 0 => return Ok(true),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
