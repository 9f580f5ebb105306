//! The connection to the control server.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clocks::Exchange;
use crate::units::{Nanos, now};

/// Bound on the first connection, and on each try after it.
const CONNECT: Duration = Duration::from_secs(10);
/// Between two tries to connect.
const AGAIN: Duration = Duration::from_millis(250);
/// The second ping without an answer ends a connection.
const PING: Duration = Duration::from_secs(2);
/// An answer that does not come within it is asked for again.
const ASK: Duration = Duration::from_secs(1);

/// Where the control server is, and how it is reached.
#[derive(Debug, Clone, Default)]
pub struct ControlServer {
    /// `nats://host:4222`, `tls://host:4222`, with user and password where they are needed.
    pub url: String,
    /// A file with the seed of an NKey.
    pub key: Option<PathBuf>,
    /// A file with the certificate of who has signed that of the server.
    pub ca: Option<PathBuf>,
}

impl ControlServer {
    /// Connects; the connection comes back by itself when it is lost.
    ///
    /// # Errors
    /// In words, when there is no server within the bound, or it refuses.
    pub async fn connect(&self, name: &str) -> Result<Client, String> {
        let mut options = ConnectOptions::new()
            .name(name)
            .connection_timeout(CONNECT)
            .ping_interval(PING)
            .max_reconnects(None)
            .reconnect_delay_callback(|_| AGAIN)
            .request_timeout(Some(ASK));
        if let Some(file) = &self.key {
            let seed = std::fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
            options = options.nkey(seed.trim().to_owned());
        }
        if let Some(file) = &self.ca {
            options = options.add_root_certificates(file.clone()).require_tls(true);
        }
        let failed = |words: String| {
            let url = self.shown();
            format!(
                "no connection to the control server at {url}: {words}; start one there, such as `nats-server` or \
                 `msgbench broker`"
            )
        };
        match tokio::time::timeout(CONNECT, options.connect(self.url.as_str())).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(e)) => Err(failed(e.to_string())),
            Err(_) => Err(failed(format!("nothing answered within {} s", CONNECT.as_secs()))),
        }
    }

    /// The address without user and password.
    pub fn shown(&self) -> String {
        match (self.url.find("://"), self.url.rfind('@')) {
            (Some(scheme), Some(at)) if at > scheme => format!("{}://{}", &self.url[..scheme], &self.url[at + 1..]),
            _ => self.url.clone(),
        }
    }
}

/// A message as bytes.
pub fn bytes(message: &impl Serialize) -> Bytes {
    serde_json::to_vec(message).unwrap_or_default().into()
}

/// Asks until there is an answer.
///
/// # Errors
/// When there is none within the bound: what the last try came to.
pub async fn ask<A: DeserializeOwned>(
    client: &Client,
    subject: &str,
    payload: Bytes,
    bound: Duration,
) -> Result<A, String> {
    let end = tokio::time::Instant::now() + bound;
    loop {
        let words = match client.request(subject.to_owned(), payload.clone()).await {
            Ok(message) => match serde_json::from_slice(&message.payload) {
                Ok(answer) => return Ok(answer),
                Err(e) => format!("the answer cannot be read: {e}"),
            },
            Err(e) => e.to_string(),
        };
        if tokio::time::Instant::now() >= end {
            return Err(words);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One exchange of readings with the clock that answers on a subject; `None` where nobody does.
pub async fn exchange(client: &Client, subject: String) -> Option<Exchange> {
    let t1 = now();
    let message = client.request(subject, Bytes::new()).await.ok()?;
    let t4 = now();
    let (heard, rest) = message.payload.split_first_chunk::<8>()?;
    let said = rest.first_chunk::<8>()?;
    Some(Exchange { t1, t2: Nanos::from_le_bytes(*heard), t3: Nanos::from_le_bytes(*said), t4 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_in_an_address_is_not_shown() {
        let shown = |url: &str| ControlServer { url: url.into(), ..ControlServer::default() }.shown();
        assert_eq!(shown("nats://me:s3cret@h:4222"), "nats://h:4222");
        assert_eq!(shown("tls://h:4222"), "tls://h:4222");
        assert_eq!(shown("h:4222"), "h:4222");
    }
}
