//! Who a worker is to a file system, and what permission bits and POSIX ACLs grant it.
//!
//! Not here: security modules. A walk that these rules pass and the kernel refuses is a policy's doing.

use std::io;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::event::Pid;
use crate::proc::{self, status};

/// Write permission, as connect(2) wants it on the socket itself.
pub(super) const WRITE: u16 = 2;
/// Search permission on a directory.
pub(super) const SEARCH: u16 = 1;

const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;

/// The file-system identity of a process: fsuid, fsgid and supplementary groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    capabilities: u64,
}

/// Owner, group and permission bits of a file or directory, with its access ACL where it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FilePermissions {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
    pub(super) directory: bool,
    /// `system.posix_acl_access`, as the kernel hands it out.
    pub(super) acl: Option<Vec<u8>>,
}

impl Credentials {
    /// Those of a living process.
    pub(super) fn of(pid: Pid) -> io::Result<Credentials> {
        Self::parse(&proc::read(&format!("/proc/{pid}/status"))?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/status names no fsuid"))
    }

    fn parse(status: &[u8]) -> Option<Credentials> {
        Some(Credentials {
            uid: status::numbers(status, "Uid:").nth(3)?,
            gid: status::numbers(status, "Gid:").nth(3)?,
            groups: status::numbers(status, "Groups:").collect(),
            capabilities: status::mask(status, "CapEff:"),
        })
    }

    /// Whether the bits, the ACL and the capabilities grant [`WRITE`] or [`SEARCH`], in the kernel's order.
    pub(super) fn may(&self, want: u16, file: &FilePermissions) -> bool {
        let overrides = match want {
            SEARCH if file.directory => CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH,
            _ => CAP_DAC_OVERRIDE,
        };
        if self.capabilities & overrides != 0 {
            return true;
        }
        let bits = |shift: u32| file.mode >> shift & u32::from(want) == u32::from(want);
        if self.uid == file.uid {
            return bits(6);
        }
        // With an ACL the group bits hold its mask; where they are empty, the kernel does not look at the ACL.
        let acl = file.acl.as_deref().filter(|_| file.mode & 0o070 != 0);
        if let Some(granted) = acl.and_then(|acl| self.acl_grants(want, file, acl)) {
            return granted;
        }
        if self.member_of(file.gid) { bits(3) } else { bits(0) }
    }

    fn member_of(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// The verdict of an ACL on one who is not the owner; `None` when its bytes are not an ACL's.
    fn acl_grants(&self, want: u16, file: &FilePermissions, acl: &[u8]) -> Option<bool> {
        let entries = <[AclEntry]>::ref_from_bytes(acl.strip_prefix(&ACL_VERSION)?).ok()?;
        let mask = entries.iter().find(|entry| entry.tag == ACL_MASK);
        let mask = mask.map_or(7, |entry| entry.permissions.get());
        let mut member = false;
        for entry in entries {
            let granted = entry.permissions.get() & want == want;
            match entry.tag.get() {
                ACL_USER if entry.id == self.uid => return Some(granted && mask & want == want),
                tag @ (ACL_GROUP_OBJ | ACL_GROUP) => {
                    let gid = if tag == ACL_GROUP { entry.id.get() } else { file.gid };
                    if self.member_of(gid) {
                        if granted {
                            return Some(mask & want == want);
                        }
                        member = true;
                    }
                }
                ACL_OTHER => return Some(!member && granted),
                _ => {}
            }
        }
        None
    }
}

const ACL_USER: u16 = 0x02;
const ACL_GROUP_OBJ: u16 = 0x04;
const ACL_GROUP: u16 = 0x08;
const ACL_MASK: u16 = 0x10;
const ACL_OTHER: u16 = 0x20;

/// How the attribute begins: with its version, 2.
const ACL_VERSION: [u8; 4] = 2_u32.to_le_bytes();

/// What follows in it.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct AclEntry {
    tag: U16,
    permissions: U16,
    id: U32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> Credentials {
        Credentials { uid: 33, gid: 33, groups: vec![33, 1000], capabilities: 0 }
    }

    fn file(uid: u32, gid: u32, mode: u32) -> FilePermissions {
        FilePermissions { uid, gid, mode, directory: false, acl: None }
    }

    fn acl(entries: &[(u16, u16, u32)]) -> Option<Vec<u8>> {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        Some(bytes)
    }

    #[test]
    fn status_gives_the_file_system_ids() {
        let status = b"Name:\tnginx\nUid:\t1\t2\t3\t33\nGid:\t5\t6\t7\t34\nGroups:\t33 1000 \nCapEff:\t0000000000000002\n";
        let read = Credentials::parse(status).expect("credentials");
        assert_eq!(
            (read.uid, read.gid, read.groups.as_slice(), read.capabilities),
            (33, 34, &[33, 1000][..], 2)
        );
        assert_eq!(Credentials::parse(b"Name:\tx\n"), None);
    }

    #[test]
    fn only_the_first_matching_class_counts() {
        assert!(worker().may(WRITE, &file(33, 0, 0o200)));
        assert!(!worker().may(WRITE, &file(33, 33, 0o066)), "an owner does not fall back to group or others");
        assert!(worker().may(WRITE, &file(0, 1000, 0o020)));
        assert!(!worker().may(WRITE, &file(0, 1000, 0o602)));
        assert!(worker().may(WRITE, &file(0, 0, 0o002)));
        assert!(!worker().may(WRITE, &file(0, 0, 0o660)));
    }

    #[test]
    fn capabilities_override_the_bits() {
        let root = Credentials { capabilities: CAP_DAC_OVERRIDE, ..worker() };
        assert!(root.may(WRITE, &file(0, 0, 0)));
        let reader = Credentials { capabilities: CAP_DAC_READ_SEARCH, ..worker() };
        assert!(!reader.may(WRITE, &file(0, 0, 0)));
        assert!(reader.may(SEARCH, &FilePermissions { directory: true, ..file(0, 0, 0) }));
    }

    #[test]
    fn an_acl_decides_for_named_users_within_its_mask() {
        let named = acl(&[
            (1, 7, u32::MAX),
            (ACL_USER, 7, 33),
            (4, 0, u32::MAX),
            (ACL_MASK, 7, u32::MAX),
            (0x20, 0, 0),
        ]);
        assert!(worker().may(SEARCH, &FilePermissions { acl: named.clone(), ..file(0, 0, 0o770) }));
        let masked = acl(&[
            (1, 7, u32::MAX),
            (ACL_USER, 7, 33),
            (4, 0, u32::MAX),
            (ACL_MASK, 4, u32::MAX),
            (0x20, 7, 0),
        ]);
        assert!(!worker().may(SEARCH, &FilePermissions { acl: masked, ..file(0, 0, 0o747) }));
        let other = Credentials { uid: 9, gid: 9, groups: vec![], capabilities: 0 };
        assert!(!other.may(SEARCH, &FilePermissions { acl: named, ..file(0, 0, 0o770) }));
        let broken = Some(vec![2, 0, 0, 0, 1]);
        assert!(
            worker().may(WRITE, &FilePermissions { acl: broken, ..file(0, 1000, 0o020) }),
            "falls back to the bits"
        );
    }
}
