//! The parts of xtask that tests share.

pub mod lab;
