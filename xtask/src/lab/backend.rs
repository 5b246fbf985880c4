//! The lab's handle on an upstream process.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};

use super::behaviour::Behaviour;
use super::container::Container;
use super::process::{children, pid};
use super::spawn::{VERB, helper};
use super::wait;

/// How an upstream process is to be.
#[derive(Clone, Debug)]
pub struct BackendConfig<'a> {
    /// `tcp:127.0.0.1:0`, `unix:/path` or `udp`.
    pub listen: String,
    /// What it does to its connections.
    pub behaviour: Behaviour,
    /// The listen backlog; `None` for the usual 128 or more.
    pub backlog: Option<i32>,
    /// Above 0: a master that does not accept, and so many worker processes that do.
    pub workers: u32,
    /// The network namespace to be in.
    pub netns: Option<&'a Path>,
    /// The memory cgroup to be in.
    pub cgroup: Option<&'a Path>,
    /// The container to be in, which has a cgroup and a network of its own.
    pub container: Option<&'a Container>,
}

/// A running upstream process; killed when this drops.
#[derive(Debug)]
pub struct Backend {
    child: Child,
    pid: u32,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Backend {
    /// Starts it and waits until it is bound.
    ///
    /// # Errors
    /// When it cannot bind, or join its namespace or cgroup.
    pub fn start(config: &BackendConfig<'_>) -> Result<Backend> {
        let mut command = match config.container {
            Some(container) => {
                let mut command = container.command(&std::env::current_exe()?)?;
                command.args([VERB, "faulty"]);
                command
            }
            None => helper("faulty")?,
        };
        command.args(["--listen", &config.listen, "--behave", config.behaviour.as_str()]);
        command.args(["--workers", &config.workers.to_string()]);
        if let Some(backlog) = config.backlog {
            command.args(["--backlog", &backlog.to_string()]);
        }
        for (flag, path) in [("--netns", config.netns), ("--cgroup", config.cgroup)] {
            if let Some(path) = path {
                command.arg(flag).arg(path);
            }
        }
        let mut backend = Self::of(command)?;
        if config.container.is_some() {
            backend.pid = *children(backend.pid).first().context("the container is gone")?;
        }
        Ok(backend)
    }

    /// Starts a command that becomes one, and waits until that is bound.
    ///
    /// # Errors
    /// When it says something else.
    pub(super) fn of(mut command: Command) -> Result<Backend> {
        let mut child = command.spawn().context("an upstream process cannot be started")?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("the upstream has no output")?);
        let pid = child.id();
        let mut backend = Backend { child, pid, stdin, stdout, address: String::new() };
        let line = backend.line()?;
        let Some(address) = line.strip_prefix("ready ") else {
            bail!("the upstream did not start: `{line}`")
        };
        backend.address = address.to_owned();
        Ok(backend)
    }

    /// Where the command that was started only stands for it: its own pid.
    pub(super) fn set_pid(&mut self, pid: u32) {
        self.pid = pid;
    }

    /// Where it listens, as nginx's `server` directive takes it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Closes its listening socket and lives on.
    ///
    /// # Errors
    /// When it is gone.
    pub fn stop_listening(&mut self) -> Result<()> {
        self.tell("stop-listening")
    }

    /// Waits until it has an open connection.
    ///
    /// # Errors
    /// When it gets none within 10 s.
    pub fn await_connection(&mut self) -> Result<()> {
        self.tell("await-connection")
    }

    /// Closes its open connections.
    ///
    /// # Errors
    /// When it is gone.
    pub fn close_connections(&mut self) -> Result<()> {
        self.tell("close-connections")
    }

    /// Lets it allocate until the kernel kills it, and waits for that.
    ///
    /// # Errors
    /// When it outlives 30 s, or ends otherwise than by SIGKILL.
    pub fn eat_memory(&mut self) -> Result<()> {
        writeln!(self.stdin.as_mut().context("the upstream is gone")?, "eat")?;
        let status = self.wait_gone()?;
        if status.signal() != Some(Signal::SIGKILL as i32) {
            bail!("the upstream was to be OOM-killed, but ended with {status}");
        }
        Ok(())
    }

    /// Sends it a signal that ends it, and waits until it is gone.
    ///
    /// # Errors
    /// When it is gone already, or outlives 30 s.
    pub fn kill(&mut self, signal: Signal) -> Result<ExitStatus> {
        kill(pid(self.pid()), signal).context("the upstream is gone already")?;
        self.wait_gone()
    }

    /// Waits until it is gone.
    ///
    /// # Errors
    /// When it outlives 30 s.
    pub fn wait_gone(&mut self) -> Result<ExitStatus> {
        wait::until("the upstream to end", Duration::from_secs(30), || self.child.try_wait().ok().flatten())
    }

    fn tell(&mut self, command: &str) -> Result<()> {
        writeln!(self.stdin.as_mut().context("the upstream is gone")?, "{command}")?;
        match self.line()?.as_str() {
            "done" => Ok(()),
            other => bail!("the upstream answered `{other}` to `{command}`"),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // The end of its input lets a pre-fork master end its workers; a hanging one is killed.
        drop(self.stdin.take());
        if wait::until("the upstream to end", Duration::from_secs(2), || self.child.try_wait().ok().flatten())
            .is_err()
        {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
