//! Load and payload of a workload, from what was typed to what it means.

use std::collections::BTreeMap;
use std::path::Path;

use super::bounds::{check_count, check_rate, check_span};
use super::file::{self, Filler, LoadMode, Size};
use crate::plan::messages;
use crate::plan::options::home;
use crate::plan::problem::{Problem, Problems};
use crate::plan::{Arrivals, Content, ENVELOPE_BYTES, Load, Pattern, Payload, PayloadSize, Profile, ProfileSegment};
use crate::units::{Bytes, Rate, Span};

/// Payloads read from disk, by path as typed: a sweep resolves the same file for every point.
pub(super) type Payloads = BTreeMap<String, Payload>;

const MAX_SIZE: Bytes = Bytes(64 << 20);

/// The keys of a load that have a meaning in its mode.
pub(super) fn load(at: &str, w: &file::WorkloadTable, producers: u32, problems: &mut Problems) -> Option<Load> {
    let l = &w.load;
    let written = [
        ("arrivals", l.arrivals.is_some(), LoadMode::Open),
        ("rate", l.rate.is_some(), LoadMode::Open),
        ("rate-per-producer", l.rate_per_producer.is_some(), LoadMode::Open),
        ("burst", l.burst.is_some(), LoadMode::Open),
        ("ramp", l.ramp.is_some(), LoadMode::Open),
        ("steps", l.steps.is_some(), LoadMode::Open),
        ("window", l.window.is_some(), LoadMode::Unthrottled),
        ("outstanding", l.outstanding.is_some(), LoadMode::Closed),
        ("think", l.think.is_some(), LoadMode::Closed),
    ];
    let vain: Vec<_> = written.iter().filter(|(_, present, mode)| *present && *mode != l.mode).collect();
    for (key, _, mode) in &vain {
        let mode = match mode {
            LoadMode::Open => "open",
            LoadMode::Unthrottled => "unthrottled",
            LoadMode::Closed => "closed",
        };
        problems.add(
            Problem::new(format!("{at}.{key}"), format!("`{key}` has no meaning in this mode"))
                .hint(format!("remove it, or set `mode = \"{mode}\"`")),
        );
    }
    if !vain.is_empty() {
        return None;
    }
    match l.mode {
        LoadMode::Unthrottled => match l.window {
            Some(0) => problems.take(Err(Problem::new(format!("{at}.window"), "nothing could be sent")
                .hint("write a number of messages, or remove it"))),
            window => Some(Load::Unthrottled { window: window.unwrap_or(0) }),
        },
        LoadMode::Closed => {
            let acknowledged = matches!(w.pattern, Pattern::RequestReply | Pattern::Connect) || w.pattern.stored();
            if !acknowledged && w.delivery.durable != Some(true) {
                let message = format!("a closed loop waits for answers, and {} has none", w.pattern.name());
                problems.add(
                    Problem::new(format!("{at}.mode"), message)
                        .hint("use `pattern = \"request-reply\"` or `\"stream\"`, or `mode = \"open\"`"),
                );
            }
            let (outstanding, think) = (l.outstanding.unwrap_or(1), l.think.unwrap_or_default());
            problems.take(check_count(&format!("{at}.outstanding"), outstanding, 1_000_000));
            problems.take(check_span(&format!("{at}.think"), think, true));
            Some(Load::Closed { outstanding, think })
        }
        LoadMode::Open => {
            let profile = profile(at, l, producers, problems)?;
            Some(Load::Open { arrivals: l.arrivals.unwrap_or(Arrivals::Constant), profile })
        }
    }
}

fn profile(at: &str, l: &file::LoadTable, producers: u32, problems: &mut Problems) -> Option<Profile> {
    let before = problems.0.len();
    let profile = problems.take(shape(at, l, producers))?;
    // Which rates and spans there are is known; what they may be is checked one by one.
    if let Some(ramp) = l.ramp {
        problems.take(check_rate(&format!("{at}.ramp.from"), ramp.from, true));
        problems.take(check_rate(&format!("{at}.ramp.to"), ramp.to, true));
        problems.take(check_span(&format!("{at}.ramp.over"), ramp.over, false));
    }
    for (i, step) in l.steps.iter().flatten().enumerate() {
        problems.take(check_rate(&format!("{at}.steps.{i}.rate"), step.rate, true));
        problems.take(check_span(&format!("{at}.steps.{i}.for"), step.span, false));
    }
    for (key, rate) in [("rate", l.rate), ("rate-per-producer", l.rate_per_producer)] {
        if let Some(rate) = rate {
            problems.take(check_rate(&format!("{at}.{key}"), rate, false));
        }
    }
    if let Some(burst) = l.burst {
        for (key, span) in [("every", burst.every), ("length", burst.length), ("on", burst.on), ("off", burst.off)] {
            if let Some(span) = span {
                problems.take(check_span(&format!("{at}.burst.{key}"), span, false));
            }
        }
    }
    problems.take(check_rate(at, profile.peak(), true));
    (problems.0.len() == before).then_some(profile)
}

/// The one shape that a load has.
fn shape(at: &str, l: &file::LoadTable, producers: u32) -> Result<Profile, Problem> {
    let shapes = [("burst", l.burst.is_some()), ("ramp", l.ramp.is_some()), ("steps", l.steps.is_some())];
    let mut shapes = shapes.iter().filter(|(_, present)| *present).map(|(key, _)| *key);
    let shape = shapes.next();
    if let (Some(first), Some(second)) = (shape, shapes.next()) {
        return Err(Problem::new(format!("{at}.{second}"), format!("`{second}` and `{first}` exclude each other"))
            .hint("a load has one shape; remove one of them"));
    }
    let written = match (l.rate, l.rate_per_producer) {
        (Some(_), Some(_)) => {
            return Err(Problem::new(
                format!("{at}.rate-per-producer"),
                "`rate` and `rate-per-producer` exclude each other",
            )
            .hint("`rate` is of all producers together, `rate-per-producer` of each: remove one of them"));
        }
        (Some(rate), None) => Some(("rate", rate, 1.0)),
        (None, rate) => rate.map(|rate| ("rate-per-producer", rate, f64::from(producers))),
    };
    if let (Some(shape @ ("ramp" | "steps")), Some((key, ..))) = (shape, written) {
        return Err(Problem::new(format!("{at}.{key}"), format!("`{key}` and `{shape}` exclude each other"))
            .hint(format!("remove `{key}`; `{shape}` says all rates")));
    }
    if let Some(ramp) = l.ramp {
        let segments = vec![ProfileSegment { span: ramp.over, from: ramp.from, to: ramp.to }];
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
        let segments = steps.iter().map(|s| ProfileSegment { span: s.span, from: s.rate, to: s.rate }).collect();
        return Ok(Profile { segments, repeat: false });
    }
    let Some((_, rate, factor)) = written else {
        return Err(Problem::new(at, "an open load needs a `rate`")
            .hint("add `rate = \"1k/s\"` of all producers together, or set `mode = \"unthrottled\"`"));
    };
    let flat = |span: Span, rate: Rate| {
        let rate = Rate(rate.0 * factor);
        ProfileSegment { span, from: rate, to: rate }
    };
    let Some(burst) = l.burst else { return Ok(Profile::constant(Rate(rate.0 * factor))) };
    let segments = match (burst.every, burst.length, burst.rate, burst.on, burst.off) {
        (Some(every), Some(length), Some(high), None, None) => {
            let at = |key: &str| format!("{at}.burst.{key}");
            if length >= every {
                return Err(Problem::new(at("length"), format!("a burst of {length} every {every} never ends"))
                    .hint("make `length` shorter than `every`"));
            }
            if high <= rate {
                return Err(Problem::new(at("rate"), format!("{high} is no more than the {rate} between bursts"))
                    .hint("write the rate during a burst, the rate between bursts included"));
            }
            vec![flat(Span(every.0 - length.0), rate), flat(length, high)]
        }
        (None, None, None, Some(on), Some(off)) => vec![flat(on, rate), flat(off, Rate(0.0))],
        _ => {
            return Err(Problem::new(format!("{at}.burst"), "it does not say when a burst begins and ends").hint(
                "write { every = \"10s\", length = \"1s\", rate = \"10k/s\" } for bursts on top of the rate, or { on = \"1s\", off = \"9s\" } for silence between them",
            ));
        }
    };
    Ok(Profile { segments, repeat: true })
}

/// The longest interval that shows the bursts of a load: several in each burst.
pub(super) fn interval(l: &file::LoadTable) -> Option<Span> {
    const NICE: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 250, 500, 1000];
    let burst = l.burst?;
    let shortest = [burst.length, burst.on, burst.off].into_iter().flatten().min()?;
    let quarter = shortest.0 / 4;
    NICE.into_iter().rev().map(Span::millis).find(|nice| nice.0 <= quarter)
}

pub(super) fn payload(
    at: &str,
    w: &file::WorkloadTable,
    folder: &Path,
    known: &mut Payloads,
    problems: &mut Problems,
) -> Option<Payload> {
    // A service knows no envelope.
    let least = if w.target.is_some() { 0 } else { u64::from(ENVELOPE_BYTES) };
    let payload = problems.take(read_payload(at, &w.payload, least, folder, known))?;
    let of_file = matches!(payload.content, Content::File { .. });
    let surplus = if of_file { u64::from(ENVELOPE_BYTES) - least } else { 0 };
    Some(Payload { size: payload.size.map(|size| size.saturating_sub(surplus)), ..payload })
}

fn read_payload(
    at: &str,
    p: &file::PayloadTable,
    least: u64,
    folder: &Path,
    known: &mut Payloads,
) -> Result<Payload, Problem> {
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
        let found = messages::from_path(&path).map_err(|e| {
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
            check_size(&format!("{at}.size"), size, least)?;
            PayloadSize::Fixed(size)
        }
        Size::Spread(spread) => spread_size(&format!("{at}.size"), spread, least)?,
    };
    Ok(Payload { size, content })
}

fn check_size(path: &str, size: Bytes, least: u64) -> Result<(), Problem> {
    let least = Bytes(least);
    if size < least {
        return Err(Problem::new(path, format!("{size} is smaller than the {least} envelope of every message"))
            .hint(format!("the smallest payload is \"{least}\"")));
    }
    if size > MAX_SIZE {
        return Err(Problem::new(path, format!("{size} is above the {MAX_SIZE} supported")));
    }
    Ok(())
}

fn spread_size(at: &str, s: file::SpreadTable, least: u64) -> Result<PayloadSize, Problem> {
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
            check_size(&format!("{at}.min"), min, least)?;
            check_size(&format!("{at}.max"), max, least)?;
            Ok(PayloadSize::Uniform { min, max })
        }
        (None, Some(median), Some(p99), Some(max)) => {
            ordered(("median", median), ("p99", p99))?;
            ordered(("p99", p99), ("max", max))?;
            check_size(&format!("{at}.median"), median, least)?;
            check_size(&format!("{at}.max"), max, least)?;
            Ok(PayloadSize::LogNormal { median, p99, max })
        }
        _ => Err(Problem::new(at, "the sizes are neither uniform nor log-normal")
            .hint("write { min, max }, or { median, p99, max }")),
    }
}
