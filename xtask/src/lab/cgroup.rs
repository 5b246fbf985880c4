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
    /// The innermost last; never empty once it is handed out.
    made: Vec<PathBuf>,
}

impl MemoryCgroup {
    /// Makes a cgroup limited to `bytes`.
    ///
    /// # Errors
    /// When neither hierarchy offers a memory controller that this process may use.
    pub fn create(bytes: u64) -> Result<MemoryCgroup> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ngx502-lab-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        MemoryCgroup::nested(&[name], bytes)
    }

    /// Makes cgroups of these names, one in the other, and limits the innermost to `bytes`.
    ///
    /// # Errors
    /// As [`MemoryCgroup::create`].
    pub fn nested(names: &[String], bytes: u64) -> Result<MemoryCgroup> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (root, limit) = if v1.join("memory.limit_in_bytes").exists() {
            (v1, "memory.limit_in_bytes")
        } else {
            let root = Path::new("/sys/fs/cgroup");
            (root, "memory.max")
        };
        let mut cgroup = MemoryCgroup { made: Vec::new() };
        for name in names {
            let outer = cgroup.made.last().map_or(root, PathBuf::as_path);
            if root != v1 {
                fs::write(outer.join("cgroup.subtree_control"), "+memory")
                    .context("no memory controller: neither cgroup v1 nor v2 offers one at /sys/fs/cgroup")?;
            }
            let inner = outer.join(name);
            fs::create_dir(&inner).with_context(|| format!("{inner:?} cannot be made"))?;
            cgroup.made.push(inner);
        }
        let path = cgroup.made.last().context("a cgroup needs a name")?;
        fs::write(path.join(limit), bytes.to_string())
            .with_context(|| format!("{limit} cannot be set in {path:?}"))?;
        Ok(cgroup)
    }

    /// Takes a running process in; what it allocates from now on counts.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn adopt(&self, process: u32) -> Result<()> {
        fs::write(self.path().join("cgroup.procs"), process.to_string())
            .with_context(|| format!("{:?} does not take process {process}", self.path()))
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.made.last().expect("it is only handed out with at least one")
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            // A dying member keeps the directory busy for a moment.
            let gone =
                wait::until("the cgroup to empty", Duration::from_secs(2), || fs::remove_dir(path).ok());
            if let Err(error) = gone {
                eprintln!("{path:?} is left behind: {error}");
            }
        }
    }
}
