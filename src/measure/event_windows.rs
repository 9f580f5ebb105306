//! What the member of a group notes around the events of consumers: how long it received nothing,
//! and which messages came late until the next event.

use serde::{Deserialize, Serialize};

use crate::plan::PlannedEvent;
use crate::units::Nanos;

/// A message that comes so long after it was due is late.
pub const LATE: Nanos = 100_000_000;

/// What one member noted between an event and the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventWindow {
    /// Its first arrival after the event.
    pub first: Option<Nanos>,
    /// The longest time between two arrivals, of which the second came after the event; as far as
    /// it lies in the measured phase.
    pub silence: Option<Nanos>,
    /// Messages that came late, and how late the latest was.
    pub late: u64,
    pub latest: Nanos,
}

/// What one member of a group notes of the events.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EventWindows {
    /// When the events are.
    starts: Vec<Nanos>,
    windows: Vec<EventWindow>,
    /// The window of the latest arrival, one more than its index; and that arrival.
    at: usize,
    last: Option<Nanos>,
}

impl EventWindows {
    /// For the events of consumers, in a trial measured from `origin`.
    pub fn new(events: &[PlannedEvent], origin: Nanos) -> Self {
        let starts: Vec<Nanos> = events.iter().filter(|e| e.action.of_consumer()).map(|e| origin + e.at.0).collect();
        Self { windows: vec![EventWindow::default(); starts.len()], starts, at: 0, last: None }
    }

    /// Notes the arrival of a message that was due at `intended`. Load ends at `end`: that nothing
    /// comes afterwards is nobody's doing.
    #[inline]
    pub fn note(&mut self, at: Nanos, intended: Nanos, end: Nanos) {
        if self.starts.is_empty() {
            return;
        }
        while self.starts.get(self.at).is_some_and(|start| *start <= at) {
            self.at += 1;
        }
        let before = self.last.replace(at);
        let Some(window) = self.at.checked_sub(1).and_then(|w| self.windows.get_mut(w)) else { return };
        window.first.get_or_insert(at);
        if let Some(silence) = before.and_then(|before| at.min(end).checked_sub(before)) {
            window.silence = window.silence.max(Some(silence));
        }
        let latency = at.saturating_sub(intended);
        if latency > LATE {
            window.late += 1;
            window.latest = window.latest.max(latency);
        }
    }

    /// Puts its instants into another clock.
    pub fn shift(&mut self, here: impl Fn(Nanos) -> Nanos) {
        let firsts = self.windows.iter_mut().filter_map(|w| w.first.as_mut());
        self.starts.iter_mut().chain(firsts).chain(self.last.as_mut()).for_each(|at| *at = here(*at));
    }

    /// What was noted of each event.
    pub fn windows(&self) -> &[EventWindow] {
        &self.windows
    }

    /// A consumer that comes again has heard nothing before.
    pub fn forget_last(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use crate::units::Span;

    /// What is taken from a dead consumer after its lock ran out comes long after the load: only
    /// the part of the silence that lies in the load is one.
    #[test]
    fn a_silence_ends_with_the_load() {
        let event = PlannedEvent { consumer: Some(1), ..PlannedEvent::once(Span(10), Action::ConsumerKill) };
        let mut windows = EventWindows::new(&[event], 100);
        for at in [105, 109, 130, 140] {
            windows.note(at, at, 150);
        }
        assert_eq!(windows.windows()[0].silence, Some(21));
        // Nothing came for the last 10 of the load, then one in the drain, and another.
        windows.note(900_000_000, 130, 150);
        windows.note(999_000_000, 130, 150);
        let window = windows.windows()[0];
        assert_eq!((window.silence, window.first, window.late), (Some(21), Some(130), 2));
    }
}
