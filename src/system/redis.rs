//! Redis: a redis-server launched fresh on a free port of 127.0.0.1, or one that is already
//! running.
//!
//! # Invariant
//! What answers is ours: INFO must name the process that was started. A port that somebody else
//! took in between makes another start on another port.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;

use super::process::{Child, Held, Output, printed_version, tail};
use super::{Availability, CreateRequest, Provider, Running, System, SystemContext, SystemError, in_vain};
use crate::plan::options::{OptionSet, SystemOptions, keys, read};
use crate::plan::{Address, BringUp, Protocol, SystemSpec, SystemType};
use crate::units::Bytes;

/// Names the redis-server to start.
const VARIABLE: &str = "MSGBENCH_REDIS_SERVER";
/// Its program in PATH.
const PROGRAM: &str = "redis-server";
const REMEDY: &str = "apt-get install redis-server, or set MSGBENCH_REDIS_SERVER to its path";
/// Starts when a port turns out to be taken.
const ATTEMPTS: u32 = 3;
/// Pause between two looks whether it answers.
const POLL: Duration = Duration::from_millis(10);
/// Bound on one look.
const PROBE: Duration = Duration::from_secs(1);
/// Lines of the log that an error carries.
const TAIL_LINES: usize = 10;
/// Longest reply that is read, in bytes.
const REPLY_BOUND: u64 = 256 * 1024;

/// How its addresses are written.
const PROTOCOL: Protocol = Protocol {
    schemes: &[("redis", false)],
    reached: "redis://",
    port: 6379,
    server: "host",
    expected: "write redis://host:6379, or with credentials redis://:password@host:6379 or redis://user:password@host:6379",
    instead: &[("rediss", "there is no TLS to Redis here: write redis://host:port, through a tunnel if need be")],
    token: false,
    nameless: true,
    each: true,
};

/// When the append-only file is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppendFsync {
    /// Before each answer.
    Always,
    /// Once a second.
    Everysec,
    /// When the kernel likes.
    No,
}

/// The options of a launched redis-server.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RedisLaunchOptions {
    /// Whether commands are logged to an append-only file. Default: true.
    pub appendonly: Option<bool>,
    /// When that file is synced. Default: "everysec".
    pub appendfsync: Option<AppendFsync>,
    /// Most memory that it takes; further messages are refused. Default: without limit.
    pub max_memory: Option<Bytes>,
    /// Lines for its configuration file, as they are.
    #[schemars(extend("secret" = "text"))]
    pub config: Vec<String>,
}

impl RedisLaunchOptions {
    fn check(options: &SystemOptions) -> Result<(), String> {
        let it: Self = read(options)?;
        if it.appendonly == Some(false) && it.appendfsync.is_some() {
            return Err("option `appendfsync`: without `appendonly` there is nothing to sync".to_owned());
        }
        Ok(())
    }
}

/// `driver = "redis"`: streams.
#[derive(Debug, Clone, Copy)]
pub struct RedisType;

impl Provider for RedisType {
    fn describe(&self) -> SystemType {
        SystemType {
            lacks: |w| w.topology.reply.then_some("no request/reply on streams"),
            protocol: Some(PROTOCOL),
            options: vec![OptionSet::of::<RedisLaunchOptions>(RedisLaunchOptions::check)],
            ..SystemType::new("redis", "Redis, streams with consumer groups.")
        }
    }

    fn availability(&self) -> Availability {
        let program = std::env::var_os(VARIABLE).map_or_else(|| PathBuf::from(PROGRAM), PathBuf::from);
        match printed_version(&program, &["--version"]) {
            Ok(text) => {
                let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
                Availability::Found { program, version: version.unwrap_or("unknown").to_owned() }
            }
            Err(reason) => Availability::Missing {
                reason: format!("{} does not run: {reason}", program.display()),
                remedy: REMEDY.to_owned(),
            },
        }
    }

    fn create(&self, spec: &SystemSpec, order: CreateRequest<'_>) -> Result<Box<dyn System>, SystemError> {
        let CreateRequest { program, context, .. } = order;
        let wrong = |words: String| SystemError::Option { system: spec.name.clone(), words };
        if let BringUp::External { url } = &spec.bring_up {
            in_vain(
                spec,
                "server",
                keys::<RedisLaunchOptions>().into_iter().filter(|key| spec.options.contains_key(key)),
            )?;
            return Ok(Box::new(ExternalRedis { name: spec.name.clone(), url: url.clone(), timeout: context.timeout }));
        }
        RedisLaunchOptions::check(&spec.options).map_err(wrong)?;
        let launch = read(&spec.options).map_err(wrong)?;
        Ok(Box::new(RedisSystem { name: spec.name.clone(), program, launch, context, port: 0, child: None }))
    }
}

/// A redis-server of our own.
#[derive(Debug)]
struct RedisSystem {
    name: String,
    program: PathBuf,
    launch: RedisLaunchOptions,
    context: SystemContext,
    port: u16,
    child: Option<Child>,
}

impl RedisSystem {
    fn log(&self) -> PathBuf {
        self.context.dir.join("redis.log")
    }

    fn failed(&self, words: String) -> SystemError {
        SystemError::Start { system: self.name.clone(), words, log: tail(&self.log(), TAIL_LINES) }
    }

    fn configuration(&self) -> String {
        let yes = |on: bool| if on { "yes" } else { "no" };
        let fsync = match self.launch.appendfsync.unwrap_or(AppendFsync::Everysec) {
            AppendFsync::Always => "always",
            AppendFsync::Everysec => "everysec",
            AppendFsync::No => "no",
        };
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("port {}", self.port),
            "daemonize no".to_owned(),
            // A snapshot in the middle of a trial would be in its figures.
            "save \"\"".to_owned(),
            format!("dir \"{}\"", self.context.dir.display()),
            format!("appendonly {}", yes(self.launch.appendonly.unwrap_or(true))),
            format!("appendfsync {fsync}"),
        ];
        lines.extend(self.launch.max_memory.map(|bytes| format!("maxmemory {}", bytes.0)));
        lines.extend(self.launch.config.iter().cloned());
        lines.join("\n") + "\n"
    }

    fn spawn(&self) -> Result<Child, String> {
        let mut command = Command::new(&self.program);
        command.arg(self.context.dir.join("redis.conf"));
        Child::spawn(command, &self.log(), Output::Log, self.context.cpus.as_deref())
            .map_err(|error| format!("{} could not be started: {error}", self.program.display()))
    }

    /// One start on a free port; `None` where somebody else took it.
    fn attempt(&mut self, deadline: Instant) -> Result<Option<Running>, SystemError> {
        let held = Held::new(1).map_err(|error| self.failed(format!("no free port: {error}")))?;
        let ports = held.ports().map_err(|error| self.failed(format!("no free port: {error}")))?;
        self.port = ports[0];
        let fresh = std::fs::write(self.context.dir.join("redis.conf"), self.configuration())
            .and_then(|()| std::fs::write(self.log(), ""));
        fresh.map_err(|error| self.failed(format!("cannot write its configuration: {error}")))?;
        drop(held);
        let mut child = self.spawn().map_err(|words| self.failed(words))?;
        let mut seen = "it has not been asked".to_owned();
        while Instant::now() < deadline {
            if let Some(how) = child.ended() {
                let taken = taken(&self.log());
                return if taken { Ok(None) } else { Err(self.failed(how)) };
            }
            match info("127.0.0.1", self.port, &[], PROBE.min(deadline - Instant::now())) {
                Ok(info) if field(&info, "process_id") == Some(child.pid().to_string()) => {
                    let url = format!("redis://127.0.0.1:{}", self.port);
                    let running =
                        Running { url, pids: vec![child.pid()], settings: settings(&info), ..Running::default() };
                    self.child = Some(child);
                    return Ok(Some(running));
                }
                Ok(_) => seen = format!("another server answers on port {}", self.port),
                Err(error) => seen = error.to_string(),
            }
            std::thread::sleep(POLL);
        }
        Err(self.failed(format!("no answer within {:?}: {seen}", self.context.timeout)))
    }
}

impl System for RedisSystem {
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
        Err(self.failed(format!("a port was taken by somebody else {ATTEMPTS} times")))
    }

    fn ended(&mut self) -> Option<String> {
        self.child.as_mut()?.ended()
    }

    fn restart(&mut self, node: usize) -> Result<u32, String> {
        let child = self.child.as_mut().filter(|_| node == 0).ok_or_else(|| format!("there is no node {node}"))?;
        child.kill()?;
        let child = self.spawn()?;
        let pid = child.pid();
        self.child = Some(child);
        Ok(pid)
    }

    fn stop(&mut self) -> Result<(), SystemError> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.stop(self.context.timeout).map_err(|words| SystemError::Stop { system: self.name.clone(), words })
    }

    fn logs(&self) -> Vec<PathBuf> {
        vec![self.log()]
    }
}

/// One that somebody else runs: reached for, and left alone.
#[derive(Debug)]
struct ExternalRedis {
    name: String,
    url: String,
    timeout: Duration,
}

impl System for ExternalRedis {
    fn start(&mut self) -> Result<Running, SystemError> {
        let unavailable = |reason: String| SystemError::Unavailable {
            system: self.name.clone(),
            reason,
            remedy: "start it, or correct its url in the scenario".to_owned(),
        };
        let address = Address::read(&PROTOCOL, &self.url).map_err(|e| unavailable(e.to_string()))?;
        let [server] = &address.servers[..] else {
            return Err(unavailable("the url names several servers; one is measured".to_owned()));
        };
        let login: Vec<&str> = address.user.iter().chain(&address.password).map(String::as_str).collect();
        let info = info(&server.host, server.port, &login, self.timeout)
            .map_err(|e| unavailable(format!("{}: {e}", address.bare(&PROTOCOL))))?;
        Ok(Running { url: self.url.clone(), settings: settings(&info), ..Running::default() })
    }
}

fn taken(log: &Path) -> bool {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).contains("Address already in use")
}

/// What INFO says of `name`.
fn field(info: &str, name: &str) -> Option<String> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|v| v.trim().to_owned()))
}

fn settings(info: &str) -> std::collections::BTreeMap<String, String> {
    let names = [("redis_version", "version"), ("redis_mode", "mode")];
    names.iter().filter_map(|(from, to)| Some(((*to).to_owned(), field(info, from)?))).collect()
}

/// What the server says of itself.
///
/// # Errors
/// When nothing answers within `timeout`, or what answers is no Redis, or wants other credentials.
fn info(host: &str, port: u16, login: &[&str], timeout: Duration) -> io::Result<String> {
    let timeout = timeout.max(Duration::from_millis(1));
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for target in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&target, timeout) {
            Ok(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                if !login.is_empty() {
                    call(&stream, &[&["AUTH"], login].concat())?;
                }
                return call(&stream, &["INFO", "server"]);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Sends a command and reads its answer.
fn call(stream: &TcpStream, words: &[&str]) -> io::Result<String> {
    let mut command = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| command += &format!("${}\r\n{word}\r\n", word.len()));
    (&*stream).write_all(command.as_bytes())?;
    let mut input = BufReader::new(stream.take(REPLY_BOUND));
    let mut line = String::new();
    input.read_line(&mut line).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "connected, but no answer came"),
        io::ErrorKind::InvalidData => io::Error::new(e.kind(), "what answers is no Redis"),
        _ => e,
    })?;
    let line = line.trim_end();
    let other = |words: String| Err(io::Error::other(words));
    match line.split_at_checked(1) {
        Some(("+", text)) => Ok(text.to_owned()),
        Some(("-", words)) => other(words.to_owned()),
        Some(("$", length)) => {
            let length = length.parse::<u64>().map_err(|_| io::Error::other("what answers is no Redis"))?;
            let mut bytes = vec![0; length.min(REPLY_BOUND) as usize];
            input.read_exact(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        None => other("the connection was closed".to_owned()),
        Some(_) => other("what answers is no Redis".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::TcpListener;

    fn says(words: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            // Closing with bytes unread would reset the connection.
            let _ = stream.read(&mut [0; 64]).unwrap();
            stream.write_all(words.as_bytes()).unwrap();
        });
        match info("127.0.0.1", port, &[], Duration::from_secs(2)) {
            Ok(info) => info,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn answers_of_a_redis_and_of_others_are_told_apart() {
        let info = says("$41\r\nredis_version:7.0.15\r\nprocess_id:77\r\nx:y\r\n\r\n");
        assert_eq!(field(&info, "process_id").as_deref(), Some("77"), "{info}");
        assert_eq!(settings(&info)["version"], "7.0.15");
        assert!(says("-NOAUTH Authentication required.\r\n").contains("NOAUTH"));
        assert_eq!(says("HTTP/1.1 400\r\n\r\n"), "what answers is no Redis");
        assert_eq!(says(""), "the connection was closed");
    }

    #[test]
    fn options_are_checked() {
        let check = |value: serde_json::Value| RedisLaunchOptions::check(value.as_object().unwrap());
        assert_eq!(check(json!({ "appendfsync": "always", "max-memory": "64MiB" })), Ok(()));
        let words = check(json!({ "appendonly": false, "appendfsync": "no" })).unwrap_err();
        assert!(words.contains("nothing to sync"), "{words}");
        assert!(check(json!({ "appendfsync": "often" })).unwrap_err().contains("everysec"));
    }

    #[test]
    fn tls_is_refused_and_not_ignored() {
        let words = Address::read(&PROTOCOL, "rediss://host").unwrap_err().to_string();
        assert!(words.contains("not by rediss://") && words.contains("no TLS"), "{words}");
    }
}
