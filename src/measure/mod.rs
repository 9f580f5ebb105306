//! What is measured while load is driven: latencies ([`recorder`]), the accounts ([`ledger`],
//! [`first_arrivals`], [`event_windows`]), outages ([`outage`]), pauses of the host ([`hiccup`])
//! and its processes ([`process`]).

pub mod event_windows;
pub mod first_arrivals;
pub mod hiccup;
pub mod ledger;
pub mod outage;
pub mod process;
pub mod recorder;
pub mod summary;
