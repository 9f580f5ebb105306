//! `msgbench init`: writes a commented scenario to begin with.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::{Exit, Failure, print};

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// What it is about; asked for at a terminal, telemetry elsewhere
    #[arg(value_enum)]
    kind: Option<StarterKind>,
    /// Folder that gets the files
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Replace files that are there already
    #[arg(long)]
    force: bool,
}

/// The scenarios to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StarterKind {
    /// Orders keyed by customer, stored before they count
    Orders,
    /// Readings of many sensors, collected by one consumer
    Telemetry,
    /// Requests and their answers
    Rpc,
    /// Messages that are stored, and a backlog that is read
    Stream,
    /// A gate for a CI job, with limits, and an example of a workflow
    Ci,
}

impl StarterKind {
    fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    fn help(self) -> String {
        self.to_possible_value().and_then(|v| v.get_help().map(ToString::to_string)).unwrap_or_default()
    }

    /// Names and texts of its files; the scenario first.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Orders => &[("orders.toml", include_str!("init/orders.toml"))],
            Self::Telemetry => &[("telemetry.toml", include_str!("init/telemetry.toml"))],
            Self::Rpc => &[("rpc.toml", include_str!("init/rpc.toml"))],
            Self::Stream => &[("stream.toml", include_str!("init/stream.toml"))],
            Self::Ci => &[("ci.toml", include_str!("init/ci.toml")), ("msgbench-ci.yml", include_str!("init/ci.yml"))],
        }
    }
}

pub(super) fn run(args: &InitArgs) -> Result<Exit, Failure> {
    let kind = match args.kind {
        Some(kind) => kind,
        None if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() => ask()?,
        None => StarterKind::Telemetry,
    };
    let files: Vec<(PathBuf, &[u8])> =
        kind.files().iter().map(|(name, text)| (within(&args.out, name), text.as_bytes())).collect();
    write_all(&files, args.force)?;
    let scenario = files[0].0.display();
    print(&format!("try it:     msgbench run {scenario} --quick\nmeasure:    msgbench run {scenario}"))
}

/// The path of a file, as one would type it.
fn within(folder: &Path, name: &str) -> PathBuf {
    if folder == Path::new(".") { PathBuf::from(name) } else { folder.join(name) }
}

/// Asks at the terminal.
fn ask() -> Result<StarterKind, Failure> {
    let all = StarterKind::value_variants();
    let mut out = std::io::stderr().lock();
    let mut text = String::from("What is it about?\n");
    for (i, kind) in all.iter().enumerate() {
        text += &format!("  {} {:<10} {}\n", i + 1, kind.name(), kind.help());
    }
    // A terminal that takes no words gives no answer either, which is said below.
    let _ = write!(out, "{text}1 to {}: ", all.len()).and_then(|()| out.flush());
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|e| Failure::usage(format!("no answer: {e}")))?;
    chosen(line.trim()).ok_or_else(|| {
        let names: Vec<String> = all.iter().map(|k| k.name()).collect();
        Failure::usage(format!("`{}` is none of them: msgbench init [{}]", line.trim().escape_debug(), names.join("|")))
    })
}

/// The kind of that name or number.
fn chosen(answer: &str) -> Option<StarterKind> {
    let all = StarterKind::value_variants();
    let by_number = answer.parse::<usize>().ok().and_then(|n| all.get(n.checked_sub(1)?));
    by_number.or_else(|| all.iter().find(|k| k.name() == answer)).copied()
}

/// Writes files, none where one of them is there already.
pub(super) fn write_all(files: &[(PathBuf, &[u8])], force: bool) -> Result<Exit, Failure> {
    if let Some((there, _)) = files.iter().find(|(path, _)| !force && path.exists()) {
        let words = format!("{} is there already: nothing is written; --force replaces it", there.display());
        return Err(Failure::usage(words));
    }
    for (path, bytes) in files {
        let parent = path.parent().unwrap_or(Path::new(""));
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(path, bytes))
            .map_err(|e| Failure::unwritten(format!("cannot write {}: {e}", path.display())))?;
    }
    let names: Vec<String> = files.iter().map(|(path, _)| format!("written:    {}", path.display())).collect();
    print(&names.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_number_or_a_name() {
        for (i, kind) in StarterKind::value_variants().iter().enumerate() {
            assert_eq!(chosen(&(i + 1).to_string()), Some(*kind));
            assert_eq!(chosen(&kind.name()), Some(*kind));
        }
        for wrong in ["", "0", "6", "order", "-1"] {
            assert_eq!(chosen(wrong), None, "{wrong}");
        }
    }
}
