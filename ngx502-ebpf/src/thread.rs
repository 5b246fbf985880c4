//! What a thread is in the middle of: what it said a moment ago, about which request, and who waits for its answer. The
//! entry also holds what does not fit on the stack of 512 bytes. Per thread and not per CPU, since a uprobe's program
//! can be preempted by another worker's on the same CPU.

use ngx502_common::config::loss;

use crate::{
    emit, filter,
    maps::{BLANK, THREADS},
    state::{Found, Thread, ThreadScratch},
    task,
};

impl Thread {
    /// Its request, and the rest.
    #[inline(always)]
    pub fn parts(&mut self) -> (&mut Found, ThreadScratch<'_>) {
        let Self { reported, watch, closed, head, found, record, .. } = self;
        (found, ThreadScratch { reported, watch, closed, head, record })
    }

    /// `ngx_connection_error` was called with this text: its own log call will say nothing new.
    #[inline(always)]
    pub fn remember_report(&mut self, text: u64, errno: i32) {
        self.reported_text = text;
        self.reported_errno = errno;
    }

    /// Whether this text was just reported by `ngx_connection_error`, which logs it; asked once.
    #[inline(always)]
    pub fn was_reported(&mut self, text: u64, errno: i32) -> bool {
        let same = self.reported_text == text && self.reported_errno == errno;
        self.reported_text = 0;
        same
    }

    /// This request gets an error page of nginx's own, whose header is no upstream's.
    #[inline(always)]
    pub fn remember_error_page(&mut self, request: u64) {
        self.error_page = request;
    }

    /// Whether this request got an error page of nginx's own; asked once.
    #[inline(always)]
    pub fn was_error_page(&mut self, request: u64) -> bool {
        core::mem::replace(&mut self.error_page, 0) == request
    }
}

/// This thread's entry, made when there is none.
#[inline(always)]
pub fn current<'a>() -> Option<&'a mut Thread> {
    let tid = task::tid();
    if let Some(thread) = existing() {
        return Some(thread);
    }
    if THREADS.insert(&tid, BLANK.get(0)?, 0).is_err() {
        emit::count_loss(loss::NO_BUFFER);
    }
    existing()
}

/// This thread's entry, if it was ever in the middle of something.
#[inline(always)]
pub fn existing<'a>() -> Option<&'a mut Thread> {
    // SAFETY: map memory that only this thread uses.
    THREADS.get_ptr_mut(&task::tid()).map(|thread| unsafe { &mut *thread })
}

/// The current thread ends.
#[inline(always)]
pub fn ended() {
    if let Some(thread) = existing() {
        if thread.watch.sk != 0 {
            filter::socket_removed(thread.watch.sk);
        }
        let _ = THREADS.remove(&task::tid());
    }
}
