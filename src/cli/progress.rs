//! The progress display: a line that moves on a terminal, plain lines elsewhere, nothing when
//! quiet.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::Tick;
use crate::units::{count, latency, say};

pub(super) enum Progress {
    Quiet,
    Lines(Mutex<Option<Instant>>, RateMeter),
    Bar(ProgressBar, RateMeter),
}

/// Turns totals into rates.
#[derive(Default)]
pub(super) struct RateMeter(Mutex<Option<(Instant, u64, u64)>>);

impl RateMeter {
    /// Messages sent and received per second since the last call; nothing at the first one of a
    /// trial.
    fn rates(&self, t: &Tick) -> Option<(f64, f64)> {
        let mut last = self.0.lock().ok()?;
        let now = (Instant::now(), t.sent, t.received);
        let (at, sent, received) = last.replace(now)?;
        let seconds = (now.0 - at).as_secs_f64();
        // A new trial counts from zero.
        let (sent, received) = (t.sent.checked_sub(sent)?, t.received.checked_sub(received)?);
        (seconds > 0.0).then(|| (sent as f64 / seconds, received as f64 / seconds))
    }
}

/// A line at most so often where the output is not a terminal.
const EVERY: Duration = Duration::from_secs(5);

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Mutex::new(None), RateMeter::default());
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self::Bar(bar, RateMeter::default())
    }

    pub(super) fn begin(&self, title: String) {
        match self {
            Self::Quiet => {}
            Self::Lines(last, _) => {
                say(title);
                if let Ok(mut last) = last.lock() {
                    *last = Some(Instant::now());
                }
            }
            Self::Bar(bar, _) => {
                bar.set_prefix(title);
                bar.set_message("starting");
            }
        }
    }

    pub(super) fn tick(&self, t: Tick) {
        let latencies =
            t.last.map_or(String::new(), |(p50, p99)| format!(", p50 {} p99 {}", latency(p50), latency(p99)));
        let text = |speed: &RateMeter| {
            let rates = speed.rates(&t).map_or(String::new(), |(sent, received)| {
                format!("sent {}/s, received {}/s, ", count(sent), count(received))
            });
            let missing =
                if t.missing > 0 { format!(", {} not here yet", count(t.missing as f64)) } else { String::new() };
            format!("{}: {rates}{:.0} s left{latencies}{missing}", t.phase, t.left.as_secs_f64().ceil())
        };
        match self {
            Self::Quiet => {}
            Self::Bar(bar, speed) => bar.set_message(text(speed)),
            Self::Lines(last, speed) => {
                let Ok(mut last) = last.lock() else { return };
                if last.is_none_or(|at| at.elapsed() >= EVERY) {
                    *last = Some(Instant::now());
                    say(format_args!("  {}", text(speed)));
                }
            }
        }
    }

    /// Prints a line that stays.
    pub(super) fn say(&self, text: &str) {
        match self {
            Self::Quiet => {}
            Self::Lines(..) => say(text),
            Self::Bar(bar, _) => bar.suspend(|| say(text)),
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
