//! `cargo xtask setup`: installs what a task needs and this machine lacks.
//!
//! Everything is looked for first, so that a second run is quick, silent and needs no network. Packages come from
//! whatever sources apt, cargo, rustup and pip are configured with.

mod packages;
mod policy;
mod rust;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::exec;

/// What the machine is to be ready for; each includes what it builds upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Task {
    /// Building the tracer.
    Build,
    /// Building, and a real nginx with backends that fail.
    Demo,
    /// Building, a load generator, and the tracers to compare with.
    Bench,
    /// Building, rustfmt and clippy.
    Lint,
    /// Building, and what nginx itself is built with.
    Builds,
    /// Building, QEMU and what makes a guest's image.
    Guests,
    /// Everything.
    Test,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to make the machine ready for.
    #[arg(long = "for", value_enum, default_value = "test", value_name = "TASK")]
    task: Task,
}

/// Installs what is missing and says what is used.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure(args.task)?;
    println!("ready; the BPF crate is built by {}", rust::toolchain()?);
    Ok(())
}

/// Makes sure that `task` has what it needs.
///
/// # Errors
/// If something is missing and cannot be installed.
pub(crate) fn ensure(task: Task) -> Result<()> {
    packages::ensure(task)?;
    rust::ensure(task)?;
    if task == Task::Test {
        duckdb()?;
    }
    Ok(())
}

/// A Python environment of our own: distributions guard theirs against pip. Its `bin` goes first in the tests' PATH.
pub(crate) fn python() -> PathBuf {
    exec::workspace().join("target/venv")
}

/// DuckDB reads the exports in the tests, as users do.
fn duckdb() -> Result<()> {
    let python = python().join("bin/python3");
    let has_duckdb = || exec::read(Command::new(&python).args(["-c", "import duckdb"])).is_ok();
    if has_duckdb() {
        return Ok(());
    }
    // Debian's, since a `python3` of pyenv's may come first and lack `venv`.
    exec::run(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(self::python()))?;
    exec::run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "duckdb"]))
        .context("pip could not install duckdb, so the exports cannot be tested")
}
