//! The postmortem: what a stream of verdicts amounts to, as one [`Report`].
//!
//! [`Collector`] aggregates while the stream passes and never keeps it: histograms, bounded tables and a timeline whose
//! buckets double in width, so that its memory does not grow with the capture. [`Report`] is plain data; [`text`],
//! [`html`] and [`chart`] only show it. Not here: reading captures, attribution.

pub mod chart;
mod collect;
pub mod html;
pub mod model;
mod narrate;
mod table;
mod tally;
pub mod text;
mod timeline;
mod view;

#[cfg(test)]
mod synthetic;
#[cfg(test)]
mod tests;

pub use collect::Collector;
pub use model::Report;
