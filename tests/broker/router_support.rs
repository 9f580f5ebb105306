//! A router of this process for tests.

use std::net::SocketAddr;
use std::sync::Arc;

use msgbench::broker::{Broker, Config, Counters, Shutdown};

/// What may be seen of it.
pub struct Seen {
    pub address: SocketAddr,
    pub counters: Arc<Counters>,
}

pub type Running = crate::running::Running<Seen>;

/// Starts a broker on a free loopback port.
pub fn start(config: Config) -> Running {
    crate::running::run(move |ready, stopped| async move {
        let listen = "127.0.0.1:0".parse().unwrap();
        let broker = Broker::bind(Config { listen, ..config }).await?;
        assert!(ready.send(Seen { address: broker.local_addr(), counters: broker.counters() }).is_ok());
        broker.run(async { stopped.await.unwrap_or(Shutdown::Now) }).await
    })
}
