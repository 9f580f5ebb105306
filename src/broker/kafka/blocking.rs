//! What may wait for a disk, and must not hold up a worker's other connections.
//!
//! Most file calls stay on the workers on purpose, since they do not wait: an append and a read go
//! to memory that the kernel has. What does wait runs as blocking work: appends once one has taken
//! more than 5 ms, since the kernel then holds writers up until the disk has caught up (measured
//! while 10 GiB were written as fast as it goes: 900 KiB take 1.2 to 1.8 ms, mostly for copying,
//! but up to 114 ms); the first read of a range that is on the disk alone; the making and removing
//! of files and directories; a search by time. Syncs have threads of their own (`log::sync`), as
//! has recovery. The headers that lead to an old position are read on the worker: 4 KiB, once.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does work that may block, while another thread takes over this worker's other tasks. A runtime
/// of one thread has nobody to take over: there it just blocks.
pub(super) fn run_blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
