//! The wire contract between the BPF programs and user space: fixed-width `repr(C)` structs without hidden padding.
//!
//! Nothing here computes; both sides do. A change here is a change of both.
#![no_std]

pub mod config;
pub mod connection;
pub mod event;
pub mod latency;
pub mod layout;
