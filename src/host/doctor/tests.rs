use std::fs;

use super::*;

fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, FileSystemRoot) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let root = FileSystemRoot::at(dir.path());
    (dir, root)
}

fn item(all: &[Finding], name: &str) -> Finding {
    all.iter().find(|f| f.item == name).unwrap_or_else(|| panic!("no {name}")).clone()
}

#[test]
fn a_host_that_tells_nothing_is_unknown_and_no_error() {
    let (_dir, root) = host(&[]);
    let all = audit(&root);
    assert!(all.len() >= 15, "{}", all.len());
    for f in &all {
        let known = ["virtualisation", "host files"].contains(&f.item.as_str());
        assert!(f.grade == Grade::Unknown || known, "{f:?}");
        assert!(!f.observed.is_empty(), "{f:?}");
    }
    assert_eq!(Disturbance::read(&root), Disturbance::default());
}

#[test]
fn a_bad_host_is_told_what_to_do() {
    let (_dir, root) = host(&[
        ("proc/cpuinfo", "processor\t: 0\nflags\t: fpu hypervisor\nprocessor\t: 1\n"),
        ("proc/loadavg", "3.20 1 1 4/200 77\n"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
        ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "0\n"),
        ("proc/self/cgroup", "0::/box\n"),
        ("sys/fs/cgroup/box/cpu.max", "50000 100000\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
        ("proc/meminfo", "SwapTotal: 2048 kB\nSwapFree: 1024 kB\n"),
        (
            "proc/self/limits",
            "Limit  Soft Hard Units\nMax open files            1024                 4096                 files\n",
        ),
        ("proc/stat", "cpu  10 0 10 60 0 0 0 20 0 0\n"),
        ("sys/devices/system/node/node0/cpulist", "0"),
        ("sys/devices/system/node/node1/cpulist", "1"),
    ]);
    let all = audit(&root);
    for (name, grade) in [
        ("host files", Grade::Warn),
        ("virtualisation", Grade::Warn),
        ("cores", Grade::Warn),
        ("other load", Grade::Bad),
        ("clock source", Grade::Bad),
        ("frequency governor", Grade::Warn),
        ("turbo", Grade::Warn),
        ("CPU quota", Grade::Bad),
        ("transparent huge pages", Grade::Warn),
        ("swap", Grade::Warn),
        ("open files", Grade::Warn),
        ("stolen time", Grade::Bad),
        ("NUMA", Grade::Warn),
    ] {
        let f = item(&all, name);
        assert_eq!(f.grade, grade, "{f:?}");
        assert!(!f.why.is_empty() && !f.remedy.is_empty(), "{f:?}");
    }
    assert_eq!(item(&all, "frequency governor").observed, "performance, powersave");
    assert_eq!(item(&all, "stolen time").observed, "20.00 % since the host started");
}

#[test]
fn what_moves_during_a_trial_is_found() {
    let before = Disturbance { steal: (100, 1000), throttled: 3, ..Disturbance::default() };
    let after = Disturbance { steal: (160, 2000), throttled: 5, swapped: 7, ..before };
    let found = after.since(&before);
    let told: Vec<_> = found.iter().map(|f| (f.item.as_str(), f.grade, f.observed.as_str())).collect();
    assert_eq!(
        told,
        [
            ("stolen time", Grade::Bad, "6.00 % of CPU time"),
            ("CPU quota", Grade::Bad, "2 times held back"),
            ("swap", Grade::Warn, "7 pages moved"),
        ]
    );
    assert_eq!(before.since(&before).len(), 1);
}

#[test]
fn tables_of_the_network_are_read_by_name() {
    let (_dir, root) = host(&[
        ("proc/net/snmp", "Ip: A B\nIp: 1 2\nTcp: InSegs RetransSegs\nTcp: 9 4\n"),
        ("proc/net/netstat", "TcpExt: X ListenDrops\nTcpExt: 1 6\n"),
        ("proc/net/softnet_stat", "0001 000a 0000\n0001 0001 0000\n"),
        ("proc/vmstat", "pswpin 1\npswpout 2\n"),
    ]);
    let d = Disturbance::read(&root);
    assert_eq!((d.retransmitted, d.refused, d.dropped, d.swapped), (4, 6, 11, 3));
}

#[test]
fn this_host_can_be_audited() {
    let all = audit(&FileSystemRoot::host());
    assert!(all.iter().any(|f| f.grade == Grade::Ok), "{all:?}");
}
