//! The audit of a host: what of it spoils latencies, why that matters and what mends it. Reads
//! only.
//!
//! Files of /proc and /sys come and go with kernels, virtual machines and containers: one that is
//! missing makes its item `unknown`, never an error. Items and thresholds: stats.md, part (d).

mod items;

use std::path::{Path, PathBuf};

pub use items::audit;

pub use crate::record::{Finding, Grade};

/// Names the folder that holds /proc and /sys of the host, where a container has its own.
const ROOT_VARIABLE: &str = "MSGBENCH_HOST_ROOT";

/// The file system as the audit sees it: `/`, or another folder with `proc` and `sys` in it.
#[derive(Debug, Clone)]
pub struct FileSystemRoot(PathBuf);

impl FileSystemRoot {
    /// This host.
    pub fn host() -> Self {
        let named = std::env::var_os(ROOT_VARIABLE).filter(|v| !v.is_empty());
        Self(named.map_or_else(|| "/".into(), PathBuf::from))
    }
    /// A folder with `proc` and `sys` in it.
    pub fn at(folder: &Path) -> Self {
        Self(folder.into())
    }
    /// The content of a file without the white space around it; `None` when it cannot be read.
    fn text(&self, path: &str) -> Option<String> {
        Some(std::fs::read_to_string(self.0.join(path)).ok()?.trim().to_owned())
    }
    /// The number in a file.
    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }
    fn exists(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }
    /// The names in a folder that begin with `prefix`, sorted.
    fn list(&self, folder: &str, prefix: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.join(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.starts_with(prefix)).collect();
        names.sort();
        names
    }
}

/// Counters that must not move while a trial runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disturbance {
    /// CPU time given to other guests, and all CPU time, in ticks.
    pub steal: (u64, u64),
    /// Times that the cgroup of msgbench was held back for its quota.
    pub throttled: u64,
    /// Times that the processor slowed down for heat.
    pub overheated: u64,
    /// Pages swapped in and out.
    pub swapped: u64,
    /// Packets that the kernel dropped before a socket saw them.
    pub dropped: u64,
    /// TCP segments sent again.
    pub retransmitted: u64,
    /// Connections dropped because an accept queue was full.
    pub refused: u64,
}

impl Disturbance {
    /// Reads them now; what cannot be read is zero.
    pub fn read(root: &FileSystemRoot) -> Self {
        items::disturbance(root)
    }

    /// What has happened since `before`, as findings: those that are not as they should be, and the
    /// share of stolen time.
    pub fn since(&self, before: &Self) -> Vec<Finding> {
        items::moved(before, self)
    }
}

#[cfg(test)]
mod tests;
