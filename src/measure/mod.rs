//! What is measured while load is driven: latencies ([`recorder`]), the books ([`ledger`]), the host and its processes,
//! and whether the result may be believed ([`validity`]).

pub mod ledger;
pub mod recorder;
pub mod summary;
pub mod validity;
