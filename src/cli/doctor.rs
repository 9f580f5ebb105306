//! `msgbench doctor`: what of this host spoils latencies, why, and what mends it.

use crate::host::clock;
use crate::host::doctor::{FileSystemRoot, Finding, Grade, audit};

use super::{Exit, Failure, OutputFormat, pretty, print};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// What to print: the findings for people, or for scripts
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) fn doctor(args: &DoctorArgs) -> Result<Exit, Failure> {
    let mut findings = audit(&FileSystemRoot::host());
    findings.push(clock::finding(&clock::read()));
    match args.format {
        OutputFormat::Json => print(&pretty(&findings))?,
        OutputFormat::Text => print(&text(&findings))?,
    };
    Ok(Exit::Passed)
}

fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for f in findings {
        let word = match f.grade {
            Grade::Ok => "OK",
            Grade::Unknown => "unknown",
            Grade::Warn => "WARN",
            Grade::Bad => "BAD",
        };
        out += &format!("{word:<8} {:<23} {}\n", f.item, f.observed);
        if f.grade != Grade::Ok {
            out += &format!("{:<32} why: {}\n", "", f.why);
            if !f.remedy.is_empty() {
                out += &format!("{:<32} mend: {}\n", "", f.remedy);
            }
        }
    }
    let count = |grade| findings.iter().filter(|f| f.grade == grade).count();
    let (bad, warn) = (count(Grade::Bad), count(Grade::Warn));
    out += &match (bad, warn) {
        (0, 0) => "\nNothing here stands in the way of a measurement.".to_owned(),
        (0, n) => format!("\n{n} to know of; figures from here can be compared with figures from here."),
        (b, n) => format!("\n{b} to mend before a measurement is believed, {n} to know of."),
    };
    out
}
