//! Appending to streams.
//!
//! Commands are gathered in the buffer of the connection and written when it is full or when
//! nothing more is due. The server answers them in their order: the oldest message in flight is the
//! one that an answer is for.

use std::collections::VecDeque;

use redis::Cmd;

use super::FIELD;
use super::connection::{FULL, RedisConnection};
use super::reply::ReplyToken;
use crate::driver::{Confirmation, DriverError, Incident, Outgoing, Producer};
use crate::units::Nanos;

/// Appends on a connection of its own.
pub struct RedisProducer {
    connection: RedisConnection,
    /// The stream of each channel.
    keys: Vec<String>,
    /// Messages that may be unanswered.
    limit: usize,
    max_length: Option<u64>,
    /// Made anew for each message; it keeps its memory.
    command: Cmd,
    /// Not answered: the token, and the number of the byte that its command ends before.
    in_flight: VecDeque<(u64, u64)>,
    /// Answered while `send` waited for room: token, when, whether it was taken.
    early: Vec<(u64, Nanos, bool)>,
    refused: bool,
}

impl RedisProducer {
    pub(super) fn new(
        connection: RedisConnection,
        keys: Vec<String>,
        (limit, max_length): (usize, Option<u64>),
    ) -> Self {
        Self {
            connection,
            keys,
            limit,
            max_length,
            command: Cmd::new(),
            in_flight: VecDeque::new(),
            early: Vec::new(),
            refused: false,
        }
    }

    /// Goes on with another connection where this one is lost. Commands that the socket has taken
    /// whole are not sent again: whether the server has treated them is not known. All others are.
    async fn mend(&mut self) -> Result<(), DriverError> {
        if !self.connection.is_down() {
            return Ok(());
        }
        self.connection.restore().await?;
        let taken = self.connection.taken();
        let unknown = self.in_flight.iter().take_while(|(_, end)| *end <= taken).count();
        if let Some((_, end)) = self.in_flight.drain(..unknown).next_back() {
            self.connection.rewind(end);
            let words = format!("{unknown} messages were not answered: the connection was lost");
            self.connection.incidents.note(Incident::Unacknowledged, words);
        } else {
            self.connection.rewind(0);
        }
        Ok(())
    }

    /// Writes all that is gathered.
    async fn push(&mut self) -> Result<(), DriverError> {
        while self.connection.write().await.is_err() {
            self.mend().await?;
        }
        Ok(())
    }

    /// Reads the answers that are here, and tells of each token when it was answered and whether
    /// its message was taken. Returns how many there were.
    fn answers(&mut self, tell: &mut impl FnMut(u64, Nanos, bool)) -> Result<usize, DriverError> {
        let mut found = 0;
        while let Some((answer, next)) = self.connection.token()? {
            let Some((token, _)) = self.in_flight.pop_front() else {
                return Err(self.connection.lost("the server answered what was not asked"));
            };
            let taken = match answer {
                ReplyToken::Error(place) => {
                    if !self.refused {
                        // The first says why; each of the others is counted where messages are.
                        self.refused = true;
                        let words = String::from_utf8_lossy(&self.connection.input()[place]).into_owned();
                        let words = format!("the server refused a message: {words}");
                        self.connection.incidents.note(Incident::Refused, words);
                    }
                    false
                }
                _ => true,
            };
            tell(token, self.connection.arrived(next), taken);
            self.connection.used(next);
            found += 1;
        }
        Ok(found)
    }

    /// Waits until a message may be sent, and keeps the answers that come meanwhile.
    async fn make_room(&mut self) -> Result<(), DriverError> {
        self.connection.incidents.backpressure();
        while self.in_flight.len() >= self.limit {
            self.push().await?;
            let timeout = self.connection.endpoint.timeout;
            if tokio::time::timeout(timeout, self.connection.fill()).await.is_err() {
                self.connection.fail(format!("no answer within {} s", timeout.as_secs_f64()));
            }
            self.mend().await?;
            let mut early = std::mem::take(&mut self.early);
            let read = self.answers(&mut |token, at, taken| early.push((token, at, taken)));
            self.early = early;
            read?;
        }
        Ok(())
    }
}

impl Producer for RedisProducer {
    fn confirms(&self) -> bool {
        true
    }

    #[inline]
    async fn send(&mut self, message: Outgoing<'_>) -> Result<(), DriverError> {
        if self.in_flight.len() >= self.limit {
            self.make_room().await?;
        }
        // Messages of one key keep to one stream.
        let channel = message.key.map_or(u64::from(message.channel), |key| key % self.keys.len() as u64);
        self.command.clear();
        self.command.arg("XADD").arg(&self.keys[channel as usize]);
        if let Some(n) = self.max_length {
            self.command.arg("MAXLEN").arg("~").arg(n);
        }
        self.command.arg("*").arg(FIELD).arg(message.payload);
        self.command.write_packed_command(&mut self.connection.out);
        self.in_flight.push_back((message.token, self.connection.given()));
        if self.connection.out.len() >= FULL {
            self.push().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), DriverError> {
        if self.connection.out.is_empty() {
            return Ok(());
        }
        self.push().await
    }

    async fn confirmed(&mut self, sink: &mut impl FnMut(Confirmation<'_>)) -> Result<(), DriverError> {
        let mut tell = |token: u64, at: Nanos, taken: bool| {
            sink(if taken { Confirmation::Acked { token, at } } else { Confirmation::Failed { token } });
        };
        let mut told = self.early.len();
        self.early.drain(..).for_each(|(token, at, taken)| tell(token, at, taken));
        loop {
            told += self.answers(&mut tell)?;
            if told > 0 {
                return Ok(());
            }
            self.push().await?;
            if self.connection.fill().await.is_err() {
                self.mend().await?;
            }
        }
    }

    async fn close(mut self) -> Result<(), DriverError> {
        let timeout = self.connection.endpoint.timeout;
        let all = async {
            while !self.in_flight.is_empty() {
                self.push().await?;
                if self.answers(&mut |_, _, _| {})? == 0 && self.connection.fill().await.is_err() {
                    self.mend().await?;
                }
            }
            Ok(())
        };
        // Closed with answers unread, the socket is reset, and the server drops what it has not
        // treated.
        tokio::time::timeout(timeout, all).await.unwrap_or_else(|_| {
            Err(DriverError::Timeout {
                action: "wait for the last acknowledgements".into(),
                url: self.connection.endpoint.url.clone(),
                seconds: timeout.as_secs_f64(),
            })
        })
    }
}
