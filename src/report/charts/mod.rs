//! Charts. Each is described once, as a [`chart::Chart`]: `bars`, `latency`, `capacity`, `heat`,
//! `search`, `demand`, `outages`, `timeline` and `comparison` say what there is to see, in the
//! values of the axes. [`draw`] draws them all, with plotters' bitmap backend for pictures and
//! with [`mod@svg`] for pages. [`mod@figure`] hands them out: `figure` for a page, `svg` and `png`
//! for a file of its own.

pub mod axis;
pub mod bars;
pub mod canvas;
pub mod capacity;
pub mod chart;
pub mod comparison;
pub mod demand;
pub mod draw;
pub mod figure;
mod frame;
pub mod heat;
pub mod heat_chart;
pub mod history;
pub mod latency;
pub mod outages;
mod rows;
pub mod run;
pub mod search;
pub mod series;
pub mod sides;
pub mod svg;
pub mod timeline;

pub use chart::Chart;
pub use figure::{ChartError, Foot, figures, png, svg};
