//! Where records come from: the live ring buffer or capture files.

pub mod file;
pub mod ring;
