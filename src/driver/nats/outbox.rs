//! What a consumer sends: acknowledgements, requests and answers.
//!
//! They are handed to the client without waiting. What the client has no room for stays here until
//! there is, so that a consumer whose future is dropped half-way neither forgets an acknowledgement
//! nor sends one twice.

use std::collections::VecDeque;

use async_nats::{HeaderMap, PublishErrorKind, Subject};
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::task::unconstrained;

use super::link::NatsLink;
use crate::driver::DriverError;

#[derive(Debug, Default)]
pub struct Outbox(VecDeque<QueuedMessage>);

#[derive(Debug, Clone)]
struct QueuedMessage {
    subject: Subject,
    reply: Option<Subject>,
    headers: Option<HeaderMap>,
    payload: Bytes,
}

impl QueuedMessage {
    async fn send(self, link: &NatsLink) -> Result<(), DriverError> {
        let client = &link.client;
        let sent = match (self.reply, self.headers) {
            (None, None) => client.publish(self.subject, self.payload).await,
            (Some(reply), None) => client.publish_with_reply(self.subject, reply, self.payload).await,
            (None, Some(headers)) => client.publish_with_headers(self.subject, headers, self.payload).await,
            (Some(reply), Some(headers)) => {
                client.publish_with_reply_and_headers(self.subject, reply, headers, self.payload).await
            }
        };
        sent.map_err(|e| match e.kind() {
            PublishErrorKind::Send => link.lost(e),
            _ => link.refused("send to the server", e.to_string(), "see the server's limits"),
        })
    }
}

impl Outbox {
    /// Sends, now or at the next [`Outbox::flush`].
    ///
    /// # Errors
    /// When the connection is gone.
    #[inline]
    pub fn offer(
        &mut self,
        link: &NatsLink,
        to: Subject,
        reply: Option<Subject>,
        payload: Bytes,
    ) -> Result<(), DriverError> {
        self.offer_with(link, to, reply, None, payload)
    }

    /// As [`Outbox::offer`], with headers.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn offer_with(
        &mut self,
        link: &NatsLink,
        subject: Subject,
        reply: Option<Subject>,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<(), DriverError> {
        let queued = QueuedMessage { subject, reply, headers, payload };
        if self.0.is_empty() {
            match unconstrained(queued.clone().send(link)).now_or_never() {
                Some(done) => return done,
                None => link.incidents.backpressure(),
            }
        }
        self.0.push_back(queued);
        Ok(())
    }

    /// Whether something waits for room.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until the client has taken everything.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn flush(&mut self, link: &NatsLink) -> Result<(), DriverError> {
        while let Some(queued) = self.0.front() {
            // In its turn: a connection that is down takes nothing, and may be down for good.
            link.while_connected(queued.clone().send(link)).await??;
            self.0.pop_front();
        }
        Ok(())
    }
}
