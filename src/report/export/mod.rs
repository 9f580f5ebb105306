//! Results and comparisons in the formats of other programs.

pub mod claims;
pub mod csv;
pub mod github;
pub mod junit;
pub mod result;
pub mod summary;
