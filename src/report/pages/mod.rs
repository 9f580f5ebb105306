//! Whole pages, as text, Markdown and HTML: of one result, of a comparison, of a history,
//! of several scenarios.

mod answer;
pub mod claims;
pub mod comparison;
pub mod details;
pub mod history;
pub mod markdown;
pub mod over_time;
pub mod page;
pub mod result;
pub mod review;
pub mod text;
