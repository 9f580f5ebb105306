//! A client that comes and goes at a stream: it makes a consumer of its own, publishes a message,
//! is acknowledged, and pulls it.
//!
//! # Design
//! The consumer is kept in memory, and removed when its client has its message: nats-server 2.15
//! allows a stream 1,000 consumers where nothing else is said, and by itself forgets one only
//! [`FORGOTTEN`] after its client is gone. Another connection asks for that and waits for no
//! answer: nothing that happens to the request can make a received message a lost one. The pull is
//! asked for before the message is published, as a waiting consumer does.

use async_nats::Subject;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;

use super::JetstreamDriver;
use super::api::{ConsumerName, call, error_of};
use crate::driver::nats::link::{NatsLink, headers};
use crate::driver::{ConnectAttempt, ConnectSteps, DriverError};
use crate::units::{SECOND, now};

/// So long the server keeps the consumer of a client that is gone.
const FORGOTTEN: u64 = 5 * SECOND;

/// One client, from its connection to its message.
pub(super) async fn connect_once(
    driver: &JetstreamDriver,
    attempt: ConnectAttempt<'_>,
) -> Result<ConnectSteps, DriverError> {
    let ConnectAttempt { workload, producer, number, payload } = attempt;
    let stream = &driver.streams[workload];
    let target = driver.target.at(driver.workloads[workload].producer_at(producer))?;
    let link = NatsLink::open(&target, &driver.connection, &driver.incidents, "msgbench-client").await?;
    let connected = now();
    let subject = format!("{}c.{producer}.{number}", stream.prefix);
    let name = ConsumerName { stream: stream.read(), consumer: format!("c{producer}-{number}") };
    let inbox = format!("mbc.{:08x}.{workload}.{producer}.{number}", driver.target.run);
    let mut own = link.subscribe(format!("{inbox}.*"), None).await?;
    let request = json!({
        "stream_name": name.stream,
        "config": {
            "name": name.consumer, "filter_subject": subject, "ack_policy": "explicit", "deliver_policy": "all",
            "replay_policy": "instant", "mem_storage": true, "num_replicas": 1, "inactive_threshold": FORGOTTEN,
        },
    });
    call(&link, &stream.api, "make a consumer", &name.verb("CONSUMER.CREATE"), &request).await?;
    let subscribed = now();
    let to = |word: &str| Subject::from(format!("{inbox}.{word}"));
    let pull = json!({ "batch": 1, "expires": link.timeout.as_nanos() as u64 }).to_string();
    let next = Subject::from(stream.api.subject(&name.verb("CONSUMER.MSG.NEXT")));
    link.publish(next, Some(to("pull")), None, Bytes::from(pull)).await?;
    let headers = stream.headers(headers(driver.connection.headers));
    let body = Bytes::copy_from_slice(payload);
    link.publish(Subject::from(subject.as_str()), Some(to("ack")), headers.as_ref(), body).await?;
    let (mut acknowledged, mut read) = (false, None);
    while !acknowledged || read.is_none() {
        let next = link.within("receive its own message", own.next()).await?;
        let message = next.ok_or_else(|| link.lost("the subscription ended"))?;
        let at = now();
        if message.subject.ends_with(".ack") {
            let answer = serde_json::from_slice(&message.payload).unwrap_or_default();
            if let Some((words, _)) = error_of(&answer) {
                return Err(DriverError::Refused { words });
            }
            acknowledged = true;
        } else if message.subject.as_str() == subject {
            if let Some(reply) = message.reply {
                link.publish(reply, None, None, Bytes::from_static(b"+ACK")).await?;
            }
            read = Some((at, message.payload));
        } else {
            let words = message.description.unwrap_or_else(|| "the server ended the pull".into());
            return Err(link.refused("receive its own message", words, "see the server's log"));
        }
    }
    let (received, message) = read.ok_or_else(|| link.lost("the subscription ended"))?;
    // Where that fails the server forgets it, later.
    let remove = Subject::from(stream.api.subject(&name.verb("CONSUMER.DELETE")));
    let _ = driver.link.publish(remove, None, None, Bytes::new()).await;
    Ok(ConnectSteps { connected, subscribed, received, message: message.to_vec() })
}
