//! What a thread of a trial does: opens its connections, runs its loops, brings home its books.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::driver::{ClientSlot, Driver, DriverError, Producer, Start};
use crate::load::keys::KeyChooser;
use crate::load::message::Template;
use crate::load::pacer::Pacer;
use crate::load::schedule::ScheduleShare;
use crate::measure::event_windows::EventWindows;
use crate::measure::first_arrivals::FirstArrivals;
use crate::measure::ledger::{LaneOrder, SequenceSet};
use crate::measure::outage::SlotGrid;
use crate::measure::process::thread_time;
use crate::measure::recorder::{Recorder, SampleBatch};
use crate::plan::{Keys as KeyPlan, Load, Phases, Role, Workload};
use crate::units::{Nanos, SECOND, Span, now};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::backlog::Backlog;
use super::connect::ConnectProducer;
use super::consume::{ConsumerRecorder, Received, RejectRule};
use super::idle::idle_all;
use super::intrude::intrude_all;
use super::lanes::{Lanes, ProducerLanes};
use super::membership::{self, ConsumerScript, follow};
use super::payload::{bare_templates, templates};
use super::pieces::schedule;
use super::produce::{Pace, Publisher, SendState, send_state};
use super::raw::ThreadReport;
use super::setup::TrialSetup;
use super::shared::{Shared, copies, exact_timers, look_every, parts};
use super::superseded::GapLog;

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadRole {
    Load,
    Consume,
    Publish,
    Read,
    Intrude,
    Idle,
}

pub struct Worker<'a, D> {
    pub setup: &'a TrialSetup<'a>,
    pub driver: &'a D,
    pub shared: &'a Shared,
    pub run: u32,
    pub samples: Sender<SampleBatch>,
    pub done: Sender<ThreadReport>,
    /// One for each workload, shared by all connections of the thread.
    pub recorders: RefCell<Vec<(usize, Rc<RefCell<Recorder>>)>>,
}

impl<D: Driver> Worker<'_, D> {
    pub fn thread(&self, thread_role: ThreadRole, slots: &[ClientSlot], ready: Option<&Sender<()>>) {
        exact_timers();
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => return self.fail("connect", format!("no runtime: {e}")),
        };
        let result = runtime.block_on(async {
            match thread_role {
                ThreadRole::Load => self.load(slots).await.inspect(|()| report_ready(ready)),
                ThreadRole::Publish => self.publish(slots, ready).await,
                ThreadRole::Intrude => {
                    for (workload, intruded) in intrude_all(self.driver, slots, self.run, self.shared).await {
                        let intruded = Box::new(intruded);
                        let _ = self.done.send(ThreadReport::Intruder { workload, intruded });
                    }
                    Ok(())
                }
                ThreadRole::Idle => idle_all(self.driver, slots, self.shared, || report_ready(ready), &self.done).await,
                ThreadRole::Consume | ThreadRole::Read => self.consume(slots, ready).await,
            }
        });
        for (workload, recorder) in self.recorders.take() {
            if let Some(recorder) = Rc::into_inner(recorder) {
                let mut recorder = recorder.into_inner();
                if let Some(outages) = recorder.take_outages() {
                    let _ = self.done.send(ThreadReport::Outages { workload, outages });
                }
                let (clipped, negative) = recorder.finish();
                let _ = self.done.send(ThreadReport::Samples { workload, clipped, negative });
            }
        }
        if let Err(e) = result {
            // Whatever fails after the stop is the stop's doing.
            if !self.shared.stopped() {
                self.fail(if self.shared.going() { "measure" } else { "connect" }, e.to_string());
            }
        }
    }

    fn fail(&self, phase: &'static str, error: String) {
        let _ = self.done.send(ThreadReport::Failed { phase, error });
    }

    /// Runs the futures of all seats and reports how the thread spent its time.
    async fn run_all<F: Future<Output = Result<(), DriverError>>>(&self, all: Vec<F>) -> Result<(), DriverError> {
        let (wall, (run, wait)) = (now(), thread_time());
        let result = futures_util::future::try_join_all(all).await.map(|_| ());
        let (wall, (run_end, wait_end)) = ((now() - wall).max(1) as f64, thread_time());
        let share = |from: u64, to: u64| to.saturating_sub(from) as f64 / wall;
        let _ = self.done.send(ThreadReport::Thread { busy: share(run, run_end), waiting: share(wait, wait_end) });
        result
    }

    async fn publish(&self, slots: &[ClientSlot], ready: Option<&Sender<()>>) -> Result<(), DriverError> {
        let connects = |slot: &&ClientSlot| self.setup.case.workloads[slot.workload].connects();
        let (connecting, others): (Vec<&ClientSlot>, Vec<&ClientSlot>) = slots.iter().partition(connects);
        let mut open = Vec::new();
        for &slot in others {
            open.push((slot, self.driver.producer(slot).await?, self.templates(slot)?));
        }
        let mut newcomers = Vec::new();
        for &slot in connecting {
            let producer = ConnectProducer::new(self.driver, slot, self.shared, self.setup.case.phases.connect);
            newcomers.push((slot, producer, self.templates(slot)?));
        }
        report_ready(ready);
        let Some((start, origin)) = self.shared.started().await else { return Ok(()) };
        let mut all = self.publishers(open, start, origin)?;
        all.extend(self.publishers(newcomers, start, origin)?);
        self.run_all(all).await
    }

    /// The loops of producers, with the messages that each sends in turn.
    fn publishers<'s, P: Producer + 's>(
        &'s self,
        open: Vec<(ClientSlot, P, Vec<Template>)>,
        start: Nanos,
        origin: Nanos,
    ) -> Result<Vec<LocalBoxFuture<'s, Result<(), DriverError>>>, DriverError> {
        let phases = self.setup.case.phases;
        let hard_end = self.shared.end() + phases.drain.0;
        let longest = look_every(open.len()).as_nanos() as Nanos;
        let mut all = Vec::new();
        for (slot, mut producer, mut templates) in open {
            let pacer = if self.setup.spin { Pacer::spinning() } else { timer()? };
            let w = &self.setup.case.workloads[slot.workload];
            let sizes = templates.iter().map(|t| t.len() as u32).collect();
            let kept = keep(&mut producer, &mut templates);
            let publisher = Publisher {
                producer,
                index: slot.index,
                workload: slot.workload,
                keys: self.keys(w),
                // Where nothing is delivered nobody answers, and the acknowledgement is the news.
                reply: w.topology.reply && D::DELIVERS,
                run: self.run,
                channels: w.topology.channels,
                templates,
                kept,
                pacer,
                pace: self.pace(slot),
                shared: self.shared,
                recorder: self.recorder(slot.workload, origin),
                origin,
                interval: block(&phases),
                send_state: self.send_state(slot, sizes),
                shift: self.shared.shift(),
                longest,
                look: 0,
            };
            all.push(self.one_publisher(slot, publisher, start, hard_end).boxed_local());
        }
        Ok(all)
    }

    fn send_state(&self, slot: ClientSlot, sizes: Vec<u32>) -> SendState {
        let (phases, w) = (self.setup.case.phases, &self.setup.case.workloads[slot.workload]);
        let timed = w.delivery.keep.is_some() || self.setup.deadline.is_some();
        let mut state = send_state(phases.measure.0, block(&phases), sizes, timed);
        if self.setup.deadline.is_some() && matches!(w.load, Load::Open { .. }) {
            let lanes = Lanes { channels: u64::from(w.topology.channels), keys: self.keys(w) };
            state.lanes = Some(ProducerLanes::new(lanes, slot.index));
        }
        state
    }

    async fn one_publisher<P: Producer>(
        &self,
        slot: ClientSlot,
        mut publisher: Publisher<'_, P>,
        start: Nanos,
        hard_end: Nanos,
    ) -> Result<(), DriverError> {
        let bound = Duration::from_nanos(hard_end.saturating_sub(now()));
        // Cut off only while the client takes nothing, or answers are still missing at the end of
        // the drain.
        let result = tokio::time::timeout(bound, publisher.run(start)).await.unwrap_or(Ok(()));
        publisher.count_unsent(start);
        let Publisher { producer, send_state, .. } = publisher;
        let steps = producer.steps();
        let closed = tokio::time::timeout(self.setup.case.phases.connect.duration(), producer.close()).await;
        let _ = self.done.send(ThreadReport::Publisher { slot, sent: Box::new(send_state.sent), steps });
        result.and(closed.unwrap_or(Ok(())))
    }

    fn pace(&self, slot: ClientSlot) -> Pace {
        let w = &self.setup.case.workloads[slot.workload];
        match &w.load {
            Load::Open { arrivals, profile } => {
                let share = ScheduleShare { index: slot.index, of: w.topology.producers };
                Pace::Open(schedule((*arrivals, profile), self.setup.case.phases.warmup.0, self.setup.seed, share))
            }
            Load::Unthrottled { window } => {
                Pace::Unthrottled { window: *window * copies(w, D::DELIVERS), copies: copies(w, D::DELIVERS) }
            }
            Load::Closed { outstanding, think } => {
                let patience = self.setup.case.phases.drain.0.max(SECOND);
                Pace::Closed { outstanding: u64::from(*outstanding), think: think.0, patience }
            }
        }
    }

    /// Opens consumers and lets them listen; those of a backlog open when it is time to read it.
    async fn consume(&self, slots: &[ClientSlot], ready: Option<&Sender<()>>) -> Result<(), DriverError> {
        let mut open = Vec::new();
        let patience = self.setup.case.phases.connect.0;
        let mut late = 0;
        for &slot in slots {
            if self.setup.case.workloads[slot.workload].role(slot.group) == Role::CatchUp {
                let Some((_, origin)) = self.shared.started().await else { return Ok(()) };
                let due = origin + self.setup.case.workloads[slot.workload].delivery.replay_after.0;
                while now() < due && !self.shared.stopped() {
                    tokio::time::sleep(Duration::from_nanos(due.saturating_sub(now()).min(50_000_000))).await;
                }
                late = now();
                let consumer = membership::open(self.driver, slot, Start::First, (self.shared, patience)).await?;
                open.push((slot, Some(consumer)));
            } else if ConsumerScript::of(self.setup.events, slot).begins_absent() {
                open.push((slot, None));
            } else {
                open.push((slot, Some(self.driver.consumer(slot, Start::Tail).await?)));
            }
        }
        report_ready(ready);
        // Consumers are ready before producers connect; what stands in the subscription meanwhile
        // is nothing.
        let Some((_, origin)) = self.shared.started().await else { return Ok(()) };
        let mut all = Vec::new();
        for (slot, consumer) in open {
            let mut consumer_recorder = self.consumer_recorder(slot, origin, look_every(slots.len()));
            consumer_recorder.received.replay.begun = late;
            let script = ConsumerScript::of(self.setup.events, slot);
            all.push(async move {
                let reports = (&self.done, patience);
                let result = follow(self.driver, slot, &script, consumer, &mut consumer_recorder, reports).await;
                let _ = self.done.send(ThreadReport::Consumer { slot, received: Box::new(consumer_recorder.received) });
                // A client that fails while it is being closed has nothing to say.
                if self.shared.stopped() { Ok(()) } else { result }
            });
        }
        self.run_all(all).await
    }

    fn consumer_recorder(&self, slot: ClientSlot, origin: Nanos, look: Duration) -> ConsumerRecorder<'_> {
        let phases = self.setup.case.phases;
        let w = &self.setup.case.workloads[slot.workload];
        let (t, d) = (w.topology, w.delivery);
        let whole = w.load.messages(Span(phases.warmup.0 + phases.measure.0)).unwrap_or(0.0);
        let each = if t.reply { 0 } else { (whole / f64::from(t.producers)) as u64 };
        let loaders = u32::from(d.backlog > 0);
        let mut seen: Vec<SequenceSet> = (0..t.producers).map(|_| SequenceSet::with_capacity(each)).collect();
        seen.extend((0..loaders).map(|_| SequenceSet::with_capacity(d.backlog)));
        let keys = self.keys(w);
        let lanes = Lanes { channels: u64::from(t.channels), keys };
        ConsumerRecorder {
            run: self.run,
            workload: slot.workload,
            role: w.role(slot.group),
            think: d.slow.map_or(Duration::ZERO, |s| s.think.duration()),
            group: slot.group,
            order: LaneOrder::new(seen.len() as u64, lanes.count()),
            lanes,
            rule: RejectRule { once: d.reject_every, always: d.dead_every },
            answer: t.reply,
            watched: w.intruders > 0,
            open_loop: matches!(w.load, Load::Open { .. }),
            shared: self.shared,
            recorder: self.recorder(slot.workload, origin),
            origin,
            shift: self.shared.shift(),
            near: self.setup.side.near(w),
            block: block(&phases),
            received: Received {
                gaps: vec![GapLog::default(); if d.history > 0 { seen.len() } else { 0 }],
                keys: self.keys(w).filter(|_| d.history > 0),
                dead: vec![SequenceSet::default(); seen.len()],
                first_arrivals: vec![FirstArrivals::default(); if t.members > 1 { seen.len() } else { 0 }],
                seen,
                member: slot.index,
                windows: EventWindows::new(self.setup.events, origin),
                ..Received::default()
            },
            arrived: 0,
            told: false,
            look,
            instant: (Nanos::MAX, None),
        }
    }

    /// Stores the backlogs of these seats, one after another.
    async fn load(&self, slots: &[ClientSlot]) -> Result<(), DriverError> {
        for &slot in slots {
            let w = &self.setup.case.workloads[slot.workload];
            let backlog = Backlog {
                run: self.run,
                producer: slot.index,
                messages: w.delivery.backlog,
                channels: w.topology.channels,
                keys: self.keys(w),
                templates: self.templates(slot)?,
                patience: self.setup.case.phases.connect.0,
                shared: self.shared,
                workload: slot.workload,
            };
            backlog.store(self.driver.producer(slot).await?).await?;
        }
        Ok(())
    }

    fn templates(&self, slot: ClientSlot) -> Result<Vec<Template>, DriverError> {
        let w = &self.setup.case.workloads[slot.workload];
        let share = ScheduleShare { index: slot.index, of: w.topology.producers };
        let make = if w.target.is_some() { bare_templates } else { templates };
        make(&w.payload, self.setup.seed ^ u64::from(slot.index) << 8, share)
            .map_err(|words| DriverError::Refused { words })
    }

    fn keys(&self, w: &Workload) -> Option<KeyChooser> {
        key_chooser(w.delivery.keys, self.setup.seed)
    }

    /// The slots of a workload in which outages are noted; none where they are not.
    fn outage_grid(&self, workload: usize, origin: Nanos) -> Option<SlotGrid> {
        let deadline = self.setup.deadline?;
        let w = &self.setup.case.workloads[workload];
        let lanes = Lanes { channels: u64::from(w.topology.channels), keys: self.keys(w) };
        let (measure, groups) = (self.setup.case.phases.measure.0, u64::from(w.topology.groups));
        let open = matches!(w.load, Load::Open { .. });
        open.then(|| SlotGrid::new(origin, measure, lanes.count(), groups, deadline))
    }

    /// The recorder of a workload on this thread.
    fn recorder(&self, workload: usize, origin: Nanos) -> Rc<RefCell<Recorder>> {
        let mut recorders = self.recorders.borrow_mut();
        if let Some((_, recorder)) = recorders.iter().find(|(w, _)| *w == workload) {
            return Rc::clone(recorder);
        }
        let length = self.setup.case.phases.interval.0;
        let mut recorder = Recorder::new(workload, origin, length, self.samples.clone());
        if let Some(grid) = self.outage_grid(workload, origin) {
            recorder.watch_outages(grid);
        }
        let recorder = Rc::new(RefCell::new(recorder));
        recorders.push((workload, Rc::clone(&recorder)));
        recorder
    }
}

/// Which key a message has; none where there are no keys.
pub fn key_chooser(keys: KeyPlan, seed: u64) -> Option<KeyChooser> {
    match keys {
        KeyPlan::None => None,
        KeyPlan::RoundRobin(n) => Some(KeyChooser::round_robin(n)),
        KeyPlan::Uniform(n) => Some(KeyChooser::uniform(n, seed)),
        KeyPlan::Zipf { n, exponent } => Some(KeyChooser::zipf(n, exponent, seed)),
    }
}

/// Length of a block of counts.
pub fn block(phases: &Phases) -> Nanos {
    phases.interval.0 / parts(phases.measure.0, phases.interval.0)
}

/// Gives the client the messages to keep, if it can; then they are not kept here as well.
fn keep(producer: &mut impl Producer, templates: &mut Vec<Template>) -> bool {
    let unstamped: Option<Vec<&[u8]>> = templates.iter().map(Template::unstamped).collect();
    let kept = unstamped.is_some_and(|all| producer.keep(&all));
    if kept {
        *templates = Vec::new();
    }
    kept
}

fn report_ready(ready: Option<&Sender<()>>) {
    if let Some(ready) = ready {
        let _ = ready.send(());
    }
}

fn timer() -> Result<Pacer, DriverError> {
    Pacer::sleeping().map_err(|e| DriverError::Lost { url: "timer".into(), words: e.to_string() })
}
