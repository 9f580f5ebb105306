//! The brokers: how they come up, and what they have used.

use std::net::SocketAddr;
use std::time::Duration;

use msgbench::engine::Register;
use msgbench::plan::{BringUp, SystemSpec};
use msgbench::system::{Availability, System, SystemContext};
use serde_json::Value;

use crate::Outcome;

/// A broker that is up, stopped when dropped.
pub struct Up {
    pub name: &'static str,
    pub address: SocketAddr,
    pids: Vec<u32>,
    // Before its folder.
    _system: Box<dyn System>,
    _dir: tempfile::TempDir,
}

/// Starts a broker with options as a scenario has them; `None`, said aloud, when it is not
/// installed.
pub fn up(name: &'static str, driver: &str, options: Value) -> Outcome<Option<Up>> {
    if let Availability::Missing { reason, remedy } = Register::built_in().availability(driver) {
        eprintln!("left out: {name}: {reason}; {remedy}");
        return Ok(None);
    }
    let options = options.as_object().cloned().unwrap_or_default();
    let spec = SystemSpec {
        name: name.into(),
        driver: driver.into(),
        bring_up: BringUp::Launch,
        require: true,
        cpus: None,
        options,
    };
    let dir = tempfile::tempdir()?;
    let context = SystemContext { dir: dir.path().to_owned(), timeout: Duration::from_secs(60), cpus: None };
    let mut system = Register::built_in().create(&spec, context)?;
    let running = system.start()?;
    let address = running.url.rsplit('/').next().unwrap_or_default().parse()?;
    Ok(Some(Up { name, address, pids: running.pids, _system: system, _dir: dir }))
}

impl Up {
    /// User and system time of its processes so far, in seconds.
    pub fn cpu(&self) -> Outcome<f64> {
        let mut ticks = 0;
        for pid in &self.pids {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            // Fields 14 and 15 of proc(5); the name, which may hold anything, is the second.
            for field in [11, 12] {
                ticks += fields.get(field).ok_or("a short /proc/PID/stat")?.parse::<u64>()?;
            }
        }
        // SAFETY: sysconf takes a number and returns one.
        Ok(ticks as f64 / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64)
    }

    /// Resident memory of its processes now, in MiB.
    pub fn rss(&self) -> Outcome<f64> {
        let mut kib = 0;
        for pid in &self.pids {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
            kib += line.trim().trim_end_matches(" kB").parse::<u64>()?;
        }
        Ok(kib as f64 / 1024.0)
    }
}
