//! `msgbench broker` as a process of a test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a broker may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker that has said that it is ready; killed when dropped.
pub struct Process {
    pub child: Child,
    out: BufReader<ChildStdout>,
    /// The ready line.
    pub ready: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has mostly ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `msgbench broker` with these arguments.
pub fn start(args: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_msgbench"));
    command.arg("broker").args(args);
    ready(command)
}

/// Runs a command that becomes a broker, until its ready line.
pub fn ready(mut command: Command) -> Process {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut ready = String::new();
    out.read_line(&mut ready).unwrap();
    Process { child, out, ready }
}

impl Process {
    /// The ready line of `--format json`.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.ready).unwrap()
    }

    /// Where it serves Kafka clients.
    pub fn kafka(&self) -> std::net::SocketAddr {
        let ready = self.json();
        ready["policy"]["kafka"].as_str().unwrap().strip_prefix("kafka://").unwrap().parse().unwrap()
    }

    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: the process is this test's own child and has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// The closing line, once the process has ended well.
    pub fn ended(mut self) -> String {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it ends");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "{status}");
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        rest
    }
}
