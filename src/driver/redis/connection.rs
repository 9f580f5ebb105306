//! One connection to a Redis server: its two buffers, its login, and how another takes its place.

use std::collections::VecDeque;
use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value, cmd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::reply::{MalformedReply, ReplyScan, ReplyToken, ReplyWalk, token};
use crate::driver::{DriverError, Incidents, Target};
use crate::plan::{Address, Protocol};
use crate::units::{Nanos, now};

/// What is gathered is written at this size.
pub(super) const FULL: usize = 64 * 1024;
/// Room of the input at the start; it grows with the answers.
const ROOM: usize = 256 * 1024;
/// Pause before another connection is tried.
const PAUSE: Duration = Duration::from_millis(20);

/// How the parts of an address are found. What may be written, its type of system says.
const PROTOCOL: Protocol = Protocol {
    schemes: &[("redis", false)],
    reached: "redis://",
    port: 6379,
    server: "host",
    expected: "write redis://host:port",
    instead: &[],
    token: false,
    nameless: true,
    each: true,
};

/// Where and as whom clients connect.
#[derive(Debug)]
pub(super) struct RedisEndpoint {
    address: Address,
    /// Without credentials.
    pub(super) url: String,
    /// Bound on a connection, with its login, and on administrative requests.
    pub(super) timeout: Duration,
}

impl RedisEndpoint {
    pub(super) fn of(target: &Target) -> Result<Arc<Self>, DriverError> {
        match Address::read(&PROTOCOL, &target.url) {
            Ok(address) => Ok(Arc::new(Self { url: address.bare(&PROTOCOL), address, timeout: target.timeout })),
            Err(error) => Err(DriverError::Connect {
                url: "an address that cannot be read".into(),
                words: error.words,
                remedy: error.remedy,
            }),
        }
    }

    /// Connects and logs in; waits without a bound.
    async fn dial(&self, name: &str) -> Result<TcpStream, String> {
        let server = self.address.servers.first().ok_or("the url names no server")?;
        let connecting = TcpStream::connect((server.host.as_str(), server.port)).await;
        let mut stream = connecting.map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let mut hello = Vec::new();
        if let Some(password) = &self.address.password {
            cmd("AUTH").arg(self.address.user.as_ref()).arg(password).write_packed_command(&mut hello);
        }
        cmd("CLIENT").arg("SETNAME").arg(name).write_packed_command(&mut hello);
        // A server that is reading its files answers with LOADING.
        cmd("PING").write_packed_command(&mut hello);
        stream.write_all(&hello).await.map_err(|e| e.to_string())?;
        let commands = 2 + usize::from(self.address.password.is_some());
        let (mut input, mut at) = (Vec::new(), 0);
        for _ in 0..commands {
            at = loop {
                match token(&input, at).map_err(|MalformedReply(words)| words)? {
                    None => match stream.read_buf(&mut input).await {
                        Ok(0) => return Err("the server closed the connection".into()),
                        Ok(_) => {}
                        Err(error) => return Err(error.to_string()),
                    },
                    Some((ReplyToken::Error(place), next)) => {
                        let words = String::from_utf8_lossy(&input[place]).into_owned();
                        // A user that may do little else may do what the load needs.
                        if !words.starts_with("NOPERM") {
                            return Err(words);
                        }
                        break next;
                    }
                    Some((_, next)) => break next,
                }
            };
        }
        Ok(stream)
    }
}

type Dialing = Pin<Box<dyn Future<Output = Result<TcpStream, String>> + Send>>;

enum LinkState {
    Up(TcpStream),
    /// Since when, and why; the attempt that is under way goes on when a wait for it is dropped.
    Down {
        since: Nanos,
        words: String,
        attempt: Option<Dialing>,
    },
}

/// The connection is gone: [`RedisConnection::restore`] makes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

pub(super) struct RedisConnection {
    pub(super) endpoint: Arc<RedisEndpoint>,
    name: &'static str,
    link: LinkState,
    pub(super) incidents: Incidents,
    /// What is to be written. Emptied when all of it is.
    pub(super) out: Vec<u8>,
    /// Of `out`, already written.
    written: usize,
    /// Bytes that were in `out` before its first one.
    base: u64,
    /// What has been read and not yet used is `input[from..to]`.
    input: Vec<u8>,
    from: usize,
    to: usize,
    /// Where each read ended in `input` that has brought something of what is there, and when it
    /// returned.
    reads: VecDeque<(usize, Nanos)>,
    scan: ReplyScan,
}

impl RedisConnection {
    pub(super) async fn open(
        endpoint: &Arc<RedisEndpoint>,
        incidents: &Incidents,
        name: &'static str,
    ) -> Result<Self, DriverError> {
        let failed = |words: String| DriverError::Connect {
            url: endpoint.url.clone(),
            words,
            remedy: "check that the server runs there, and the credentials in the url".into(),
        };
        let stream = tokio::time::timeout(endpoint.timeout, endpoint.dial(name))
            .await
            .map_err(|_| failed(format!("no answer within {} s", endpoint.timeout.as_secs_f64())))?
            .map_err(failed)?;
        incidents.connected();
        Ok(Self {
            endpoint: Arc::clone(endpoint),
            name,
            link: LinkState::Up(stream),
            incidents: incidents.clone(),
            out: Vec::with_capacity(2 * FULL),
            written: 0,
            base: 0,
            input: vec![0; ROOM],
            from: 0,
            to: 0,
            reads: VecDeque::new(),
            scan: ReplyScan::default(),
        })
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.link, LinkState::Down { .. })
    }

    /// Gives the connection up.
    pub(super) fn fail(&mut self, words: impl Into<String>) -> Broken {
        if !self.is_down() {
            let words = words.into();
            self.incidents.disconnected(format!("client disconnected: {words}"));
            self.link = LinkState::Down { since: now(), words, attempt: None };
        }
        Broken
    }

    /// Waits for another connection in place of a lost one, within the bound of the target. The
    /// input is empty then; `out` is for the owner to mend.
    ///
    /// # Errors
    /// [`DriverError::Lost`] when none came about.
    pub(super) async fn restore(&mut self) -> Result<(), DriverError> {
        let bound = self.endpoint.timeout;
        while let LinkState::Down { since, words, attempt } = &mut self.link {
            let left = bound.saturating_sub(Duration::from_nanos(now().saturating_sub(*since)));
            let (endpoint, name) = (Arc::clone(&self.endpoint), self.name);
            let work = attempt.get_or_insert_with(|| {
                Box::pin(async move {
                    tokio::time::sleep(PAUSE).await;
                    endpoint.dial(name).await
                })
            });
            match tokio::time::timeout(left, work).await {
                Ok(Ok(stream)) => {
                    self.link = LinkState::Up(stream);
                    self.incidents.connected();
                    (self.from, self.to, self.scan) = (0, 0, ReplyScan::default());
                    self.reads.clear();
                }
                Ok(Err(error)) => {
                    *attempt = None;
                    *words = error;
                }
                Err(_) => {
                    let seconds = bound.as_secs_f64();
                    let words = format!("{words}; no other came about within {seconds} s: see the server's log");
                    return Err(self.lost(words));
                }
            }
        }
        Ok(())
    }

    pub(super) fn lost(&self, words: impl Into<String>) -> DriverError {
        DriverError::Lost { url: self.endpoint.url.clone(), words: words.into() }
    }

    /// What the server did not do.
    pub(super) fn refused(&self, action: &str, words: impl Into<String>) -> DriverError {
        DriverError::Admin {
            action: action.into(),
            url: self.endpoint.url.clone(),
            words: words.into(),
            remedy: "see the server's log, and what its user may do".into(),
        }
    }

    /// Bytes that were ever put into `out`.
    pub(super) fn given(&self) -> u64 {
        self.base + self.out.len() as u64
    }

    /// Bytes that the socket has taken.
    pub(super) fn taken(&self) -> u64 {
        self.base + self.written as u64
    }

    /// Keeps of `out` what begins at this number of all bytes, to be written from its start.
    pub(super) fn rewind(&mut self, start: u64) {
        let before = start.saturating_sub(self.base) as usize;
        self.out.drain(..before.min(self.out.len()));
        self.base += before as u64;
        self.written = 0;
    }

    /// Empties `out`, written or not.
    pub(super) fn clear(&mut self) {
        self.base += self.out.len() as u64;
        self.out.clear();
        self.written = 0;
    }

    /// Writes everything that is gathered; counts when the socket does not take it at once.
    pub(super) async fn write(&mut self) -> Result<(), Broken> {
        while self.written < self.out.len() {
            let LinkState::Up(stream) = &self.link else { return Err(Broken) };
            match stream.try_write(&self.out[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.incidents.backpressure();
                    if let Err(e) = stream.writable().await {
                        return Err(self.fail(e.to_string()));
                    }
                }
                Err(e) => return Err(self.fail(e.to_string())),
            }
        }
        self.clear();
        Ok(())
    }

    /// Waits for more, and reads what is there, once.
    pub(super) async fn fill(&mut self) -> Result<(), Broken> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
            self.reads.clear();
        } else if self.input.len() - self.to < ROOM / 4 {
            self.input.copy_within(self.from..self.to, 0);
            self.reads.iter_mut().for_each(|(end, _)| *end -= self.from);
            (self.from, self.to) = (0, self.to - self.from);
        }
        if self.input.len() - self.to < ROOM / 4 {
            self.input.resize(self.input.len() * 2, 0);
        }
        loop {
            let LinkState::Up(stream) = &self.link else { return Err(Broken) };
            if let Err(e) = stream.readable().await {
                return Err(self.fail(e.to_string()));
            }
            match stream.try_read(&mut self.input[self.to..]) {
                Ok(0) => return Err(self.fail("the server closed it")),
                Ok(n) => {
                    let at = now();
                    self.to += n;
                    self.reads.push_back((self.to, at));
                    return Ok(());
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(self.fail(e.to_string())),
            }
        }
    }

    /// What has been read and not yet used. Places count from its start.
    pub(super) fn input(&self) -> &[u8] {
        &self.input[self.from..self.to]
    }

    /// When the read returned that brought the byte before this place.
    pub(super) fn arrived(&self, place: usize) -> Nanos {
        let end = self.from + place;
        self.reads.iter().find(|(to, _)| *to >= end).or(self.reads.back()).map_or(0, |(_, at)| *at)
    }

    /// Where the first whole answer behind `skip` ends.
    ///
    /// # Errors
    /// When what the server writes is no answer.
    pub(super) fn answer(&mut self, skip: usize) -> Result<Option<usize>, DriverError> {
        let end = self.scan.end(&self.input[self.from + skip..self.to]);
        end.map(|end| end.map(|end| skip + end)).map_err(|MalformedReply(words)| self.lost(words))
    }

    /// The answer that was found is treated; the next is looked for.
    pub(super) fn treated(&mut self) {
        self.scan = ReplyScan::default();
    }

    /// The first element, and where the next one begins.
    ///
    /// # Errors
    /// When what the server writes is no answer.
    #[inline]
    pub(super) fn token(&self) -> Result<Option<(ReplyToken, usize)>, DriverError> {
        token(self.input(), 0).map_err(|MalformedReply(words)| self.lost(words))
    }

    /// So much of the input has been used.
    #[inline]
    pub(super) fn used(&mut self, bytes: usize) {
        self.from += bytes;
        while self.reads.len() > 1 && self.reads.front().is_some_and(|(end, _)| *end <= self.from) {
            self.reads.pop_front();
        }
    }

    pub(super) fn walk(&self, at: usize) -> ReplyWalk<'_> {
        ReplyWalk { input: self.input(), at }
    }

    /// Sends a command for administration and waits for its answer, within the bound of the target.
    ///
    /// # Errors
    /// The server's own words, [`DriverError::Lost`] or [`DriverError::Timeout`].
    pub(super) async fn ask(&mut self, action: &str, command: &Cmd) -> Result<Value, DriverError> {
        command.write_packed_command(&mut self.out);
        let timeout = self.endpoint.timeout;
        let exchange = async {
            let broken = self.write().await.is_err();
            loop {
                if broken || self.is_down() {
                    return Err(self.lost("the server closed it"));
                }
                match self.answer(0)? {
                    Some(end) => {
                        let value = redis::parse_redis_value(&self.input()[..end]);
                        self.used(end);
                        self.treated();
                        let value = value.and_then(|value| value.extract_error());
                        return value.map_err(|error| self.refused(action, error.to_string()));
                    }
                    None => {
                        let _ = self.fill().await;
                    }
                }
            }
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_| {
            Err(DriverError::Timeout {
                action: action.into(),
                url: self.endpoint.url.clone(),
                seconds: timeout.as_secs_f64(),
            })
        })
    }
}
