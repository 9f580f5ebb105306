//! `msgbench scenarios`: the built-in scenarios.

use std::path::{Path, PathBuf};

use super::shipped::{self, ShippedScenario};
use super::{Exit, Failure, OutputFormat, pretty, print};

/// Arguments of `scenarios`.
#[derive(Debug, clap::Args)]
pub struct ScenariosArgs {
    #[command(subcommand)]
    action: Option<ScenariosAction>,
    /// How to print the list
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

#[derive(Debug, clap::Subcommand)]
enum ScenariosAction {
    /// Print one of them
    Show {
        /// Its name
        name: String,
        /// Write it, and the files that it reads, into this folder instead
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Replace files that are there already
        #[arg(long, requires = "out")]
        force: bool,
    },
}

pub(super) fn run(args: &ScenariosArgs) -> Result<Exit, Failure> {
    match &args.action {
        None => list(args.format),
        Some(ScenariosAction::Show { name, out, force }) => {
            let found = shipped::find(name)
                .ok_or_else(|| Failure::usage(format!("there is no scenario `{name}`; {}", shipped::hint(name))))?;
            match out {
                None => print(found.text),
                Some(dir) => write(found, dir, *force),
            }
        }
    }
}

fn list(format: OutputFormat) -> Result<Exit, Failure> {
    if format == OutputFormat::Json {
        let list: Vec<_> =
            shipped::ALL.iter().map(|s| serde_json::json!({ "name": s.name, "question": s.question() })).collect();
        return print(&pretty(&list));
    }
    let width = super::color::width().unwrap_or(usize::MAX);
    let longest = shipped::ALL.iter().map(|s| s.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for s in shipped::ALL {
        out += &super::color::beside(s.name, longest, s.question(), width);
    }
    out += "\nrun one:  msgbench run NAME\nkeep one: msgbench scenarios show NAME > my.toml";
    print(&out)
}

/// Writes a scenario and its data.
fn write(found: ShippedScenario, dir: &Path, force: bool) -> Result<Exit, Failure> {
    let own = (format!("{}.toml", found.name), found.text.as_bytes());
    let data = found.data().map(|(path, bytes)| (path.to_string(), *bytes));
    let files: Vec<(PathBuf, &[u8])> = [own].into_iter().chain(data).map(|(name, b)| (dir.join(name), b)).collect();
    super::init::write_all(&files, force)
}
