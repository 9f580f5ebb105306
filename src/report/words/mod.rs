//! What is said of a result: tables of strings, notes, verdicts.

pub mod groups;
pub mod levels;
pub mod method;
pub mod notes;
pub mod tables;
pub mod threats;
pub mod verdict;
pub mod view;
