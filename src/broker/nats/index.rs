//! The subscription index: which subscriptions a subject reaches.
//!
//! A trie of subject tokens with one branch for `*` and one for `>`, kept in an arena so that
//! neither matching nor dropping recurses (a control line may hold two thousand tokens). Publishers
//! do not search it for every message: they keep what they found as long as
//! [`SubscriptionIndex::generation`] stands still.
//!
//! Invariant: the generation is raised after every change and before the change is acknowledged to
//! the client, so a route found under the present generation is complete for everything
//! acknowledged before.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use memchr::memmem;

use super::outlet::Outlet;
use super::sync::{AtomicBool, AtomicU64, RwLock};

/// One subscription of one connection.
#[derive(Debug)]
pub(super) struct Subscription {
    pub outlet: Arc<Outlet>,
    pub subject: Box<[u8]>,
    pub queue: Option<Box<[u8]>>,
    pub sid: Arc<[u8]>,
    /// Messages delivered so far; publishers add what they counted at the end of a batch.
    pub delivered: AtomicU64,
    /// After how many deliveries it ends; 0 is never.
    pub max: AtomicU64,
    /// Set once, by the caller that removes it from the index.
    pub ended: AtomicBool,
}

/// What a subject reaches. Kept by the caller and filled again, so that a search allocates nothing
/// in the long run.
#[derive(Debug, Default)]
pub(super) struct MatchedSubscriptions {
    /// Subscriptions that each get a copy.
    pub plain: Vec<Arc<Subscription>>,
    /// Members of queue groups, those of one group side by side; one of each group gets a copy.
    pub queued: Vec<Arc<Subscription>>,
    stack: Vec<(u32, usize)>,
}

impl MatchedSubscriptions {
    pub(super) fn clear(&mut self) {
        self.plain.clear();
        self.queued.clear();
        self.stack.clear();
    }

    /// Leaves only the subscriptions that `wanted` accepts.
    pub(super) fn keep(&mut self, wanted: impl Fn(&Arc<Subscription>) -> bool) {
        self.plain.retain(&wanted);
        self.queued.retain(&wanted);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.queued.is_empty()
    }
}

#[derive(Debug, Default)]
struct SubjectNode {
    literals: HashMap<Box<[u8]>, u32, foldhash::fast::RandomState>,
    /// The child for `*`; 0 is none, as the root is nobody's child.
    star: u32,
    /// The child for `>`.
    tail: u32,
    plain: Vec<Arc<Subscription>>,
    queued: Vec<Arc<Subscription>>,
}

impl SubjectNode {
    fn is_unused(&self) -> bool {
        self.literals.is_empty() && self.star == 0 && self.tail == 0 && self.plain.is_empty() && self.queued.is_empty()
    }
}

#[derive(Debug)]
struct SubjectTree {
    nodes: Vec<SubjectNode>,
    free: Vec<u32>,
}

/// The index itself.
#[derive(Debug)]
pub(super) struct SubscriptionIndex {
    generation: AtomicU64,
    inserts: AtomicU64,
    removes: AtomicU64,
    tree: RwLock<SubjectTree>,
}

impl Default for SubscriptionIndex {
    fn default() -> Self {
        Self {
            generation: AtomicU64::new(1),
            inserts: AtomicU64::new(0),
            removes: AtomicU64::new(0),
            tree: RwLock::new(SubjectTree { nodes: vec![SubjectNode::default()], free: Vec::new() }),
        }
    }
}

impl SubscriptionIndex {
    /// A number that changes whenever any route may have changed.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Makes every kept route be searched again.
    pub(super) fn touch(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn insert(&self, sub: &Arc<Subscription>) {
        sub.outlet.traffic.subscriptions.fetch_add(1, Ordering::Relaxed);
        let mut tree = self.tree.write().unwrap_or_else(PoisonError::into_inner);
        let at = tree.reach(&sub.subject);
        let node = &mut tree.nodes[at as usize];
        match sub.queue {
            None => node.plain.push(Arc::clone(sub)),
            Some(_) => node.queued.push(Arc::clone(sub)),
        }
        drop(tree);
        self.inserts.fetch_add(1, Ordering::Relaxed);
        self.touch();
    }

    /// Subscriptions put in and taken out so far.
    pub(super) fn changes(&self) -> (u64, u64) {
        (self.inserts.load(Ordering::Relaxed), self.removes.load(Ordering::Relaxed))
    }

    /// Every subscription in force that `wanted` accepts.
    pub(super) fn all(&self, wanted: impl Fn(&Subscription) -> bool) -> Vec<Arc<Subscription>> {
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        let every = tree.nodes.iter().flat_map(|node| node.plain.iter().chain(&node.queued));
        every.filter(|sub| wanted(sub)).cloned().collect()
    }

    /// Takes a subscription out; `false` if somebody else already has.
    pub(super) fn remove(&self, sub: &Arc<Subscription>) -> bool {
        if sub.ended.swap(true, Ordering::AcqRel) {
            return false;
        }
        let mut tree = self.tree.write().unwrap_or_else(PoisonError::into_inner);
        tree.remove(sub);
        drop(tree);
        self.removes.fetch_add(1, Ordering::Relaxed);
        sub.outlet.traffic.subscriptions.fetch_sub(1, Ordering::Relaxed);
        self.touch();
        true
    }

    /// Everything `subject` reaches. A subject with an empty token reaches nothing, as in the real
    /// server.
    pub(super) fn search(&self, subject: &[u8], found: &mut MatchedSubscriptions) {
        found.clear();
        if subject.is_empty() || subject[0] == b'.' || subject.ends_with(b".") || memmem::find(subject, b"..").is_some()
        {
            return;
        }
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        tree.search(subject, found);
        drop(tree);
        if found.queued.len() > 1 {
            // The same group may be subscribed to through several patterns: its members belong
            // together.
            found.queued.sort_by(|a, b| a.queue.cmp(&b.queue));
        }
    }
}

impl SubjectTree {
    /// The node of a pattern, made if it is not there.
    fn reach(&mut self, pattern: &[u8]) -> u32 {
        let mut at = 0u32;
        for token in pattern.split(|b| *b == b'.') {
            let child = self.child(at, token);
            at = if child != 0 {
                child
            } else {
                let new = self.allocate();
                let node = &mut self.nodes[at as usize];
                match token {
                    b"*" => node.star = new,
                    b">" => node.tail = new,
                    _ => {
                        node.literals.insert(token.into(), new);
                    }
                }
                new
            };
        }
        at
    }

    fn child(&self, at: u32, token: &[u8]) -> u32 {
        let node = &self.nodes[at as usize];
        match token {
            b"*" => node.star,
            b">" => node.tail,
            _ => node.literals.get(token).copied().unwrap_or(0),
        }
    }

    fn allocate(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.nodes.push(SubjectNode::default());
            u32::try_from(self.nodes.len() - 1).expect("four thousand million nodes do not fit in memory")
        })
    }

    fn remove(&mut self, sub: &Arc<Subscription>) {
        let mut path = Vec::new();
        let mut at = 0u32;
        for token in sub.subject.split(|b| *b == b'.') {
            let child = self.child(at, token);
            if child == 0 {
                return;
            }
            path.push((at, token));
            at = child;
        }
        let node = &mut self.nodes[at as usize];
        let list = if sub.queue.is_some() { &mut node.queued } else { &mut node.plain };
        if let Some(place) = list.iter().position(|other| Arc::ptr_eq(other, sub)) {
            list.swap_remove(place);
        }
        while let Some((parent, token)) = path.pop() {
            if !self.nodes[at as usize].is_unused() {
                break;
            }
            let node = &mut self.nodes[parent as usize];
            match token {
                b"*" => node.star = 0,
                b">" => node.tail = 0,
                _ => {
                    node.literals.remove(token);
                }
            }
            self.nodes[at as usize] = SubjectNode::default();
            self.free.push(at);
            at = parent;
        }
    }

    fn search(&self, subject: &[u8], found: &mut MatchedSubscriptions) {
        // Each entry is a node and where the rest of the subject begins. Only a node with both a
        // matching literal and a `*` branches, so the stack stays small; it is bounded by the nodes
        // of the tree in any case.
        found.stack.push((0, 0));
        while let Some((mut at, mut from)) = found.stack.pop() {
            loop {
                let node = &self.nodes[at as usize];
                let rest = &subject[from..];
                let end = memchr::memchr(b'.', rest).unwrap_or(rest.len());
                if node.tail != 0 {
                    self.take(node.tail, found);
                }
                let literal = node.literals.get(&rest[..end]).copied().unwrap_or(0);
                let star = node.star;
                if end == rest.len() {
                    for child in [literal, star] {
                        if child != 0 {
                            self.take(child, found);
                        }
                    }
                    break;
                }
                from += end + 1;
                at = match (literal, star) {
                    (0, 0) => break,
                    (0, one) | (one, 0) => one,
                    (one, other) => {
                        found.stack.push((other, from));
                        one
                    }
                };
            }
        }
    }

    fn take(&self, at: u32, found: &mut MatchedSubscriptions) {
        let node = &self.nodes[at as usize];
        found.plain.extend(node.plain.iter().cloned());
        found.queued.extend(node.queued.iter().cloned());
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
