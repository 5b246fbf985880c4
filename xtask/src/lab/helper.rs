//! The embedding program as its own helper: `lab-helper faulty|exec|netns|contain|hide_sysfs …`, dispatched to who does it.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::spawn::{PROFILE, VERB, die_with_parent, join_netns};
use super::{container, hide_sysfs, netns, serve};

/// Runs as a helper and ends the process, when the command line asks for it. Call it first in `main`.
pub fn run_if_asked() {
    let mut args = env::args_os().skip(1);
    if args.next().is_none_or(|verb| verb != VERB) {
        return;
    }
    let rest: Vec<OsString> = args.collect();
    if let Err(error) = dispatch(&rest) {
        eprintln!("lab helper: {error:#}");
        exit(1);
    }
    exit(0);
}

fn dispatch(args: &[OsString]) -> Result<()> {
    let (kind, rest) =
        args.split_first().context("a helper needs a kind: faulty, exec, netns, contain or hide_sysfs")?;
    match kind.to_str() {
        Some("faulty") => {
            die_with_parent(Signal::SIGKILL)?;
            serve::main(rest)
        }
        Some("exec") => exec(rest),
        Some("netns") => netns::hold(),
        Some("hide-sysfs") => hide_sysfs::hide_sysfs(rest),
        Some("contain") => container::contain(rest),
        Some("contained") => container::contained(rest),
        _ => bail!("no helper is named {kind:?}"),
    }
}

/// `exec NETNS|- PROGRAM ARG…`: becomes the program, which dies with its parent (SIGTERM: nginx's master then ends
/// its workers, which SIGKILL would orphan).
fn exec(args: &[OsString]) -> Result<()> {
    let [netns, program, rest @ ..] = args else { bail!("exec needs a namespace and a program") };
    die_with_parent(Signal::SIGTERM)?;
    join_netns(netns)?;
    if let Ok(profile) = env::var(PROFILE) {
        std::fs::write("/proc/self/attr/apparmor/exec", format!("exec {profile}"))
            .with_context(|| format!("the next program cannot be put under the profile {profile}"))?;
    }
    Err(Command::new(program).args(rest).exec()).with_context(|| format!("{program:?} cannot be run"))
}
