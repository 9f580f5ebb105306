//! Agents on other hosts, started by what people have: the user's own ssh, or Kubernetes.
//!
//! **Why.** An agent is one command that dials out; who runs it somewhere is not our business.
//! **How.** Everything here is text: the command line of an agent, that of ssh around it, the
//! objects of a manifest. Nothing is started here and no API is talked to.
//!
//! Rejected: a library for ssh (keys, jump hosts, second factors and certificates are set up for
//! the user's own `ssh`); a client of the Kubernetes API and an operator (a manifest can be read,
//! kept in a repository and applied by whoever has the right to); a Helm chart (there is nothing
//! that a template would change and an option does not).

mod agent;
pub mod manifest;
mod shell;
pub mod ssh;
mod yaml;

pub use agent::AgentCommand;
pub use shell::shell_line;
