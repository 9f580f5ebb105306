//! The threads of a trial.
//!
//! Each has a single-threaded runtime, so that a connection's I/O, its pacer and its books share a
//! core and nothing is handed between threads for a message.

use std::cell::RefCell;
use std::sync::mpsc::Sender;
use std::thread::Scope;

use crate::driver::{ClientSlot, Driver};
use crate::measure::recorder::SampleBatch;
use crate::plan::{Role, Workload};

use super::membership::ConsumerScript;
use super::raw::ThreadReport;
use super::setup::TrialSetup;
use super::shared::Shared;
use super::worker::{ThreadRole, Worker};

/// What all threads of a trial need.
pub struct ThreadContext<'a, D> {
    /// What the trial needs.
    pub setup: &'a TrialSetup<'a>,
    /// Opens connections.
    pub driver: &'a D,
    /// Shared between all threads.
    pub shared: &'a Shared,
    /// Names the trial.
    pub run: u32,
    /// Takes the histograms of finished intervals.
    pub samples: Sender<SampleBatch>,
    /// Takes the books.
    pub done: Sender<ThreadReport>,
}

type ThreadHandles<'s> = Vec<std::thread::ScopedJoinHandle<'s, ()>>;

impl<'e, D: Driver> ThreadContext<'e, D> {
    fn spawn<'s>(
        &self,
        scope: &'s Scope<'s, 'e>,
        thread_role: ThreadRole,
        threads: u32,
        slots: &[ClientSlot],
        ready: Option<&Sender<()>>,
    ) -> ThreadHandles<'s>
    where
        'e: 's,
    {
        let name = match thread_role {
            ThreadRole::Load => "backlog",
            ThreadRole::Consume => "consume",
            ThreadRole::Publish => "publish",
            ThreadRole::Read => "catch-up",
            ThreadRole::Intrude => "intrude",
            ThreadRole::Idle => "idle",
        };
        let mut handles = Vec::new();
        for t in 0..threads.max(1) as usize {
            let mine: Vec<ClientSlot> = slots.iter().copied().skip(t).step_by(threads.max(1) as usize).collect();
            if mine.is_empty() {
                continue;
            }
            let (setup, driver, shared, run) = (self.setup, self.driver, self.shared, self.run);
            let (samples, done, ready) = (self.samples.clone(), self.done.clone(), ready.cloned());
            let spawned = std::thread::Builder::new().name(format!("{name}-{t}")).spawn_scoped(scope, move || {
                let recorders = RefCell::default();
                Worker { setup, driver, shared, run, samples, done, recorders }.thread(
                    thread_role,
                    &mine,
                    ready.as_ref(),
                );
            });
            match spawned {
                Ok(handle) => handles.push(handle),
                Err(e) => {
                    drop(self.done.send(ThreadReport::Failed { phase: "connect", error: format!("no thread: {e}") }))
                }
            }
        }
        handles
    }

    fn slots(&self, of: impl Fn(usize, &Workload) -> Vec<ClientSlot>) -> Vec<ClientSlot> {
        self.setup.case.workloads.iter().enumerate().flat_map(|(i, w)| of(i, w)).collect()
    }

    fn listeners(&self, reading: bool) -> Vec<ClientSlot> {
        self.slots(|workload, w| {
            let groups = (0..w.topology.groups).filter(|g| (w.role(*g) == Role::CatchUp) == reading);
            groups
                .flat_map(|group| (0..w.topology.members).map(move |index| ClientSlot { workload, group, index }))
                .filter(|slot| self.setup.side.consumes(w, slot.group * w.topology.members + slot.index))
                .collect()
        })
    }

    /// Threads that store backlogs and end; they report ready when it is stored.
    pub fn loaders<'s>(&self, scope: &'s Scope<'s, 'e>, ready: &Sender<()>) -> ThreadHandles<'s>
    where
        'e: 's,
    {
        let slots = self.slots(|workload, w| {
            let slot = ClientSlot { workload, group: 0, index: w.topology.producers };
            let mine = w.delivery.backlog > 0 && self.setup.side.publishes(w, slot.index);
            mine.then_some(slot).into_iter().collect()
        });
        self.spawn(scope, ThreadRole::Load, slots.len() as u32, &slots, Some(ready))
    }

    /// Threads that follow what is published; slow consumers have one of their own, and so has each
    /// that events are about.
    pub fn consumers<'s>(&self, scope: &'s Scope<'s, 'e>, ready: &Sender<()>) -> ThreadHandles<'s>
    where
        'e: 's,
    {
        let slow = |s: &ClientSlot| self.setup.case.workloads[s.workload].role(s.group) == Role::Slow;
        let scripted = |s: &ClientSlot| !ConsumerScript::of(self.setup.events, *s).is_empty();
        let (scripted, others): (Vec<ClientSlot>, Vec<ClientSlot>) =
            self.listeners(false).into_iter().partition(scripted);
        let (slow, tail): (Vec<ClientSlot>, Vec<ClientSlot>) = others.into_iter().partition(slow);
        let mut handles = self.spawn(scope, ThreadRole::Consume, self.setup.case.threads.consume, &tail, Some(ready));
        handles.extend(self.spawn(scope, ThreadRole::Consume, 1, &slow, Some(ready)));
        let each = scripted.len() as u32;
        handles.extend(self.spawn(scope, ThreadRole::Consume, each, &scripted, Some(ready)));
        handles
    }

    /// Threads that publish.
    pub fn publishers<'s>(&self, scope: &'s Scope<'s, 'e>, ready: &Sender<()>) -> ThreadHandles<'s>
    where
        'e: 's,
    {
        let slots = self.slots(|workload, w| {
            let mine = (0..w.topology.producers).filter(|index| self.setup.side.publishes(w, *index));
            mine.map(|index| ClientSlot { workload, group: 0, index }).collect()
        });
        self.spawn(scope, ThreadRole::Publish, self.setup.case.threads.publish, &slots, Some(ready))
    }

    /// A thread of connections that carry nothing.
    pub fn idle<'s>(&self, scope: &'s Scope<'s, 'e>, ready: &Sender<()>) -> ThreadHandles<'s>
    where
        'e: 's,
    {
        let slots = self.slots(|workload, w| {
            let mine = (0..w.idle_connections).filter(|index| self.setup.side.publishes(w, *index));
            mine.map(|index| ClientSlot { workload, group: 0, index }).collect()
        });
        self.spawn(scope, ThreadRole::Idle, 1, &slots, Some(ready))
    }

    /// A thread of those who try to get in.
    pub fn intruders<'s>(&self, scope: &'s Scope<'s, 'e>) -> ThreadHandles<'s>
    where
        'e: 's,
    {
        let slots = self.slots(|workload, w| {
            let mine = (0..w.intruders).filter(|index| self.setup.side.publishes(w, *index));
            mine.map(|index| ClientSlot { workload, group: 0, index }).collect()
        });
        self.spawn(scope, ThreadRole::Intrude, 1, &slots, None)
    }

    /// Threads that read a backlog, from an instant within the measured phase on.
    pub fn readers<'s>(&self, scope: &'s Scope<'s, 'e>) -> ThreadHandles<'s>
    where
        'e: 's,
    {
        let slots = self.listeners(true);
        self.spawn(scope, ThreadRole::Read, slots.len() as u32, &slots, None)
    }
}
