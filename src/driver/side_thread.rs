//! A thread beside the workers of a driver.

use std::io;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

/// A running thread. Dropped, it is told to end and waited for.
#[derive(Debug)]
pub(super) struct SideThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SideThread {
    /// Starts it; what it waits on ends when it is to end.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub(super) fn spawn(name: &str, body: impl FnOnce(oneshot::Receiver<()>) + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || body(stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for SideThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed; nothing else is to be done about it.
            let _ = thread.join();
        }
    }
}
