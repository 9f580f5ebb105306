//! `msgbench agents ssh`: one process of the user's ssh for each agent, kept until all have ended.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use super::LaunchArgs;
use crate::cli::interrupt::listen_with;
use crate::cli::{Exit, Failure, print};
use crate::engine::Interrupt;
use crate::launch::ssh::{SshHost, command_line, names};
use crate::launch::{AgentCommand, shell_line};
use crate::units::say;

/// How often ended agents and the wish to stop are looked for.
const LOOK: Duration = Duration::from_millis(100);
/// So many looks an agent has to end when its input is closed, before its ssh is ended.
const LOOKS_TO_END: u32 = 100;

/// Arguments of `agents ssh`.
#[derive(Debug, clap::Args)]
pub struct SshArgs {
    /// Hosts as ssh knows them; one that is named twice has two agents
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<SshHost>,
    #[command(flatten)]
    agent: LaunchArgs,
    /// msgbench on the hosts
    #[arg(long, value_name = "PATH", default_value = "msgbench")]
    program: String,
    /// File with the key for the control server, on the hosts
    #[arg(long, value_name = "PATH")]
    key: Option<String>,
    /// An option of ssh, as in its configuration: ProxyJump=gate. May be given several times
    #[arg(long = "ssh-option", value_name = "NAME=VALUE")]
    options: Vec<String>,
    /// Let each agent end after its first run
    #[arg(long)]
    once: bool,
    /// Print the command lines and start nothing
    #[arg(long)]
    print: bool,
}

/// One agent's ssh.
struct RunningSsh {
    name: String,
    child: Child,
    /// What hands its output on.
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

pub(super) fn run(args: &SshArgs) -> Result<Exit, Failure> {
    let lines: Vec<(String, Vec<String>)> = names(&args.hosts)
        .into_iter()
        .zip(&args.hosts)
        .map(|(name, host)| (name.clone(), line(args, name, host)))
        .collect();
    if args.print {
        return print(&lines.iter().map(|(_, words)| shell_line(words) + "\n").collect::<String>());
    }
    let interrupt = Interrupt::default();
    listen_with(&interrupt, ["\nmsgbench: ending the agents", "\nmsgbench: giving up"])?;
    let mut all = Vec::new();
    for (name, words) in lines {
        say(format_args!("msgbench: {}", shell_line(&words)));
        match start(name, &words) {
            Ok(running) => all.push(running),
            Err(failure) => {
                end(&mut all, &interrupt);
                return Err(failure);
            }
        }
    }
    while all.iter_mut().any(|one| !one.has_ended()) {
        if interrupt.count() > 0 {
            end(&mut all, &interrupt);
            return Ok(Exit::Interrupted);
        }
        std::thread::sleep(LOOK);
    }
    outcome(all)
}

fn line(args: &SshArgs, name: String, host: &SshHost) -> Vec<String> {
    let agent = AgentCommand {
        program: args.program.clone(),
        control: args.agent.control.clone(),
        name,
        fleet: args.agent.fleet.clone(),
        labels: args.agent.labels.clone(),
        key: args.key.clone(),
        once: args.once,
    };
    command_line(&args.options, host, &agent)
}

fn start(name: String, words: &[String]) -> Result<RunningSsh, Failure> {
    let mut command = Command::new(&words[0]);
    // The agent lives as long as this pipe is open. ssh asks for passwords at the terminal itself.
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let cannot = |e: std::io::Error| Failure::system(format!("cannot start {}: {e}", words[0]));
    let mut child = command.spawn().map_err(cannot)?;
    let outputs: [Option<Box<dyn Read + Send>>; 2] =
        [child.stdout.take().map(|o| Box::new(o) as _), child.stderr.take().map(|o| Box::new(o) as _)];
    let hand_on = |output: Box<dyn Read + Send>| {
        let name = name.clone();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let mut output = BufReader::new(output);
            while output.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
                say(format_args!("{name}: {}", String::from_utf8_lossy(&bytes).trim_end()));
                bytes.clear();
            }
        })
    };
    let readers = outputs.into_iter().flatten().map(hand_on).collect();
    Ok(RunningSsh { name, child, readers, ended: None })
}

impl RunningSsh {
    fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_some()
    }
}

/// Lets all agents end: their input is closed. An ssh that outlives that is ended.
fn end(all: &mut [RunningSsh], interrupt: &Interrupt) {
    all.iter_mut().for_each(|one| drop(one.child.stdin.take()));
    for _ in 0..LOOKS_TO_END {
        if all.iter_mut().all(RunningSsh::has_ended) {
            return;
        }
        if interrupt.count() > 1 {
            break;
        }
        std::thread::sleep(LOOK);
    }
    for one in all.iter_mut().filter(|one| one.ended.is_none()) {
        say(format_args!("msgbench: {} did not end in time; its ssh is ended", one.name));
        // One that has ended meanwhile cannot be.
        let _ = one.child.kill();
        let _ = one.child.wait();
    }
}

/// The agents that failed, in words.
fn outcome(all: Vec<RunningSsh>) -> Result<Exit, Failure> {
    let mut failed = Vec::new();
    for one in all {
        for reader in one.readers {
            // Its words are handed on to the last; it has nothing to tell.
            let _ = reader.join();
        }
        match one.ended.and_then(|status| status.code()) {
            Some(0) => {}
            // By ssh(1) a failure of its own.
            Some(255) => failed.push(format!("{}: ssh could not reach it, or lost it", one.name)),
            Some(127) => failed.push(format!("{}: there is no such program; --program names it", one.name)),
            Some(code) => failed.push(format!("{} ended with {code}", one.name)),
            None => failed.push(format!("{}: its ssh was killed", one.name)),
        }
    }
    if failed.is_empty() { Ok(Exit::Passed) } else { Err(Failure::system(failed.join("; "))) }
}
