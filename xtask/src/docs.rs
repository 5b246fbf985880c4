//! `cargo xtask docs`: the parts of README.md, docs/causes.md and docs/json.md that are generated from `ngx502
//! explain`'s pages.
//!
//! The work is done by the test `ngx502/tests/docs.rs`, which compares unless it is asked to write: so this crate does not
//! depend on the product.

use anyhow::Result;

use crate::exec;
use crate::setup::{self, Task};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compare instead of writing.
    #[arg(long)]
    check: bool,
}

/// Writes the generated parts, or compares them.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Task::Build)?;
    if args.check { check() } else { exec::run(test().env("NGX502_WRITE_DOCS", "1")) }
}

/// Compares the generated parts.
pub(crate) fn check() -> Result<()> {
    exec::run(&mut test())
}

fn test() -> std::process::Command {
    let mut test = exec::cargo("test");
    test.args(["--package", "ngx502", "--test", "docs"]);
    test
}
