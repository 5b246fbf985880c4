//! Whether a server's processes wait for connections, or are all occupied.

use std::collections::HashSet;

use bstr::ByteSlice as _;
use nix::libc;

use crate::event::{Pid, ProcessRef, Queue};
use crate::proc;

/// More threads of one process are not looked at.
const MAX_THREADS: usize = 64;
/// More processes are not looked at.
const MAX_PROCESSES: usize = 256;

/// What one thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Asleep in accept or epoll: it would take a connection.
    Waiting,
    /// Running, or asleep elsewhere.
    Occupied,
    /// Asleep in poll or select, on a listener or on a backend; or not to be seen.
    Unclear,
}

/// Whether all holders of a listener are occupied; `None` where that cannot be seen.
///
/// A holder whose child holds the listener too is a supervisor, which does not accept, and does not count. With a
/// full queue a sleeper in poll or select does not wait for this listener, or it would have been woken.
pub(super) fn all_busy(holders: &[ProcessRef], queue: Option<Queue>) -> Option<bool> {
    let stats: Vec<_> =
        holders.iter().take(MAX_PROCESSES).filter_map(|h| Some((h.pid, proc::stat(h.pid).ok()?))).collect();
    let parents: HashSet<Pid> = stats.iter().map(|(_, stat)| stat.parent).collect();
    let full = queue.is_some_and(|queue| queue.length > 0 && queue.length >= queue.limit);
    let servers = stats.iter().filter(|(pid, _)| !parents.contains(pid));
    let doing: Vec<_> = servers.flat_map(|(pid, _)| threads(*pid)).collect();
    if doing.contains(&Doing::Waiting) {
        return Some(false);
    }
    let occupied = |what: &Doing| *what == Doing::Occupied || full;
    (!doing.is_empty() && holders.len() <= MAX_PROCESSES && doing.iter().all(occupied)).then_some(true)
}

fn threads(pid: Pid) -> Vec<Doing> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let ids = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse::<u32>().ok());
    ids.take(MAX_THREADS)
        .map(|id| {
            let text = |file: &str| proc::read(&format!("/proc/{pid}/task/{id}/{file}")).unwrap_or_default();
            doing(&text("syscall"), &text("wchan"))
        })
        .collect()
}

/// System calls in which a server waits for connections.
const WAITING: &[i64] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
];

/// Those that may be about anything: a futex or a lock may guard accept among siblings, io_uring may accept.
const UNCLEAR: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_futex,
    libc::SYS_flock,
    libc::SYS_io_uring_enter,
];

/// From `/proc/PID/syscall` (`running`, or a number first), else from the function in `/proc/PID/wchan`.
fn doing(syscall: &[u8], wchan: &[u8]) -> Doing {
    if syscall.starts_with(b"running") {
        return Doing::Occupied;
    }
    let number = syscall.fields().next().and_then(|field| field.to_str().ok()?.parse::<i64>().ok());
    match number {
        Some(number) if WAITING.contains(&number) => Doing::Waiting,
        Some(number) if number < 0 || UNCLEAR.contains(&number) => Doing::Unclear,
        Some(_) => Doing::Occupied,
        None if wchan.starts_with(b"ep_poll") || wchan.contains_str("accept") => Doing::Waiting,
        None => Doing::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_waits_is_occupied_or_unclear() {
        let call = |number: i64| format!("{number} 0x3 0x0").into_bytes();
        assert_eq!(doing(b"running\n", b"0"), Doing::Occupied);
        assert_eq!(doing(&call(libc::SYS_accept4), b""), Doing::Waiting);
        assert_eq!(doing(&call(libc::SYS_clock_nanosleep), b""), Doing::Occupied);
        assert_eq!(doing(&call(libc::SYS_pselect6), b""), Doing::Unclear);
        assert_eq!(doing(b"", b"inet_csk_accept"), Doing::Waiting);
        assert_eq!(doing(b"", b"0"), Doing::Unclear);
        assert_eq!(doing(b"-1 0x0", b""), Doing::Unclear);
    }

    #[test]
    fn nobody_is_neither_busy_nor_idle() {
        assert_eq!(all_busy(&[], None), None);
    }
}
