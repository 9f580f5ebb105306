//! What the Kafka face counts. Every number is added to once per request at most, never per record.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Running totals since the broker was bound; read them at any time.
        #[derive(Debug, Default)]
        pub struct KafkaCounters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        /// One reading of [`KafkaCounters`].
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct KafkaTotals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl KafkaCounters {
            /// Reads every counter once; the readings are not one instant.
            pub fn totals(&self) -> KafkaTotals {
                KafkaTotals { $($name: self.$name.load(Ordering::Relaxed),)* }
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
    /// Requests carried out.
    requests,
    /// Batches appended.
    batches_in,
    /// Records in them.
    records_in,
    /// Bytes received from clients, TLS excluded.
    bytes_in,
    /// Bytes sent to clients, TLS excluded.
    bytes_out,
    /// Batches that were stored already.
    duplicates,
    /// Batches refused.
    rejected,
    /// Rebalances of groups completed.
    rebalances,
    /// Connections closed for want of valid credentials.
    auth_failures,
    /// Connections given up because their TLS handshake failed.
    tls_failures,
    /// Connections closed because they broke the protocol.
    protocol_errors,
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    if n > 0 {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}
