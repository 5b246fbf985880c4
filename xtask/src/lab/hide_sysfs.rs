//! A machine that offers less: a program runs in mounts of its own in which parts of /sys are hidden from it.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use super::spawn::{die_with_parent, helper};

/// A folder that a program finds empty, but for one entry.
#[derive(Clone, Copy, Debug)]
pub struct Hidden {
    /// The folder.
    pub folder: &'static str,
    /// The entry that stays; empty for none.
    pub but: &'static str,
}

/// A command that runs `program` without these folders. Those that are not there at all are left alone.
///
/// # Errors
/// When the running executable's path cannot be read.
pub fn without(hidden: &[Hidden], program: &Path) -> Result<Command> {
    let mut command = helper("hide-sysfs")?;
    for Hidden { folder, but } in hidden {
        command.args([folder, but]);
    }
    command.arg("--").arg(program);
    Ok(command)
}

/// `hide_sysfs [FOLDER ENTRY]… -- PROGRAM ARG…`: becomes the program.
pub(super) fn hide_sysfs(args: &[OsString]) -> Result<()> {
    let end = args.iter().position(|arg| arg == "--").context("hide_sysfs needs a program after --")?;
    let (hidden, [_, program, rest @ ..]) = args.split_at(end) else { bail!("hide_sysfs needs a program") };
    die_with_parent(Signal::SIGTERM)?;
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace cannot be made; run as root")?;
    const NONE: Option<&str> = None;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).context("mounts stay shared")?;
    for pair in hidden.chunks_exact(2) {
        let (folder, but) = (Path::new(&pair[0]), &pair[1]);
        if folder.exists() {
            hide(folder, but).with_context(|| format!("{folder:?} cannot be hidden"))?;
        }
    }
    Err(Command::new(program).args(rest).exec()).with_context(|| format!("{program:?} cannot be run"))
}

fn hide(folder: &Path, but: &OsString) -> Result<()> {
    const NONE: Option<&str> = None;
    let kept = if but.is_empty() { None } else { Some(fs::File::open(folder.join(but))?) };
    mount(Some("none"), folder, Some("tmpfs"), MsFlags::empty(), NONE)?;
    if let Some(kept) = kept {
        let place = folder.join(but);
        fs::create_dir(&place)?;
        let from = format!("/proc/self/fd/{}", kept.as_raw_fd());
        mount(Some(from.as_str()), &place, NONE, MsFlags::MS_BIND, NONE)?;
    }
    Ok(())
}
