//! Stream processing in a client: a durable consumer that copies each message to another stream.
//!
//! # Design
//! A message is published under the same tokens of another subject, with its headers, and
//! acknowledged when that stream has acknowledged it: many are under way at a time, as many as the
//! server leaves unacknowledged. It is a thread of its own, with a connection of its own, as a
//! stream processor is a process of its own.
//! # Promise
//! At least once. A message whose acknowledgement is lost comes again and is published again: where
//! messages carry an identifier (`exactly-once`) the other stream knows it, within its window.

use std::collections::HashMap;

use async_nats::{Message, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::task::unconstrained;

use super::answer::refusal;
use super::api::{ConsumerName, ConsumerRequest, call};
use super::flow::{ConsumeFlow, DeliveryInfo};
use super::options::{AckMode, ConsumeMode};
use super::stream::WorkloadStream;
use crate::driver::nats::link::NatsLink;
use crate::driver::nats::options::ConnectionOptions;
use crate::driver::nats::outbox::Outbox;
use crate::driver::{DriverError, Incident, Incidents, SideThread, Start, Target};

/// Asks for a message again after 100 ms, in nanoseconds: what refused it may last.
const AGAIN: &[u8] = b"-NAK {\"delay\":100000000}";

/// What the transformer works with.
pub struct StreamTransformParts {
    pub target: Target,
    pub connection: ConnectionOptions,
    pub incidents: Incidents,
    /// What is read; its output is what is written.
    pub stream: WorkloadStream,
    /// What every subject of its inbox begins with, a dot at the end.
    pub inbox: String,
}

/// A running transformer; dropping it stops it.
#[derive(Debug)]
pub struct StreamTransformer {
    _thread: SideThread,
}

impl StreamTransformer {
    /// Starts it; on return its consumer is there.
    ///
    /// # Errors
    /// Why it cannot connect, or has no consumer.
    pub async fn start(parts: StreamTransformParts) -> Result<Self, DriverError> {
        let failed = |words: String| DriverError::Refused { words: format!("the transformer: {words}") };
        let (ready_in, ready) = oneshot::channel();
        let (incidents, bound) = (parts.incidents.clone(), 2 * parts.target.timeout);
        let body = move |stopped| {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(e) => return drop(ready_in.send(Err(failed(format!("no runtime: {e}"))))),
            };
            runtime.block_on(async {
                let mut work = match CopyLoop::open(parts).await {
                    Ok(work) => work,
                    Err(e) => return drop(ready_in.send(Err(e))),
                };
                // The receiver waits for it.
                let _ = ready_in.send(Ok(()));
                tokio::select! {
                    _ = stopped => {}
                    Err(e) = work.run() => {
                        let words = format!("the transformer has stopped: nothing reaches the output stream: {e}");
                        incidents.note(Incident::Client, words);
                    }
                }
            });
        };
        let started = Self { _thread: SideThread::spawn("nats-transform", body).map_err(|e| failed(e.to_string()))? };
        match tokio::time::timeout(bound, ready).await {
            Ok(Ok(done)) => done.map(|()| started),
            Ok(Err(_)) => Err(failed("its thread ended".into())),
            Err(_) => Err(failed(format!("it was not ready within {} s", bound.as_secs_f64()))),
        }
    }
}

struct CopyLoop {
    link: NatsLink,
    inbox: String,
    source: Subscriber,
    flow: ConsumeFlow,
    out: Outbox,
    /// What the subjects of both streams begin with.
    prefixes: [String; 2],
    /// Where a message is acknowledged that was published under this number.
    open: HashMap<u64, Subject>,
    number: u64,
    refused: bool,
}

impl CopyLoop {
    async fn open(parts: StreamTransformParts) -> Result<Self, DriverError> {
        let StreamTransformParts { target, connection, incidents, mut stream, inbox } = parts;
        let link = NatsLink::open(&target, &connection, &incidents, "msgbench-transform").await?;
        let source = link.subscribe(format!("{inbox}>"), None).await?;
        let name = ConsumerName { stream: stream.name.clone(), consumer: "transform".into() };
        let prefixes = [stream.prefix.clone(), stream.output_prefix()];
        // How consumers read the output is their own matter.
        let options = &mut stream.options;
        (options.consumer, options.ack, options.priority_policy) =
            (Some(ConsumeMode::Pull), Some(AckMode::Explicit), None);
        options.backoff.clear();
        let request = ConsumerRequest::new(&name, &stream.options, Start::First).body();
        call(&link, &stream.api, "make a consumer", &name.verb("CONSUMER.CREATE"), &request).await?;
        let flow = ConsumeFlow::new(&name, &inbox, "", &stream, (0, false), link.again());
        let (out, open) = (Outbox::default(), HashMap::new());
        Ok(Self { link, inbox, source, flow, out, prefixes, open, number: 0, refused: false })
    }

    async fn run(&mut self) -> Result<(), DriverError> {
        loop {
            self.link.check()?;
            self.flow.upkeep(&self.link, &mut self.out)?;
            self.out.flush(&self.link).await?;
            let Some((mut next, _)) = self.flow.wait(self.source.next()).await else { continue };
            self.flow.note_message();
            loop {
                let message = next.ok_or_else(|| self.link.lost("the subscription ended"))?;
                self.treat(message)?;
                if !self.out.is_empty() {
                    self.out.flush(&self.link).await?;
                }
                match unconstrained(self.source.next()).now_or_never() {
                    Some(more) => next = more,
                    None => break,
                }
            }
        }
    }

    fn treat(&mut self, message: Message) -> Result<(), DriverError> {
        if let Some(task) = message.subject.as_str().strip_prefix(self.inbox.as_str()) {
            if let Some(number) = task.strip_prefix("s.").and_then(|n| n.parse().ok()) {
                return self.stored(number, &message);
            }
            return match message.status {
                Some(status) => self.flow.status(status, &message, &self.link, &mut self.out),
                None => Ok(()),
            };
        }
        let Some(reply) = message.reply else { return Ok(()) };
        self.flow.arrived(DeliveryInfo::read(&reply).as_ref(), &self.link, &mut self.out)?;
        let [from, to] = &self.prefixes;
        let Some(rest) = message.subject.as_str().strip_prefix(from.as_str()) else { return Ok(()) };
        let subject = Subject::from(format!("{to}{rest}"));
        self.number += 1;
        let confirm = Subject::from(format!("{}s.{}", self.inbox, self.number));
        self.open.insert(self.number, reply);
        self.out.offer_with(&self.link, subject, Some(confirm), message.headers, message.payload)
    }

    /// The output stream has said what became of a message.
    fn stored(&mut self, number: u64, answer: &Message) -> Result<(), DriverError> {
        let Some(reply) = self.open.remove(&number) else { return Ok(()) };
        let good = answer.status.is_none() && !answer.payload.starts_with(b"{\"error\"");
        if !good && !self.refused {
            // The first says why; each of them comes again.
            self.refused = true;
            let words = format!("the output stream refused a message: {}", refusal(answer));
            self.link.incidents.note(Incident::Refused, words);
        }
        self.out.offer(&self.link, reply, None, Bytes::from_static(if good { b"+ACK" } else { AGAIN }))
    }
}
