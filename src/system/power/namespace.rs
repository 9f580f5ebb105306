//! A place for mounts that goes with the processes that are in it, however they end.

use std::io;

/// Moves the calling thread, and all that it starts from now on, into a mount namespace of its own
/// (mount_namespaces(7)): what is mounted there nobody else sees, and it goes with the last process
/// in it. Who is not root gets a user namespace, too, which only a process of one thread can.
///
/// # Errors
/// When the kernel or its administrator does not allow it.
pub fn separate() -> io::Result<()> {
    // SAFETY: geteuid and getegid have no preconditions.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    let flags = if user == 0 { libc::CLONE_NEWNS } else { libc::CLONE_NEWNS | libc::CLONE_NEWUSER };
    // SAFETY: unshare touches no memory of ours.
    if unsafe { libc::unshare(flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if user != 0 {
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    let (none, flags) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
    // SAFETY: the path ends with a zero byte; with these flags nothing else is read.
    match unsafe { libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
