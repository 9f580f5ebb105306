//! Several processes, on one host or many, that run the load of one scenario: agents, and the
//! coordinator that plans, assigns, starts and collects.
//!
//! **Why.** One generator is not enough for a real cluster. Whoever starts generators by hand gets
//! skewed starts of unknown size, percentiles that were averaged, and a load that has silently
//! become less when a generator died.
//!
//! **How.** Agents and coordinator dial out to a *control server*, any server that speaks the NATS
//! protocol, and never the system under test: `nats-server`, or `msgbench broker`. The plan is
//! divided, not the rate ([`crate::plan::divide`]). All parts run through the engine's own phases
//! ([`crate::engine::TrialSide`]); this folder carries what they say to each other (`messages`).
//! The coordinator asks (request and reply), so that each command is known to have come; agents
//! report once a second, and at once when something has changed. Results are brought home in pieces
//! with a checksum, and lie in a file until the coordinator has them.
//!
//! **Invariants.** No wait is without a bound. What an agent has measured is never thrown away by
//! it before somebody has it. A report that does not come moves no load.
//!
//! **Rejected.** gRPC or HTTP workers (a server at each agent, which firewalls and pods forbid, and
//! another protocol for nine messages). JetStream for results (the control server would need it).
//! The `service` feature of async-nats for discovery: it answers `$SRV.PING` for tools, but a
//! coordinator must know version, host and whether an agent is taken before it asks, and hear of
//! agents that come later: that is one message more than the feature has, and then the feature is
//! not needed; it would add two crates.

mod agent;
mod chosen;
mod coordinator;
mod delivery;
mod fleet;
mod gather;
mod link;
mod local;
mod messages;
mod peers;
mod replace;
mod side;

pub use agent::{AgentOptions, serve};
pub use fleet::{Fleet, FleetOptions};
pub use gather::FleetError;
pub use link::ControlServer;
pub use local::local;
