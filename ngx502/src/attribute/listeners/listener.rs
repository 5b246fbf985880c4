//! Rows of the table: a listener that lives, and one that is no more.

use crate::attribute::processes::same;
use crate::event::{Endpoint, FileNumbers, Nanos, ProcessRef};

/// A process can be so old (nanoseconds) before its descriptors show in /proc, on a busy machine.
const BIRTH: u64 = 100_000_000;

/// A listening socket.
#[derive(Clone, Debug)]
pub(in crate::attribute) struct Listener {
    pub(super) id: Option<u64>,
    pub(in crate::attribute) netns: u32,
    pub(in crate::attribute) bound: Endpoint,
    /// AF_UNIX: its file, where a look-up showed it.
    pub(super) file: Option<FileNumbers>,
    /// The mounts of who opened it, where that was seen.
    pub(super) mounts: Option<u32>,
    pub(in crate::attribute) holders: Vec<ProcessRef>,
    /// Holders that died while others held on, with when.
    pub(in crate::attribute) lost: Vec<(ProcessRef, Nanos)>,
    /// When it began to listen; `None`: before the trace.
    pub(in crate::attribute) opened_at: Option<Nanos>,
    /// When it was last seen alive: deaths before then did not end it.
    pub(super) confirmed_at: Nanos,
}

impl Listener {
    /// A look-up found it alive, held by `holders` as of `listed_at`: who is not among them has let it go, unless it came
    /// to hold it later.
    pub(super) fn confirm(&mut self, at: Nanos, mut holders: Vec<ProcessRef>, listed_at: Nanos) {
        let opened_later = self.opened_at.is_some_and(|opened| opened >= listed_at);
        for known in std::mem::take(&mut self.holders) {
            let unlisted = !holders.iter().any(|holder| same(holder, &known));
            if unlisted && (opened_later || known.start.0 + BIRTH >= listed_at.0) {
                holders.push(known);
            }
        }
        self.holders = holders;
        self.confirmed_at = at;
    }

    pub(super) fn is_held_by(&self, process: &ProcessRef) -> bool {
        self.holders.iter().any(|holder| same(holder, process))
    }

    /// What is left of it.
    pub(super) fn ended(&self, last: ProcessRef, at: Nanos, end: End) -> ClosedListener {
        let lost = self.lost.iter().map(|(holder, _)| holder.clone());
        ClosedListener {
            id: self.id,
            netns: self.netns,
            bound: self.bound.clone(),
            file: self.file,
            mounts: self.mounts,
            last,
            at,
            end,
            holders: self.holders.iter().cloned().chain(lost).collect(),
            rest: Vec::new(),
            lost_one: false,
        }
    }
}

/// A listener that is no more.
#[derive(Clone, Debug)]
pub(in crate::attribute) struct ClosedListener {
    pub(super) id: Option<u64>,
    pub(in crate::attribute) netns: u32,
    pub(in crate::attribute) bound: Endpoint,
    /// AF_UNIX: its file, where a look-up showed it.
    pub(in crate::attribute) file: Option<FileNumbers>,
    /// The mounts of who opened it, where that was seen.
    pub(in crate::attribute) mounts: Option<u32>,
    /// The last holder.
    pub(in crate::attribute) last: ProcessRef,
    pub(in crate::attribute) at: Nanos,
    pub(in crate::attribute) end: End,
    /// Every process that held it.
    pub(in crate::attribute) holders: Vec<ProcessRef>,
    /// [`End::Unseen`]: those of them whose death was not seen when the socket was found gone.
    pub(in crate::attribute) rest: Vec<ProcessRef>,
    /// [`End::Unseen`]: whether a holder was seen dying since the socket was last seen alive; `last` is that one.
    pub(in crate::attribute) lost_one: bool,
}

/// How a listener ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::attribute) enum End {
    /// A living process closed it.
    Closed,
    /// Its last holder died.
    Died,
    /// A look-up found it gone; how is not observed.
    Unseen,
}
