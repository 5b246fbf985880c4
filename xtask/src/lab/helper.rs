//! The embedding program as its own helper: `lab-helper faulty|exec|netns|contain|deprive …`.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio, exit};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::{container, deprive, serve};

/// The first argument that turns the program into a helper.
const VERB: &str = "lab-helper";
/// Tells a helper its parent's pid.
const PARENT: &str = "NGX502_LAB_PARENT";
/// Tells the helper `exec` which AppArmor profile its program is to run under.
pub(super) const PROFILE: &str = "NGX502_LAB_PROFILE";

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

/// A command that runs this program as the helper `kind`; `NGX502_FAULTY` names another program.
///
/// # Errors
/// When the running executable's path cannot be read.
pub fn helper(kind: &str) -> Result<Command> {
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

fn dispatch(args: &[OsString]) -> Result<()> {
    let (kind, rest) =
        args.split_first().context("a helper needs a kind: faulty, exec, netns, contain or deprive")?;
    match kind.to_str() {
        Some("faulty") => {
            die_with_parent(Signal::SIGKILL)?;
            serve::main(rest)
        }
        Some("exec") => exec(rest),
        Some("netns") => hold_netns(),
        Some("deprive") => deprive::deprive(rest),
        Some("contain") => container::contain(rest),
        Some("contained") => container::contained(rest),
        _ => bail!("no helper is named {kind:?}"),
    }
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

/// Enters a network namespace by path; `-` stays.
pub(super) fn join_netns(path: &OsString) -> Result<()> {
    if path == "-" {
        return Ok(());
    }
    let file = File::open(path).with_context(|| format!("{path:?} cannot be opened"))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("{path:?} cannot be entered"))
}

/// Holds a new network namespace with loopback up until standard input ends.
fn hold_netns() -> Result<()> {
    die_with_parent(Signal::SIGKILL)?;
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace cannot be made; run as root")?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().context("`ip` cannot be run")?;
    if !up.success() {
        bail!("`ip link set lo up` failed: {up}");
    }
    println!("ready");
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
