//! Listening, accepting, ending.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use super::super::log::{Log, LogError, Recovered};
use super::batch::RecordBatches;
use super::config::KafkaConfig;
use super::connection;
use super::counters::{KafkaCounters, add};
use super::faults::BatchFaultQueue;
use super::groups::Coordinator;
use super::hub::KafkaHub;
use super::transactions::TransactionCoordinator;
use crate::broker::shared::Shutdown;
use crate::broker::shared::error::BrokerError;
use crate::broker::shared::tls;

/// A bound broker that speaks Kafka's protocol. [`run`](Self::run) serves until it is told to end.
pub struct KafkaBroker {
    hub: Arc<KafkaHub>,
    listener: TcpListener,
    address: SocketAddr,
    recovered: Recovered,
}

/// What went wrong with the log, as the broker's own error.
fn failed(error: &LogError) -> BrokerError {
    BrokerError::System { what: "use the log", source: std::io::Error::other(error.to_string()) }
}

impl KafkaBroker {
    /// Recovers the log and listens. Clients may connect from now on; they are answered once
    /// [`run`](Self::run) is awaited.
    ///
    /// # Errors
    /// When a setting is out of range, the log cannot be opened, a TLS file is unusable, or the
    /// address is taken.
    pub async fn bind(config: KafkaConfig) -> Result<Self, BrokerError> {
        check(&config)?;
        let faults = BatchFaultQueue::start(&config.fault_options)?;
        let acceptor = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let options = config.log.clone();
        // Recovery reads files and may take a while.
        let opened = tokio::task::spawn_blocking(move || Log::open(options, Arc::new(RecordBatches))).await;
        let (log, recovered) = match opened {
            Ok(opened) => opened.map_err(|error| failed(&error))?,
            Err(error) => {
                return Err(BrokerError::System { what: "open the log", source: std::io::Error::other(error) });
            }
        };
        let counters = Arc::new(KafkaCounters::default());
        let groups = Coordinator::open(Arc::clone(&log), &config, Arc::clone(&counters)).map_err(|e| failed(&e))?;
        let transactions =
            TransactionCoordinator::open(Arc::clone(&log), Arc::clone(&groups)).map_err(|e| failed(&e))?;
        let listen = |source| BrokerError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let hub = Arc::new(KafkaHub::new(config, log, groups, transactions, counters, acceptor, faults));
        Ok(Self { hub, listener, address, recovered })
    }

    /// The address listened on, with the port that port 0 became.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The running totals.
    pub fn counters(&self) -> Arc<KafkaCounters> {
        Arc::clone(&self.hub.counters)
    }

    /// The settings in force.
    pub fn config(&self) -> &KafkaConfig {
        &self.hub.config
    }

    /// The log behind it.
    pub fn log(&self) -> Arc<Log> {
        Arc::clone(&self.hub.log)
    }

    /// What recovery did when the log was opened.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Serves on the current tokio runtime until `shutdown` resolves; returns when every connection
    /// is closed and the log is synced and closed. Lame duck mode is a drain here: the protocol has
    /// no word for it.
    ///
    /// # Errors
    /// When the log cannot be closed.
    pub async fn run(self, shutdown: impl Future<Output = Shutdown>) -> Result<(), BrokerError> {
        let Self { hub, listener, .. } = self;
        let ticking = tokio::spawn(Arc::clone(&hub.groups).tick());
        let ending = tokio::spawn(Arc::clone(&hub.transactions).tick());
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                _ = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok((socket, peer)) => {
                        add(&hub.counters.connections, 1);
                        match hub.place() {
                            Some(place) => {
                                tokio::spawn(connection::serve(Arc::clone(&hub), socket, peer, place));
                            }
                            None => add(&hub.counters.refused, 1),
                        }
                    }
                    // Out of descriptors, or a client that has gone again: both pass.
                    Err(_) => sleep(Duration::from_millis(10)).await,
                },
            }
        }
        drop(listener);
        hub.closing.send_replace(true);
        // Connections answer what they have carried out and close; the bound is for clients that do
        // not read.
        let _ = timeout(Duration::from_secs(2), hub.readers.subscribe().wait_for(|n| *n == 0)).await;
        ticking.abort();
        ending.abort();
        if let Some(faults) = &hub.faults {
            faults.stop();
        }
        let log = Arc::clone(&hub.log);
        match tokio::task::spawn_blocking(move || log.close()).await {
            Ok(closed) => closed.map_err(|error| failed(&error)),
            Err(error) => Err(BrokerError::System { what: "close the log", source: std::io::Error::other(error) }),
        }
    }
}

fn check(config: &KafkaConfig) -> Result<(), BrokerError> {
    let setting = |setting, value: String, remedy| Err(BrokerError::Setting { setting, value, remedy });
    let segment = config.log.defaults.segment_bytes;
    if !(1 << 10..=1 << 30).contains(&segment) {
        return setting("segment size", segment.to_string(), "it may be 1 KiB to 1 GiB");
    }
    if !(1 << 10..=1 << 30).contains(&config.max_request) {
        return setting("max_request", config.max_request.to_string(), "it may be 1 KiB to 1 GiB");
    }
    if config.max_inflight < config.max_request {
        return setting("max_inflight", config.max_inflight.to_string(), "it must hold the longest request");
    }
    let (least, most) = (*config.sessions.start(), *config.sessions.end());
    if least < 1 || least > most {
        return setting(
            "session timeouts",
            format!("{least} to {most} ms"),
            "the shortest is 1 ms and not above the longest",
        );
    }
    if config.max_connections == 0 {
        return setting("max_connections", "0".into(), "allow at least one");
    }
    if config.partitions == 0 || config.partitions as usize > config.log.max_partitions {
        return setting("partitions", config.partitions.to_string(), "it may be 1 to the limit of partitions");
    }
    Ok(())
}
