//! Reading streams in consumer groups, on one connection.
//!
//! # Design
//! One request is under way at a time: what was accepted (XACK) goes out in one write with the next
//! read (XREADGROUP), in front of it, because a read that waits holds up what comes behind it. The
//! messages of an answer are given to the sink where they stand in the input.
//!
//! Where the connection is lost, the acknowledgements that were not answered are sent again on the
//! next one. What the server had handed out and nobody received is read again: by XAUTOCLAIM where
//! messages are claimed, otherwise from the list of what is pending for this member.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use redis::{Cmd, cmd};

use super::FIELD;
use super::connection::RedisConnection;
use super::reply::{ReplyToken, ReplyWalk};
use crate::driver::{Consumer, Disposition, DriverError, Incident, Incoming, MessageSink};
use crate::units::Nanos;

/// Longest wait of one read.
const BLOCK: Duration = Duration::from_secs(1);
/// Shortest wait of one read, and of what is left to claim.
const SHORT: Duration = Duration::from_millis(1);
/// Where streams begin, and a pass over what is pending ends.
const BEGIN: &str = "0-0";
/// Most entries of one look at what is pending between two of them.
const PENDING: usize = 100_000;

/// What a consumer reads from, and how.
pub(super) struct GroupSource {
    /// The stream of each channel.
    pub(super) keys: Vec<String>,
    /// The stream of dead letters.
    pub(super) dead: String,
    pub(super) group: String,
    pub(super) member: String,
    /// Entries of one answer, of each stream.
    pub(super) batch: usize,
    /// How long a message is pending before it is claimed.
    pub(super) claim: Option<Duration>,
    pub(super) max_deliver: u32,
}

/// One message: where its parts stand in the input.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StreamEntry {
    /// Index of its stream.
    stream: usize,
    id: Range<usize>,
    payload: Range<usize>,
    attempt: u32,
    at: Nanos,
}

/// A message on its way to the stream of dead letters.
struct PendingLetter {
    stream: usize,
    id: Vec<u8>,
    payload: Vec<u8>,
    attempt: u32,
}

/// What was asked, in the order of the answers.
enum AskedFor {
    Letter(PendingLetter),
    Acks,
    Group,
    /// New messages.
    Read,
    /// Messages that were handed out to this member before its connection was lost.
    History,
    /// What has been pending for too long, of one stream.
    Claim(usize),
    /// How often each of `claimed` was delivered.
    Attempts,
}

/// Reads on a connection of its own.
pub struct RedisConsumer {
    connection: RedisConnection,
    source: GroupSource,
    asked: VecDeque<AskedFor>,
    /// Messages of the answer at the start of the input that the sink has not got, and its length.
    rest: VecDeque<StreamEntry>,
    answer: usize,
    /// Claimed, and not known yet how often they were delivered.
    claimed: Vec<StreamEntry>,
    /// Of each stream: XACK of what was accepted and not sent, and for how many messages.
    accepted: Vec<(Cmd, usize)>,
    /// Acknowledgements that were sent and not answered, as they were written, and how many.
    unanswered: (Vec<u8>, usize),
    /// Taken, accepted by `settle`.
    held: VecDeque<(usize, Vec<u8>)>,
    letters: Vec<PendingLetter>,
    /// Of each stream, where the next pass over what is pending goes on.
    cursors: Vec<String>,
    claim_next: (usize, Instant),
    /// Of each stream, the last message that was read of what is pending for this member, while
    /// that is read.
    history: Option<Vec<String>>,
    /// Whether the connection has been lost, and whether the server then had lost the groups.
    restored: bool,
    groups_lost: bool,
}

/// The messages of one stream: `[id, [field, value...]]` each. `None` is another shape.
fn entries(
    walk: &mut ReplyWalk<'_>,
    stream: usize,
    attempt: u32,
    arrived: &impl Fn(usize) -> Nanos,
    found: &mut impl Extend<StreamEntry>,
) -> Option<()> {
    for _ in 0..walk.array()? {
        match walk.next()? {
            // Of a message that was removed from its stream.
            ReplyToken::Null => continue,
            ReplyToken::Array(2) => {}
            _ => return None,
        }
        let id = walk.text()?;
        for _ in 0..walk.array()? / 2 {
            let (name, payload) = (walk.text()?, walk.text()?);
            if walk.input[name] == *FIELD.as_bytes() {
                let at = arrived(payload.end);
                found.extend([StreamEntry { stream, id: id.clone(), payload, attempt, at }]);
            }
        }
    }
    Some(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl RedisConsumer {
    pub(super) fn new(connection: RedisConnection, source: GroupSource) -> Self {
        let streams = source.keys.len();
        let first = Instant::now() + source.claim.unwrap_or_default();
        Self {
            connection,
            asked: VecDeque::new(),
            rest: VecDeque::new(),
            answer: 0,
            claimed: Vec::new(),
            accepted: (0..streams).map(|_| (Cmd::new(), 0)).collect(),
            unanswered: (Vec::new(), 0),
            held: VecDeque::new(),
            letters: Vec::new(),
            cursors: vec![BEGIN.to_owned(); streams],
            claim_next: (0, first),
            history: None,
            restored: false,
            groups_lost: false,
            source,
        }
    }

    /// Goes on after another connection has taken the place of a lost one.
    fn resume(&mut self) {
        self.restored = true;
        self.connection.clear();
        self.claimed.clear();
        self.answer = 0;
        for asked in self.asked.drain(..) {
            if let AskedFor::Letter(letter) = asked {
                self.letters.push(letter);
            }
        }
        if self.source.claim.is_none() {
            self.history = Some(vec![BEGIN.to_owned(); self.source.keys.len()]);
        }
    }

    /// Accepts a message; the server is told with the next request.
    fn accept(source: &GroupSource, accepted: &mut [(Cmd, usize)], stream: usize, id: &[u8]) {
        let (command, messages) = &mut accepted[stream];
        if *messages == 0 {
            command.clear();
            command.arg("XACK").arg(&source.keys[stream]).arg(&source.group);
        }
        command.arg(id);
        *messages += 1;
    }

    /// Gathers the next request: what is to be told, and one question.
    fn ask(&mut self) {
        for letter in self.letters.drain(..) {
            let mut command = cmd("XADD");
            command.arg(&self.source.dead).arg("*").arg(FIELD).arg(&letter.payload[..]);
            command.write_packed_command(&mut self.connection.out);
            self.asked.push_back(AskedFor::Letter(letter));
        }
        let (bytes, commands) = &mut self.unanswered;
        for (command, messages) in self.accepted.iter_mut().filter(|(_, messages)| *messages > 0) {
            command.write_packed_command(bytes);
            *commands += 1;
            *messages = 0;
        }
        self.connection.out.extend_from_slice(bytes);
        self.asked.extend((0..*commands).map(|_| AskedFor::Acks));
        if std::mem::take(&mut self.groups_lost) {
            for key in &self.source.keys {
                group(key, &self.source.group, BEGIN).write_packed_command(&mut self.connection.out);
                self.asked.push_back(AskedFor::Group);
            }
        }
        self.question();
    }

    fn question(&mut self) {
        let GroupSource { keys, group, member, batch, claim, .. } = &self.source;
        let mut command = Cmd::new();
        if let Some((first, last)) = self.claimed.first().zip(self.claimed.last()) {
            let (input, key) = (self.connection.input(), &keys[first.stream]);
            command.arg("XPENDING").arg(key).arg(group).arg(&input[first.id.clone()]).arg(&input[last.id.clone()]);
            // Others of this member may be pending between them.
            command.arg(PENDING).arg(member);
            command.write_packed_command(&mut self.connection.out);
            return self.asked.push_back(AskedFor::Attempts);
        }
        let (stream, due) = self.claim_next;
        if let Some(after) = claim.filter(|_| due <= Instant::now()) {
            command.arg("XAUTOCLAIM").arg(&keys[stream]).arg(group).arg(member).arg(after.as_millis() as u64);
            command.arg(&self.cursors[stream]).arg("COUNT").arg(*batch);
            command.write_packed_command(&mut self.connection.out);
            return self.asked.push_back(AskedFor::Claim(stream));
        }
        command.arg("XREADGROUP").arg("GROUP").arg(group).arg(member).arg("COUNT").arg(*batch);
        if self.history.is_none() {
            let until = claim.map_or(BLOCK, |_| due.saturating_duration_since(Instant::now()));
            command.arg("BLOCK").arg(until.clamp(SHORT, BLOCK).as_millis() as u64);
        }
        command.arg("STREAMS");
        command.arg(&keys[..]);
        match &self.history {
            Some(cursors) => command.arg(&cursors[..]),
            None => command.arg(vec![">"; keys.len()]),
        };
        command.write_packed_command(&mut self.connection.out);
        self.asked.push_back(if self.history.is_some() { AskedFor::History } else { AskedFor::Read });
    }

    /// Treats the answer that ends at `end`. Returns how many dead letters were told.
    fn treat(&mut self, end: usize, sink: &mut impl MessageSink) -> Result<usize, DriverError> {
        let start = self.answer;
        let Some(asked) = self.asked.pop_front() else {
            return Err(self.connection.lost("the server answered what was not asked"));
        };
        self.connection.treated();
        let mut letters = 0;
        if let Some(ReplyToken::Error(place)) = self.connection.walk(start).next() {
            let words = text(&self.connection.input()[place]);
            self.refusal(asked, words)?;
        } else {
            match asked {
                AskedFor::Letter(letter) => {
                    let at = self.connection.arrived(end);
                    sink.dead_letter(Incoming { payload: &letter.payload, at, attempt: letter.attempt });
                    Self::accept(&self.source, &mut self.accepted, letter.stream, &letter.id);
                    letters = 1;
                }
                AskedFor::Acks | AskedFor::Group => {}
                AskedFor::Read => self.streams(start, 1)?,
                AskedFor::History => self.past(start)?,
                AskedFor::Claim(stream) => self.take_over(start, stream)?,
                AskedFor::Attempts => self.attempts(start)?,
            }
        }
        if self.asked.is_empty() {
            // All that was asked with them is answered.
            self.unanswered.0.clear();
            self.unanswered.1 = 0;
        }
        if self.rest.is_empty() && self.claimed.is_empty() {
            self.connection.used(end);
            self.answer = 0;
        } else {
            self.answer = end;
        }
        Ok(letters)
    }

    fn refusal(&mut self, asked: AskedFor, words: String) -> Result<(), DriverError> {
        let incidents = &self.connection.incidents;
        let gone = words.starts_with("NOGROUP") || words.starts_with("UNBLOCKED");
        match asked {
            // It stays pending, is claimed again, and tried again then.
            AskedFor::Letter(_) => {
                incidents.note(Incident::DeadLetter, format!("a dead letter was refused: {words}"));
                Ok(())
            }
            AskedFor::Acks => {
                incidents.note(Incident::Unacknowledged, format!("an acknowledgement was refused: {words}"));
                Ok(())
            }
            // Another member of the group was first.
            AskedFor::Group if words.starts_with("BUSYGROUP") => Ok(()),
            AskedFor::Group => Err(self.connection.refused("make a consumer group", words)),
            _ if gone && self.restored => {
                let words = format!("the server has lost the consumer group, which is made again: {words}");
                incidents.note(Incident::Server, words);
                (self.groups_lost, self.history) = (true, None);
                self.claimed.clear();
                Ok(())
            }
            AskedFor::Claim(_) | AskedFor::Attempts => Err(self.connection.refused("claim messages", words)),
            AskedFor::Read | AskedFor::History => Err(self.connection.refused("read messages", words)),
        }
    }

    fn malformed_answer(&self, what: &str) -> DriverError {
        self.connection.lost(format!("the answer to {what} has another shape than that of Redis 6.2 and later"))
    }

    /// Messages of several streams: `[key, messages]` each.
    fn streams(&mut self, start: usize, attempt: u32) -> Result<(), DriverError> {
        let Self { connection, source, rest, .. } = self;
        let mut walk = connection.walk(start);
        let arrived = |place| connection.arrived(place);
        let mut read = || {
            for _ in 0..walk.array()? {
                walk.array().filter(|n| *n == 2)?;
                let key = walk.text()?;
                let stream = source.keys.iter().position(|k| *k.as_bytes() == walk.input[key.clone()])?;
                entries(&mut walk, stream, attempt, &arrived, rest)?;
            }
            Some(())
        };
        read().ok_or_else(|| self.malformed_answer("XREADGROUP"))
    }

    /// Messages that were handed out before; when there are no more, new ones are read again.
    fn past(&mut self, start: usize) -> Result<(), DriverError> {
        self.streams(start, 2)?;
        let Some(cursors) = &mut self.history else { return Ok(()) };
        for entry in &self.rest {
            cursors[entry.stream] = text(&self.connection.input()[entry.id.clone()]);
        }
        // What is held was received.
        let (input, held) = (self.connection.input(), &self.held);
        let found = self.rest.len();
        self.rest.retain(|e| !held.iter().any(|(stream, id)| *stream == e.stream && id[..] == input[e.id.clone()]));
        if found == 0 {
            self.history = None;
        }
        Ok(())
    }

    /// Messages of one stream that were pending for too long: `[cursor, messages, removed]`.
    fn take_over(&mut self, start: usize, stream: usize) -> Result<(), DriverError> {
        let Self { connection, claimed, .. } = self;
        let mut walk = connection.walk(start);
        let arrived = |place| connection.arrived(place);
        let mut read = || {
            walk.array().filter(|n| *n >= 2)?;
            let cursor = text(&walk.input[walk.text()?]);
            entries(&mut walk, stream, 2, &arrived, claimed)?;
            Some(cursor)
        };
        let Some(cursor) = read() else { return Err(self.malformed_answer("XAUTOCLAIM")) };
        let every = self.source.claim.unwrap_or(BLOCK) / 2;
        let streams = self.source.keys.len();
        self.claim_next = match stream + 1 {
            _ if cursor != BEGIN => (stream, Instant::now() + SHORT),
            next if next < streams => (next, Instant::now()),
            _ => (0, Instant::now() + every),
        };
        self.cursors[stream] = cursor;
        Ok(())
    }

    /// How often each claimed message was delivered: `[id, member, idle, deliveries]` each, in the
    /// order of the stream, as the claimed ones are. They are given to the sink then.
    fn attempts(&mut self, start: usize) -> Result<(), DriverError> {
        let Self { connection, claimed, .. } = self;
        let mut walk = connection.walk(start);
        let mut open = claimed.iter_mut();
        let mut next = open.next();
        let mut read = || {
            for _ in 0..walk.array()? {
                walk.array().filter(|n| *n == 4)?;
                let (id, _, _, deliveries) = (walk.text()?, walk.text()?, walk.int()?, walk.int()?);
                if let Some(entry) = &mut next
                    && walk.input[entry.id.clone()] == walk.input[id]
                {
                    entry.attempt = u32::try_from(deliveries).unwrap_or(u32::MAX);
                    next = open.next();
                }
            }
            Some(())
        };
        read().ok_or_else(|| self.malformed_answer("XPENDING"))?;
        self.rest.extend(self.claimed.drain(..));
        Ok(())
    }

    /// Gives what has been read to the sink, up to `limit`.
    fn give(&mut self, sink: &mut impl MessageSink, limit: usize) -> usize {
        let count = limit.min(self.rest.len());
        if count == 0 {
            return 0;
        }
        let input = self.connection.input();
        for entry in self.rest.drain(..count) {
            let (id, payload) = (&input[entry.id], &input[entry.payload]);
            let (stream, attempt) = (entry.stream, entry.attempt);
            match sink.take(Incoming { payload, at: entry.at, attempt }) {
                Disposition::Accept | Disposition::Answer => {
                    Self::accept(&self.source, &mut self.accepted, stream, id);
                }
                Disposition::Hold => self.held.push_back((stream, id.to_vec())),
                Disposition::Reject if self.source.max_deliver > 0 && attempt >= self.source.max_deliver => {
                    self.letters.push(PendingLetter { stream, id: id.to_vec(), payload: payload.to_vec(), attempt });
                }
                // It stays pending, and is claimed when it has been so for long enough.
                Disposition::Reject | Disposition::Leave => {}
            }
        }
        if self.rest.is_empty() {
            self.connection.used(std::mem::take(&mut self.answer));
        }
        count
    }
}

/// Makes a consumer group that begins behind the message `after`, and its stream where there is
/// none.
pub(super) fn group(key: &str, group: &str, after: &str) -> Cmd {
    let mut command = cmd("XGROUP");
    command.arg("CREATE").arg(key).arg(group).arg(after).arg("MKSTREAM");
    command
}

impl Consumer for RedisConsumer {
    async fn receive(&mut self, sink: &mut impl MessageSink, limit: usize) -> Result<(), DriverError> {
        let mut given = self.give(sink, limit);
        while given == 0 {
            if self.connection.is_down() {
                self.connection.restore().await?;
                self.resume();
            }
            if self.asked.is_empty() {
                self.ask();
            }
            if self.connection.write().await.is_err() {
                continue;
            }
            match self.connection.answer(self.answer)? {
                Some(end) => given += self.treat(end, sink)?,
                // Where it is broken, that is seen above.
                None => drop(self.connection.fill().await),
            }
            given += self.give(sink, limit.saturating_sub(given));
        }
        Ok(())
    }

    fn settle(&mut self, messages: usize) -> Result<(), DriverError> {
        for (stream, id) in self.held.drain(..messages.min(self.held.len())) {
            Self::accept(&self.source, &mut self.accepted, stream, &id);
        }
        Ok(())
    }
}
