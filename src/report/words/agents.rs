//! The agents of each trial, side by side: what a figure of all together hides is seen here.

use super::view::{CellGrade, TextTable};
use crate::record::{AgentResult, AgentState, Record, Status};
use crate::units::{Nanos, latency, three_digits};

/// One row for each agent of each trial; empty where there are none.
pub fn table(record: &Record) -> TextTable {
    let heads = [
        "case",
        ">round",
        "agent",
        "host",
        "state",
        ">scheduled",
        ">sent",
        ">received",
        ">began after",
        ">clock known to",
        ">times to others known to",
        ">lag p99",
        ">response p99",
        ">busiest",
        ">longest pause",
        "checks",
    ];
    let mut table = TextTable::new("Agents: what each ran of the load, and what it saw by itself", &heads);
    let time = |ns: Option<Nanos>| ns.map_or_else(|| "-".to_owned(), latency);
    for trial in &record.trials {
        for a in &trial.agents {
            let held: Vec<&str> = a.validity.iter().filter(|c| c.status > Status::Ok).map(|c| c.id.as_str()).collect();
            table.rows.push(vec![
                trial.case.clone(),
                trial.round.to_string(),
                a.name.clone(),
                format!("{} CPUs, {}", a.host.cpus, a.host.kernel),
                state(a),
                a.scheduled.to_string(),
                a.sent.to_string(),
                a.received.to_string(),
                time(a.late_start_ns),
                time(a.clock.bound_ns),
                time(to_others(a, &trial.agents)),
                time(a.lag_p99_ns),
                time(a.response_p99_ns),
                format!("{:.0} %", 100.0 * a.busiest),
                time(a.pause_ns),
                if held.is_empty() { "OK".into() } else { held.join(",") },
            ]);
            table.grade(4, (!a.delivered()).then_some(CellGrade::Failed));
        }
    }
    table
}

/// How wrong a time from an agent to another may be, of the one that is known least.
fn to_others(agent: &AgentResult, all: &[AgentResult]) -> Option<Nanos> {
    let others = all.iter().filter(|other| other.index != agent.index);
    others.map(|other| agent.one_way_bound(other)).reduce(|a, b| Some(a?.max(b?))).flatten()
}

fn state(agent: &AgentResult) -> String {
    let seconds = |s: f64| format!("{} s", three_digits(s));
    match &agent.state {
        AgentState::Delivered => "delivered".into(),
        AgentState::Silent { longest_s } => format!("delivered, silent for {}", seconds(*longest_s)),
        AgentState::Lost { silent_s, .. } => format!("lost, silent for {}", seconds(*silent_s)),
        AgentState::Failed { phase, error } => format!("failed in {phase}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ClockOffset, sample};

    #[test]
    fn each_agent_has_a_row_and_a_lost_one_is_marked() {
        let mut record = sample::record();
        assert!(table(&record).rows.is_empty());
        let agent = AgentResult {
            name: "a1".into(),
            clock: ClockOffset { offset_ns: 1, bound_ns: Some(120_000), exchanges: 40, ..ClockOffset::default() },
            late_start_ns: Some(50_000),
            scheduled: 100,
            ..AgentResult::default()
        };
        let lost = AgentResult {
            name: "a2".into(),
            index: 1,
            state: AgentState::Lost { silent_s: 12.0, allowed: false },
            ..agent.clone()
        };
        record.trials[0].agents = vec![agent, lost];
        let shown = table(&record);
        let cells = |row: usize| [2, 4, 8, 9, 10, 15].map(|i| shown.rows[row][i].clone());
        assert_eq!(cells(0), ["a1", "delivered", "50.0us", "120us", "240us", "OK"]);
        assert_eq!(cells(1)[1], "lost, silent for 12.0 s");
    }
}
