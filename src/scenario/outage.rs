//! The `[outage]` table of a scenario: how outages are measured.

use super::bounds::check_span;
use super::file::ScenarioFile;
use crate::plan::OutageSpec;
use crate::plan::problem::Problems;

pub(super) fn outage(file: &ScenarioFile, problems: &mut Problems) -> OutageSpec {
    let mut outage = OutageSpec { reconnect: file.outage.reconnect, ..OutageSpec::default() };
    if let Some(deadline) = file.outage.deadline {
        problems.take(check_span("outage.deadline", deadline, false));
        outage.deadline = deadline;
    }
    outage
}
