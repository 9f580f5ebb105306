//! A scenario made of options alone.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::plan::{Pattern, SystemTypes};
use crate::scenario::{self, OptionEdit, Overrides, Scenario};
use crate::units::{Bytes, Rate, Span};

use super::Failure;
use super::scenario_args::ScenarioArgs;

/// What holds where no option says otherwise.
const RATE: Rate = Rate(1000.0);
const SIZE: Bytes = Bytes(128);
const DURATION: Span = Span::secs(10);

/// Makes, validates and, where asked to, saves it.
pub(super) fn load(args: &ScenarioArgs, more: &[OptionEdit], types: &SystemTypes) -> Result<Scenario, Failure> {
    if args.pattern.is_none() && args.systems.is_empty() {
        return Err(Failure::usage(
            "nothing says what to measure: name a scenario (`msgbench scenarios` lists those built in), or give \
             options, such as --system nats --pattern fan-out",
        ));
    }
    let place = args.save.clone().unwrap_or_else(|| PathBuf::from("(command line)"));
    // First with every option laid upon the least there can be, so that a mistake names the option.
    let known = args.systems.iter().all(|s| types.get(s).is_some());
    let least = text(args, if known { &args.systems } else { &[] });
    let mut laid = args.overrides()?;
    laid.options.extend_from_slice(more);
    // The name of a system that there is not is the first thing to be said.
    let laid = if known { laid } else { Overrides { systems: args.systems.clone(), ..Overrides::default() } };
    args.parse(&place, least.clone(), &laid, types)?;
    let whole = scenario::edited(&least, &edits(args, &laid)).map_err(Failure::internal)?;
    let made = args.parse(&place, format!("{}{whole}", comment(args)), &args.only_quick(), types)?;
    if let Some(path) = &args.save {
        save(path, &made.text)?;
    }
    Ok(made)
}

fn save(path: &Path, text: &str) -> Result<(), Failure> {
    let made = OpenOptions::new().write(true).create_new(true).open(path);
    made.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("--save: {} is there already: name another file, or remove it", path.display()))
        }
        _ => Failure::unwritten(format!("cannot write {}: {e}", path.display())),
    })
}

fn comment(args: &ScenarioArgs) -> String {
    format!("# Question: {}\n#\n# Made by msgbench from the options of a command line.\n\n", question(args))
}

fn question(args: &ScenarioArgs) -> String {
    let pattern = args.pattern.unwrap_or(Pattern::FanOut).name();
    let load = match rate(args) {
        Some(rate) => format!("at {rate}"),
        None => "under this load".into(),
    };
    format!("How late are messages of {} {load} ({pattern})?", args.size.unwrap_or(SIZE))
}

/// The rate; `None` where `--set` says what the load is.
fn rate(args: &ScenarioArgs) -> Option<Rate> {
    let set = args.set.iter().any(|(path, _)| path.contains(".load."));
    args.rate.or((!set).then_some(RATE))
}

/// The name of the results: of the file, where there is one.
fn name(args: &ScenarioArgs) -> String {
    let stem = args.save.as_deref().and_then(Path::file_stem).and_then(|s| s.to_str()).map(str::to_owned);
    stem.unwrap_or_else(|| format!("adhoc-{}", args.pattern.unwrap_or(Pattern::FanOut).name()))
}

/// What no option changes, or what an option must have to change.
fn text(args: &ScenarioArgs, systems: &[String]) -> String {
    let quoted = |text: &str| toml::Value::String(text.into()).to_string();
    let mut out = format!("name = {}\nquestion = {}\n", quoted(&name(args)), quoted(&question(args)));
    let mut seen: Vec<&str> = Vec::new();
    for system in systems {
        if !seen.contains(&system.as_str()) {
            seen.push(system);
            out += &format!("[[system]]\ndriver = {}\nrequire = true\n", quoted(system));
        }
    }
    let pattern = args.pattern.unwrap_or(Pattern::FanOut).name();
    out += &format!("[[workload]]\npattern = {}\n", quoted(pattern));
    out += &match rate(args) {
        Some(rate) => format!("[workload.load]\nrate = {}\n", quoted(&rate.to_string())),
        None => "[workload.load]\n".into(),
    };
    if !args.set.iter().any(|(path, _)| path.contains(".payload.")) {
        out += &format!("[workload.payload]\nsize = {}\n", quoted(&SIZE.to_string()));
    }
    out + &format!("[run]\nduration = {}\n", quoted(&args.duration.unwrap_or(DURATION).to_string()))
}

/// All changes, in the order in which they are laid upon it.
fn edits(args: &ScenarioArgs, laid: &Overrides) -> Vec<(String, String)> {
    let mut all = args.set.clone();
    all.extend(laid.options.iter().map(|o| (o.path.clone(), o.value.clone())));
    all.extend(args.trials.map(|n| ("run.trials".to_owned(), n.to_string())));
    all
}
