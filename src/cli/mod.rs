//! One file per command; arguments in, exit code out.

mod adhoc;
mod agent;
mod agents;
pub mod broker;
mod calibrate;
mod capacity;
mod check;
mod claims;
mod clock_echo;
mod color;
mod compare;
mod control_args;
mod doctor;
mod environment;
mod export;
mod history;
mod init;
mod interrupt;
mod list;
mod man;
mod page;
mod power;
mod progress;
mod report;
mod results;
mod resume;
mod review;
mod run;
mod run_writer;
mod scenario_args;
mod scenarios;
mod shipped;
mod source;
mod systems;
mod unlike;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::record::store::Store;
use crate::report::charts::{self, Chart, Foot};
use crate::report::export::summary;
use crate::report::pages::text::TextStyle;
use color::ColorChoice;

/// What the exit codes mean; a stable interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Passed = 0,
    /// An internal error, or this machine failed.
    Internal = 1,
    /// The command line or the scenario is wrong.
    Usage = 2,
    /// A regression, or an expectation that is not met.
    Regressed = 3,
    /// The measurement is invalid: its figures may not be believed.
    Invalid = 4,
    /// Nothing is certain, and the policy says that this fails.
    Inconclusive = 5,
    /// The system under test failed, or one that was asked for is not there.
    SystemFailed = 6,
    /// The result, or a part of it, could not be written. A number of its own, because a script
    /// that goes on reads files: with any other number it would look for what is not there.
    Unwritten = 7,
    /// Interrupted by the user.
    Interrupted = 130,
}

impl Exit {
    /// The outcome of a comparison or of expectations, as `compare` numbers it.
    fn of_code(code: u8) -> Self {
        match code {
            0 => Self::Passed,
            3 => Self::Regressed,
            4 => Self::Invalid,
            5 => Self::Inconclusive,
            _ => Self::Internal,
        }
    }
}

/// Benchmarks messaging systems so that the result can be believed.
///
/// A scenario describes one workload; msgbench drives it on an open-loop schedule against the
/// built-in reference broker, NATS and Kafka, accounts for every message, and reports latency from
/// the instant each message was due.
///
/// Start here:  msgbench run fanout --quick
#[derive(Debug, Parser)]
#[command(name = "msgbench", version, after_help = environment::after_help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// When to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    color: ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Execute a scenario, print a summary, write results and a report
    Run(Box<run::RunArgs>),
    /// Find the highest load that keeps limits, such as 99 of 100 messages within 20 ms
    Capacity(Box<capacity::CapacityArgs>),
    /// Say all that `run` would refuse of a scenario, and print the resolved plan; starts no server
    Check(check::CheckArgs),
    /// Write a commented scenario to begin with
    Init(init::InitArgs),
    /// List the built-in scenarios, or show one
    Scenarios(scenarios::ScenariosArgs),
    /// List past results, newest first
    List(list::ListArgs),
    /// Compare two results, or the systems within one: what differs, by how much, how certain
    Compare(compare::CompareArgs),
    /// Results over time: trends, and where a level changed
    History(history::HistoryArgs),
    /// Put several scenarios' results on one page: workloads by systems, for an architecture review
    Review(review::ReviewArgs),
    /// Put what somebody says of messaging systems to the test: an article, a vendor's page, your
    /// own objectives
    Claims(claims::ClaimsArgs),
    /// Start agents: on this host, on others by ssh, or by Kubernetes
    Agents(agents::AgentsArgs),
    /// Render the report of a result again
    Report(report::ReportArgs),
    /// Serve the built-in reference broker to ordinary NATS clients
    Broker(Box<broker::BrokerArgs>),
    /// Run a part of the load of a scenario that a coordinator (`msgbench run --agents N`) divides
    Agent(agent::AgentArgs),
    /// Show which systems can be launched here, their versions, and how to get what is missing
    Systems(systems::SystemsArgs),
    /// Print a JSON schema: of scenario files, for editors, or of what commands write
    Schema {
        #[arg(value_enum, default_value_t)]
        of: SchemaOf,
        /// As a JSON schema, or, of scenario files, as a reference for people
        #[arg(long, value_enum, default_value_t)]
        format: SchemaFormat,
    },
    /// Audit this host: what spoils latencies here, why, and the command that mends it; changes
    /// nothing
    Doctor(doctor::DoctorArgs),
    /// Prove on this host that what msgbench prints is so: inject faults, measure, compare; writes
    /// a certificate
    Calibrate(calibrate::CalibrateArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man(man::ManArgs),
    /// Serve a folder that loses what was not synced when its power goes; msgbench starts it
    #[command(hide = true)]
    PowerStore(power::PowerArgs),
    /// Answer exchanges of clock readings; tests and calibrations start it
    #[command(hide = true)]
    ClockEcho(clock_echo::ClockEchoArgs),
}

/// What there is a JSON schema of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum SchemaOf {
    /// A scenario file
    #[default]
    Scenario,
    /// A gate file
    Gate,
    /// A file of claims
    Claims,
    /// run.json
    Run,
    /// The output of run --format json, and `summary` of compare --format json
    Summary,
    /// The output of compare --format json
    Compare,
    /// A line of a history file
    History,
}

/// How a schema is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum SchemaFormat {
    /// For editors and scripts
    #[default]
    Json,
    /// For people
    Markdown,
}

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// For people
    #[default]
    Text,
    /// For scripts
    Json,
}

/// Runs the command line and returns the exit code. Messages for people go to standard error,
/// results to standard output.
pub fn main() -> u8 {
    interrupt::let_large_writes_fail();
    // Whoever has a thousand consumers would else be told that the system takes no more.
    crate::host::files::raise_limit();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            match meant(&e) {
                Some(words) => crate::units::say(format_args!("msgbench: {words}")),
                // A closed standard output is not worth a panic.
                None => drop(e.print()),
            }
            return if e.use_stderr() { Exit::Usage as u8 } else { Exit::Passed as u8 };
        }
    };
    let exit = match cli.command {
        Command::Run(args) => run::run(&args, cli.color.on()),
        Command::Capacity(mut args) => capacity::run(&mut args, cli.color.on()),
        Command::Init(args) => init::run(&args),
        Command::Scenarios(args) => scenarios::run(&args),
        Command::List(args) => list::run(&args),
        Command::Man(args) => man::run(&args),
        Command::PowerStore(args) => power::run(&args),
        Command::ClockEcho(args) => clock_echo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::History(args) => history::run(&args, cli.color.on()),
        Command::Report(args) => report::run(&args, cli.color.on()),
        Command::Review(args) => review::run(&args, cli.color.on()),
        Command::Claims(args) => claims::run(&args, cli.color.on()),
        Command::Agent(args) => agent::run(&args),
        Command::Agents(args) => agents::run(&args),
        Command::Systems(args) => systems::run(&args),
        Command::Broker(args) => broker::run(*args).map(|()| Exit::Passed).map_err(Failure::system),
        Command::Schema { of: SchemaOf::Scenario, format: SchemaFormat::Markdown } => {
            print(&crate::scenario::reference(&crate::engine::Register::built_in().types()))
        }
        Command::Schema { format: SchemaFormat::Markdown, .. } => {
            Err(Failure::usage("only the schema of scenarios can be printed as Markdown; leave out --format"))
        }
        Command::Schema { of, .. } => print(&match of {
            SchemaOf::Scenario => pretty(&crate::scenario::schema(&crate::engine::Register::built_in().types())),
            SchemaOf::Gate => pretty(&schemars::schema_for!(crate::scenario::gate::GateFile)),
            SchemaOf::Claims => pretty(&schemars::schema_for!(crate::claims::file::ClaimsFile)),
            SchemaOf::Run => pretty(&schemars::schema_for!(crate::record::Record)),
            SchemaOf::Summary => pretty(&schemars::schema_for!(summary::RunOutcome)),
            SchemaOf::Compare => pretty(&schemars::schema_for!(summary::CompareOutcome)),
            SchemaOf::History => pretty(&schemars::schema_for!(crate::compare::history::HistoryEntry)),
        }),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Calibrate(args) => calibrate::calibrate(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "msgbench", &mut std::io::stdout());
            Ok(Exit::Passed)
        }
    };
    match exit {
        Ok(exit) => exit as u8,
        Err(failure) => {
            crate::units::say(format_args!("msgbench: {}", failure.words));
            failure.exit as u8
        }
    }
}

/// What a user meant by an option that there is not, where other programs have it.
fn meant(error: &clap::Error) -> Option<String> {
    let given = error.get(ContextKind::InvalidArg)?.to_string();
    let option = given.split(['=', ' ']).next().unwrap_or_default();
    let remedy = match (error.kind(), option) {
        (ErrorKind::UnknownArgument, "--json") => "write --format json",
        (ErrorKind::UnknownArgument, "--no-color") => "write --color never",
        (ErrorKind::UnknownArgument, "--payload" | "--message-size") => "write --size",
        (ErrorKind::UnknownArgument, "--file" | "--scenario" | "-f") => {
            "a scenario is named without an option, such as msgbench run my.toml"
        }
        _ => return None,
    };
    Some(format!("there is no option {option}: {remedy}"))
}

/// The gravest outcome of the limits that a result was held to: 4 before 3 before 5.
fn expected(limits: &[crate::compare::ExpectResult]) -> Exit {
    let codes: Vec<u8> = limits.iter().map(crate::compare::ExpectResult::exit_code).collect();
    [4, 3, 5].into_iter().find(|c| codes.contains(c)).map_or(Exit::Passed, Exit::of_code)
}

/// Why a command ended early.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    words: String,
}

impl Failure {
    fn new(exit: Exit, words: impl std::fmt::Display) -> Self {
        Self { exit, words: words.to_string() }
    }
    fn usage(words: impl std::fmt::Display) -> Self {
        Self::new(Exit::Usage, words)
    }
    fn internal(words: impl std::fmt::Display) -> Self {
        Self::new(Exit::Internal, words)
    }
    fn unwritten(words: impl std::fmt::Display) -> Self {
        Self::new(Exit::Unwritten, words)
    }
    fn system(words: impl std::fmt::Display) -> Self {
        Self::new(Exit::SystemFailed, words)
    }
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|e| format!("{{\"error\": \"{e}\"}}"))
}

/// Prints a result; a reader that has gone away ends the command quietly.
/// Writes charts into a folder, each as SVG and as PNG.
fn write_charts(dir: &std::path::Path, charts: &[Chart], foot: &Foot) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|e| Failure::unwritten(format!("cannot create {}: {e}", dir.display())))?;
    let store = Store { dir: dir.to_path_buf() };
    for chart in charts {
        let png = charts::png(chart, foot).map_err(Failure::internal)?;
        for (kind, bytes) in [("svg", charts::svg(chart, foot).into_bytes()), ("png", png)] {
            store.write_file(&format!("{}.{kind}", chart.name), &bytes).map_err(Failure::unwritten)?;
        }
    }
    Ok(())
}

/// How texts look on this terminal.
fn text_style(color: bool, why: bool) -> TextStyle {
    TextStyle { color, width: color::width().map_or(80, |w| w.max(20)), why }
}

fn print(text: &str) -> Result<Exit, Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Exit::Passed),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(Exit::Passed),
        // A terminal that was hung up.
        Err(e) if e.raw_os_error() == Some(libc::EIO) => Ok(Exit::Passed),
        Err(e) => Err(Failure::unwritten(format!("cannot write to standard output: {e}"))),
    }
}
