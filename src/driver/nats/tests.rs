use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;

/// Requests that the server sends.
const REQUESTS: u64 = 20_000;
const BODY: usize = 1024;

/// A NATS server that sends requests to the first subscription and does not read before it is told
/// to; then it counts answers.
async fn server(stream: TcpStream, reads: Arc<Notify>, answers: Arc<AtomicU64>) {
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::new(from);
    let info =
        "INFO {\"server_id\":\"d\",\"version\":\"2.10.0\",\"proto\":1,\"headers\":true,\"max_payload\":1048576}\r\n";
    to.write_all(info.as_bytes()).await.unwrap();
    let mut line = String::new();
    loop {
        line.clear();
        from.read_line(&mut line).await.unwrap();
        if line.starts_with("PING") {
            to.write_all(b"PONG\r\n").await.unwrap();
        } else if let Some(rest) = line.strip_prefix("SUB ") {
            let sid = rest.split_whitespace().last().unwrap().to_owned();
            tokio::spawn(async move {
                for i in 0..REQUESTS {
                    let message = format!("MSG a {sid} r.{i} {BODY}\r\n{}\r\n", "x".repeat(BODY));
                    to.write_all(message.as_bytes()).await.unwrap();
                }
                // The connection stays open.
                std::future::pending::<()>().await;
                drop(to);
            });
            break;
        }
    }
    reads.notified().await;
    let mut body = vec![0; BODY + 2];
    loop {
        line.clear();
        if from.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        if line.starts_with("PUB r.") {
            from.read_exact(&mut body).await.unwrap();
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct AnsweringSink(u64);

impl MessageSink for AnsweringSink {
    fn take(&mut self, _: Incoming<'_>) -> Disposition {
        self.0 += 1;
        Disposition::Answer
    }
    fn dead_letter(&mut self, _: Incoming<'_>) {}
}

/// The consume loop drops the future of `receive` at each of its ticks, also while the client takes
/// no answer.
#[tokio::test]
async fn an_answer_that_the_client_has_no_room_for_is_not_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target {
        url: format!("nats://{}", listener.local_addr().unwrap()),
        timeout: Duration::from_secs(20),
        run: 1,
        options: serde_json::Map::new(),
        ..Target::default()
    };
    let (reads, answers) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
    let (tell, count) = (Arc::clone(&reads), Arc::clone(&answers));
    tokio::spawn(async move { server(listener.accept().await.unwrap().0, reads, answers).await });
    let link = NatsLink::open(&target, &ConnectionOptions::default(), &Incidents::default(), "t").await.unwrap();
    let subscriber = link.client.subscribe("a").await.unwrap();
    let mut consumer = NatsConsumer { listener: Listener::new(&link, subscriber, 0), link, answers: Outbox::default() };
    let mut sink = AnsweringSink(0);
    let (mut idle, mut before) = (0, 0);
    let bound = tokio::time::Instant::now() + Duration::from_secs(60);
    while count.load(Ordering::Relaxed) < sink.0.max(REQUESTS) && tokio::time::Instant::now() < bound {
        tokio::select! {
            biased;
            done = consumer.receive(&mut sink, usize::MAX) => done.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        idle = if count.load(Ordering::Relaxed) + sink.0 == before { idle + 1 } else { 0 };
        before = count.load(Ordering::Relaxed) + sink.0;
        if idle == 20 {
            // Client and server are full by now.
            tell.notify_one();
        }
        if idle == 400 {
            break;
        }
    }
    assert_eq!((sink.0, count.load(Ordering::Relaxed)), (REQUESTS, REQUESTS));
}
