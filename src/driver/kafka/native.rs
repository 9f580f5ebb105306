//! The part of librdkafka's C interface that the measured path needs, made safe.
//!
//! rdkafka's own types wait by blocking a thread, by polling on a timer or by a future for each
//! message. Here a client's queue rings an eventfd when it is no longer empty
//! (`rd_kafka_queue_io_event_enable`), so that the generator's single-threaded runtime waits for
//! librdkafka as it waits for a socket, and takes everything there is in one call.
//!
//! Invariant: a queue or topic handle goes before its client (each holds it by `Arc`), and a queue
//! is silenced before the eventfd it rings is closed. librdkafka's handles may be used from any
//! thread (its INTRODUCTION.md, "Threads and callbacks").

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaRespErr as Code;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::health::ConnectionHealth;

/// Settings of a client under librdkafka's own names, and [`TOKEN`].
pub(super) type ClientSettings = BTreeMap<String, String>;

/// What a token for SASL OAUTHBEARER is kept under: librdkafka takes it by a call of its own.
pub(super) const TOKEN: &str = "oauthbearer token";
/// How long librdkafka is told that a token is good, in milliseconds: longer than any trial,
/// because it is not renewed. The broker knows better.
const TOKEN_LIFE_MS: i64 = 24 * 3600 * 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientKind {
    Producer,
    Consumer,
}

/// One librdkafka client with its threads and connections.
#[derive(Debug)]
pub(super) struct NativeClient {
    raw: NonNull<rd::rd_kafka_t>,
    // Boxed: librdkafka holds its address.
    health: Box<ConnectionHealth>,
}

// SAFETY: librdkafka's client handle may be used from any thread at the same time, and Trouble is
// Sync.
unsafe impl Send for NativeClient {}
// SAFETY: as above.
unsafe impl Sync for NativeClient {}

/// librdkafka's words for an error code.
pub(super) fn words(code: Code) -> String {
    // SAFETY: the function returns a static string for every code.
    unsafe { CStr::from_ptr(rd::rd_kafka_err2str(code)) }.to_string_lossy().into_owned()
}

/// Takes an error object: its words, or nothing where it is null.
pub(super) fn taken(error: *mut rd::rd_kafka_error_t) -> Result<(), String> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the object is not null, ours, read once and destroyed once.
    let words = unsafe { CStr::from_ptr(rd::rd_kafka_error_string(error)) }.to_string_lossy().into_owned();
    // SAFETY: as above.
    unsafe { rd::rd_kafka_error_destroy(error) };
    Err(words)
}

extern "C" fn on_error(_: *mut rd::rd_kafka_t, code: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: opaque is the address of the Trouble that the client owns for longer than it can call
    // back.
    let health = unsafe { &*opaque.cast::<ConnectionHealth>() };
    // SAFETY: librdkafka passes a C string, or nothing.
    let reason =
        if reason.is_null() { String::new() } else { unsafe { CStr::from_ptr(reason) }.to_string_lossy().into() };
    health.note_error(code, reason);
}

/// librdkafka would print its log to our standard error; what matters comes by `on_error`, too.
extern "C" fn on_log(_: *const rd::rd_kafka_t, _: c_int, _: *const c_char, _: *const c_char) {}

impl NativeClient {
    /// Creates a client; connections come about in the background. An error is librdkafka's words
    /// about a setting.
    pub(super) fn new(
        kind: ClientKind,
        settings: &ClientSettings,
        health: ConnectionHealth,
    ) -> Result<Arc<Self>, String> {
        let conf = ClientConf::new(settings)?;
        let health = Box::new(health);
        let opaque = std::ptr::from_ref::<ConnectionHealth>(&health).cast_mut().cast::<c_void>();
        // SAFETY: the configuration is valid; the callbacks have the signatures asked for; `opaque`
        // outlives the client.
        unsafe {
            rd::rd_kafka_conf_set_opaque(conf.0, opaque);
            rd::rd_kafka_conf_set_error_cb(conf.0, Some(on_error));
            rd::rd_kafka_conf_set_log_cb(conf.0, Some(on_log));
            if kind == ClientKind::Producer {
                rd::rd_kafka_conf_set_events(conf.0, rd::RD_KAFKA_EVENT_DR);
            }
        }
        let which = match kind {
            ClientKind::Producer => rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
            ClientKind::Consumer => rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
        };
        let mut text = [0; 512];
        // SAFETY: on success the client owns the configuration, on failure we still do; the buffer
        // is as long as said.
        let raw = unsafe { rd::rd_kafka_new(which, conf.0, text.as_mut_ptr(), text.len()) };
        let Some(raw) = NonNull::new(raw) else { return Err(text_of(&text)) };
        std::mem::forget(conf);
        let client = Arc::new(Self { raw, health });
        if let Some(token) = settings.get(TOKEN) {
            give_token(client.raw(), token)?;
        }
        Ok(client)
    }

    pub(super) fn raw(&self) -> *mut rd::rd_kafka_t {
        self.raw.as_ptr()
    }

    /// The health of its connections.
    pub(super) fn health(&self) -> &ConnectionHealth {
        &self.health
    }

    /// A setting as librdkafka understood it, defaults included.
    pub(super) fn setting(&self, key: &str) -> Option<String> {
        let key = CString::new(key).ok()?;
        let mut value = [0 as c_char; 4096];
        let mut size = value.len();
        // SAFETY: the client's configuration lives as long as the client; the buffer is as long as
        // said.
        let result = unsafe {
            rd::rd_kafka_conf_get(rd::rd_kafka_conf(self.raw()), key.as_ptr(), value.as_mut_ptr(), &mut size)
        };
        (result == rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK).then(|| text_of(&value))
    }

    /// The main queue of a producer, or the queue of everything a consumer gets.
    pub(super) fn queue(self: &Arc<Self>, kind: ClientKind) -> EventQueue {
        // SAFETY: the client is valid; each call returns a new reference, which Queue gives back. A
        // consumer's main queue is led into its consumer queue first.
        let raw = unsafe {
            match kind {
                ClientKind::Producer => rd::rd_kafka_queue_get_main(self.raw()),
                ClientKind::Consumer => {
                    rd::rd_kafka_poll_set_consumer(self.raw());
                    rd::rd_kafka_queue_get_consumer(self.raw())
                }
            }
        };
        EventQueue { raw, client: self.clone() }
    }

    /// A queue of its own, for the replies to one kind of request.
    pub(super) fn new_queue(self: &Arc<Self>) -> EventQueue {
        // SAFETY: the client is valid.
        EventQueue { raw: unsafe { rd::rd_kafka_queue_new(self.raw()) }, client: self.clone() }
    }
}

impl Drop for NativeClient {
    fn drop(&mut self) {
        // SAFETY: nothing else refers to the client any more. A consumer that is to leave its group
        // was closed before.
        unsafe { rd::rd_kafka_destroy_flags(self.raw(), rd::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) };
    }
}

/// Gives a client its token for SASL OAUTHBEARER.
///
/// # Errors
/// librdkafka's words about it.
pub(super) fn give_token(client: *mut rd::rd_kafka_t, token: &str) -> Result<(), String> {
    let token = CString::new(token).map_err(|_| "the token holds a zero byte".to_owned())?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let until = i64::try_from(now.as_millis()).unwrap_or(0) + TOKEN_LIFE_MS;
    let (principal, mut text) = (c"msgbench", [0; 512]);
    // SAFETY: the client is valid; the strings and the buffer live through the call, which copies
    // them; the buffer is as long as said.
    let code = unsafe {
        rd::rd_kafka_oauthbearer_set_token(
            client,
            token.as_ptr(),
            until,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            text.as_mut_ptr(),
            text.len(),
        )
    };
    if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(text_of(&text)) }
}

fn text_of(buffer: &[c_char]) -> String {
    buffer.iter().take_while(|&&c| c != 0).map(|&c| char::from(c as u8)).collect()
}

/// A configuration not yet given to a client.
struct ClientConf(*mut rd::rd_kafka_conf_t);

impl ClientConf {
    fn new(settings: &ClientSettings) -> Result<Self, String> {
        // SAFETY: creates an object that Drop destroys.
        let conf = Self(unsafe { rd::rd_kafka_conf_new() });
        let mut text = [0; 512];
        for (key, value) in settings.iter().filter(|(key, _)| *key != TOKEN) {
            let zero = |_| format!("`{key}` holds a zero byte");
            let (k, v) = (CString::new(key.as_str()).map_err(zero)?, CString::new(value.as_str()).map_err(zero)?);
            // SAFETY: the strings and the buffer live through the call, the buffer is as long as
            // said.
            let result =
                unsafe { rd::rd_kafka_conf_set(conf.0, k.as_ptr(), v.as_ptr(), text.as_mut_ptr(), text.len()) };
            if result != rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                return Err(text_of(&text));
            }
        }
        Ok(conf)
    }
}

/// Whether librdkafka takes these settings; its words where it does not.
pub(super) fn check(settings: &ClientSettings) -> Result<(), String> {
    ClientConf::new(settings).map(drop)
}

impl Drop for ClientConf {
    fn drop(&mut self) {
        // SAFETY: the object is ours; a configuration that a client took over was forgotten.
        unsafe { rd::rd_kafka_conf_destroy(self.0) };
    }
}

/// A queue of librdkafka.
#[derive(Debug)]
pub(super) struct EventQueue {
    raw: *mut rd::rd_kafka_queue_t,
    client: Arc<NativeClient>,
}

// SAFETY: librdkafka locks its queues.
unsafe impl Send for EventQueue {}
// SAFETY: as above.
unsafe impl Sync for EventQueue {}

impl EventQueue {
    pub(super) fn raw(&self) -> *mut rd::rd_kafka_queue_t {
        self.raw
    }

    /// The client whose queue it is.
    pub(super) fn client(&self) -> &Arc<NativeClient> {
        &self.client
    }

    /// The next event; none when nothing came within `milliseconds`.
    pub(super) fn event(&self, milliseconds: c_int) -> Option<QueueEvent> {
        // SAFETY: the queue is valid; the event is ours and destroyed once.
        NonNull::new(unsafe { rd::rd_kafka_queue_poll(self.raw, milliseconds) }).map(QueueEvent)
    }
}

impl Drop for EventQueue {
    fn drop(&mut self) {
        // SAFETY: the queue is ours. An eventfd of -1 ends the ringing before the descriptor is
        // closed.
        unsafe {
            rd::rd_kafka_queue_io_event_enable(self.raw, -1, std::ptr::null(), 0);
            rd::rd_kafka_queue_destroy(self.raw);
        }
    }
}

/// Something a queue had for us.
pub(super) struct QueueEvent(NonNull<rd::rd_kafka_event_t>);

impl QueueEvent {
    /// Its kind, as librdkafka numbers them.
    pub(super) fn kind(&self) -> c_int {
        // SAFETY: the event is valid until dropped, here and below.
        unsafe { rd::rd_kafka_event_type(self.0.as_ptr()) }
    }
    /// The error it carries, if it carries one.
    pub(super) fn error(&self) -> Result<(), (Code, String)> {
        // SAFETY: as above; the string lives as long as the event.
        let code = unsafe { rd::rd_kafka_event_error(self.0.as_ptr()) };
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(());
        }
        // SAFETY: as above.
        let text = unsafe { rd::rd_kafka_event_error_string(self.0.as_ptr()) };
        // SAFETY: as above.
        let text = if text.is_null() { words(code) } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into() };
        Err((code, text))
    }
    /// Calls `each` with token and error code of every message of a delivery report.
    pub(super) fn deliveries(&self, mut each: impl FnMut(u64, Code)) {
        loop {
            // SAFETY: as above; a message lives as long as its event.
            let message = unsafe { rd::rd_kafka_event_message_next(self.0.as_ptr()) };
            let Some(message) = (unsafe { message.as_ref() }) else { return };
            each(message._private as u64, message.err);
        }
    }
    pub(super) fn raw(&self) -> *mut rd::rd_kafka_event_t {
        self.0.as_ptr()
    }
}

impl Drop for QueueEvent {
    fn drop(&mut self) {
        // SAFETY: the event is ours and destroyed once.
        unsafe { rd::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// Signals that a queue is no longer empty. Belongs to the runtime it was made on.
#[derive(Debug)]
pub(super) struct QueueSignal(AsyncFd<OwnedFd>);

/// What is written to the eventfd.
static ONE: u64 = 1;

impl QueueSignal {
    /// A signal for the runtime of the calling thread.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the call touches no memory; the descriptor it returns is ours alone.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: an OwnedFd keeps its descriptor open until AsyncFd drops it, and nothing replaces
        // it.
        unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map(Self).map_err(io::Error::from)
    }

    /// Lets `queue` send it. One signal may be attached to several queues.
    pub(super) fn attach(&self, queue: &EventQueue) {
        let payload = std::ptr::from_ref(&ONE).cast::<c_void>();
        // SAFETY: librdkafka copies the eight bytes; the queue is silenced when it is dropped,
        // before this descriptor closes. A queue that holds something already would never ring, so
        // that the first ring is our own; its bytes are valid, too.
        unsafe {
            rd::rd_kafka_queue_io_event_enable(queue.raw, self.0.as_raw_fd(), payload, size_of::<u64>());
            libc::write(self.0.as_raw_fd(), payload, size_of::<u64>());
        }
    }

    /// Waits until it rings. librdkafka rings once from one look into the queue to the next: look
    /// until it is empty.
    pub(super) async fn wait(&self) -> io::Result<()> {
        let mut guard = self.0.readable().await?;
        let mut count = 0u64;
        // SAFETY: reads eight bytes into eight bytes; the descriptor is open and does not block.
        unsafe { libc::read(self.0.as_raw_fd(), std::ptr::from_mut(&mut count).cast(), size_of::<u64>()) };
        // A ring that comes meanwhile makes it ready again: tokio clears only the readiness this
        // guard saw.
        guard.clear_ready();
        Ok(())
    }
}
