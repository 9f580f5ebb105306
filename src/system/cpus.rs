//! A bound on the processor time of a launched system, all its processes together.
//!
//! A whole number of processors is an affinity: the processes run on that many and see no others,
//! so that a runtime that counts them (Go, the JVM, tokio) makes its threads for so many. A
//! fraction is a quota of a control group of its own: `cpu.max` of cgroup v2, `cpu.cfs_quota_us` of
//! v1 (cgroups(7), sched_setaffinity(2)). Both are set between fork and exec: what the process
//! starts inherits them, and no thread runs without. What was set is read back from the running
//! processes. A quota lets all processors run at once and then halts all of them until the period
//! of 100 ms is over, which shows in the slowest messages; an affinity does not.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::plan::{BringUp, Plan, SystemSpec};

/// Length of a period of a quota, in microseconds: the kernel's default.
const PERIOD_US: u64 = 100_000;
/// So long a process that has ended may still be in its group.
const LET_GO: Duration = Duration::from_secs(1);
/// What groups of ours are called, before the process and a number.
const GROUP: &str = "msgbench-";

/// A bound that can be put on processes. Its control group goes when it is dropped.
#[derive(Debug)]
pub struct CpuLimit {
    cpus: f64,
    means: Means,
}

#[derive(Debug)]
enum Means {
    /// These processors.
    Affinity(Vec<usize>),
    /// A control group.
    Quota { group: PathBuf, setting: &'static str, text: String },
}

impl CpuLimit {
    /// A bound of so many processors.
    ///
    /// # Errors
    /// Why this host does not have or allow it, and what to write instead.
    pub fn of(cpus: f64) -> Result<Self, String> {
        let allowed = allowed().map_err(|e| format!("the processors of this process are not known: {e}"))?;
        if cpus > allowed.len() as f64 {
            let n = allowed.len();
            return Err(format!("cpus = {cpus}, and msgbench may use {n} here; write {n} or less"));
        }
        if cpus.fract() == 0.0 {
            // The last ones: interrupts and the generator are oftener on the first.
            let chosen = allowed[allowed.len() - cpus as usize..].to_vec();
            return Ok(Self { cpus, means: Means::Affinity(chosen) });
        }
        let means = quota(cpus).map_err(|why| {
            format!(
                "cpus = {cpus} is a fraction, which needs a control group that msgbench may make, with the controller `cpu`: {why}; write a whole number, or run as root or in a group that is delegated (systemd-run --scope -p Delegate=cpu)"
            )
        })?;
        let made = Self { cpus, means };
        made.probe().map_err(|e| format!("cpus = {cpus}: this host lets no process into the group: {e}"))?;
        Ok(made)
    }

    /// Whether a process can be started within it.
    fn probe(&self) -> io::Result<()> {
        let mut command = Command::new("true");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.put_on(&mut command)?;
        command.status().map(drop)
    }

    /// Puts it on a process that is not started yet.
    ///
    /// # Errors
    /// When the path of the group has a zero byte.
    pub(super) fn put_on(&self, command: &mut Command) -> io::Result<()> {
        use std::os::unix::process::CommandExt as _;
        match &self.means {
            Means::Affinity(of) => {
                let set = set_of(of);
                // SAFETY: between fork and exec the closure makes one system call, which is
                // async-signal-safe, on plain data that it owns.
                unsafe {
                    command.pre_exec(move || {
                        if libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) != 0 {
                            return Err(io::Error::last_os_error());
                        }
                        Ok(())
                    });
                }
            }
            Means::Quota { group, .. } => {
                let file = CString::new(group.join("cgroup.procs").as_os_str().as_bytes())?;
                // SAFETY: between fork and exec the closure makes the system calls open, write and
                // close, which are async-signal-safe, and allocates nothing.
                unsafe {
                    command.pre_exec(move || {
                        let fd = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                        if fd < 0 {
                            return Err(io::Error::last_os_error());
                        }
                        // Zero is the process that writes.
                        let written = libc::write(fd, c"0".as_ptr().cast(), 1);
                        let error = io::Error::last_os_error();
                        libc::close(fd);
                        if written == 1 { Ok(()) } else { Err(error) }
                    });
                }
            }
        }
        Ok(())
    }

    /// What it is, read back from processes that were started within it.
    ///
    /// # Errors
    /// The process that it does not hold.
    pub fn read_back(&self, pids: &[u32]) -> Result<String, String> {
        for pid in pids {
            let held = match &self.means {
                Means::Affinity(of) => allowed_of(*pid).is_some_and(|seen| seen == *of),
                Means::Quota { group, setting, text } => {
                    let set = std::fs::read_to_string(group.join(setting)).unwrap_or_default();
                    let members = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
                    set.trim() == text && members.lines().any(|l| l.trim() == pid.to_string())
                }
            };
            if !held {
                return Err(format!("process {pid} is not bound to {} processors, as it was told", self.cpus));
            }
        }
        Ok(match &self.means {
            Means::Affinity(of) => format!("{} (bound to processor {})", self.cpus, words(of)),
            Means::Quota { .. } => format!("{} (quota of {} ms in 100 ms)", self.cpus, 100.0 * self.cpus),
        })
    }
}

impl Drop for CpuLimit {
    fn drop(&mut self) {
        if let Means::Quota { group, .. } = &self.means {
            // The kernel lets a process go a moment after it was reaped. Where one is still there
            // after that, the next run removes the group.
            let last = Instant::now() + LET_GO;
            while std::fs::remove_dir(group).is_err_and(|e| e.raw_os_error() == Some(libc::EBUSY))
                && Instant::now() < last
            {
                std::thread::sleep(LET_GO / 100);
            }
        }
    }
}

/// The bound of a system as it is launched; none where nothing is bound.
///
/// # Errors
/// Those of [`CpuLimit::of`].
pub fn limit(spec: &SystemSpec) -> Result<Option<Arc<CpuLimit>>, String> {
    let launched = spec.bring_up == BringUp::Launch;
    spec.cpus.filter(|_| launched).map(|cpus| CpuLimit::of(cpus).map(Arc::new)).transpose()
}

/// Tries every bound that a plan asks for.
///
/// # Errors
/// The number of the system, and why this host does not allow its bound.
pub fn possible(plan: &Plan) -> Result<(), (usize, String)> {
    let mut tried: Vec<f64> = Vec::new();
    for case in &plan.cases {
        let spec = plan.spec(case);
        let Some(cpus) = spec.cpus.filter(|c| !tried.contains(c)) else { continue };
        limit(spec).map_err(|words| (case.system, words))?;
        tried.push(cpus);
    }
    Ok(())
}

fn words(of: &[usize]) -> String {
    of.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

fn set_of(cpus: &[usize]) -> libc::cpu_set_t {
    // SAFETY: cpu_set_t is plain data for which all zeros is a valid value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus.iter().filter(|c| **c < libc::CPU_SETSIZE as usize) {
        // SAFETY: the number is within the set.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    set
}

/// The processors that this thread may run on.
fn allowed() -> io::Result<Vec<usize>> {
    let mut set = set_of(&[]);
    // SAFETY: `set` is valid and writable for the call, and of the size that is given.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the numbers are within the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// The processors that a process may run on, as the kernel says.
fn allowed_of(pid: u32) -> Option<Vec<usize>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let list = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?;
    let mut out = Vec::new();
    for part in list.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        out.extend(from.parse::<usize>().ok()?..=to.parse::<usize>().ok()?);
    }
    Some(out)
}

/// Where a group can be made, and of which version it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum GroupParent {
    V1(PathBuf),
    V2(PathBuf),
}

/// Folders in which this process may have a group with a quota, the nearest first: those of v1, and
/// of v2 its own group and all above, as a group that has processes gives its children none.
/// `groups` is /proc/self/cgroup, `mounts` /proc/self/mountinfo.
fn parents(groups: &str, mounts: &str) -> Vec<GroupParent> {
    let path_of = |wanted: &dyn Fn(&str) -> bool| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            wanted(controllers).then(|| path.to_owned())
        })
    };
    let has_cpu = |list: &str| list.split(',').any(|c| c == "cpu");
    let mut out = Vec::new();
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let fields: Vec<&str> = before.split_whitespace().collect();
        let rest: Vec<&str> = after.split_whitespace().collect();
        let (Some(root), Some(at), Some(kind)) = (fields.get(3), fields.get(4), rest.first()) else { continue };
        let below = |path: &str| {
            let own = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
            Path::new(at).join(own.trim_start_matches('/'))
        };
        match *kind {
            "cgroup" if rest.last().is_some_and(|o| has_cpu(o)) => {
                out.extend(path_of(&has_cpu).map(|path| GroupParent::V1(below(&path))));
            }
            "cgroup2" => {
                let Some(path) = path_of(&str::is_empty) else { continue };
                let own = below(&path);
                let all = own.ancestors().take_while(|a| a.starts_with(at));
                out.extend(all.map(|a| GroupParent::V2(a.to_owned())));
            }
            _ => {}
        }
    }
    out
}

/// Makes a group with a quota of so many processors.
fn quota(cpus: f64) -> Result<Means, String> {
    let read = |file: &str| std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"));
    let mut why = "no control groups are mounted".to_owned();
    for parent in parents(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?) {
        match quota_in(&parent, cpus) {
            Ok(means) => return Ok(means),
            Err(words) => why = words,
        }
    }
    Err(why)
}

fn quota_in(parent: &GroupParent, cpus: f64) -> Result<Means, String> {
    let micros = (cpus * PERIOD_US as f64).round() as u64;
    let (dir, setting, text) = match parent {
        GroupParent::V1(dir) => (dir, "cpu.cfs_quota_us", micros.to_string()),
        GroupParent::V2(dir) => {
            let given = std::fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
            if !given.split_whitespace().any(|c| c == "cpu") {
                return Err(format!("{} does not give `cpu` to its groups", dir.display()));
            }
            (dir, "cpu.max", format!("{micros} {PERIOD_US}"))
        }
    };
    sweep(dir);
    let group = dir.join(format!("{GROUP}{}-{}", std::process::id(), crate::units::now()));
    std::fs::create_dir(&group).map_err(|e| format!("{}: {e}", group.display()))?;
    let file = group.join(setting);
    // The period first: a quota is a part of it.
    let period = group.join("cpu.cfs_period_us");
    let set = if matches!(parent, GroupParent::V1(_)) {
        std::fs::write(&period, PERIOD_US.to_string()).and_then(|()| std::fs::write(&file, &text))
    } else {
        std::fs::write(&file, &text)
    };
    if let Err(e) = set {
        let _ = std::fs::remove_dir(&group);
        return Err(format!("{}: {e}", file.display()));
    }
    Ok(Means::Quota { group, setting, text })
}

/// Removes groups of runs that were killed: those whose process is gone.
fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let of = name.to_str().and_then(|n| n.strip_prefix(GROUP)?.split('-').next()?.parse::<u32>().ok());
        if of.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that is killed when this is dropped.
    struct Started(std::process::Child);

    impl Drop for Started {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn started(limit: &CpuLimit) -> Started {
        let mut command = Command::new("sleep");
        command.arg("60");
        limit.put_on(&mut command).unwrap();
        Started(command.spawn().unwrap())
    }

    #[test]
    fn a_whole_number_is_an_affinity_that_is_inherited_and_read_back() {
        let limit = CpuLimit::of(1.0).unwrap();
        let child = started(&limit);
        let seen = allowed_of(child.0.id()).unwrap();
        assert_eq!(seen, allowed().unwrap().split_off(allowed().unwrap().len() - 1));
        let words = limit.read_back(&[child.0.id()]).unwrap();
        assert_eq!(words, format!("1 (bound to processor {})", seen[0]));
        // A process that was started without it is found out.
        let all = allowed().unwrap().len();
        if all > 1 {
            let free = started(&CpuLimit::of(all as f64).unwrap());
            assert!(limit.read_back(&[free.0.id()]).unwrap_err().contains("is not bound to 1 processors"));
        }
        let many = CpuLimit::of(100_000.0).unwrap_err();
        assert!(many.contains("msgbench may use") && many.contains("or less"), "{many}");
    }

    /// Where the host allows a quota, the kernel has it and it is gone afterwards; where it does
    /// not, the reason is said.
    #[test]
    fn a_fraction_is_a_quota_or_is_refused_with_the_reason() {
        match CpuLimit::of(0.5) {
            Ok(limit) => half_is_a_quota(limit),
            Err(words) => {
                let said = ["needs a control group", "lets no process into the group"];
                assert!(said.iter().any(|s| words.contains(s)), "{words}");
            }
        }
    }

    fn half_is_a_quota(limit: CpuLimit) {
        let Means::Quota { group, .. } = &limit.means else { panic!("a quota") };
        let group = group.clone();
        let child = started(&limit);
        assert_eq!(limit.read_back(&[child.0.id()]).unwrap(), "0.5 (quota of 50 ms in 100 ms)");
        let of = std::fs::read_to_string(format!("/proc/{}/cgroup", child.0.id())).unwrap();
        assert!(of.contains(group.file_name().unwrap().to_str().unwrap()), "{of}");
        assert!(limit.read_back(&[std::process::id()]).is_err(), "this process is not in it");
        drop(child);
        drop(limit);
        assert!(!group.exists(), "{}", group.display());
    }

    #[test]
    fn the_place_of_a_group_is_found_in_both_versions() {
        let v2 = "31 23 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let at = |p: &str| GroupParent::V2(p.into());
        let found = parents("0::/user.slice/run.scope\n", v2);
        let wanted =
            ["/sys/fs/cgroup/user.slice/run.scope", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup"].map(at).to_vec();
        assert_eq!(found, wanted);
        let v1 = "40 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                  41 30 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";
        let found = parents("5:cpuset:/\n4:cpu,cpuacct:/a\n0::/\n", v1);
        assert_eq!(found, [GroupParent::V1("/sys/fs/cgroup/cpu,cpuacct/a".into())]);
        // In a container without a namespace of groups the mount begins at its own.
        let inside = "40 30 0:30 /docker/x /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let found = parents("4:cpu:/docker/x\n", inside);
        assert_eq!(found, [GroupParent::V1("/sys/fs/cgroup/cpu".into())]);
        assert_eq!(parents("", ""), []);
    }
}
