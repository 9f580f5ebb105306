//! Waits for an absolute instant on `CLOCK_MONOTONIC`.
//!
//! tokio's timer rounds up to a millisecond, so it never paces a message: it was late by 1.1 ms in
//! the median of a 1 kHz schedule (`docs/measurement.md`). A timerfd in the runtime's epoll set
//! wakes the thread within tens of microseconds, which is the wake-up of an idle core, and leaves
//! the thread to the client's I/O until then. Where a core is to spare the pacer spins instead, and
//! lets the runtime's other tasks run at each turn.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use tokio::io::unix::AsyncFd;

use crate::units::{Nanos, SECOND, now};

/// Waits for instants, in the way it was made for.
#[derive(Debug)]
pub struct Pacer(Option<Timer>);

#[derive(Debug)]
struct Timer {
    fd: AsyncFd<OwnedFd>,
    /// The instant that it is set to.
    armed: Nanos,
    /// How often it was set.
    #[cfg(test)]
    times: u64,
}

impl Pacer {
    /// A pacer that sleeps on a timerfd. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    pub fn sleeping() -> io::Result<Self> {
        // SAFETY: no pointers are involved; the result is checked.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is a fresh descriptor that nobody else owns, and the `AsyncFd` keeps it open
        // until it is dropped.
        let fd = unsafe { AsyncFd::register(OwnedFd::from_raw_fd(fd)) }?;
        Ok(Self(Some(Timer {
            fd,
            armed: 0,
            #[cfg(test)]
            times: 0,
        })))
    }

    /// A pacer that never sleeps.
    pub fn spinning() -> Self {
        Self(None)
    }

    /// How often the kernel's timer was set.
    #[cfg(test)]
    pub fn times(&self) -> u64 {
        self.0.as_ref().map_or(0, |timer| timer.times)
    }

    /// Waits until `instant`; returns at once when it has passed. Cancel safe. Waiting for the same
    /// instant again costs no system call: the timer is set already.
    ///
    /// # Errors
    /// When the kernel refuses the timer.
    pub async fn until(&mut self, instant: Nanos) -> io::Result<()> {
        let Some(timer) = &mut self.0 else {
            while now() < instant {
                tokio::task::yield_now().await;
            }
            return Ok(());
        };
        if now() >= instant {
            return Ok(());
        }
        if timer.armed != instant {
            timer.arm(instant)?;
        }
        while now() < instant {
            let mut guard = timer.fd.readable().await?;
            let mut expirations = [0u8; 8];
            // SAFETY: the buffer is 8 bytes, which is what a timerfd writes.
            let read = unsafe { libc::read(timer.fd.as_raw_fd(), expirations.as_mut_ptr().cast(), 8) };
            if read < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
                guard.clear_ready();
            }
        }
        Ok(())
    }
}

impl Timer {
    fn arm(&mut self, instant: Nanos) -> io::Result<()> {
        let value = libc::timespec { tv_sec: (instant / SECOND) as i64, tv_nsec: (instant % SECOND) as i64 };
        let spec = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: `spec` is a valid itimerspec, the old value is not asked for.
        let done =
            unsafe { libc::timerfd_settime(self.fd.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &spec, std::ptr::null_mut()) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        self.armed = instant;
        #[cfg(test)]
        {
            self.times += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn never_returns_early() {
        for mut pacer in [Pacer::sleeping().unwrap(), Pacer::spinning()] {
            for _ in 0..50 {
                let due = now() + 300_000;
                pacer.until(due).await.unwrap();
                assert!(now() >= due);
            }
            pacer.until(0).await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_instant_that_is_waited_for_in_turns_is_set_once() {
        let mut pacer = Pacer::sleeping().unwrap();
        for wait in [3_000_000, 2_000_000] {
            let due = now() + wait;
            while now() < due {
                tokio::select! {
                    biased;
                    () = tokio::task::yield_now() => {}
                    done = pacer.until(due) => done.unwrap(),
                }
                // Dropped half-way, as when a confirmation comes first.
                tokio::select! {
                    biased;
                    done = pacer.until(due) => done.unwrap(),
                    () = tokio::task::yield_now() => {}
                }
            }
            pacer.until(due).await.unwrap();
        }
        assert!(pacer.times() <= 2, "{}", pacer.times());
        let due = now() + 1_000_000;
        pacer.until(due).await.unwrap();
        assert!(now() >= due, "a timer that is set anew does not tell of the one before");
    }
}
