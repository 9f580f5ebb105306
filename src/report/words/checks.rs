//! What a check is called where people read of it: what is the case when it does not hold.

use crate::record::{Check, Status};

/// What is the case when the check with this id does not hold; its own name where it is not known.
pub fn plain(check: &Check) -> &str {
    match check.id.as_str() {
        "V1" => "less was offered than planned",
        "V2" => "the generator was late",
        "V3" => "the backlog grew",
        "V4" => "messages are unaccounted for",
        "V5" => "the books do not balance",
        "V6" => "the generator waited for a processor",
        "V7" => "the system was still warming up",
        "V8" => "the latency changed in steps",
        "V9" => "messages were sent in bursts",
        "V10" => "slow messages came together",
        "V11" => "latencies were out of range",
        "V12" => "the clock is doubtful",
        "V13" => "the machine was busy",
        "V14" => "messages were refused",
        "V15" => "the generator stood still",
        "V16" => "the rate is above what this machine is trusted with",
        "V17" => "the slowest messages came while the machine paused",
        "V18" => "the agents began at different times",
        "V19" => "an agent is missing",
        "V20" => "the clocks of agents differ",
        _ => &check.name,
    }
}

/// How much a check that did not hold takes from an answer; the least first. What is about the
/// machine comes after what is about the load, as it is less often a surprise.
pub fn gravity(check: &Check) -> u32 {
    let place = [
        "V19", "V20", "V4", "V12", "V5", "V3", "V1", "V18", "V15", "V14", "V17", "V13", "V6", "V2", "V9", "V7", "V8",
        "V10", "V16",
    ];
    let at = place.iter().position(|id| *id == check.id).unwrap_or(place.len()) as u32;
    match check.status {
        Status::Invalid => at,
        Status::Warn => 100 + at,
        Status::NotJudged | Status::Ok => 200 + at,
    }
}
