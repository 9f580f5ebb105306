//! The log of injected events: one JSON object a line, so that truth can be joined to measurement.
//!
//! | key | meaning |
//! |---|---|
//! | `at` | when it was over, ns on CLOCK_MONOTONIC |
//! | `event` | `stall`, `service`, `rate-cap`, `delay`, `drop`, `duplicate`, `swap`, `corrupt`, `disconnect`, `half-open`, `stop-reading`, `released`, `slow-subscriber`; of single deliveries `delivery-drop`, `delivery-duplicate`, `delivery-swap`, `delivery-corrupt`, `delivery-released` |
//! | `delivery`, `to` | number of the delivery, from 1, and the connection that it was for, where it is one delivery that was hit |
//! | `n` | number of the message it hit, from 1 |
//! | `arrived` | when the broker got that message |
//! | `from` | when the stall, the work or the wait began, where it took time |
//! | `ns` | how long it really took, where it took time |
//! | `late` | how much later than told it was over, ns: what the host did to the server; part of `ns` |
//! | `subject` | of the message |
//! | `head` | the first 44 bytes of its payload, in hexadecimal |
//!
//! Two events hit no message and have only `at`, `event` and `what`: `refuse` (a connection) and
//! `control` (the faults from then on).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::OwnedMessage;
use crate::units::Nanos;

/// Bytes of the payload that are logged: enough to identify a message by the stamps of its sender.
const HEAD: usize = 44;

/// How long an event took.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct StageTimes {
    /// When it began.
    pub from: Nanos,
    /// How long it really took.
    pub ns: Nanos,
    /// Of that, what it was not told to.
    pub late: Nanos,
}

/// The delivery that was hit.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct DeliveryTarget {
    /// Its number.
    pub delivery: u64,
    pub connection: u64,
}

/// The log, where one is wanted.
pub(in crate::broker) struct Journal {
    out: Option<BufWriter<File>>,
    dirty: bool,
}

impl Journal {
    /// A log in this file, which is made anew, or none.
    pub(in crate::broker) fn create(path: Option<&Path>) -> io::Result<Self> {
        let out = path.map(File::create).transpose()?.map(|file| BufWriter::with_capacity(1 << 20, file));
        Ok(Self { out, dirty: false })
    }

    /// Notes an event of a single delivery of message `n`.
    pub(in crate::broker) fn delivery(
        &mut self,
        at: Nanos,
        event: &str,
        n: u64,
        took: Option<StageTimes>,
        owned: &OwnedMessage,
        to: DeliveryTarget,
    ) {
        let Some(out) = &mut self.out else { return };
        self.dirty = true;
        let _ = line(out, at, event, n, took, owned, Some(to));
    }

    /// Notes an event that hits no message.
    pub(in crate::broker) fn other(&mut self, at: Nanos, event: &str, what: &str) {
        let Some(out) = &mut self.out else { return };
        self.dirty = true;
        let _ = writeln!(out, r#"{{"at":{at},"event":"{event}","what":{}}}"#, serde_json::Value::from(what));
    }

    /// Notes an event, and how long it took, where it took time.
    pub(in crate::broker) fn note(
        &mut self,
        at: Nanos,
        event: &str,
        n: u64,
        took: Option<StageTimes>,
        owned: &OwnedMessage,
    ) {
        let Some(out) = &mut self.out else { return };
        self.dirty = true;
        // A full disk ends the log, not the broker; readers of the log see that its end is missing.
        let _ = line(out, at, event, n, took, owned, None);
    }

    /// Hands everything to the file.
    pub(in crate::broker) fn flush(&mut self) {
        if std::mem::take(&mut self.dirty)
            && let Some(out) = &mut self.out
        {
            let _ = out.flush();
        }
    }
}

fn line(
    out: &mut impl Write,
    at: Nanos,
    event: &str,
    n: u64,
    took: Option<StageTimes>,
    owned: &OwnedMessage,
    to: Option<DeliveryTarget>,
) -> io::Result<()> {
    write!(out, r#"{{"at":{at},"event":"{event}","n":{n},"arrived":{}"#, owned.arrived)?;
    if let Some(StageTimes { from, ns, late }) = took {
        write!(out, r#","from":{from},"ns":{ns},"late":{late}"#)?;
    }
    if let Some(DeliveryTarget { delivery, connection }) = to {
        write!(out, r#","delivery":{delivery},"to":{connection}"#)?;
    }
    let subject = serde_json::Value::from(String::from_utf8_lossy(owned.subject()));
    write!(out, r#","subject":{subject},"head":""#)?;
    let mut hex = [0u8; 2 * HEAD];
    let head = &owned.payload()[..owned.payload().len().min(HEAD)];
    for (byte, pair) in head.iter().zip(hex.chunks_exact_mut(2)) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out.write_all(&hex[..2 * head.len()])?;
    out.write_all(b"\"}\n")
}
