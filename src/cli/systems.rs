//! `msgbench systems`: what can be launched here.

use crate::plan::DriverKind;
use crate::system::{Availability, availability};

use super::{Exit, Failure, Format, pretty, print};

/// Arguments of `systems`.
#[derive(Debug, clap::Args)]
pub struct SystemsArgs {
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &SystemsArgs) -> Result<Exit, Failure> {
    let all = [DriverKind::Reference, DriverKind::Nats, DriverKind::Jetstream, DriverKind::Kafka, DriverKind::Null]
        .map(|kind| (kind, availability(kind)));
    if args.format == Format::Json {
        let list: Vec<_> = all
            .iter()
            .map(|(kind, a)| match a {
                Availability::Found { program, version } => serde_json::json!({
                    "system": kind.name(), "available": true, "program": program, "version": version }),
                Availability::Missing { reason, remedy } => serde_json::json!({
                    "system": kind.name(), "available": false, "reason": reason, "remedy": remedy }),
            })
            .collect();
        return print(&pretty(&list));
    }
    let mut text = String::new();
    for (kind, a) in &all {
        text += &match a {
            Availability::Found { program, version } => {
                format!("{:<11}available    {version}  ({})\n", kind.name(), program.display())
            }
            Availability::Missing { reason, remedy } => {
                format!("{:<11}missing      {reason}\n{:<24}{remedy}\n", kind.name(), "")
            }
        };
    }
    print(&text)
}
