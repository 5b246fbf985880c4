//! Keeps distributions from starting the services that we install.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Result;

use crate::exec;

/// Asked by every package's scripts before they start or stop a service; 101 forbids it.
const POLICY: &str = "/usr/sbin/policy-rc.d";

const MARK: &str = "# written by ngx502's setup";

/// While this lives, no package starts, stops or restarts a service: neither one it brings nor one that ran before.
pub(crate) struct NoAutostart {
    /// Whether the policy is ours to remove; the machine may have one of its own.
    ours: bool,
}

impl NoAutostart {
    /// # Errors
    /// If the policy cannot be written.
    pub(crate) fn new() -> Result<Self> {
        let path = Path::new(POLICY);
        // One that an interrupted setup left behind is ours too.
        let ours = !path.exists() || fs::read_to_string(path).is_ok_and(|text| text.contains(MARK));
        if ours {
            let mut policy = tempfile::NamedTempFile::new()?;
            writeln!(policy, "#!/bin/sh\n{MARK}\nexit 101")?;
            let mut install = exec::as_root("install");
            exec::run(install.arg("--mode=755").arg(policy.path()).arg(path))?;
        } else {
            println!("{POLICY} exists and decides whether the packages start services");
        }
        Ok(Self { ours })
    }
}

impl Drop for NoAutostart {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = exec::run(exec::as_root("rm").arg("--force").arg(POLICY))
        {
            eprintln!("{error:#}; remove it, or packages will not start their services");
        }
    }
}
