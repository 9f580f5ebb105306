//! A broker of this process for tests, on a runtime of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use msgbench::broker::{Broker, BrokerError, Config, Counters, Shutdown};
use tokio::sync::oneshot;

/// A running broker, stopped at once when dropped.
pub struct Running {
    pub address: SocketAddr,
    pub counters: Arc<Counters>,
    stop: Option<oneshot::Sender<Shutdown>>,
    thread: Option<JoinHandle<Result<(), BrokerError>>>,
}

/// Starts a broker on a free loopback port.
pub fn start(config: Config) -> Running {
    let (ready, bound) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let listen = "127.0.0.1:0".parse().unwrap();
            let broker = Broker::bind(Config { listen, ..config }).await?;
            ready.send((broker.local_addr(), broker.counters())).unwrap();
            broker.run(async { stopped.await.unwrap_or(Shutdown::Now) }).await
        })
    });
    let (address, counters) = bound.recv().expect("the broker is bound");
    Running { address, counters, stop: Some(stop), thread: Some(thread) }
}

impl Running {
    /// Asks the broker to end; it may take its time.
    pub fn ask(&mut self, how: Shutdown) {
        if let Some(stop) = self.stop.take() {
            stop.send(how).expect("the broker still runs");
        }
    }

    /// Waits for the end.
    pub fn ended(mut self) {
        self.thread.take().expect("waited for once").join().unwrap().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap().unwrap();
        }
    }
}
