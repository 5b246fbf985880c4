//! `cargo xtask lint`: formatting, clippy and documentation, for the host and for BPF; a warning fails. So does a
//! generated table that is out of date.

use anyhow::{Context, Result};

use crate::setup::{self, Task};
use crate::toolchain::Toolchain;
use crate::{docs, exec};

const NOT_BPF: [&str; 3] = ["--workspace", "--exclude", "ngx502-ebpf"];

/// Runs every check in turn; the first that fails ends it.
pub(crate) fn run() -> Result<()> {
    setup::ensure(Task::Lint)?;
    exec::run(exec::cargo("fmt").args(["--all", "--check"]))?;
    exec::run(exec::cargo("clippy").args(NOT_BPF).args(["--all-targets", "--", "--deny=warnings"]))?;
    let mut doc = exec::cargo("doc");
    exec::run(
        doc.args(NOT_BPF)
            .args(["--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "--deny=warnings"),
    )?;
    docs::check()?;
    bpf()
}

/// Clippy must be of the compiler that builds `core` for BPF; where it has none, that compiler's warnings must do.
fn bpf() -> Result<()> {
    let toolchain = Toolchain::find().context("no compiler for BPF; run `cargo xtask setup`")?;
    let has_clippy = toolchain.sysroot().join("bin/cargo-clippy").exists();
    let verb = if has_clippy { "clippy" } else { "rustc" };
    println!("BPF crate: {verb} of {toolchain}");
    let target_dir = exec::workspace().join("target/bpf-lint");
    let mut cargo = toolchain.cargo(verb, std::env::consts::ARCH, cfg!(target_endian = "big"), &target_dir);
    exec::run(cargo.args(["--", "--deny=warnings"]).current_dir(exec::workspace()))
}
