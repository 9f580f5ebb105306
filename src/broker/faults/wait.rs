//! Waits for an absolute instant: asleep until shortly before it, then spinning.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::units::{Nanos, SECOND, now};

/// Waking up takes about so long on an idle core of a virtual machine; the rest of a wait is spent
/// awake.
const SPIN: Nanos = 60_000;
/// A stop is noticed at least so often.
const SLICE: Nanos = 20_000_000;

/// Lets sleeps of the calling thread end when they are due: the kernel may otherwise delay them by
/// 50 us.
pub(in crate::broker) fn exact_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes one integer and concerns the calling thread only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}

/// Returns at `instant`, or when `stop` is set: then `false`.
pub(in crate::broker) fn until(instant: Nanos, stop: &AtomicBool) -> bool {
    loop {
        let at = now();
        if stop.load(Ordering::Acquire) {
            return false;
        }
        if at >= instant {
            return true;
        }
        if instant - at <= SPIN {
            break;
        }
        sleep_until((instant - SPIN).min(at + SLICE));
    }
    while now() < instant {
        std::hint::spin_loop();
    }
    true
}

fn sleep_until(instant: Nanos) {
    let time =
        libc::timespec { tv_sec: (instant / SECOND) as libc::time_t, tv_nsec: (instant % SECOND) as libc::c_long };
    // SAFETY: `time` is valid for the call; with an absolute time no remainder is written. A signal
    // ends the sleep early, which the caller's loop makes good.
    unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &time, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_early_and_stoppable() {
        let stop = AtomicBool::new(false);
        for ahead in [0, 10_000, 300_000, 3_000_000] {
            let due = now() + ahead;
            assert!(until(due, &stop) && now() >= due);
        }
        stop.store(true, Ordering::Release);
        assert!(!until(now() + 3600 * SECOND, &stop));
    }
}
