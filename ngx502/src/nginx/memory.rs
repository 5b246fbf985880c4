//! The memory of a running nginx, for what a probe cannot read: it must not wait for a page that is not there yet.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use bstr::BString;

use crate::event::Pid;

/// The longest string that is read, a peer's name.
const MAX_STRING: u64 = ngx502_common::event::PEER_MAX as u64;

/// A process's memory.
pub(super) struct Memory(File);

impl Memory {
    /// Opens it; `None` when the process is gone or may not be read.
    pub(super) fn of(pid: Pid) -> Option<Self> {
        File::open(format!("/proc/{pid}/mem")).ok().map(Self)
    }

    /// The word at an address.
    pub(super) fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, address).ok()?;
        Some(u64::from_ne_bytes(bytes))
    }
}

/// What the `ngx_str_t` at an address says, cut to the length of a peer's name; `None` when it cannot be read or is empty.
pub(super) fn string_at(pid: Pid, address: u64) -> Option<BString> {
    let memory = Memory::of(pid)?;
    let len = memory.word(address)?.min(MAX_STRING);
    let data = memory.word(address.checked_add(8)?)?;
    let mut text = vec![0; usize::try_from(len).ok()?];
    memory.0.read_exact_at(&mut text, data).ok()?;
    (!text.is_empty()).then(|| text.into())
}
