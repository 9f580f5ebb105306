//! Charts: which lines and marks there are, and how they are drawn.

pub mod axis;
pub mod capacity;
pub mod chart;
pub mod comparison;
pub mod figure;
pub mod heat;
pub mod plot;
pub mod series;
pub mod svg;
pub mod timeline;
