//! One thread: which system call it is blocked in, and on what.

use std::os::unix::fs::FileExt as _;

use bstr::{BString, ByteSlice as _};
use nix::libc;

use super::descriptors::{On, Tables};
use super::process::ThreadSample;
use crate::event::{Doing, Pid, ProcessRef, SocketWait};
use crate::proc;

/// Descriptors that a poll(2) may watch and still be looked at.
const POLLED: u64 = 64;

/// A system call with its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    number: i64,
    arguments: [u64; 6],
}

/// What a thread did between two samples.
pub(super) fn doing(
    pid: Pid,
    tid: u32,
    before: &ThreadSample,
    after: &ThreadSample,
    tables: &mut Tables<'_>,
) -> Doing {
    let ticks = after.ticks.saturating_sub(before.ticks);
    // A tick is 10 ms, the samples are some 150 ms apart.
    let permille = u32::try_from(ticks * 10_000 / super::APART.as_millis() as u64).unwrap_or(0).min(1_000);
    if permille >= 200 {
        return Doing::Runs(permille);
    }
    if before.state == b'R' && after.state == b'R' {
        return if ticks == 0 { Doing::Starves } else { Doing::Runs(permille) };
    }
    let Some(call) = Call::parse(&after.call) else { return Doing::Call(-1) };
    let thread = Thread { pid, tid };
    // The same call with the same arguments, and no CPU used: it was blocked there all the time.
    if before.call != after.call || ticks > 0 {
        return thread.in_its_loop(call, tables);
    }
    if before.state == b'D' && after.state == b'D' {
        return thread.uninterruptible(call);
    }
    thread.asleep(call, tables)
}

impl Call {
    /// `45 0x5 0x7ffd… 0x2000 0x0 0x0 0x0 SP PC`; `None` for `running` and for what is no call.
    fn parse(text: &[u8]) -> Option<Self> {
        let mut fields = text.to_str().ok()?.split_ascii_whitespace();
        let number = fields.next()?.parse().ok().filter(|number| *number >= 0)?;
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            *argument = u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()?;
        }
        Some(Self { number, arguments })
    }

    fn is(self, any: &[libc::c_long]) -> bool {
        any.contains(&self.number)
    }
}

/// Reads and writes of one descriptor, their first argument.
const READS: &[libc::c_long] =
    &[libc::SYS_read, libc::SYS_readv, libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg];
const WRITES: &[libc::c_long] = &[
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendfile,
];
const ACCEPTS: &[libc::c_long] = &[libc::SYS_accept, libc::SYS_accept4];
const POLLS: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
];
const SELECTS: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    libc::SYS_pselect6,
];
const EPOLLS: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
];
const SLEEPS: &[libc::c_long] = &[libc::SYS_nanosleep, libc::SYS_clock_nanosleep];
const CHILDREN: &[libc::c_long] = &[libc::SYS_wait4, libc::SYS_waitid];

/// Calls of files: name, and which argument is a path (in memory) or a descriptor.
const FILES: &[(libc::c_long, &str, File)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open", File::Path(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_stat, "stat", File::Path(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lstat, "lstat", File::Path(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_access, "access", File::Path(0)),
    (libc::SYS_openat, "openat", File::Path(1)),
    (libc::SYS_newfstatat, "newfstatat", File::Path(1)),
    (libc::SYS_statx, "statx", File::Path(1)),
    (libc::SYS_read, "read", File::Descriptor),
    (libc::SYS_pread64, "pread64", File::Descriptor),
    (libc::SYS_write, "write", File::Descriptor),
    (libc::SYS_pwrite64, "pwrite64", File::Descriptor),
    (libc::SYS_fsync, "fsync", File::Descriptor),
    (libc::SYS_fdatasync, "fdatasync", File::Descriptor),
    (libc::SYS_getdents64, "getdents64", File::Descriptor),
];

#[derive(Clone, Copy, Debug)]
enum File {
    Path(usize),
    Descriptor,
}

struct Thread {
    pid: Pid,
    tid: u32,
}

impl Thread {
    /// What a thread waits for that was somewhere else a moment ago: an event loop comes back with another time-out each time.
    fn in_its_loop(&self, call: Call, tables: &mut Tables<'_>) -> Doing {
        if !(call.is(EPOLLS) || call.is(POLLS) || call.is(SELECTS)) {
            return Doing::Call(-1);
        }
        match self.asleep(call, tables) {
            Doing::Socket(socket) => Doing::Events(vec![*socket]),
            other => other,
        }
    }

    fn asleep(&self, call: Call, tables: &mut Tables<'_>) -> Doing {
        let descriptor = call.arguments[0] as u32;
        if call.is(ACCEPTS) {
            return Doing::Idle;
        }
        if call.is(READS) || call.is(WRITES) || call.number == libc::SYS_connect {
            return self.on_descriptor(call, descriptor, tables);
        }
        if call.is(POLLS) {
            return self.among(&self.polled(call), false, tables);
        }
        if call.is(SELECTS) {
            return self.among(&self.selected(call), false, tables);
        }
        if call.is(EPOLLS) {
            return self.among(&self.watched(descriptor), true, tables);
        }
        if call.is(SLEEPS) {
            return Doing::Sleeps;
        }
        if call.is(CHILDREN) {
            return Doing::Child(children(self.pid));
        }
        if call.number == libc::SYS_futex {
            return self.futex(call);
        }
        let sets_lock = [libc::F_SETLKW as u64, 38 /* F_OFD_SETLKW */].contains(&call.arguments[1]);
        if call.number == libc::SYS_flock || call.number == libc::SYS_fcntl && sets_lock {
            return Doing::FileLock { path: self.path_of(descriptor), holder: lock_holder(self.pid) };
        }
        // FUSE and NFS with `intr` sleep interruptibly.
        if FILES.iter().any(|(number, ..)| *number == call.number) {
            return self.uninterruptible(call);
        }
        Doing::Call(call.number)
    }

    fn on_descriptor(&self, call: Call, descriptor: u32, tables: &mut Tables<'_>) -> Doing {
        let writes = call.is(WRITES);
        match tables.on(self.pid, descriptor) {
            On::Outward(socket) if writes || call.number == libc::SYS_connect || tables.owes(&socket) => {
                Doing::Socket(Box::new(SocketWait { sending: writes, ..socket }))
            }
            // A message that nobody owes, the next request of nginx's: it waits for work.
            On::Outward(_) | On::Inward => Doing::Idle,
            On::Pipe(inode) => Doing::Pipe { writes, others: tables.pipe_holders(self.pid, inode, writes) },
            On::File => self.uninterruptible(call),
            On::Other => Doing::Call(call.number),
        }
    }

    /// What it is about that several descriptors are watched: connections of its own that owe an answer.
    fn among(&self, descriptors: &[u32], events: bool, tables: &mut Tables<'_>) -> Doing {
        let mut owing = Vec::new();
        for descriptor in descriptors {
            if let On::Outward(socket) = tables.on(self.pid, *descriptor)
                && tables.owes(&socket)
            {
                owing.push(socket);
            }
        }
        match (owing.as_slice(), events, descriptors.len()) {
            ([], ..) => Doing::Idle,
            // A client library that waits for one connection only, with a time-out.
            ([_], false, 1) => Doing::Socket(Box::new(owing.remove(0))),
            _ => Doing::Events(owing),
        }
    }

    fn polled(&self, call: Call) -> Vec<u32> {
        let count = call.arguments[1].min(POLLED);
        let bytes = self.memory(call.arguments[0], count as usize * 8);
        bytes
            .chunks_exact(8)
            .filter_map(|entry| u32::try_from(i32::from_ne_bytes(entry[..4].try_into().ok()?)).ok())
            .collect()
    }

    /// Of the sets to read and to write.
    fn selected(&self, call: Call) -> Vec<u32> {
        let count = call.arguments[0].min(1_024) as u32;
        let sets = [1, 2].map(|set| match call.arguments[set] {
            0 => Vec::new(),
            at => self.memory(at, 128),
        });
        let is_set = |bit: u32| {
            sets.iter().any(|set| set.get(bit as usize / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1))
        };
        (0..count).filter(|bit| is_set(*bit)).take(POLLED as usize).collect()
    }

    /// The descriptors that an epoll watches: `tfd:        5 events: …`.
    fn watched(&self, descriptor: u32) -> Vec<u32> {
        let text = proc::read(&format!("/proc/{}/fdinfo/{descriptor}", self.pid)).unwrap_or_default();
        let number = |line: &[u8]| line.strip_prefix(b"tfd:")?.fields().next()?.to_str().ok()?.parse().ok();
        text.lines().filter_map(number).collect()
    }

    /// A mutex of the C library's that somebody waits for has 2 in its word, and its owner's thread id 8 bytes on.
    fn futex(&self, call: Call) -> Doing {
        const OPERATION: u64 = 0x7f;
        let waits = matches!(call.arguments[1] & OPERATION, 0 | 6 | 9 | 13);
        let bytes = self.memory(call.arguments[0], 12);
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let owner = word(8).filter(|owner| {
            *owner != self.tid && std::fs::metadata(format!("/proc/{}/task/{owner}", self.pid)).is_ok()
        });
        match owner.filter(|_| waits && call.arguments[2] == 2 && word(0) == Some(2)) {
            Some(owner) => Doing::Mutex(owner),
            None => Doing::Idle,
        }
    }

    fn uninterruptible(&self, call: Call) -> Doing {
        let known = FILES.iter().find(|(number, ..)| *number == call.number);
        let path = known.and_then(|(_, _, file)| match file {
            File::Path(argument) => {
                let bytes = self.memory(call.arguments[*argument], 256);
                let end = bytes.find_byte(0)?;
                (end > 0).then(|| BString::from(&bytes[..end]))
            }
            File::Descriptor => self.path_of(call.arguments[0] as u32),
        });
        Doing::Disk { call: known.map(|(_, name, _)| (*name).to_owned()), path }
    }

    fn path_of(&self, descriptor: u32) -> Option<BString> {
        use std::os::unix::ffi::OsStrExt as _;
        let link = std::fs::read_link(format!("/proc/{}/fd/{descriptor}", self.pid)).ok()?;
        Some(link.as_os_str().as_bytes().into())
    }

    /// A part of the process's memory; what cannot be read is missing.
    fn memory(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let file = std::fs::File::open(format!("/proc/{}/mem", self.pid));
        let read = file.and_then(|file| file.read_at(&mut bytes, at)).unwrap_or(0);
        bytes.truncate(read);
        bytes
    }
}

fn children(pid: Pid) -> Vec<ProcessRef> {
    let text = proc::read(&format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let pids = text.fields().filter_map(|field| field.to_str().ok()?.parse().ok());
    pids.take(8).filter_map(|pid| proc::living(Pid(pid)).ok()?).collect()
}

/// Who holds the lock that a process waits for: in /proc/locks `2: -> FLOCK ADVISORY WRITE 700 …` follows the holder's line
/// `2: FLOCK ADVISORY WRITE 699 …`.
fn lock_holder(pid: Pid) -> Option<ProcessRef> {
    let text = proc::read_at_most(1 << 20, "/proc/locks").ok()?;
    let mut held = None;
    for line in text.lines() {
        let fields: Vec<_> = line.fields().collect();
        let waits = fields.get(1).is_some_and(|arrow| *arrow == b"->");
        let number = fields.get(if waits { 5 } else { 4 })?.to_str().ok()?.parse().ok();
        match waits {
            true if number == Some(pid.0) => return proc::living(Pid(held?)).ok()?,
            true => {}
            false => held = number,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_its_number_and_its_arguments() {
        let text = b"45 0x5 0x7ffd0 0x2000 0x0 0x0 0x0 0x7ffd1 0x7f00\n";
        let call = Call::parse(text).expect("a call");
        assert_eq!((call.number, call.arguments), (45, [5, 0x7ffd0, 0x2000, 0, 0, 0]));
        for none in [&b"running\n"[..], b"-1 0x0 0x0", b"", b"45", b"45 5 6 7 8 9 10"] {
            assert_eq!(Call::parse(none), None);
        }
    }
}
