//! A reference broker within the test, whose end and start the test decides.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc;

use msgbench::broker::Shutdown;
use msgbench::broker::kafka::{Advertised, KafkaBroker, KafkaConfig};

/// The reference broker in a folder, until it is stopped.
pub struct ReferenceLog {
    pub at: SocketAddr,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl ReferenceLog {
    pub fn start(dir: &Path, at: SocketAddr) -> Self {
        Self::of(KafkaConfig { listen: at, ..KafkaConfig::new(dir) })
    }

    /// One that tells its clients to connect to another address.
    pub fn known_as(dir: &Path, told: SocketAddr) -> Self {
        let advertise = Some(Advertised { host: told.ip().to_string(), port: Some(told.port()) });
        Self::of(KafkaConfig { listen: "127.0.0.1:0".parse().unwrap(), advertise, ..KafkaConfig::new(dir) })
    }

    fn of(config: KafkaConfig) -> Self {
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

/// Passes on what comes to its address, until it is stopped: then nobody listens there.
pub struct Passage {
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Passage {
    pub fn start(listener: TcpListener, to: SocketAddr) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            listener.set_nonblocking(true).unwrap();
            let passing = async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (mut client, _) = listener.accept().await.unwrap();
                    tokio::spawn(async move {
                        let mut broker = tokio::net::TcpStream::connect(to).await.unwrap();
                        // Either side may end it.
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
                    });
                }
            };
            // The connections end with the runtime.
            runtime.block_on(async {
                tokio::select! {
                    _ = passing => {}
                    _ = stopped => {}
                }
            });
        });
        Self { stop, thread }
    }

    pub fn stop(self) {
        drop(self.stop);
        self.thread.join().unwrap();
    }
}
