//! Instants of the calendar as text. Only UTC, only what file names and RFC 3339 need: a date
//! library would be more code than the twenty lines below.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::units::{Nanos, SECOND, now};

/// Year, month and day of a day number counted from 1970-01-01, in the proleptic Gregorian
/// calendar.
///
/// Source: H. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    // Years begin in March here, so that the leap day is the last day of a year.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn text(at: SystemTime, separator: char) -> String {
    // Before 1970 there is nothing to record: such a clock is unset, and the epoch says so plainly.
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()) as i64;
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    let s = seconds.rem_euclid(86_400);
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}{separator}{m:02}{separator}{s:02}Z")
}

/// The calendar of one run: the wall clock is read once, and carried forward by the monotonic
/// clock. A wall clock that is set meanwhile puts no end before its beginning.
#[derive(Debug, Clone, Copy)]
pub struct RunClock {
    wall: SystemTime,
    mono: Nanos,
}

/// Less than this is no step; slewing (adjtime(3), NTP) adds at most 500 us a second to it.
const STEP: Nanos = SECOND;

impl RunClock {
    /// Reads both clocks.
    pub fn start() -> Self {
        Self::anchored(SystemTime::now(), now())
    }
    /// As [`RunClock::start`], with clocks that were read.
    pub fn anchored(wall: SystemTime, mono: Nanos) -> Self {
        Self { wall, mono }
    }
    /// The time of an instant on the monotonic clock.
    pub fn at(&self, mono: Nanos) -> SystemTime {
        let (later, earlier) = (mono.saturating_sub(self.mono), self.mono.saturating_sub(mono));
        let at = self.wall + Duration::from_nanos(later);
        at.checked_sub(Duration::from_nanos(earlier)).unwrap_or(UNIX_EPOCH)
    }
    /// By how many seconds the wall clock, now at `wall`, was set since the start; absent where it
    /// was not.
    ///
    /// A machine that slept looks the same: the monotonic clock of Linux does not count sleep.
    pub fn step(&self, wall: SystemTime, mono: Nanos) -> Option<f64> {
        let due = self.at(mono);
        let seconds = match wall.duration_since(due) {
            Ok(ahead) => ahead.as_secs_f64(),
            Err(behind) => -behind.duration().as_secs_f64(),
        };
        let bound = (STEP + mono.saturating_sub(self.mono) / 2000) as f64 / SECOND as f64;
        (seconds.abs() > bound).then_some(seconds)
    }
}

/// RFC 3339 in UTC, to the second: `2026-11-23T11:50:00Z`.
pub fn rfc3339(at: SystemTime) -> String {
    text(at, ':')
}

/// The same without colons, fit for a folder name everywhere: `2026-11-23T11-50-00Z`.
pub fn folder_name(at: SystemTime) -> String {
    text(at, '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_wall_clock_that_is_set_changes_no_order_and_is_noticed() {
        let wall = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let clock = RunClock::anchored(wall, 50 * SECOND);
        assert_eq!(clock.at(50 * SECOND), wall);
        assert_eq!(clock.at(110 * SECOND), wall + Duration::from_secs(60));
        assert_eq!(clock.at(40 * SECOND), wall - Duration::from_secs(10));
        assert_eq!(clock.at(0), wall - Duration::from_secs(50));
        let late = 650 * SECOND;
        let step = |set: i64| {
            let due = clock.at(late);
            let shown =
                if set < 0 { due - Duration::from_secs(-set as u64) } else { due + Duration::from_secs(set as u64) };
            clock.step(shown, late)
        };
        assert_eq!((step(3600), step(-3600)), (Some(3600.0), Some(-3600.0)));
        assert_eq!((step(0), step(1), step(-1)), (None, None, None));
        // 500 ppm of ten hours are 18 s.
        let ten_hours = 36_000 * SECOND;
        assert_eq!(clock.step(clock.at(ten_hours) + Duration::from_secs(18), ten_hours), None);
        assert!(clock.step(clock.at(ten_hours) + Duration::from_secs(25), ten_hours).is_some());
        // A clock that is set back beyond its start.
        assert!(clock.step(UNIX_EPOCH, late).unwrap() < -1_000_000.0);
    }

    #[test]
    fn known_instants() {
        let at = |s| UNIX_EPOCH + Duration::from_secs(s);
        assert_eq!(rfc3339(at(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(at(951_782_400)), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(at(1_709_251_199)), "2024-02-29T23:59:59Z");
        assert_eq!(rfc3339(at(4_107_542_400)), "2100-03-01T00:00:00Z");
        assert_eq!(folder_name(at(1_000_000_000)), "2001-09-09T01-46-40Z");
    }
}
