//! Finding and following nginx: its processes, its binaries, its struct layouts.
//!
//! [`discover`] lists the processes, [`binary`] reads what their executable offers (probe points, literals, version),
//! [`layout`] says where that build keeps its fields, from [`debuginfo`] if there is any. [`Tracked`] is the table of all
//! that a trace attaches to.

pub mod binary;
mod budget;
pub mod debuginfo;
pub mod discover;
mod entry;
mod foreign;
pub mod layout;
mod memory;
mod role;
mod tracked;
pub mod version;

pub use binary::{Binary, BinaryError, BinaryId, BinaryProblem};
pub use discover::{NginxProcess, inspect, processes, select};
pub use entry::ProbePoint;
pub use layout::LayoutSource;
pub use memory::{Memory, hides_failures, is_debug, load_bias};
pub use role::Role;
pub use tracked::{LOG_LIMIT, Tracked};
pub use version::{Product, Signature, Version};

#[cfg(test)]
mod tests;
