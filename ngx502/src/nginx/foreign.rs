//! Files of strangers: executables and debug files are opened without waiting for anything, and read to an end that is known
//! before.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::{
    CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, FUSE_SUPER_MAGIC, FsType, PROC_SUPER_MAGIC, SYSFS_MAGIC,
    TRACEFS_MAGIC, fstatfs,
};

use super::binary::BinaryError;

/// No executable or debug file larger than this is read: the largest known, with debug information, have some 100 MB.
const MAX_FILE: u64 = 256 << 20;

/// File systems whose regular files may make a reader wait for ever, or act upon being read.
const NOT_FILES: [FsType; 6] =
    [PROC_SUPER_MAGIC, SYSFS_MAGIC, TRACEFS_MAGIC, DEBUGFS_MAGIC, CGROUP2_SUPER_MAGIC, FUSE_SUPER_MAGIC];

/// Opens an executable. A FIFO or a device does not block, and is refused, as is a giant.
///
/// Files of FUSE are read: rootless containers have their root there.
pub(super) fn open(path: &Path) -> Result<File, BinaryError> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    regular(File::options().read(true).custom_flags(flags.bits()).open(path)?)
}

/// Opens a file that `root` holds at `path`, as its inhabitants see it: no link and no `..` leads out of it, into /proc or to
/// what is no file on a disk.
pub(super) fn open_in_root(root: &Path, path: &Path) -> Result<File, BinaryError> {
    let root = File::open(root)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file: OwnedFd = openat2(root, path, how).map_err(io::Error::from)?;
    let file = regular(file.into())?;
    let kind = fstatfs(&file).map_err(io::Error::from)?.filesystem_type();
    if NOT_FILES.contains(&kind) {
        return Err(BinaryError::NotReadable);
    }
    Ok(file)
}

fn regular(file: File) -> Result<File, BinaryError> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(BinaryError::NotReadable);
    }
    Ok(file)
}

/// The whole of a file from its beginning, as long as it says it is.
pub(super) fn read(file: &File) -> Result<Vec<u8>, BinaryError> {
    let length = usize::try_from(file.metadata()?.len().min(MAX_FILE)).map_err(io::Error::other)?;
    let (mut data, mut done) = (vec![0; length], 0);
    while done < length {
        match file.read_at(&mut data[done..], done as u64)? {
            // It was cut meanwhile.
            0 => break,
            more => done += more,
        }
    }
    data.truncate(done);
    Ok(data)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_leads_out_of_a_root() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("root");
        std::fs::create_dir(&root).expect("a root");
        std::fs::write(directory.path().join("outside"), "secret").expect("a file");
        std::fs::write(root.join("inside"), "debug").expect("a file");
        symlink("/inside", root.join("absolute")).expect("a link");
        symlink("../outside", root.join("up")).expect("a link");
        symlink("/proc/self/root/etc/passwd", root.join("magic")).expect("a link");
        let at = |name: &str| open_in_root(&root, Path::new(name));
        assert_eq!(read(&at("absolute").expect("the root's own")).expect("its bytes"), b"debug");
        assert!(at("up").is_err() && at("magic").is_err());
    }

    #[test]
    fn what_may_block_is_refused_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
        assert!(matches!(open(&fifo), Err(BinaryError::NotReadable)));
        assert!(matches!(open(Path::new("/dev/zero")), Err(BinaryError::NotReadable)));
        let kernel_log = open_in_root(Path::new("/"), Path::new("/proc/kmsg"));
        assert!(kernel_log.is_err(), "reading it would take the kernel's messages from their reader");
        let pseudo = open_in_root(Path::new("/"), Path::new("/proc/meminfo"));
        assert!(matches!(pseudo, Err(BinaryError::NotReadable)), "{pseudo:?}");
    }
}
