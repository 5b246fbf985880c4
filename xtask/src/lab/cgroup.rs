//! A memory cgroup with a limit, version 1 or 2, in which a process can be OOM-killed for real.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::wait;

/// A memory cgroup; removed when this drops.
#[derive(Debug)]
pub struct MemoryCgroup {
    path: PathBuf,
}

impl MemoryCgroup {
    /// Makes a cgroup limited to `bytes`.
    ///
    /// # Errors
    /// When neither hierarchy offers a memory controller that this process may use.
    pub fn create(bytes: u64) -> Result<MemoryCgroup> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ngx502-lab-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (root, limit) = if v1.join("memory.limit_in_bytes").exists() {
            (v1, "memory.limit_in_bytes")
        } else {
            let root = Path::new("/sys/fs/cgroup");
            fs::write(root.join("cgroup.subtree_control"), "+memory")
                .context("no memory controller: neither cgroup v1 nor v2 offers one at /sys/fs/cgroup")?;
            (root, "memory.max")
        };
        let cgroup = MemoryCgroup { path: root.join(name) };
        fs::create_dir(&cgroup.path).with_context(|| format!("{:?} cannot be made", cgroup.path))?;
        fs::write(cgroup.path.join(limit), bytes.to_string())
            .with_context(|| format!("{limit} cannot be set in {:?}", cgroup.path))?;
        Ok(cgroup)
    }

    /// Takes a running process in; what it allocates from now on counts.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn adopt(&self, process: u32) -> Result<()> {
        fs::write(self.path.join("cgroup.procs"), process.to_string())
            .with_context(|| format!("{:?} does not take process {process}", self.path))
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // A dying member keeps the directory busy for a moment.
        let gone =
            wait::until("the cgroup to empty", Duration::from_secs(2), || fs::remove_dir(&self.path).ok());
        if let Err(error) = gone {
            eprintln!("{:?} is left behind: {error}", self.path);
        }
    }
}
