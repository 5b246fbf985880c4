//! The kernel's side: what it offers, loading the BPF programs into it, attaching them.

pub mod btf;
pub mod cost;
pub mod durations;
pub mod load;
pub mod offsets;
pub mod onward;
pub mod preflight;
pub mod providers;
pub mod skipped;
