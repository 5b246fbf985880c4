//! Where and when it was measured.

use std::fs;
use std::process::Command;

use anyhow::Result;
use xtask::lab::nginx;

use crate::exec;

/// One line about the machine, the programs and the time, fit to be published: no name, no address.
///
/// # Errors
/// When /proc cannot be read or `date` fails.
pub(super) fn describe() -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let date = exec::read(Command::new("date").args(["--utc", "+%Y-%m-%d %H:%M UTC"]))?;
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(format!(
        "{}; {cpus} × {}; Linux {}; {}; load average before the start {}",
        date.trim(),
        model.map_or("unknown processor", |(_, name)| name.trim()),
        kernel.trim(),
        nginx_version().unwrap_or_else(|| "nginx of unknown version".to_owned()),
        load.split(' ').next().unwrap_or("unknown"),
    ))
}

/// `nginx -v` writes to standard error.
fn nginx_version() -> Option<String> {
    let output = Command::new(nginx::binary()).arg("-v").output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(text.trim().strip_prefix("nginx version: ")?.to_owned())
}
