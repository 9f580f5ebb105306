//! How far a process has come, for tests that act on a run that says nothing while it measures.

use std::time::{Duration, Instant};

/// Waits until the kernel has given a processor to the threads of `pid` this often. A broker gets
/// it about once for each message, less often on a busy machine, where messages come together.
pub fn worked(pid: u32, times: u64) {
    let given = || -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        // On the processor, waiting for it, times it was given.
        let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
        stats.filter_map(|stat| stat.split_whitespace().nth(2)?.parse::<u64>().ok()).sum()
    };
    let end = Instant::now() + Duration::from_secs(90);
    while given() < times {
        assert!(Instant::now() < end, "process {pid} has worked {} times of {times}", given());
        std::thread::sleep(Duration::from_millis(10));
    }
}
