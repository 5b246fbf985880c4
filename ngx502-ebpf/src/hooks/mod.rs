//! One file a family of hooks. Functions carry the names that the loader's provider table uses.

mod listen;
mod nginx;
mod oom;
mod process;
mod reset;
mod signal;
mod state;
mod traffic;
mod unix;
