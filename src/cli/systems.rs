//! `msgbench systems`: what can be launched here.

use crate::engine::Register;
use crate::system::Availability;

use super::{Exit, Failure, OutputFormat, pretty, print};

/// Arguments of `systems`.
#[derive(Debug, clap::Args)]
pub struct SystemsArgs {
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) fn run(args: &SystemsArgs) -> Result<Exit, Failure> {
    let all = Register::built_in().available();
    if args.format == OutputFormat::Json {
        let list: Vec<_> = all
            .iter()
            .map(|(name, a)| match a {
                Availability::Found { program, version } => serde_json::json!({
                    "system": name, "available": true, "program": program, "version": version }),
                Availability::Missing { reason, remedy } => serde_json::json!({
                    "system": name, "available": false, "reason": reason, "remedy": remedy }),
            })
            .collect();
        return print(&pretty(&list));
    }
    let mut text = String::new();
    for (name, a) in &all {
        text += &match a {
            Availability::Found { program, version } => {
                format!("{:<11}available    {version}  ({})\n", name, program.display())
            }
            Availability::Missing { reason, remedy } => {
                format!("{:<11}missing      {reason}\n{:<24}{remedy}\n", name, "")
            }
        };
    }
    print(&text)
}
