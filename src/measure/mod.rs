//! What is measured while load is driven: latencies ([`recorder`]), the books ([`ledger`]), the host ([`host`],
//! [`hiccup`], [`doctor`]) and its processes ([`process`]), and whether the result may be believed ([`validity`]).

pub mod doctor;
pub mod hiccup;
pub mod host;
pub mod ledger;
pub mod process;
pub mod recorder;
pub mod summary;
pub mod validity;
