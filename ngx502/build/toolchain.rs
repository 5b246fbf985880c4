//! Which compiler builds the BPF crate, and how it is called.
//!
//! Rust's BPF target needs `core` built from source, hence a compiler with that source beside it and with unstable
//! flags allowed: rustup's nightly with `rust-src`, or Debian's packaged compiler. `ngx502/build.rs` and xtask's `lint`
//! and `setup` share this file, so that all three speak of the same compiler.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The profile in the workspace's `Cargo.toml` that suits bpf-linker and the verifier.
pub(crate) const PROFILE: &str = "bpf";

/// What an outer cargo or rustup puts into the environment and what would mislead the inner cargo.
const INHERITED: [&str; 12] = [
    "CARGO",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_MAKEFLAGS",
    "CARGO_TARGET_DIR",
    "MAKEFLAGS",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// A compiler that can build `core` for BPF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// rustup's nightly, by its sysroot.
    Nightly(PathBuf),
    /// Debian's `rustc-web`, `cargo-web` and `rust-web-src`, by their sysroot.
    Distribution(PathBuf),
}

impl Toolchain {
    /// The first usable toolchain: rustup's nightly, else the distribution's.
    pub(crate) fn find() -> Option<Self> {
        let nightly = sysroot(Command::new("rustup").args(["run", "nightly", "rustc"])).map(Self::Nightly);
        let distribution = || sysroot(&mut Command::new("/usr/bin/rustc")).map(Self::Distribution);
        nightly.filter(Self::is_complete).or_else(|| distribution().filter(Self::is_complete))
    }

    /// Cargo, set up to run `verb` (`build`, `rustc`, `clippy`) on the BPF crate for a kernel on `arch`.
    ///
    /// `target_dir` must not be the outer cargo's, whose lock is held while a build script runs.
    pub(crate) fn cargo(&self, verb: &str, arch: &str, big_endian: bool, target_dir: &Path) -> Command {
        let bin = self.sysroot().join("bin");
        let mut command = Command::new(bin.join("cargo"));
        for name in INHERITED {
            command.env_remove(name);
        }
        // Cargo asks `rustc` of PATH some questions too; rustup's shim would answer for another toolchain.
        let path = env::var_os("PATH").unwrap_or_default();
        let path = [bin.clone()].into_iter().chain(env::split_paths(&path));
        command.env("PATH", env::join_paths(path).unwrap_or_else(|_| bin.clone().into_os_string()));
        command.env("RUSTC", bin.join("rustc"));
        if matches!(self, Self::Distribution(_)) {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", rustflags(arch).join("\x1f"));
        let target = if big_endian { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
        command.args([verb, "--package", "ngx502-ebpf", "--profile", PROFILE, "--target", target]);
        command.args(["-Z", "build-std=core", "--target-dir"]).arg(target_dir);
        command
    }

    /// The folder that holds the compiler's `bin` and `lib`.
    pub(crate) fn sysroot(&self) -> &Path {
        match self {
            Self::Nightly(sysroot) | Self::Distribution(sysroot) => sysroot,
        }
    }

    /// Whether the source of `core` and a cargo are there; a plain nightly lacks the former.
    fn is_complete(&self) -> bool {
        let sysroot = self.sysroot();
        sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
            && sysroot.join("bin/cargo").exists()
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nightly(sysroot) => write!(f, "rustup's nightly ({})", sysroot.display()),
            Self::Distribution(sysroot) => write!(f, "the distribution's rustc ({})", sysroot.display()),
        }
    }
}

/// bpf-linker's place: cargo's folder of installed programs, else PATH.
pub(crate) fn bpf_linker() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let installed = home.map(|home| home.join("bin/bpf-linker")).filter(|path| path.exists());
    installed.or_else(|| in_path(OsStr::new("bpf-linker")))
}

fn in_path(program: &OsStr) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.exists())
}

/// BTF describes the types, and the loader reads it; bpf-linker derives it from full debug information.
fn rustflags(arch: &str) -> Vec<String> {
    let linker = bpf_linker().unwrap_or_else(|| PathBuf::from("bpf-linker"));
    vec![
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker.display()),
        format!("--cfg=bpf_target_arch=\"{arch}\""),
    ]
}

/// Asks a compiler for its sysroot; `None` if it is not there or does not answer.
fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    for name in INHERITED {
        rustc.env_remove(name);
    }
    let output = rustc.args(["--print", "sysroot"]).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|path| PathBuf::from(path.trim()))
}
