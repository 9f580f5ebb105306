//! The partition or subject ("lane") of a message, by its number: outages are told apart by it.

use crate::load::keys::KeyChooser;

/// The lane of a message is its key where messages have one: a subject, or whatever partition the
/// system puts the key in. Otherwise it is its channel.
#[derive(Debug, Clone)]
pub struct Lanes {
    pub channels: u64,
    pub keys: Option<KeyChooser>,
}

impl Lanes {
    /// The lane of a message.
    #[inline]
    pub fn of(&self, producer: u32, sequence: u64) -> u64 {
        match &self.keys {
            None if self.channels == 1 => 0,
            None => sequence % self.channels,
            Some(keys) => keys.of(producer, sequence),
        }
    }

    /// How many lanes there are.
    pub fn count(&self) -> u64 {
        self.keys.as_ref().map_or(self.channels, KeyChooser::count)
    }
}

/// The lanes of one producer, and its schedule so far: every message that was due has the next
/// number, whether it is sent or not.
#[derive(Debug)]
pub struct ProducerLanes {
    pub lanes: Lanes,
    pub producer: u32,
    next: u64,
}

impl ProducerLanes {
    pub fn new(lanes: Lanes, producer: u32) -> Self {
        Self { lanes, producer, next: 0 }
    }

    /// The lane of a message that was sent.
    #[inline]
    pub fn of(&self, sequence: u64) -> u64 {
        self.lanes.of(self.producer, sequence)
    }

    /// The lane of the next message that is due.
    pub fn next_due(&mut self) -> u64 {
        let lane = self.of(self.next);
        self.next += 1;
        lane
    }
}
