//! Intruders at a NATS server: who connects, publishes or subscribes without the right to.
//!
//! # Design
//! A server refuses either the connection, or a command on it by an error that belongs to no call.
//! It treats the commands of a connection in order: so after a command comes a message to oneself,
//! on a subject of one's own, and when that is back, or is refused as well, the command before it
//! was decided.

use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use futures_util::StreamExt;

use super::link::{LOOK, NatsLink};
use super::options::ConnectionOptions;
use crate::driver::{DriverError, Incidents, Intrusion, IntrusionOutcome, IntrusionWay, Target};
use crate::plan::Intruder;

/// So long somebody whose subjects are his own listens for messages of others.
const LISTEN: Duration = Duration::from_millis(150);

/// One try at the subject `publish`, or at those of `subscribe`.
///
/// # Errors
/// When it was not decided: the server cannot be reached, or does not answer.
pub async fn intrude(
    target: &Target,
    (publish, subscribe): (&str, &str),
    attempt: Intrusion<'_>,
) -> Result<IntrusionOutcome, DriverError> {
    let nobody = Intruder { name: "without credentials".into(), client: ca(target), isolated: false };
    let who = target.intruder(attempt.number).unwrap_or(&nobody);
    let outcome = |let_in, words: String| Ok(IntrusionOutcome { who: who.name.clone(), let_in, words });
    let options = ConnectionOptions::from_options(&who.client).map_err(|words| DriverError::Option { words })?;
    let link = match NatsLink::reach(target, &options, &Incidents::default(), "intruder").await {
        Ok(link) => link,
        Err(refused) if refused.by_server => return outcome(false, refused.words.into()),
        Err(unreachable) => return Err(unreachable.error),
    };
    let subject = if attempt.way == IntrusionWay::Publish { publish } else { subscribe };
    let mut heard = None;
    match attempt.way {
        IntrusionWay::Publish => {
            let payload = Bytes::copy_from_slice(attempt.payload);
            link.client.publish(Subject::from(subject), payload).await.map_err(|e| link.lost(e))?;
        }
        IntrusionWay::Subscribe => {
            heard = Some(link.client.subscribe(Subject::from(subject)).await.map_err(|e| link.lost(e))?);
        }
    }
    decided(&link).await?;
    let denied = link.denied().filter(|words| words.contains(subject)).map(str::to_owned);
    let listen = if who.isolated { LISTEN } else { Duration::ZERO };
    let message = match &mut heard {
        Some(subscriber) => tokio::time::timeout(listen, subscriber.next()).await.ok().flatten().is_some(),
        None => false,
    };
    match (denied, attempt.way) {
        _ if message => outcome(true, format!("heard a message on {subject}")),
        (Some(words), _) => outcome(false, words),
        // What is published there arrives at the trial's consumers, or does not: they tell.
        (None, IntrusionWay::Publish) if who.isolated => outcome(false, "nobody of the trial heard it".into()),
        (None, IntrusionWay::Subscribe) if who.isolated => outcome(false, "heard nothing of the trial".into()),
        (None, IntrusionWay::Publish) => outcome(true, format!("the server took a message on {subject}")),
        (None, IntrusionWay::Subscribe) => outcome(true, format!("the server took a subscription to {subject}")),
    }
}

/// The certificate that the server must show.
fn ca(target: &Target) -> serde_json::Map<String, serde_json::Value> {
    target.options.iter().filter(|(key, _)| *key == "ca").map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Waits until the server has decided on everything that was sent.
async fn decided(link: &NatsLink) -> Result<(), DriverError> {
    let subject = Subject::from(format!("outside.{}", link.client.new_inbox().trim_start_matches("_INBOX.")));
    let mut own = link.client.subscribe(subject.clone()).await.map_err(|e| link.lost(e))?;
    link.client.publish(subject, Bytes::new()).await.map_err(|e| link.lost(e))?;
    let wait = async {
        while link.denied().is_none() {
            if tokio::time::timeout(LOOK, own.next()).await.is_ok() {
                break;
            }
        }
    };
    let over = |_| DriverError::Timeout {
        action: "wait for the server's decision on an intruder".into(),
        url: link.url.clone(),
        seconds: link.timeout.as_secs_f64(),
    };
    tokio::time::timeout(link.timeout, wait).await.map_err(over)?;
    // The callback that notes a denial runs in a task of its own.
    for _ in 0..super::link::TURNS {
        tokio::task::yield_now().await;
    }
    Ok(())
}
