//! Distribution packages, by task.

use std::process::Command;

use anyhow::{Context, Result};

use super::Task;
use super::policy::NoAutostart;
use crate::exec;

/// zstd's C source is compiled in.
const BUILD: &[&str] = &["gcc", "libc6-dev", "make"];

const DEMO: &[&str] = &["curl", "iproute2", "nginx", "nodejs", "procps", "python3", "wrk"];

const BENCH: &[&str] = &["bpftool", "bpftrace", "nginx", "strace", "util-linux", "wrk"];

/// What nginx is compiled with.
const BUILDS: &[&str] = &["libpcre2-dev", "libssl-dev", "zlib1g-dev"];

const GUESTS: &[&str] =
    &["binutils", "cpio", "debian-archive-keyring", "gzip", "kmod", "qemu-system-x86", "tar"];

/// Real backends, the tools that make them fail, and those that read what we write.
const TEST: &[&str] = &[
    "apparmor",
    "bpftrace",
    "chromium",
    "docker.io",
    "gunicorn",
    "haproxy",
    "ca-certificates",
    "nftables",
    "openssl",
    "php8.2-fpm",
    "puma",
    "python3-venv",
    "socat",
    "strace",
    "uwsgi-core",
    "uwsgi-plugin-python3",
];

/// Installs the packages of `task` that are missing.
///
/// # Errors
/// If dpkg cannot be asked or apt fails.
pub(crate) fn ensure(task: Task) -> Result<()> {
    let groups: &[&[&str]] = match task {
        Task::Build | Task::Lint => &[BUILD],
        Task::Bench => &[BUILD, BENCH],
        Task::Demo => &[BUILD, DEMO],
        Task::Builds => &[BUILD, BUILDS, DEMO],
        Task::Guests => &[BUILD, GUESTS],
        Task::Test => &[BUILD, BENCH, BUILDS, DEMO, GUESTS, TEST],
    };
    install(&groups.concat())
}

/// Installs those of `packages` that are missing; says nothing if none is.
///
/// # Errors
/// If dpkg cannot be asked or apt fails.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {} packages: {}", missing.len(), missing.join(" "));
    let _guard = NoAutostart::new()?;
    let mut update = exec::as_root("apt-get");
    exec::run(update.args(["--quiet", "--quiet", "update"]))?;
    let mut apt = exec::as_root("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt.args(["--quiet", "--yes", "--no-install-recommends", "install"]);
    exec::run(apt.args(&missing)).with_context(|| format!("apt could not install {}", missing.join(" ")))
}

/// Whether apt knows a version of `package` that it could install.
pub(crate) fn is_available(package: &str) -> bool {
    let policy = exec::read(Command::new("apt-cache").args(["policy", package]));
    policy.is_ok_and(|text| text.lines().any(|line| line.contains("Candidate:") && !line.contains("(none)")))
}

fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    let mut ask = Command::new("dpkg-query");
    ask.args(["--show", "--showformat", "${binary:Package} ${db:Status-Status}\n"]).args(packages);
    // It fails if it knows nothing of one of them, and lists the others all the same.
    let output = ask.output().context("no dpkg-query: setup knows only Debian and what derives from it")?;
    Ok(not_installed(packages, &String::from_utf8_lossy(&output.stdout)))
}

fn not_installed<'a>(packages: &[&'a str], listing: &str) -> Vec<&'a str> {
    let installed = |package: &str| {
        listing.lines().filter_map(|line| line.split_once(' ')).any(|(name, status)| {
            // `libc6-dev:amd64` where a package can be there for several architectures.
            status == "installed" && name.split(':').next() == Some(package)
        })
    };
    packages.iter().copied().filter(|package| !installed(package)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_and_unknown_packages_are_missing() {
        let listing = "gcc installed\nlibc6-dev:amd64 installed\ncpio config-files\nkmod not-installed\n";
        assert_eq!(
            not_installed(&["gcc", "libc6-dev", "cpio", "kmod", "wrk"], listing),
            ["cpio", "kmod", "wrk"]
        );
    }
}
