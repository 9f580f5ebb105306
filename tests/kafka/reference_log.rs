//! A reference broker within the test, whose end and start the test decides.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;

use msgbench::broker::Shutdown;
use msgbench::broker::kafka::{KafkaBroker, KafkaConfig};

/// The reference broker in a folder, until it is stopped.
pub struct ReferenceLog {
    pub at: SocketAddr,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl ReferenceLog {
    pub fn start(dir: &Path, at: SocketAddr) -> Self {
        let config = KafkaConfig { listen: at, ..KafkaConfig::new(dir) };
        let (ready, bound) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                let broker = KafkaBroker::bind(config).await.unwrap();
                ready.send(broker.local_addr()).unwrap();
                let end = async {
                    let _ = stopped.await;
                    Shutdown::Now
                };
                broker.run(end).await.unwrap();
            });
        });
        Self { at: bound.recv().unwrap(), stop, thread }
    }

    pub fn stop(self) {
        drop(self.stop);
        self.thread.join().unwrap();
    }
}
