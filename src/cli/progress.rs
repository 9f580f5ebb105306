//! The progress display: two lines that move on a terminal, below a line that stays for each
//! finished trial; plain lines elsewhere; nothing when quiet.
//!
//! The time that is left is known: the phases of each trial are planned, and what a trial takes
//! besides (to start a server, to wait for the last messages) is what finished ones took.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::engine::Tick;
use crate::report::pages::text::wrapped;
use crate::units::{count, say, time_words};

pub(super) enum Progress {
    Quiet,
    Lines(Mutex<Option<Instant>>, Mutex<RunProgress>),
    Bar(ProgressBar, Mutex<RunProgress>),
}

/// How far a run is.
#[derive(Debug, Default)]
pub(super) struct RunProgress {
    /// Warm-up and measured phase of a trial, on the average of the plan.
    planned: Duration,
    /// Trials that are finished.
    done: usize,
    of: usize,
    /// What finished trials took beyond what was planned, in all.
    beyond: Duration,
    /// The trial that is running: when it began, and what was planned of it.
    current: Option<(Instant, Duration)>,
    label: String,
    /// Messages sent and received at the last tick.
    last: Option<(Instant, u64, u64)>,
}

/// What a trial takes beyond its phases, until one has told.
const BEYOND: Duration = Duration::from_secs(1);
/// A line at most so often where the output is not a terminal.
const EVERY: Duration = Duration::from_secs(5);
/// Redraws a second at most.
const REDRAWS: u8 = 5;
/// Characters of the bar.
const BAR: usize = 20;

impl RunProgress {
    fn begin(&mut self, label: String, number: usize, of: usize, planned: Duration, at: Instant) {
        (self.done, self.of, self.label) = (number.saturating_sub(1), of, label);
        (self.current, self.last) = (Some((at, planned)), None);
    }

    fn end(&mut self, at: Instant) {
        if let Some((began, planned)) = self.current.take() {
            self.done += 1;
            self.beyond += at.saturating_duration_since(began).saturating_sub(planned);
        }
    }

    /// What a trial takes besides its phases.
    fn overhead(&self) -> Duration {
        match u32::try_from(self.done) {
            Ok(n) if n > 0 => self.beyond / n,
            _ => BEYOND,
        }
    }

    fn left(&self, at: Instant) -> Duration {
        let current = self.current.map_or(Duration::ZERO, |(began, planned)| {
            (planned + self.overhead()).saturating_sub(at.saturating_duration_since(began))
        });
        let others = self.of.saturating_sub(self.done + usize::from(self.current.is_some()));
        current + (self.planned + self.overhead()) * u32::try_from(others).unwrap_or(u32::MAX)
    }

    /// `[#####...............] 3 of 12 trials done, about 1 min 20 s left`.
    fn overall(&self, at: Instant) -> String {
        let left = self.left(at).as_secs_f64();
        let whole = (self.planned + self.overhead()).as_secs_f64() * self.of as f64;
        let share = if whole > 0.0 { 1.0 - (left / whole).clamp(0.0, 1.0) } else { 0.0 };
        let full = ((share * BAR as f64) as usize).min(BAR);
        let bar = format!("{}{}", "#".repeat(full), ".".repeat(BAR - full));
        format!("[{bar}] {} of {} trials done, about {} left", self.done, self.of, duration(left))
    }

    /// Messages sent and received per second since the last call; nothing at the first one of a
    /// trial.
    fn rates(&mut self, t: &Tick, at: Instant) -> Option<(f64, f64)> {
        let (before, sent, received) = self.last.replace((at, t.sent, t.received))?;
        let seconds = at.saturating_duration_since(before).as_secs_f64();
        let (sent, received) = (t.sent.checked_sub(sent)?, t.received.checked_sub(received)?);
        (seconds > 0.0).then(|| (sent as f64 / seconds, received as f64 / seconds))
    }

    /// `nats, round 2: measure, 4 s left; p50 145 µs, p99 0.80 ms; 20k/s; 12 in flight`.
    fn live(&mut self, t: &Tick, at: Instant) -> String {
        let mut parts = vec![format!("{}: {}, {} left", self.label, t.phase, duration(t.left.as_secs_f64()))];
        parts.extend(t.last.map(|(p50, p99)| format!("p50 {}, p99 {}", time_words(p50), time_words(p99))));
        // Of what fans out more is received than sent.
        parts.extend(self.rates(t, at).map(|(sent, received)| match received {
            r if r > 0.0 => format!("{}/s", count(r)),
            _ => format!("{}/s sent", count(sent)),
        }));
        parts.push(format!("{} in flight", count(t.missing as f64)));
        parts.join("; ")
    }
}

/// `45 s`, `3 min 20 s`, `1 h 5 min`.
fn duration(seconds: f64) -> String {
    let s = seconds.ceil().max(0.0) as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

/// A line that does not wrap.
fn fitted(text: &str, width: usize) -> String {
    if text.chars().count() < width {
        return text.to_owned();
    }
    // The last column stays free: some terminals wrap when it is written.
    text.chars().take(width.saturating_sub(2)).chain(['…']).collect()
}

/// Columns of the terminal on standard error.
fn width() -> usize {
    terminal_size::terminal_size_of(std::io::stderr()).map_or(80, |(terminal_size::Width(w), _)| usize::from(w).max(20))
}

impl Progress {
    /// `planned` is the length of the phases of an average trial.
    pub(super) fn new(quiet: bool, planned: Duration) -> Self {
        if quiet {
            return Self::Quiet;
        }
        let run = Mutex::new(RunProgress { planned, ..RunProgress::default() });
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Mutex::new(None), run);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(REDRAWS));
        if let Ok(style) = ProgressStyle::with_template("{prefix}\n{msg}") {
            bar.set_style(style);
        }
        Self::Bar(bar, run)
    }

    pub(super) fn begin(&self, label: String, number: usize, of: usize, planned: Duration) {
        let now = Instant::now();
        match self {
            Self::Quiet => {}
            Self::Lines(last, run) => {
                let mut run = lock(run);
                run.begin(label.clone(), number, of, planned, now);
                say(format_args!(
                    "[{number}/{of}] {label}, about {} left in all",
                    duration(run.left(now).as_secs_f64())
                ));
                *lock(last) = Some(now);
            }
            Self::Bar(bar, run) => {
                let mut run = lock(run);
                run.begin(label.clone(), number, of, planned, now);
                bar.set_prefix(fitted(&run.overall(now), width()));
                bar.set_message(fitted(&format!("{label}: starting"), width()));
            }
        }
    }

    pub(super) fn tick(&self, t: Tick) {
        let now = Instant::now();
        match self {
            Self::Quiet => {}
            Self::Bar(bar, run) => {
                let mut run = lock(run);
                bar.set_prefix(fitted(&run.overall(now), width()));
                bar.set_message(fitted(&run.live(&t, now), width()));
            }
            Self::Lines(last, run) => {
                let mut last = lock(last);
                if last.is_none_or(|at| at.elapsed() >= EVERY) {
                    *last = Some(now);
                    say(format_args!("  {}", lock(run).live(&t, now)));
                }
            }
        }
    }

    /// A trial is over; `line` says what came of it.
    pub(super) fn end(&self, line: &str) {
        if let Self::Lines(_, run) | Self::Bar(_, run) = self {
            lock(run).end(Instant::now());
        }
        self.say(line);
    }

    /// Prints a line that stays.
    pub(super) fn say(&self, text: &str) {
        match self {
            Self::Quiet => {}
            Self::Lines(..) => say(text),
            Self::Bar(bar, _) => bar.suspend(|| say(wrapped(text, "  ", width()).trim_end())),
        }
    }

    /// Prints a line that stays, also where nothing but errors is to be printed.
    pub(super) fn warn(&self, text: &str) {
        match self {
            Self::Quiet => say(text),
            _ => self.say(text),
        }
    }

    pub(super) fn finish(&self) {
        if let Self::Bar(bar, _) = self {
            bar.finish_and_clear();
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(left: u64, received: u64) -> Tick {
        let left = Duration::from_secs(left);
        Tick { phase: "measure", left, sent: received, received, missing: 12, last: Some((145_000, 800_000)) }
    }

    /// The planned phases, then refined by what trials took.
    #[test]
    fn the_time_left_is_that_of_all_trials() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let mut run = RunProgress { planned: 10 * second, ..RunProgress::default() };
        run.begin("nats, round 1".into(), 1, 12, 10 * second, start);
        assert_eq!(run.left(start), 12 * 11 * second, "a second each beyond the plan, until one has told");
        assert_eq!(run.left(start + 4 * second), 7 * second + 11 * 11 * second);
        run.end(start + 15 * second);
        assert_eq!(run.left(start + 15 * second), 11 * 15 * second);
        run.begin("kafka, round 1".into(), 2, 12, 10 * second, start + 15 * second);
        assert_eq!(run.left(start + 20 * second), 10 * second + 10 * 15 * second);
        assert_eq!(
            run.overall(start + 20 * second),
            "[##..................] 1 of 12 trials done, about 2 min 40 s left"
        );
        // Late, and skipped trials are none that are left.
        assert_eq!(run.left(start + 90 * second), 10 * 15 * second);
        run.begin("nats, round 2".into(), 3, 6, 10 * second, start + 90 * second);
        assert_eq!(run.done, 2);
    }

    #[test]
    fn the_line_of_the_current_trial_has_percentiles_rate_and_messages_in_flight() {
        let start = Instant::now();
        let mut run = RunProgress::default();
        run.begin("nats, round 2".into(), 3, 12, Duration::from_secs(10), start);
        assert_eq!(
            run.live(&tick(5, 0), start),
            format!("nats, round 2: measure, 5 s left; p50 145 µs, p99 0.80 ms; {} in flight", count(12.0))
        );
        let line = run.live(&tick(4, 20_000), start + Duration::from_secs(1));
        assert!(line.contains(&format!("; {}/s; ", count(20e3))), "{line}");
    }

    #[test]
    fn no_line_is_as_wide_as_the_terminal() {
        for width in [20, 40, 80] {
            for n in [0, 10, width - 1, width, width + 1, 300] {
                let line = fitted(&"µ".repeat(n), width);
                assert!(line.chars().count() < width.max(1), "{width} {n}");
                assert_eq!(line.contains('…'), n >= width, "{width} {n}");
            }
        }
    }

    #[test]
    fn times_are_in_the_units_of_people() {
        let said: Vec<String> = [0.2, 59.0, 60.0, 200.0, 3_900.0].map(duration).into();
        assert_eq!(said, ["1 s", "59 s", "1 min 0 s", "3 min 20 s", "1 h 5 min"]);
    }
}
