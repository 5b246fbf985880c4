//! What a thread is in the middle of: what it said a moment ago, about which request, and who waits for its answer. The
//! entry also holds what does not fit on the stack of 512 bytes. Per thread and not per CPU, since a uprobe's program
//! can be preempted by another worker's on the same CPU.

use ngx502_common::{
    config::loss,
    event::{Request, SocketFacts},
};

use crate::{
    answer::{Scratch, Watch},
    emit, filter,
    head::Head,
    maps::{BLANK, THREADS},
    request::{Found, Identity},
    task,
};

/// See the module; the value of the map `THREADS`.
#[repr(C, align(8))]
pub struct Thread {
    /// Text of the `ngx_connection_error` call that is under way: its own `ngx_log_error_core` call says nothing new.
    reported_text: u64,
    reported_errno: i32,
    /// The arguments of the connect(2) that is under way.
    pub connect_fd: u32,
    /// When it began; 0 outside of connect(2).
    pub connect_at: u64,
    /// The request that got an error page of nginx's own last.
    error_page: u64,
    /// The request of which an attempt was sent last; its address is 0 for none.
    pub told: Identity,
    /// The client that waits for its answer since last; `sk` 0 for none.
    pub watch: Watch,
    /// The upstream socket that it closed last, unless an attempt has told of it; `id` 0 for none.
    pub closed: SocketFacts,
    /// Room for an answer with a state, which may be sent while `record` is in the making.
    pub answer: Scratch,
    /// Room for the addresses of a socket.
    pub head: Head,
    /// The request that is read, or was read last.
    pub found: Found,
    /// Room for the largest record.
    pub record: [u8; size_of::<Request>()],
}

/// A thread's entry without the request.
pub struct Rest<'a> {
    pub told: &'a mut Identity,
    pub watch: &'a mut Watch,
    pub closed: &'a mut SocketFacts,
    pub head: &'a mut Head,
    pub record: &'a mut [u8; size_of::<Request>()],
}

impl Thread {
    /// Its request, and the rest.
    #[inline(always)]
    pub fn parts(&mut self) -> (&mut Found, Rest<'_>) {
        let Self { told, watch, closed, head, found, record, .. } = self;
        (found, Rest { told, watch, closed, head, record })
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
