//! The items of the audit, each a small reading of /proc or /sys.

use super::{Disturbance, FileSystemRoot, Finding, Grade};
use crate::host::ticks::steal_of;
use crate::record::{Amount, Disturbed};

/// Least bytes of a socket buffer that does not hold back a burst.
const SOCKET_BUFFER: u64 = 4 << 20;
/// Least open files for a scenario with a thousand connections on each side.
const OPEN_FILES: u64 = 4096;

fn finding(item: &str, grade: Grade, observed: impl Into<String>, why: &str, remedy: impl Into<String>) -> Finding {
    let (why, remedy) = if grade == Grade::Ok { ("", String::new()) } else { (why, remedy.into()) };
    Finding { item: item.into(), grade, observed: observed.into(), why: why.into(), remedy, amount: None }
}

fn unknown(item: &str, path: &str) -> Finding {
    let observed = format!("/{path} cannot be read");
    let why = "virtual machines and containers often hide it; ask whoever runs the host";
    finding(item, Grade::Unknown, observed, why, "")
}

/// Every item, in the order in which a reader should look at them.
pub fn audit(root: &FileSystemRoot) -> Vec<Finding> {
    let mut all = vec![
        place(root),
        virtualisation(root),
        cores(root),
        other_load(root),
        clocksource(root),
        governor(root),
        turbo(root),
        heat(root),
        idle_states(root),
        smt(root),
        quota(root),
        pressure(root),
        numa(root),
        huge_pages(root),
        swap(root),
        timer_slack(root),
        socket_buffers(root),
        open_files(root),
        steal(root),
    ];
    all.retain(|f| !f.item.is_empty());
    all
}

/// Where the files were read; no item where that is this host's own root.
fn place(root: &FileSystemRoot) -> Finding {
    let elsewhere = root.0.as_os_str() != "/";
    let item = if elsewhere { "host files" } else { "" };
    let observed = format!("/proc and /sys are read below {}", root.0.display());
    let why = "what is said of the host holds only if these are its own files";
    finding(item, Grade::Warn, observed, why, "unset MSGBENCH_HOST_ROOT on the host itself")
}

fn virtualisation(root: &FileSystemRoot) -> Finding {
    let guest = root.text("proc/cpuinfo").is_some_and(|t| t.contains(" hypervisor"));
    let container = root.exists(".dockerenv") || root.exists("run/.containerenv");
    let name = root.text("sys/class/dmi/id/product_name").map(|n| format!(" ({n})")).unwrap_or_default();
    let (grade, observed) = match (guest, container) {
        (true, true) => (Grade::Warn, format!("a container in a virtual machine{name}")),
        (true, false) => (Grade::Warn, format!("a virtual machine{name}")),
        (false, true) => (Grade::Warn, "a container".into()),
        (false, false) => (Grade::Ok, "a machine of its own".into()),
    };
    let why = "other virtual machines can take the processor at any moment: the slowest messages (p99 and above) may be their doing, not the broker's";
    finding(
        "virtualisation",
        grade,
        observed,
        why,
        "compare only systems that were measured in turn on this host (`msgbench run` does so), and look at the hiccups in the report: times when the host itself stood still",
    )
}

fn cores(root: &FileSystemRoot) -> Finding {
    let cpus = root.text("proc/cpuinfo").map_or(0, |t| t.lines().filter(|l| l.starts_with("processor")).count());
    if cpus == 0 {
        return unknown("cores", "proc/cpuinfo");
    }
    let grade = if cpus < 4 { Grade::Warn } else { Grade::Ok };
    let why = "generator, consumers and broker share them: waiting for a core is part of every latency";
    finding("cores", grade, cpus.to_string(), why, "use a host with 4 or more, or run the broker on another host")
}

fn other_load(root: &FileSystemRoot) -> Finding {
    let Some(text) = root.text("proc/loadavg") else { return unknown("other load", "proc/loadavg") };
    let fields: Vec<&str> = text.split_whitespace().collect();
    let average: f64 = fields.first().and_then(|f| f.parse().ok()).unwrap_or(0.0);
    let running = fields.get(3).and_then(|f| f.split('/').next()?.parse::<u64>().ok()).unwrap_or(1).saturating_sub(1);
    let grade = match () {
        () if average >= 1.0 || running > 1 => Grade::Bad,
        () if average >= 0.3 || running > 0 => Grade::Warn,
        () => Grade::Ok,
    };
    let observed = format!("load average {average}, {running} other tasks running");
    finding(
        "other load",
        grade,
        observed,
        "other programs take the cores that are measured",
        "end them; `top` shows which",
    )
}

fn clocksource(root: &FileSystemRoot) -> Finding {
    let path = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    let Some(source) = root.text(path) else { return unknown("clock source", path) };
    let grade = match source.as_str() {
        "tsc" | "arch_sys_counter" | "kvm-clock" => Grade::Ok,
        "hpet" | "acpi_pm" => Grade::Bad,
        _ => Grade::Warn,
    };
    let why =
        "each read of this clock is a system call or a trip to the hypervisor, microseconds instead of nanoseconds";
    finding("clock source", grade, source, why, format!("echo tsc | sudo tee /{path}"))
}

fn governor(root: &FileSystemRoot) -> Finding {
    let cpus = root.list("sys/devices/system/cpu", "cpu");
    let read = |cpu: &String| root.text(&format!("sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor"));
    let mut governors: Vec<String> = cpus.iter().filter_map(read).collect();
    governors.sort();
    governors.dedup();
    if governors.is_empty() {
        return unknown("frequency governor", "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    }
    let grade = if governors == ["performance"] { Grade::Ok } else { Grade::Warn };
    let why = "the processor slows down between messages, so that an idle broker answers later than a busy one";
    finding("frequency governor", grade, governors.join(", "), why, "sudo cpupower frequency-set -g performance")
}

fn turbo(root: &FileSystemRoot) -> Finding {
    let intel = root.number("sys/devices/system/cpu/intel_pstate/no_turbo").map(|off| off == 1);
    let amd = root.number("sys/devices/system/cpu/cpufreq/boost").map(|on| on == 0);
    let Some(off) = intel.or(amd) else { return unknown("turbo", "sys/devices/system/cpu/intel_pstate/no_turbo") };
    let (grade, observed) = if off { (Grade::Ok, "off") } else { (Grade::Warn, "on") };
    let remedy = match intel {
        Some(_) => "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo",
        None => "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost",
    };
    finding("turbo", grade, observed, "the first seconds run faster than the rest, depending on heat", remedy)
}

fn heat(root: &FileSystemRoot) -> Finding {
    let path = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count";
    let Some(count) = root.number(path) else { return unknown("heat throttling", path) };
    let observed = format!("{count} times since the host started");
    let grade = if count > 0 { Grade::Warn } else { Grade::Ok };
    finding(
        "heat throttling",
        grade,
        observed,
        "a hot processor slows down in mid-run",
        "cool the host; measure shorter with pauses",
    )
}

fn idle_states(root: &FileSystemRoot) -> Finding {
    let folder = "sys/devices/system/cpu/cpu0/cpuidle";
    let states = root.list(folder, "state");
    if states.is_empty() {
        return unknown("idle states", folder);
    }
    let deepest = states
        .iter()
        .filter(|s| root.number(&format!("{folder}/{s}/disable")) != Some(1))
        .filter_map(|s| root.number(&format!("{folder}/{s}/latency")))
        .max()
        .unwrap_or(0);
    let grade = if deepest > 50 { Grade::Warn } else { Grade::Ok };
    let why = "a core with nothing to do sleeps; waking it takes so long, and at a low rate each message must";
    let remedy = "sudo cpupower idle-set -D 10, or keep /dev/cpu_dma_latency open with 0";
    finding("idle states", grade, format!("the deepest takes {deepest} us to leave"), why, remedy)
}

fn smt(root: &FileSystemRoot) -> Finding {
    let path = "sys/devices/system/cpu/smt/active";
    let Some(active) = root.number(path) else { return unknown("hyper-threading", path) };
    let (grade, observed) = if active == 1 { (Grade::Warn, "on") } else { (Grade::Ok, "off") };
    let why = "two threads share one core: where the broker has one and the load generator the other, each slows the other down";
    finding("hyper-threading", grade, observed, why, "echo off | sudo tee /sys/devices/system/cpu/smt/control")
}

fn cgroup(root: &FileSystemRoot) -> Option<String> {
    let text = root.text("proc/self/cgroup")?;
    let path = text.lines().find_map(|l| l.strip_prefix("0::/"))?;
    Some(format!("sys/fs/cgroup/{path}"))
}

fn quota(root: &FileSystemRoot) -> Finding {
    let Some(folder) = cgroup(root) else { return unknown("CPU quota", "proc/self/cgroup") };
    let Some(max) = root.text(&format!("{folder}/cpu.max")) else {
        return finding("CPU quota", Grade::Ok, "none", "", "");
    };
    let limited = !max.starts_with("max");
    let grade = if limited { Grade::Bad } else { Grade::Ok };
    let observed = if limited { format!("cpu.max = {max}") } else { "none".into() };
    let why = "a process that has used its quota is stopped until the next period, up to 100 ms: the slowest messages are those that wait for it";
    finding("CPU quota", grade, observed, why, "run without a CPU limit (docker: no --cpus; Kubernetes: no limits.cpu)")
}

fn pressure(root: &FileSystemRoot) -> Finding {
    let path = "proc/pressure/cpu";
    let Some(text) = root.text(path) else { return unknown("CPU pressure", path) };
    let some =
        text.lines().find_map(|l| l.strip_prefix("some ")?.split_whitespace().find_map(|f| f.strip_prefix("avg10=")));
    let average: f64 = some.and_then(|s| s.parse().ok()).unwrap_or(0.0);
    let grade = if average > 5.0 { Grade::Warn } else { Grade::Ok };
    let observed = format!("{average} % of the last 10 s some task waited for a core");
    finding("CPU pressure", grade, observed, "there is more to do than there are cores", "end other programs")
}

fn numa(root: &FileSystemRoot) -> Finding {
    let nodes = root.list("sys/devices/system/node", "node").len();
    let balancing = root.number("proc/sys/kernel/numa_balancing");
    match (nodes, balancing) {
        (0, _) => unknown("NUMA", "sys/devices/system/node"),
        (1, _) => finding("NUMA", Grade::Ok, "one node", "", ""),
        (n, b) => {
            let moving = if b == Some(1) { ", pages are moved between them" } else { "" };
            let why = "memory belongs to a part (node) of the machine: generator and broker on different nodes wait for each other's, and where they land changes with every start";
            finding(
                "NUMA",
                Grade::Warn,
                format!("{n} nodes{moving}"),
                why,
                "numactl --cpunodebind=0 --membind=0 msgbench ...",
            )
        }
    }
}

fn huge_pages(root: &FileSystemRoot) -> Finding {
    let path = "sys/kernel/mm/transparent_hugepage/enabled";
    let Some(text) = root.text(path) else { return unknown("transparent huge pages", path) };
    let chosen = text.split_whitespace().find_map(|w| w.strip_prefix('[')?.strip_suffix(']')).unwrap_or("?").to_owned();
    let grade = if chosen == "always" { Grade::Warn } else { Grade::Ok };
    let why = "the kernel stops a process now and then, to join its small pages of memory to large ones";
    finding("transparent huge pages", grade, chosen, why, format!("echo madvise | sudo tee /{path}"))
}

fn meminfo(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
}

fn swap(root: &FileSystemRoot) -> Finding {
    let Some(text) = root.text("proc/meminfo") else { return unknown("swap", "proc/meminfo") };
    let total = meminfo(&text, "SwapTotal:").unwrap_or(0);
    let used = total.saturating_sub(meminfo(&text, "SwapFree:").unwrap_or(0));
    let (grade, observed) = match (total, used) {
        (0, _) => (Grade::Ok, "none".to_owned()),
        (_, 0) => (Grade::Ok, "on, nothing in it".to_owned()),
        _ => (Grade::Warn, format!("{} MiB in use", used / 1024)),
    };
    finding("swap", grade, observed, "memory that was moved to disk takes milliseconds to come back", "sudo swapoff -a")
}

fn timer_slack(root: &FileSystemRoot) -> Finding {
    let path = "proc/self/timerslack_ns";
    let Some(slack) = root.number(path) else { return unknown("timer slack", path) };
    // msgbench sets its own threads to 1 ns; brokers keep what they inherit.
    let observed = format!("{slack} ns (msgbench sets its own threads to 1 ns)");
    finding("timer slack", Grade::Ok, observed, "", "")
}

fn socket_buffers(root: &FileSystemRoot) -> Finding {
    let read = |name: &str| root.number(&format!("proc/sys/net/core/{name}"));
    let (Some(receive), Some(send)) = (read("rmem_max"), read("wmem_max")) else {
        return unknown("socket buffers", "proc/sys/net/core/rmem_max");
    };
    let grade = if receive.min(send) < SOCKET_BUFFER { Grade::Warn } else { Grade::Ok };
    let observed = format!("at most {} KiB to receive, {} KiB to send", receive / 1024, send / 1024);
    let why = "a burst that does not fit waits in the sender; only clients that ask for larger buffers are concerned";
    let remedy = format!("sudo sysctl -w net.core.rmem_max={SOCKET_BUFFER} net.core.wmem_max={SOCKET_BUFFER}");
    finding("socket buffers", grade, observed, why, remedy)
}

fn open_files(root: &FileSystemRoot) -> Finding {
    let path = "proc/self/limits";
    let Some(text) = root.text(path) else { return unknown("open files", path) };
    let line = text.lines().find_map(|l| l.strip_prefix("Max open files"));
    let soft = line.and_then(|l| l.split_whitespace().next().map(str::to_owned)).unwrap_or_default();
    let enough = soft == "unlimited" || soft.parse::<u64>().is_ok_and(|n| n >= OPEN_FILES);
    let grade = if enough { Grade::Ok } else { Grade::Warn };
    let why = "each connection is an open file, at both ends; a trial that needs more of them fails";
    finding("open files", grade, format!("at most {soft}"), why, "ulimit -n 65536")
}

fn steal(root: &FileSystemRoot) -> Finding {
    let Some((stolen, total)) = steal_ticks(root) else { return unknown("stolen time", "proc/stat") };
    let share = 100.0 * stolen as f64 / total.max(1) as f64;
    let grade = stolen_grade(share);
    let why = "the hypervisor gave the processor to another guest while somebody here wanted it";
    finding(
        "stolen time",
        grade,
        format!("{share:.2} % since the host started"),
        why,
        "use a host of your own, or repeat at a quiet hour",
    )
}

fn stolen_grade(percent: f64) -> Grade {
    match percent {
        p if p > 5.0 => Grade::Bad,
        p if p > 1.0 => Grade::Warn,
        _ => Grade::Ok,
    }
}

fn steal_ticks(root: &FileSystemRoot) -> Option<(u64, u64)> {
    steal_of(&root.text("proc/stat")?)
}

/// See [`Disturbance::read`].
pub(super) fn disturbance(root: &FileSystemRoot) -> Disturbance {
    let after = |text: Option<String>, key: &str| {
        text.and_then(|t| t.lines().find_map(|l| l.strip_prefix(key)?.split_whitespace().next()?.parse::<u64>().ok()))
            .unwrap_or(0)
    };
    let vmstat = root.text("proc/vmstat");
    let softnet = root.text("proc/net/softnet_stat").unwrap_or_default();
    let column = |l: &str| l.split_whitespace().nth(1).and_then(|f| u64::from_str_radix(f, 16).ok());
    Disturbance {
        steal: steal_ticks(root).unwrap_or_default(),
        throttled: after(cgroup(root).and_then(|c| root.text(&format!("{c}/cpu.stat"))), "nr_throttled "),
        overheated: root.number("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count").unwrap_or(0),
        swapped: after(vmstat.clone(), "pswpin ") + after(vmstat, "pswpout "),
        dropped: softnet.lines().filter_map(column).sum(),
        retransmitted: table(root, "proc/net/snmp", "Tcp:", "RetransSegs").unwrap_or(0),
        refused: table(root, "proc/net/netstat", "TcpExt:", "ListenDrops").unwrap_or(0),
    }
}

/// A figure of the two-line tables of /proc/net: names on one line, figures on the next.
fn table(root: &FileSystemRoot, path: &str, group: &str, name: &str) -> Option<u64> {
    let text = root.text(path)?;
    let mut lines = text.lines().filter(|l| l.starts_with(group));
    let (names, figures) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|n| n == name)?;
    figures.split_whitespace().nth(at)?.parse().ok()
}

/// Counters that must not move: what each counts, the item, its grade, the unit, the remedy.
const COUNTERS: [(Disturbed, &str, Grade, &str, &str); 6] = [
    (Disturbed::Quota, "CPU quota", Grade::Bad, "times held back", "run without a CPU limit"),
    (Disturbed::Heat, "heat throttling", Grade::Bad, "times slowed down", "cool the host"),
    (Disturbed::Swap, "swap", Grade::Warn, "pages moved", "sudo swapoff -a"),
    (Disturbed::Dropped, "network", Grade::Warn, "packets dropped", "raise net.core.netdev_max_backlog"),
    (Disturbed::Retransmitted, "network", Grade::Warn, "segments sent again", "look for loss on the way"),
    (Disturbed::Refused, "network", Grade::Warn, "connections dropped at the door", "raise net.core.somaxconn"),
];

/// See [`Disturbance::since`].
pub(super) fn moved(before: &Disturbance, after: &Disturbance) -> Vec<Finding> {
    let ticks = after.steal.1.saturating_sub(before.steal.1);
    let share = 100.0 * after.steal.0.saturating_sub(before.steal.0) as f64 / ticks.max(1) as f64;
    let observed = format!("{share:.2} % of CPU time");
    let why = "another virtual machine had the processor: the slowest messages may be its doing";
    let stolen = finding("stolen time", stolen_grade(share), observed, why, "repeat at a quiet hour");
    let mut all = vec![Finding { amount: Some(Amount { of: Disturbed::StolenTime, value: share }), ..stolen }];
    let counted = |d: &Disturbance| [d.throttled, d.overheated, d.swapped, d.dropped, d.retransmitted, d.refused];
    for ((of, item, grade, what, remedy), (before, after)) in
        COUNTERS.into_iter().zip(counted(before).into_iter().zip(counted(after)))
    {
        if let Some(n @ 1..) = after.checked_sub(before) {
            let why = "it happened while the trial ran, and is in its slowest messages";
            let amount = Some(Amount { of, value: n as f64 });
            all.push(Finding { amount, ..finding(item, grade, format!("{n} {what}"), why, remedy) });
        }
    }
    all
}
