//! What the broker counts. Every number is added to once per batch, never per message.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Running totals since the broker was bound; read them at any time.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        /// One reading of [`Counters`].
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Reads every counter once; the readings are not one instant.
            pub fn totals(&self) -> Totals {
                Totals { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Connections accepted, refused ones included.
    connections,
    /// Connections open now.
    open,
    /// Connections turned away because `max_connections` were open.
    refused,
    /// Subscriptions in force now.
    subscriptions,
    /// Messages published by clients.
    messages_in,
    /// Bytes of payload, headers included, of the messages published by clients.
    payload_in,
    /// Bytes received from clients, protocol included, TLS excluded.
    bytes_in,
    /// Messages queued for or written to clients.
    messages_out,
    /// Bytes of payload, headers included, of the messages queued for or written to clients.
    payload_out,
    /// Bytes written to clients' sockets, protocol included, TLS excluded.
    bytes_out,
    /// Messages that had a subscriber and were not queued for it because its buffer was full.
    dropped,
    /// Connections closed because they read too slowly.
    slow_consumers,
    /// Times a publisher was held back because a subscriber's buffer was filling.
    stalls,
    /// Requests answered with 503 because nobody listened.
    no_responders,
    /// Messages and subscriptions refused because the user may not.
    violations,
    /// Connections closed for want of valid credentials.
    auth_failures,
    /// Connections given up because their TLS handshake failed.
    tls_failures,
    /// Connections closed because they broke the protocol.
    protocol_errors,
    /// Connections closed because they answered no PING.
    stale,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        if n > 0 {
            counter.fetch_add(n, Ordering::Relaxed);
        }
    }

    pub(super) fn sub(counter: &AtomicU64, n: u64) {
        counter.fetch_sub(n, Ordering::Relaxed);
    }
}
