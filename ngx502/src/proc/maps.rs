//! The memory map of a process, from `/proc/PID/maps`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::ops::Range;

use bstr::ByteSlice as _;

use crate::event::Pid;

/// How much of a map is read: some 100,000 mappings. The executable's own come first or nearly so.
const MAP_BYTES: u64 = 8 * 1024 * 1024;

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Where in memory.
    pub(crate) address: Range<u64>,
    /// Whether it is code.
    pub(crate) executable: bool,
    /// Where its beginning is in the file.
    pub(crate) offset: u64,
    /// Major and minor number of the file's device, which on overlayfs and btrfs is not what stat(2) says.
    pub(crate) device: (u64, u64),
    /// The file's inode; 0 for memory without a file.
    pub(crate) inode: u64,
    /// The file's path in the process's root, or a name such as `[heap]`; empty for anonymous memory.
    pub(crate) path: Vec<u8>,
}

/// The mappings of a process by ascending address; none when it is gone or may not be read.
pub(crate) fn of(pid: Pid) -> impl Iterator<Item = Mapping> {
    let file = File::open(format!("/proc/{pid}/maps")).ok();
    let lines = file.into_iter().flat_map(|file| BufReader::new(file.take(MAP_BYTES)).split(b'\n'));
    lines.map_while(Result::ok).filter_map(|line| parse(&line))
}

/// `55d0c0a00000-55d0c0a2c000 r-xp 00002000 08:01 1311 /usr/sbin/nginx`, the path after a run of blanks.
fn parse(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut field = || fields.next();
    let (from, to) = field()?.split_once_str("-")?;
    let executable = field()?.get(2) == Some(&b'x');
    let offset = hexadecimal(field()?)?;
    let (major, minor) = field()?.split_once_str(":")?;
    let inode = field()?.to_str().ok()?.parse().ok()?;
    Some(Mapping {
        address: hexadecimal(from)?..hexadecimal(to)?,
        executable,
        offset,
        device: (hexadecimal(major)?, hexadecimal(minor)?),
        inode,
        path: field().unwrap_or_default().trim_start().to_vec(),
    })
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(digits.to_str().ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_mapping() {
        let line = b"55d0c0a00000-55d0c0a2c000 r-xp 00002000 fd:0a 1311                       /opt/my nginx (deleted)";
        let expected = Mapping {
            address: 0x55d0_c0a0_0000..0x55d0_c0a2_c000,
            executable: true,
            offset: 0x2000,
            device: (0xfd, 0x0a),
            inode: 1311,
            path: b"/opt/my nginx (deleted)".to_vec(),
        };
        assert_eq!(parse(line), Some(expected));
        let anonymous = parse(b"7ffd0000-7ffe0000 rw-p 00000000 00:00 0 ").expect("a mapping");
        assert!(!anonymous.executable && anonymous.path.is_empty());
        for hostile in [&b""[..], b"-", b"1-2", b"1-2 r-xp 0 1:2", b"x-y r-xp 0 1:2 3 /z", b"1-2 r 0 12 3"] {
            assert_eq!(parse(hostile), None);
        }
    }

    #[test]
    fn this_process_runs_code() {
        assert!(of(Pid(std::process::id())).any(|mapping| mapping.executable && mapping.inode != 0));
        assert_eq!(of(Pid(u32::MAX)).count(), 0);
    }
}
