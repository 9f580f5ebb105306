//! A server of the NATS protocol that writes what a test tells it, in pieces of the test's choice,
//! and the rule of arrival held against the drivers that speak to it.
//!
//! It confirms every request of JetStream and makes nothing: what is delivered comes from
//! [`ScriptedServer::deliver`] alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Consumer, Disposition, Incoming, MessageSink, Target};
use crate::units::{Nanos, now};

/// Bound on every wait.
const BOUND: Duration = Duration::from_secs(20);
/// What a sink takes at least for each message, ns: many times the resolution of the clock.
const WORK: Nanos = 2_000;
/// Subjects on which a client waits for its own message.
const BARRIER: &str = "mb.barrier.";

const INFO: &str = "INFO {\"server_id\":\"S\",\"server_name\":\"scripted\",\"version\":\"2.10.0\",\"go\":\"go1\",\
    \"host\":\"127.0.0.1\",\"port\":1,\"max_payload\":1048576,\"proto\":1,\"headers\":true,\"client_id\":1}\r\n";

struct ScriptedSubscription {
    subject: String,
    id: String,
    stream: TcpStream,
}

pub(super) struct ScriptedServer {
    address: String,
    subscriptions: Arc<Mutex<Vec<ScriptedSubscription>>>,
}

impl ScriptedServer {
    pub(super) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let subscriptions = Arc::<Mutex<Vec<ScriptedSubscription>>>::default();
        let all = Arc::clone(&subscriptions);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, all) = (stream.unwrap(), Arc::clone(&all));
                // A connection ends when its client goes away; that is no error.
                std::thread::spawn(move || drop(serve(stream, &all)));
            }
        });
        Self { address, subscriptions }
    }

    pub(super) fn target(&self, options: serde_json::Value) -> Target {
        let options = options.as_object().unwrap().clone();
        Target {
            url: format!("nats://{}", self.address),
            timeout: BOUND,
            run: 0xabcd_0123,
            options,
            ..Target::default()
        }
    }

    /// Writes messages to the newest subscription that begins with `prefix` and is no barrier, each
    /// piece (how many of the messages, and how many bytes of the next one) with one write; the
    /// instant just before each message's last byte was written.
    pub(super) fn deliver(&self, prefix: &str, frames: Vec<Vec<u8>>, pieces: Vec<usize>) -> JoinHandle<Vec<Nanos>> {
        let subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |s: &&ScriptedSubscription| s.subject.starts_with(prefix) && !s.subject.starts_with(BARRIER);
        let to = subscriptions.iter().rev().find(fits);
        let to = to.unwrap_or_else(|| panic!("nobody has subscribed to {prefix}"));
        let (mut stream, id) = (to.stream.try_clone().unwrap(), to.id.clone());
        std::thread::spawn(move || {
            let frames: Vec<Vec<u8>> = frames.into_iter().map(|f| with_id(&f, &id)).collect();
            let ends: Vec<usize> = frames
                .iter()
                .scan(0, |end, f| {
                    *end += f.len();
                    Some(*end)
                })
                .collect();
            let (bytes, mut from, mut written) = (frames.concat(), 0usize, Vec::new());
            for piece in pieces.into_iter().chain([usize::MAX]) {
                let to = from.saturating_add(piece).min(bytes.len());
                let at = now();
                written.extend(ends.iter().filter(|end| **end > from && **end <= to).map(|_| at));
                stream.write_all(&bytes[from..to]).unwrap();
                from = to;
            }
            written
        })
    }
}

/// A message of `subject` with its number as payload; `#` stands for the subscription.
pub(super) fn frame(subject: &str, reply: &str, number: usize) -> Vec<u8> {
    let payload = number.to_string();
    let reply = if reply.is_empty() { String::new() } else { format!("{reply} ") };
    format!("MSG {subject} # {reply}{}\r\n{payload}\r\n", payload.len()).into_bytes()
}

fn with_id(frame: &[u8], id: &str) -> Vec<u8> {
    let at = frame.iter().position(|b| *b == b'#').unwrap();
    [&frame[..at], id.as_bytes(), &frame[at + 1..]].concat()
}

fn serve(stream: TcpStream, all: &Mutex<Vec<ScriptedSubscription>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    out.write_all(INFO.as_bytes())?;
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["PING", ..] => out.write_all(b"PONG\r\n")?,
            ["SUB", subject, .., id] => all.lock().unwrap_or_else(PoisonError::into_inner).push(ScriptedSubscription {
                subject: subject.into(),
                id: id.into(),
                stream: out.try_clone()?,
            }),
            ["PUB" | "HPUB", subject, .., size] => {
                let mut payload = vec![0; size.parse::<usize>().unwrap() + 2];
                input.read_exact(&mut payload)?;
                if subject.starts_with(BARRIER) {
                    echo(subject, &payload, all, &mut out)?;
                    line.clear();
                    continue;
                }
                if let (5.., Some(reply)) = (words.len() + usize::from(words[0] == "PUB"), words.get(2)) {
                    answer(subject, reply, all, &mut out)?;
                }
            }
            _ => {}
        }
        line.clear();
    }
    Ok(())
}

/// Gives a client its own message back, if it has subscribed to it.
fn echo(
    subject: &str,
    payload: &[u8],
    all: &Mutex<Vec<ScriptedSubscription>>,
    out: &mut TcpStream,
) -> std::io::Result<()> {
    let all = all.lock().unwrap_or_else(PoisonError::into_inner);
    let begins = |s: &ScriptedSubscription| subject.starts_with(s.subject.trim_end_matches(['*', '>']));
    let Some(to) = all.iter().rev().find(|s| begins(s)) else { return Ok(()) };
    write!(out, "MSG {subject} {} {}\r\n", to.id, payload.len() - 2)?;
    out.write_all(payload)
}

/// Answers a request: nobody is there, or the API of JetStream agrees.
fn answer(
    subject: &str,
    reply: &str,
    all: &Mutex<Vec<ScriptedSubscription>>,
    out: &mut TcpStream,
) -> std::io::Result<()> {
    let all = all.lock().unwrap_or_else(PoisonError::into_inner);
    let begins = |s: &ScriptedSubscription| reply.starts_with(s.subject.trim_end_matches(['*', '>']));
    let Some(to) = all.iter().rev().find(|s| begins(s)) else { return Ok(()) };
    let agreed = "{\"config\":{},\"success\":true}";
    match subject {
        next if next.contains(".MSG.NEXT.") => Ok(()),
        api if api.starts_with("$JS.API.") => write!(out, "MSG {reply} {} {}\r\n{agreed}\r\n", to.id, agreed.len()),
        _ => Ok(()),
    }
}

/// Notes number and stamp of each message, and takes its time with it.
#[derive(Default)]
pub(super) struct SlowSink(pub(super) Vec<(usize, Nanos)>);

impl MessageSink for SlowSink {
    fn take(&mut self, message: Incoming<'_>) -> Disposition {
        let number = std::str::from_utf8(message.payload).unwrap().parse().unwrap();
        self.0.push((number, message.at));
        let begun = now();
        while now() < begun + WORK {
            std::hint::spin_loop();
        }
        Disposition::Accept
    }
    fn dead_letter(&mut self, _: Incoming<'_>) {}
}

/// Receives `n` messages, by turns no more than each of the limits at a time; what each call gave.
pub(super) async fn calls(consumer: &mut impl Consumer, n: usize, limits: &[usize]) -> Vec<Vec<(usize, Nanos)>> {
    let (mut all, mut limits) = (Vec::<Vec<_>>::new(), limits.iter().cycle());
    while all.iter().map(Vec::len).sum::<usize>() < n {
        let mut slow = SlowSink::default();
        let limit = *limits.next().unwrap_or(&usize::MAX);
        tokio::time::timeout(BOUND, consumer.receive(&mut slow, limit)).await.unwrap().unwrap();
        all.push(slow.0);
    }
    all
}

/// How many different stamps there are.
pub(super) fn distinct<'a>(messages: impl IntoIterator<Item = &'a (usize, Nanos)>) -> usize {
    messages.into_iter().map(|(_, at)| at).collect::<std::collections::BTreeSet<_>>().len()
}

mod rule {
    use proptest::prelude::*;

    use super::*;
    use crate::driver::fake::FakeDriver;
    use crate::driver::jetstream::JetstreamDriver;
    use crate::driver::nats::NatsDriver;
    use crate::driver::wire::WireDriver;
    use crate::driver::{ClientSlot, Driver, Outgoing, Producer, Start};
    use crate::plan::Workload;
    use crate::scenario::{Overrides, parse};

    const SEAT: ClientSlot = ClientSlot { workload: 0, group: 0, index: 0 };
    const BATCH: usize = 1000;

    fn workloads(pattern: &str) -> Vec<Workload> {
        let text = format!(
            "name = \"t\"\nquestion = \"?\"\n[[workload]]\npattern = \"{pattern}\"\nload = {{ rate = \"1k/s\" }}\n"
        );
        let plan = parse(
            std::path::Path::new("t.toml"),
            text,
            &Overrides::default(),
            &crate::engine::Register::built_in().types(),
        )
        .unwrap()
        .plan;
        plan.cases[0].workloads.clone()
    }

    fn core(n: usize) -> Vec<Vec<u8>> {
        (0..n).map(|i| frame("mb.abcd0123.0.0", "", i)).collect()
    }

    /// As a stream delivers message by message.
    fn stored(n: usize) -> Vec<Vec<u8>> {
        let one = |i| frame("m.0", &format!("$JS.ACK.S.g0.1.{0}.{0}.1.0", i + 1), i);
        (0..n).map(one).collect()
    }

    /// What one driver made of a batch that was in its socket, whole, before it looked.
    async fn batch<D: Driver>(script: &ScriptedServer, driver: &D, prefix: &str, frames: Vec<Vec<u8>>) {
        let n = frames.len();
        let mut consumer = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let written = script.deliver(prefix, frames, Vec::new());
        let written = tokio::task::spawn_blocking(|| written.join().unwrap()).await.unwrap();
        let calls = calls(&mut consumer, n, &[usize::MAX]).await;
        for call in &calls {
            assert_eq!(distinct(call), 1, "one stamp for all {} that a call gave", call.len());
        }
        assert!(calls.iter().any(|call| call.len() >= n / 2), "most of a batch is given by one call");
        let all = calls.concat();
        assert!(all.iter().enumerate().all(|(i, (number, _))| i == *number), "every message, in order");
        assert!(all.iter().zip(&written).all(|((_, at), written)| at >= written), "none before it was written");
    }

    #[tokio::test]
    async fn a_batch_has_one_stamp_through_wire() {
        let script = ScriptedServer::new();
        let driver = WireDriver::prepare(script.target(serde_json::json!({})), &workloads("fan-out")).await.unwrap();
        batch(&script, &driver, "mb.", core(BATCH)).await;
    }

    #[tokio::test]
    async fn a_batch_has_one_stamp_through_async_nats() {
        let script = ScriptedServer::new();
        let driver = NatsDriver::prepare(script.target(serde_json::json!({})), &workloads("fan-out")).await.unwrap();
        batch(&script, &driver, "mb.", core(BATCH)).await;
    }

    #[tokio::test]
    async fn a_batch_has_one_stamp_through_every_consumer_of_jetstream() {
        for (kind, prefix) in [("pull", "mbi."), ("fetch", "mbi."), ("push", "mbp."), ("ordered", "mbp.")] {
            let script = ScriptedServer::new();
            let target = script.target(serde_json::json!({ "consumer": kind }));
            let driver = JetstreamDriver::prepare(target, &workloads("stream")).await.unwrap();
            let mut frames = stored(BATCH);
            if kind == "ordered" {
                frames = (0..BATCH).map(|i| frame("m.0", &format!("$JS.ACK.S.g_0.1.{0}.{0}.1.0", i + 1), i)).collect();
            }
            batch(&script, &driver, prefix, frames).await;
        }
    }

    #[tokio::test]
    async fn a_batch_has_one_stamp_through_the_fake() {
        let driver = FakeDriver::prepare(ScriptedServer::new().target(serde_json::json!({})), &workloads("fan-out"))
            .await
            .unwrap();
        let mut consumer = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let mut producer = driver.producer(SEAT).await.unwrap();
        for token in 0..BATCH as u64 {
            let payload = token.to_string();
            let message = Outgoing { channel: 0, key: None, payload: payload.as_bytes(), token };
            producer.send(message).await.unwrap();
        }
        let calls = calls(&mut consumer, BATCH, &[usize::MAX]).await;
        assert_eq!(calls.iter().map(|call| (call.len(), distinct(call))).collect::<Vec<_>>(), [(BATCH, 1)]);
    }

    /// A subscription that may hold 64: the library says of most drops nothing, and all are
    /// counted.
    #[tokio::test]
    async fn what_async_nats_drops_is_counted_to_the_message() {
        for (pattern, prefix) in [("fan-out", "mb."), ("stream", "mbi.")] {
            let script = ScriptedServer::new();
            let target = script.target(serde_json::json!({ "subscription-capacity": 64 }));
            let (taken, dropped) = match pattern {
                "fan-out" => drops::<NatsDriver>(&script, target, pattern, prefix, core(BATCH)).await,
                _ => drops::<JetstreamDriver>(&script, target, pattern, prefix, stored(BATCH)).await,
            };
            assert!((1..BATCH as u64 / 2).contains(&taken), "{pattern}: {taken} taken of {BATCH}");
            assert_eq!(taken + dropped, BATCH as u64, "{pattern}: {taken} taken");
        }
    }

    /// Messages that one call took, and that the client is said to have dropped, of a batch that
    /// was in the socket whole.
    async fn drops<D: Driver>(
        script: &ScriptedServer,
        target: Target,
        pattern: &str,
        prefix: &str,
        frames: Vec<Vec<u8>>,
    ) -> (u64, u64) {
        let driver = D::prepare(target, &workloads(pattern)).await.unwrap();
        let mut consumer = driver.consumer(SEAT, Start::Tail).await.unwrap();
        let written = script.deliver(prefix, frames, Vec::new());
        tokio::task::spawn_blocking(|| written.join().unwrap()).await.unwrap();
        // Until nothing comes any more: what is written last is then read, and taken or dropped.
        let mut taken = 0;
        while let Ok(some) =
            tokio::time::timeout(Duration::from_millis(300), calls(&mut consumer, 1, &[usize::MAX])).await
        {
            taken += some.concat().len();
        }
        drop(consumer);
        (taken as u64, driver.client_dropped(0))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        /// However a batch is cut into writes, and however few messages are taken at a time: a
        /// message has the stamp of the read that brought its last byte.
        #[test]
        fn stamps_are_those_of_reads(
            n in 1usize..300,
            pieces in prop::collection::vec(1usize..3000, 0..6),
            limits in prop::collection::vec(prop_oneof![1usize..4, Just(usize::MAX)], 1..4),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (all, written) = runtime.block_on(async {
                let script = ScriptedServer::new();
                let driver = WireDriver::prepare(script.target(serde_json::json!({})), &workloads("fan-out")).await.unwrap();
                let mut consumer = driver.consumer(SEAT, Start::Tail).await.unwrap();
                let written = script.deliver("mb.", core(n), pieces.clone());
                let all = calls(&mut consumer, n, &limits).await.concat();
                (all, written.join().unwrap())
            });
            prop_assert!(all.iter().enumerate().all(|(i, (number, _))| i == *number));
            prop_assert!(all.windows(2).all(|w| w[0].1 <= w[1].1), "stamps never go back");
            prop_assert!(all.iter().zip(&written).all(|((_, at), written)| at >= written));
            prop_assert!(distinct(&all) <= pieces.len() + 1, "{} stamps of {} writes", distinct(&all), pieces.len() + 1);
        }
    }
}
