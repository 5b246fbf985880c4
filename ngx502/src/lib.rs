//! ngx502 explains every 502 and 504 of a live nginx.
//!
//! The rooms in the order in which a failure passes through them.

// ── What a machine offers ──

// Loads the BPF programs, each by the provider that this kernel has.
pub mod kernel;

// Finds every nginx, reads its binary, follows its processes.
pub mod nginx;

// Reads `/proc`, for both of the above and for look-ups.
mod proc;

/// What this process may do.
pub mod privileges;

// ── From bytes to records ──

// Yields records: of the ring buffer, or of captures.
pub mod source;

// Makes records of the kernel's bytes.
pub mod decode;

// Is what a record can say.
pub mod event;

// Is what a trace says of itself.
pub mod session;

// Takes query strings out of records before anybody sees them.
pub mod query;

// Adds records of what only the live machine knows.
pub mod enrich;

// Keeps records in files.
pub mod capture;

// ── From records to verdicts ──

// Explains every failed request from records alone.
pub mod attribute;

// Lets through the verdicts that were asked for.
pub mod filter;

// Adds up durations.
pub mod latency;

// Counts outcomes.
pub mod summary;

// ── How verdicts are shown ──

// Shows outcomes one by one: terminal, JSON lines.
pub mod sink;

// Writes them for other engines: CSV, Parquet.
pub mod export;

// Sums them up: text, JSON, a page, charts.
pub mod report;

// Says what a symptom or a cause means.
pub mod explain;

// Prints each quantity in one way.
pub mod units;

// Prints moments.
pub mod time;

// Makes hostile text harmless.
pub mod escape;

// Lays text out in columns.
pub mod wrap;

// Writes a file whole or not at all.
pub mod output;

// ── What a user runs ──

// Reads what a user types: times, sizes, moments.
/// nginx's format strings.
mod nginx_format;
mod values;

// Wires the stages together, one module per command.
pub mod commands;

#[cfg(test)]
#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

/// The tests' world is shared with the tests in `tests/`, which know this crate by its name.
#[cfg(test)]
extern crate self as ngx502;
