//! Between trials, agents that are free take the place of those that were lost.
//!
//! # Design
//! A place is a number, and with it a part of the plan: who takes it has the same clients, so that
//! the next trial is that of the plan again. During a trial nobody takes over: what the lost agent
//! owed would be sent late, by another clock. An agent that is started again is another one, and
//! may take the place that it had.
//! # Rejected
//! Going on with fewer agents where none is free: the plan would be another one. `may-lose` asks
//! for that by name.

use crate::units::{Nanos, now, say};

use super::chosen::ChosenAgent;
use super::fleet::{Fleet, LOOK, gone};
use super::gather::place;
use super::messages::{AgentAnswer, AgentRequest, Hello};

/// A place whose agent is gone.
struct LostPlace {
    index: u32,
    id: String,
    name: String,
    /// What is said of it.
    words: String,
}

impl Fleet {
    /// Gives the places of agents that are gone to others. Where more are gone than may be, others
    /// are waited for as long as at the start.
    ///
    /// # Errors
    /// Who is gone, where nobody took the place within the bound.
    pub(super) fn fill(&self) -> Result<(), String> {
        let until = now() + self.options.wait.as_nanos() as Nanos;
        let (mut refused, mut told) = (Vec::new(), false);
        loop {
            self.replace(&mut refused);
            let left = self.lost_places();
            if left.len() <= self.options.agents.may_lose as usize {
                return Ok(());
            }
            let all: Vec<String> = left.into_iter().map(|place| place.words).collect();
            if self.interrupt.count() > 0 || now() > until {
                let waited = self.options.wait.as_secs();
                return Err(format!("{}, and no other agent took the place within {waited} s", all.join("; ")));
            }
            if !told {
                say(format_args!("msgbench: {}: waiting for another agent", all.join("; ")));
                told = true;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn lost_places(&self) -> Vec<LostPlace> {
        let (state, at) = (self.state.lock(), now());
        let lost = |agent: &ChosenAgent| {
            let words = gone(&state, agent, at)?;
            let (id, name) = (agent.hello.id.clone(), agent.hello.name.clone());
            Some(LostPlace { index: agent.share.index, id, name, words })
        };
        state.chosen.iter().filter_map(lost).collect()
    }

    /// Fills the places that can be filled now.
    fn replace(&self, refused: &mut Vec<(String, String)>) {
        for lost in self.lost_places() {
            let free: Vec<Hello> = self.free(refused);
            let Ok(placed) = place(&self.options.agents, &[lost.index], free) else { continue };
            for (index, hello) in placed {
                let share = self.options.agents.share(index);
                let (id, name) = (hello.id.clone(), hello.name.clone());
                match self.assign(&hello, share.clone()) {
                    Ok(AgentAnswer::Yes) => {
                        let place = format!("{} of {}", index + 1, share.of);
                        say(format_args!(
                            "msgbench: agent {name} takes the place of {}, which is lost ({place})",
                            lost.name
                        ));
                        let mut it = ChosenAgent::new(hello, share);
                        it.replaces = Some(lost.name.clone());
                        if let Some(there) = self.state.lock().chosen.iter_mut().find(|a| a.share.index == index) {
                            *there = it;
                        }
                        // It may be there again later, and is free then.
                        self.send(&lost.id, AgentRequest::Release { run: self.run.clone() }, None);
                    }
                    Ok(AgentAnswer::No { why }) => refused.push((id, why.to_string())),
                    Err(words) => refused.push((id, words)),
                }
            }
        }
    }
}
