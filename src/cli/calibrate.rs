//! `msgbench calibrate`: proves on this host that what msgbench prints is so, and writes a
//! certificate.

use std::path::PathBuf;

use crate::calibrate::certificate::{ClaimVerdict, Thoroughness};
use crate::calibrate::{self, CalibrateError, keep};
use crate::engine::Interrupt;
use crate::system::scratch::Scratch;

use super::interrupt::listen;
use super::{Exit, Failure, OutputFormat, pretty, print};

/// Arguments of `calibrate`.
#[derive(Debug, clap::Args)]
pub struct CalibrateArgs {
    /// Under 30 s instead of under 5 min: shorter runs, wider statistical tolerances, fewer loads
    #[arg(long)]
    quick: bool,
    /// Folder that gets certificate.json and certificate.html
    #[arg(long, value_name = "DIR", default_value = "results/calibration")]
    out: PathBuf,
    /// What to print at the end: the certificate for people, or for scripts
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) fn calibrate(args: &CalibrateArgs) -> Result<Exit, Failure> {
    let interrupt = Interrupt::default();
    listen(&interrupt)?;
    let scratch = Scratch::new().map_err(Failure::internal)?;
    let form = if args.quick { Thoroughness::Quick } else { Thoroughness::Full };
    let ran = calibrate::run(form, scratch.path(), &interrupt, &|what| {
        crate::units::say(format_args!("calibrating: {what}"))
    });
    let certificate = match ran {
        Ok(certificate) => certificate,
        Err(e @ CalibrateError::Interrupted) => return Err(Failure::new(Exit::Interrupted, e)),
        Err(e @ CalibrateError::Trial { .. }) => return Err(Failure::system(e)),
        Err(e) => return Err(Failure::internal(e)),
    };
    let write = |name: &str, text: String| {
        std::fs::create_dir_all(&args.out)
            .and_then(|()| std::fs::write(args.out.join(format!("{name}.tmp")), text))
            .and_then(|()| std::fs::rename(args.out.join(format!("{name}.tmp")), args.out.join(name)))
            .map_err(|e| Failure::unwritten(format!("cannot write {}: {e}", args.out.join(name).display())))
    };
    write("certificate.json", pretty(&certificate))?;
    write("certificate.html", certificate.html())?;
    // Where later runs look for it. A home that cannot be written is no reason to lose what has
    // been found.
    let kept = keep::place(&certificate.host, &certificate.profile, |name| std::env::var_os(name));
    if let Some(place) = kept
        && let Err(e) = keep::keep(&certificate, &pretty(&certificate), &place)
    {
        crate::units::say(format_args!("msgbench: runs will not cite this certificate: {}: {e}", place.display()));
    }
    match args.format {
        OutputFormat::Json => print(&pretty(&certificate))?,
        OutputFormat::Text => {
            print(&format!("{}\ncertificate: {}", certificate.text(), args.out.join("certificate.html").display()))?
        }
    };
    Ok(if certificate.verdict() == ClaimVerdict::Pass { Exit::Passed } else { Exit::Invalid })
}
