//! What one router has gathered for each target during a batch.
//!
//! Invariant: at most [`MAX_STAGED`] bytes (and one message's copies) are gathered before they are
//! committed, whatever the fan-out; buffers come from the pool when a target is first written to
//! and go back when it is committed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;

use super::outlet::{Outlet, OutletLimits};
use super::parse::Publish;
use super::traffic::TrafficVolume;

/// Bytes gathered at most before they are committed in the middle of a batch.
const MAX_STAGED: usize = 1 << 20;

/// What is gathered for one target.
struct StageSlot {
    outlet: Arc<Outlet>,
    stage: Vec<u8>,
    load: TrafficVolume,
}

/// Everything gathered by one router.
pub(super) struct Stages {
    rules: Arc<OutletLimits>,
    /// Slot 0 is this connection's own.
    slots: Vec<StageSlot>,
    slot_of: HashMap<u64, u32, RandomState>,
    dirty: Vec<u32>,
    staged: usize,
    /// Targets above the high-water mark after the last commit.
    pressed: Vec<Arc<Outlet>>,
}

impl Stages {
    /// Nothing gathered; slot 0 is the connection's own.
    pub(super) fn new(rules: Arc<OutletLimits>, own: Arc<Outlet>, hasher: RandomState) -> Self {
        let mut slot_of = HashMap::with_hasher(hasher);
        slot_of.insert(own.id, 0);
        let slots = vec![StageSlot { outlet: own, stage: Vec::new(), load: TrafficVolume::default() }];
        Self { rules, slots, slot_of, dirty: Vec::new(), staged: 0, pressed: Vec::new() }
    }

    /// The connection these stages belong to.
    pub(super) fn own(&self) -> &Arc<Outlet> {
        &self.slots[0].outlet
    }

    /// Answers the connection itself.
    pub(super) fn answer(&mut self, bytes: &[u8]) {
        let slot = &mut self.slots[0];
        if slot.stage.capacity() == 0 {
            slot.stage = self.rules.pool.take();
        }
        slot.stage.extend_from_slice(bytes);
        self.staged += bytes.len();
    }

    /// The targets above the high-water mark since the last call.
    pub(super) fn take_pressed(&mut self) -> Vec<Arc<Outlet>> {
        std::mem::take(&mut self.pressed)
    }

    /// The place of a target.
    pub(super) fn slot(&mut self, outlet: &Arc<Outlet>) -> u32 {
        if let Some(slot) = self.slot_of.get(&outlet.id) {
            return *slot;
        }
        let slot = self.slots.len() as u32;
        self.slots.push(StageSlot { outlet: Arc::clone(outlet), stage: Vec::new(), load: TrafficVolume::default() });
        self.slot_of.insert(outlet.id, slot);
        slot
    }

    /// The buffer of a target, which will be committed.
    #[inline]
    pub(super) fn open(&mut self, slot: u32) -> &mut Vec<u8> {
        let target = &mut self.slots[slot as usize];
        if target.stage.is_empty() {
            if target.stage.capacity() == 0 {
                target.stage = self.rules.pool.take();
            }
            if slot != 0 {
                self.dirty.push(slot);
            }
        }
        &mut target.stage
    }

    /// Accounts for what has been put into an open buffer.
    #[inline]
    pub(super) fn added(&mut self, slot: u32, bytes: usize, load: TrafficVolume) {
        self.slots[slot as usize].load += load;
        self.staged += bytes;
        if self.staged > MAX_STAGED {
            self.commit();
        }
    }

    /// Puts one message into a target's buffer.
    #[inline]
    pub(super) fn put(&mut self, slot: u32, prefix: &[u8], message: &Publish<'_>) {
        let takes_headers = message.header_len > 0 && self.slots[slot as usize].outlet.headers.load(Ordering::Relaxed);
        let stage = self.open(slot);
        let before = stage.len();
        match message.tail {
            Some(tail) if message.header_len == 0 => write(stage, &prefix[1..], message.reply, tail),
            _ => write_general(stage, takes_headers, prefix, message),
        }
        let grown = stage.len() - before;
        // The client gets no headers it does not take.
        let left_out = if takes_headers { 0 } else { message.header_len };
        let payload = (message.payload.len() - left_out) as u64;
        self.added(slot, grown, TrafficVolume { messages: 1, payload });
    }

    /// Gives every target what is gathered for it, this connection last.
    pub(super) fn commit(&mut self) {
        self.staged = 0;
        while let Some(slot) = self.dirty.pop() {
            self.commit_slot(slot as usize);
        }
        if !self.slots[0].stage.is_empty() {
            self.commit_slot(0);
        }
    }

    fn commit_slot(&mut self, slot: usize) {
        let slot = &mut self.slots[slot];
        let pressed = slot.outlet.commit(&mut slot.stage, std::mem::take(&mut slot.load));
        self.rules.pool.give(std::mem::take(&mut slot.stage));
        if pressed {
            self.pressed.push(Arc::clone(&slot.outlet));
        }
    }

    /// Lets go of every other connection; everything has been committed.
    pub(super) fn forget(&mut self) {
        self.slots.truncate(1);
        let own = self.slots[0].outlet.id;
        self.slot_of.retain(|id, _| *id == own);
    }
}

#[inline]
fn write(stage: &mut Vec<u8>, prefix: &[u8], reply: &[u8], tail: &[u8]) {
    stage.reserve(prefix.len() + reply.len() + 1 + tail.len());
    stage.extend_from_slice(prefix);
    if !reply.is_empty() {
        stage.extend_from_slice(reply);
        stage.push(b' ');
    }
    stage.extend_from_slice(tail);
}

/// Headers, or a frame that was not written in the canonical form.
fn write_general(stage: &mut Vec<u8>, takes_headers: bool, prefix: &[u8], message: &Publish<'_>) {
    let headers = message.header_len > 0;
    if headers && takes_headers {
        if let Some(tail) = message.tail {
            return write(stage, prefix, message.reply, tail);
        }
        let reply_space: &[u8] = if message.reply.is_empty() { b"" } else { b" " };
        for part in [prefix, message.reply, reply_space, message.header_text, b" ", message.total_text, b"\r\n"] {
            stage.extend_from_slice(part);
        }
        stage.extend_from_slice(message.payload);
        stage.extend_from_slice(b"\r\n");
        return;
    }
    let body = &message.payload[message.header_len..];
    let counted;
    let size: &[u8] = if headers {
        counted = body.len().to_string();
        counted.as_bytes()
    } else {
        message.total_text
    };
    let reply_space: &[u8] = if message.reply.is_empty() { b"" } else { b" " };
    for part in [&prefix[1..], message.reply, reply_space, size, b"\r\n", body, b"\r\n"] {
        stage.extend_from_slice(part);
    }
}
