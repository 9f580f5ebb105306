//! Instants, spans and shares as nats-server writes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::units::Nanos;

/// Year, month, day, and the time of day in seconds, in UTC, and the fraction in nanoseconds.
fn parts(at: SystemTime) -> ([u64; 3], u64, u32, u64) {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, time) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days since the first of March of the year 0, so that leap days come last.
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    ([year, month, day_of_year - (153 * shifted + 2) / 5 + 1], time, since.subsec_nanos(), days)
}

/// RFC 3339 to the nanosecond.
pub(super) fn instant(at: SystemTime) -> String {
    let ([year, month, day], t, nanos, _) = parts(at);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanos:09}Z", t / 3600, t / 60 % 60, t % 60)
}

/// The date of an HTTP answer.
pub(super) fn date(at: SystemTime) -> String {
    let ([year, month, day], t, _, days) = parts(at);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months[(month - 1) as usize % 12];
    format!("{weekday}, {day:02} {month} {year:04} {:02}:{:02}:{:02} GMT", t / 3600, t / 60 % 60, t % 60)
}

/// A time in whole seconds, such as `1d2h3m4s`.
pub(super) fn uptime(span: Nanos) -> String {
    let seconds = span / 1_000_000_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let (s, m, h) = (seconds % 60, minutes % 60, hours % 24);
    match (days / 365, days, hours, minutes) {
        (0, 0, 0, 0) => format!("{s}s"),
        (0, 0, 0, m) => format!("{m}m{s}s"),
        (0, 0, h, _) => format!("{h}h{m}m{s}s"),
        (0, d, _, _) => format!("{d}d{h}h{m}m{s}s"),
        (y, d, _, _) => format!("{y}y{}d{h}h{m}m{s}s", d % 365),
    }
}

/// A short span, such as `4.99ms`.
pub(super) fn span(nanos: Nanos) -> String {
    match nanos {
        0..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{}ms", nanos as f64 / 1e6),
        _ => format!("{:?}", Duration::from_nanos(nanos)),
    }
}

/// The CPU time this process has used.
pub(super) fn cpu_time() -> Nanos {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `at` is a valid, writable timespec, and the clock exists on every supported kernel.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut at) };
    at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64
}

/// The memory this process holds, in bytes; 0 where the system does not say.
pub(super) fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    // SAFETY: it only asks for a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_spans() {
        let at = |s, n| UNIX_EPOCH + Duration::new(s, n);
        assert_eq!(instant(at(951_782_400, 5)), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(instant(at(1_709_251_199, 0)), "2024-02-29T23:59:59.000000000Z");
        assert_eq!(date(at(784_111_777, 0)), "Sun, 06 Nov 1994 08:49:37 GMT");
        let s = 1_000_000_000;
        assert_eq!((uptime(0), uptime(61 * s)), ("0s".into(), "1m1s".into()));
        assert_eq!((uptime(3600 * s), uptime(90_061 * s)), ("1h0m0s".into(), "1d1h1m1s".into()));
        assert_eq!(uptime(366 * 86_400 * s), "1y1d0h0m0s");
        assert_eq!((span(7), span(4_997_550), span(1_500_000_000)), ("7ns".into(), "4.99755ms".into(), "1.5s".into()));
        assert!(memory() > 100_000 && cpu_time() > 0);
    }
}
