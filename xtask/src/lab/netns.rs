//! A network namespace of one's own: routes, filters and port ranges can be broken without touching the host.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;

use super::spawn::{die_with_parent, helper};

/// A network namespace with only loopback, held by a helper process; gone when this drops.
#[derive(Debug)]
pub struct Netns {
    holder: Child,
    path: PathBuf,
}

impl Netns {
    /// Makes the namespace and brings loopback up.
    ///
    /// # Errors
    /// Without root, without `ip`, or where the kernel has no network namespaces.
    pub fn create() -> Result<Netns> {
        let mut holder = helper("netns")?.spawn().context("the namespace's holder cannot be started")?;
        let path = PathBuf::from(format!("/proc/{}/ns/net", holder.id()));
        let stdout = holder.stdout.take().context("the holder has no output")?;
        let netns = Netns { holder, path };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("no network namespace could be made (root, `ip` and a kernel with namespaces are needed)");
        }
        Ok(netns)
    }

    /// The namespace's file, for `setns`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The pid of the process that holds it.
    pub(super) fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// Runs `work` on a thread inside the namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or `work` fails.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = File::open(&self.path)?;
                setns(file, CloneFlags::CLONE_NEWNET).context("the namespace cannot be entered")?;
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a command line, split at blanks, inside the namespace.
    ///
    /// # Errors
    /// When the command is missing or fails: its name and output.
    pub fn command(&self, line: &str) -> Result<()> {
        self.run(|| {
            let mut words = line.split(' ');
            let program = words.next().unwrap_or_default();
            let output = Command::new(program)
                .args(words)
                .output()
                .with_context(|| format!("`{program}` is missing"))?;
            if !output.status.success() {
                bail!("`{line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(())
        })
    }

    /// Sets a per-namespace sysctl, e.g. `net/ipv4/ip_local_port_range`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let file = format!("/proc/sys/{name}");
        self.run(|| std::fs::write(&file, value).with_context(|| format!("{file} cannot be written")))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // The holder may be gone already; nothing is left to do then.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The helper `netns`: holds a new network namespace with loopback up until standard input ends.
pub(super) fn hold() -> Result<()> {
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
