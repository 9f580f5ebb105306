//! What one connection may say and what it is answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::auth;
use super::connection_table::ConnectionEntry;
use super::counters::Counters;
use super::hub::NatsHub;
use super::index::{MatchedSubscriptions, Subscription};
use super::info::{ClientOptions, Connect};
use super::outlet::Outlet;
use super::parse::{self, FrameLimits, Op, ParseStep, ProtocolViolation, Publish};
use super::router::{Routed, Router};
use super::subject;
use super::traffic::TrafficVolume;
use super::users::{self, Permissions};
use crate::units::now;

/// Messages routed together at most, and after how many bytes no further one joins them.
const RUN: usize = 64;
const RUN_BYTES: usize = 32 * 1024;

/// Length of the headers of a 503 without the subject that nobody listens to.
const NO_RESPONDERS: usize = 32;

/// Why a connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CloseReason(pub Option<&'static str>);

impl From<ProtocolViolation> for CloseReason {
    fn from(violation: ProtocolViolation) -> Self {
        Self(violation.text())
    }
}

/// The protocol state of one connection.
pub(super) struct Session {
    hub: Arc<NatsHub>,
    member: Arc<ConnectionEntry>,
    outlet: Arc<Outlet>,
    pub router: Router,
    options: ClientOptions,
    limits: FrameLimits,
    admitted: bool,
    subs: HashMap<Arc<[u8]>, Arc<Subscription>>,
    found: MatchedSubscriptions,
    published: TrafficVolume,
    /// What the user may do, if it may not do everything.
    permissions: Option<Arc<Permissions>>,
}

impl Session {
    pub(super) fn new(hub: Arc<NatsHub>, member: Arc<ConnectionEntry>) -> Self {
        let outlet = Arc::clone(&member.outlet);
        let limits = FrameLimits {
            max_control_line: hub.config.max_control_line,
            max_payload: hub.config.max_payload,
            headers: false,
        };
        Self {
            router: Router::new(Arc::clone(&hub.index), Arc::clone(&hub.rules), Arc::clone(&outlet)),
            options: ClientOptions::default(),
            limits,
            admitted: outlet.admitted.load(Ordering::Acquire),
            subs: HashMap::new(),
            found: MatchedSubscriptions::default(),
            published: TrafficVolume::default(),
            permissions: None,
            hub,
            member,
            outlet,
        }
    }

    /// Serves every whole frame of a batch. Returns how many bytes were used and how many the next
    /// frame needs.
    pub(super) fn batch(&mut self, input: &[u8]) -> Result<(usize, usize), CloseReason> {
        let result = self.frames(input);
        let published = std::mem::take(&mut self.published);
        Counters::add(&self.hub.counters.messages_in, published.messages);
        Counters::add(&self.hub.counters.payload_in, published.payload);
        self.outlet.traffic.received.add(published);
        if self.hub.rules.watched && published.messages > 0 {
            self.outlet.traffic.active.store(now(), Ordering::Relaxed);
        }
        self.router.end_batch();
        result
    }

    fn frames(&mut self, input: &[u8]) -> Result<(usize, usize), CloseReason> {
        let mut at = 0;
        while at < input.len() {
            if !self.admitted && !matches!(input[at], b'C' | b'c') {
                return Err(self.unauthorised());
            }
            at += self.run(&input[at..]);
            match parse::next(&input[at..], &self.limits)? {
                ParseStep::Done(Op::Publish(message), used) => {
                    self.publish(&message);
                    at += used;
                }
                ParseStep::Done(op, used) => {
                    self.serve(op)?;
                    at += used;
                }
                ParseStep::Need(n) => return Ok((at, n)),
            }
        }
        Ok((at, 1))
    }

    /// Routes the messages at the front of `input` that go where the previous one went. Returns how
    /// many bytes they took.
    fn run(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        let fluent = !self.options.verbose && !self.options.pedantic && self.hub.fault_path.is_none();
        let another = |subject| parse::again(input, subject, &self.limits).is_some();
        if !fluent || !self.router.running().is_some_and(another) {
            return at;
        }
        let mut tails: [&[u8]; RUN] = [&[]; RUN];
        while let Some(subject) = self.router.running() {
            let begin = at;
            let (mut n, mut payload) = (0, 0);
            while n < RUN && at - begin < RUN_BYTES {
                let Some((tail, size, used)) = parse::again(&input[at..], subject, &self.limits) else { break };
                tails[n] = tail;
                n += 1;
                payload += size;
                at += used;
            }
            if n == 0 {
                break;
            }
            self.router.publish_run(&tails[..n], payload);
            self.published += TrafficVolume { messages: n as u64, payload: payload as u64 };
        }
        at
    }

    #[inline]
    fn publish(&mut self, message: &Publish<'_>) {
        self.published += TrafficVolume { messages: 1, payload: message.payload.len() as u64 };
        if self.options.pedantic && !subject::valid_literal(message.subject) {
            self.router.answer(b"-ERR 'Invalid Publish Subject'\r\n");
        }
        if let Some(permissions) = &self.permissions
            && !permissions.may_publish(message.subject)
        {
            Counters::add(&self.hub.counters.violations, 1);
            self.router.answer(users::publish_violation(message.subject).as_bytes());
            return;
        }
        if self.options.verbose {
            self.router.answer(b"+OK\r\n");
        }
        if self.hub.fault_path.is_some() && self.fault_path(message) {
            return;
        }
        let routed = self.router.publish(message, self.options.echo);
        if routed == Routed::Unwanted && self.options.no_responders && !message.reply.is_empty() {
            self.no_responders(message);
        }
    }

    /// Hands a message that faults are to hit to their server; `false` when it goes the usual way.
    #[cold]
    fn fault_path(&mut self, message: &Publish<'_>) -> bool {
        let Some(fault_path) = self.hub.fault_path.as_ref().filter(|d| d.takes(message.subject)) else { return false };
        if self.options.no_responders && !message.reply.is_empty() {
            self.hub.index.search(message.subject, &mut self.found);
            let (echo, own) = (self.options.echo, self.outlet.id);
            self.found.keep(|sub| (echo || sub.outlet.id != own) && sub.outlet.may_have(message.subject));
            if self.found.is_empty() {
                return false;
            }
            self.found.clear();
        }
        fault_path.send(self.outlet.id, message);
        true
    }

    /// Tells the requester that nobody listens, and where, through its own subscription to the
    /// reply subject.
    fn no_responders(&mut self, message: &Publish<'_>) {
        let (subject, reply) = (message.subject, message.reply);
        self.hub.index.search(reply, &mut self.found);
        let own = self.outlet.id;
        // A member of a queue group is not told: another may be the one that asks.
        if let Some(sub) = self.found.plain.iter().find(|sub| sub.outlet.id == own) {
            let length = NO_RESPONDERS + subject.len();
            let sizes = format!(" {length} {length}\r\nNATS/1.0 503\r\nNats-Subject: ");
            for part in [b"HMSG ", reply, b" ", &sub.sid, sizes.as_bytes(), subject, b"\r\n\r\n\r\n"] {
                self.router.answer(part);
            }
            Counters::add(&self.hub.counters.no_responders, 1);
        }
        self.found.clear();
    }

    fn serve(&mut self, op: Op<'_>) -> Result<(), CloseReason> {
        match op {
            Op::Publish(message) => self.publish(&message),
            Op::Subscribe { subject, queue, sid } => self.subscribe(subject, queue, sid),
            Op::Unsubscribe { sid, max } => self.unsubscribe(sid, max),
            Op::Connect(json) => self.connect(json)?,
            Op::Ping => self.router.answer(b"PONG\r\n"),
            // The writer task knows from the read itself; +OK and INFO say nothing to a server.
            Op::Pong => self.outlet.traffic.answered(),
            Op::Ok | Op::Info(_) => {}
            Op::Err(_) => return Err(CloseReason(None)),
        }
        Ok(())
    }

    fn acknowledge(&mut self) {
        if self.options.verbose {
            self.router.answer(b"+OK\r\n");
        }
    }

    fn connect(&mut self, json: &[u8]) -> Result<(), CloseReason> {
        let said: Connect = serde_json::from_slice(json).map_err(|_| CloseReason(None))?;
        if !self.admitted {
            let certificate = self.member.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
            let Some(user) = auth::admit(&self.hub.config.auth, &said, &self.member.nonce, certificate) else {
                return Err(self.unauthorised());
            };
            if let Some(user) = user {
                // Set once: a connection does not change its user.
                let _ = self.member.user.set(user.name().to_owned());
                self.permissions = user.permissions.clone();
                if let Some(permissions) = user.permissions.clone().filter(|p| p.withholds_any()) {
                    let _ = self.outlet.permissions.set(permissions);
                }
            }
            self.admitted = true;
            self.outlet.admitted.store(true, Ordering::Release);
        }
        self.options.merge(&said);
        self.member.describe(said.name, said.lang, said.version);
        if !(0..=1).contains(&self.options.protocol) {
            return Err(CloseReason(Some("invalid client protocol")));
        }
        if self.options.no_responders && !self.options.headers {
            return Err(CloseReason(Some("no responders requires headers support")));
        }
        self.limits.headers = self.options.headers;
        self.outlet.headers.store(self.options.headers, Ordering::Release);
        self.outlet.announces.store(self.options.protocol >= 1, Ordering::Release);
        self.router.options_changed();
        self.acknowledge();
        Ok(())
    }

    fn unauthorised(&self) -> CloseReason {
        Counters::add(&self.hub.counters.auth_failures, 1);
        CloseReason(Some("Authorization Violation"))
    }

    /// Drops what ended by its own count, so that a sid may be used again and nothing piles up.
    fn forget_expired(&mut self) {
        for sid in self.outlet.take_expired() {
            // Another subscription may have the sid by now.
            if self.subs.get(&sid).is_some_and(|sub| sub.ended.load(Ordering::Acquire)) {
                self.subs.remove(&sid);
            }
        }
    }

    fn subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
        if !crate::faults::pattern::valid(subject) {
            self.router.answer(b"-ERR 'Invalid Subject'\r\n");
            return;
        }
        if let Some(permissions) = &self.permissions
            && !permissions.may_subscribe(subject, queue)
        {
            Counters::add(&self.hub.counters.violations, 1);
            self.router.answer(users::subscribe_violation(subject, queue).as_bytes());
            return;
        }
        self.router.settle();
        self.forget_expired();
        if !self.subs.contains_key(sid) {
            if self.subs.len() >= self.hub.config.max_subscriptions {
                self.router.answer(b"-ERR 'maximum subscriptions exceeded'\r\n");
                return;
            }
            let sid: Arc<[u8]> = sid.into();
            let sub = Arc::new(Subscription {
                outlet: Arc::clone(&self.outlet),
                subject: subject.into(),
                queue: queue.map(Into::into),
                sid: Arc::clone(&sid),
                delivered: AtomicU64::new(0),
                max: AtomicU64::new(0),
                ended: AtomicBool::new(false),
            });
            self.subs.insert(sid, Arc::clone(&sub));
            self.hub.index.insert(&sub);
            Counters::add(&self.hub.counters.subscriptions, 1);
        }
        self.acknowledge();
    }

    fn unsubscribe(&mut self, sid: &[u8], max: Option<u64>) {
        // What this connection has published to itself counts as delivered.
        self.router.settle();
        self.forget_expired();
        if let Some(sub) = self.subs.get(sid) {
            let max = max.unwrap_or(0);
            sub.max.store(max, Ordering::SeqCst);
            if sub.delivered.load(Ordering::SeqCst) >= max {
                let sub = Arc::clone(sub);
                self.subs.remove(sid);
                self.end(&sub);
            }
        }
        self.acknowledge();
    }

    fn end(&self, sub: &Arc<Subscription>) {
        if self.hub.index.remove(sub) {
            Counters::sub(&self.hub.counters.subscriptions, 1);
        }
    }

    /// Takes every subscription back; the connection is over.
    pub(super) fn leave(&mut self) {
        for (_, sub) in std::mem::take(&mut self.subs) {
            self.end(&sub);
        }
    }
}
