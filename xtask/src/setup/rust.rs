//! Compilers, linker and rustup's components.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Task, packages};
use crate::exec;
use crate::toolchain::{self, Toolchain};

/// Debian's compiler with the source of `core`.
const DISTRIBUTION_COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The LLVM that bpf-linker is linked with where the distribution has it; it must not be older than the compiler's.
const LLVM: [&str; 2] = ["llvm-22-dev", "libpolly-22-dev"];
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

const BPF_LINKER_VERSION: &str = "0.13.0";

/// Makes sure that there are a compiler for BPF, bpf-linker and, for lints, rustfmt and clippy.
///
/// # Errors
/// If something is missing and cannot be installed.
pub(crate) fn ensure(task: Task) -> Result<()> {
    if Toolchain::find().is_none() {
        install_compiler()?;
    }
    if toolchain::bpf_linker().is_none() {
        install_linker()?;
    }
    if matches!(task, Task::Lint | Task::Test) {
        component("rustfmt", "cargo-fmt")?;
        component("clippy", "cargo-clippy")?;
    }
    Ok(())
}

/// The compiler in use for BPF.
///
/// # Errors
/// If there is none.
pub(crate) fn toolchain() -> Result<Toolchain> {
    Toolchain::find().context("there is still no compiler with the source of `core`, so BPF cannot be built")
}

/// The distribution's compiler where it is packaged, since apt verifies it, else rustup's nightly.
fn install_compiler() -> Result<()> {
    if packages::is_available("rust-web-src") {
        packages::install(&DISTRIBUTION_COMPILER)?;
    } else if exec::find("rustup").is_some() {
        let mut rustup = Command::new("rustup");
        rustup.args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"]);
        exec::run(&mut rustup)?;
    } else {
        bail!(
            "no compiler for BPF: apt has no rust-web-src and there is no rustup; install rustup and run this again"
        );
    }
    toolchain().map(|toolchain| println!("BPF will be built by {toolchain}"))
}

fn install_linker() -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--locked"]);
    // Neither the flags nor the compiler of the cargo that runs us.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
    if packages::is_available(LLVM[0]) {
        packages::install(&LLVM)?;
        cargo.args(["--no-default-features", "--features", "llvm-22"]).env("LLVM_PREFIX", LLVM_PREFIX);
    }
    exec::run(&mut cargo).context("bpf-linker could not be built, so no BPF object can be linked")
}

/// Asks rustup for a component unless its program is there (a distribution's cargo has no rustup).
fn component(name: &str, program: &str) -> Result<()> {
    let works = exec::read(Command::new(program).arg("--version")).is_ok();
    if works {
        return Ok(());
    }
    exec::run(Command::new("rustup").args(["component", "add", name]))
        .with_context(|| format!("rustup could not add {name}, so `cargo xtask lint` cannot run"))
}
