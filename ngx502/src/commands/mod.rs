//! One module a command: each wires the stages together.

pub mod chart;
pub mod doctor;
pub mod driver;
pub mod explain;
pub mod export;
pub mod replay;
pub mod report;
pub mod trace;
