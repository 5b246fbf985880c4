//! What `/proc` says of this machine's processes, read by discovery ([`crate::nginx`]) and look-ups ([`crate::enrich`])
//! alike.
//!
//! Every byte of it may be hostile and every process may end between two reads: the parsers take bytes, not UTF-8, never
//! panic, and read a bounded part of each file. Not here: `/proc/PID/net` and sock_diag (`enrich::sockets`), and what
//! containers are called (`enrich::containers`).

pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod maps;
mod process;
pub(crate) mod status;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;

use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::Mode;

pub(crate) use self::process::{Stat, info, living, process_ref, runs, stat};
use crate::event::Pid;

/// How much of a file of /proc is read, but for tables.
const FILE_BYTES: u64 = 64 * 1024;

/// The pids in /proc, in no order; an error when it cannot be listed.
pub(crate) fn pids() -> io::Result<impl Iterator<Item = Pid>> {
    let numbers = std::fs::read_dir("/proc")?.flatten();
    Ok(numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid)))
}

/// A file of /proc, cut at 64 KiB. A file below `/proc/PID` mostly cannot be read since the process is gone.
pub(crate) fn read(path: &str) -> io::Result<Vec<u8>> {
    read_at_most(FILE_BYTES, path)
}

/// The same, cut at another length.
pub(crate) fn read_at_most(limit: u64, path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The inodes of the sockets that a process has open; empty when it is gone.
pub(crate) fn sockets_of(pid: Pid) -> Vec<u64> {
    let path = format!("/proc/{pid}/fd");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let (Ok(directory), Ok(entries)) = (open(path.as_str(), flags, Mode::empty()), std::fs::read_dir(&path))
    else {
        return Vec::new();
    };
    let targets =
        entries.flatten().filter_map(|entry| readlinkat(&directory, entry.file_name().as_os_str()).ok());
    targets.filter_map(|target| socket_inode(target.as_bytes())).collect()
}

/// The number in `socket:[4711]`.
fn socket_inode(target: &[u8]) -> Option<u64> {
    let digits = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_have_a_socket_inode() {
        assert_eq!(socket_inode(b"socket:[4711]"), Some(4711));
        for other in
            [&b"pipe:[1]"[..], b"/tmp/socket:[1]", b"socket:[]", b"socket:[-1]", b"socket:[1] (deleted)"]
        {
            assert_eq!(socket_inode(other), None);
        }
    }
}
