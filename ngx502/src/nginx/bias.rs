//! Where a process has its executable in memory.

use std::path::Path;

use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};

use super::binary::{Binary, BinaryId};
use crate::event::Pid;

/// How far a process's copy of `binary` lies from the addresses in the file: 0 for a fixed-address executable.
///
/// The mapping is found by device and inode. On overlayfs and btrfs `/proc/PID/maps` shows another device than `stat`,
/// so the path of the process's own executable is accepted too if that is this very file.
/// `None` when the process is gone, may not be read, or does not run it.
pub fn load_bias(pid: Pid, binary: &Binary) -> Option<u64> {
    let process = Process::new(i32::try_from(pid.0).ok()?).ok()?;
    let maps = process.maps().ok()?;
    let by_id = maps.iter().filter(|map| is_mapping_of(map, binary.id)).find_map(|map| bias_of(map, binary));
    if by_id.is_some() {
        return by_id;
    }
    let exe = Path::new("/proc").join(pid.to_string()).join("exe");
    if BinaryId::from(&exe.metadata().ok()?) != binary.id {
        return None;
    }
    let link = exe.read_link().ok()?;
    maps.iter()
        .filter(|map| matches!(&map.pathname, MMapPath::Path(path) if *path == link))
        .find_map(|map| bias_of(map, binary))
}

fn is_mapping_of(map: &MemoryMap, id: BinaryId) -> bool {
    let (major, minor) = map.dev;
    let dev = (u64::try_from(major), u64::try_from(minor));
    map.inode == id.inode && dev == (Ok(nix::sys::stat::major(id.dev)), Ok(nix::sys::stat::minor(id.dev)))
}

/// The difference that one mapping of the file shows; only code is mapped by one segment for certain.
fn bias_of(map: &MemoryMap, binary: &Binary) -> Option<u64> {
    if !map.perms.contains(MMPermissions::EXECUTE) {
        return None;
    }
    let (start, end) = map.address;
    let vaddr = binary.code_address(map.offset, end.checked_sub(start)?)?;
    Some(start.wrapping_sub(vaddr))
}
