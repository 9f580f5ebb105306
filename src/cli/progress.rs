//! The progress display: a line that moves on a terminal, plain lines elsewhere, nothing when quiet.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::Tick;
use crate::units::{count, latency};

/// See the module.
pub(super) enum Progress {
    Quiet,
    Lines(Mutex<Option<Instant>>),
    Bar(ProgressBar),
}

/// A line at most so often where the output is not a terminal.
const EVERY: Duration = Duration::from_secs(5);

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Mutex::new(None));
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self::Bar(bar)
    }

    pub(super) fn begin(&self, title: String) {
        match self {
            Self::Quiet => {}
            Self::Lines(last) => {
                eprintln!("{title}");
                if let Ok(mut last) = last.lock() {
                    *last = Some(Instant::now());
                }
            }
            Self::Bar(bar) => {
                bar.set_prefix(title);
                bar.set_message("starting");
            }
        }
    }

    pub(super) fn tick(&self, t: Tick) {
        let latencies =
            t.last.map_or(String::new(), |(p50, p99)| format!(", p50 {} p99 {}", latency(p50), latency(p99)));
        let text = format!(
            "{}: sent {}, received {}{latencies}, {:.0} s left",
            t.phase,
            count(t.sent as f64),
            count(t.received as f64),
            t.left.as_secs_f64().ceil()
        );
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => bar.set_message(text),
            Self::Lines(last) => {
                let Ok(mut last) = last.lock() else { return };
                if last.is_none_or(|at| at.elapsed() >= EVERY) {
                    *last = Some(Instant::now());
                    eprintln!("  {text}");
                }
            }
        }
    }

    /// Prints a line that stays.
    pub(super) fn say(&self, text: &str) {
        match self {
            Self::Quiet => {}
            Self::Lines(_) => eprintln!("{text}"),
            Self::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
        }
    }

    pub(super) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
