//! Faults of the network, for systems that msgbench launched: a loopback of the run's own that goes
//! down or is shaped.
//!
//! # Design
//! The run moves into a network namespace of its own before it starts a thread
//! (network_namespaces(7)); what it launches and its clients inherit it, so that nothing else on
//! the host is touched and the namespace goes with the run. Its loopback is taken down and up by
//! ioctl (netdevice(7)); TCP connections live on and send again, as over a cable that is pulled
//! out. Delay, loss and rate are queueing disciplines of the kernel (tc(8): `netem`, `tbf`), tried
//! before the first trial.
//! # Rejected
//! Firewall rules on the host's own loopback: they are everybody's, and stay when a run is killed.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::plan::{Action, Plan};
use crate::system::NodeNetworks;

/// The namespace that the run has made.
static OWN: OnceLock<PathBuf> = OnceLock::new();

/// Where `tc` is looked for.
const TC: [&str; 3] = ["tc", "/usr/sbin/tc", "/sbin/tc"];

/// Moves the calling thread, and all that it starts from now on, into a network namespace of its
/// own if the plan has faults of the network.
///
/// # Errors
/// In words, with a remedy: the kernel or its administrator does not allow it, or lacks a queueing
/// discipline. Must be called while the process has one thread.
pub fn enter(plan: &Plan) -> Result<(), String> {
    let of_network = || plan.events.iter().filter(|e| e.action.of_network());
    if of_network().next().is_none() {
        return Ok(());
    }
    separate().map_err(|e| {
        format!("a network namespace cannot be made ({e}), which `cut` and `shape` need; run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)")
    })?;
    loopback(true).map_err(|e| format!("the loopback of the new network namespace cannot be brought up: {e}"))?;
    if plan.events.iter().any(|e| e.alone) {
        NodeNetworks::make(1).map_err(|e| format!("no node can be cut off alone: {e}"))?;
    }
    for qdisc in of_network().filter_map(|e| e.qdisc.as_deref()) {
        shape(qdisc)?;
        remove_qdisc()?;
    }
    Ok(())
}

/// Does what an event says.
///
/// # Errors
/// In words; and always outside of a namespace that [`enter`] has made.
pub fn act(action: Action, qdisc: Option<&str>) -> Result<(), String> {
    separated()?;
    match (action, qdisc) {
        (Action::Cut, _) => loopback(false).map_err(|e| format!("the loopback does not go down: {e}")),
        (Action::Shape, Some(qdisc)) => shape(qdisc),
        _ => remove_qdisc(),
    }
}

/// Whether what is done to the network is done to that of the run alone.
///
/// # Errors
/// Outside of a namespace that [`enter`] has made.
pub fn separated() -> Result<(), String> {
    if in_own_namespace() {
        return Ok(());
    }
    Err("not in a network namespace of its own; the host's network is left alone".into())
}

/// Whether the calling thread is in the namespace that [`enter`] has made. It is not told by that
/// of the parent: that one may be gone, or not be seen.
fn in_own_namespace() -> bool {
    OWN.get().is_some_and(|own| here().is_ok_and(|here| here == *own))
}

fn here() -> io::Result<PathBuf> {
    std::fs::read_link("/proc/thread-self/ns/net")
}

fn separate() -> io::Result<()> {
    // SAFETY: geteuid and getegid have no preconditions.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    let flags = if user == 0 { libc::CLONE_NEWNET } else { libc::CLONE_NEWNET | libc::CLONE_NEWUSER };
    // SAFETY: unshare touches no memory of ours; where a thread more makes it impossible it fails.
    if unsafe { libc::unshare(flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    OWN.get_or_init(|| here().unwrap_or_default());
    if user != 0 {
        // Root of the new namespace alone, which `tc` needs; outside of it still the same user.
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    Ok(())
}

/// Takes the loopback up or down.
fn loopback(up: bool) -> io::Result<()> {
    // SAFETY: socket touches no memory of ours.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    // SAFETY: both requests read and write the flags of the ifreq that they are given, which lives
    // until they return.
    unsafe {
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) != 0 {
            return Err(io::Error::last_os_error());
        }
        let flag = libc::IFF_UP as libc::c_short;
        let flags = request.ifr_ifru.ifru_flags;
        request.ifr_ifru.ifru_flags = if up { flags | flag } else { flags & !flag };
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn tc(words: &[&str]) -> Result<(), String> {
    for program in TC {
        match Command::new(program).args(words).output() {
            Ok(done) if done.status.success() => return Ok(()),
            Ok(done) => return Err(String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e.to_string()),
        }
    }
    Err("there is no tc (package iproute2)".into())
}

fn shape(qdisc: &str) -> Result<(), String> {
    let words: Vec<&str> =
        ["qdisc", "replace", "dev", "lo", "root"].into_iter().chain(qdisc.split_whitespace()).collect();
    tc(&words).map_err(|e| {
        let kind = words.get(5).copied().unwrap_or_default();
        format!("the network cannot be shaped by `{qdisc}`: {e}; see tc-{kind}(8), and whether this kernel has the module sch_{kind}")
    })
}

/// Ends what [`shape`] and a cut did.
fn remove_qdisc() -> Result<(), String> {
    // Where there is none, nothing is to be removed.
    let _ = tc(&["qdisc", "del", "dev", "lo", "root"]);
    loopback(true).map_err(|e| format!("the loopback does not come up: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_of_the_host_is_left_alone() {
        for action in [Action::Cut, Action::Mend, Action::Shape] {
            let words = act(action, Some("netem delay 1ms")).unwrap_err();
            assert!(words.contains("the host's network is left alone"), "{words}");
        }
    }
}
