//! What processes and threads cost: CPU time, memory, context switches, waiting for a CPU.
//!
//! CPU time is the process CPU clock (`clock_getcpuclockid`(3)): nanoseconds of user and kernel
//! time over all threads, ended ones included. Summing `/proc/PID/task/*/schedstat` would lose
//! threads that ended; `/proc/PID/stat` counts in ticks of 10 ms and serves only where the clock is
//! refused. The kernel tells the context switches of all threads, ended ones included, to the
//! process itself alone (getrusage(2)): those of threads of others that ended are missing.
//!
//! A process that is gone reads as zeros: a broker may die at any instant and the trial is judged
//! elsewhere.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::units::{Nanos, SECOND};

/// What processes have used since they began (counters) and hold now (memory, threads), summed over
/// them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// User and kernel CPU time in nanoseconds, ended threads included.
    pub cpu_ns: u64,
    /// Resident memory in bytes (`VmRSS`).
    pub rss_bytes: u64,
    /// Highest resident memory in bytes since the process began (`VmHWM`); of several processes the
    /// sum of their peaks.
    pub peak_rss_bytes: u64,
    /// Context switches because a thread waited for something; of other processes, a living one.
    pub voluntary: u64,
    /// Context switches because a thread was made to yield the CPU; of other processes, a living
    /// one.
    pub involuntary: u64,
    /// Living threads.
    pub threads: u32,
    /// Bytes that were sent to a disk (`write_bytes` of proc_pid_io(5)), less those taken back
    /// before they were written; page cache that is not yet written back is not in it.
    pub written_bytes: u64,
}

impl Usage {
    /// The counters less those of `earlier`; memory and threads as they are in `self`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            ..*self
        }
    }

    /// Together with what processes elsewhere have used.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns + other.cpu_ns,
            rss_bytes: self.rss_bytes + other.rss_bytes,
            peak_rss_bytes: self.peak_rss_bytes + other.peak_rss_bytes,
            voluntary: self.voluntary + other.voluntary,
            involuntary: self.involuntary + other.involuntary,
            threads: self.threads + other.threads,
            written_bytes: self.written_bytes + other.written_bytes,
        }
    }
}

/// Reads the usage of a fixed set of processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    pids: Vec<u32>,
}

impl Meter {
    /// Over the processes of a broker; none of them gives zeros.
    pub fn new(pids: &[u32]) -> Self {
        Self { pids: pids.to_vec() }
    }

    /// Over msgbench itself.
    pub fn own() -> Self {
        Self::new(&[std::process::id()])
    }

    /// Reads them now.
    pub fn sample(&self) -> Usage {
        sample(&self.pids)
    }
}

/// Reads the usage of processes that may be replaced by others: what those that are gone have used
/// stays counted, up to the last look before they went.
#[derive(Debug, Clone, Default)]
pub struct ProcessUsage {
    latest: Vec<Usage>,
    gone: Usage,
}

impl ProcessUsage {
    /// Reads them now. `pids` has one place for each process, and another number when it was
    /// replaced.
    pub fn sample(&mut self, pids: &[u32]) -> Usage {
        self.latest.resize(pids.len(), Usage::default());
        let mut sum = self.gone;
        for (&pid, latest) in pids.iter().zip(&mut self.latest) {
            let one = sample_one(pid);
            // Counters of one process never fall.
            if one.cpu_ns < latest.cpu_ns {
                let past = Usage { rss_bytes: 0, peak_rss_bytes: 0, threads: 0, ..*latest };
                add(&mut self.gone, &past);
                add(&mut sum, &past);
            }
            *latest = one;
            add(&mut sum, &one);
        }
        sum
    }
}

impl ProcessUsage {
    /// CPU time and resident memory alone, for frequent samples: microseconds instead of
    /// milliseconds where a process has many threads.
    pub fn sample_cpu_and_memory(&mut self, pids: &[u32]) -> (Nanos, u64) {
        self.latest.resize(pids.len(), Usage::default());
        let (mut cpu, mut rss) = (0, 0);
        for (&pid, latest) in pids.iter().zip(&mut self.latest) {
            let used = cpu_clock(pid).or_else(|| cpu_ticks(pid)).unwrap_or(0);
            if used < latest.cpu_ns {
                add(&mut self.gone, &Usage { rss_bytes: 0, peak_rss_bytes: 0, threads: 0, ..*latest });
                *latest = Usage::default();
            }
            latest.cpu_ns = used;
            cpu += used;
            rss += resident(pid);
        }
        (self.gone.cpu_ns + cpu, rss)
    }
}

/// Resident memory in bytes, from the second field of `/proc/PID/statm` (proc_pid_statm(5)), in
/// pages.
fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    // SAFETY: sysconf touches no memory.
    pages * u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

fn add(sum: &mut Usage, one: &Usage) {
    sum.cpu_ns += one.cpu_ns;
    sum.rss_bytes += one.rss_bytes;
    sum.peak_rss_bytes += one.peak_rss_bytes;
    sum.voluntary += one.voluntary;
    sum.involuntary += one.involuntary;
    sum.threads += one.threads;
    sum.written_bytes += one.written_bytes;
}

/// Reads the usage of `pids` now, summed. A process that does not exist adds nothing.
pub fn sample(pids: &[u32]) -> Usage {
    let mut sum = Usage::default();
    for &pid in pids {
        add(&mut sum, &sample_one(pid));
    }
    sum
}

fn sample_one(pid: u32) -> Usage {
    let root = format!("/proc/{pid}");
    let Ok(status) = fs::read_to_string(format!("{root}/status")) else { return Usage::default() };
    let mut usage = Usage {
        cpu_ns: cpu_clock(pid).or_else(|| cpu_ticks(pid)).unwrap_or(0),
        rss_bytes: field(&status, "VmRSS:") * 1024,
        peak_rss_bytes: field(&status, "VmHWM:") * 1024,
        ..Usage::default()
    };
    // Readable for processes of the same user only; without it nothing is known of writes.
    let io = fs::read_to_string(format!("{root}/io")).unwrap_or_default();
    usage.written_bytes = field(&io, "write_bytes:").saturating_sub(field(&io, "cancelled_write_bytes:"));
    let tasks = folders(Path::new(&format!("{root}/task")));
    if pid == std::process::id() {
        (usage.voluntary, usage.involuntary) = own_switches();
        usage.threads = tasks.len() as u32;
        return usage;
    }
    for task in tasks {
        let Ok(status) = fs::read_to_string(task.join("status")) else { continue };
        usage.voluntary += field(&status, "voluntary_ctxt_switches:");
        usage.involuntary += field(&status, "nonvoluntary_ctxt_switches:");
        usage.threads += 1;
    }
    usage
}

/// Context switches of all threads of this process, ended ones included: (voluntary, involuntary).
fn own_switches() -> (u64, u64) {
    // SAFETY: rusage is plain data for which all zeros is a valid value.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `used` is valid and writable for the call.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut used) };
    (used.ru_nvcsw as u64, used.ru_nivcsw as u64)
}

/// The process CPU clock of another process, in nanoseconds.
fn cpu_clock(pid: u32) -> Option<u64> {
    // To the kernel 0 is the caller, and what exceeds pid_t is nobody.
    let pid = libc::pid_t::try_from(pid).ok().filter(|&pid| pid > 0)?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is valid and writable for the call.
    if unsafe { libc::clock_getcpuclockid(pid, &mut clock) } != 0 {
        return None;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid and writable for the call; a clock of a process that is gone makes it
    // fail.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return None;
    }
    Some(u64::try_from(time.tv_sec).ok()? * SECOND + u64::try_from(time.tv_nsec).ok()?)
}

/// `utime` + `stime` of `/proc/PID/stat` (proc_pid_stat(5), fields 14 and 15), in nanoseconds at
/// the grain of a tick.
fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // SAFETY: sysconf touches no memory.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok().filter(|&ticks| ticks > 0)?;
    Some(ticks_of(&stat)? * (SECOND / per_second))
}

fn ticks_of(stat: &str) -> Option<u64> {
    // The name in field 2 may hold blanks and brackets; the last bracket ends it, and field 3
    // follows.
    let after = stat.rsplit_once(')')?.1;
    let mut fields = after.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some(user + kernel)
}

/// The number after `key` at the start of a line; 0 when there is none.
fn field(text: &str, key: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    value.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn folders(path: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// How the calling thread has spent its time so far, from `/proc/thread-self/schedstat` (kernel
/// documentation, sched-stats): (on a CPU, ready but waiting for one), in nanoseconds. Zeros where
/// the kernel keeps none.
pub fn thread_time() -> (Nanos, Nanos) {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let mut fields = text.split_whitespace().map(|f| f.parse().unwrap_or(0));
    (fields.next().unwrap_or(0), fields.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    /// Burns CPU until the calling thread has used `span`; the count of rounds keeps it from being
    /// optimised away.
    fn burn(span: Nanos) -> u64 {
        let used = || {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: `time` is valid and writable for the call.
            unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
            time.tv_sec as u64 * SECOND + time.tv_nsec as u64
        };
        let end = used() + span;
        let mut rounds = 0;
        while used() < end {
            rounds = black_box(rounds + 1);
        }
        rounds
    }

    #[test]
    fn what_is_synced_to_a_disk_is_counted() {
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let before = sample(&[std::process::id()]);
        std::io::Write::write_all(&mut file, &[1; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let written = sample(&[std::process::id()]).since(&before).written_bytes;
        assert!(written >= 1 << 20, "{written}");
    }

    #[test]
    fn cpu_burnt_is_seen_also_after_its_thread_ended() {
        let meter = Meter::own();
        let before = meter.sample();
        std::thread::spawn(|| burn(50_000_000)).join().unwrap();
        let used = meter.sample().since(&before);
        assert!(used.cpu_ns >= 50_000_000, "{used:?}");
        assert!(used.threads >= 1 && used.rss_bytes > 0 && used.peak_rss_bytes >= used.rss_bytes, "{used:?}");
    }

    #[test]
    fn clock_and_ticks_agree_to_a_few_ticks() {
        burn(30_000_000);
        let pid = std::process::id();
        let (before, ticks, after) = (cpu_clock(pid).unwrap(), cpu_ticks(pid).unwrap(), cpu_clock(pid).unwrap());
        assert!(ticks + 30_000_000 >= before && ticks <= after + 30_000_000, "{before} {ticks} {after}");
    }

    #[test]
    fn a_process_that_is_replaced_stays_counted() {
        let spin = || std::process::Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let mut process_usage = ProcessUsage::default();
        let mut used = 0;
        for _ in 0..2 {
            let mut child = spin();
            let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
            let cpu = loop {
                let (cpu, rss) = process_usage.sample_cpu_and_memory(&[child.id()]);
                if cpu > used && rss > 0 {
                    break cpu;
                }
                assert!(std::time::Instant::now() < end, "{cpu} after {used}, {rss}");
                std::thread::sleep(std::time::Duration::from_millis(5));
            };
            let now = process_usage.sample(&[child.id()]);
            assert!(now.cpu_ns >= cpu && now.threads == 1, "{now:?} after {cpu}");
            used = now.cpu_ns;
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(process_usage.sample_cpu_and_memory(&[child.id()]), (used, 0), "what is gone stays counted");
            assert!(process_usage.sample(&[child.id()]).cpu_ns >= used, "what is gone stays counted");
        }
    }

    #[test]
    fn nobody_costs_nothing() {
        assert_eq!(sample(&[]), Usage::default());
        assert_eq!(sample(&[0, u32::MAX, 999_999_999]), Usage::default());
    }

    #[test]
    fn a_thread_that_waited_is_counted_also_after_it_ended() {
        let meter = Meter::own();
        let before = meter.sample();
        let waits = || (0..20).for_each(|_| std::thread::sleep(std::time::Duration::from_millis(1)));
        std::thread::spawn(waits).join().unwrap();
        let used = meter.sample().since(&before);
        assert!(used.voluntary >= 20 && before.threads > 0, "{used:?}");
    }

    #[test]
    fn a_thread_knows_how_long_it_computed() {
        let before = thread_time();
        burn(20_000_000);
        let after = thread_time();
        assert!(after.0 - before.0 >= 15_000_000 && after.1 >= before.1, "{before:?} {after:?}");
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 12 30 0 0 20 0 1 0 5 0 0";
        assert_eq!(ticks_of(stat), Some(42));
        assert_eq!(ticks_of("nonsense"), None);
    }
}
