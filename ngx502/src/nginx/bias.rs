//! Where a process has its executable in memory.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::binary::{Binary, BinaryId};
use crate::{
    event::Pid,
    proc::maps::{self, Mapping},
};

/// How far a process's copy of `binary` lies from the addresses in the file: 0 for a fixed-address executable.
///
/// The mapping is found by device and inode. On overlayfs and btrfs `/proc/PID/maps` shows another device than `stat`,
/// so the path of the process's own executable is accepted too if that is this very file.
/// `None` when the process is gone, may not be read, or does not run it.
pub fn load_bias(pid: Pid, binary: &Binary) -> Option<u64> {
    let is_of_file = |map: &Mapping| map.inode == binary.id.inode && map.device == device(binary.id);
    let by_id = maps::of(pid).filter(is_of_file).find_map(|map| bias_of(&map, binary));
    if by_id.is_some() {
        return by_id;
    }
    let exe = Path::new("/proc").join(pid.to_string()).join("exe");
    if BinaryId::from(&exe.metadata().ok()?) != binary.id {
        return None;
    }
    let link = exe.read_link().ok()?;
    let is_of_path = |map: &Mapping| map.path == link.as_os_str().as_bytes();
    maps::of(pid).filter(is_of_path).find_map(|map| bias_of(&map, binary))
}

fn device(id: BinaryId) -> (u64, u64) {
    (nix::sys::stat::major(id.dev), nix::sys::stat::minor(id.dev))
}

/// The difference that one mapping of the file shows; only code is mapped by one segment for certain.
fn bias_of(map: &Mapping, binary: &Binary) -> Option<u64> {
    let length = map.address.end.checked_sub(map.address.start)?;
    let vaddr = map.executable.then(|| binary.code_address(map.offset, length))??;
    Some(map.address.start.wrapping_sub(vaddr))
}
