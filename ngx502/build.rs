//! Builds the BPF object, so that `cargo build` alone yields a complete tracer.
//!
//! The crate `ngx502-ebpf` is compiled from source with a toolchain of its own (see `build/toolchain.rs`); the object
//! ends up as `OUT_DIR/ngx502.bpf.o`, whose path the crate reads as `env!("NGX502_BPF_OBJECT")`.

#[path = "build/toolchain.rs"]
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use toolchain::Toolchain;

/// What the object is made from; a change of any of them builds it anew. Relative to this package.
const SOURCES: [&str; 7] = [
    "build.rs",
    "build/toolchain.rs",
    "../Cargo.lock",
    "../Cargo.toml",
    "../ngx502-common/Cargo.toml",
    "../ngx502-common/src",
    "../ngx502-ebpf",
];

fn main() -> ExitCode {
    match build() {
        Ok(object) => {
            println!("cargo::rustc-env=NGX502_BPF_OBJECT={}", object.display());
            ExitCode::SUCCESS
        }
        Err(reason) => {
            println!("cargo::error={reason}");
            ExitCode::FAILURE
        }
    }
}

/// Builds the object and returns where it is, or a sentence that says what is missing.
fn build() -> Result<PathBuf, String> {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    let toolchain = Toolchain::find().ok_or(
        "no compiler for BPF: neither rustup's nightly with rust-src nor Debian's rustc-web with rust-web-src is \
         installed; run `cargo xtask setup`",
    )?;
    if toolchain::bpf_linker().is_none() {
        return Err(
            "bpf-linker is not installed, so no BPF object can be linked; run `cargo xtask setup`".into()
        );
    }
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    // A file beside the object rather than a warning: it is no news on every build.
    write(&out_dir.join("bpf-toolchain.txt"), format!("{toolchain}\n").as_bytes())?;

    let target_dir = out_dir.join("bpf");
    let big_endian = variable("CARGO_CFG_TARGET_ENDIAN")? == "big";
    let mut cargo = toolchain.cargo("build", &variable("CARGO_CFG_TARGET_ARCH")?, big_endian, &target_dir);
    run(cargo.current_dir(workspace()?), &toolchain)?;

    let target = if big_endian { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
    let built = target_dir.join(target).join(toolchain::PROFILE).join("ngx502-ebpf");
    let object = fs::read(&built).map_err(|error| format!("cannot read {}: {error}", built.display()))?;
    if !object.starts_with(b"\x7fELF") {
        return Err(format!("{} is not an ELF object, so bpf-linker did not write it", built.display()));
    }
    let copy = out_dir.join("ngx502.bpf.o");
    write(&copy, &object)?;
    Ok(copy)
}

fn run(command: &mut Command, toolchain: &Toolchain) -> Result<(), String> {
    eprintln!("building the BPF object with {toolchain}: {command:?}");
    let status = command.status().map_err(|error| format!("{toolchain} does not start: {error}"))?;
    let failed = "see its messages below `--- stderr`";
    status
        .success()
        .then_some(())
        .ok_or_else(|| format!("{toolchain} failed on the BPF crate ({status}); {failed}"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn workspace() -> Result<PathBuf, String> {
    Ok(Path::new(&variable("CARGO_MANIFEST_DIR")?).join(".."))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("cargo did not set {name}"))
}
