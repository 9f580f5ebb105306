//! The control thread of a trial: conducts the phases, watches the system, the user's interrupt and
//! the bounds.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::driver::{Driver, Incident};
use crate::measure::recorder::{LatencyKind, SampleBatch};
use crate::plan::{Action, PlannedEvent};
use crate::record::AGENTS;
use crate::system::System;
use crate::units::{Nanos, now};

use super::Tick;
use super::drain::DrainWatch;
use super::events::{EventScene, PendingEvents};
use super::raw::{RawTrial, ThreadReport, collect, gather};
use super::ready_watch::{Readiness, ReadyWatch};
use super::setup::TrialSetup;
use super::shared::{Shared, copies};
use super::sides::{AgentProgress, CountExchange, LoadStart, PartFailure, TrialSide, TrialStage};
use super::threads::ThreadContext;
use super::watch::BrokerWatch;

/// From the moment all threads are ready until the first message is due.
const LEAD: Nanos = 20_000_000;
/// How often the control thread looks.
const WATCH: Duration = Duration::from_millis(50);
/// What one of thousands of connections may take, which are opened one after another.
const EACH_IDLE: Nanos = 10_000_000;

/// An event of the coordinator may come so much sooner by the clock of an agent.
const CLOCKS: Nanos = 100_000_000;

/// What is looked after while load runs.
struct TrialWatches<'a, 'e> {
    events: &'a mut PendingEvents<'e>,
    broker: &'a mut BrokerWatch,
    ready: &'a mut ReadyWatch,
}

/// Conducts one trial.
pub struct TrialControl<'a> {
    /// What the trial needs.
    pub setup: &'a TrialSetup<'a>,
    /// Shared with the threads.
    pub shared: &'a Shared,
    /// For its own waits.
    pub runtime: &'a tokio::runtime::Runtime,
    /// What threads report at their end.
    pub done: &'a Receiver<ThreadReport>,
    /// Whether the driver delivers to consumers.
    pub delivers: bool,
    /// Histograms of finished intervals.
    pub samples: &'a Receiver<SampleBatch>,
    /// What goes between this process and the others of the trial.
    pub exchange: RefCell<CountExchange>,
}

impl TrialControl<'_> {
    /// Conducts all phases; what came of it is in `raw`.
    pub fn run_phases<'s, 'e, D: Driver + 'e>(
        &self,
        scope: &'s Scope<'s, 'e>,
        threads: ThreadContext<'e, D>,
        system: &mut dyn System,
        raw: &mut RawTrial,
    ) {
        let case = self.setup.case;
        let phases = case.phases;
        let idle: u64 = case.workloads.iter().map(|w| u64::from(w.idle_connections)).sum();
        let bound = || now() + 2 * phases.connect.0 + 1_000_000_000 + idle * EACH_IDLE;
        let (ready_in, ready) = channel();
        let loaders = threads.loaders(scope, &ready_in);
        // A backlog takes as long as it takes while it gets on: its threads bound each wait
        // themselves.
        if !self.gathered("store the backlog", &ready, loaders.len(), Nanos::MAX, system, raw) {
            return;
        }
        // Consumers of other processes would take a backlog for what is published.
        let backlog = case.workloads.iter().any(|w| w.delivery.backlog > 0);
        if !self.all_at(TrialStage::Stored, if backlog { Nanos::MAX } else { bound() }, system, raw) {
            return;
        }
        let mut handles = if D::DELIVERS { threads.consumers(scope, &ready_in) } else { Vec::new() };
        handles.extend(threads.idle(scope, &ready_in));
        if !self.gathered("connect", &ready, handles.len(), bound(), system, raw) {
            return;
        }
        if !self.all_at(TrialStage::Listening, bound(), system, raw) {
            return;
        }
        let publishers = threads.publishers(scope, &ready_in);
        if !self.gathered("connect", &ready, publishers.len(), bound(), system, raw)
            || !self.all_at(TrialStage::Connected, bound(), system, raw)
        {
            return;
        }
        if D::DELIVERS {
            handles.extend(threads.readers(scope));
        }
        handles.extend(threads.intruders(scope));
        let driver = threads.driver;
        drop(threads);
        let Some(LoadStart { at: start, shift }) = self.load_start(bound(), system, raw) else { return };
        self.shared.shift_stamps(shift);
        let origin = start + phases.warmup.0;
        raw.origin = origin;
        (self.setup.measured_from)(origin);
        driver.measured_from(origin);
        self.shared.go(start, origin, origin + phases.measure.0);
        let mut pending_events = PendingEvents::new(self.scene(driver, system, origin));
        let stored = driver.stored_in(0).map(|(_, name)| name);
        let readiness = Readiness::of(self.setup, system.view(), stored).filter(|_| !self.setup.side.joins());
        let mut ready_watch = ReadyWatch::new(readiness);
        let mut watch = BrokerWatch::new(origin, phases.interval.0, self.setup.running.application);
        let both = &mut TrialWatches { events: &mut pending_events, broker: &mut watch, ready: &mut ready_watch };
        self.phase("warm-up", origin, system, raw, both, &|| false);
        self.phase("measure", Nanos::MAX, system, raw, both, &|| now() >= self.shared.end());
        watch.sample_all(pending_events.pids());
        raw.measured = self.shared.end().saturating_sub(origin);
        let delivers = (D::DELIVERS, D::STORES);
        self.drain(delivers, &publishers, &mut pending_events, system, raw);
        pending_events.close(system, raw);
        self.shared.stop();
        handles.extend(publishers);
        for handle in handles {
            // Every loop notices the stop within its slice, and the client's waits are bounded.
            let _ = handle.join();
        }
        watch.fold(raw);
        ready_watch.fold(raw);
    }

    /// Waits for what is outstanding.
    fn drain(
        &self,
        delivers: (bool, bool),
        publishers: &[ScopedJoinHandle<'_, ()>],
        pending_events: &mut PendingEvents<'_>,
        system: &mut dyn System,
        raw: &mut RawTrial,
    ) {
        let drain_until = now() + self.setup.case.phases.drain.0 + self.patience();
        let mut drain = DrainWatch::of(self.setup.case, self.setup.events, delivers, self.shared);
        let alone = !self.setup.side.joins();
        let begun = now();
        while now() < drain_until && raw.failed.is_none() && self.setup.interrupt.count() < 2 {
            let sent_all = publishers.iter().all(ScopedJoinHandle::is_finished);
            let (others_sent_all, told, known) = {
                let exchange = self.exchange.borrow();
                (exchange.others_sent_all, exchange.over, exchange.known)
            };
            // An agent does not know what the others have sent: it is told.
            let recovering = pending_events.recovering(raw);
            let sent = (sent_all && others_sent_all, recovering);
            if told || alone && drain.over(self.shared, sent, (now(), known)) {
                break;
            }
            self.runtime.block_on(tokio::time::sleep(Duration::from_millis(5)));
            self.sample_all("drain", system, raw);
            self.tell_others(true, sent_all, raw);
            pending_events.look(system, raw);
        }
        raw.drained = now() - begun;
        raw.abandoned = self.setup.interrupt.count() > 1 || raw.failed.is_some();
        raw.arriving = now() >= drain_until && drain.moving();
        self.settle(drain_until, pending_events, system, raw);
    }

    /// Waits until what was done to the system is undone and all is well again: how long that takes
    /// is a result, though every message is here before.
    fn settle(
        &self,
        until: Nanos,
        pending_events: &mut PendingEvents<'_>,
        system: &mut dyn System,
        raw: &mut RawTrial,
    ) {
        let goes_on = |raw: &RawTrial| raw.failed.is_none() && self.setup.interrupt.count() < 2;
        while pending_events.recovering(raw) && now() < until && goes_on(raw) {
            self.runtime.block_on(tokio::time::sleep(Duration::from_millis(5)));
            self.sample_all("drain", system, raw);
            self.tell_others(true, true, raw);
            pending_events.look(system, raw);
        }
    }

    /// Where the events of the trial are done to.
    fn scene<'a, D: Driver>(&'a self, driver: &'a D, system: &mut dyn System, origin: Nanos) -> EventScene<'a> {
        let names = self.setup.case.workloads.iter().map(|w| w.name.clone());
        EventScene {
            // What is done to the system, the coordinator does.
            events: if self.setup.side.joins() { &[] } else { self.setup.events },
            pids: &self.setup.running.pids,
            seed: self.setup.seed,
            origin,
            view: system.view().filter(|_| !self.setup.events.is_empty()),
            stored: names.enumerate().map(|(i, name)| (name, driver.stored_in(i))).collect(),
            hand_over: Box::new(|workload| driver.hand_over(workload)),
            kill_producers: Box::new(|away| driver.kill_producers(away)),
        }
    }

    /// Waits until all processes of the trial have come to a stage.
    fn all_at(&self, stage: TrialStage, until: Nanos, system: &mut dyn System, raw: &mut RawTrial) -> bool {
        self.others(until, system, raw, stage, || self.setup.side.all_at(stage).map(|all| all.then_some(()))).is_some()
    }

    /// Waits until it is known when load starts.
    fn load_start(&self, until: Nanos, system: &mut dyn System, raw: &mut RawTrial) -> Option<LoadStart> {
        self.others(until, system, raw, TrialStage::Connected, || self.setup.side.load_start(now(), LEAD))
    }

    /// Waits for something of the other processes.
    fn others<T>(
        &self,
        until: Nanos,
        system: &mut dyn System,
        raw: &mut RawTrial,
        stage: TrialStage,
        look: impl Fn() -> Result<Option<T>, PartFailure>,
    ) -> Option<T> {
        loop {
            match look() {
                Ok(Some(here)) => return Some(here),
                Ok(None) => {}
                Err(PartFailure { phase, words }) => raw.fail(phase_named(&phase), words),
            }
            if now() > until {
                let missing = self.setup.side.missing(stage);
                raw.fail(AGENTS, format!("not ready within the bound `run.connect`: {missing}"));
            }
            if raw.failed.is_some() || raw.interrupted {
                self.shared.stop();
                return None;
            }
            self.runtime.block_on(tokio::time::sleep(Duration::from_millis(1)));
            self.sample_all("connect", system, raw);
        }
    }

    /// How much longer than the drain an agent waits for word that it is over.
    fn patience(&self) -> Nanos {
        match self.setup.side {
            TrialSide::Agent(agent) => agent.patience(),
            TrialSide::Alone | TrialSide::Coordinator(_) => 0,
        }
    }

    /// Tells the other processes how far this one has come, and hears how far they have.
    fn tell_others(&self, draining: bool, sent_all: bool, raw: &mut RawTrial) {
        if let TrialSide::Alone = self.setup.side {
            return;
        }
        let failed = raw.failed.as_ref().map(|(phase, error)| ((*phase).to_owned(), error.clone()));
        let cut = raw.interrupted || failed.is_some();
        // An agent that its own user ends leaves a hole in the load.
        let own_end = raw.interrupted && self.setup.side.joins() && !self.exchange.borrow().cut;
        let failed = failed.or_else(|| own_end.then(|| (AGENTS.to_owned(), "it was ended".to_owned())));
        let own = AgentProgress { counts: Vec::new(), draining, sent_all, failed };
        let mut exchange = self.exchange.borrow_mut();
        exchange.exchange(&self.setup.side, self.shared, own, cut);
        if exchange.cut && !raw.interrupted {
            raw.interrupted = true;
            self.shared.cut(now());
        }
        if let Some((phase, error)) = exchange.failed.take().filter(|_| raw.failed.is_none()) {
            raw.fail(phase_named(&phase), error);
            self.shared.cut(now());
        }
    }

    /// Whether the coordinator may have ended a process of the system by now.
    fn others_end_it(&self) -> bool {
        let since = now().saturating_sub(self.shared.origin());
        let due = |e: &PlannedEvent| (e.action.ends() || e.action == Action::Cut) && e.at.0 <= since + CLOCKS;
        self.setup.side.joins() && self.setup.events.iter().any(due)
    }

    fn gathered(
        &self,
        action: &'static str,
        ready: &Receiver<()>,
        n: usize,
        until: Nanos,
        system: &mut dyn System,
        raw: &mut RawTrial,
    ) -> bool {
        let mut here = 0;
        while here < n {
            self.runtime.block_on(tokio::time::sleep(Duration::from_millis(1)));
            here += ready.try_iter().count();
            self.sample_all(action, system, raw);
            if now() > until {
                raw.failed
                    .get_or_insert(("connect", "connections were not ready within the bound `run.connect`".into()));
            }
            if raw.failed.is_some() || raw.interrupted {
                self.shared.stop();
                return false;
            }
        }
        true
    }

    fn phase(
        &self,
        name: &'static str,
        until: Nanos,
        system: &mut dyn System,
        raw: &mut RawTrial,
        watches: &mut TrialWatches<'_, '_>,
        over: &dyn Fn() -> bool,
    ) {
        let mut shown = 0;
        while now() < until && !over() && raw.failed.is_none() && !raw.interrupted {
            let wait = Duration::from_nanos(until.saturating_sub(now()).min(WATCH.as_nanos() as u64));
            let wait =
                wait.min(Duration::from_nanos(self.shared.end().min(watches.broker.next()).saturating_sub(now())));
            let event = Duration::from_nanos(watches.events.next().saturating_sub(now()));
            if event < Duration::from_millis(3) {
                // The timer of the runtime would be late by a millisecond.
                std::thread::sleep(event);
                // Who asks for something through the driver's own connection waits for its turn.
                self.runtime.block_on(tokio::task::yield_now());
            } else {
                let wait = wait.min(event - Duration::from_millis(2));
                self.runtime.block_on(tokio::time::sleep(wait.max(Duration::from_millis(1))));
            }
            watches.events.act(system, raw);
            raw.end_expected |= self.others_end_it();
            watches.ready.note(&raw.faults);
            self.sample_all(name, system, raw);
            self.tell_others(false, false, raw);
            watches.broker.tick(watches.events.pids());
            if now() - shown > 250_000_000 {
                shown = now();
                (self.setup.tick)(Tick {
                    phase: name,
                    left: Duration::from_nanos(self.shared.end().saturating_sub(now())),
                    sent: self.shared.sent(),
                    received: self.shared.arrived(),
                    missing: (0..self.setup.case.workloads.len())
                        .map(|i| self.shared.on_the_way(i, copies(&self.setup.case.workloads[i], self.delivers)))
                        .sum(),
                    last: raw
                        .samples
                        .iter()
                        .rev()
                        .find(|((w, k, _), _)| *w == 0 && matches!(k, LatencyKind::Response | LatencyKind::Service))
                        .map(|(_, h)| h.open())
                        .map(|h| (h.value_at_quantile(0.5), h.value_at_quantile(0.99))),
                });
            }
        }
    }

    /// Whatever the phase, the system may end, threads may fail and intervals be over.
    fn sample_all(&self, phase: &'static str, system: &mut dyn System, raw: &mut RawTrial) {
        gather(self.samples, raw);
        if let Some(how) = system.ended() {
            let words = format!("the server ended: {how}");
            if !raw.log.iter().any(|(_, kind, said)| (*kind, said) == (Incident::Ended, &words)) {
                raw.log.push((now(), Incident::Ended, words.clone()));
            }
            if !raw.end_expected {
                raw.failed.get_or_insert((phase, words));
                self.shared.cut(now());
            }
        }
        for d in self.done.try_iter().collect::<Vec<_>>() {
            if let ThreadReport::Failed { error, .. } = d {
                if raw.end_expected {
                    raw.fail(phase, error);
                    continue;
                }
                raw.failed.get_or_insert((phase, error));
                self.shared.cut(now());
            } else {
                // Books that come early are kept for the end.
                collect_report(d, raw);
            }
        }
        if self.setup.interrupt.count() > 0 && !raw.interrupted {
            raw.interrupted = true;
            self.shared.cut(now());
        }
    }
}

/// The phase of this name.
fn phase_named(name: &str) -> &'static str {
    let known = ["prepare", "connect", "warm-up", "measure", "drain", "tear-down", AGENTS];
    known.into_iter().find(|phase| *phase == name).unwrap_or("measure")
}

fn collect_report(d: ThreadReport, raw: &mut RawTrial) {
    let (one, all) = channel();
    let _ = one.send(d);
    collect(&all, raw);
}
