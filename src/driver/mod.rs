//! Drivers: the adapters around each system's client library.
//!
//! # Background
//! Client libraries differ in shape: async-nats is a task behind a channel, librdkafka is a thread
//! with callbacks, a wire client is a socket. A benchmark that forces one shape on them (a boxed
//! future, a oneshot, a channel hop for each message) measures the shape.
//! # Design
//! Three small traits, dispatched statically, so that the engine's two hot loops are compiled once
//! for each driver with nothing in between:
//! - a [`Producer`] takes the bytes of one message and hands them to its client, waiting only when
//!   the client is full; acknowledgements and answers come back as [`Confirmation`]s that carry the
//!   instant they arrived;
//! - a [`Consumer`] gives every message that has arrived to a [`MessageSink`], and does with it
//!   what the sink says: accept, reject, leave, answer. That covers plain subscriptions,
//!   acknowledged streams, redelivery and responders;
//! - a [`Driver`] prepares what the workloads need, opens producers and consumers, each with a
//!   connection of its own, on the thread that will use them, and reads back what the server really
//!   promises.
//!
//! # Arrival
//! A message, an answer or a confirmation arrived when the batch that brought it was handed to the
//! driver: when the read of the socket returned (`wire`), when librdkafka returned its batch or its
//! event, when the subscription of async-nats was found to hold something. One instant for the
//! whole batch, taken before anything is done with any message of it, and kept for what is left of
//! it for the next call. So the time that one message takes is in no figure of another, with every
//! driver alike. Producers and consumers run on single-threaded runtimes: nothing can be added to a
//! batch after its stamp.
//!
//! # How to write one
//! `examples/custom_driver.rs` is a whole one, from outside of this crate; the tests run it. A
//! driver knows nothing of the engine, of records and of other drivers. What it needs:
//!
//! 1. A type of system: [`Provider`](crate::system::Provider) says its name, what workloads it
//!    lacks, its options, whether it can be launched here, and how it comes up.
//! 2. [`Driver`], [`Producer`] and [`Consumer`], described below.
//! 3. One line in a [`Register`](crate::engine::Register):
//!    `register.add(MyProvider, Clients::of::<MyDriver>())`. Scenarios, the schema, did-you-mean,
//!    `msgbench systems`, secrets and skipping follow from it.
//!    [`run_with`](crate::engine::run_with) runs a plan with that register.
//!
//! ## In which order it is used
//! One trial: [`Driver::prepare`] on the control thread; [`Driver::consumer`] for each consumer,
//! each on the thread that will poll it; then [`Driver::producer`] likewise, when all consumers are
//! there; [`Driver::measured_from`]; load; [`Producer::close`]; consumers are dropped after the
//! drain; [`Driver::halt`], then what it has counted is read; [`Driver::cleanup`]. Each thread has
//! a single-threaded runtime: what a client spawns with `tokio::spawn` shares the thread with the
//! load.
//!
//! ## Who stamps what
//! The engine stamps when a message is due and when it was given to [`Producer::send`], and writes
//! both into it. The driver stamps what comes back: [`Incoming::at`], [`Confirmation::Acked`] and
//! [`Confirmation::Answered`], by the rule of *Arrival* above, with [`now`](crate::units::now).
//!
//! ## What each method must do
//! - `prepare` creates subjects, topics or streams named after [`Target::run`], so that trials do
//!   not see each other, removes what it made when it fails half-way, and reads back what the
//!   server has agreed to: [`Facts`] are what it says, not what was asked for.
//! - `consumer` returns when the server routes messages to it: what is sent afterwards must arrive.
//!   Members of one [`ClientSlot::group`] share the messages; each group gets all of them.
//! - `send` hands the bytes over and copies them where it must; it waits only for room in the
//!   client and counts each such wait in [`Incidents::backpressure`]. It does not wait for an
//!   acknowledgement. [`DriverError::Refused`] concerns one message, every other error ends the
//!   producer.
//! - `keep`, `kept` and `send_kept` are for a client that can send a body from where it stands; who
//!   leaves them out is given every message by `send`.
//! - `flush` pushes out what is held back. It is called when no further message is due yet, often.
//! - `confirmed` waits for one confirmation and gives all that are here; without confirmations it
//!   never returns ([`std::future::pending`]). [`Producer::confirms`] says which.
//! - `receive` waits for one message and gives it and those that are here, up to the limit, each
//!   with the instant of its batch. It does what the [`Disposition`] says; a system without
//!   redelivery says so in the `lacks` of its type, and its driver never sees `Reject`.
//! - `settle` accepts the oldest messages on [`Disposition::Hold`]. It does not wait; what it sends
//!   may leave with the next `receive`.
//! - `abandon` ends a consumer without a word; it is for those whose `Drop` says that they leave.
//! - `close` returns when all that was handed over has left the process, `cleanup` removes what
//!   `prepare` made.
//! - Losses that the client library decides (a full buffer) are told to
//!   [`Incidents::client_dropped`]: the books count them as the client's.
//!
//! Waits for connections and administrative requests end within [`Target::timeout`]; the engine
//! bounds the others.
//!
//! ## Cancel safety
//! The engine polls `confirmed` and `receive` beside timers and drops their futures at any await
//! point. A message that was given to a sink is done with; one that was not must come with the next
//! call. So: wait first, and do not await between taking a message from the client and giving it to
//! the sink; or keep the request that is under way in `self` and go on polling it. `send` is not
//! dropped half-way, but for the end of the trial.
//! # Rejected
//! `dyn Driver` with boxed futures: one allocation for each message on the measured path.

mod attempt;
pub mod bridge;
mod error;
#[cfg(test)]
pub mod fake;
mod incidents;
pub mod jetstream;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod nats;
pub mod null;
pub mod redis;
#[cfg(test)]
mod scripted;
mod side_thread;
pub mod wire;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

pub use crate::plan::facts::{Acknowledgement, Delivery, Durability, Guarantees, Incident, Order, Stated};
pub use attempt::{ConnectAttempt, ConnectSteps, IdleConnection, Intrusion, IntrusionOutcome, IntrusionWay};
pub use error::DriverError;
pub use incidents::{Incidents, Noted};
use side_thread::SideThread;

use crate::plan::options::OptionSet;
use crate::plan::{AgentShare, Intruder, ReconnectPace, Workload};
use crate::units::Nanos;

/// What a driver is opened with.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Where the system answers.
    pub url: String,
    /// Bound on every connection attempt and administrative request.
    pub timeout: Duration,
    /// Names the trial: prefixes every subject, topic or stream, and stands in every message.
    pub run: u32,
    /// The system's options from the scenario that concern the client.
    pub options: serde_json::Map<String, serde_json::Value>,
    /// The address of each server that a workload may name in `at`.
    pub places: BTreeMap<String, String>,
    /// Whether the client stays at the servers of `url`, and goes to no other that they tell of.
    pub pinned: bool,
    /// How soon the client tries again to connect.
    pub reconnect: ReconnectPace,
    /// The part of the clients that this process has, where another one has prepared the system:
    /// nothing is made and nothing removed.
    pub part: Option<AgentShare>,
    /// Who is not to be let in, and how each connects; none where the system does not know any.
    pub intruders: Vec<Intruder>,
}

impl Target {
    /// Whether another process has prepared the system, and takes away what it made.
    pub fn joins(&self) -> bool {
        self.part.is_some()
    }

    /// The intruder whose turn a try is: publishing and subscribing take turns for each of them.
    pub fn intruder(&self, number: u64) -> Option<&Intruder> {
        let turn = (number as usize / 2).checked_rem(self.intruders.len())?;
        self.intruders.get(turn)
    }

    /// The target for a client that connects to this place; to any server where there is none.
    ///
    /// # Errors
    /// [`DriverError::Option`] where the system has no such place.
    pub fn at(&self, place: Option<&str>) -> Result<Cow<'_, Self>, DriverError> {
        let Some(place) = place else { return Ok(Cow::Borrowed(self)) };
        match self.places.get(place) {
            Some(url) => Ok(Cow::Owned(Self { url: url.clone(), pinned: true, ..self.clone() })),
            None => {
                let names: Vec<&str> = self.places.keys().map(String::as_str).collect();
                let words = format!("key `at`: there is no server `{place}`; there are: {}", names.join(", "));
                Err(DriverError::Option { words })
            }
        }
    }
}

/// Identifies the producer or consumer that is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientSlot {
    /// Index of its workload in the case.
    pub workload: usize,
    /// Its group; 0 for producers.
    pub group: u32,
    /// Its number within the workload's producers, or within its group.
    pub index: u32,
}

/// What the server and the client promise, read back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Product and version as the server reports it.
    pub version: String,
    /// Client library and version.
    pub client: String,
    /// What is promised of messages: the engine holds the ledger against its levels.
    pub guarantees: Guarantees,
    /// Effective settings that bear on guarantees or speed, by name.
    pub settings: BTreeMap<String, String>,
    /// How exactly it keeps to limits of what it keeps.
    pub keeping: Keeping,
}

/// How exactly a system keeps to a limit of what it keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keeping {
    /// Bytes of a file that is removed, or cleaned, as a whole; 0 where messages go one by one.
    pub segment: u64,
    /// Bytes that a stored message has beside its payload: at least, and at most.
    pub overhead: (u64, u64),
}

impl Facts {
    /// Guarantees and settings in words, by name.
    pub fn words(&self) -> BTreeMap<String, String> {
        let mut all = self.settings.clone();
        all.extend(self.guarantees.words());
        all
    }
}

/// A request to hand over, made when it is polled.
pub type HandOver = Pin<Box<dyn Future<Output = Result<(), DriverError>> + Send>>;

/// One messaging system, opened for one trial.
pub trait Driver: Sized + Send + Sync {
    type Producer: Producer;
    type Consumer: Consumer;
    /// Whether messages come back to consumers. The null driver has none, and is measured by its
    /// confirmations alone.
    const DELIVERS: bool = true;
    /// Whether the broker keeps what it has not delivered yet: a silence is then no sign that
    /// nothing more is coming.
    const STORES: bool = false;

    /// Whether several processes can drive a workload: one prepares it, and the others are opened
    /// with a part of it ([`Target::part`]).
    ///
    /// # Errors
    /// Why they cannot, as the end of a sentence that begins with the workload.
    fn joins(_workload: &Workload) -> Result<(), &'static str> {
        Err("is driven by one process, because its driver does not say that several can")
    }

    /// The options of a scenario that its client reads. They come with [`Target::options`], beside
    /// those of the launched system.
    fn options() -> Vec<OptionSet> {
        Vec::new()
    }

    /// Connects for administration, creates what the workloads need and reads back what it got.
    fn prepare(target: Target, workloads: &[Workload]) -> impl Future<Output = Result<Self, DriverError>>;

    /// What the server and the client promise.
    fn facts(&self) -> &Facts;

    /// Incidents of the connections of this trial.
    fn incidents(&self) -> &Incidents;

    /// Opens a producer on the calling thread's runtime.
    fn producer(&self, slot: ClientSlot) -> impl Future<Output = Result<Self::Producer, DriverError>>;

    /// Opens a consumer on the calling thread's runtime; on return the server routes messages to
    /// it, those from `start` on.
    fn consumer(&self, slot: ClientSlot, start: Start) -> impl Future<Output = Result<Self::Consumer, DriverError>>;

    /// One try of somebody without rights to publish a message to a workload, or to read from it.
    /// What it needs is opened for it and closed again. Asked only where the type of system says
    /// that it has intruders.
    ///
    /// # Errors
    /// When nothing was decided: the system cannot be reached, or does not answer.
    fn intrude(
        &self,
        _workload: usize,
        _attempt: Intrusion<'_>,
    ) -> impl Future<Output = Result<IntrusionOutcome, DriverError>> {
        std::future::ready(Err(DriverError::Option { words: "this driver has no intruders".into() }))
    }

    /// One client that comes and goes: it connects, subscribes to a place of its own, publishes the
    /// message there, receives it, and is gone when the future has ended. Asked only where the type
    /// of system says that its driver connects as load.
    ///
    /// # Errors
    /// The step that failed, in the words of the server; within [`Target::timeout`].
    fn connect_once(&self, _attempt: ConnectAttempt<'_>) -> impl Future<Output = Result<ConnectSteps, DriverError>> {
        std::future::ready(Err(DriverError::Option { words: "this driver opens no connections as load".into() }))
    }

    /// Opens a connection that carries nothing, and gives what keeps it: that ends with an error
    /// when the connection is lost. Asked only where the type of system says that its driver
    /// connects as load.
    ///
    /// # Errors
    /// Why there is no connection; within [`Target::timeout`].
    fn idle(&self, _slot: ClientSlot) -> impl Future<Output = Result<IdleConnection, DriverError>> {
        std::future::ready(Err(DriverError::Option { words: "this driver opens no connections as load".into() }))
    }

    /// Opens a reader of all that is stored of a workload, in the order in which it is stored and
    /// from the first message on, which changes nothing. Asked only where the type of system says
    /// that it keeps limits.
    fn reread(&self, _workload: usize) -> impl Future<Output = Result<Self::Consumer, DriverError>> {
        std::future::ready(Err(DriverError::Option { words: "this driver reads nothing again".into() }))
    }

    /// Where the messages of a workload are stored: what that is called by the system (`stream`,
    /// `topic`), and its name. `None` where they are not stored.
    fn stored_in(&self, _workload: usize) -> Option<(&'static str, String)> {
        None
    }

    /// The request that another node leads what stores the messages of a workload; `None` where
    /// clients cannot ask for that. It does not borrow the driver: it may be made on another
    /// thread.
    fn hand_over(&self, _workload: usize) -> Option<HandOver> {
        None
    }

    /// Lets each producer that has transactions die in the middle of one, and another one take its
    /// place so long after; how many there are.
    fn kill_producers(&self, _away: Duration) -> usize {
        0
    }

    /// Is told the instant from which is measured, when it is known.
    fn measured_from(&self, _origin: Nanos) {}

    /// Messages of a workload that the client library has read and dropped, from the first of the
    /// trial on. Exact where the library tells what it has read; told when consumers and producers
    /// are gone.
    fn client_dropped(&self, workload: usize) -> u64 {
        self.incidents().client_dropped_of(workload)
    }

    /// Ends what the driver itself runs; what it has measured is complete afterwards.
    fn halt(&mut self) {}

    /// Latencies of parts of the way, of messages of the measured phase, by name; most drivers have
    /// but one way.
    fn hops(&self) -> Vec<(String, hdrhistogram::Histogram<u64>)> {
        Vec::new()
    }

    /// Removes from the server what `prepare` created.
    fn cleanup(self) -> impl Future<Output = Result<(), DriverError>>;
}

/// Where a consumer begins to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what is published from now on.
    Tail,
    /// With the first message that is stored.
    First,
    /// With the message of this number: a stream sequence, an offset in each partition.
    Offset(u64),
    /// With the first message stored at or after this instant, nanoseconds since the epoch.
    Time(u64),
}

/// A message to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// The channel of the workload: subject, topic or partition. With a key the system may choose
    /// another partition.
    pub channel: u32,
    /// What it is keyed with; messages of one key keep their order.
    pub key: Option<u64>,
    /// Its bytes, envelope first.
    pub payload: &'a [u8],
    /// Comes back in [`Confirmation::Acked`]; unique for the producer, ascending from 0.
    pub token: u64,
}

/// The sending side of one connection.
pub trait Producer {
    /// Latencies of the steps of its messages of the measured phase, by name.
    fn steps(&self) -> Vec<(&'static str, hdrhistogram::Histogram<u64>)> {
        Vec::new()
    }

    /// Whether every message is confirmed: acknowledged by the broker, or answered by a responder.
    fn confirms(&self) -> bool;

    /// Hands one message to the client, waiting only while the client's own buffer is full; each
    /// such wait is counted in [`Incidents::backpressure`].
    ///
    /// # Errors
    /// [`DriverError::Refused`] concerns this message only; every other error ends the producer.
    fn send(&mut self, message: Outgoing<'_>) -> impl Future<Output = Result<(), DriverError>>;

    /// Keeps the messages that will be sent in turn, each to the next channel in turn, in the form
    /// in which they go out; false where the client cannot. If it does, every message is stamped
    /// where [`Producer::kept`] says and sent by [`Producer::send_kept`], and none by
    /// [`Producer::send`]. Keys are of no concern to who keeps messages, and none is refused.
    fn keep(&mut self, _messages: &[&[u8]]) -> bool {
        false
    }

    /// The bytes of the kept message that is next, its envelope first.
    fn kept(&mut self) -> &mut [u8] {
        &mut []
    }

    /// Takes the kept message that is next to what goes out; true where there is no room for
    /// another before the next [`Producer::flush`].
    fn send_kept(&mut self) -> bool {
        false
    }

    /// Pushes out what the client still holds back to fill a batch. Called whenever no further
    /// message is due yet.
    fn flush(&mut self) -> impl Future<Output = Result<(), DriverError>>;

    /// Waits for at least one confirmation and gives all that are here to `sink`. Never returns
    /// where nothing confirms.
    fn confirmed(&mut self, sink: &mut impl FnMut(Confirmation<'_>)) -> impl Future<Output = Result<(), DriverError>>;

    /// Waits until everything handed over has left the process.
    fn close(self) -> impl Future<Output = Result<(), DriverError>>;
}

/// What became of a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation<'a> {
    /// The broker took responsibility for it.
    Acked {
        /// As given to [`Producer::send`].
        token: u64,
        /// When the acknowledgement arrived.
        at: Nanos,
    },
    /// The broker refused it.
    Failed {
        /// As given to [`Producer::send`].
        token: u64,
    },
    /// A responder answered; it returns the message it got.
    Answered {
        /// The message, envelope first.
        message: &'a [u8],
        /// When the answer arrived.
        at: Nanos,
    },
    /// A service of others answered; what is in the answer is its own affair.
    Served {
        /// As given to [`Producer::send`].
        token: u64,
        /// Length of the answer.
        bytes: u64,
        /// When the answer arrived.
        at: Nanos,
    },
    /// No responder was there.
    Unanswered,
}

/// The receiving side of one connection.
pub trait Consumer {
    /// Waits for at least one message and gives it, and those that are here already up to `limit`,
    /// to `sink`.
    fn receive(&mut self, sink: &mut impl MessageSink, limit: usize) -> impl Future<Output = Result<(), DriverError>>;
    /// Accepts the oldest `messages` of those that the sink has put on [`Disposition::Hold`].
    /// Nothing to do where the system wants no acknowledgement.
    ///
    /// # Errors
    /// When the connection is gone.
    fn settle(&mut self, _messages: usize) -> Result<(), DriverError> {
        Ok(())
    }

    /// Ends as the consumer of a process that is killed does: connections are closed, and nothing
    /// is said to the server, which finds out by itself.
    fn abandon(self)
    where
        Self: Sized,
    {
    }
}

/// Takes what a consumer receives.
pub trait MessageSink {
    /// Takes one message and says what is to become of it.
    fn take(&mut self, message: Incoming<'_>) -> Disposition;

    /// Takes a message that went down the dead-letter path.
    fn dead_letter(&mut self, message: Incoming<'_>);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// Its bytes, envelope first.
    pub payload: &'a [u8],
    /// When it arrived: one instant for all messages of a batch, by the rule of this module.
    pub at: Nanos,
    /// 1 at its first delivery, 2 at its second; 0 where the system does not tell.
    pub attempt: u32,
}

/// What is to become of a received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It is done: acknowledge it where the system wants that.
    Accept,
    /// It is answered with its own bytes.
    Answer,
    /// It was not processed: deliver it again.
    Reject,
    /// Nothing is said about it: the system finds out by itself.
    Leave,
    /// It is accepted later, in the order of arrival, by [`Consumer::settle`].
    Hold,
}
