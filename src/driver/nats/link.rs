//! One connection to a NATS server through async-nats, and the words for what goes wrong on it.
//!
//! A server answers a forbidden publish or subscription with an error that belongs to no call:
//! async-nats gives it to a callback. A [`NatsLink`] keeps the first of them, and everything that
//! waits on the link looks there, so that the cause is reported and not the silence that follows
//! it. async-nats reconnects without end; a link is lost when that has not succeeded within its
//! bound.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, ServerError, Subject, Subscriber};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::watch;

use super::options::ConnectionOptions;
use crate::driver::{DriverError, IdleConnection, Incident, Incidents, Target};
use crate::plan::address::NATS;
use crate::plan::{Address, ReconnectPace};
use crate::units::{Nanos, now};

/// Messages that a subscription may hold before async-nats drops them; its default of 65,536 is 0.1
/// s at high rates.
const SUBSCRIPTION_CAPACITY: usize = 1 << 20;
/// With a fast pace: between two tries to connect; between two pings, of which the second one
/// without an answer ends the connection; and the bound on a try.
const AGAIN: Duration = Duration::from_millis(10);
const PING: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(1);
/// Payloads are cut from allocations of this size.
const SLAB: usize = 256 * 1024;
/// How often a wait looks whether the server has refused something.
pub(super) const LOOK: Duration = Duration::from_millis(5);
/// Turns that the task of the callback needs at most to run after the task of the connection has
/// called it.
pub(super) const TURNS: usize = 8;

#[derive(Debug, Clone)]
pub struct NatsLink {
    pub client: Client,
    pub url: String,
    /// Bound on requests.
    pub timeout: Duration,
    /// Incidents of its connection.
    pub incidents: Incidents,
    denied: Arc<OnceLock<String>>,
    /// When the connection was lost; 0 while there is one.
    down: Arc<AtomicU64>,
    /// How often there was one again.
    again: Arc<watch::Sender<u64>>,
}

/// Connection options whose events are noted: the first denial, and since when the connection is
/// gone.
fn watched(
    target: &Target,
    options: &ConnectionOptions,
    name: &str,
    incidents: &Incidents,
    (denied, down, again): (&Arc<OnceLock<String>>, &Arc<AtomicU64>, &Arc<watch::Sender<u64>>),
) -> ConnectOptions {
    let (log, denial, gone, again) = (incidents.clone(), denied.clone(), down.clone(), again.clone());
    let connect = ConnectOptions::new();
    let connect = if target.pinned { connect.ignore_discovered_servers() } else { connect };
    let fast = target.reconnect == ReconnectPace::Fast;
    let connect = if fast { connect.reconnect_delay_callback(|_| AGAIN).ping_interval(PING) } else { connect };
    let timeout = if fast { target.timeout.min(PATIENCE) } else { target.timeout };
    connect
        .name(name)
        .connection_timeout(timeout)
        .request_timeout(Some(target.timeout))
        .subscription_capacity(options.subscription_capacity.unwrap_or(SUBSCRIPTION_CAPACITY))
        .event_callback(move |event| {
            match event {
                Event::Connected => {
                    if gone.swap(0, Ordering::Relaxed) != 0 {
                        again.send_modify(|times| *times += 1);
                    }
                    log.connected();
                }
                Event::Disconnected => {
                    gone.store(now().max(1), Ordering::Relaxed);
                    log.disconnected("client disconnected");
                }
                // Drops are counted where messages are: these events are themselves dropped.
                Event::SlowConsumer(_) | Event::Closed | Event::Draining => {}
                Event::ServerError(error) => {
                    let words = match error {
                        ServerError::Other(words) => words,
                        other => other.to_string(),
                    };
                    if words.to_lowercase().contains("permissions violation") {
                        // Only the first counts: the others follow from it.
                        let _ = denial.set(words.clone());
                    }
                    log.note(Incident::Server, format!("the server says: {words}"));
                }
                other => log.note(Incident::Client, other.to_string()),
            }
            std::future::ready(())
        })
}

/// How soon a client connects again, in words.
pub fn pace(target: &Target) -> &'static str {
    match target.reconnect {
        // Its defaults, which it does not tell: connector.rs and options.rs of async-nats 0.51.
        ReconnectPace::Usual => "at once, then after 2 ms, twice as long each time, 4 s at most; ping every 60 s",
        ReconnectPace::Fast => "every 10 ms, each try for 1 s at most; ping every 1 s",
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub struct NotConnected {
    pub error: DriverError,
    /// Whether a server was there and refused.
    pub by_server: bool,
    /// Its words.
    pub words: Box<str>,
}

/// Whether an attempt to connect ended by what the other side said or did, and not for want of one.
fn answered(error: &async_nats::ConnectError) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, NotFound, TimedOut};
    match error.kind() {
        ConnectErrorKind::TimedOut | ConnectErrorKind::Dns | ConnectErrorKind::ServerParse => return false,
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => return true,
        _ => {}
    }
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let absent = [ConnectionRefused, HostUnreachable, NetworkUnreachable, NotFound, TimedOut];
        if error.downcast_ref::<std::io::Error>().is_some_and(|e| absent.contains(&e.kind())) {
            return false;
        }
        cause = error.source();
    }
    true
}

impl NatsLink {
    /// Connects. `name` is what the server shows for the connection.
    ///
    /// # Errors
    /// [`DriverError::Connect`] with the server's words and what to do.
    pub async fn open(
        target: &Target,
        options: &ConnectionOptions,
        incidents: &Incidents,
        name: &str,
    ) -> Result<Self, DriverError> {
        Self::reach(target, options, incidents, name).await.map_err(|not| not.error)
    }

    /// Connects, and tells a server that refuses from one that cannot be reached.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn reach(
        target: &Target,
        options: &ConnectionOptions,
        incidents: &Incidents,
        name: &str,
    ) -> Result<Self, NotConnected> {
        let denied = Arc::new(OnceLock::new());
        let down = Arc::new(AtomicU64::new(0));
        let again = Arc::new(watch::Sender::new(0));
        let mut connect = watched(target, options, name, incidents, (&denied, &down, &again));
        let failed = |words: String, remedy: &str| DriverError::Connect {
            url: without_secrets(&target.url),
            words,
            remedy: remedy.to_owned(),
        };
        let without = |error: DriverError| NotConnected { error, by_server: false, words: Box::default() };
        let unreadable = |option: &str, path: &str, e: std::io::Error| {
            without(failed(format!("option `{option}`: {path}: {e}"), FILE))
        };
        if let (Some(user), Some(password)) = (&options.user, &options.password) {
            connect = connect.user_and_password(user.clone(), password.clone());
        }
        if let Some(token) = &options.token {
            connect = connect.token(token.clone());
        }
        if let Some(path) = &options.nkey {
            let seed = std::fs::read_to_string(path).map_err(|e| unreadable("nkey", path, e))?;
            connect = connect.nkey(seed.trim().to_owned());
        }
        if let Some(path) = &options.creds {
            let creds = std::fs::read_to_string(path).map_err(|e| unreadable("creds", path, e))?;
            connect = connect.credentials(&creds).map_err(|e| unreadable("creds", path, e))?;
        }
        if let Some(path) = &options.ca {
            std::fs::metadata(path).map_err(|e| unreadable("ca", path, e))?;
            connect = connect.add_root_certificates(path.into()).require_tls(true);
        }
        if let (Some(cert), Some(key)) = (&options.cert, &options.key) {
            for (option, path) in [("cert", cert), ("key", key)] {
                std::fs::metadata(path).map_err(|e| unreadable(option, path, e))?;
            }
            connect = connect.add_client_certificate(cert.into(), key.into()).require_tls(true);
        }
        let address = without_secrets(&target.url);
        let servers: Vec<&str> = address.split(',').collect();
        match tokio::time::timeout(target.timeout + Duration::from_secs(1), connect.connect(servers)).await {
            Ok(Ok(client)) => Ok(Self {
                client,
                url: without_secrets(&target.url),
                timeout: target.timeout,
                incidents: incidents.clone(),
                denied,
                down,
                again,
            }),
            Ok(Err(error)) => {
                let words = chain(&error);
                let remedy = remedy(error.kind(), &words);
                let by_server = answered(&error);
                Err(NotConnected { words: words.clone().into(), error: failed(words, remedy), by_server })
            }
            Err(_) => {
                let seconds = target.timeout.as_secs_f64();
                Err(without(failed(format!("no answer within {seconds} s"), START)))
            }
        }
    }

    /// Says whenever the connection is there again after it was lost.
    pub fn again(&self) -> watch::Receiver<u64> {
        self.again.subscribe()
    }

    /// The first thing that the server has forbidden, in its words.
    pub fn denied(&self) -> Option<&str> {
        self.denied.get().map(String::as_str)
    }

    /// The error that ends a producer or consumer, if the server has forbidden what it does or has
    /// been gone for too long.
    ///
    /// # Errors
    /// [`DriverError::Admin`], [`DriverError::Lost`].
    #[inline]
    pub fn check(&self) -> Result<(), DriverError> {
        if let Some(words) = self.denied.get() {
            return Err(self.refused("use the system", words.clone(), PERMISSIONS));
        }
        match self.down.load(Ordering::Relaxed) {
            0 => Ok(()),
            since => self.still_down(since),
        }
    }

    #[cold]
    fn still_down(&self, since: Nanos) -> Result<(), DriverError> {
        if Duration::from_nanos(now().saturating_sub(since)) <= self.timeout {
            return Ok(());
        }
        let seconds = self.timeout.as_secs_f64();
        Err(self
            .lost(format!("the server closed it, and no other came about within {seconds} s; see the server's log")))
    }

    /// An error of administration at this server.
    pub fn refused(&self, action: &str, words: String, remedy: &str) -> DriverError {
        DriverError::Admin { action: action.to_owned(), url: self.url.clone(), words, remedy: remedy.to_owned() }
    }

    /// The connection is of no more use.
    pub fn lost(&self, words: impl ToString) -> DriverError {
        DriverError::Lost { url: self.url.clone(), words: words.to_string() }
    }

    /// Waits for `work` as long as [`NatsLink::check`] finds nothing.
    ///
    /// # Errors
    /// As of [`NatsLink::check`].
    pub async fn while_connected<T>(&self, work: impl Future<Output = T>) -> Result<T, DriverError> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = tokio::time::sleep(LOOK) => self.check()?,
            }
        }
    }

    /// Waits for `work` within the bound of the target, and no longer than the server permits it.
    ///
    /// # Errors
    /// [`DriverError::Timeout`], and [`DriverError::Admin`] when the server forbade something
    /// meanwhile.
    pub async fn within<T>(&self, action: &str, work: impl Future<Output = T>) -> Result<T, DriverError> {
        self.within_time(action, self.timeout, work).await
    }

    /// The same with a bound of its own.
    ///
    /// # Errors
    /// Those of [`NatsLink::within`].
    pub async fn within_time<T>(
        &self,
        action: &str,
        bound: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, DriverError> {
        match tokio::time::timeout(bound, self.while_connected(work)).await {
            Ok(done) => done,
            Err(_) => {
                Err(DriverError::Timeout { action: action.into(), url: self.url.clone(), seconds: bound.as_secs_f64() })
            }
        }
    }

    /// Subscribes, and returns when the server routes to the subscription: a server treats the
    /// commands of one connection in order, so that a message of our own that comes back is a
    /// barrier.
    ///
    /// # Errors
    /// When the server does not permit it, or does not answer within the bound.
    pub async fn subscribe(&self, subject: String, group: Option<String>) -> Result<Subscriber, DriverError> {
        let subject = Subject::from(subject);
        let failed = |words: String| self.refused("subscribe", words, PERMISSIONS);
        let subscriber = match group {
            None => self.client.subscribe(subject).await.map_err(|e| failed(e.to_string()))?,
            Some(group) => self.client.queue_subscribe(subject, group).await.map_err(|e| failed(e.to_string()))?,
        };
        self.barrier().await?;
        Ok(subscriber)
    }

    /// Subscribes, and keeps the connection with nothing on it.
    ///
    /// # Errors
    /// As [`NatsLink::subscribe`].
    pub async fn idle(self, subject: String) -> Result<IdleConnection, DriverError> {
        let subscriber = self.subscribe(subject, None).await?;
        Ok(Box::pin(async move {
            let _kept = subscriber;
            loop {
                tokio::time::sleep(self.timeout).await;
                if let Err(error) = self.check() {
                    return error;
                }
            }
        }))
    }

    /// Returns when the server has treated everything that was sent before.
    ///
    /// # Errors
    /// As [`NatsLink::subscribe`].
    pub async fn barrier(&self) -> Result<(), DriverError> {
        // A subject that only we know: what others subscribe to neither delays nor answers it.
        let subject = Subject::from(format!("mb.barrier.{}", self.client.new_inbox().trim_start_matches("_INBOX.")));
        let failed = |words: String| self.refused("wait for the server to catch up", words, PERMISSIONS);
        let mut own = self.client.subscribe(subject.clone()).await.map_err(|e| failed(e.to_string()))?;
        self.client.publish(subject, Bytes::new()).await.map_err(|e| failed(e.to_string()))?;
        if self.within("wait for the server to catch up", own.next()).await?.is_none() {
            return Err(self.lost("the connection was closed"));
        }
        own.unsubscribe().await.map_err(|e| failed(e.to_string()))?;
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        self.check()
    }

    /// Sends a message, counting it as back-pressure when the client's queue is full.
    ///
    /// # Errors
    /// As of [`crate::driver::Producer::send`].
    pub async fn publish(
        &self,
        subject: Subject,
        reply: Option<Subject>,
        headers: Option<&HeaderMap>,
        payload: Bytes,
    ) -> Result<(), DriverError> {
        use futures_util::FutureExt;
        self.check()?;
        let client = &self.client;
        let publish = async {
            match (reply, headers) {
                (None, None) => client.publish(subject, payload).await,
                (Some(reply), None) => client.publish_with_reply(subject, reply, payload).await,
                (None, Some(h)) => client.publish_with_headers(subject, h.clone(), payload).await,
                (Some(reply), Some(h)) => {
                    client.publish_with_reply_and_headers(subject, reply, h.clone(), payload).await
                }
            }
        };
        // Without the runtime's budget, which would have a send wait that has room.
        let mut publish = std::pin::pin!(tokio::task::unconstrained(publish));
        // The first poll succeeds unless the client's queue is full; only then is the wait worth
        // counting.
        let done = match publish.as_mut().now_or_never() {
            Some(done) => done,
            None => {
                self.incidents.backpressure();
                self.while_connected(publish).await?
            }
        };
        done.map_err(|e| match e.kind() {
            async_nats::PublishErrorKind::Send => self.lost(e),
            _ => DriverError::Refused { words: chain(&e) },
        })
    }
}

/// What every message with headers carries: `n` of them, 16 bytes each beside the name.
pub fn headers(n: u32) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for i in 0..n {
        map.insert(format!("Msgbench-{i}"), format!("{i:016x}"));
    }
    (n > 0).then_some(map)
}

/// Bytes that the headers of a message take on the wire.
pub fn header_bytes(headers: Option<&HeaderMap>) -> u64 {
    let Some(headers) = headers else { return 0 };
    let line = |(name, values): (&async_nats::HeaderName, &Vec<async_nats::HeaderValue>)| -> u64 {
        let name: &str = name.as_ref();
        values.iter().map(|v| (name.len() + ": ".len() + v.as_str().len() + "\r\n".len()) as u64).sum()
    };
    ("NATS/1.0\r\n".len() + "\r\n".len()) as u64 + headers.iter().map(line).sum::<u64>()
}

/// Cuts payloads and subjects from large allocations.
#[derive(Debug, Default)]
pub struct BufferArena(BytesMut);

impl BufferArena {
    /// A copy of `bytes`.
    pub fn cut(&mut self, bytes: &[u8]) -> Bytes {
        self.room(bytes.len());
        self.0.extend_from_slice(bytes);
        self.0.split().freeze()
    }
    /// `prefix` followed by `number` in decimal, as a subject.
    pub fn subject(&mut self, prefix: &[u8], mut number: u64) -> Subject {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.room(prefix.len() + digits.len());
        self.0.extend_from_slice(prefix);
        self.0.extend_from_slice(&digits[at..]);
        Subject::from_utf8(self.0.split().freeze()).unwrap_or_else(|_| Subject::from_static("mb.invalid"))
    }
    fn room(&mut self, bytes: usize) {
        if self.0.capacity() - self.0.len() < bytes && !self.0.try_reclaim(SLAB.max(bytes)) {
            self.0 = BytesMut::with_capacity(SLAB.max(bytes));
        }
    }
}

const START: &str = "check that the server runs there";
const FILE: &str = "give the path of a file that can be read";
const PERMISSIONS: &str = "give the user the permission in the server's configuration, or use another user";
const CREDENTIALS: &str = "the server wants other credentials: see the options user and password, token, nkey, creds";
const PLAIN: &str = "the server speaks no TLS: remove the options ca, cert and key, or configure it";
const CERTIFICATES: &str = "option `ca` must name the certificate that signed the server's; where the server verifies clients, `cert` and `key` \
     one that it accepts";

fn remedy(kind: ConnectErrorKind, words: &str) -> &'static str {
    let words = words.to_lowercase();
    let about_tls = ["certificate", "tls", "alert", "handshake"].iter().any(|w| words.contains(w));
    match kind {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => CREDENTIALS,
        _ if words.contains("corrupt message") => PLAIN,
        ConnectErrorKind::Tls => CERTIFICATES,
        _ if about_tls => CERTIFICATES,
        _ if words.contains("maximum connections") => "raise max_connections of the server, or use fewer connections",
        _ => START,
    }
}

/// An error and its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if more.contains(&words) {
            words = more;
        } else if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}

/// The URL without user and password: errors are printed and kept.
pub(in crate::driver) fn without_secrets(url: &str) -> String {
    let read = Address::read(&NATS, url);
    read.map_or_else(|_| "an address that cannot be read".to_owned(), |a| a.bare(&NATS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_end_in_their_number() {
        let mut arena = BufferArena::default();
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            assert_eq!(arena.subject(b"a.b.", number).as_str(), format!("a.b.{number}"));
        }
        assert_eq!(arena.cut(b"xyz"), "xyz");
        assert_eq!(arena.cut(&vec![1; SLAB * 2]).len(), SLAB * 2);
    }

    #[test]
    fn headers_take_the_bytes_that_they_take() {
        assert!(headers(0).is_none());
        assert_eq!(header_bytes(None), 0);
        // NATS/1.0 + CRLF, "Msgbench-0: " + 16 digits + CRLF, CRLF
        assert_eq!(header_bytes(headers(1).as_ref()), 10 + 30 + 2);
    }

    #[test]
    fn secrets_are_left_out_of_urls() {
        assert_eq!(without_secrets("nats://me:pw@h:1, tls://h:2"), "nats://h:1,tls://h:2");
    }
}
