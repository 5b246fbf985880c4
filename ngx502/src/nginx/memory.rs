//! The memory of a running nginx: where its executable lies there, and what a probe cannot read, since it must not wait
//! for a page that is not there yet.

use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;

use bstr::BString;
use nix::sys::stat::{major, minor};

use super::{Binary, BinaryId, discover};
use crate::event::Pid;
use crate::proc::maps::{self, Mapping};

/// The longest string that is read, a peer's name.
const MAX_STRING: u64 = ngx502_common::event::PEER_MAX as u64;
/// `cycle->log`, after `conf_ctx` and `pool`: the same in every release and fork (`src/core/ngx_cycle.h`).
const CYCLE_LOG: u64 = 16;
/// NGX_LOG_ERR, the least severe level at which nginx logs why an upstream failed.
const ERROR: u64 = 4;
/// NGX_LOG_DEBUG, the last of the levels.
const DEBUG: u64 = 8;
/// NGX_LOG_DEBUG_CORE and more: masks of what is debugged, instead of a level.
const DEBUG_MASKS: RangeInclusive<u64> = 0x10..=0xffff_ffff;

/// How far a process's copy of `binary` lies from the addresses in the file: 0 for a fixed-address executable.
///
/// The mapping is found by device and inode. On overlayfs and btrfs `/proc/PID/maps` shows another device than `stat`,
/// so the path of the process's own executable is accepted too if that is `own`, the number that this very file has there.
/// `None` when the process is gone, may not be read, or does not run it.
pub fn load_bias(pid: Pid, binary: &Binary, own: BinaryId) -> Option<u64> {
    // Only code is mapped by one segment for certain.
    let bias = |map: &Mapping| {
        let code = binary.code_address(map.offset, map.address.end.checked_sub(map.address.start)?)?;
        Some(map.address.start.wrapping_sub(code))
    };
    let code = || maps::of(pid).filter(|map| map.executable);
    let BinaryId { dev, inode } = binary.id;
    let of_file = |map: &Mapping| map.inode == inode && map.device == (major(dev), minor(dev));
    if let Some(bias) = code().filter(of_file).find_map(|map| bias(&map)) {
        return Some(bias);
    }
    let exe = discover::exe(pid);
    if BinaryId::from(&exe.metadata().ok()?) != own {
        return None;
    }
    let link = exe.read_link().ok()?;
    code().filter(|map| map.path == link.as_os_str().as_bytes()).find_map(|map| bias(&map))
}

/// Whether a log of this level leaves out why an upstream failed.
pub fn hides_failures(level: u64) -> bool {
    (1..ERROR).contains(&level)
}

/// Whether a log of this level may take more than a message a request: `debug`, where nginx was built for it.
pub fn is_debug(level: u64) -> bool {
    level >= DEBUG
}

/// The memory of one process, for as long as it runs the program that it ran when this was opened: after an exec, and when
/// its number is another process's, there is nothing to read any more.
pub struct Memory(File);

impl Memory {
    /// Opens it, if the process runs this very file.
    pub fn of(pid: Pid, exe: BinaryId) -> Option<Self> {
        let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
        // Asked afterwards: what was opened before it is of this program, or of an earlier one and empty.
        let runs = std::fs::metadata(discover::exe(pid)).ok()?;
        (BinaryId::from(&runs) == exe).then_some(Self(memory))
    }

    /// The level of the main `error_log`, 1 (emerg) to 8 (debug) or a debug mask beyond; locations may have others. `None`
    /// when it cannot be read, or is not a level.
    pub fn log_level(&self, binary: &Binary, bias: u64) -> Option<u64> {
        let cycle = self.word(binary.cycle?.wrapping_add(bias))?;
        let log = self.word(cycle.checked_add(CYCLE_LOG)?)?;
        self.word(log).filter(|level| (1..=DEBUG).contains(level) || DEBUG_MASKS.contains(level))
    }

    /// What the `ngx_str_t` at an address says, cut to the length of a peer's name; `None` when it cannot be read or is
    /// empty.
    pub(super) fn string_at(&self, address: u64) -> Option<BString> {
        let len = self.word(address)?.min(MAX_STRING);
        let data = self.word(address.checked_add(8)?)?;
        let mut text = vec![0; usize::try_from(len).ok()?];
        self.0.read_exact_at(&mut text, data).ok()?;
        (!text.is_empty()).then(|| text.into())
    }

    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, address).ok()?;
        Some(u64::from_ne_bytes(bytes))
    }
}
