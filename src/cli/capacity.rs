//! `msgbench capacity`: the highest load that keeps limits. It is `run` with a `[search]` that the
//! options make or change.

use crate::plan::gate::Share;
use crate::scenario::OptionEdit;
use crate::units::Rate;

use super::run::{self, RunArgs};
use super::{Exit, Failure};

/// Arguments of `capacity`.
#[derive(Debug, clap::Args)]
pub struct CapacityArgs {
    #[command(flatten)]
    run: RunArgs,
    /// What every trial must keep, such as 'e2e.p99 < 20ms' or 'ledger.lost == 0' (may be given
    /// several times); those of the scenario's [search] where none is given
    #[arg(long = "limit", value_name = "LIMIT")]
    limits: Vec<String>,
    /// How far the two rates that are left may be apart, such as 5%
    #[arg(long, value_name = "SHARE")]
    width: Option<Share>,
    /// The lowest rate that is tried
    #[arg(long, value_name = "RATE")]
    min: Option<Rate>,
    /// The highest rate that is tried
    #[arg(long, value_name = "RATE")]
    max: Option<Rate>,
    /// The rate that is needed: where a setting is swept, the smallest value that holds it is named
    #[arg(long, value_name = "RATE")]
    need: Option<Rate>,
    /// How often each search is made; five give the median an interval
    #[arg(long, value_name = "N")]
    searches: Option<u32>,
}

pub(super) fn run(args: &mut CapacityArgs, color: bool) -> Result<Exit, Failure> {
    let edit = |option: String, key: &str, value: String| OptionEdit { option, path: format!("search.{key}"), value };
    let quoted = |text: &str| toml::Value::String(text.into()).to_string();
    let mut edits = Vec::new();
    // All at once: each alone would take the place of the one before.
    if !args.limits.is_empty() {
        let all: Vec<String> = args.limits.iter().map(|l| quoted(l)).collect();
        edits.push(edit(
            format!("--limit {}", quoted(&args.limits.join("', '"))),
            "limits",
            format!("[{}]", all.join(", ")),
        ));
    }
    let one = |option: &str, key: &str, value: Option<String>| {
        value.map(|v| edit(format!("--{option} {v}"), key, quoted(&v)))
    };
    edits.extend(one("width", "width", args.width.map(|w| w.to_string())));
    edits.extend(one("min", "min", args.min.map(|r| r.to_string())));
    edits.extend(one("max", "max", args.max.map(|r| r.to_string())));
    edits.extend(one("need", "need", args.need.map(|r| r.to_string())));
    edits.extend(args.searches.map(|n| edit(format!("--searches {n}"), "searches", n.to_string())));
    args.run.search(edits);
    run::run(&args.run, color)
}
