//! Proof that the numbers are true: what is injected is what is measured, on this host, now.
//!
//! **Why.** A measuring tool is worth what its calibration is worth. **How.** Each experiment
//! drives the engine through a scenario, as a user would, against the reference broker with faults,
//! whose log says what really happened; or against closed formulas (stats.md C1 to C4). **What
//! comes out.** A [`certificate`]: expected, measured, error, tolerance and verdict of each line,
//! and what disturbed the host where a line does not hold.
//!
//! **Invariants.** No tolerance is derived from the result that it judges. A line that fails is
//! only called disturbed when the pauses of the host, measured beside it, are of the size of the
//! error; counts are exact or wrong, never disturbed. Timing experiments carry a control in the
//! same trial: a second workload that the faults do not hit, so that the way to the broker and back
//! is known under the same conditions. Rejected: calibrating beforehand and trusting it later.

pub mod certificate;
mod context;
mod experiments;
mod html;
pub mod keep;
mod keep_awake;
mod trust;
mod truth;

use std::path::Path;
use std::time::{Instant, SystemTime};

use crate::engine::{Interrupt, Register, RunError};
use crate::host::machine as host;
use crate::record::rfc3339;

use certificate::{Certificate, SCHEMA, Thoroughness};
use context::ExperimentContext;

/// Why a calibration came to no end.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The engine could not execute a trial.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A scenario of ours does not hold.
    #[error("a built-in scenario does not hold, which is a defect of msgbench: {0}")]
    Scenario(#[from] crate::scenario::ScenarioError),
    /// A trial failed, so that there is nothing to judge.
    #[error("experiment `{experiment}` failed in {phase}: {error}")]
    Trial {
        experiment: &'static str,
        /// In which phase of the trial.
        phase: String,
        error: String,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
    /// This machine failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Runs all experiments of a form. `scratch` is a folder for the brokers' files; `say` is called
/// with the progress.
///
/// # Errors
/// When an experiment cannot be executed at all, or the user stops it; a result that is wrong is in
/// the certificate.
pub fn run(
    form: Thoroughness,
    scratch: &Path,
    interrupt: &Interrupt,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Certificate, CalibrateError> {
    let (began, started_at, host) = (Instant::now(), SystemTime::now(), host::read());
    let register = Register::built_in();
    let context = ExperimentContext {
        form,
        register: &register,
        scratch,
        clocksource: &host.clocksource,
        interrupt,
        program: program()?,
    };
    let clock = experiments::clock::clock(form);
    let (floor, max_rate, first) = experiments::floor::floor(&context, say)?;
    let mut all = vec![clock, first];
    for (name, experiment) in experiments::ALL {
        if interrupt.count() > 0 {
            return Err(CalibrateError::Interrupted);
        }
        say(name);
        let began = Instant::now();
        let mut done = experiment(&context)?;
        done.iter_mut().for_each(|e| e.seconds = began.elapsed().as_secs_f64());
        all.extend(done);
    }
    all.sort_by_key(|e| e.number);
    Ok(Certificate {
        schema: SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" }.into(),
        form,
        started_at: rfc3339(started_at),
        seconds: began.elapsed().as_secs_f64(),
        host,
        max_trustworthy_rate: max_rate,
        floor,
        experiments: all,
    })
}

/// This program, to be run as a user would.
fn program() -> Result<std::path::PathBuf, CalibrateError> {
    std::env::current_exe().map_err(|source| CalibrateError::Io { action: "find the msgbench program", source })
}
