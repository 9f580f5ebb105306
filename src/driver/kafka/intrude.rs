//! Intruders at a Kafka: who connects, writes or reads without the right to.
//!
//! # Design
//! A broker says who has no rights, and who cannot show who he is; who speaks another protocol than
//! its listener finds the connection closed, which is a refusal where somebody listens there. To
//! read means to fetch from the topic's first partition: reaching its end without a message is as
//! good as a message.

use std::ffi::c_int;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaRespErr as Code;

use super::health::ConnectionHealth;
use super::native::{ClientKind, ClientSettings, NativeClient, words};
use super::options::{KafkaOptions, without_credentials};
use super::partitions::Partitions;
use super::producer::TopicWriter;
use crate::driver::{DriverError, Incidents, Intrusion, IntrusionOutcome, IntrusionWay, Target};
use crate::plan::address::KAFKA;
use crate::plan::{Address, Intruder};

/// Pause between two looks whether it is decided.
const LOOK: Duration = Duration::from_millis(5);
/// Bound on a connection that shows whether somebody listens.
const REACH: Duration = Duration::from_secs(1);

/// One try at a topic.
///
/// # Errors
/// When it was not decided: the broker cannot be reached, or does not answer.
pub(super) async fn intrude(
    target: &Target,
    topic: &str,
    attempt: Intrusion<'_>,
) -> Result<IntrusionOutcome, DriverError> {
    let nobody = Intruder { name: "without credentials".into(), client: ca(target), isolated: false };
    let who = target.intruder(attempt.number).unwrap_or(&nobody);
    let url = without_credentials(&target.url);
    let own = Target { url: url.clone(), options: who.client.clone(), ..target.clone() };
    let mut settings = KafkaOptions::read(&own)?.common(&own)?;
    settings.insert("reconnect.backoff.max.ms".into(), "100".into());
    let health = ConnectionHealth::new(&url, target.timeout, &Incidents::default());
    let begun = Begun { url, timeout: target.timeout, topic: topic.to_owned() };
    let decision = match attempt.way {
        IntrusionWay::Publish => begun.publish(settings, health, attempt.payload).await?,
        IntrusionWay::Subscribe => begun.subscribe(settings, health).await?,
    };
    let (let_in, words) = match decision {
        BrokerDecision::LetIn(words) => (true, words),
        BrokerDecision::Refused(words) => (false, words),
    };
    Ok(IntrusionOutcome { who: who.name.clone(), let_in, words })
}

/// The certificate that the broker must show.
fn ca(target: &Target) -> serde_json::Map<String, serde_json::Value> {
    let mut tls = target.options.get("tls").and_then(|tls| tls.as_object()).cloned();
    tls.iter_mut().for_each(|tls| tls.retain(|key, _| key != "certificate" && key != "key"));
    tls.map(|tls| ("tls".to_owned(), tls.into())).into_iter().collect()
}

enum BrokerDecision {
    LetIn(String),
    Refused(String),
}

struct Begun {
    url: String,
    timeout: Duration,
    topic: String,
}

impl Begun {
    fn client(
        &self,
        kind: ClientKind,
        settings: &ClientSettings,
        health: ConnectionHealth,
    ) -> Result<Arc<NativeClient>, DriverError> {
        NativeClient::new(kind, settings, health).map_err(|words| DriverError::Connect {
            url: self.url.clone(),
            words,
            remedy: "correct `system.options`".into(),
        })
    }

    async fn publish(
        &self,
        settings: ClientSettings,
        health: ConnectionHealth,
        payload: &[u8],
    ) -> Result<BrokerDecision, DriverError> {
        let client = self.client(ClientKind::Producer, &settings, health)?;
        let mut writer = TopicWriter::new(client.clone(), &self.topic, &Incidents::default())?;
        if let Err(code) = writer.hand_over(0, payload) {
            return self.by_code(code).ok_or_else(|| DriverError::Refused { words: words(code) });
        }
        let begun = Instant::now();
        loop {
            writer.collect();
            let decided = writer.reports.drain(..).find_map(|(_, code, _)| match code {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    Some(BrokerDecision::LetIn(format!("the broker took a message in {}", self.topic)))
                }
                code => self.by_code(code),
            });
            if let Some(decided) = decided.map(Ok).or_else(|| self.by_connection(&client, begun).transpose()) {
                return decided;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn subscribe(
        &self,
        mut settings: ClientSettings,
        health: ConnectionHealth,
    ) -> Result<BrokerDecision, DriverError> {
        let more = [
            ("group.id", format!("{}-intruder", self.topic)),
            ("enable.auto.commit", "false".into()),
            ("enable.partition.eof", "true".into()),
            ("auto.offset.reset", "earliest".into()),
        ];
        settings.extend(more.map(|(key, value)| (key.to_owned(), value)));
        let client = self.client(ClientKind::Consumer, &settings, health)?;
        // Its errors come by the queue that it consumes from.
        let _queue = client.queue(ClientKind::Consumer);
        let partition = Partitions::of(&self.topic, [(0, 0)]);
        // SAFETY: client and list are valid; the list is copied.
        let code = unsafe { rd::rd_kafka_assign(client.raw(), partition.raw()) };
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(DriverError::Lost { url: self.url.clone(), words: words(code) });
        }
        let begun = Instant::now();
        loop {
            if let Some(code) = polled(&client, 0) {
                let decided = match code {
                    Code::RD_KAFKA_RESP_ERR_NO_ERROR => Some("a message of"),
                    Code::RD_KAFKA_RESP_ERR__PARTITION_EOF => Some("to the end of"),
                    Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE => Some("the offsets of"),
                    _ => None,
                };
                let decided = decided.map(|what| BrokerDecision::LetIn(format!("he read {what} {}", self.topic)));
                if let Some(decided) = decided.or_else(|| self.by_code(code)) {
                    return Ok(decided);
                }
                continue;
            }
            if let Some(decided) = self.by_connection(&client, begun)? {
                return Ok(decided);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What the broker said of a right.
    fn by_code(&self, code: Code) -> Option<BrokerDecision> {
        let refusals = [
            Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
            Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
            Code::RD_KAFKA_RESP_ERR__AUTHENTICATION,
        ];
        refusals.contains(&code).then(|| BrokerDecision::Refused(words(code)))
    }

    /// What became of the connection; nothing yet where there is no decision.
    fn by_connection(&self, client: &NativeClient, begun: Instant) -> Result<Option<BrokerDecision>, DriverError> {
        let said = client.health().last();
        if client.health().is_fatal() {
            return Ok(said.map(BrokerDecision::Refused));
        }
        let late = begun.elapsed() >= self.timeout;
        if !client.health().down() && !late {
            return Ok(None);
        }
        let words = said.unwrap_or_else(|| "the connection was closed".to_owned());
        match self.listens() {
            // It does not want to hear him.
            Ok(()) if !late => Ok(Some(BrokerDecision::Refused(words))),
            Ok(()) => Err(DriverError::Timeout {
                action: "wait for the broker's decision on an intruder".into(),
                url: self.url.clone(),
                seconds: self.timeout.as_secs_f64(),
            }),
            Err(nobody) => Err(DriverError::Connect {
                url: self.url.clone(),
                words: format!("{words}; {nobody}"),
                remedy: "check that a broker runs there".into(),
            }),
        }
    }

    /// Whether somebody takes connections there.
    fn listens(&self) -> Result<(), String> {
        let address = Address::read(&KAFKA, &self.url).map_err(|e| e.words)?;
        let mut refusals = Vec::new();
        for broker in &address.servers {
            for one in (broker.host.as_str(), broker.port).to_socket_addrs().into_iter().flatten() {
                match TcpStream::connect_timeout(&one, REACH) {
                    Ok(_) => return Ok(()),
                    Err(e) => refusals.push(format!("{one}: {e}")),
                }
            }
        }
        Err(refusals.join("; "))
    }
}

/// The code of the next message or error of a consumer.
fn polled(client: &NativeClient, milliseconds: c_int) -> Option<Code> {
    // SAFETY: the client is valid; the message is ours, read once and destroyed once.
    unsafe {
        let message = rd::rd_kafka_consumer_poll(client.raw(), milliseconds);
        let code = message.as_ref()?.err;
        rd::rd_kafka_message_destroy(message);
        Some(code)
    }
}
