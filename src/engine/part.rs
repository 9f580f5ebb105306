//! An agent's part of a trial: on a system that is up, prepared by somebody else.

use crate::host::doctor::{Disturbance, FileSystemRoot};
use crate::measure::hiccup::HiccupMeter;
use crate::system::{Running, System, SystemError};

use super::accounts::AgentAccounts;
use super::execute::spins;
use super::raw::RawTrial;
use super::register::{Choice, Register};
use super::setup::TrialSetup;
use super::sides::{AgentSide, TrialOrder, TrialSide};
use super::{Interrupt, Tick};

/// A system that somebody else has brought up.
struct AgentSystem(Running);

impl System for AgentSystem {
    fn start(&mut self) -> Result<Running, SystemError> {
        Ok(self.0.clone())
    }
}

/// Runs the part of the load that is this agent's.
pub fn take_part(
    order: &TrialOrder,
    register: &Register,
    interrupt: &Interrupt,
    agent: &dyn AgentSide,
    tick: &(dyn Fn(Tick) + Sync),
) -> AgentAccounts {
    let case = &order.case;
    let Choice { client, options, .. } = match register.choose(&order.system, &case.workloads) {
        Ok(choice) => choice,
        Err(words) => {
            let raw = RawTrial { failed: Some(("prepare", words)), ..RawTrial::of(case) };
            return AgentAccounts::of(raw, Vec::new(), (Vec::new(), false));
        }
    };
    let running = Running {
        url: order.url.clone(),
        places: order.places.clone(),
        client: order.client.clone(),
        intruders: order.intruders.clone(),
        ..Running::default()
    };
    let (quiet, spin) = (Disturbance::read(&FileSystemRoot::host()), spins(case, client.delivers));
    let meter = HiccupMeter::start(case.phases.interval.0).ok();
    let measured_from = |origin| meter.iter().for_each(|m| m.record_from(origin));
    let setup = TrialSetup {
        case,
        seed: order.seed,
        options: &options,
        spin,
        running: &running,
        interrupt,
        events: &order.events,
        reconnect: order.reconnect,
        deadline: order.deadline,
        side: TrialSide::Agent(agent),
        order: None,
        tick,
        measured_from: &measured_from,
    };
    let raw = (client.execute)(&setup, &mut AgentSystem(running.clone()));
    let hiccups = meter.map(HiccupMeter::stop).unwrap_or_default();
    let disturbance = Disturbance::read(&FileSystemRoot::host()).since(&quiet);
    AgentAccounts::of(raw, hiccups, (disturbance, spin))
}
