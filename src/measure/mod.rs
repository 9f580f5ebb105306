//! What is measured while load is driven: latencies ([`recorder`]), the books ([`ledger`],
//! [`first_arrivals`]), the host ([`host`], [`hiccup`], [`doctor`]) and its processes
//! ([`process`]), and whether the result may be believed ([`validity`]; once the trial is over also
//! [`steadiness`], [`noise`] and [`episodes`], from its intervals: [`within`], and [`trust`], from
//! the calibration of the host).

pub mod first_arrivals;
pub mod hiccup;
pub mod ledger;
pub mod process;
pub mod recorder;
pub mod summary;
