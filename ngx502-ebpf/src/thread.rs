//! What a thread is in the middle of: what it said a moment ago, and about which request.

use crate::{
    maps::{THREADS, Thread},
    task,
};

/// `ngx_connection_error` was called with this text: its own log call will say nothing new.
#[inline(always)]
pub fn remember_report(text: u64, errno: i32) {
    if let Some(thread) = current() {
        thread.reported_text = text;
        thread.reported_errno = errno;
    }
}

/// Whether this text was just reported by `ngx_connection_error`, which logs it; asked once.
#[inline(always)]
pub fn was_reported(text: u64, errno: i32) -> bool {
    let Some(thread) = THREADS.get_ptr_mut(&task::tid()) else { return false };
    // SAFETY: the entry belongs to this thread.
    let thread = unsafe { &mut *thread };
    let same = thread.reported_text == text && thread.reported_errno == errno;
    thread.reported_text = 0;
    same
}

/// An attempt of this request was sent.
#[inline(always)]
pub fn remember_told(request: u64, connection: u64) {
    if let Some(thread) = current() {
        thread.told_request = request;
        thread.told_connection = connection;
    }
}

/// Whether this thread's last attempt was of this request.
#[inline(always)]
pub fn was_told(request: u64, connection: u64) -> bool {
    let Some(thread) = THREADS.get_ptr(&task::tid()) else { return false };
    // SAFETY: the entry belongs to this thread.
    let thread = unsafe { &*thread };
    thread.told_request == request && thread.told_connection == connection
}

/// A request is over: the next one of the same connection may stand at the same address.
#[inline(always)]
pub fn forget_told() {
    if let Some(thread) = THREADS.get_ptr_mut(&task::tid()) {
        // SAFETY: the entry belongs to this thread.
        unsafe { (*thread).told_request = 0 };
    }
}

/// This request gets an error page of nginx's own, whose header is no upstream's.
#[inline(always)]
pub fn remember_error_page(request: u64) {
    if let Some(thread) = current() {
        thread.error_page = request;
    }
}

/// Whether this request got an error page of nginx's own; asked once.
#[inline(always)]
pub fn was_error_page(request: u64) -> bool {
    match current() {
        Some(thread) => core::mem::replace(&mut thread.error_page, 0) == request,
        None => false,
    }
}

/// This thread's entry, made when there is none.
#[inline(always)]
pub fn current<'a>() -> Option<&'a mut Thread> {
    let tid = task::tid();
    if THREADS.get_ptr(&tid).is_none() {
        let _ = THREADS.insert(&tid, &Thread::NEW, 0);
    }
    // SAFETY: map memory that only this thread uses.
    THREADS.get_ptr_mut(&tid).map(|thread| unsafe { &mut *thread })
}
