//! From what was typed to what it means: defaults filled in, every number checked.
//!
//! Each mistake carries the path of the key that caused it, so that [`super::diagnose`] can show
//! the line.

use std::collections::HashSet;
use std::path::Path;

use super::agents::roles;
use super::bounds::{check_count, check_span};
use super::connect::check_connect;
use super::file::{self, ScenarioFile};
use super::load::{Payloads, interval, load, payload};
use super::places::places;
use super::reword::share;
use super::service::target;
use super::suits;
use crate::plan::problem::{Problem, Problems};
use crate::plan::{
    AddressError, BringUp, DeliverySpec, Keys, Pattern, Phases, SystemSpec, SystemType, SystemTypes, Threads, Topology,
    Workload,
};
use crate::units::Span;

const MAX_CONNECTIONS: u32 = 10_000;
const MAX_TRIALS: u32 = 1_000;
const MAX_INTRUDERS: u32 = 64;
/// Each is a socket of the generator and one of the broker.
const MAX_IDLE: u32 = 100_000;
const MAX_BACKLOG: u64 = 1_000_000_000;
const MAX_KEYS: u32 = 1_000_000;
/// A twentieth: below it a server hardly starts.
const LEAST_CPUS: f64 = 0.05;
const MOST_CPUS: f64 = 1024.0;
/// Values of one key: the most that a bucket of NATS takes.
const MAX_HISTORY: u32 = 64;
const MOST_INTERVALS: u64 = 100_000;
/// Intervals where nothing needs more.
const USUAL_INTERVALS: u64 = 600;

/// Whether a name can be part of a file name and of a path with dots.
fn check_name(path: &str, name: &str) -> Result<(), Problem> {
    let fit = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.len() <= 64 && name.chars().all(fit) && !name.starts_with('-') {
        return Ok(());
    }
    Err(Problem::new(path, format!("`{}` is not fit for a file name", name.escape_debug()))
        .hint("use 1 to 64 letters, digits, `-` and `_`"))
}

/// Whether the address of a system can be read, and its schemes are kept.
fn check_address(system: &file::SystemTable, url: &str, types: &SystemTypes) -> Result<(), AddressError> {
    let wrong = |words: &str, remedy: &str| Err(AddressError { words: words.into(), remedy: remedy.into() });
    // Options that do not fit are refused elsewhere.
    let addresses = types.addresses(&system.driver, &system.options, url)?;
    let bare_protocol = system.options.get("client").and_then(|v| v.as_str()) == Some("wire");
    if bare_protocol && addresses.iter().any(|a| a.servers.iter().any(|s| s.tls)) {
        return wrong("`client = \"wire\"` speaks no TLS", "write nats://, or use `client = \"async-nats\"`");
    }
    Ok(())
}

/// The systems, in the order written.
pub(super) fn systems(file: &ScenarioFile, types: &SystemTypes, problems: &mut Problems) -> Vec<SystemSpec> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for (i, s) in file.system.iter().enumerate() {
        let at = |key: &str| format!("system.{i}.{key}");
        let name = s.name.clone().unwrap_or_else(|| s.driver.clone());
        let known = types.get(&s.driver);
        if known.is_none() {
            let message = format!("msgbench has no driver `{}`", s.driver.escape_debug());
            problems.add(Problem::new(at("driver"), message).hint(types.hint(&s.driver)));
        } else {
            problems.take(check_name(&at("name"), &name));
        }
        if !seen.insert(name.clone()) {
            problems.add(
                Problem::new(at("name"), format!("two systems are called `{name}`"))
                    .hint("give one of them another `name`"),
            );
        }
        let bring_up = match &s.url {
            None => BringUp::Launch,
            Some(url) => {
                if let Some(of_type) = known {
                    problems.take(check_url(&at("url"), s, url, of_type, types));
                }
                BringUp::External { url: url.clone() }
            }
        };
        if let Some(cpus) = s.cpus {
            problems.take(check_cpus(&at("cpus"), cpus, &bring_up, known));
        }
        let (driver, options) = (s.driver.clone(), s.options.clone());
        let spec = SystemSpec { name, driver, bring_up, require: s.require, cpus: s.cpus, options };
        suits::check_options(i, &spec, types, problems);
        out.push(spec);
    }
    if out.is_empty() {
        problems.add(Problem::new("system", "there is no system").hint("add a [[system]] table, or remove the key"));
    }
    out
}

/// Whether the processor time of a system can be bounded; what this host allows is asked when it is
/// run.
fn check_cpus(path: &str, cpus: f64, bring_up: &BringUp, known: Option<&SystemType>) -> Result<(), Problem> {
    if !(LEAST_CPUS..=MOST_CPUS).contains(&cpus) {
        return Err(Problem::new(path, format!("{cpus} processors are not between {LEAST_CPUS} and {MOST_CPUS}"))
            .hint("write a number such as 1, 2 or 0.5"));
    }
    if *bring_up != BringUp::Launch {
        return Err(Problem::new(path, "a server that is already running is not bound by msgbench")
            .hint("remove `cpus`, or remove `url`"));
    }
    match known {
        Some(of_type) if !of_type.processes => {
            Err(Problem::new(path, format!("the {} driver starts no process", of_type.name)).hint("remove `cpus`"))
        }
        _ => Ok(()),
    }
}

fn check_url(
    path: &str,
    system: &file::SystemTable,
    url: &str,
    of_type: &SystemType,
    types: &SystemTypes,
) -> Result<(), Problem> {
    if !of_type.external {
        return Err(Problem::new(path, format!("the {} driver connects to nothing", of_type.name)).hint("remove `url`"));
    }
    if url.trim().is_empty() {
        return Err(Problem::new(path, "the URL is empty")
            .hint("write it like \"nats://127.0.0.1:4222\", or remove it to have the system started"));
    }
    let name = system.name.as_deref().unwrap_or(&system.driver);
    check_address(system, url, types).map_err(|e| Problem::new(path, format!("{name}: {}", e.words)).hint(e.remedy))
}

/// Name, trials and percentiles: what holds for all cases.
pub(super) fn check_whole(file: &ScenarioFile, problems: &mut Problems) -> Vec<f64> {
    problems.take(check_name("name", &file.name));
    if file.question.trim().is_empty() {
        problems.add(Problem::new("question", "the question is empty").hint("say what the scenario is to find out"));
    }
    problems.take(check_count("run.trials", file.run.trials, MAX_TRIALS));
    let mut percentiles = file.run.percentiles.clone();
    for (i, p) in percentiles.iter().enumerate() {
        if !(*p > 0.0 && *p < 1.0) {
            let hint = match *p {
                p if p > 1.0 && p < 100.0 => format!("p{p} is written {}", share(p)),
                _ => "p99 is written 0.99".into(),
            };
            problems
                .add(Problem::new(format!("run.percentiles.{i}"), format!("{p} is not between 0 and 1")).hint(hint));
        }
    }
    if percentiles.is_empty() {
        problems.add(Problem::new("run.percentiles", "no percentile is given").hint("write [0.5, 0.99]"));
    }
    percentiles.sort_by(f64::total_cmp);
    percentiles.dedup();
    percentiles
}

/// The phases of a trial.
pub(super) fn phases(file: &ScenarioFile, problems: &mut Problems) -> Phases {
    let run = &file.run;
    // The result of an hour at 20k/s took 55 MB with intervals of a second.
    let usual = Span::secs(run.duration.0.div_ceil(USUAL_INTERVALS * Span::secs(1).0).max(1));
    let shortest = file.workload.iter().filter_map(|w| interval(&w.load)).min();
    let usual = shortest.map_or(usual, |shortest| shortest.min(Span::secs(1)));
    // A long run with short bursts has no more intervals than can be drawn and kept.
    let interval = run.interval.unwrap_or(usual.max(Span(run.duration.0 / MOST_INTERVALS)));
    let each = [
        ("warmup", run.warmup),
        ("duration", run.duration),
        ("drain", run.drain),
        ("connect", run.connect),
        ("interval", interval),
    ];
    for (key, span) in each {
        problems.take(check_span(&format!("run.{key}"), span, key == "warmup"));
    }
    if interval.0 > 0 && run.duration.0 / interval.0 > MOST_INTERVALS {
        problems.add(
            Problem::new("run.interval", format!("{interval} makes more than {MOST_INTERVALS} intervals"))
                .hint("the time series needs an interval such as \"1s\""),
        );
    }
    Phases { warmup: run.warmup, measure: run.duration, drain: run.drain, connect: run.connect, interval }
}

/// The threads of the generator.
pub(super) fn threads(run: &file::RunTable, problems: &mut Problems) -> Threads {
    problems.take(check_count("run.threads.publish", run.threads.publish, 256));
    problems.take(check_count("run.threads.consume", run.threads.consume, 256));
    Threads { publish: run.threads.publish, consume: run.threads.consume }
}

/// All workloads of a case that can be driven.
pub(super) fn workloads(
    file: &ScenarioFile,
    folder: &Path,
    known: &mut Payloads,
    problems: &mut Problems,
) -> Vec<Workload> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for (i, w) in file.workload.iter().enumerate() {
        let at = format!("workload.{i}");
        let name = w.name.clone().unwrap_or_else(|| w.pattern.name().to_string());
        problems.take(check_name(&format!("{at}.name"), &name));
        if !seen.insert(name.clone()) {
            problems.add(
                Problem::new(format!("{at}.name"), format!("two workloads are called `{name}`"))
                    .hint("give one of them another `name`"),
            );
        }
        let delivery = delivery(&format!("{at}.delivery"), w, file.run.duration, problems);
        let topology = topology(&at, w, &delivery, problems);
        let load = load(&format!("{at}.load"), w, topology.producers, problems);
        let expected = load.as_ref().and_then(|load| load.messages(file.run.duration));
        if expected.is_some_and(|n| n < 1.0) && file.run.duration.0 > 0 {
            problems.add(
                Problem::new(format!("{at}.load"), "no message is due within the duration")
                    .hint(format!("raise the rate, or `run.duration` above {}", file.run.duration)),
            );
        }
        check_connect(&at, w, problems);
        let target = w.target.as_ref().and_then(|written| target(&at, w, written, file, problems));
        let payload = payload(&format!("{at}.payload"), w, folder, known, problems);
        let places = places(&at, w.at.as_ref(), w.target.is_some(), problems);
        let agents = roles(&at, w, file, problems);
        let intruders = w.intruders.unwrap_or(0);
        if intruders > 0 {
            problems.take(check_count(&format!("{at}.intruders"), intruders, MAX_INTRUDERS));
        }
        let idle_connections = w.idle_connections.unwrap_or(0);
        if idle_connections > 0 {
            problems.take(check_count(&format!("{at}.idle-connections"), idle_connections, MAX_IDLE));
        }
        if let (Some(load), Some(payload)) = (load, payload) {
            out.push(Workload {
                name,
                pattern: w.pattern,
                topology,
                delivery,
                load,
                payload,
                target,
                at: places,
                intruders,
                idle_connections,
                agents,
            });
        }
    }
    if file.workload.is_empty() {
        problems.add(Problem::new("workload", "there is no workload").hint("add a [[workload]] table"));
    }
    out
}

/// What the pattern asks for, and what is written beside it.
fn delivery(at: &str, w: &file::WorkloadTable, duration: Span, problems: &mut Problems) -> DeliverySpec {
    let d = &w.delivery;
    let stored = w.pattern.stored();
    let durable = d.durable.unwrap_or(stored);
    let mut refuse =
        |key: &str, message: String, hint: &str| problems.add(Problem::new(format!("{at}.{key}"), message).hint(hint));
    if stored && !durable {
        refuse("durable", format!("{} needs stored messages", w.pattern.name()), "remove it");
    }
    let replay = w.pattern == Pattern::Replay;
    for (key, written) in [("backlog", d.backlog.is_some()), ("replay-after", d.replay_after.is_some())] {
        if written && !replay {
            refuse(key, format!("{} reads no backlog", w.pattern.name()), "use `pattern = \"replay\"`");
        }
    }
    let backlog = if replay { d.backlog.unwrap_or(100_000) } else { 0 };
    if replay && !(1..=MAX_BACKLOG).contains(&backlog) {
        refuse("backlog", format!("{backlog} is not between 1 and {MAX_BACKLOG}"), "write a number of messages");
    }
    let replay_after = if replay { d.replay_after.unwrap_or(Span(duration.0 / 4)) } else { Span(0) };
    if replay && replay_after >= duration && duration.0 > 0 {
        refuse("replay-after", format!("the measured phase ends after {duration}"), "make it shorter");
    }
    let acknowledged = durable && !w.pattern.eq(&Pattern::RequestReply);
    for (key, every) in [("reject-every", d.reject_every), ("dead-every", d.dead_every)] {
        match every {
            Some(0 | 1) => refuse(key, "must be at least 2".into(), "1 would reject every message"),
            Some(_) if !acknowledged => {
                refuse(key, "only stored messages are delivered again".into(), "set `durable = true`");
            }
            _ => {}
        }
    }
    if d.max_deliver.is_some_and(|n| n < 2) {
        refuse("max-deliver", "must be at least 2".into(), "1 would deliver nothing again");
    }
    let key_value = w.pattern == Pattern::KeyValue;
    // What a consumer that lags misses of a key is superseded, where the broker keeps no more.
    let per_key = d.keep.and_then(|keep| keep.per_key).unwrap_or(0);
    let history = d.history.unwrap_or(if key_value { 1 } else { per_key });
    if d.history.is_some() && !key_value {
        refuse("history", format!("{} has no key-value store", w.pattern.name()), "use `pattern = \"key-value\"`");
    } else if key_value && !(1..=MAX_HISTORY).contains(&history) {
        refuse("history", format!("{history} is not between 1 and {MAX_HISTORY}"), "write a number of values");
    }
    let chosen = if key_value && d.keys == Keys::None { Keys::RoundRobin(100) } else { d.keys };
    let keys = d.keys.count();
    if d.keys != Keys::None && !(1..=MAX_KEYS).contains(&keys) {
        refuse("keys", format!("{keys} keys are not between 1 and {MAX_KEYS}"), "write a number of keys");
    }
    if let Keys::Zipf { exponent, .. } = d.keys
        && !(0.0..=10.0).contains(&exponent)
    {
        refuse("keys", format!("the exponent {exponent} is not between 0 and 10"), "the classical law has 1.0");
    }
    if d.slow.is_some() && matches!(w.pattern, Pattern::RequestReply | Pattern::QueueGroup) {
        refuse("slow", format!("{} shares its messages", w.pattern.name()), "use a pattern with groups");
    }
    if let Some(slow) = d.slow {
        problems.take(check_span(&format!("{at}.slow.think"), slow.think, false));
    }
    if let Some(keep) = d.keep {
        super::keep::check(at, w, keep, durable, problems);
    }
    let max_deliver = d.max_deliver.unwrap_or(if d.dead_every.is_some() { 3 } else { 0 });
    DeliverySpec {
        durable,
        backlog,
        replay_after,
        keys: chosen,
        reject_every: d.reject_every.unwrap_or(0),
        dead_every: d.dead_every.unwrap_or(0),
        max_deliver,
        slow: d.slow,
        history,
        keep: d.keep,
        late_members: 0,
    }
}

fn topology(at: &str, w: &file::WorkloadTable, delivery: &DeliverySpec, problems: &mut Problems) -> Topology {
    let (producers, consumers) = match w.pattern {
        Pattern::FanOut | Pattern::QueueGroup | Pattern::KeyValue => (1, 4),
        Pattern::FanIn => (4, 1),
        Pattern::MToN => (4, 4),
        Pattern::RequestReply | Pattern::Stream | Pattern::Replay => (1, 1),
        Pattern::Connect => (1, 0),
    };
    let producers = w.producers.unwrap_or(producers);
    // Nobody of ours answers where a service does, or where a client receives its own message.
    let none = w.target.is_some() || w.pattern == Pattern::Connect;
    let consumers = if none { 0 } else { w.consumers.unwrap_or(consumers) };
    let channels = w.channels.unwrap_or(1);
    for (key, count) in [("producers", producers), ("channels", channels)] {
        problems.take(check_count(&format!("{at}.{key}"), count, MAX_CONNECTIONS));
    }
    // Publishing alone can be measured where consumers are independent of what is sent.
    if !none
        && (consumers > 0 || !matches!(w.pattern, Pattern::FanOut | Pattern::FanIn | Pattern::MToN | Pattern::Stream))
    {
        problems.take(check_count(&format!("{at}.consumers"), consumers, MAX_CONNECTIONS));
    }
    let (groups, members) = match w.pattern {
        Pattern::FanOut | Pattern::FanIn | Pattern::MToN | Pattern::Stream | Pattern::KeyValue => (consumers, 1),
        Pattern::Replay => (consumers + 1, 1),
        Pattern::RequestReply if w.target.is_some() => (0, 0),
        Pattern::QueueGroup | Pattern::RequestReply => (1, consumers),
        Pattern::Connect => (0, 0),
    };
    if let Some(slow) = delivery.slow {
        problems.take(check_count(&format!("{at}.delivery.slow.consumers"), slow.consumers, consumers));
    }
    let reply = matches!(w.pattern, Pattern::RequestReply | Pattern::Connect);
    Topology { producers, channels, groups, members, reply }
}
