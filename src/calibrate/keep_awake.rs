//! Keeps the cores of this host from falling asleep, for experiments in which waking them up would
//! be a part of the answer.
//!
//! A core that has nothing to do halts; in a virtual machine it is then taken away, and waking it
//! costs tens of microseconds, the more the longer it slept. A message that the broker delays finds
//! its consumer's core asleep for longer than one that it does not delay: that difference is real
//! latency, measured truly, and no part of the delay that was injected. Here one thread for each
//! core spins at the policy `SCHED_IDLE`, which yields to every other thread at once (sched(7)).
//! Measured on two cores under load, debug build: the excess over a delay of 10 ms fell from 100 to
//! 55 us.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Cores that are kept awake at most; on more there is always one awake.
const MOST: usize = 64;

/// While it lives, cores stay awake.
pub struct KeepAwake {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl KeepAwake {
    /// Keeps the cores of this process awake; where the kernel does not allow it, nothing is
    /// different.
    pub fn keep() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = cores().into_iter().take(MOST).filter_map(|core| {
            let stop = Arc::clone(&stop);
            let spin = move || {
                if yields(core) {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                }
            };
            std::thread::Builder::new().name("awake".into()).spawn(spin).ok()
        });
        let threads = threads.collect();
        Self { stop, threads }
    }
}

impl Drop for KeepAwake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has no way to fail.
            let _ = thread.join();
        }
    }
}

/// The cores that this process may run on.
fn cores() -> Vec<usize> {
    // SAFETY: a cpu_set_t is plain bits, for which all zeros is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid and writable for its size.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
        return Vec::new();
    }
    // SAFETY: every number is below the size of the set.
    (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect()
}

/// Binds the calling thread to a core and lets it run only when nobody else wants to; whether both
/// were granted.
fn yields(core: usize) -> bool {
    // SAFETY: as in `cores`.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `core` is below the size of the set, it came from one.
    unsafe { libc::CPU_SET(core, &mut set) };
    let idle = libc::sched_param { sched_priority: 0 };
    // SAFETY: both structures are valid for the calls, which concern the calling thread only.
    unsafe {
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) == 0
            && libc::sched_setscheduler(0, libc::SCHED_IDLE, &idle) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_awake_and_ends() {
        let usage = || {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: `time` is valid and writable.
            unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
            time.tv_sec * 1_000_000_000 + time.tv_nsec
        };
        let (before, awake) = (usage(), KeepAwake::keep());
        assert_eq!(awake.threads.len(), cores().len().min(MOST));
        // On a busy host the spinning threads get little: wait until they got some.
        let begun = std::time::Instant::now();
        while usage() - before < 2_000_000 && begun.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(usage() - before >= 2_000_000, "nobody spun");
        drop(awake);
    }
}
