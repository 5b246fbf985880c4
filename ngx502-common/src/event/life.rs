//! Lives and deaths of processes.

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Header, Process};

/// A process forked.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct Fork {
    /// Common part.
    pub header: Header,
    /// Parent.
    pub parent: Process,
    /// Child.
    pub child: Process,
}

/// A process replaced its program.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct Exec {
    /// Common part.
    pub header: Header,
    /// Which.
    pub process: Process,
}

/// The last thread of a process ended.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct Exit {
    /// Common part.
    pub header: Header,
    /// Which.
    pub process: Process,
    /// Cgroup v2 id.
    pub cgroup: u64,
    /// Parent.
    pub parent: u32,
    /// Exit code as wait(2) gives it.
    pub code: i32,
    /// 1: an OOM victim.
    pub oom_victim: u32,
    /// Padding, 0.
    pub reserved: u32,
}

/// A signal that may kill.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct Signal {
    /// Common part.
    pub header: Header,
    /// To whom.
    pub target: Process,
    /// In whose context.
    pub sender: Process,
    /// Cgroup v2 id of the sender.
    pub sender_cgroup: u64,
    /// `si_addr` for faults.
    pub fault_address: u64,
    /// Number.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// 1: sent by a process.
    pub from_user: u32,
    /// 1: `fault_address` is one.
    pub has_fault_address: u32,
}

/// The OOM killer's choice.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct Oom {
    /// Common part.
    pub header: Header,
    /// Who must die.
    pub victim: Process,
    /// In whose context.
    pub trigger: Process,
    /// Limit of the limiting cgroup in pages; `u64::MAX` when unknown.
    pub limit_pages: u64,
    /// Resident pages of the victim; `u64::MAX` when unknown.
    pub rss_pages: u64,
    /// 0 unknown, 1 memory cgroup, 2 system-wide.
    pub scope: u32,
    /// Length of `cgroup`.
    pub cgroup_len: u16,
    /// Length of `victim_cgroup`.
    pub victim_cgroup_len: u16,
    /// Name of the limiting cgroup's last path component.
    pub cgroup: [u8; 96],
    /// Name of the victim's cgroup's last path component.
    pub victim_cgroup: [u8; 96],
}

const _: () = {
    assert!(size_of::<Exit>() == 16 + 32 + 8 + 16);
    assert!(size_of::<Signal>() == 16 + 64 + 16 + 16);
    assert!(size_of::<Oom>() == 16 + 64 + 16 + 8 + 192);
};
