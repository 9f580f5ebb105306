//! Executes a plan.

mod consume;
mod payload;
mod produce;
mod shared;
