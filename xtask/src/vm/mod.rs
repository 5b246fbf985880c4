//! `cargo xtask vm`: the live tests in QEMU, on the kernel and with the nginx of a Debian release.
//!
//! `archive` fetches packages from the release's archive without touching this machine's apt, `image` makes an
//! initramfs of them, `live` adds our binaries, and `boot` runs QEMU until the guest's verdict.

mod archive;
mod boot;
mod image;
mod live;
mod release;
mod support;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::exec;
use crate::setup::{self, Task};

pub(crate) use release::Release;

/// What a guest under TCG may take for the whole live suite; it is several times slower than this machine.
const TEST_DEADLINE: Duration = Duration::from_secs(1500);

/// The live tests that the table of supported kernels counts.
const VERDICTS: &str = "verdict::";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The releases to boot.
    #[arg(value_enum, default_value = "debian12")]
    guests: Vec<Release>,
    /// Run this shell command in the guest instead of the live tests; it has `ngx502` and the tests, `live`, in PATH.
    #[arg(long, value_name = "COMMAND")]
    run: Option<String>,
    /// Run only the live tests whose name contains this.
    #[arg(long, conflicts_with = "run")]
    filter: Option<String>,
    /// Fetch the packages anew even if an image exists.
    #[arg(long)]
    fresh: bool,
    /// Give up on a guest after so many seconds.
    #[arg(long, default_value_t = TEST_DEADLINE.as_secs(), value_name = "SECONDS")]
    deadline: u64,
}

/// Boots every guest named and fails if one of them did.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Task::Guests)?;
    let errand = match &args.run {
        Some(command) => live::Errand::command(command)?,
        None => live::Errand::tests(args.filter.as_deref(), true)?,
    };
    let limits = Limits { fresh: args.fresh, deadline: Duration::from_secs(args.deadline) };
    let all_verdicts = args.run.is_none() && args.filter.as_deref().is_none_or(|filter| filter == VERDICTS);
    let failed = boot_all(&args.guests, &errand.recorded(all_verdicts), &limits, &mut |_| {});
    if !failed.is_empty() {
        bail!("guests failed: {}; their logs are in {}", failed.join(", "), logs().display());
    }
    Ok(())
}

/// Runs the live tests in every one of `guests`, giving each line of their consoles to `each_line`; returns the names
/// of those that could not be booted, gave no verdict or failed.
///
/// # Errors
/// If the live tests cannot be built.
pub(crate) fn test(
    guests: &[Release],
    filter: Option<&str>,
    allow_skips: bool,
    each_line: &mut dyn FnMut(&str),
) -> Result<Vec<String>> {
    setup::ensure(Task::Guests)?;
    let limits = Limits { fresh: false, deadline: TEST_DEADLINE };
    let errand = live::Errand::tests(filter, allow_skips)?.recorded(filter.is_none());
    Ok(boot_all(guests, &errand, &limits, each_line))
}

struct Limits {
    fresh: bool,
    deadline: Duration,
}

fn boot_all(
    guests: &[Release],
    errand: &live::Errand,
    limits: &Limits,
    each_line: &mut dyn FnMut(&str),
) -> Vec<String> {
    let mut failed = Vec::new();
    for &guest in guests {
        if let Err(error) = boot(guest, errand, limits, each_line) {
            eprintln!("{guest}: {error:#}");
            failed.push(guest.to_string());
        }
    }
    failed
}

fn boot(
    guest: Release,
    errand: &live::Errand,
    limits: &Limits,
    each_line: &mut dyn FnMut(&str),
) -> Result<()> {
    let image = image::build(guest, &folder().join(guest.to_string()), limits.fresh)?;
    let initrd = errand.pack(&image)?;
    let machine = boot::Machine {
        kernel: image.kernel,
        initrd,
        log: logs().join(format!("{guest}.log")),
        deadline: limits.deadline,
    };
    let mut findings = support::Findings::default();
    let booted = machine.boot(&mut |line| {
        findings.add(line);
        each_line(line);
    });
    if errand.is_recorded() && findings.is_complete() {
        support::record(guest, &findings)?;
    }
    booted
}

fn folder() -> PathBuf {
    exec::workspace().join("target/vm")
}

fn logs() -> PathBuf {
    folder().join("logs")
}
