//! What /proc says of other processes.

use std::fs;

use nix::unistd::Pid;

/// A pid in nix's type; pids of the kernel are below 2^22.
pub(super) fn pid(raw: u32) -> Pid {
    Pid::from_raw(i32::try_from(raw).expect("a pid fits i32"))
}

/// Children of `parent` by /proc/PID/stat; `children` in /proc is optional in kernels.
pub(super) fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// State letter and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold blanks and parentheses.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// State letter of a process.
pub(super) fn state_of(pid: u32) -> Option<char> {
    stat(pid).map(|(state, _)| state)
}

fn parent_of(pid: u32) -> Option<u32> {
    stat(pid).filter(|(state, _)| *state != 'Z').map(|(_, parent)| parent)
}
