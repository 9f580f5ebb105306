//! The arguments that choose a scenario and override it, or make one.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::plan::{Pattern, SystemTypes};
use crate::scenario::{self, OptionEdit, Overrides, Scenario};
use crate::units::{Bytes, Rate, Span};

use super::Failure;

/// Which scenario, and what is different this time.
#[derive(Debug, clap::Args)]
pub struct ScenarioArgs {
    /// The scenario: a file, the name of a built-in one (`msgbench scenarios` lists them), or - for
    /// standard input. Without it, --system and --pattern say what to measure
    pub(super) scenario: Option<PathBuf>,
    /// Only this system (may be given several times); it must then be available
    #[arg(long = "system", value_name = "NAME")]
    pub(super) systems: Vec<String>,
    /// Who receives what [default without a scenario: fan-out]
    #[arg(long, value_name = "PATTERN", value_parser = pattern())]
    pub(super) pattern: Option<Pattern>,
    /// Connections that publish
    #[arg(long, value_name = "N")]
    pub(super) producers: Option<u32>,
    /// Connections that consume
    #[arg(long, value_name = "N")]
    pub(super) consumers: Option<u32>,
    /// Size of a message, such as 1KiB
    #[arg(long, value_name = "SIZE")]
    pub(super) size: Option<Bytes>,
    /// Where a system already runs, such as nats://host:4222; with several systems NAME=URL, given
    /// once for each
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
    /// Trials of each case
    #[arg(long, value_name = "N")]
    pub(super) trials: Option<u32>,
    /// Length of the measured phase, such as 10s
    #[arg(long, value_name = "TIME")]
    pub(super) duration: Option<Span>,
    /// Rate of every open-loop workload, such as 20k/s; a bare number is per second
    #[arg(long, value_name = "RATE")]
    pub(super) rate: Option<Rate>,
    /// Override any key of the scenario, such as run.warmup=0s or workload.payload.size=1KiB
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = assignment)]
    pub(super) set: Vec<(String, String)>,
    /// One short trial of each case: a smoke test, not a measurement
    #[arg(long)]
    quick: bool,
    /// Without a scenario: write the one that the options make into this file, to run it again;
    /// --quick is not in it
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    pub(super) save: Option<PathBuf>,
    /// What `capacity` changes in `[search]`; nothing of any other command.
    #[arg(skip)]
    pub(super) search: Option<Vec<OptionEdit>>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (path, value) = text.split_once('=').ok_or("write PATH=VALUE, such as run.trials=5")?;
    Ok((path.trim().into(), value.trim().into()))
}

/// Every pattern, by its name in a scenario.
const PATTERNS: [Pattern; 9] = [
    Pattern::FanOut,
    Pattern::FanIn,
    Pattern::MToN,
    Pattern::QueueGroup,
    Pattern::RequestReply,
    Pattern::Stream,
    Pattern::Replay,
    Pattern::KeyValue,
    Pattern::Connect,
];

fn pattern() -> impl TypedValueParser<Value = Pattern> {
    PossibleValuesParser::new(PATTERNS.map(Pattern::name)).try_map(|name| {
        PATTERNS.into_iter().find(|p| p.name() == name).ok_or_else(|| format!("there is no pattern `{name}`"))
    })
}

impl ScenarioArgs {
    /// Overrides a text as said, and validates it.
    pub(super) fn parse(
        &self,
        path: &Path,
        text: String,
        overrides: &Overrides,
        types: &SystemTypes,
    ) -> Result<Scenario, Failure> {
        scenario::parse(path, text, overrides, types).map_err(Failure::usage)
    }

    /// What the options change.
    pub(super) fn overrides(&self) -> Result<Overrides, Failure> {
        Ok(Overrides {
            set: self.set.clone(),
            options: self.options()?,
            systems: self.systems.clone(),
            trials: self.trials,
            duration: self.duration,
            rate: self.rate,
            quick: self.quick,
        })
    }

    /// What alone is left of the options when they have become a scenario.
    pub(super) fn only_quick(&self) -> Overrides {
        Overrides { quick: self.quick, ..Overrides::default() }
    }

    /// The options that are short for a key.
    fn options(&self) -> Result<Vec<OptionEdit>, Failure> {
        let edit = |option: &str, path: &str, value: String| OptionEdit {
            option: format!("{option} {value}"),
            path: path.into(),
            value,
        };
        let workload = [
            self.pattern.map(|p| edit("--pattern", "workload.pattern", p.name().into())),
            self.producers.map(|n| edit("--producers", "workload.producers", n.to_string())),
            self.consumers.map(|n| edit("--consumers", "workload.consumers", n.to_string())),
            self.size.map(|size| edit("--size", "workload.payload.size", size.to_string())),
        ];
        let mut edits: Vec<OptionEdit> = workload.into_iter().flatten().collect();
        for (system, url) in self.urls()? {
            let path = system.map_or("system.url".into(), |name| format!("system.{name}.url"));
            // Quoted: a URL is never anything but a string.
            let value = toml::Value::String(url.clone()).to_string();
            // Without the URL: a password may stand in it.
            edits.push(OptionEdit { option: "--url".into(), path, value });
        }
        edits.extend(self.search.iter().flatten().cloned());
        Ok(edits)
    }

    /// The addresses, with the system that each is of where one is named.
    pub(super) fn urls(&self) -> Result<Vec<(Option<String>, String)>, Failure> {
        let name =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        let only = match &self.systems[..] {
            [one] => Some(one.clone()),
            _ => None,
        };
        let mut all = Vec::new();
        for url in &self.urls {
            match url.split_once('=') {
                Some((system, rest)) if name(system) => all.push((Some(system.to_owned()), rest.to_owned())),
                _ if self.systems.len() > 1 => {
                    let names = self.systems.join(", ");
                    let first = &self.systems[0];
                    return Err(Failure::usage(format!("--url: of which system ({names})? write --url {first}=URL")));
                }
                _ => all.push((only.clone(), url.clone())),
            }
        }
        Ok(all)
    }
}
