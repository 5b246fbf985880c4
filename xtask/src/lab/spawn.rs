//! Processes of the embedding program itself, as its helpers: how each is started, and how it ends with its parent.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio, exit};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::Signal;

/// The first argument that turns the program into a helper.
pub(super) const VERB: &str = "lab-helper";
/// Tells a helper its parent's pid.
const PARENT: &str = "NGX502_LAB_PARENT";
/// Tells the helper `exec` which AppArmor profile its program is to run under.
pub(super) const PROFILE: &str = "NGX502_LAB_PROFILE";

/// A command that runs this program as the helper `kind`; `NGX502_FAULTY` names another program.
///
/// # Errors
/// When the running executable's path cannot be read.
pub(super) fn helper(kind: &str) -> Result<Command> {
    let exe = match env::var_os("NGX502_FAULTY") {
        Some(path) => PathBuf::from(path),
        None => env::current_exe().context("the path of the running program is unknown")?,
    };
    let mut command = Command::new(exe);
    mark_parent(&mut command, std::process::id());
    command.arg(VERB).arg(kind).stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(command)
}

/// Tells a helper its parent's pid: 0 where that is outside of the helper's pid namespace.
pub(super) fn mark_parent(command: &mut Command, pid: u32) {
    command.env(PARENT, pid.to_string());
}

/// Asks the kernel for `signal` when the parent dies, and ends now if it is dead already.
pub(super) fn die_with_parent(signal: Signal) -> Result<()> {
    prctl::set_pdeathsig(signal)?;
    let parent = nix::unistd::getppid().to_string();
    if env::var(PARENT).is_ok_and(|born_of| born_of != parent) {
        exit(1);
    }
    Ok(())
}

/// Enters a network namespace by path; `-` stays.
pub(super) fn join_netns(path: &OsString) -> Result<()> {
    if path == "-" {
        return Ok(());
    }
    let file = File::open(path).with_context(|| format!("{path:?} cannot be opened"))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("{path:?} cannot be entered"))
}
