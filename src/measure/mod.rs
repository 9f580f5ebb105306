//! What is measured while load is driven: latencies ([`recorder`]), the books ([`ledger`], [`firsts`]), the host ([`host`],
//! [`hiccup`], [`doctor`]) and its processes ([`process`]), and whether the result may be believed ([`validity`];
//! once the trial is over also [`steadiness`], [`noise`] and [`episodes`], from its intervals: [`within`], and [`trust`], from the
//! calibration of the host).

pub mod coincidence;
pub mod doctor;
pub mod episodes;
pub mod firsts;
pub mod hiccup;
pub mod host;
pub mod ledger;
pub mod noise;
pub mod process;
pub mod recorder;
pub mod steadiness;
pub mod summary;
pub mod trust;
pub mod validity;
pub mod within;
