//! What /proc tells of one process.
//!
//! Start times from here are rounded down to a clock tick (10 ms on every common kernel), those from BPF are exact:
//! compare them with [`same_start`], never with `==`.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::LazyLock;

use bstr::{BString, ByteSlice as _};
use nix::time::{ClockId, clock_gettime};

use super::cgroup;
use crate::event::{ContainerNames, Nanos, Pid, ProcessInfo, ProcessRef};

/// How much of a command line is kept.
const COMMAND_BYTES: usize = 256;
/// How much of any file of /proc is read.
const FILE_BYTES: u64 = 64 * 1024;

/// A clock tick of /proc in nanoseconds.
static TICK: LazyLock<u64> = LazyLock::new(|| 1_000_000_000 / procfs::ticks_per_second().max(1));

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// The name.
    pub(super) comm: BString,
    /// `R`, `S`, `D`, `Z`, …
    pub(super) state: u8,
    /// Parent.
    pub(super) parent: Pid,
    /// Start, rounded down to a tick.
    pub(super) start: Nanos,
}

/// Whether two start times can be one process's: at most a tick apart, or one of them unknown.
pub(super) fn same_start(a: Nanos, b: Nanos) -> bool {
    a.0 == 0 || b.0 == 0 || a.0.abs_diff(b.0) <= *TICK
}

/// The boot time now; the end of time where the clock is missing.
pub(super) fn boot_time() -> Nanos {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(std::time::Duration::from);
    Nanos(now.map_or(u64::MAX, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)))
}

/// The pids in /proc.
pub(super) fn pids() -> io::Result<impl Iterator<Item = Pid>> {
    let numbers = std::fs::read_dir("/proc")?.flatten();
    Ok(numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid)))
}

/// A file of /proc, cut at 64 KiB.
pub(super) fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `/proc/PID/stat`.
pub(super) fn stat(pid: Pid) -> io::Result<Stat> {
    parse_stat(&read(&format!("/proc/{pid}/stat"))?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat has too few fields"))
}

/// The identity of a living process.
pub(super) fn reference(pid: Pid) -> io::Result<ProcessRef> {
    let Stat { comm, start, .. } = stat(pid)?;
    Ok(ProcessRef { pid, start, comm })
}

/// The identity of a process that has its files still: `None` for a zombie.
pub(super) fn living(pid: Pid) -> io::Result<Option<ProcessRef>> {
    let Stat { comm, state, start, .. } = stat(pid)?;
    Ok((!matches!(state, b'Z' | b'X')).then_some(ProcessRef { pid, start, comm }))
}

/// Whether this very process is there and no zombie.
pub(super) fn runs(process: &ProcessRef) -> io::Result<bool> {
    Ok(living(process.pid)?.is_some_and(|found| same_start(found.start, process.start)))
}

/// Everything that /proc tells; of a zombie only what outlives its memory.
pub(super) fn info(pid: Pid) -> io::Result<ProcessInfo> {
    let Stat { comm, parent, start, .. } = stat(pid)?;
    let membership = cgroup::parse(&read(&format!("/proc/{pid}/cgroup")).unwrap_or_default());
    let status = read(&format!("/proc/{pid}/status")).unwrap_or_default();
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    Ok(ProcessInfo {
        process: ProcessRef { pid, start, comm },
        parent,
        exe: exe.map(|path| path.as_os_str().as_bytes().into()),
        command: command(&read(&format!("/proc/{pid}/cmdline")).unwrap_or_default()),
        unit: membership.unit,
        container_names: membership
            .container
            .as_ref()
            .map(|_| ContainerNames { runtime: membership.runtime, ..ContainerNames::default() }),
        container: membership.container,
        cgroup: membership.path,
        uid: numbers(&status, "Uid:").nth(1).unwrap_or(u32::MAX),
    })
}

/// The decimal numbers of a line of `/proc/PID/status`.
pub(super) fn numbers<'a>(status: &'a [u8], label: &str) -> impl Iterator<Item = u32> + use<'a> {
    let line = status.lines().find_map(|line| line.strip_prefix(label.as_bytes()));
    let fields = line.unwrap_or_default().fields();
    fields.filter_map(|field| field.to_str().ok()?.parse().ok())
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
    let start = Nanos(number(17)?.saturating_mul(*TICK));
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
        assert_eq!(stat.start, Nanos(1234 * *TICK));
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
        assert_eq!(info.process, reference(pid).expect("own identity"));
        assert!(info.exe.is_some() && !info.command.is_empty());
        let exact = Nanos(info.process.start.0 + 9_999_999);
        assert!(same_start(info.process.start, exact));
        assert!(!same_start(info.process.start, Nanos(exact.0 + 1_000_000_000)));
    }
}
