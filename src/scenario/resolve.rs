//! From what was typed to what it means: defaults filled in, every number checked.
//!
//! Each mistake carries the path of the key that caused it, so that [`super::diagnose`] can show
//! the line.

use std::collections::HashSet;
use std::path::Path;

use super::bounds::{check_count, check_span};
use super::file::{self, ScenarioFile};
use super::load::{Payloads, load, payload};
use crate::plan::problem::Problem;
use crate::plan::{
    AddressError, BringUp, DeliverySpec, Keys, Pattern, Phases, SystemSpec, SystemTypes, Threads, Topology, Workload,
};
use crate::units::Span;

const MAX_CONNECTIONS: u32 = 10_000;
const MAX_TRIALS: u32 = 1_000;
const MAX_BACKLOG: u64 = 1_000_000_000;
const MAX_KEYS: u32 = 1_000_000;

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
pub(super) fn systems(file: &ScenarioFile, types: &SystemTypes) -> Result<Vec<SystemSpec>, Problem> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for (i, s) in file.system.iter().enumerate() {
        let at = |key: &str| format!("system.{i}.{key}");
        let Some(of_type) = types.get(&s.driver) else {
            return Err(Problem::new(at("driver"), format!("there is no driver `{}`", s.driver.escape_debug()))
                .hint(types.hint(&s.driver)));
        };
        let name = s.name.clone().unwrap_or_else(|| s.driver.clone());
        check_name(&at("name"), &name)?;
        if !seen.insert(name.clone()) {
            return Err(Problem::new(at("name"), format!("two systems are called `{name}`"))
                .hint("give one of them another `name`"));
        }
        let bring_up = match &s.url {
            None => BringUp::Launch,
            Some(_) if !of_type.external => {
                return Err(Problem::new(at("url"), format!("the {} driver connects to nothing", of_type.name))
                    .hint("remove `url`"));
            }
            Some(url) if url.trim().is_empty() => {
                return Err(Problem::new(at("url"), "the URL is empty")
                    .hint("write it like \"nats://127.0.0.1:4222\", or remove it to have the system started"));
            }
            Some(url) => {
                check_address(s, url, types).map_err(|e| Problem::new(at("url"), e.words).hint(e.remedy))?;
                BringUp::External { url: url.clone() }
            }
        };
        out.push(SystemSpec {
            name,
            driver: s.driver.clone(),
            bring_up,
            require: s.require,
            options: s.options.clone(),
        });
    }
    if out.is_empty() {
        return Err(Problem::new("system", "there is no system").hint("add a [[system]] table, or remove the key"));
    }
    Ok(out)
}

/// Name, trials and percentiles: what holds for all cases.
pub(super) fn check_whole(file: &ScenarioFile) -> Result<Vec<f64>, Problem> {
    check_name("name", &file.name)?;
    if file.question.trim().is_empty() {
        return Err(Problem::new("question", "the question is empty").hint("say what the scenario is to find out"));
    }
    check_count("run.trials", file.run.trials, MAX_TRIALS)?;
    let mut percentiles = file.run.percentiles.clone();
    for (i, p) in percentiles.iter().enumerate() {
        if !(*p > 0.0 && *p < 1.0) {
            return Err(Problem::new(format!("run.percentiles.{i}"), format!("{p} is not between 0 and 1"))
                .hint("p99 is written 0.99"));
        }
    }
    if percentiles.is_empty() {
        return Err(Problem::new("run.percentiles", "no percentile is given").hint("write [0.5, 0.99]"));
    }
    percentiles.sort_by(f64::total_cmp);
    percentiles.dedup();
    Ok(percentiles)
}

/// The phases of a trial.
pub(super) fn phases(run: &file::RunTable) -> Result<Phases, Problem> {
    check_span("run.warmup", run.warmup, true)?;
    check_span("run.duration", run.duration, false)?;
    check_span("run.drain", run.drain, false)?;
    check_span("run.connect", run.connect, false)?;
    check_span("run.interval", run.interval, false)?;
    if run.duration.0 / run.interval.0 > 100_000 {
        return Err(Problem::new("run.interval", format!("{} makes more than 100000 intervals", run.interval))
            .hint("the time series needs an interval such as \"1s\""));
    }
    Ok(Phases {
        warmup: run.warmup,
        measure: run.duration,
        drain: run.drain,
        connect: run.connect,
        interval: run.interval,
    })
}

/// The threads of the generator.
pub(super) fn threads(run: &file::RunTable) -> Result<Threads, Problem> {
    check_count("run.threads.publish", run.threads.publish, 256)?;
    check_count("run.threads.consume", run.threads.consume, 256)?;
    Ok(Threads { publish: run.threads.publish, consume: run.threads.consume })
}

/// All workloads of a case.
pub(super) fn workloads(file: &ScenarioFile, folder: &Path, known: &mut Payloads) -> Result<Vec<Workload>, Problem> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for (i, w) in file.workload.iter().enumerate() {
        let at = format!("workload.{i}");
        let name = w.name.clone().unwrap_or_else(|| w.pattern.name().to_string());
        check_name(&format!("{at}.name"), &name)?;
        if !seen.insert(name.clone()) {
            return Err(Problem::new(format!("{at}.name"), format!("two workloads are called `{name}`"))
                .hint("give one of them another `name`"));
        }
        let load = load(&format!("{at}.load"), w)?;
        let expected = load.messages(file.run.duration);
        if expected.is_some_and(|n| n < 1.0) {
            return Err(Problem::new(format!("{at}.load"), "no message is due within the duration")
                .hint(format!("raise the rate, or `run.duration` above {}", file.run.duration)));
        }
        let delivery = delivery(&format!("{at}.delivery"), w, file.run.duration)?;
        out.push(Workload {
            name,
            pattern: w.pattern,
            topology: topology(&at, w, &delivery)?,
            delivery,
            load,
            payload: payload(&format!("{at}.payload"), &w.payload, folder, known)?,
        });
    }
    if out.is_empty() {
        return Err(Problem::new("workload", "there is no workload").hint("add a [[workload]] table"));
    }
    Ok(out)
}

/// What the pattern asks for, and what is written beside it.
fn delivery(at: &str, w: &file::WorkloadTable, duration: Span) -> Result<DeliverySpec, Problem> {
    let d = &w.delivery;
    let stored = matches!(w.pattern, Pattern::Stream | Pattern::Replay);
    let durable = d.durable.unwrap_or(stored);
    let refuse = |key: &str, message: String, hint: &str| Err(Problem::new(format!("{at}.{key}"), message).hint(hint));
    if stored && !durable {
        return refuse("durable", format!("{} needs stored messages", w.pattern.name()), "remove it");
    }
    let replay = w.pattern == Pattern::Replay;
    if !replay && (d.backlog.is_some() || d.replay_after.is_some()) {
        let key = if d.backlog.is_some() { "backlog" } else { "replay-after" };
        return refuse(key, format!("{} reads no backlog", w.pattern.name()), "use `pattern = \"replay\"`");
    }
    let backlog = if replay { d.backlog.unwrap_or(100_000) } else { 0 };
    if replay && !(1..=MAX_BACKLOG).contains(&backlog) {
        return refuse(
            "backlog",
            format!("{backlog} is not between 1 and {MAX_BACKLOG}"),
            "write a number of messages",
        );
    }
    let replay_after = if replay { d.replay_after.unwrap_or(Span(duration.0 / 4)) } else { Span(0) };
    if replay && replay_after >= duration {
        return refuse("replay-after", format!("the measured phase ends after {duration}"), "make it shorter");
    }
    let acknowledged = durable && !w.pattern.eq(&Pattern::RequestReply);
    for (key, every) in [("reject-every", d.reject_every), ("dead-every", d.dead_every)] {
        match every {
            Some(0 | 1) => return refuse(key, "must be at least 2".into(), "1 would reject every message"),
            Some(_) if !acknowledged => {
                return refuse(key, "only stored messages are delivered again".into(), "set `durable = true`");
            }
            _ => {}
        }
    }
    if d.max_deliver.is_some_and(|n| n < 2) {
        return refuse("max-deliver", "must be at least 2".into(), "1 would deliver nothing again");
    }
    let keys = d.keys.count();
    if d.keys != Keys::None && !(1..=MAX_KEYS).contains(&keys) {
        return refuse("keys", format!("{keys} keys are not between 1 and {MAX_KEYS}"), "write a number of keys");
    }
    if let Keys::Zipf { exponent, .. } = d.keys
        && !(0.0..=10.0).contains(&exponent)
    {
        return refuse("keys", format!("the exponent {exponent} is not between 0 and 10"), "the classical law has 1.0");
    }
    if let Some(slow) = d.slow {
        check_span(&format!("{at}.slow.think"), slow.think, false)?;
        if w.pattern == Pattern::RequestReply || w.pattern == Pattern::QueueGroup {
            return refuse("slow", format!("{} shares its messages", w.pattern.name()), "use a pattern with groups");
        }
    }
    let max_deliver = d.max_deliver.unwrap_or(if d.dead_every.is_some() { 3 } else { 0 });
    Ok(DeliverySpec {
        durable,
        backlog,
        replay_after,
        keys: d.keys,
        reject_every: d.reject_every.unwrap_or(0),
        dead_every: d.dead_every.unwrap_or(0),
        max_deliver,
        slow: d.slow,
    })
}

fn topology(at: &str, w: &file::WorkloadTable, delivery: &DeliverySpec) -> Result<Topology, Problem> {
    let (producers, consumers) = match w.pattern {
        Pattern::FanOut | Pattern::QueueGroup => (1, 4),
        Pattern::FanIn => (4, 1),
        Pattern::MToN => (4, 4),
        Pattern::RequestReply | Pattern::Stream | Pattern::Replay => (1, 1),
    };
    let producers = w.producers.unwrap_or(producers);
    let consumers = w.consumers.unwrap_or(consumers);
    let channels = w.channels.unwrap_or(1);
    for (key, count) in [("producers", producers), ("channels", channels)] {
        check_count(&format!("{at}.{key}"), count, MAX_CONNECTIONS)?;
    }
    // Publishing alone can be measured where consumers are independent of what is sent.
    if consumers > 0 || !matches!(w.pattern, Pattern::FanOut | Pattern::FanIn | Pattern::MToN | Pattern::Stream) {
        check_count(&format!("{at}.consumers"), consumers, MAX_CONNECTIONS)?;
    }
    let (groups, members) = match w.pattern {
        Pattern::FanOut | Pattern::FanIn | Pattern::MToN | Pattern::Stream => (consumers, 1),
        Pattern::Replay => (consumers + 1, 1),
        Pattern::QueueGroup | Pattern::RequestReply => (1, consumers),
    };
    if let Some(slow) = delivery.slow {
        check_count(&format!("{at}.delivery.slow.consumers"), slow.consumers, consumers)?;
    }
    Ok(Topology { producers, channels, groups, members, reply: w.pattern == Pattern::RequestReply })
}
