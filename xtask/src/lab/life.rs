//! What administrators, packages and bugs do to a running nginx: reload, upgrade, restart, a worker's crash.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};

use super::nginx::{Lab, LabConfig, launch};
use super::process::{children, pid, state_of};
use super::wait;

impl Lab {
    /// Rewrites the configuration, reloads, and waits until new workers serve and the old ones are gone.
    ///
    /// # Errors
    /// When nginx does not take the configuration in time.
    pub fn reload(&mut self, change: impl FnOnce(&mut LabConfig)) -> Result<()> {
        change(&mut self.config);
        self.write_config()?;
        let old = self.workers();
        kill(pid(self.master()), Signal::SIGHUP)?;
        wait::until("nginx to reload", Duration::from_secs(10), || {
            let now = self.workers();
            let fresh = now.iter().all(|worker| !old.contains(worker));
            (fresh && now.len() == usize::from(self.config.workers)).then_some(())
        })
        .with_context(|| self.read("error.log"))
    }

    /// Has the master start a new one beside it (SIGUSR2) and waits until both serve; returns the new master's pid.
    ///
    /// # Errors
    /// When the new one does not start.
    pub fn upgrade(&mut self) -> Result<u32> {
        kill(pid(self.master), Signal::SIGUSR2)?;
        let (old, all) = (self.master, usize::from(self.config.workers));
        let new = wait::until("the new master to have its workers", Duration::from_secs(10), || {
            let new = self.read("nginx.pid").trim().parse().ok().filter(|new| *new != old)?;
            (children(new).len() == all).then_some(new)
        })
        .with_context(|| self.read("error.log"))?;
        self.successor = Some(new);
        Ok(new)
    }

    /// Ends the old master's workers gracefully (SIGWINCH), which leaves the new one's to serve.
    ///
    /// # Errors
    /// When they do not end.
    pub fn retire_workers(&self) -> Result<()> {
        kill(pid(self.master), Signal::SIGWINCH)?;
        wait::until("the old workers to end", Duration::from_secs(10), || {
            self.workers().is_empty().then_some(())
        })
    }

    /// Ends the old master (SIGQUIT); the new one takes its place.
    ///
    /// # Errors
    /// When no upgrade is under way, or the old one does not end.
    pub fn finish_upgrade(&mut self) -> Result<()> {
        let new = self.successor.context("no upgrade is under way")?;
        kill(pid(self.master), Signal::SIGQUIT)?;
        self.wait_ended(Duration::from_secs(10))?;
        self.master = new;
        self.successor = None;
        Ok(())
    }

    /// Ends nginx (SIGTERM) and starts it again with the same configuration, as `systemctl restart` does.
    ///
    /// # Errors
    /// When it does not end, or does not start.
    pub fn restart(&mut self) -> Result<()> {
        kill(pid(self.master), Signal::SIGTERM)?;
        self.wait_ended(Duration::from_secs(10))?;
        self.launched = launch(&self.config, self.prefix())?;
        self.wait_until_ready()
    }

    /// Kills a worker with `signal` and waits until the master has replaced it.
    ///
    /// # Errors
    /// When it does not end, or is not replaced.
    pub fn crash_worker(&self, signal: Signal) -> Result<()> {
        let old = self.workers();
        let worker = *old.first().context("there is no worker")?;
        kill(pid(worker), signal)?;
        wait::until("the worker to be replaced", Duration::from_secs(10), || {
            let now = self.workers();
            (!now.contains(&worker) && now.len() == old.len()).then_some(())
        })
        .with_context(|| self.read("error.log"))
    }

    fn wait_ended(&mut self, limit: Duration) -> Result<()> {
        let master = self.master;
        wait::until("nginx to end", limit, || {
            // Whoever launched it must be waited for; one in the background is not our child.
            let waited = self.launched.try_wait().ok().flatten().is_some();
            (waited && state_of(master).is_none_or(|state| state == 'Z')).then_some(())
        })
    }
}
