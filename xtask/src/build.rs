//! `cargo xtask build`: the binary that users get; and where and as whom cargo runs what it builds.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::exec;
use crate::setup::{self, Task};

/// Builds the release binary and says where it is.
pub(crate) fn run() -> Result<()> {
    setup::ensure(Task::Build)?;
    println!("{}", release()?.display());
    Ok(())
}

/// Builds the release binary; its path.
pub(crate) fn release() -> Result<PathBuf> {
    exec::run(exec::cargo("build").args(["--release", "--package", "ngx502"]))?;
    Ok(exec::workspace().join("target").join(host()?).join("release/ngx502"))
}

/// Builds the development binary, which takes a fraction of the time; its path.
pub(crate) fn development() -> Result<PathBuf> {
    exec::run(exec::cargo("build").args(["--package", "ngx502"]))?;
    Ok(exec::workspace().join("target").join(host()?).join("debug/ngx502"))
}

/// The host's target triple, below which cargo puts what it builds (`build.target` is set in `.cargo/config.toml`).
pub(crate) fn host() -> Result<String> {
    let version = exec::read(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

/// Makes `cargo test` run what it builds as root.
///
/// # Errors
/// If the host's target triple cannot be found out.
pub(crate) fn test_as_root(cargo: &mut Command) -> Result<&mut Command> {
    if !nix::unistd::geteuid().is_root() {
        let host = host()?.to_uppercase().replace('-', "_");
        cargo.env(format!("CARGO_TARGET_{host}_RUNNER"), "sudo --preserve-env");
    }
    Ok(cargo)
}
