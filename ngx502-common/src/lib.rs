//! The wire contract between the BPF programs and user space: fixed-width `repr(C)` structs without hidden padding.
//!
//! What computes here are the few rules that both sides must apply alike: buckets of latency, slots of processes, what
//! counts as one request. A change here is a change of both.
#![no_std]

pub mod config;
pub mod connection;
pub mod event;
pub mod latency;
pub mod layout;
pub mod net;
pub mod onward;
