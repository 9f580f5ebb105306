//! The clock that exchanges are stamped with.

use crate::units::{Nanos, now};

/// The machine's own monotonic clock, or one that is wrong by a known offset and drift: the known
/// truth of tests and of calibration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalClock {
    shift: i64,
    drift: f64,
    /// When the offset was exactly the shift.
    origin: Nanos,
}

impl LocalClock {
    /// As the machine has it.
    pub const MACHINE: Self = Self { shift: 0, drift: 0.0, origin: 0 };

    /// Ahead by `shift` ns at the instant `origin` of the machine's clock, and running faster by
    /// `drift`.
    pub fn wrong_by(shift: i64, drift: f64, origin: Nanos) -> Self {
        Self { shift, drift, origin }
    }

    /// What it shows now.
    pub fn read(&self) -> Nanos {
        self.at(now())
    }

    /// What it shows at an instant of the machine's clock.
    pub fn at(&self, machine: Nanos) -> Nanos {
        machine.saturating_add_signed(self.ahead(machine))
    }

    /// How far it is ahead of the machine's clock at an instant of that.
    pub fn ahead(&self, machine: Nanos) -> i64 {
        let passed = super::exchange::difference(machine, self.origin);
        self.shift.saturating_add((passed as f64 * self.drift) as i64)
    }
}
