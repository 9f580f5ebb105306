//! From a published message to the buffers of everybody who wants it.
//!
//! Every reading connection has a router of its own. It remembers what subjects reach ([`Route`])
//! as long as the index's generation stands still, so that routing is one comparison with the
//! previous subject or one hash look-up; it gathers the messages of one read batch per target and
//! commits each target once. Nothing is allocated per message.
//!
//! Invariants: counts of deliveries kept here are added to the subscriptions before anything of
//! this connection may depend on them ([`Router::settle`]); this connection's own answers are
//! committed after everybody else's messages, so a PONG says that all before it has been routed.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;

use super::counters::Counters;
use super::index::{MatchedSubscriptions, Subscription, SubscriptionIndex};
use super::outlet::{Outlet, OutletLimits};
use super::parse::{self, Publish};
use super::stages::Stages;
use super::traffic::TrafficVolume;

/// Routes remembered at most, and legs in all of them.
const MAX_ROUTES: usize = 2048;
const MAX_LEGS: usize = 65_536;
/// Subjects seen once are not worth a route (every reply goes to a subject of its own); this many
/// are remembered.
const DOORMAN: usize = 1024;

/// One subscription of a route.
struct RouteTarget {
    slot: u32,
    /// Deliveries not yet added to the subscription.
    count: u64,
    sub: Arc<Subscription>,
    /// `HMSG <subject> <sid> `; a MSG leaves the first letter out.
    prefix: Box<[u8]>,
}

/// What a subject reaches.
#[derive(Default)]
struct Route {
    plain: Vec<RouteTarget>,
    /// Queue groups; one leg of each is taken.
    groups: Vec<Vec<RouteTarget>>,
    /// Whether some leg has a count to settle.
    counted: bool,
    /// Whether messages may be routed in runs: no groups, every target once, this connection not
    /// among them.
    simple: bool,
}

/// The routing side of one connection.
pub(super) struct Router {
    index: Arc<SubscriptionIndex>,
    rules: Arc<OutletLimits>,
    generation: u64,
    hasher: RandomState,
    routes: Vec<Route>,
    known: HashMap<Box<[u8]>, u32, RandomState>,
    route_targets: usize,
    last_subject: Vec<u8>,
    last_route: usize,
    counted: Vec<u32>,
    doorman: Box<[u32]>,
    found: MatchedSubscriptions,
    out: Stages,
    random: u64,
}

const NO_ROUTE: usize = usize::MAX;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Routed {
    /// Somebody gets it.
    Delivered,
    /// Nobody does: nobody has subscribed, or only the publisher, who wants no echo.
    Unwanted,
}

impl From<bool> for Routed {
    fn from(delivered: bool) -> Self {
        if delivered { Self::Delivered } else { Self::Unwanted }
    }
}

impl Router {
    pub(super) fn new(index: Arc<SubscriptionIndex>, rules: Arc<OutletLimits>, own: Arc<Outlet>) -> Self {
        let hasher = RandomState::default();
        let random = hasher.hash_one(own.id) | 1;
        let out = Stages::new(Arc::clone(&rules), own, hasher.clone());
        Self {
            index,
            rules,
            generation: 0,
            routes: Vec::new(),
            known: HashMap::with_hasher(hasher.clone()),
            route_targets: 0,
            last_subject: Vec::new(),
            last_route: NO_ROUTE,
            counted: Vec::new(),
            doorman: Box::default(),
            found: MatchedSubscriptions::default(),
            out,
            random,
            hasher,
        }
    }

    /// Answers this connection.
    pub(super) fn answer(&mut self, bytes: &[u8]) {
        self.out.answer(bytes);
    }

    /// The subject of the previous message, if more of them may be routed by
    /// [`publish_run`](Self::publish_run).
    #[inline]
    pub(super) fn running(&self) -> Option<&[u8]> {
        let route = self.routes.get(self.last_route)?;
        (route.simple && self.generation == self.index.generation()).then_some(&self.last_subject[..])
    }

    /// Routes several messages without reply and headers on the subject [`running`](Self::running)
    /// has just named, given their tails ([`Publish::tail`]) and the bytes of payload in them:
    /// target by target, so that each buffer is filled in one go.
    pub(super) fn publish_run(&mut self, tails: &[&[u8]], payload: usize) {
        let route = &mut self.routes[self.last_route];
        mark(route, self.last_route, &mut self.counted);
        let bytes: usize = tails.iter().map(|tail| tail.len()).sum();
        for route_target in &mut route.plain {
            let prefix = &route_target.prefix[1..];
            let stage = self.out.open(route_target.slot);
            stage.reserve(bytes + tails.len() * prefix.len());
            let before = stage.len();
            let mut load = TrafficVolume { messages: 0, payload: payload as u64 };
            if route_target.sub.max.load(Ordering::Relaxed) == 0 {
                for tail in tails {
                    stage.extend_from_slice(prefix);
                    stage.extend_from_slice(tail);
                }
                load.messages = tails.len() as u64;
                route_target.count += load.messages;
            } else {
                load.payload = 0;
                for tail in tails {
                    if reserve_limited(&self.index, &self.rules, &route_target.sub, &mut route_target.count) {
                        stage.extend_from_slice(prefix);
                        stage.extend_from_slice(tail);
                        load += TrafficVolume { messages: 1, payload: parse::payload_of(tail) as u64 };
                    }
                }
            }
            let grown = stage.len() - before;
            self.out.added(route_target.slot, grown, load);
        }
    }

    /// Routes one message. `echo` is whether this connection wants its own.
    #[inline]
    pub(super) fn publish(&mut self, message: &Publish<'_>, echo: bool) -> Routed {
        if self.generation != self.index.generation() {
            self.forget();
        }
        let at = if self.last_route != NO_ROUTE && message.subject == &self.last_subject[..] {
            self.last_route
        } else {
            match self.look_up(message.subject, echo) {
                Some(at) => at,
                None => return self.publish_once(message, echo),
            }
        };
        let route = &mut self.routes[at];
        mark(route, at, &mut self.counted);
        let mut delivered = false;
        for route_target in &mut route.plain {
            if reserve(&self.index, &self.rules, &route_target.sub, &mut route_target.count) {
                self.out.put(route_target.slot, &route_target.prefix, message);
                delivered = true;
            }
        }
        for group in &mut route.groups {
            let len = group.len();
            let first = pick(&mut self.random, len);
            // A member that has just ended passes its turn on.
            for n in 0..len {
                let route_target = &mut group[(first + n) % len];
                if reserve(&self.index, &self.rules, &route_target.sub, &mut route_target.count) {
                    self.out.put(route_target.slot, &route_target.prefix, message);
                    delivered = true;
                    break;
                }
            }
        }
        delivered.into()
    }

    /// Finds or makes the route of a subject; `None` when it is not worth remembering.
    fn look_up(&mut self, subject: &[u8], echo: bool) -> Option<usize> {
        let at = match self.known.get(subject) {
            Some(at) => *at as usize,
            None => {
                let hash = self.hasher.hash_one(subject);
                if self.doorman.is_empty() {
                    self.doorman = vec![0; DOORMAN].into_boxed_slice();
                }
                let seen = &mut self.doorman[hash as usize % DOORMAN];
                let mark = (hash >> 32) as u32 | 1;
                if *seen != mark {
                    *seen = mark;
                    return None;
                }
                self.remember(subject, echo)
            }
        };
        self.last_subject.clear();
        self.last_subject.extend_from_slice(subject);
        self.last_route = at;
        Some(at)
    }

    fn remember(&mut self, subject: &[u8], echo: bool) -> usize {
        if self.routes.len() >= MAX_ROUTES || self.route_targets >= MAX_LEGS {
            self.forget();
        }
        let mut found = std::mem::take(&mut self.found);
        self.index.search(subject, &mut found);
        let mut route = Route::default();
        let own = self.out.own().id;
        let route_target = |router: &mut Self, sub: &Arc<Subscription>| {
            let mut prefix = Vec::with_capacity(7 + subject.len() + sub.sid.len());
            prefix.extend_from_slice(b"HMSG ");
            prefix.extend_from_slice(subject);
            prefix.push(b' ');
            prefix.extend_from_slice(&sub.sid);
            prefix.push(b' ');
            RouteTarget { slot: router.out.slot(&sub.outlet), count: 0, sub: Arc::clone(sub), prefix: prefix.into() }
        };
        let wanted = |sub: &&Arc<Subscription>| (echo || sub.outlet.id != own) && sub.outlet.may_have(subject);
        for sub in found.plain.iter().filter(wanted) {
            let route_target = route_target(self, sub);
            route.plain.push(route_target);
        }
        for members in found.queued.chunk_by(|a, b| a.queue == b.queue) {
            let group: Vec<RouteTarget> = members.iter().filter(wanted).map(|sub| route_target(self, sub)).collect();
            if !group.is_empty() {
                route.groups.push(group);
            }
        }
        found.clear();
        self.found = found;
        // Filled target by target, one target must not have two subscriptions, nor answers in
        // between.
        let mut slots: Vec<u32> = route.plain.iter().map(|route_target| route_target.slot).collect();
        slots.sort_unstable();
        route.simple = route.groups.is_empty() && slots.first() != Some(&0) && slots.windows(2).all(|w| w[0] != w[1]);
        self.route_targets += route.plain.len() + route.groups.iter().map(Vec::len).sum::<usize>();
        let at = self.routes.len();
        self.routes.push(route);
        self.known.insert(subject.into(), at as u32);
        at
    }

    /// Routes a message whose subject is not remembered.
    fn publish_once(&mut self, message: &Publish<'_>, echo: bool) -> Routed {
        let mut found = std::mem::take(&mut self.found);
        self.index.search(message.subject, &mut found);
        let own = self.out.own().id;
        let mut prefix = self.rules.pool.take();
        let mut send = |router: &mut Self, sub: &Arc<Subscription>| {
            let mut count = 0;
            let barred = (!echo && sub.outlet.id == own) || !sub.outlet.may_have(message.subject);
            if barred || !reserve(&router.index, &router.rules, sub, &mut count) {
                return false;
            }
            sub.delivered.fetch_add(count, Ordering::SeqCst);
            prefix.clear();
            for part in [&b"HMSG "[..], message.subject, b" ", &sub.sid, b" "] {
                prefix.extend_from_slice(part);
            }
            let slot = router.out.slot(&sub.outlet);
            router.out.put(slot, &prefix, message);
            true
        };
        let mut delivered = false;
        for sub in &found.plain {
            delivered |= send(self, sub);
        }
        for members in found.queued.chunk_by(|a, b| a.queue == b.queue) {
            let first = pick(&mut self.random, members.len());
            for n in 0..members.len() {
                if send(self, &members[(first + n) % members.len()]) {
                    delivered = true;
                    break;
                }
            }
        }
        self.rules.pool.give(prefix);
        found.clear();
        self.found = found;
        delivered.into()
    }

    /// The subscriptions that a message on this subject is delivered to now: all plain ones and one
    /// of each queue group.
    pub(super) fn targets(&mut self, subject: &[u8], into: &mut Vec<Arc<Subscription>>) {
        if self.generation != self.index.generation() {
            self.forget();
        }
        let mut found = std::mem::take(&mut self.found);
        self.index.search(subject, &mut found);
        found.keep(|sub| sub.outlet.may_have(subject));
        into.extend(found.plain.iter().cloned());
        for members in found.queued.chunk_by(|a, b| a.queue == b.queue) {
            into.push(Arc::clone(&members[pick(&mut self.random, members.len())]));
        }
        found.clear();
        self.found = found;
    }

    /// Delivers a message to one subscription, unless that has had all it asked for.
    pub(super) fn deliver(&mut self, sub: &Arc<Subscription>, message: &Publish<'_>) {
        let mut count = 0;
        if !reserve(&self.index, &self.rules, sub, &mut count) {
            return;
        }
        sub.delivered.fetch_add(count, Ordering::SeqCst);
        let mut prefix = self.rules.pool.take();
        for part in [&b"HMSG "[..], message.subject, b" ", &sub.sid, b" "] {
            prefix.extend_from_slice(part);
        }
        let slot = self.out.slot(&sub.outlet);
        self.out.put(slot, &prefix, message);
        self.rules.pool.give(prefix);
    }

    /// Adds the counts kept here to the subscriptions.
    pub(super) fn settle(&mut self) {
        while let Some(at) = self.counted.pop() {
            let route = &mut self.routes[at as usize];
            route.counted = false;
            for route_target in route.plain.iter_mut().chain(route.groups.iter_mut().flatten()) {
                let count = std::mem::take(&mut route_target.count);
                if count == 0 {
                    continue;
                }
                let now = route_target.sub.delivered.fetch_add(count, Ordering::SeqCst) + count;
                let max = route_target.sub.max.load(Ordering::SeqCst);
                if max != 0 && now >= max {
                    retire(&self.index, &self.rules, &route_target.sub);
                }
            }
        }
    }

    /// Ends a batch: settles, commits, and forgets what no longer holds.
    pub(super) fn end_batch(&mut self) {
        self.settle();
        self.out.commit();
    }

    /// The targets above the high-water mark since the last call.
    pub(super) fn take_pressed(&mut self) -> Vec<Arc<Outlet>> {
        self.out.take_pressed()
    }

    /// Forgets every route, because subscriptions have changed or too many are remembered.
    fn forget(&mut self) {
        self.settle();
        self.out.commit();
        self.generation = self.index.generation();
        self.routes.clear();
        self.known.clear();
        self.route_targets = 0;
        self.last_route = NO_ROUTE;
        self.out.forget();
    }

    /// Forgets the routes even though no subscription has changed: the connection's options have.
    pub(super) fn options_changed(&mut self) {
        self.generation = 0;
    }
}

/// Notes that a route's legs have counts to settle.
#[inline]
fn mark(route: &mut Route, at: usize, counted: &mut Vec<u32>) {
    if !route.counted {
        route.counted = true;
        counted.push(at as u32);
    }
}

/// Any number below `len`: xorshift, whose only task is to spread the load of a queue group.
fn pick(random: &mut u64, len: usize) -> usize {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    (*random >> 33) as usize % len
}

/// Counts one delivery; `false` when the subscription has had all it asked for.
#[inline]
fn reserve(index: &SubscriptionIndex, rules: &OutletLimits, sub: &Arc<Subscription>, count: &mut u64) -> bool {
    if sub.max.load(Ordering::Relaxed) == 0 {
        *count += 1;
        return true;
    }
    reserve_limited(index, rules, sub, count)
}

fn reserve_limited(index: &SubscriptionIndex, rules: &OutletLimits, sub: &Arc<Subscription>, count: &mut u64) -> bool {
    let max = sub.max.load(Ordering::SeqCst);
    let add = std::mem::take(count) + 1;
    let now = sub.delivered.fetch_add(add, Ordering::SeqCst) + add;
    if now >= max {
        retire(index, rules, sub);
    }
    now <= max
}

/// Takes out a subscription that has had all it asked for, and tells its connection.
fn retire(index: &SubscriptionIndex, rules: &OutletLimits, sub: &Arc<Subscription>) {
    if index.remove(sub) {
        Counters::sub(&rules.counters.subscriptions, 1);
        sub.outlet.expire(&sub.sid);
    }
}
