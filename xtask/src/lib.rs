//! The parts of xtask that tests share.

pub mod digest;
pub mod lab;
