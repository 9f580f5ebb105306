//! Load and payload of a workload, from what was typed to what it means.

use std::collections::BTreeMap;
use std::path::Path;

use super::bounds::{check_count, check_rate, check_span};
use super::file::{self, Filler, LoadMode, Size};
use crate::plan::messages;
use crate::plan::options::home;
use crate::plan::problem::Problem;
use crate::plan::{Arrivals, Content, ENVELOPE_BYTES, Load, Pattern, Payload, PayloadSize, Profile, ProfileSegment};
use crate::units::{Bytes, Rate};

/// Payloads read from disk, by path as typed: a sweep resolves the same file for every point.
pub(super) type Payloads = BTreeMap<String, Payload>;

const MAX_SIZE: Bytes = Bytes(64 << 20);

/// The keys of a load that have a meaning in its mode.
pub(super) fn load(at: &str, w: &file::WorkloadTable) -> Result<Load, Problem> {
    let l = &w.load;
    let written = [
        ("arrivals", l.arrivals.is_some(), LoadMode::Open),
        ("rate", l.rate.is_some(), LoadMode::Open),
        ("burst", l.burst.is_some(), LoadMode::Open),
        ("ramp", l.ramp.is_some(), LoadMode::Open),
        ("steps", l.steps.is_some(), LoadMode::Open),
        ("window", l.window.is_some(), LoadMode::Unthrottled),
        ("outstanding", l.outstanding.is_some(), LoadMode::Closed),
        ("think", l.think.is_some(), LoadMode::Closed),
    ];
    if let Some((key, _, mode)) = written.iter().find(|(_, present, mode)| *present && *mode != l.mode) {
        let mode = match mode {
            LoadMode::Open => "open",
            LoadMode::Unthrottled => "unthrottled",
            LoadMode::Closed => "closed",
        };
        return Err(Problem::new(format!("{at}.{key}"), format!("`{key}` has no meaning in this mode"))
            .hint(format!("remove it, or set `mode = \"{mode}\"`")));
    }
    match l.mode {
        LoadMode::Unthrottled => match l.window {
            Some(0) => Err(Problem::new(format!("{at}.window"), "nothing could be sent")
                .hint("write a number of messages, or remove it")),
            window => Ok(Load::Unthrottled { window: window.unwrap_or(0) }),
        },
        LoadMode::Closed => {
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
        LoadMode::Open => {
            Ok(Load::Open { arrivals: l.arrivals.unwrap_or(Arrivals::Constant), profile: profile(at, l)? })
        }
    }
}

fn profile(at: &str, l: &file::LoadTable) -> Result<Profile, Problem> {
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
        for (i, step) in steps.iter().enumerate() {
            check_rate(&format!("{at}.steps.{i}.rate"), step.rate, true)?;
            check_span(&format!("{at}.steps.{i}.for"), step.span, false)?;
        }
        let segments = steps.iter().map(|s| ProfileSegment { span: s.span, from: s.rate, to: s.rate }).collect();
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
    let off = ProfileSegment { span: burst.off, from: Rate(0.0), to: Rate(0.0) };
    Ok(Profile { segments: vec![ProfileSegment { span: burst.on, from: rate, to: rate }, off], repeat: true })
}

pub(super) fn payload(
    at: &str,
    p: &file::PayloadTable,
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

fn spread_size(at: &str, s: file::SpreadTable) -> Result<PayloadSize, Problem> {
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
