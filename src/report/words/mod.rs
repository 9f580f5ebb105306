//! What is said of a result: the answer, tables of strings, notes.

pub mod agents;
pub mod answer;
pub mod capacity;
pub mod checks;
pub mod demand;
pub mod glossary;
pub mod groups;
pub mod history;
mod membership;
pub mod method;
pub mod notes;
pub mod tables;
pub mod threats;
pub mod trial;
pub mod view;
