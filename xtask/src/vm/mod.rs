//! `cargo xtask vm`: the live tests in QEMU, on the kernel and with the nginx of a Debian release.
//!
//! `archive` fetches packages from the release's archive without touching this machine's apt, `image` makes an
//! initramfs of them, `live` adds our binaries, and `boot` runs QEMU until the guest's verdict.

mod archive;
mod boot;
mod image;
mod live;
mod release;
pub(crate) mod support;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::exec;
use crate::setup::{self, Task};

pub(crate) use boot::FELL_OVER;
pub(crate) use live::Choice;
pub(crate) use release::Release;

/// What a guest under TCG may take for the whole live suite; it is several times slower than this machine.
const TEST_DEADLINE: Duration = Duration::from_secs(2400);

/// A few telling tests: an OOM kill, AF_UNIX, TLS, a timeout, a retry, a restart, a container.
const SMOKE: &[&str] = &[
    "verdict::refused-oom",
    "verdict::refused-killed",
    "verdict::socket-killed",
    "verdict::closed-by-worker-crash-unix",
    "verdict::tls-to-plain",
    "verdict::slow",
    "verdict::rescued-by-retry",
    "verdict::silent-success",
    "life::restart",
    "container::killed",
];

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
    /// Run the benchmark in the guest instead, with bcc's tools beside ngx502, and write it into docs/performance.md. Under
    /// emulation only ratios mean something.
    #[arg(long, conflicts_with_all = ["run", "filter"])]
    bench: bool,
    /// Fetch the packages anew even if an image exists.
    #[arg(long)]
    fresh: bool,
    /// Give up on a guest after so many seconds.
    #[arg(long, default_value_t = TEST_DEADLINE.as_secs(), value_name = "SECONDS")]
    deadline: u64,
    /// Boot the kernel with these options besides the usual, e.g. `lockdown=integrity`.
    #[arg(long, default_value = "", value_name = "OPTIONS")]
    boot_options: String,
}

/// Boots every guest named and fails if one of them did.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Task::Guests)?;
    let how = Conditions {
        fresh: args.fresh,
        deadline: Duration::from_secs(args.deadline),
        options: args.boot_options.clone(),
    };
    if args.bench {
        let errand = live::Errand::bench()?;
        return args.guests.iter().try_for_each(|guest| bench(*guest, &errand, &how));
    }
    let errand = match &args.run {
        Some(command) => live::Errand::command(command)?,
        None => {
            let choice = args.filter.as_deref().map_or(Choice::Whole, Choice::Containing);
            live::Errand::tests(&choice, true)?
        }
    };
    let failed = boot_all(&args.guests, &errand, &how, &mut |_| {});
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

/// A guest to test in.
pub(crate) struct Visit<'a> {
    /// Its release.
    pub(crate) guest: Release,
    /// What it runs.
    pub(crate) choice: Choice<'a>,
    /// What its kernel is told besides the usual.
    pub(crate) options: &'a str,
}

impl Visit<'_> {
    /// All that depends on the kernel.
    pub(crate) fn full(guest: Release) -> Self {
        Self { guest, choice: Choice::OfTheKernel, options: "" }
    }

    /// What depends on it most, with nginx's log hidden (`crit`) or with the release's own backends.
    pub(crate) fn brief(guest: Release, crit: bool) -> Self {
        Self { guest, choice: Choice::Brief { crit }, options: "" }
    }

    /// The same, and the release's own backends.
    pub(crate) fn whole(guest: Release) -> Self {
        Self { guest, choice: Choice::Whole, options: "" }
    }

    /// [`SMOKE`].
    pub(crate) fn smoke(guest: Release) -> Self {
        Self { guest, choice: Choice::Named(SMOKE), options: "" }
    }

    /// Services of a systemd that is the guest's first process; `init.sh` looks for the option.
    pub(crate) fn with_systemd(guest: Release) -> Self {
        Self { guest, choice: Choice::Containing("systemd::"), options: "ngx502.systemd" }
    }

    /// What a kernel that is locked down against root for integrity allows and refuses.
    pub(crate) fn locked_down(guest: Release) -> Self {
        Self { guest, choice: Choice::Containing("degraded::"), options: "lockdown=integrity" }
    }

    /// A kernel that lets root read nothing of its memory.
    pub(crate) fn confidential(guest: Release) -> Self {
        Self { guest, choice: Choice::Named(&["degraded::lockdown"]), options: "lockdown=confidentiality" }
    }
}

/// Makes each visit, giving each line of the guest's console to `each_line`; returns, with the reason, the guests that could
/// not be booted, gave no verdict or failed.
///
/// # Errors
/// If the live tests cannot be built.
pub(crate) fn test(
    visits: &[Visit<'_>],
    allow_skips: bool,
    each_line: &mut dyn FnMut(&str),
) -> Result<Vec<String>> {
    setup::ensure(Task::Guests)?;
    let mut failed = Vec::new();
    for Visit { guest, choice, options } in visits {
        let how = Conditions { fresh: false, deadline: TEST_DEADLINE, options: (*options).to_owned() };
        let errand = live::Errand::tests(choice, allow_skips)?;
        failed.extend(boot_all(&[*guest], &errand, &how, each_line));
    }
    Ok(failed)
}

/// Boots one guest for the benchmark and takes its result over.
fn bench(guest: Release, errand: &live::Errand, how: &Conditions) -> Result<()> {
    let image =
        image::build(guest, &guest.bench_packages(), &folder().join(format!("{guest}-bench")), how.fresh)?;
    let (mut result, mut inside) = (String::new(), false);
    machine(guest, image, errand, how)?.boot(&mut |line| match line {
        live::BENCH_BEGIN => inside = true,
        live::BENCH_END => inside = false,
        _ if inside => result = format!("{result}{line}\n"),
        _ => {}
    })?;
    let emulated = "In a guest whose processors QEMU emulates (TCG): no figure but a ratio means anything, and traps and system \
                    calls cost other shares than on a processor. Where the untraced runs differ among themselves as much \
                    as they do from the traced ones, the row says nothing.";
    crate::bench::write(&[("guest", format!("{guest}. {emulated}\n\n{}", result.trim()))])
}

fn machine(
    guest: Release,
    image: image::Image,
    errand: &live::Errand,
    how: &Conditions,
) -> Result<boot::Machine> {
    let initrd = errand.pack(&image)?;
    let name = [&guest.to_string(), how.options.as_str()].join(" ");
    Ok(boot::Machine {
        kernel: image.kernel,
        initrd,
        log: logs().join(format!("{}.log", name.trim_end().replace([' ', '/'], "-"))),
        deadline: how.deadline,
        options: how.options.clone(),
    })
}

/// How guests are booted.
struct Conditions {
    fresh: bool,
    deadline: Duration,
    options: String,
}

fn boot_all(
    guests: &[Release],
    errand: &live::Errand,
    how: &Conditions,
    each_line: &mut dyn FnMut(&str),
) -> Vec<String> {
    let mut failed = Vec::new();
    for &guest in guests {
        if let Err(error) = boot(guest, errand, how, each_line) {
            failed.push(format!("{guest}: {error:#}"));
        }
    }
    failed
}

fn boot(
    guest: Release,
    errand: &live::Errand,
    how: &Conditions,
    each_line: &mut dyn FnMut(&str),
) -> Result<()> {
    let image = image::build(guest, &guest.packages(), &folder().join(guest.to_string()), how.fresh)?;
    let machine = machine(guest, image, errand, how)?;
    let mut findings = support::Findings::default();
    let booted = machine.boot(&mut |line| {
        findings.add(line);
        each_line(line);
    });
    if errand.is_recorded() {
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
