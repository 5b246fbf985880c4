//! Records on the ring buffer: a [`Header`] each, then the struct of its kind.
//!
//! Every struct ends where its last variable string ends: `Attempt` and `Request` are sent only up to the request
//! line's last byte. A length of 0 means that the string could not be read. Times are CLOCK_BOOTTIME nanoseconds, 0
//! for "not seen". Addresses of IPv4 are in the first four bytes.

mod life;
mod upstream;

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use self::life::{Exec, Exit, Fork, Oom, Signal};
pub use self::upstream::*;

/// [`Attempt`] follows.
pub const KIND_ATTEMPT: u16 = 1;
/// [`Request`] follows.
pub const KIND_REQUEST: u16 = 2;
/// [`Answered`] or [`Answer`] follows.
pub const KIND_ANSWER: u16 = 3;
/// [`Listen`] follows.
pub const KIND_LISTEN: u16 = 4;
/// [`Fork`] follows.
pub const KIND_FORK: u16 = 5;
/// [`Exit`] follows.
pub const KIND_EXIT: u16 = 6;
/// [`Signal`] follows.
pub const KIND_SIGNAL: u16 = 7;
/// [`Oom`] follows.
pub const KIND_OOM: u16 = 8;
/// [`Exec`] follows.
pub const KIND_EXEC: u16 = 9;
/// [`ListenUnix`] follows.
pub const KIND_LISTEN_UNIX: u16 = 10;

/// First bytes of every record.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct Header {
    /// CLOCK_BOOTTIME nanoseconds.
    pub at: u64,
    /// Thread-group id in whose context it was made, as the initial pid namespace numbers it.
    pub pid: u32,
    /// One of the `KIND_` constants.
    pub kind: u16,
    /// Padding, 0.
    pub reserved: u16,
}

/// Identity of a process.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct Process {
    /// `group_leader->start_boottime`.
    pub start: u64,
    /// Thread-group id.
    pub pid: u32,
    /// Padding, 0.
    pub reserved: u32,
    /// The leader's name, NUL-padded.
    pub comm: [u8; 16],
}

/// A socket began or ceased to listen; sent alone for TCP, else as the beginning of [`ListenUnix`].
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct Listen {
    /// Common part.
    pub header: Header,
    /// `struct sock *`.
    pub id: u64,
    /// In whose context.
    pub process: Process,
    /// Network namespace.
    pub netns: u32,
    /// Backlog.
    pub backlog: u32,
    /// Bound address.
    pub local: [u8; 16],
    /// Bound port, host byte order.
    pub port: u16,
    /// AF_UNIX 1, AF_INET 2, AF_INET6 10.
    pub family: u16,
    /// 1: opened; 0: closed.
    pub open: u8,
    /// 1: the task was exiting.
    pub exiting: u8,
    /// Padding, 0.
    pub reserved: u16,
    /// `task->exit_code`.
    pub exit_code: i32,
    /// Its mount namespace; 0 when unknown.
    pub mounts: u32,
}

/// The same of an AF_UNIX stream socket, with the path that it is bound to.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct ListenUnix {
    /// Which socket, in whose context; without an address.
    pub listen: Listen,
    /// `sun_path`; begins with NUL when abstract.
    pub path: [u8; 112],
    /// Length of `path`.
    pub path_len: u16,
    /// Padding, 0.
    pub reserved: [u8; 6],
}

const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<Process>() == 32);
    assert!(size_of::<Listen>() == 16 + 8 + 32 + 8 + 16 + 8 + 8);
    assert!(size_of::<ListenUnix>() == size_of::<Listen>() + 112 + 8);
};
