//! How far apart two clocks are, with a bound that holds: from exchanges of four readings to all
//! offsets and drifts that every exchange allows.
//!
//! **Why.** A latency from one host to another is the difference of two clocks. Who trusts NTP for
//! it prints an error of unknown size. **How.** A message cannot arrive before it was sent. So each
//! exchange says two things of the offset between the clocks: it is below one number on the way
//! there, and above another on the way back ([`Exchange`]). While both clocks run evenly, their
//! offset is a straight line over time, and what all exchanges allow is a convex set of lines
//! ([`ClockRelation`]). Its extremes at an instant are the interval of the offset there.
//! **What comes out.** An interval that the true offset is in whatever the delays were, so long as
//! the drift is constant within a window ([`ClockTimeline`]); no distribution is assumed. A set
//! that is empty is proof that a clock stepped, or changed its rate ([`ClockStep`]).
//!
//! Sources: the exchange and its error of at most half of the round trip: RFC 5905 section 8, and
//! Cristian, "Probabilistic clock synchronization", Distributed Computing 3 (1989). The set of
//! lines between the two clouds of points, by convex hulls: Duda, Harrus, Haddad and Bernard,
//! "Estimating global time in distributed systems" (ICDCS 1987). Loops of clocks: Geng et al.,
//! "Exploiting a natural network effect for scalable, fine-grained clock synchronization" (NSDI
//! 2018).
//!
//! Rejected: a filter or a regression of the offsets (an estimate with an error that nobody knows
//! when delays are asymmetric); trust in the clock of the day (its daemon states an error at best,
//! which is kept as a fact, [`ClockFacts`]).

pub mod echo;
mod exchange;
mod facts;
mod hull;
mod interval;
mod reading;
mod relation;
mod timeline;
mod triangle;

pub use exchange::{ClockLimits, Exchange};
pub use facts::{ChronyTracking, ClockAuthority, ClockFacts, KernelClock, PtpDevice};
pub use interval::{DriftInterval, OffsetInterval};
pub use reading::LocalClock;
pub use relation::{ClockError, ClockRelation, ClockStep};
pub use timeline::ClockTimeline;
pub use triangle::loop_open_by;
