//! What is measured beside the messages themselves: host, processes, stalls of the machine.

pub mod hiccup;
pub mod host;
pub mod process;
