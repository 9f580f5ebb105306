//! The machine a run took place on, as far as it bears on what was measured.
//!
//! What cannot be read is left empty or zero rather than guessed: the record says what was seen.

use std::fs;
use std::hint::black_box;

use crate::record::Host;
use crate::units::now;

/// Clock reads over which their cost is averaged.
const CLOCK_READS: u32 = 10_000;

/// Reads what this host is. Takes about a millisecond, most of it for the cost of a clock read.
pub fn read() -> Host {
    let cpuinfo = text("/proc/cpuinfo");
    Host {
        kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
        cpu: cpuinfo_field(&cpuinfo, "model name").unwrap_or(std::env::consts::ARCH).to_owned(),
        cpus: allowed_cpus(),
        memory_bytes: memory_bytes(&text("/proc/meminfo")),
        clocksource: text("/sys/devices/system/clocksource/clocksource0/current_clocksource").trim().to_owned(),
        clock_read_ns: clock_read_ns(),
        virtualised: virtualised(&cpuinfo),
        load_average: load_average(&text("/proc/loadavg")),
        governor: fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
            .ok()
            .map(|governor| governor.trim().to_owned()),
        findings: super::doctor::audit(&super::doctor::FileSystemRoot::host())
            .into_iter()
            .filter(|f| f.grade > crate::record::Grade::Unknown)
            .collect(),
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn cpuinfo_field<'a>(cpuinfo: &'a str, key: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// x86 shows a hypervisor among the flags of the CPU; other architectures through what firmware or
/// Xen tell.
fn virtualised(cpuinfo: &str) -> bool {
    cpuinfo_field(cpuinfo, "flags").is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
        || fs::exists("/sys/hypervisor/type").unwrap_or(false)
        || fs::exists("/proc/device-tree/hypervisor").unwrap_or(false)
}

fn memory_bytes(meminfo: &str) -> u64 {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    kib.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn load_average(loadavg: &str) -> f64 {
    loadavg.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// The CPUs in the affinity mask of this process.
fn allowed_cpus() -> u32 {
    // SAFETY: cpu_set_t is plain data for which all zeros, the empty set, is a valid value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid and writable, and its true size is given.
    let rc = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if rc != 0 {
        // More CPUs than a cpu_set_t holds.
        return std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    }
    // SAFETY: `set` was filled by the kernel.
    unsafe { libc::CPU_COUNT(&set) as u32 }
}

fn clock_read_ns() -> f64 {
    let start = now();
    for _ in 0..CLOCK_READS {
        black_box(now());
    }
    (now() - start) as f64 / f64::from(CLOCK_READS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_described() {
        let host = read();
        assert!(host.kernel.starts_with(|c: char| c.is_ascii_digit()), "{host:?}");
        assert!(!host.cpu.is_empty() && !host.clocksource.is_empty(), "{host:?}");
        assert!(host.cpus >= 1 && host.memory_bytes > 1 << 20, "{host:?}");
        assert!(host.clock_read_ns > 0.0 && host.load_average >= 0.0, "{host:?}");
    }

    #[test]
    fn the_hypervisor_flag_is_a_whole_word() {
        assert_eq!(cpuinfo_field("model name\t: A B\nflags\t: fpu hypervisor\n", "flags"), Some("fpu hypervisor"));
        assert!(virtualised("flags\t\t: fpu hypervisor sse\n"));
        assert_eq!(memory_bytes("MemTotal:       16 kB\n"), 16_384);
        assert_eq!(memory_bytes(""), 0);
        assert!((load_average("0.25 1 1 1/2 3\n") - 0.25).abs() < 1e-12);
    }
}
