//! ngx502 explains every 502 and 504 of a live nginx.
//!
//! The modules in the order of the flow: `kernel` loads the BPF programs, `nginx` finds what to attach to, `source`
//! yields bytes, `decode` makes [`event::Record`]s of them, `enrich` adds what only a live machine knows, `attribute`
//! turns records into verdicts, and `sink`, `export` and `report` show them. `commands` is the only place that knows
//! every stage.

pub mod attribute;
pub mod capture;
pub mod commands;
pub mod decode;
pub mod enrich;
pub mod escape;
pub mod event;
pub mod explain;
pub mod export;
pub mod filter;
pub mod kernel;
pub mod latency;
pub mod nginx;
pub mod output;
mod proc;
pub mod query;
pub mod report;
pub mod session;
pub mod sink;
pub mod source;
pub mod summary;
pub mod time;
pub mod units;
pub mod wrap;

#[cfg(test)]
#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

/// The tests' world is shared with the tests in `tests/`, which know this crate by its name.
#[cfg(test)]
extern crate self as ngx502;
