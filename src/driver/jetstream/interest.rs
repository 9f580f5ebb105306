//! Waits until a stream answers what is published where a producer is.
//!
//! # Background
//! Servers tell each other which subjects a stream has after whoever made it was answered. Until
//! the server of a producer knows, what is published there goes nowhere: over the link to a leaf
//! node of 20 ms those are the messages of 20 ms.
//! # Design
//! A message that expects a stream of so many messages that none has them is answered and not
//! stored. It is published until the answer is there, under a subject of the producer, to the inbox
//! of its acknowledgements: so both ways are known to be open.

use std::time::Duration;

use async_nats::{HeaderMap, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::task::unconstrained;

use crate::driver::DriverError;
use crate::driver::nats::link::NatsLink;

/// Pause before a question is asked again: at first, and at most.
const FIRST: Duration = Duration::from_millis(5);
const MOST: Duration = Duration::from_millis(100);

/// The headers of a message that no stream takes.
pub fn refused_by_all() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Sequence", "1000000000000000000");
    headers
}

/// Returns when what is published under `subject` is answered. The answers come to `inbox`, which
/// has nothing else yet, under `reply`.
///
/// # Errors
/// [`DriverError::Admin`] where no answer comes within the bound of the link, or the server forbids
/// it.
pub async fn await_stream(
    link: &NatsLink,
    inbox: &mut Subscriber,
    (subject, reply): (&Subject, &Subject),
    headers: Option<&HeaderMap>,
) -> Result<(), DriverError> {
    let (mut asked, mut nobody) = (0_u64, 0_u64);
    let answered = async {
        let mut pause = FIRST;
        loop {
            link.publish(subject.clone(), Some(reply.clone()), headers, Bytes::new()).await?;
            asked += 1;
            let again = tokio::time::Instant::now() + pause;
            pause = MOST.min(pause * 2);
            while let Ok(next) = tokio::time::timeout_at(again, inbox.next()).await {
                match next {
                    None => return Err(link.lost("the inbox ended")),
                    Some(answer) if answer.status == Some(StatusCode::NO_RESPONDERS) => nobody += 1,
                    Some(_) => return Ok(()),
                }
            }
        }
    };
    match link.within("wait for an answer of the stream", answered).await {
        Ok(done) => done?,
        Err(DriverError::Timeout { seconds, .. }) => {
            let words = format!(
                "{asked} messages under `{subject}` got no answer of the stream within {seconds} s; {nobody} times \
                 the server said that nobody listens there"
            );
            return Err(link.refused("wait for an answer of the stream", words, REMEDY));
        }
        Err(other) => return Err(other),
    }
    // A producer counts what is read from now on.
    while let Some(Some(_)) = unconstrained(inbox.next()).now_or_never() {}
    Ok(())
}

const REMEDY: &str = "see whether the producer's server reaches that of the stream (routes, gateways, leaf nodes)";
