//! One trial: connect, warm up, measure, drain, on threads of their own.
//!
//! Publishers and consumers live on threads with a single-threaded runtime each, so that a connection's I/O, its pacer
//! and its books share a core and nothing is handed between threads for a message. The control thread only watches:
//! the system's processes, the user's interrupt, the bounds.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::driver::{Driver, DriverError, Facts, Producer, Seat, Target};
use crate::load::pacer::Pacer;
use crate::load::schedule::{Piece, Process, Schedule, Share};
use crate::measure::ledger::{Order, Seen};
use crate::measure::process::{Meter, Usage};
use crate::measure::recorder::{Kind, Recorder, Shipment, histogram};
use crate::scenario::plan::{Arrivals, Case, Load, Profile, Workload};
use crate::system::{Running, System};
use crate::units::{Nanos, now};

use super::consume::{Ear, Received, consume};
use super::payload::templates;
use super::produce::{Pace, Publisher, Sent, books};
use super::shared::{Shared, exact_timers, thread_time};
use super::{Interrupt, Tick};

/// From the moment all threads are ready until the first message is due.
const LEAD: Nanos = 20_000_000;
/// How often the control thread looks.
const WATCH: Duration = Duration::from_millis(50);

/// What a trial needs.
pub struct Setup<'a> {
    /// The case.
    pub case: &'a Case,
    /// Seed of the trial.
    pub seed: u64,
    /// Client options of the system.
    pub options: &'a serde_json::Map<String, serde_json::Value>,
    /// Whether the pacer spins.
    pub spin: bool,
    /// The system, up.
    pub running: &'a Running,
    /// The user's wish to stop.
    pub interrupt: &'a Interrupt,
    /// Shows progress.
    pub tick: &'a (dyn Fn(Tick) + Sync),
}

/// What a trial came to, before it is folded into the record.
#[derive(Default)]
pub struct Raw {
    /// The server's and client's promises.
    pub facts: Facts,
    /// Start of the measured phase.
    pub origin: Nanos,
    /// Its length as executed.
    pub measured: Nanos,
    /// Length of the drain phase.
    pub drained: Nanos,
    /// Phase and error, where the system failed.
    pub failed: Option<(&'static str, String)>,
    /// Whether the user cut the trial.
    pub interrupted: bool,
    /// One entry for each producer of each workload.
    pub sent: Vec<Vec<Sent>>,
    /// One entry for each consumer of each workload, with its group.
    pub received: Vec<Vec<(u32, Received)>>,
    /// All samples, by workload, kind and interval.
    pub samples: BTreeMap<(usize, Kind, u64), Histogram<u64>>,
    /// Clipped and negative samples by workload.
    pub clipped: Vec<u64>,
    /// See `clipped`.
    pub negative: Vec<u64>,
    /// Largest share of wall time a generator thread computed, and waited for a core.
    pub busiest: f64,
    /// See `busiest`.
    pub waiting: f64,
    /// Usage of the broker and of the generator over the measured phase, and of the broker by interval.
    pub broker: Option<Usage>,
    /// See `broker`.
    pub generator: Usage,
    /// CPU nanoseconds and resident bytes of the broker in each interval.
    pub broker_intervals: Vec<(u64, u64)>,
    /// Incidents, with their instants.
    pub log: Vec<(Nanos, String)>,
    /// Dropped by the client library.
    pub client_dropped: u64,
    /// Sends that met a full client buffer.
    pub backpressure: u64,
}

/// What a thread reports when it is done.
enum Done {
    Publisher { workload: usize, sent: Box<Sent>, clipped: u64, negative: u64 },
    Consumer { workload: usize, group: u32, received: Box<Received>, clipped: u64, negative: u64 },
    Thread { busy: f64, waiting: f64 },
    Failed { phase: &'static str, error: String },
}

/// Runs the load of a case through driver `D`.
pub fn execute<D: Driver>(setup: &Setup<'_>, system: &mut dyn System) -> Raw {
    let case = setup.case;
    let mut raw =
        Raw { clipped: vec![0; case.workloads.len()], negative: vec![0; case.workloads.len()], ..Raw::default() };
    raw.sent.resize_with(case.workloads.len(), Vec::new);
    raw.received.resize_with(case.workloads.len(), Vec::new);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return Raw { failed: Some(("prepare", format!("no runtime: {e}"))), ..raw },
    };
    let target = Target {
        url: setup.running.url.clone(),
        timeout: case.phases.connect.duration(),
        run: (setup.seed ^ setup.seed >> 32) as u32,
        options: setup.options.clone(),
    };
    // The control thread's own waits are this runtime's, too.
    let _inside = runtime.enter();
    let driver = match runtime.block_on(D::prepare(target.clone(), &case.workloads)) {
        Ok(driver) => driver,
        Err(e) => return Raw { failed: Some(("connect", e.to_string())), ..raw },
    };
    raw.facts = driver.facts().clone();
    let shared = Shared::default();
    let (samples_in, samples) = channel();
    let (done_in, done) = channel();
    std::thread::scope(|scope| {
        // However this ends, the threads are told: the scope waits for them.
        let _stop = StopOnDrop(&shared);
        let threads =
            Threads { setup, driver: &driver, shared: &shared, run: target.run, samples: samples_in, done: done_in };
        let control = Control { setup, shared: &shared, runtime: &runtime, done: &done, samples: &samples };
        control.conduct(scope, threads, system, &mut raw);
    });
    collect(&done, &mut raw);
    for s in samples.try_iter() {
        gather(&mut raw.samples, s);
    }
    raw.client_dropped = driver.incidents().client_dropped_total();
    raw.backpressure = driver.incidents().backpressure_total();
    // Closing the connections is no incident: only what came before the end of the drain counts.
    let over = raw.origin + raw.measured + raw.drained;
    raw.log.extend(driver.incidents().take_log().into_iter().filter(|(at, _)| raw.origin == 0 || *at <= over));
    if let Err(e) = runtime.block_on(driver.cleanup()) {
        raw.failed.get_or_insert(("tear-down", e.to_string()));
    }
    raw
}

struct StopOnDrop<'a>(&'a Shared);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn collect(done: &Receiver<Done>, raw: &mut Raw) {
    for d in done.try_iter() {
        match d {
            Done::Publisher { workload, sent, clipped, negative } => {
                raw.sent[workload].push(*sent);
                raw.clipped[workload] += clipped;
                raw.negative[workload] += negative;
            }
            Done::Consumer { workload, group, received, clipped, negative } => {
                raw.received[workload].push((group, *received));
                raw.clipped[workload] += clipped;
                raw.negative[workload] += negative;
            }
            Done::Thread { busy, waiting } => {
                raw.busiest = raw.busiest.max(busy);
                raw.waiting = raw.waiting.max(waiting);
            }
            Done::Failed { phase, error } => {
                raw.failed.get_or_insert((phase, error));
            }
        }
    }
}

fn gather(all: &mut BTreeMap<(usize, Kind, u64), Histogram<u64>>, s: Shipment) {
    let into = all.entry((s.workload, s.kind, s.interval)).or_insert_with(histogram);
    // Equal bounds always add.
    let _ = into.add(&s.histogram);
}

struct Control<'a> {
    setup: &'a Setup<'a>,
    shared: &'a Shared,
    runtime: &'a tokio::runtime::Runtime,
    done: &'a Receiver<Done>,
    samples: &'a Receiver<Shipment>,
}

impl Control<'_> {
    fn conduct<'s, 'e, D: Driver + 'e>(
        &self,
        scope: &'s Scope<'s, 'e>,
        threads: Threads<'e, D>,
        system: &mut dyn System,
        raw: &mut Raw,
    ) {
        let phases = self.setup.case.phases;
        let connect_until = now() + 2 * phases.connect.0 + 1_000_000_000;
        let (ready_in, ready) = channel();
        let mut handles = if D::DELIVERS { threads.consumers(scope, &ready_in) } else { Vec::new() };
        if !self.gathered(&ready, handles.len(), connect_until, system, raw) {
            return;
        }
        let publishers = threads.publishers(scope, &ready_in);
        if !self.gathered(&ready, publishers.len(), connect_until, system, raw) {
            return;
        }
        drop(threads);
        let start = now() + LEAD;
        let origin = start + phases.warmup.0;
        raw.origin = origin;
        self.shared.go(start, origin, origin + phases.measure.0);
        let broker = (!self.setup.running.pids.is_empty()).then(|| Meter::new(&self.setup.running.pids));
        let mut watch =
            Watch { broker, own: Meter::own(), marks: Vec::new(), interval: phases.interval.0, next: origin };
        self.phase("warm-up", origin, system, raw, &mut watch, &|| false);
        self.phase("measure", Nanos::MAX, system, raw, &mut watch, &|| now() >= self.shared.end());
        watch.mark();
        raw.measured = self.shared.end().saturating_sub(origin);
        let drain_until = now() + phases.drain.0;
        let sent_all = || publishers.iter().all(std::thread::ScopedJoinHandle::is_finished);
        let (mut last, mut since) = (0, now());
        let mut quiet = || {
            // Nothing has arrived for half a second after everything was sent: nothing more is coming.
            let received = self.shared.received.load(Ordering::Relaxed);
            if received != last {
                (last, since) = (received, now());
            }
            sent_all() && (self.complete::<D>() || now() - since > 500_000_000)
        };
        let begun = now();
        while now() < drain_until && raw.failed.is_none() && !quiet() && self.setup.interrupt.count() < 2 {
            self.runtime.block_on(tokio::time::sleep(Duration::from_millis(5)));
            self.look("drain", system, raw);
        }
        raw.drained = now() - begun;
        self.shared.stop();
        handles.extend(publishers);
        for handle in handles {
            // Every loop notices the stop within its slice, and the client's waits are bounded.
            let _ = handle.join();
        }
        watch.fold(raw);
    }

    /// Whether every message sent has come back as often as it is owed.
    fn complete<D: Driver>(&self) -> bool {
        let workloads = &self.setup.case.workloads;
        let copies = |w: &Workload| if w.topology.reply || !D::DELIVERS { 1 } else { u64::from(w.topology.groups) };
        let copies = workloads.iter().map(copies).max().unwrap_or(1);
        workloads.len() == 1
            && self.shared.received.load(Ordering::Relaxed) >= copies * self.shared.sent.load(Ordering::Relaxed)
    }

    fn gathered(&self, ready: &Receiver<()>, n: usize, until: Nanos, system: &mut dyn System, raw: &mut Raw) -> bool {
        let mut here = 0;
        while here < n {
            self.runtime.block_on(tokio::time::sleep(Duration::from_millis(1)));
            here += ready.try_iter().count();
            self.look("connect", system, raw);
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
        raw: &mut Raw,
        watch: &mut Watch,
        over: &dyn Fn() -> bool,
    ) {
        let mut shown = 0;
        while now() < until && !over() && raw.failed.is_none() && !raw.interrupted {
            let wait = Duration::from_nanos(until.saturating_sub(now()).min(WATCH.as_nanos() as u64));
            let wait = wait.min(Duration::from_nanos(self.shared.end().saturating_sub(now())));
            self.runtime.block_on(tokio::time::sleep(wait.max(Duration::from_millis(1))));
            self.look(name, system, raw);
            watch.tick();
            for s in self.samples.try_iter() {
                gather(&mut raw.samples, s);
            }
            if now() - shown > 250_000_000 {
                shown = now();
                (self.setup.tick)(Tick {
                    phase: name,
                    left: Duration::from_nanos(self.shared.end().saturating_sub(now())),
                    sent: self.shared.sent.load(Ordering::Relaxed),
                    received: self.shared.received.load(Ordering::Relaxed),
                    last: raw
                        .samples
                        .iter()
                        .rev()
                        .find(|((w, k, _), _)| (*w, *k) == (0, Kind::Response))
                        .map(|(_, h)| (h.value_at_quantile(0.5), h.value_at_quantile(0.99))),
                });
            }
        }
    }

    fn look(&self, phase: &'static str, system: &mut dyn System, raw: &mut Raw) {
        if let Some(how) = system.ended() {
            raw.log.push((now(), format!("the server ended: {how}")));
            raw.failed.get_or_insert((phase, format!("the server ended: {how}")));
            self.shared.cut(now());
        }
        for d in self.done.try_iter().collect::<Vec<_>>() {
            if let Done::Failed { error, .. } = d {
                raw.failed.get_or_insert((phase, error));
                self.shared.cut(now());
            } else {
                // Books that come early are kept for the end.
                stash(d, raw);
            }
        }
        if self.setup.interrupt.count() > 0 && !raw.interrupted {
            raw.interrupted = true;
            self.shared.cut(now());
        }
    }
}

fn stash(d: Done, raw: &mut Raw) {
    let (one, all) = channel();
    let _ = one.send(d);
    collect(&all, raw);
}

/// Samples usage at the boundaries of intervals.
struct Watch {
    broker: Option<Meter>,
    own: Meter,
    marks: Vec<(Option<Usage>, Usage)>,
    interval: Nanos,
    next: Nanos,
}

impl Watch {
    fn tick(&mut self) {
        if now() >= self.next {
            self.next += self.interval;
            self.mark();
        }
    }
    fn mark(&mut self) {
        self.marks.push((self.broker.as_ref().map(Meter::sample), self.own.sample()));
    }
    fn fold(&self, raw: &mut Raw) {
        let (Some(first), Some(last)) = (self.marks.first(), self.marks.last()) else { return };
        raw.generator = last.1.since(&first.1);
        raw.broker = last.0.zip(first.0).map(|(last, first)| last.since(&first));
        raw.broker_intervals = self
            .marks
            .windows(2)
            .filter_map(|w| w[1].0.zip(w[0].0))
            .map(|(b, a)| (b.since(&a).cpu_ns, b.rss_bytes))
            .collect();
    }
}

struct Threads<'a, D> {
    setup: &'a Setup<'a>,
    driver: &'a D,
    shared: &'a Shared,
    run: u32,
    samples: Sender<Shipment>,
    done: Sender<Done>,
}

type Handles<'s> = Vec<std::thread::ScopedJoinHandle<'s, ()>>;

impl<'e, D: Driver> Threads<'e, D> {
    fn worker(&self) -> Worker<'e, D> {
        Worker {
            setup: self.setup,
            driver: self.driver,
            shared: self.shared,
            run: self.run,
            samples: self.samples.clone(),
            done: self.done.clone(),
        }
    }

    fn spawn<'s>(
        &self,
        scope: &'s Scope<'s, 'e>,
        name: &str,
        threads: u32,
        seats: &[Seat],
        ready: &Sender<()>,
        publish: bool,
    ) -> Handles<'s>
    where
        'e: 's,
    {
        let mut handles = Vec::new();
        for t in 0..threads.max(1) as usize {
            let mine: Vec<Seat> = seats.iter().copied().skip(t).step_by(threads.max(1) as usize).collect();
            if mine.is_empty() {
                continue;
            }
            let (worker, ready) = (self.worker(), ready.clone());
            let failed = self.done.clone();
            let spawned = std::thread::Builder::new()
                .name(format!("{name}-{t}"))
                .spawn_scoped(scope, move || worker.thread(&mine, &ready, publish));
            match spawned {
                Ok(handle) => handles.push(handle),
                Err(e) => drop(failed.send(Done::Failed { phase: "connect", error: format!("no thread: {e}") })),
            }
        }
        handles
    }

    fn consumers<'s>(&self, scope: &'s Scope<'s, 'e>, ready: &Sender<()>) -> Handles<'s>
    where
        'e: 's,
    {
        let mut seats = Vec::new();
        for (workload, w) in self.setup.case.workloads.iter().enumerate() {
            for group in 0..w.topology.groups {
                seats.extend((0..w.topology.members).map(|index| Seat { workload, group, index }));
            }
        }
        self.spawn(scope, "consume", self.setup.case.threads.consume, &seats, ready, false)
    }

    fn publishers<'s>(&self, scope: &'s Scope<'s, 'e>, ready: &Sender<()>) -> Handles<'s>
    where
        'e: 's,
    {
        let mut seats = Vec::new();
        for (workload, w) in self.setup.case.workloads.iter().enumerate() {
            seats.extend((0..w.topology.producers).map(|index| Seat { workload, group: 0, index }));
        }
        self.spawn(scope, "publish", self.setup.case.threads.publish, &seats, ready, true)
    }
}

struct Worker<'a, D> {
    setup: &'a Setup<'a>,
    driver: &'a D,
    shared: &'a Shared,
    run: u32,
    samples: Sender<Shipment>,
    done: Sender<Done>,
}

impl<D: Driver> Worker<'_, D> {
    fn thread(&self, seats: &[Seat], ready: &Sender<()>, publish: bool) {
        exact_timers();
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => return self.fail("connect", format!("no runtime: {e}")),
        };
        let result = runtime.block_on(async {
            if publish { self.publish(seats, ready).await } else { self.consume(seats, ready).await }
        });
        if let Err(e) = result {
            self.fail("measure", e.to_string());
        }
    }

    fn fail(&self, phase: &'static str, error: String) {
        let _ = self.done.send(Done::Failed { phase, error });
    }

    /// Runs the futures of all seats and reports how the thread spent its time.
    async fn together<F: Future<Output = Result<(), DriverError>>>(&self, all: Vec<F>) -> Result<(), DriverError> {
        let (wall, (run, wait)) = (now(), thread_time());
        let result = futures_util::future::try_join_all(all).await.map(|_| ());
        let (wall, (run_end, wait_end)) = ((now() - wall).max(1) as f64, thread_time());
        let share = |from: u64, to: u64| to.saturating_sub(from) as f64 / wall;
        let _ = self.done.send(Done::Thread { busy: share(run, run_end), waiting: share(wait, wait_end) });
        result
    }

    async fn publish(&self, seats: &[Seat], ready: &Sender<()>) -> Result<(), DriverError> {
        let mut open = Vec::new();
        for &seat in seats {
            open.push((seat, self.driver.producer(seat).await?));
        }
        let mut pools = Vec::new();
        for seat in seats {
            let payload = &self.setup.case.workloads[seat.workload].payload;
            match templates(payload, self.setup.seed ^ u64::from(seat.index) << 8) {
                Ok(pool) => pools.push(pool),
                Err(e) => return Err(DriverError::Refused { words: e }),
            }
        }
        let _ = ready.send(());
        let Some((start, origin)) = self.shared.started().await else { return Ok(()) };
        let phases = self.setup.case.phases;
        let hard_end = self.shared.end() + phases.drain.0;
        let mut all = Vec::new();
        for ((seat, producer), templates) in open.into_iter().zip(pools) {
            let pacer = if self.setup.spin { Pacer::spinning() } else { timer()? };
            let publisher = Publisher {
                producer,
                index: seat.index,
                run: self.run,
                channels: self.setup.case.workloads[seat.workload].topology.channels,
                templates,
                pacer,
                pace: self.pace(seat),
                shared: self.shared,
                recorder: Recorder::new(seat.workload, origin, phases.interval.0, self.samples.clone()),
                origin,
                interval: phases.interval.0,
                books: books(phases.measure.0, phases.interval.0),
            };
            all.push(self.one_publisher(seat, publisher, start, hard_end));
        }
        self.together(all).await
    }

    async fn one_publisher(
        &self,
        seat: Seat,
        mut publisher: Publisher<'_, D::Producer>,
        start: Nanos,
        hard_end: Nanos,
    ) -> Result<(), DriverError> {
        let bound = Duration::from_nanos(hard_end.saturating_sub(now()));
        // Cut off only while the client takes nothing, or answers are still missing at the end of the drain.
        let result = tokio::time::timeout(bound, publisher.run(start)).await.unwrap_or(Ok(()));
        publisher.count_unsent(start);
        let Publisher { producer, recorder, books, .. } = publisher;
        let closed = tokio::time::timeout(self.setup.case.phases.connect.duration(), producer.close()).await;
        let (clipped, negative) = recorder.finish();
        let (clipped, negative) = (clipped.iter().sum(), negative.iter().sum());
        let sent = Box::new(books.sent);
        let _ = self.done.send(Done::Publisher { workload: seat.workload, sent, clipped, negative });
        result.and(closed.unwrap_or(Ok(())))
    }

    fn pace(&self, seat: Seat) -> Pace {
        let w = &self.setup.case.workloads[seat.workload];
        match &w.load {
            Load::Open { arrivals, profile } => {
                let warmup = self.setup.case.phases.warmup;
                let (pieces, repeat) = pieces(profile, warmup.0);
                let process = match arrivals {
                    Arrivals::Constant => Process::Constant,
                    Arrivals::Poisson => Process::Poisson(self.setup.seed),
                };
                Pace::Open(Schedule::new(
                    pieces,
                    repeat,
                    &process,
                    Share { index: seat.index, of: w.topology.producers },
                ))
            }
            Load::Unthrottled => Pace::Unthrottled,
            Load::Closed { outstanding, think } => {
                Pace::Closed { outstanding: u64::from(*outstanding), think: think.0 }
            }
        }
    }

    async fn consume(&self, seats: &[Seat], ready: &Sender<()>) -> Result<(), DriverError> {
        let mut open = Vec::new();
        for &seat in seats {
            open.push((seat, self.driver.consumer(seat, crate::driver::Start::Tail).await?));
        }
        let _ = ready.send(());
        // Consumers are ready before producers connect; what stands in the subscription meanwhile is nothing.
        let Some((_, origin)) = self.shared.started().await else { return Ok(()) };
        let phases = self.setup.case.phases;
        let mut all = Vec::new();
        for (seat, mut consumer) in open {
            let w = &self.setup.case.workloads[seat.workload];
            let t = w.topology;
            let whole = w.load.messages(crate::units::Span(phases.warmup.0 + phases.measure.0)).unwrap_or(0.0);
            let each = (whole / f64::from(t.producers)) as u64;
            let seen = (0..t.producers).map(|_| Seen::with_capacity(if t.reply { 0 } else { each })).collect();
            let mut ear = Ear {
                run: self.run,
                channels: u64::from(t.channels),
                answer: t.reply,
                open_loop: matches!(w.load, Load::Open { .. }),
                shared: self.shared,
                recorder: Recorder::new(seat.workload, origin, phases.interval.0, self.samples.clone()),
                origin,
                interval: phases.interval.0,
                order: vec![Order::default(); t.producers as usize * t.channels as usize],
                received: Received { seen, ..Received::default() },
            };
            all.push(async move {
                let result = consume(&mut consumer, &mut ear).await;
                let Ear { recorder, received, .. } = ear;
                let (clipped, negative) = recorder.finish();
                let (clipped, negative) = (clipped.iter().sum(), negative.iter().sum());
                let received = Box::new(received);
                let (workload, group) = (seat.workload, seat.group);
                let _ = self.done.send(Done::Consumer { workload, group, received, clipped, negative });
                result
            });
        }
        self.together(all).await
    }
}

fn timer() -> Result<Pacer, DriverError> {
    Pacer::sleeping().map_err(|e| DriverError::Lost { url: "timer".into(), words: e.to_string() })
}

/// The profile as the schedule wants it, behind a warm-up at the rate it begins with (its mean, where it repeats).
fn pieces(profile: &Profile, warmup: Nanos) -> (Vec<Piece>, bool) {
    let mut pieces: Vec<Piece> =
        profile.segments.iter().map(|s| Piece { span: s.span.0, from: s.from.0, to: s.to.0 }).collect();
    if warmup == 0 || (profile.segments.len() == 1 && profile.segments[0].from == profile.segments[0].to) {
        return (pieces, profile.repeat);
    }
    if profile.repeat {
        // A schedule that repeats cannot begin with something else: start it so that a cycle begins with the measurement.
        let cycle: Nanos = pieces.iter().map(|p| p.span).sum();
        let mut ahead = (cycle - warmup % cycle) % cycle;
        while ahead > 0 {
            let first = pieces[0];
            let cut = ahead.min(first.span);
            let middle = first.from + (first.to - first.from) * cut as f64 / first.span.max(1) as f64;
            pieces.remove(0);
            if cut < first.span {
                pieces.insert(0, Piece { span: first.span - cut, from: middle, to: first.to });
            }
            pieces.push(Piece { span: cut, from: first.from, to: middle });
            ahead -= cut;
        }
        return (pieces, true);
    }
    let rate = pieces[0].from.max(pieces[0].to.min(1.0));
    pieces.insert(0, Piece { span: warmup, from: rate, to: rate });
    (pieces, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::plan::Segment;
    use crate::units::{Rate, SECOND, Span};

    #[test]
    fn a_cycle_begins_with_the_measurement() {
        let segment = |ms, rate| Segment { span: Span::millis(ms), from: Rate(rate), to: Rate(rate) };
        let burst = Profile { segments: vec![segment(200, 1000.0), segment(800, 0.0)], repeat: true };
        let (pieces, repeat) = pieces(&burst, SECOND / 2);
        assert!(repeat);
        assert_eq!(
            pieces.iter().map(|p| (p.span / 1_000_000, p.from)).collect::<Vec<_>>(),
            [(500, 0.0), (200, 1000.0), (300, 0.0)]
        );
    }

    #[test]
    fn a_ramp_waits_for_the_measurement() {
        let ramp = Profile {
            segments: vec![Segment { span: Span::secs(10), from: Rate(100.0), to: Rate(500.0) }],
            repeat: false,
        };
        let (pieces, _) = pieces(&ramp, SECOND);
        assert_eq!(pieces[0], Piece { span: SECOND, from: 100.0, to: 100.0 });
        assert_eq!(pieces[1].from, 100.0);
    }
}
