//! What a trial needs.

use crate::plan::{Case, PlannedEvent, ReconnectPace};
use crate::system::Running;
use crate::units::Nanos;

use super::sides::{TrialOrder, TrialSide};
use super::{Interrupt, Tick};

/// What a trial needs.
pub struct TrialSetup<'a> {
    pub case: &'a Case,
    /// Seed of the trial.
    pub seed: u64,
    /// Client options of the system.
    pub options: &'a serde_json::Map<String, serde_json::Value>,
    /// Whether the pacer spins.
    pub spin: bool,
    /// The system, up.
    pub running: &'a Running,
    /// The user's wish to stop.
    pub interrupt: &'a Interrupt,
    /// What is done to the system, by time.
    pub events: &'a [PlannedEvent],
    /// A message that is done so long after it was due is in time; outages are noted where it is
    /// given.
    pub deadline: Option<Nanos>,
    /// How soon clients connect again.
    pub reconnect: ReconnectPace,
    /// Which part of the trial this process has.
    pub side: TrialSide<'a>,
    /// What a coordinator gives to agents.
    pub order: Option<TrialOrder>,
    /// Shows progress.
    pub tick: &'a (dyn Fn(Tick) + Sync),
    /// Is told the instant from which is measured, as soon as it is known.
    pub measured_from: &'a (dyn Fn(Nanos) + Sync),
}
