//! The `[faults]` table and the `[[event]]` entries of a scenario: what is to go wrong, and to whom.
//!
//! Faults become an option of the launched reference broker, so that every result shows them with its settings.

use super::diagnose::Problem;
use super::file::File;
use super::plan::{BringUp, DriverKind, PlannedEvent, SystemSpec};

/// What the NATS driver publishes on: barriers and answers are not hit.
const SUBJECTS: &str = "mb.*.*.*";
/// The option of the reference broker that holds its faults.
const OPTION: &str = "faults";

/// Gives the reference broker its faults.
pub(super) fn give(file: &File, systems: &mut [SystemSpec]) -> Result<(), Problem> {
    if let Some(i) = file.system.iter().position(|s| s.options.contains_key(OPTION)) {
        return Err(Problem::new(format!("system.{i}.options.{OPTION}"), "faults are no option of a system")
            .hint("write a [faults] table"));
    }
    let Some(faults) = &file.faults else { return Ok(()) };
    faults.check().map_err(|e| {
        let key = if e.key.is_empty() { "faults".to_owned() } else { format!("faults.{}", e.key) };
        Problem::new(key, e.message).hint(e.hint)
    })?;
    if !faults.any() {
        return Err(Problem::new("faults", "there is no fault in it").hint("write one, such as drop = { every = 7 }"));
    }
    for (i, system) in systems.iter_mut().enumerate() {
        if system.driver != DriverKind::Reference {
            return Err(Problem::new(
                format!("system.{i}.driver"),
                format!("{} cannot be told to misbehave", system.name),
            )
            .hint("faults need the reference broker; any launched system takes an [[event]]"));
        }
        if system.bring_up != BringUp::Launch {
            return Err(Problem::new(format!("system.{i}.url"), "a broker that is already running has its own faults")
                .hint("remove `url`, or start that broker with --fault"));
        }
        let mut faults = faults.clone();
        faults.subjects.get_or_insert_with(|| SUBJECTS.to_owned());
        let value = serde_json::to_value(&faults).map_err(|e| Problem::new("faults", e.to_string()))?;
        system.options.insert(OPTION.into(), value);
    }
    Ok(())
}

/// The events by time.
pub(super) fn events(file: &File, systems: &[SystemSpec]) -> Result<Vec<PlannedEvent>, Problem> {
    let mut events = Vec::new();
    for (i, e) in file.event.iter().enumerate() {
        let end = file.run.duration;
        if e.at >= end {
            return Err(Problem::new(format!("event.{i}.at"), format!("the measured phase ends after {end}"))
                .hint("make it earlier, or the duration longer"));
        }
        events.push(PlannedEvent { at: e.at, action: e.action, node: e.node });
    }
    if let Some(i) = systems.iter().position(|s| s.bring_up != BringUp::Launch || s.driver == DriverKind::Null)
        && !events.is_empty()
    {
        return Err(Problem::new(format!("system.{i}"), format!("{} has no process of ours", systems[i].name))
            .hint("events need systems that msgbench starts itself"));
    }
    events.sort_by_key(|e| e.at);
    Ok(events)
}
