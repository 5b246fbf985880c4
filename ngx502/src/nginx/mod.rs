//! Finding and following nginx: its processes, its binaries, its struct layouts.
//!
//! [`discover`] lists the processes, [`binary`] reads what their executable offers (probe points, literals, version),
//! [`layout`] says where that build keeps its fields, from [`debuginfo`] if there is any. [`Tracked`] is the table of all
//! that a trace attaches to.

mod bias;
pub mod binary;
pub mod debuginfo;
pub mod discover;
pub mod layout;
mod log_level;
mod log_rate;
mod memory;
mod problem;
mod role;
mod tracked;
pub mod version;

pub use bias::load_bias;
pub use binary::{Binary, BinaryId, Functions};
pub use discover::{NginxProcess, inspect, processes, select};
pub use layout::LayoutSource;
pub use log_level::{hides_failures, is_debug, log_level};
pub use log_rate::LOG_LIMIT;
pub use problem::{BinaryError, BinaryProblem};
pub use role::Role;
pub use tracked::Tracked;
pub use version::{Product, Signature, Version};

#[cfg(test)]
mod tests;
