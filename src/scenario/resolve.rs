//! From what was typed to what it means: defaults filled in, every number checked.
//!
//! Each mistake carries the path of the key that caused it, so that [`super::diagnose`] can show the line.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::diagnose::Problem;
use super::file::{self, File, Filler, Mode, Size};
use super::options::home;
use super::payload;
use super::plan::{
    Address, AddressError, Arrivals, BringUp, Content, Delivery, DriverKind, ENVELOPE_BYTES, Keys, Load, Pattern,
    Payload, PayloadSize, Phases, Profile, Segment, SystemSpec, Threads, Topology, Workload,
};
use crate::units::{Bytes, Rate, Span};

/// Payloads read from disk, by path as typed: a sweep resolves the same file for every point.
pub(super) type Payloads = BTreeMap<String, Payload>;

const DAY: Span = Span::secs(24 * 3600);
const MAX_RATE: Rate = Rate(1e8);
const MAX_SIZE: Bytes = Bytes(64 << 20);
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

fn check_span(path: &str, span: Span, may_be_zero: bool) -> Result<(), Problem> {
    if span.0 == 0 && !may_be_zero {
        return Err(Problem::new(path, "the duration is zero").hint("write a duration such as \"10s\""));
    }
    if span > DAY {
        return Err(Problem::new(path, format!("{span} is longer than a day")));
    }
    Ok(())
}

fn check_rate(path: &str, rate: Rate, may_be_zero: bool) -> Result<(), Problem> {
    if rate.0 <= 0.0 && !may_be_zero {
        return Err(Problem::new(path, "the rate is zero, so no message would be sent")
            .hint("write messages per second, such as \"1k/s\""));
    }
    if !rate.0.is_finite() || rate > MAX_RATE {
        return Err(Problem::new(path, format!("the rate is above {MAX_RATE}")));
    }
    Ok(())
}

fn check_count(path: &str, count: u32, max: u32) -> Result<(), Problem> {
    match count {
        0 => Err(Problem::new(path, "must be at least 1")),
        n if n > max => Err(Problem::new(path, format!("{n} is more than the {max} supported"))),
        _ => Ok(()),
    }
}

/// Whether the address of a system can be read, and its schemes are kept.
fn check_address(system: &file::System, url: &str) -> Result<(), AddressError> {
    let wrong = |words: &str, remedy: &str| Err(AddressError { words: words.into(), remedy: remedy.into() });
    let text = |key: &str| system.options.get(key).and_then(|v| v.as_str());
    if system.driver != DriverKind::Bridge {
        let address = Address::read(system.driver, url)?;
        if text("client") == Some("wire") && address.servers.iter().any(|s| s.tls) {
            return wrong("`client = \"wire\"` speaks no TLS", "write nats://, or use `client = \"async-nats\"`");
        }
        return Ok(());
    }
    let from = match text("from") {
        Some("jetstream") => DriverKind::Jetstream,
        Some("reference") => DriverKind::Reference,
        _ => DriverKind::Nats,
    };
    let parts: Vec<&str> = url.split_whitespace().collect();
    let [first, second] = parts[..] else {
        return wrong("a bridge has two addresses", "write \"nats://host:4222 kafka://host:9092\"");
    };
    Address::read(from, first)?;
    Address::read(DriverKind::Kafka, second).map(drop)
}

/// The systems, in the order written.
pub(super) fn systems(file: &File) -> Result<Vec<SystemSpec>, Problem> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for (i, s) in file.system.iter().enumerate() {
        let at = |key: &str| format!("system.{i}.{key}");
        let name = s.name.clone().unwrap_or_else(|| s.driver.name().to_string());
        check_name(&at("name"), &name)?;
        if !seen.insert(name.clone()) {
            return Err(Problem::new(at("name"), format!("two systems are called `{name}`"))
                .hint("give one of them another `name`"));
        }
        let bring_up = match &s.url {
            None => BringUp::Launch,
            Some(_) if s.driver == DriverKind::Null => {
                return Err(Problem::new(at("url"), "the null driver connects to nothing").hint("remove `url`"));
            }
            Some(url) if url.trim().is_empty() => {
                return Err(Problem::new(at("url"), "the URL is empty")
                    .hint("write it like \"nats://127.0.0.1:4222\", or remove it to have the system started"));
            }
            Some(url) => {
                check_address(s, url).map_err(|e| Problem::new(at("url"), e.words).hint(e.remedy))?;
                BringUp::External { url: url.clone() }
            }
        };
        out.push(SystemSpec { name, driver: s.driver, bring_up, require: s.require, options: s.options.clone() });
    }
    if out.is_empty() {
        return Err(Problem::new("system", "there is no system").hint("add a [[system]] table, or remove the key"));
    }
    Ok(out)
}

/// Name, trials and percentiles: what holds for all cases.
pub(super) fn check_whole(file: &File) -> Result<Vec<f64>, Problem> {
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
pub(super) fn phases(run: &file::Run) -> Result<Phases, Problem> {
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
pub(super) fn threads(run: &file::Run) -> Result<Threads, Problem> {
    check_count("run.threads.publish", run.threads.publish, 256)?;
    check_count("run.threads.consume", run.threads.consume, 256)?;
    Ok(Threads { publish: run.threads.publish, consume: run.threads.consume })
}

/// All workloads of a case.
pub(super) fn workloads(file: &File, folder: &Path, known: &mut Payloads) -> Result<Vec<Workload>, Problem> {
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
fn delivery(at: &str, w: &file::Workload, duration: Span) -> Result<Delivery, Problem> {
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
    Ok(Delivery {
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

fn topology(at: &str, w: &file::Workload, delivery: &Delivery) -> Result<Topology, Problem> {
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

/// The keys of a load that have a meaning in its mode.
fn load(at: &str, w: &file::Workload) -> Result<Load, Problem> {
    let l = &w.load;
    let written = [
        ("arrivals", l.arrivals.is_some(), Mode::Open),
        ("rate", l.rate.is_some(), Mode::Open),
        ("burst", l.burst.is_some(), Mode::Open),
        ("ramp", l.ramp.is_some(), Mode::Open),
        ("steps", l.steps.is_some(), Mode::Open),
        ("window", l.window.is_some(), Mode::Unthrottled),
        ("outstanding", l.outstanding.is_some(), Mode::Closed),
        ("think", l.think.is_some(), Mode::Closed),
    ];
    if let Some((key, _, mode)) = written.iter().find(|(_, present, mode)| *present && *mode != l.mode) {
        let mode = match mode {
            Mode::Open => "open",
            Mode::Unthrottled => "unthrottled",
            Mode::Closed => "closed",
        };
        return Err(Problem::new(format!("{at}.{key}"), format!("`{key}` has no meaning in this mode"))
            .hint(format!("remove it, or set `mode = \"{mode}\"`")));
    }
    match l.mode {
        Mode::Unthrottled => match l.window {
            Some(0) => Err(Problem::new(format!("{at}.window"), "nothing could be sent")
                .hint("write a number of messages, or remove it")),
            window => Ok(Load::Unthrottled { window: window.unwrap_or(0) }),
        },
        Mode::Closed => {
            let acknowledged = matches!(w.pattern, Pattern::RequestReply | Pattern::Stream | Pattern::Replay);
            if !acknowledged && w.delivery.durable != Some(true) {
                return Err(Problem::new(
                    format!("{at}.mode"),
                    format!("a closed loop waits for answers, and {} has none", w.pattern.name()),
                )
                .hint("use `pattern = \"request-reply\"` or `\"stream\"`, or `mode = \"open\"`"));
            }
            let (outstanding, think) = (l.outstanding.unwrap_or(1), l.think.unwrap_or_default());
            check_count(&format!("{at}.outstanding"), outstanding, 1_000_000)?;
            check_span(&format!("{at}.think"), think, true)?;
            Ok(Load::Closed { outstanding, think })
        }
        Mode::Open => Ok(Load::Open { arrivals: l.arrivals.unwrap_or(Arrivals::Constant), profile: profile(at, l)? }),
    }
}

fn profile(at: &str, l: &file::Load) -> Result<Profile, Problem> {
    let shapes = [("burst", l.burst.is_some()), ("ramp", l.ramp.is_some()), ("steps", l.steps.is_some())];
    let mut shapes = shapes.iter().filter(|(_, present)| *present).map(|(key, _)| *key);
    let shape = shapes.next();
    if let (Some(first), Some(second)) = (shape, shapes.next()) {
        return Err(Problem::new(format!("{at}.{second}"), format!("`{second}` and `{first}` exclude each other"))
            .hint("a load has one shape; remove one of them"));
    }
    if let (Some(shape @ ("ramp" | "steps")), Some(_)) = (shape, l.rate) {
        return Err(Problem::new(format!("{at}.rate"), format!("`rate` and `{shape}` exclude each other"))
            .hint(format!("remove `rate`; `{shape}` says all rates")));
    }
    if let Some(ramp) = l.ramp {
        check_rate(&format!("{at}.ramp.from"), ramp.from, true)?;
        check_rate(&format!("{at}.ramp.to"), ramp.to, true)?;
        check_span(&format!("{at}.ramp.over"), ramp.over, false)?;
        let segments = vec![Segment { span: ramp.over, from: ramp.from, to: ramp.to }];
        return Ok(Profile { segments, repeat: false });
    }
    if let Some(steps) = &l.steps {
        if steps.is_empty() {
            return Err(Problem::new(format!("{at}.steps"), "there is no step")
                .hint("write [{ rate = \"1k/s\", for = \"5s\" }]"));
        }
        if steps.len() > 10_000 {
            return Err(Problem::new(format!("{at}.steps"), "more than 10000 steps"));
        }
        for (i, step) in steps.iter().enumerate() {
            check_rate(&format!("{at}.steps.{i}.rate"), step.rate, true)?;
            check_span(&format!("{at}.steps.{i}.for"), step.span, false)?;
        }
        let segments = steps.iter().map(|s| Segment { span: s.span, from: s.rate, to: s.rate }).collect();
        return Ok(Profile { segments, repeat: false });
    }
    let Some(rate) = l.rate else {
        return Err(Problem::new(at, "an open load needs a `rate`")
            .hint("add `rate = \"1k/s\"`, or set `mode = \"unthrottled\"`"));
    };
    check_rate(&format!("{at}.rate"), rate, false)?;
    let Some(burst) = l.burst else { return Ok(Profile::constant(rate)) };
    check_span(&format!("{at}.burst.on"), burst.on, false)?;
    check_span(&format!("{at}.burst.off"), burst.off, false)?;
    let off = Segment { span: burst.off, from: Rate(0.0), to: Rate(0.0) };
    Ok(Profile { segments: vec![Segment { span: burst.on, from: rate, to: rate }, off], repeat: true })
}

fn payload(at: &str, p: &file::Payload, folder: &Path, known: &mut Payloads) -> Result<Payload, Problem> {
    if let Some(name) = &p.file {
        let other = [("size", p.size.is_some()), ("content", p.content.is_some())];
        if let Some((key, _)) = other.iter().find(|(_, present)| *present) {
            return Err(Problem::new(format!("{at}.{key}"), format!("`{key}` and `file` exclude each other"))
                .hint("the messages of the file have their own size and content"));
        }
        if let Some(payload) = known.get(name) {
            return Ok(payload.clone());
        }
        let path = folder.join(home(name));
        let found = payload::from_path(&path).map_err(|e| {
            Problem::new(format!("{at}.file"), format!("cannot use {} as messages: {e}", path.display()))
                .hint("give a file with one message per line, or a folder, relative to the scenario")
        })?;
        let largest = found.size.largest();
        if largest > MAX_SIZE {
            return Err(Problem::new(format!("{at}.file"), format!("a message of {largest} is above {MAX_SIZE}")));
        }
        known.insert(name.clone(), found.clone());
        return Ok(found);
    }
    let content = match p.content.unwrap_or(Filler::Random) {
        Filler::Random => Content::Random,
        Filler::Text => Content::Text,
        Filler::Zero => Content::Zero,
    };
    let size = match p.size.unwrap_or(Size::Fixed(Bytes(128))) {
        Size::Fixed(size) => {
            check_size(&format!("{at}.size"), size)?;
            PayloadSize::Fixed(size)
        }
        Size::Spread(spread) => spread_size(&format!("{at}.size"), spread)?,
    };
    Ok(Payload { size, content })
}

fn check_size(path: &str, size: Bytes) -> Result<(), Problem> {
    let least = Bytes(u64::from(ENVELOPE_BYTES));
    if size < least {
        return Err(Problem::new(path, format!("{size} is smaller than the {least} envelope of every message"))
            .hint(format!("the smallest payload is \"{least}\"")));
    }
    if size > MAX_SIZE {
        return Err(Problem::new(path, format!("{size} is above the {MAX_SIZE} supported")));
    }
    Ok(())
}

fn spread_size(at: &str, s: file::Spread) -> Result<PayloadSize, Problem> {
    let ordered = |low: (&str, Bytes), high: (&str, Bytes)| {
        if low.1 <= high.1 {
            return Ok(());
        }
        let message = format!("`{}` is {}, above the {} of `{}`", low.0, low.1, high.1, high.0);
        Err(Problem::new(format!("{at}.{}", low.0), message).hint("exchange the two"))
    };
    match (s.min, s.median, s.p99, s.max) {
        (Some(min), None, None, Some(max)) => {
            ordered(("min", min), ("max", max))?;
            check_size(&format!("{at}.min"), min)?;
            check_size(&format!("{at}.max"), max)?;
            Ok(PayloadSize::Uniform { min, max })
        }
        (None, Some(median), Some(p99), Some(max)) => {
            ordered(("median", median), ("p99", p99))?;
            ordered(("p99", p99), ("max", max))?;
            check_size(&format!("{at}.median"), median)?;
            check_size(&format!("{at}.max"), max)?;
            Ok(PayloadSize::LogNormal { median, p99, max })
        }
        _ => Err(Problem::new(at, "the sizes are neither uniform nor log-normal")
            .hint("write { min, max }, or { median, p99, max }")),
    }
}
