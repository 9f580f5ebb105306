//! What this machine says of its clock of the day: chrony where it runs, the kernel, devices of
//! PTP. Reads only, and needs no rights.

use std::process::{Command, Stdio};

use crate::clocks::{ChronyTracking, ClockAuthority, ClockFacts, KernelClock, PtpDevice};
use crate::record::{Finding, Grade};
use crate::units::{Nanos, SECOND, latency};

/// Asks all of them. What does not answer is left out.
pub fn read() -> ClockFacts {
    ClockFacts { chrony: chrony(), kernel: kernel(), ptp: ptp() }
}

/// The facts as an item of the audit. Never a reason to warn: no latency is taken from this clock.
pub fn finding(facts: &ClockFacts) -> Finding {
    let source = facts.chrony.as_ref().map(|c| format!(" ({})", c.reference)).unwrap_or_default();
    let told = match facts.error() {
        Some((ns, ClockAuthority::Chrony)) => format!("wrong by at most {}, says chrony{source}", latency(ns)),
        Some((ns, ClockAuthority::Kernel)) => format!("wrong by at most {}, says the kernel", latency(ns)),
        None if facts.chrony.is_none() && facts.kernel.is_none() => "nobody says how wrong it is".into(),
        None => "set by nobody: chrony or NTP would tell how wrong it is".into(),
    };
    let named =
        |d: &PtpDevice| if d.clock.is_empty() { d.device.clone() } else { format!("{} ({})", d.device, d.clock) };
    let devices: Vec<String> = facts.ptp.iter().map(named).collect();
    let devices = if devices.is_empty() { String::new() } else { format!("; PTP: {}", devices.join(", ")) };
    Finding {
        item: "clock of the day".into(),
        grade: Grade::Ok,
        observed: told + &devices,
        why: String::new(),
        remedy: String::new(),
        amount: None,
    }
}

fn chrony() -> Option<ChronyTracking> {
    let mut command = Command::new("chronyc");
    command.args(["-c", "tracking"]).stdin(Stdio::null()).stderr(Stdio::null());
    let said = command.output().ok().filter(|said| said.status.success())?;
    tracking(&String::from_utf8_lossy(&said.stdout))
}

/// Reads the line of `chronyc -c tracking`: reference id, name, stratum, reference time, system
/// time, last offset, RMS offset, frequency, residual frequency, skew, root delay, root dispersion,
/// update interval, leap status (chronyc(1), `tracking`). `None` where it is no such line.
fn tracking(line: &str) -> Option<ChronyTracking> {
    let fields: Vec<&str> = line.trim().split(',').collect();
    let number = |i: usize| fields.get(i)?.parse::<f64>().ok().filter(|n| n.is_finite());
    let nanos = |i: usize| Some((number(i)?.abs() * SECOND as f64).round() as Nanos);
    Some(ChronyTracking {
        reference: (*fields.get(1)?).to_owned(),
        stratum: fields.get(2)?.parse().ok()?,
        system_offset_ns: nanos(4)?,
        root_delay_ns: nanos(10)?,
        root_dispersion_ns: nanos(11)?,
        frequency_ppm: number(7)?,
        synchronised: *fields.get(13)? != "Not synchronised",
    })
}

/// Reads without setting (adjtimex(2)). Errors are in microseconds, the frequency in 2^-16 ppm.
fn kernel() -> Option<KernelClock> {
    // SAFETY: timex is plain data for which all zeros is valid; `modes` of zero sets nothing.
    let mut it: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `it` is valid and writable.
    let state = unsafe { libc::adjtimex(&mut it) };
    let micros = |n: libc::c_long| Nanos::try_from(n).unwrap_or(0).saturating_mul(1_000);
    (state >= 0).then(|| KernelClock {
        synchronised: state != libc::TIME_ERROR && it.status & libc::STA_UNSYNC == 0,
        max_error_ns: micros(it.maxerror),
        estimated_error_ns: micros(it.esterror),
        frequency_ppm: it.freq as f64 / 65_536.0,
    })
}

fn ptp() -> Vec<PtpDevice> {
    let folder = std::fs::read_dir("/sys/class/ptp").into_iter().flatten().flatten();
    let device = |entry: std::fs::DirEntry| PtpDevice {
        device: entry.file_name().to_string_lossy().into_owned(),
        clock: std::fs::read_to_string(entry.path().join("clock_name")).unwrap_or_default().trim().to_owned(),
    };
    let mut all: Vec<PtpDevice> = folder.map(device).collect();
    all.sort_by(|a, b| a.device.cmp(&b.device));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "C0A80A01,time.example.org,3,1764430000.123456789,-0.000012500,0.000003000,0.000020000,\
                        -12.345,0.001,0.050,0.004000000,0.000300000,64.2,Normal\n";

    #[test]
    fn the_line_of_chrony_is_read() {
        let chrony = tracking(LINE).unwrap();
        assert_eq!((chrony.reference.as_str(), chrony.stratum, chrony.synchronised), ("time.example.org", 3, true));
        assert_eq!(chrony.error_ns(), 12_500 + 300_000 + 2_000_000);
        assert_eq!(chrony.frequency_ppm, -12.345);
        let off = tracking(&LINE.replace("Normal", "Not synchronised")).unwrap();
        assert!(!off.synchronised);
        let cut = LINE.replace(",Normal", "");
        for broken in ["", "506 Cannot talk to daemon", "a,b,c,d", &LINE.replace("0.000300000", ""), &cut] {
            assert_eq!(tracking(broken), None, "{broken}");
        }
    }

    #[test]
    fn facts_are_told_and_never_warned_of() {
        let chrony = tracking(LINE);
        let kernel =
            KernelClock { synchronised: true, max_error_ns: 7_000_000, estimated_error_ns: 1, frequency_ppm: 0.0 };
        let ptp = vec![PtpDevice { device: "ptp0".into(), clock: "KVM virtual PTP".into() }];
        let told = |facts: &ClockFacts| {
            let finding = finding(facts);
            assert_eq!(finding.grade, Grade::Ok);
            finding.observed
        };
        let all = ClockFacts { chrony, kernel: Some(kernel), ptp };
        assert_eq!(told(&all), "wrong by at most 2.31ms, says chrony (time.example.org); PTP: ptp0 (KVM virtual PTP)");
        let by_kernel = ClockFacts { chrony: None, ptp: Vec::new(), ..all };
        assert_eq!(told(&by_kernel), "wrong by at most 7.00ms, says the kernel");
        let unset = ClockFacts { kernel: Some(KernelClock { synchronised: false, ..kernel }), ..by_kernel };
        assert_eq!(told(&unset), "set by nobody: chrony or NTP would tell how wrong it is");
        assert_eq!(told(&ClockFacts::default()), "nobody says how wrong it is");
    }

    #[test]
    fn the_kernel_of_this_machine_answers() {
        let kernel = kernel().unwrap();
        assert!(kernel.frequency_ppm.abs() <= 500.0, "{kernel:?}");
        // It counts up to 16 s and stops there.
        assert!(kernel.max_error_ns <= 17 * SECOND, "{kernel:?}");
    }
}
