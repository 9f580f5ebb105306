//! One trial: connect, warm up, measure, drain, on threads of their own.
//!
//! Publishers and consumers live on threads with a single-threaded runtime each, so that a
//! connection's I/O, its pacer and its books share a core and nothing is handed between threads for
//! a message. The control thread only watches: the system's processes, the user's interrupt, the
//! bounds.

use std::cell::RefCell;
use std::sync::mpsc::channel;

use crate::driver::{Driver, Incident, Target};
use crate::plan::disturb;
use crate::record::AGENTS;
use crate::system::System;
use crate::units::now;

use super::control::TrialControl;
use super::join::join_all;
use super::kept::{StoredFinding, look_all};
use super::raw::{RawTrial, collect, gather};
use super::setup::TrialSetup;
use super::shared::Shared;
use super::sides::{CountExchange, TrialSide};
use super::threads::ThreadContext;

/// Runs the load of a case through driver `D`.
pub fn execute<D: Driver>(setup: &TrialSetup<'_>, system: &mut dyn System) -> RawTrial {
    let case = setup.case;
    let mut raw = RawTrial::of(case);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return RawTrial { failed: Some(("prepare", format!("no runtime: {e}"))), ..raw },
    };
    let target = target(setup);
    // The control thread's own waits are this runtime's, too.
    let _inside = runtime.enter();
    let mut driver = match runtime.block_on(D::prepare(target.clone(), &case.workloads)) {
        Ok(driver) => driver,
        Err(e) => return RawTrial { failed: Some(("connect", e.to_string())), ..raw },
    };
    raw.facts = driver.facts().clone();
    if let (TrialSide::Coordinator(coordinator), Some(order)) = (setup.side, &setup.order)
        && let Err(words) = coordinator.begin(order)
    {
        raw.fail(AGENTS, words);
        return raw;
    }
    let mut shared = Shared::new(case.workloads.len());
    shared.disturbed = disturb(setup.events);
    let (samples_in, samples) = channel();
    let (done_in, done) = channel();
    std::thread::scope(|scope| {
        // However this ends, the threads are told: the scope waits for them.
        let _stop = StopOnDrop(&shared);
        let threads = ThreadContext {
            setup,
            driver: &driver,
            shared: &shared,
            run: target.run,
            samples: samples_in,
            done: done_in,
        };
        let control = TrialControl {
            setup,
            shared: &shared,
            runtime: &runtime,
            done: &done,
            samples: &samples,
            delivers: D::DELIVERS,
            exchange: RefCell::new(CountExchange::of(&setup.side)),
        };
        control.run_phases(scope, threads, system, &mut raw);
    });
    collect(&done, &mut raw);
    gather(&samples, &mut raw);
    if let TrialSide::Coordinator(coordinator) = setup.side {
        join_all(&mut raw, case, setup.seed, coordinator.collect(), coordinator.may_lose());
    }
    raw.note_undecided(case);
    if raw.failed.is_none() && !raw.interrupted && !setup.side.joins() {
        match runtime.block_on(look_all(&driver, case, (target.run, setup.seed), &raw)) {
            Ok(all) => {
                for StoredFinding { kept, lost, gone } in all {
                    raw.kept.push(kept);
                    raw.kept_lost.push(lost);
                    raw.log.extend(gone.map(|words| (now(), Incident::Planned, words)));
                }
            }
            Err(e) => raw.fail("look at what is kept", e.to_string()),
        }
    }
    close(&mut driver, &mut raw);
    if let Err(e) = runtime.block_on(driver.cleanup()) {
        raw.fail("tear-down", e.to_string());
    }
    raw
}

/// What the driver is opened with.
fn target(setup: &TrialSetup<'_>) -> Target {
    Target {
        url: setup.running.url.clone(),
        timeout: setup.case.phases.connect.duration(),
        run: (setup.seed ^ setup.seed >> 32) as u32,
        options: client_options(setup),
        places: setup.running.places.clone(),
        pinned: false,
        reconnect: setup.reconnect,
        part: match setup.side {
            TrialSide::Agent(agent) => Some(agent.share().clone()),
            TrialSide::Alone | TrialSide::Coordinator(_) => None,
        },
        intruders: setup.running.intruders.clone(),
    }
}

/// Takes over what the driver has counted.
fn close<D: Driver>(driver: &mut D, raw: &mut RawTrial) {
    driver.halt();
    for (hop, latencies) in driver.hops() {
        raw.add_hop(0, &hop, &latencies);
    }
    for (i, dropped) in raw.client_dropped.iter_mut().enumerate() {
        *dropped += driver.client_dropped(i);
    }
    raw.backpressure += driver.incidents().backpressure_total();
    // Closing the connections is no incident: only what came before the end of the drain counts.
    let over = raw.origin + raw.measured + raw.drained;
    raw.log.extend(driver.incidents().take_log().into_iter().filter(|(at, ..)| raw.origin == 0 || *at <= over));
    if !raw.agents.is_empty() {
        raw.log.sort_by_key(|(at, ..)| *at);
    }
}

/// What the launched system gave its clients, and over it what the scenario says.
fn client_options(setup: &TrialSetup<'_>) -> serde_json::Map<String, serde_json::Value> {
    let mut options = setup.running.client.clone();
    options.extend(setup.options.clone());
    options
}

struct StopOnDrop<'a>(&'a Shared);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
