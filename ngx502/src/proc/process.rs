//! One process: who it is, whether it runs, and what `/proc/PID` says of it. An error means that it is gone.
//!
//! Start times from here are rounded down to a clock tick, those from BPF are exact: compare them with
//! [`clock::same_start`], never with `==`.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

use bstr::{BString, ByteSlice as _};

use super::{cgroup, clock, read, status};
use crate::event::{ContainerNames, Nanos, Pid, ProcessInfo, ProcessRef};

/// How much of a command line is kept.
const COMMAND_BYTES: usize = 256;

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The name.
    pub(crate) comm: BString,
    /// `R`, `S`, `D`, `Z`, …
    pub(crate) state: u8,
    /// Parent; 0 when it is outside this pid namespace.
    pub(crate) parent: Pid,
    /// Start, rounded down to a tick.
    pub(crate) start: Nanos,
}

/// `/proc/PID/stat`.
pub(crate) fn stat(pid: Pid) -> io::Result<Stat> {
    parse_stat(&read(&format!("/proc/{pid}/stat"))?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat has too few fields"))
}

/// The identity of a process, be it a zombie.
pub(crate) fn process_ref(pid: Pid) -> io::Result<ProcessRef> {
    let Stat { comm, start, .. } = stat(pid)?;
    Ok(ProcessRef { pid, start, comm })
}

/// The identity of a process that still has its files; `None` for a zombie.
pub(crate) fn living(pid: Pid) -> io::Result<Option<ProcessRef>> {
    let Stat { comm, state, start, .. } = stat(pid)?;
    Ok((!matches!(state, b'Z' | b'X')).then_some(ProcessRef { pid, start, comm }))
}

/// Whether this very process, no later one of its number, still runs and is not a zombie.
pub(crate) fn runs(process: &ProcessRef) -> bool {
    let found = living(process.pid).ok().flatten();
    found.is_some_and(|found| clock::same_start(found.start, process.start))
}

/// Everything that /proc says of a process; of a zombie only what outlives its memory.
pub(crate) fn info(pid: Pid) -> io::Result<ProcessInfo> {
    let Stat { comm, parent, start, .. } = stat(pid)?;
    let membership = cgroup::of(pid);
    let names = ContainerNames { runtime: membership.runtime, ..ContainerNames::default() };
    let status = read(&format!("/proc/{pid}/status")).unwrap_or_default();
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    Ok(ProcessInfo {
        process: ProcessRef { pid, start, comm },
        parent,
        exe: exe.map(|path| path.as_os_str().as_bytes().into()),
        command: command(&read(&format!("/proc/{pid}/cmdline")).unwrap_or_default()),
        unit: membership.unit,
        container_names: membership.container.is_some().then_some(names),
        container: membership.container,
        cgroup: membership.path,
        uid: status::numbers(&status, "Uid:").nth(1).unwrap_or(u32::MAX),
        mounts: std::fs::metadata(format!("/proc/{pid}/ns/mnt"))
            .ok()
            .and_then(|namespace| u32::try_from(namespace.ino()).ok()),
    })
}

/// Arguments joined by blanks and cut.
fn command(raw: &[u8]) -> BString {
    let mut text = BString::from(raw.trim_end_with(|c| c == '\0'));
    text.truncate(COMMAND_BYTES);
    for byte in text.iter_mut().filter(|byte| **byte == 0) {
        *byte = b' ';
    }
    text
}

/// The name stands in parentheses and may itself hold blanks and parentheses: the last one ends it.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let (open, close) = (text.find_byte(b'(')?, text.rfind_byte(b')')?);
    let comm = text.get(open + 1..close)?.into();
    let mut fields = text.get(close + 1..)?.fields();
    let state = *fields.next()?.first()?;
    let mut number = |skip: usize| fields.nth(skip)?.to_str().ok()?.parse::<u64>().ok();
    let parent = Pid(u32::try_from(number(0)?).ok()?);
    // starttime is field 22; state is field 3 and the parent field 4.
    let start = clock::from_ticks(number(17)?);
    Some(Stat { comm, state, parent, start })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_parentheses() {
        let line = b"42 (a) R 1 (b) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 1234 0 0";
        let stat = parse_stat(line).expect("a stat line");
        assert_eq!((stat.comm, stat.state, stat.parent), ("a) R 1 (b".into(), b'S', Pid(7)));
        assert_eq!(stat.start, clock::from_ticks(1234));
        for hostile in [&b""[..], b"42 (x", b"42 )x(", b"42 (x) S 1 2"] {
            assert_eq!(parse_stat(hostile), None);
        }
    }

    #[test]
    fn a_command_line_is_joined_and_cut() {
        assert_eq!(command(b"php-fpm: pool www\0\0\0"), "php-fpm: pool www");
        assert_eq!(command(b"gunicorn\0-w\x004\0"), "gunicorn -w 4");
        assert_eq!(command(&[b'x'; 1000]).len(), COMMAND_BYTES);
    }

    #[test]
    fn this_process_knows_itself() {
        let pid = Pid(std::process::id());
        let info = info(pid).expect("own facts");
        assert_eq!(info.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(info.parent, Pid(std::os::unix::process::parent_id()));
        assert_eq!(info.process, process_ref(pid).expect("own identity"));
        assert!(info.exe.is_some() && !info.command.is_empty() && runs(&info.process));
    }
}
