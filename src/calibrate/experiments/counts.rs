//! Experiment 7: what is lost, comes twice, comes late or changed is counted to the message.

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::certificate::{ClaimLine, Experiment};
use crate::calibrate::context::{ExperimentContext, ms};
use crate::record::{Ledger, Status};
use crate::units::SECOND;

/// Consumers, each of which is owed every message.
const CONSUMERS: u64 = 2;

fn scenario(fault: &str, every: u64, rate: &str, length: u64) -> String {
    format!(
        "name = \"counts\"\nquestion = \"Is every fault counted?\"\n\
         [[system]]\ndriver = \"reference\"\noptions = {{ client = \"wire\" }}\n\
         [[workload]]\npattern = \"fan-out\"\nconsumers = {CONSUMERS}\nload.rate = \"{rate}\"\npayload.size = \"64B\"\n\
         [faults]\n{fault} = {{ every = {every} }}\n\
         [run]\nwarmup = \"0s\"\nduration = \"{}\"\ntrials = 1\ndrain = \"20s\"\nmay-break = true\n",
        ms(length)
    )
}

/// One fault at a time, on every n-th message.
pub fn counts(context: &ExperimentContext<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    // A million messages for each fault in the full form. Nothing is timed here, so that they may
    // come fast.
    let (rate, length) = context.pick(("100k/s", SECOND / 4), ("200k/s", 5 * SECOND));
    let mut lines = Vec::new();
    for (fault, every) in [("drop", 7), ("duplicate", 11), ("swap", 13), ("corrupt", 17)] {
        let ran = context.one("counts", scenario(fault, every, rate, length))?;
        let l = &ran.workload(0).ledger;
        let hits = l.sent / every;
        let logged = ran.events(fault).count() as u64;
        // The last message has none to change places with.
        let unpaired = u64::from(fault == "swap" && l.sent.is_multiple_of(every));
        lines.push(ClaimLine::exact(
            format!("{fault} every {every}: in the log, of {} sent", l.sent),
            hits - unpaired,
            logged,
        ));
        let owed = CONSUMERS * (hits - unpaired);
        for (kind, seen) in counted(l) {
            let caused = match (fault, kind) {
                ("drop", "lost") | ("duplicate", "duplicated") | ("swap", "reordered") | ("corrupt", "corrupted") => {
                    owed
                }
                // What does not verify is not believed: it counts as lost too.
                ("corrupt", "lost") => owed,
                _ => 0,
            };
            if caused > 0 || seen > 0 || kind == "dropped by the client" {
                lines.push(ClaimLine::exact(
                    format!("{fault} every {every}: {kind}, {CONSUMERS} consumers"),
                    caused,
                    seen,
                ));
            }
        }
        lines.push(ClaimLine::exact(
            format!("{fault} every {every}: delivered + lost"),
            l.expected,
            l.delivered + l.lost,
        ));
    }
    lines.extend(client(context)?);
    let claim = "Drops, duplicates, swaps and changed bytes are counted exactly, each as what it is. Drops of the client library \
                 are told apart from the broker's, exactly, and make the trial INVALID.";
    Ok(vec![experiment(7, "counts", claim, lines, None)])
}

fn counted(l: &Ledger) -> [(&'static str, u64); 6] {
    [
        ("lost", l.lost),
        ("duplicated", l.duplicated),
        ("reordered", l.reordered),
        ("corrupted", l.corrupted),
        ("foreign", l.foreign),
        ("dropped by the client", l.client_dropped),
    ]
}

/// A consumer whose client library may hold no more than four messages while the broker lets a
/// second of them through at once.
fn client(context: &ExperimentContext<'_>) -> Result<Vec<ClaimLine>, CalibrateError> {
    let text = "name = \"client\"\nquestion = \"Are drops of the client told apart?\"\n\
         [[system]]\ndriver = \"reference\"\noptions = { subscription-capacity = 4 }\n\
         [[workload]]\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"5k/s\"\npayload.size = \"64B\"\n\
         [faults]\ndrop = { every = 10 }\nstall = { at = \"100ms\", for = \"200ms\" }\n\
         [run]\nwarmup = \"0s\"\nduration = \"500ms\"\ntrials = 1\ndrain = \"5s\"\nmay-break = true\n";
    let ran = context.one("counts", text.into())?;
    let l = &ran.workload(0).ledger;
    let broker = ran.events("drop").count() as u64;
    let invalid = ran.trial.validity.iter().any(|c| c.id == "V4" && c.status == Status::Invalid);
    let flag = |what: &str, holds: bool| ClaimLine::exact(format!("overflowing client: {what}"), 1, u64::from(holds));
    Ok(vec![
        ClaimLine::exact("overflowing client: drops in the broker's log", l.sent / 10, broker),
        flag("it dropped messages", l.client_dropped > 0),
        // Nothing else can have lost them, and nothing was sent before the measured phase.
        ClaimLine::exact(
            "overflowing client: its drops, of what is missing beyond the log",
            l.lost.saturating_sub(broker),
            l.client_dropped,
        ),
        flag("the trial is INVALID for it (V4)", invalid),
        ClaimLine::exact("overflowing client: delivered + lost", l.expected, l.delivered + l.lost),
    ])
}
