//! The walk of a path as a worker's connect(2) takes it: in the worker's root, component by component.
//!
//! Every component is opened with `O_PATH`, which needs no permission on it and runs nobody's code, and symbolic
//! links are followed here, so that an absolute target stays within the worker's root.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use bstr::{BString, ByteSlice as _};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, minor};

use super::access::{Credentials, FilePermissions, SEARCH, WRITE};
use crate::event::{PathKind, PathWalk, Pid, RefusedAt};

/// As many symbolic links as the kernel follows.
const MAX_LINKS: u32 = 40;
/// No more of an account file is read.
const ACCOUNTS_BYTES: u64 = 1024 * 1024;

/// Where a walk ended.
#[derive(Debug)]
pub(super) struct Walked {
    /// What is there.
    pub(super) kind: PathKind,
    /// The path without symbolic links, as far as it exists.
    pub(super) resolved: BString,
    /// The first component that does not exist.
    pub(super) missing: Option<BString>,
    /// The first component that refuses, with whether it is about search (true) or write permission.
    pub(super) refused: Option<(BString, FilePermissions, bool)>,
    /// The file at the end, opened with `O_PATH`.
    file: Option<(OwnedFd, FileStat)>,
}

impl Walked {
    /// Device and inode as stat(2) numbers them.
    pub(super) fn identity(&self) -> Option<(u64, u64)> {
        self.file.as_ref().map(|(_, stat)| (stat.st_dev, stat.st_ino))
    }

    /// Device and inode as sock_diag numbers them.
    pub(super) fn diag_identity(&self) -> Option<(u32, u32)> {
        let (device, inode) = self.identity()?;
        // The kernel's own dev_t: 12 bits of major, 20 bits of minor; sock_diag cuts inodes at 32 bits.
        Some(((major(device) << 20 | minor(device)) as u32, inode as u32))
    }
}

/// A walk in progress.
struct Walk<'a> {
    as_whom: Option<&'a Credentials>,
    /// The directories from the root (or the working directory) down to where the walk is.
    stack: Vec<(OwnedFd, BString)>,
    pending: VecDeque<BString>,
    links: u32,
    walked: Walked,
}

/// Walks `path` in the root, or from the working directory, of process `pid`; permissions are checked `as_whom`. An error
/// when the process is gone, or a relative path climbs above its working directory.
pub(super) fn walk(pid: Pid, path: &[u8], as_whom: Option<&Credentials>) -> io::Result<Walked> {
    let absolute = path.first() == Some(&b'/');
    let (directory, label) = match absolute {
        true => (start(pid, "root")?, BString::default()),
        false => {
            let label = std::fs::read_link(format!("/proc/{pid}/cwd"))?;
            (start(pid, "cwd")?, label.as_os_str().as_bytes().into())
        }
    };
    let mut walk = Walk {
        as_whom,
        stack: vec![(directory, label)],
        pending: path.split_str("/").map(BString::from).collect(),
        links: 0,
        walked: Walked {
            kind: PathKind::Unknown,
            resolved: path.into(),
            missing: None,
            refused: None,
            file: None,
        },
    };
    walk.run(pid, absolute)?;
    Ok(walk.walked)
}

/// A process's root or working directory, as these links of /proc are called.
fn start(pid: Pid, link: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(format!("/proc/{pid}/{link}").as_str(), flags, Mode::empty())
}

impl Walk<'_> {
    fn run(&mut self, pid: Pid, from_root: bool) -> io::Result<()> {
        while let Some(name) = self.pending.pop_front() {
            if name.is_empty() || name == "." {
                continue;
            }
            let (directory, _) = self.stack.last().ok_or(Errno::ENOENT)?;
            let permissions = permissions(directory, &fstat(directory)?);
            self.check(self.place(None), permissions, SEARCH);
            let (directory, _) = self.stack.last().ok_or(Errno::ENOENT)?;
            if name == ".." {
                if self.stack.len() > 1 {
                    self.stack.pop();
                } else if !from_root {
                    return Err(io::Error::new(io::ErrorKind::Unsupported, "the path climbs above the cwd"));
                }
                continue;
            }
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = match openat(directory, name.as_slice(), flags, Mode::empty()) {
                Ok(file) => file,
                Err(error) => {
                    self.stop(&name, error);
                    return Ok(());
                }
            };
            if self.enter(pid, name, file)? {
                return Ok(());
            }
        }
        self.walked.kind = PathKind::Other;
        self.walked.resolved = self.place(None);
        Ok(())
    }

    /// Takes one existing component; true when the walk ends with it.
    fn enter(&mut self, pid: Pid, name: BString, file: OwnedFd) -> io::Result<bool> {
        let stat = fstat(&file)?;
        let kind = kind(&stat);
        if kind == SFlag::S_IFLNK {
            self.links += 1;
            if self.links > MAX_LINKS {
                return Ok(true);
            }
            let target = readlinkat(&file, "")?;
            if target.as_bytes().first() == Some(&b'/') {
                self.stack = vec![(start(pid, "root")?, BString::default())];
            }
            for component in target.as_bytes().rsplit_str("/") {
                self.pending.push_front(component.into());
            }
            return Ok(false);
        }
        if kind == SFlag::S_IFDIR {
            self.stack.push((file, name));
            return Ok(false);
        }
        let place = self.place(Some(&name));
        self.walked.kind = PathKind::Other;
        if self.pending.is_empty() {
            if kind == SFlag::S_IFSOCK {
                self.walked.kind = PathKind::Socket;
            }
            self.check(place.clone(), permissions(&file, &stat), WRITE);
            self.walked.file = Some((file, stat));
        }
        self.walked.resolved = place;
        Ok(true)
    }

    /// The walk cannot go on: nothing there, or nothing that can be looked at.
    fn stop(&mut self, name: &BString, error: Errno) {
        let place = self.place(Some(name));
        let rest = self.pending.iter().filter(|component| !component.is_empty());
        self.walked.resolved = bstr::join("/", [&place].into_iter().chain(rest)).into();
        if error == Errno::ENOENT {
            self.walked.kind = PathKind::Missing;
            self.walked.missing = Some(place);
        }
    }

    fn check(&mut self, place: BString, permissions: FilePermissions, want: u16) {
        let refuses = self.as_whom.is_some_and(|whom| !whom.may(want, &permissions));
        if refuses && self.walked.refused.is_none() {
            self.walked.refused = Some((place, permissions, want == SEARCH));
        }
    }

    /// The absolute path of the current directory, or of `name` in it.
    fn place(&self, name: Option<&BString>) -> BString {
        let labels = self.stack.iter().map(|(_, label)| label).chain(name);
        let path = bstr::join("/", labels);
        if path.is_empty() { "/".into() } else { path.into() }
    }
}

/// What kind of file it is.
fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn permissions(file: &OwnedFd, stat: &FileStat) -> FilePermissions {
    let mut acl = vec![0; 4096];
    // An O_PATH descriptor has no attributes of its own, but its link in /proc leads to the file's.
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let acl = rustix::fs::getxattr(link.as_str(), "system.posix_acl_access", acl.as_mut_slice())
        .ok()
        .and_then(|length| acl.get(..length).map(<[u8]>::to_vec));
    let directory = kind(stat) == SFlag::S_IFDIR;
    FilePermissions { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777, directory, acl }
}

/// The record of a walk for a worker: who it is, what refuses or is missing; an error when it is gone.
pub(super) fn walk_as_worker(worker: Pid, path: &[u8]) -> io::Result<PathWalk> {
    let credentials = Credentials::of(worker)?;
    let walked = walk(worker, path, Some(&credentials))?;
    let Credentials { uid, gid, groups, .. } = credentials;
    let refused = walked.refused.map(|(path, permissions, search)| RefusedAt {
        path,
        uid: permissions.uid,
        gid: permissions.gid,
        owner: account(worker, "/etc/passwd", permissions.uid),
        group: account(worker, "/etc/group", permissions.gid),
        mode: permissions.mode,
        search,
    });
    Ok(PathWalk {
        worker,
        path: path.into(),
        uid,
        gid,
        groups,
        user: account(worker, "/etc/passwd", uid),
        refused,
        missing: walked.missing,
    })
}

/// The name of an id in an account file of the worker's own root.
fn account(worker: Pid, file: &str, id: u32) -> Option<String> {
    let walked = walk(worker, file.as_bytes(), None).ok()?;
    let (file, stat) = walked.file?;
    // Only a regular file: the worker's container may have put a FIFO there, which would block us.
    (kind(&stat) == SFlag::S_IFREG).then_some(())?;
    let mut text = Vec::new();
    let opened = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    opened.take(ACCOUNTS_BYTES).read_to_end(&mut text).ok()?;
    account_name(&text, id)
}

/// The first field of the line `name:password:ID:…`.
fn account_name(text: &[u8], id: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split_str(":");
        let name = fields.next()?.to_str().ok()?;
        let number: u32 = fields.nth(1)?.to_str().ok()?.parse().ok()?;
        (number == id && !name.is_empty()).then(|| name.to_owned())
    })
}
/// Whether two processes have one mount namespace and one root.
pub(super) fn sees_the_same_files(one: Pid, other: Pid) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let of = |pid: Pid| {
        let identity = |name: &str| {
            let metadata = std::fs::metadata(format!("/proc/{pid}/{name}")).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        Some((identity("ns/mnt")?, identity("root")?))
    };
    of(one).zip(of(other)).is_some_and(|(one, other)| one == other)
}
