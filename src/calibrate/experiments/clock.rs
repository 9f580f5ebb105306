//! Experiment 1: the clock.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use super::experiment;
use crate::calibrate::certificate::{ClaimLine, Experiment, FigureUnit, Thoroughness};
use crate::units::now;

/// Resolution, cost, and whether it ever goes back between cores.
pub fn clock(form: Thoroughness) -> Experiment {
    let reads: u32 = if form == Thoroughness::Quick { 200_000 } else { 1_000_000 };
    let mut smallest = u64::MAX;
    // The cost is that of the cheapest thousand: what the scheduler takes in between is not the
    // clock's.
    let mut cost = f64::INFINITY;
    for _ in 0..reads / 1000 {
        let (begin, mut last) = (now(), now());
        for _ in 0..1000 {
            let at = black_box(now());
            if at > last {
                smallest = smallest.min(at - last);
            }
            last = at;
        }
        cost = cost.min((last - begin) as f64 / 1000.0);
    }
    let (back, cores) = across_cores(reads);
    // What a figure of a latency of tens of microseconds can bear.
    let lines = vec![
        ClaimLine::judged("smallest step".into(), 0.0, Some(smallest as f64), 1_000.0, FigureUnit::Ns),
        ClaimLine::judged("cost of one reading".into(), 0.0, Some(cost), 1_000.0, FigureUnit::Ns),
        ClaimLine::exact(format!("readings that go back between {cores} cores"), 0, back),
    ];
    let claim = "CLOCK_MONOTONIC tells times below a microsecond apart, costs less, and never goes back from one core to another.";
    experiment(1, "clock", claim, lines, None)
}

/// Threads on different cores read in turn and hand on the latest reading that any has made.
fn across_cores(reads: u32) -> (u64, usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).clamp(2, 8);
    let (latest, back) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for core in 0..cores {
            let (latest, back) = (&latest, &back);
            scope.spawn(move || {
                pin(core);
                for _ in 0..reads / cores as u32 {
                    let seen = latest.load(Ordering::SeqCst);
                    let at = now();
                    back.fetch_add(u64::from(at < seen), Ordering::Relaxed);
                    latest.fetch_max(at, Ordering::SeqCst);
                }
            });
        }
    });
    (back.into_inner(), cores)
}

/// Keeps the calling thread on a core, where that is allowed; elsewhere the scheduler spreads the
/// threads.
fn pin(core: usize) {
    // SAFETY: cpu_set_t is plain data for which all zeros, the empty set, is a valid value; `set`
    // outlives the call.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}
