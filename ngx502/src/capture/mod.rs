//! Captures: the records of a trace in a file that every later version reads.
//!
//! A capture is a header and independent zstd frames with checksums (`format`); the first frame tells about the trace,
//! the others hold records in columns (`columns`), in the live order. [`Writer`] makes captures
//! (files and rotation: `rotate`), [`Reader`] reads what is left of one. `docs/capture-format.md` is the full account.
//!
//! Not here: merging several captures (`source::file`), what to do with the records (`attribute`).

mod columns;
mod format;
mod reader;
mod rotate;
#[cfg(test)]
mod tests;
mod window;
mod writer;

pub use format::{End, MAJOR, MINOR, Opening};
pub use reader::{Damage, ReadError, Reader};
pub use rotate::{CreateError, Options, check};
pub use writer::{Stopped, Writer};
