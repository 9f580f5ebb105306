//! JetStream of the reference broker: what a nats-server answers at each step, and what this broker
//! does; and what is left of streams by a restart.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;
use msgbench::broker::log::SyncPolicy;
use msgbench::broker::{Config, StreamStorage};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::process::Process;
use crate::real::Real;
use crate::router_support::start;

const PATIENCE: Duration = Duration::from_secs(60);

/// A client, and what it has noted.
struct Script {
    client: Client,
    inbox: Subscriber,
    reply: String,
    notes: Vec<String>,
}

impl Script {
    async fn new(url: &str) -> Self {
        let client = timeout(PATIENCE, async_nats::connect(url)).await.unwrap().unwrap();
        let reply = client.new_inbox();
        let inbox = client.subscribe(reply.clone()).await.unwrap();
        Self { client, inbox, reply, notes: Vec::new() }
    }

    /// The answer to a request of administration.
    async fn api(&self, verb: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let asked = self.client.request(format!("$JS.API.{verb}"), body.into());
        match timeout(PATIENCE, asked).await.unwrap() {
            Ok(answer) => serde_json::from_slice(&answer.payload).unwrap(),
            Err(error) => json!({ "error": { "err_code": error.to_string() } }),
        }
    }

    /// Notes these fields of an answer, or its error.
    async fn note(&mut self, what: &str, verb: &str, body: Value, fields: &[&str]) {
        let answer = self.api(verb, body).await;
        let said = match answer.get("error") {
            Some(error) => format!("error {}, {}", error["code"], error["err_code"]),
            None => {
                let field =
                    |path: &&str| format!("{path} {}", answer.pointer(&format!("/{path}")).unwrap_or(&Value::Null));
                fields.iter().map(field).collect::<Vec<_>>().join(", ")
            }
        };
        self.notes.push(format!("{what}: {said}"));
    }

    async fn publish(&mut self, what: &str, subject: &str, id: Option<&str>, body: &str) {
        let mut headers = HeaderMap::new();
        id.into_iter().for_each(|id| headers.insert("Nats-Msg-Id", id));
        let sent = self.client.request_with_headers(subject.to_owned(), headers, body.to_owned().into());
        let said = match timeout(PATIENCE, sent).await.unwrap() {
            Ok(answer) => {
                let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
                let error = answer.pointer("/error/err_code").map(|code| format!(", error {code}"));
                format!("{} {} {}{}", answer["stream"], answer["seq"], answer["duplicate"], error.unwrap_or_default())
            }
            Err(error) => error.to_string(),
        };
        self.notes.push(format!("{what}: {said}"));
    }

    /// Asks for messages, and notes so many things that come.
    async fn pull(&mut self, what: &str, consumer: &str, body: &str, things: usize) -> Vec<Message> {
        let verb = format!("$JS.API.CONSUMER.MSG.NEXT.{consumer}");
        self.client.publish_with_reply(verb, self.reply.clone(), body.to_owned().into()).await.unwrap();
        let mut all = Vec::new();
        let mut said = Vec::new();
        for _ in 0..things {
            let message = timeout(PATIENCE, self.inbox.next()).await.expect("something comes").unwrap();
            let header = |name: &str| message.headers.as_ref().and_then(|h| h.get(name)).map(|v| v.to_string());
            said.push(match message.status {
                Some(status) => {
                    // What follows is in the words of a library.
                    let words = message.description.clone().unwrap_or_default();
                    let words = words.split(" - ").next().unwrap_or_default();
                    let more = header("Nats-Pending-Messages").map(|n| format!(" {n} left")).unwrap_or_default();
                    format!("{} {words}{more}", status.as_u16())
                }
                None => {
                    let reply = message.reply.as_ref().unwrap().to_string();
                    let tokens: Vec<&str> = reply.split('.').collect();
                    // What is still to come is counted without filters here.
                    let told: &[usize] = if consumer == "S.of_a_subject" { &[4, 5, 6] } else { &[4, 5, 6, 8] };
                    let numbers = told.iter().map(|n| tokens[*n]).collect::<Vec<_>>().join(".");
                    format!("{} `{}` {numbers}", message.subject, String::from_utf8_lossy(&message.payload))
                }
            });
            all.push(message);
        }
        self.notes.push(format!("{what}: {}", said.join("; ")));
        all
    }

    /// Says something of a message and waits until the server knows.
    async fn say(&mut self, message: &Message, words: &str) {
        let Some(reply) = message.reply.clone() else { return self.notes.push(format!("{words}: of no message")) };
        let answer = timeout(PATIENCE, self.client.request(reply, words.to_owned().into())).await.unwrap();
        self.notes.push(format!("{words}: answered {}", answer.is_ok_and(|answer| answer.payload.is_empty())));
    }
}

const STREAM: &[&str] =
    &["config/name", "config/retention", "config/max_msgs", "config/duplicate_window", "did_create"];
const STATE: &[&str] = &["state/messages", "state/first_seq", "state/last_seq", "state/consumer_count"];
const CONSUMER: &[&str] = &[
    "stream_name",
    "name",
    "config/ack_policy",
    "config/ack_wait",
    "config/max_deliver",
    "config/max_ack_pending",
    "config/max_waiting",
    "config/deliver_policy",
];
const POSITION: &[&str] = &[
    "delivered/consumer_seq",
    "delivered/stream_seq",
    "ack_floor/consumer_seq",
    "ack_floor/stream_seq",
    "num_ack_pending",
    "num_pending",
];

async fn answers(url: &str) -> Vec<String> {
    let mut script = Script::new(url).await;
    let s = &mut script;
    let plain = json!({ "name": "S", "subjects": ["s.>"], "storage": "file" });
    s.note("no stream", "STREAM.INFO.S", Value::Null, STATE).await;
    s.note("a stream", "STREAM.CREATE.S", plain.clone(), STREAM).await;
    s.note("once more", "STREAM.CREATE.S", plain, &STREAM[..3]).await;
    let other = json!({ "name": "S", "subjects": ["other"], "storage": "file" });
    s.note("another of its name", "STREAM.CREATE.S", other, STREAM).await;
    let over = json!({ "name": "T", "subjects": ["s.a"], "storage": "file" });
    s.note("one of its subjects", "STREAM.CREATE.T", over, STREAM).await;
    s.note("their names", "STREAM.NAMES", Value::Null, &["total", "streams"]).await;
    s.note("that of a subject", "STREAM.NAMES", json!({ "subject": "s.x" }), &["total", "streams"]).await;
    s.publish("a message", "s.a", None, "one").await;
    s.publish("with an identifier", "s.b", Some("x"), "two").await;
    s.publish("twice", "s.b", Some("x"), "two").await;
    s.publish("of no stream", "nobody", None, "three").await;
    s.note("its state", "STREAM.INFO.S", Value::Null, STATE).await;
    s.note(
        "a message by number",
        "STREAM.MSG.GET.S",
        json!({ "seq": 1 }),
        &["message/subject", "message/seq", "message/data"],
    )
    .await;
    s.note("one that is not there", "STREAM.MSG.GET.S", json!({ "seq": 9 }), &[]).await;
    s.note("the last of a subject", "STREAM.MSG.GET.S", json!({ "last_by_subj": "s.b" }), &["message/seq"]).await;

    let c = json!({ "stream_name": "S", "config": { "durable_name": "c", "ack_policy": "explicit", "max_deliver": 2,
        "ack_wait": 1_000_000_000_u64 } });
    s.note("no consumer", "CONSUMER.INFO.S.c", Value::Null, CONSUMER).await;
    s.note("of no stream", "CONSUMER.CREATE.X.c", c.clone(), CONSUMER).await;
    s.note("a consumer", "CONSUMER.CREATE.S.c", c.clone(), CONSUMER).await;
    s.note("once more", "CONSUMER.CREATE.S.c", c, &CONSUMER[..2]).await;
    s.note("their names", "CONSUMER.NAMES.S", Value::Null, &["total", "consumers"]).await;
    let first = s.pull("two at once", "S.c", "{\"batch\":5,\"no_wait\":true}", 3).await;
    s.pull("no more", "S.c", "{\"batch\":5,\"no_wait\":true}", 1).await;
    s.note("where it is", "CONSUMER.INFO.S.c", Value::Null, POSITION).await;
    let advisory = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.c";
    let mut advised = s.client.subscribe(advisory).await.unwrap();
    s.say(&first[0], "+ACK").await;
    s.say(&first[1], "+WPI").await;
    s.say(&first[1], "-NAK").await;
    s.pull("again", "S.c", "1", 1).await;
    s.pull("in vain, with a bound", "S.c", "{\"batch\":3,\"expires\":3000000000}", 1).await;
    let said: Value =
        serde_json::from_slice(&timeout(PATIENCE, advised.next()).await.unwrap().unwrap().payload).unwrap();
    s.notes.push(format!(
        "used up: {} {} {} {}",
        said["stream"], said["consumer"], said["stream_seq"], said["deliveries"]
    ));
    s.publish("a third", "s.a", None, "three").await;
    s.publish("a fourth", "s.a", None, "four").await;
    // nats-server tells a consumer of new messages a moment after it has acknowledged them.
    let known = std::time::Instant::now();
    while s.api("CONSUMER.INFO.S.c", Value::Null).await["num_pending"] != 2 {
        assert!(known.elapsed() < PATIENCE, "two messages wait");
    }
    let more = s.pull("the rest", "S.c", "{\"batch\":2,\"expires\":3000000000}", 2).await;
    s.say(&more[0], "+TERM").await;
    s.say(&more[1], "+ACK").await;
    s.note("where it is then", "CONSUMER.INFO.S.c", Value::Null, POSITION).await;
    let beats = "{\"batch\":1,\"expires\":1000000000,\"idle_heartbeat\":400000000}";
    s.pull("heartbeats", "S.c", beats, 3).await;
    s.pull("no request", "S.c", "{\"batch", 1).await;
    for (what, policy) in [
        ("from the end", json!({ "deliver_policy": "new" })),
        ("from a number", json!({ "deliver_policy": "by_start_sequence", "opt_start_seq": 3 })),
        ("the last one", json!({ "deliver_policy": "last" })),
        ("of a subject", json!({ "deliver_policy": "all", "filter_subject": "s.b" })),
    ] {
        let name = what.replace(' ', "_");
        let mut config = json!({ "durable_name": name, "ack_policy": "none" });
        config.as_object_mut().unwrap().extend(policy.as_object().unwrap().clone());
        let verb = format!("CONSUMER.CREATE.S.{name}");
        s.note(what, &verb, json!({ "stream_name": "S", "config": config }), &["config/deliver_policy"]).await;
        let things = match what {
            "from a number" => 3,
            "from the end" => 1,
            _ => 2,
        };
        s.pull(what, &format!("S.{name}"), "{\"batch\":9,\"no_wait\":true}", things).await;
    }
    s.note("a message removed", "STREAM.MSG.DELETE.S", json!({ "seq": 2 }), &["success"]).await;
    s.note("once more", "STREAM.MSG.DELETE.S", json!({ "seq": 2 }), &["success"]).await;
    s.note("with a hole", "STREAM.INFO.S", Value::Null, &["state/messages", "state/first_seq", "state/num_deleted"])
        .await;
    s.note("emptied", "STREAM.PURGE.S", Value::Null, &["success", "purged"]).await;
    s.note("empty", "STREAM.INFO.S", Value::Null, STATE).await;
    s.note("the consumer goes", "CONSUMER.DELETE.S.c", Value::Null, &["success"]).await;
    s.pull("nobody to ask", "S.c", "1", 1).await;
    s.note("the stream goes", "STREAM.DELETE.S", Value::Null, &["success"]).await;
    s.publish("nobody to store", "s.a", None, "five").await;

    let queue = json!({ "name": "Q", "subjects": ["q"], "retention": "workqueue", "storage": "file" });
    s.note("a work queue", "STREAM.CREATE.Q", queue, STREAM).await;
    let worker =
        |name: &str, ack: &str| json!({ "stream_name": "Q", "config": { "durable_name": name, "ack_policy": ack } });
    s.note("no acknowledgements", "CONSUMER.CREATE.Q.n", worker("n", "none"), CONSUMER).await;
    s.note("a worker", "CONSUMER.CREATE.Q.w", worker("w", "explicit"), &CONSUMER[..2]).await;
    s.note("a second", "CONSUMER.CREATE.Q.v", worker("v", "explicit"), CONSUMER).await;
    s.publish("work", "q", None, "1").await;
    s.publish("more work", "q", None, "2").await;
    let work = s.pull("taken", "Q.w", "2", 2).await;
    s.say(&work[1], "+ACK").await;
    s.note("one is done", "STREAM.INFO.Q", Value::Null, &STATE[..3]).await;
    s.say(&work[0], "+ACK").await;
    s.note("both are", "STREAM.INFO.Q", Value::Null, &STATE[..3]).await;
    for (name, discard) in [("O", "old"), ("N", "new")] {
        let config = json!({ "name": name, "subjects": [name], "max_msgs": 2, "discard": discard, "storage": "file" });
        s.note(discard, &format!("STREAM.CREATE.{name}"), config, STREAM).await;
        for n in 1..=3 {
            s.publish(&format!("{discard} {n}"), name, None, "x").await;
        }
        s.note(&format!("{discard} kept"), &format!("STREAM.INFO.{name}"), Value::Null, &STATE[..3]).await;
    }
    script.notes
}

/// The answers of nats-server 2.15.2, a line each.
fn of_nats_server() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/broker/router_streams.txt");
    std::fs::read_to_string(path).unwrap()
}

fn served(dir: &std::path::Path, sync: SyncPolicy) -> Config {
    Config { jetstream: Some(StreamStorage { dir: dir.to_owned(), sync }), ..Config::default() }
}

#[tokio::test]
async fn streams_are_answered_as_by_nats_server() {
    for sync in [SyncPolicy::Never, SyncPolicy::Group] {
        let dir = tempfile::tempdir().unwrap();
        let broker = start(served(dir.path(), sync));
        let ours = answers(&format!("nats://{}", broker.address)).await;
        let theirs = of_nats_server();
        let different: Vec<_> = ours.iter().zip(theirs.lines()).filter(|(ours, theirs)| ours != theirs).collect();
        assert!(different.is_empty(), "{sync:?}: {different:#?}");
        assert_eq!(ours.len(), theirs.lines().count());
    }
}

#[tokio::test]
async fn streams_are_answered_so_by_nats_server() {
    let dir = tempfile::tempdir().unwrap();
    let Some(real) = Real::start(&format!("jetstream {{ store_dir: \"{}\" }}\n", dir.path().display())) else { return };
    let theirs = answers(&format!("nats://{}", real.address)).await;
    assert!(theirs == of_nats_server().lines().collect::<Vec<_>>(), "{}", theirs.join("\n"));
}

fn process(dir: &std::path::Path) -> (Process, String) {
    let process =
        crate::process::start(&["--listen", "127.0.0.1:0", "--format", "json", "--jetstream", dir.to_str().unwrap()]);
    let url = process.json()["url"].as_str().unwrap().to_owned();
    (process, url)
}

/// What is stored is there again; what was acknowledged is not delivered again, what was not is.
#[tokio::test]
async fn a_restart_changes_nothing_about_streams() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, url) = process(dir.path());
    let mut s = Script::new(&url).await;
    s.note("", "STREAM.CREATE.S", json!({ "subjects": ["s"], "storage": "file" }), &["config/name"]).await;
    let config = json!({ "durable_name": "c", "ack_policy": "explicit" });
    s.note("", "CONSUMER.CREATE.S.c", json!({ "stream_name": "S", "config": config }), &["name"]).await;
    for n in 1..=4 {
        s.publish("", "s", Some(&n.to_string()), &n.to_string()).await;
    }
    let given = s.pull("", "S.c", "3", 3).await;
    s.say(&given[0], "+ACK").await;
    s.say(&given[2], "+ACK").await;
    drop(s);
    broker.signal(libc::SIGTERM);
    broker.ended();
    let (mut broker, url) = process(dir.path());
    let mut s = Script::new(&url).await;
    s.publish("known", "s", Some("4"), "4").await;
    let again = s.pull("again", "S.c", "2", 2).await;
    assert_eq!(s.notes, ["known: \"S\" 4 true", "again: s `2` 2.2.4.2; s `4` 1.4.5.0"], "{again:?}");
    // Killed, it has every message that it has acknowledged to a publisher.
    for n in 5..=40 {
        s.publish("", "s", None, &n.to_string()).await;
    }
    broker.child.kill().unwrap();
    broker.child.wait().unwrap();
    let (_broker, url) = process(dir.path());
    let mut s = Script::new(&url).await;
    s.note("left", "STREAM.INFO.S", Value::Null, STATE).await;
    assert_eq!(s.notes, ["left: state/messages 40, state/first_seq 1, state/last_seq 40, state/consumer_count 1"]);
}
