//! How the agents of a run are found and taken.

use std::sync::mpsc::channel;

use tokio::sync::mpsc::unbounded_channel;

use crate::engine::Interrupt;
use crate::plan::{AgentShare, AgentsPlan, Plan};
use crate::units::{Nanos, SECOND, now};

use super::chosen::ChosenAgent;
use super::coordinator::{Network, SeenAgent, SharedState};
use super::fleet::{Fleet, FleetOptions, LOOK};
use super::messages::{AgentAnswer, AgentAssignment, AgentRequest, ControlSubjects, Hello, PROTOCOL, VERSION, sha256};

/// After the first look it is waited so long for more agents than are needed, so that the same ones
/// are taken each time: the first by name.
const SETTLE: Nanos = SECOND / 2;
/// Agents say hello once a second; who has not for so long is gone.
const FRESH: Nanos = 10 * SECOND;

/// Why there are no agents.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// There is no control server, or it refuses.
    #[error("{0}")]
    Control(String),
    /// Too few are there.
    #[error("{0}")]
    TooFew(String),
    #[error("interrupted")]
    Interrupted,
    #[error("no thread: {0}")]
    Thread(std::io::Error),
}

impl Fleet {
    /// Connects to the control server, and takes so many agents.
    ///
    /// # Errors
    /// When there is no server, or there are not enough agents within the bound: who is there, and
    /// why others are not used.
    pub fn gather(options: &FleetOptions, plan: &Plan, interrupt: &Interrupt) -> Result<Self, FleetError> {
        let run = format!("{:016x}", rand::random::<u64>());
        let (state, (commands, sendings)) = (SharedState::default(), unbounded_channel());
        let (ready_in, ready) = channel();
        let (control, subjects) = (options.control.clone(), ControlSubjects::of(&options.fleet));
        let (shared, name) = (state.clone(), run.clone());
        let thread = std::thread::Builder::new().name("agents".into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(e) => return drop(ready_in.send(Err(format!("no runtime: {e}")))),
            };
            runtime.block_on(async {
                match control.connect("msgbench-coordinator").await {
                    Err(words) => drop(ready_in.send(Err(words))),
                    Ok(client) => {
                        let _ = ready_in.send(Ok(()));
                        let network = Network { client, subjects, run: name, state: shared };
                        // Its failure shows as agents that are not there.
                        let _ = network.serve(sendings).await;
                    }
                }
            });
        });
        let thread = Some(thread.map_err(FleetError::Thread)?);
        let plan = sha256(serde_json::to_string(plan).unwrap_or_default().as_bytes());
        let (commands, told) = (Some(commands), Default::default());
        let (options, interrupt) = (options.clone(), interrupt.clone());
        let fleet = Self { state, commands, thread, run, plan, options, interrupt, told };
        match ready.recv() {
            Ok(Ok(())) => {}
            Ok(Err(words)) => return Err(FleetError::Control(words)),
            Err(_) => return Err(FleetError::Control("the connection to the control server was given up".into())),
        }
        fleet.take()?;
        Ok(fleet)
    }

    /// Takes the first agents by name that are free, of this version, and have the labels.
    fn take(&self) -> Result<(), FleetError> {
        let options = &self.options;
        let begun = now();
        let until = begun + options.wait.as_nanos() as Nanos;
        let mut refused: Vec<(String, String)> = Vec::new();
        loop {
            if self.interrupt.count() > 0 {
                return Err(FleetError::Interrupted);
            }
            let (free, vacant) = (self.free(&refused), self.vacant(&options.agents));
            if free.len() >= vacant.len()
                && now() > begun + SETTLE
                && let Ok(placed) = place(&options.agents, &vacant, free)
            {
                for (index, hello) in placed {
                    let share = options.agents.share(index);
                    match self.assign(&hello, share.clone()) {
                        Ok(AgentAnswer::Yes) => self.state.lock().chosen.push(ChosenAgent::new(hello, share)),
                        Ok(AgentAnswer::No { why }) => refused.push((hello.id, why.to_string())),
                        Err(words) => refused.push((hello.id, format!("it does not answer: {words}"))),
                    }
                }
                if self.vacant(&options.agents).is_empty() {
                    self.state.lock().chosen.sort_by_key(|a| a.share.index);
                    return Ok(());
                }
            }
            if now() > until {
                return Err(FleetError::TooFew(self.too_few(&refused)));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The numbers that no agent has.
    fn vacant(&self, agents: &AgentsPlan) -> Vec<u32> {
        let state = self.state.lock();
        (0..agents.count).filter(|index| state.chosen.iter().all(|a| a.share.index != *index)).collect()
    }

    /// Agents that can be taken, by name. Who was not heard of lately is not there any more.
    pub(super) fn free(&self, refused: &[(String, String)]) -> Vec<Hello> {
        let (state, at) = (self.state.lock(), now());
        let fresh = |seen: &&SeenAgent| at.saturating_sub(seen.at) < FRESH;
        let usable = |h: &&Hello| {
            (h.protocol, h.version.as_str()) == (PROTOCOL, VERSION)
                && h.taken.is_none()
                && refused.iter().all(|(id, _)| *id != h.id)
                && state.chosen.iter().all(|a| a.hello.id != h.id)
        };
        let mut free: Vec<Hello> =
            state.seen.values().filter(fresh).map(|seen| &seen.hello).filter(usable).cloned().collect();
        free.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        free
    }

    pub(super) fn assign(&self, hello: &Hello, share: AgentShare) -> Result<AgentAnswer, String> {
        let by = format!("the run of process {} on {}", std::process::id(), host_name());
        let command = AgentRequest::Assign(AgentAssignment {
            protocol: PROTOCOL,
            version: VERSION.into(),
            run: self.run.clone(),
            by,
            plan: self.plan.clone(),
            share,
        });
        let (to, answer) = channel();
        self.send(&hello.id, command, Some(to));
        answer.recv().unwrap_or_else(|_| Err("the connection was given up".into()))
    }

    /// Who is there and who is not used, in words.
    fn too_few(&self, refused: &[(String, String)]) -> String {
        let options = &self.options;
        let (free, vacant) = (self.free(refused), self.vacant(&options.agents));
        let missing = place(&options.agents, &vacant, free.clone()).err().unwrap_or_default();
        let state = self.state.lock();
        let mut names: Vec<&str> = state.chosen.iter().map(|a| a.hello.name.as_str()).collect();
        names.extend(free.iter().map(|h| h.name.as_str()));
        let (here, of) = (names.len(), options.agents.count);
        let mut words = format!("{here} of {of} agents are there after {} s", options.wait.as_secs());
        if !names.is_empty() {
            words += &format!(": {}", names.join(", "));
        }
        for Missing { label, there, needed } in &missing {
            words += &format!("; with the label {label} {there} of {needed}");
        }
        for SeenAgent { hello, .. } in state.seen.values() {
            let why = refused.iter().find(|(id, _)| *id == hello.id).map(|(_, why)| why.clone());
            let other = (hello.protocol, hello.version.as_str()) != (PROTOCOL, VERSION);
            let why = match why {
                _ if other => Some(format!("it is msgbench {} and this is {VERSION}", hello.version)),
                None => hello.taken.as_ref().map(|by| format!("it is taken by {by}")),
                known => known,
            };
            if let Some(why) = why.filter(|_| !names.contains(&hello.name.as_str()) || other) {
                words += &format!("; {} is not used: {why}", hello.name);
            }
        }
        let fleet = if options.fleet == "default" { String::new() } else { format!(" --fleet {}", options.fleet) };
        let label = missing.first().map_or_else(String::new, |m| format!(" --label {}", m.label));
        format!("{words}. Start more, such as `msgbench agent --control {}{fleet}{label}`", options.control.shown())
    }
}

/// Agents of which there are too few.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing {
    label: String,
    there: usize,
    needed: usize,
}

/// Whether an agent has a label.
fn has(hello: &Hello, label: &str) -> bool {
    label.split_once('=').is_some_and(|(key, value)| hello.labels.get(key).is_some_and(|v| v == value))
}

/// Gives each number that is vacant an agent that has its label. Who several labels fit is taken
/// last: another may fit nowhere else.
pub(super) fn place(
    agents: &AgentsPlan,
    vacant: &[u32],
    mut free: Vec<Hello>,
) -> Result<Vec<(u32, Hello)>, Vec<Missing>> {
    let fits = |h: &Hello| agents.labels.iter().filter(|l| has(h, &l.label)).count();
    free.sort_by_cached_key(fits);
    let (mut placed, mut missing) = (Vec::new(), Vec::new());
    let groups = agents.labels.iter().map(|l| Some(l.label.as_str())).chain([None]);
    for label in groups {
        let slots: Vec<u32> = vacant.iter().copied().filter(|index| agents.label(*index) == label).collect();
        let (fit, others): (Vec<Hello>, Vec<Hello>) =
            std::mem::take(&mut free).into_iter().partition(|h| label.is_none_or(|label| has(h, label)));
        let there = fit.len();
        let mut fit = fit.into_iter();
        placed.extend(slots.iter().copied().zip(fit.by_ref().take(slots.len())));
        free = others.into_iter().chain(fit).collect();
        free.sort_by_cached_key(fits);
        if let Some(label) = label.filter(|_| there < slots.len()) {
            missing.push(Missing { label: label.to_owned(), there, needed: slots.len() });
        }
    }
    if placed.len() == vacant.len() { Ok(placed) } else { Err(missing) }
}

/// The name of this host.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "this host".into() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::LabelledAgents;
    use crate::record::Host;

    fn hello(name: &str, labels: &[(&str, &str)]) -> Hello {
        Hello {
            id: name.into(),
            name: name.into(),
            protocol: PROTOCOL,
            version: VERSION.into(),
            pid: 1,
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            host: Host::default(),
            clock: String::new(),
            taken: None,
        }
    }

    fn plan(labels: &[(&str, u32)], count: u32) -> AgentsPlan {
        let of = |(label, agents): &(&str, u32)| LabelledAgents { label: (*label).to_owned(), agents: *agents };
        AgentsPlan { labels: labels.iter().map(of).collect(), ..AgentsPlan::any(count) }
    }

    fn names(placed: &[(u32, Hello)]) -> Vec<(u32, &str)> {
        placed.iter().map(|(index, h)| (*index, h.name.as_str())).collect()
    }

    #[test]
    fn who_was_not_heard_of_lately_or_is_not_of_use_is_not_free() {
        let fleet = super::super::fleet::tests::fleet(AgentsPlan::any(2));
        let seen = [
            (hello("e", &[]), 0),
            (hello("d", &[]), FRESH - SECOND),
            (hello("gone", &[]), FRESH),
            (Hello { taken: Some("another run".into()), ..hello("taken", &[]) }, 0),
            (Hello { version: "0.0.1".into(), ..hello("old", &[]) }, 0),
            (Hello { protocol: PROTOCOL + 1, ..hello("new", &[]) }, 0),
            (hello("refused", &[]), 0),
        ];
        let at = now();
        let seen = seen.map(|(hello, ago)| (hello.id.clone(), SeenAgent { hello, at: at - ago }));
        fleet.state.lock().seen.extend(seen);
        let names = |free: Vec<Hello>| free.into_iter().map(|h| h.name).collect::<Vec<_>>();
        assert_eq!(names(fleet.free(&[("refused".into(), "busy".into())])), ["d", "e"]);
        let share = fleet.options.agents.share(0);
        fleet.state.lock().chosen.push(ChosenAgent::new(hello("e", &[]), share));
        assert_eq!(names(fleet.free(&[])), ["d", "refused"]);
    }

    #[test]
    fn each_number_has_an_agent_of_its_label() {
        let all = || {
            vec![
                hello("a", &[("zone", "a"), ("disk", "ssd")]),
                hello("b", &[("zone", "b")]),
                hello("c", &[("disk", "ssd")]),
                hello("d", &[("zone", "a")]),
                hello("e", &[]),
            ]
        };
        let it = plan(&[("disk=ssd", 1), ("zone=a", 2)], 4);
        // `a` has both labels, and there are two of zone=a only with it.
        assert_eq!(names(&place(&it, &[0, 1, 2, 3], all()).unwrap()), [(0, "c"), (1, "d"), (2, "a"), (3, "b")]);
        assert_eq!(names(&place(&it, &[2], all()).unwrap()), [(2, "d")]);
        let it = plan(&[("zone=a", 2), ("zone=b", 2)], 4);
        let missing = Missing { label: "zone=b".into(), there: 1, needed: 2 };
        assert_eq!(place(&it, &[0, 1, 2, 3], all()), Err(vec![missing]));
        assert_eq!(place(&plan(&[], 6), &[0, 1, 2, 3, 4, 5], all()), Err(Vec::new()));
    }
}
