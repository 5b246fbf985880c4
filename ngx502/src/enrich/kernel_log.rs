//! The kernel's own log, as far as it says where a process faulted: `php-fpm[812]: segfault at 8 ip 00007f… sp 00007f… error 4 in
//! opcache.so[5219,7f…+8000]`. It writes that line before it sends the signal.
//!
//! Names in it are the stranger's, so that only the places of numbers tell where they end; only lines of the kernel itself are
//! taken, which nobody else can write.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::str;

use bstr::{BString, ByteSlice as _};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::event::{FaultPlace, Pid, ProcessRef};
use crate::proc;

/// Records that one look reads at most; the others are left for the next.
const RECORDS: usize = 1_024;
/// Larger than any record (`PRINTKRB_RECORD_MAX`).
const RECORD_BYTES: usize = 8 * 1024;
/// Faults that are remembered: a signal's record comes milliseconds after its line.
const FAULTS: usize = 64;
/// Bytes of a process's name.
const COMM: usize = 15;

/// The log from when it was opened.
#[derive(Debug, Default)]
pub(super) struct KernelLog {
    file: Option<File>,
    faults: Vec<Fault>,
}

/// A line about a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    /// The thread.
    tid: u32,
    comm: BString,
    /// Base name of the file that is mapped there, and the place in it where the line says that.
    module: BString,
    offset: Option<u64>,
}

impl KernelLog {
    /// From its end on; empty where it may not be read.
    pub(super) fn open() -> Self {
        let flags = OFlag::O_NONBLOCK.bits();
        let opened = File::options().read(true).custom_flags(flags).open("/dev/kmsg").and_then(|mut file| {
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        });
        let file = opened.inspect_err(|error| log::debug!("the kernel's log cannot be read: {error}")).ok();
        Self { file, faults: Vec::new() }
    }

    /// Where a process that got the signal of a fault just now had faulted.
    pub(super) fn place_of(&mut self, process: &ProcessRef) -> Option<FaultPlace> {
        self.read();
        let is_its = |fault: &Fault| match fault.tid == process.pid.0 {
            true => process.comm == fault.comm,
            false => group_of(fault.tid) == Some(process.pid),
        };
        let at = self.faults.iter().rposition(is_its)?;
        let Fault { module, offset, .. } = self.faults.remove(at);
        Some(FaultPlace { process: process.clone(), module, offset })
    }

    fn read(&mut self) {
        let Some(file) = &mut self.file else { return };
        let mut buffer = [0; RECORD_BYTES];
        for _ in 0..RECORDS {
            match file.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    if let Some(fault) = buffer.get(..length).and_then(fault) {
                        if self.faults.len() == FAULTS {
                            self.faults.remove(0);
                        }
                        self.faults.push(fault);
                    }
                }
                // Overwritten before it was read.
                Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        log::debug!("the kernel's log cannot be read: {error}");
                    }
                    return;
                }
            }
        }
    }
}

/// The process of a thread that still lives.
fn group_of(tid: u32) -> Option<Pid> {
    let status = proc::read(&format!("/proc/{tid}/status")).ok()?;
    proc::status::numbers(&status, "Tgid:").next().map(Pid)
}

/// `6,1234,5678,-;php-fpm[812]: segfault at …`, if it is about a fault.
fn fault(record: &[u8]) -> Option<Fault> {
    let (prefix, text) = record.split_once_str(b";")?;
    // Facility 0 is the kernel's, and the level stands in the last three bits.
    let priority: u32 = number(prefix.split_str(b",").next()?, 10)?.try_into().ok()?;
    if priority >> 3 != 0 {
        return None;
    }
    let text = text.lines().next()?;
    let text = text.strip_prefix(b"traps: ").unwrap_or(text);
    // The name ends before the last bracket that can end it: it may hold some itself.
    let open = text.get(..=COMM.min(text.len().checked_sub(1)?))?.rfind_byte(b'[')?;
    let (tid, rest) = text.get(open + 1..)?.split_once_str(b"]")?;
    let is_fault = rest.starts_with(b": segfault at ")
        || rest.starts_with(b" trap ")
        || rest.starts_with(b" general protection fault ");
    let rest = rest.get(rest.find(b" sp")?..).filter(|_| is_fault)?;
    let place = rest.get(rest.find(b" in ")? + 4..)?;
    let place = place.rsplit_once_str(b" likely on CPU ").map_or(place, |(place, _)| place);
    let (module, numbers) = place.trim_end().strip_suffix(b"]")?.rsplit_once_str(b"[")?;
    let (at, _) = numbers.split_once_str(b"+")?;
    // Before 6.4 the mapping's address only: how far into the file it begins is not said.
    let offset = at.split_once_str(b",").and_then(|(offset, _)| number(offset, 16));
    let tid = number(tid, 10)?.try_into().ok()?;
    Some(Fault { tid, comm: text.get(..open)?.into(), module: module.into(), offset })
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(digits).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Option<(u32, String, Option<u64>)> {
        let found = fault(format!("6,1,2,-;{text}\n SUBSYSTEM=x\n").as_bytes())?;
        Some((found.tid, found.module.to_string(), found.offset))
    }

    #[test]
    fn each_kernels_line_is_read() {
        let new = "php-fpm8.2[13594]: segfault at 10 ip 00007f050e18c0a3 sp 00007ffd114a5848 error 6 in \
                   libc.so.6[16e0a3,7f050e044000+156000] likely on CPU 1 (core 1, socket 0)";
        assert_eq!(place(new), Some((13594, "libc.so.6".to_owned(), Some(0x16_e0a3))));
        let old =
            "app[7]: segfault at 0 ip 000055d0a1b2c3d4 sp 00007ffd114a5848 error 4 in app[55d0a1b2c000+1000]";
        assert_eq!(place(old), Some((7, "app".to_owned(), None)));
        let trap = "traps: app[7] trap divide error ip:55d0a1b2c3d4 sp:7ffd114a5848 error:0 in app[3d4,55d0a1b2c000+1000]";
        assert_eq!(place(trap), Some((7, "app".to_owned(), Some(0x3d4))));
        let protection = "traps: app[7] general protection fault ip:55d0a1b2c3d4 sp:7ffd114a5848 error:0 in a b[1,55d0a1b2c000+1]";
        assert_eq!(place(protection), Some((7, "a b".to_owned(), Some(1))));
    }

    #[test]
    fn names_cannot_forge_a_line() {
        // A process called `x[1]: segfault`, and a file called `y[1,2+3] likely on CPU 0`.
        let named = "x[1]: segfault[99]: segfault at 0 ip 0 sp 0 error 4 in z[5,1000+1000]";
        assert_eq!(place(named), Some((99, "z".to_owned(), Some(5))));
        let file = "x[99]: segfault at 0 ip 0 sp 0 error 4 in y[1,2+3] likely on CPU 0[5,1000+1000]";
        assert_eq!(
            place(file).map(|(tid, _, offset)| (tid, offset)),
            Some((99, Some(1))),
            "cut, and its own"
        );
        assert_eq!(
            fault(b"14,1,2,-;x[1]: segfault at 0 ip 0 sp 0 error 4 in z[5,1+1]\n"),
            None,
            "a user's line"
        );
        for text in [
            "",
            "[",
            "x[",
            "x[1]",
            "x[1]: segfault at",
            "x[y]: segfault at 0 ip 0 sp 0 in z[1,2+3]",
            "usb 1-1: new",
        ] {
            assert_eq!(place(text), None, "{text}");
        }
    }
}
