//! A broker of this process for tests, on a runtime of its own.

use std::future::Future;
use std::ops::Deref;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use msgbench::broker::{BrokerError, Shutdown};
use tokio::sync::oneshot;

/// A running broker, stopped at once when dropped, and what may be seen of it.
pub struct Running<T> {
    seen: T,
    stop: Option<oneshot::Sender<Shutdown>>,
    thread: Option<JoinHandle<Result<(), BrokerError>>>,
}

/// Runs what `serve` makes. It says through the channel what is to be seen once it is bound, and
/// ends when told to.
pub fn run<T, F>(serve: impl FnOnce(Sender<T>, oneshot::Receiver<Shutdown>) -> F + Send + 'static) -> Running<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), BrokerError>>,
{
    let (ready, bound) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(serve(ready, stopped))
    });
    let seen = bound.recv().expect("the broker is bound");
    Running { seen, stop: Some(stop), thread: Some(thread) }
}

impl<T> Deref for Running<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.seen
    }
}

impl<T> Running<T> {
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

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap().unwrap();
        }
    }
}
