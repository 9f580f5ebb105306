//! The outlet and the subscription index of the router, taken in by path, on loom's locks and
//! atomics; and what a model needs of the code around them. What is only counted stays on the
//! atomics of the standard library.
//!
//! The models are in `tests/`: this crate is built without `cfg(test)`, or it would take in the
//! tests of the files too.

pub mod units {
    /// Time stands still in a model.
    pub fn now() -> u64 {
        1
    }
}

mod nats;

pub use nats::model;
