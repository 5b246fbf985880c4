//! Builds the two large records: a failed attempt, and an error page of nginx's own.

use ngx502_common::{
    config::loss,
    event::{Attempt, KIND_ATTEMPT, KIND_REQUEST, LINE_MAX, Request, State},
    layout::NginxLayout,
};

use crate::{
    answer::{self, Client},
    connection::{self, AF_UNIX},
    emit, kernel,
    maps::{BLANK, BLANK_CONNECTION, CLOSED, SCRATCH},
    request::{self, Found},
    task, thread, user,
};

/// What an error call says, before it is known whose it is.
pub struct Call {
    pub via: u8,
    pub level: u8,
    pub errno: i32,
    pub text: u64,
    /// The first two variable arguments, as registers.
    pub arguments: [u64; 2],
}

/// Far longer than nginx takes from the last read to its error page, far shorter than a request.
const SAME_CALLBACK_NS: u64 = 2_000_000;

/// Sends an error page of nginx's own, or an upstream's 502 that nginx passes on.
#[inline(always)]
pub fn error_page(status: u16, found: &Found, layout: &NginxLayout, layout_index: u32) -> Option<()> {
    let record: &mut Request = scratch()?;
    describe_request(record, status, found, layout);
    let main = if record.main == 0 { record.request } else { record.main };
    let told_states = if main == record.request { record.states_total } else { 0 };
    let client = Client { request: main, connection: record.connection, states: told_states };
    record.answer_follows = u8::from(answer::watch(found, &client, layout_index, layout));
    let end = if record.told != 0 && record.closed.id == 0 {
        core::mem::offset_of!(Request, states) as u64
            + u64::from(record.states_len) * size_of::<State>() as u64
    } else {
        core::mem::offset_of!(Request, line) as u64 + u64::from(record.line_len)
    };
    // SAFETY: `end` is at most the struct's size.
    unsafe {
        emit::send_bytes::<{ core::mem::offset_of!(Request, line) + LINE_MAX }>(
            core::ptr::from_ref(record).cast(),
            end,
        )
    };
    Some(())
}

#[inline(always)]
fn describe_request(record: &mut Request, status: u16, found: &Found, layout: &NginxLayout) {
    record.header = emit::header(KIND_REQUEST);
    record.request = found.request;
    record.main = found.main(layout);
    record.connection = found.connection_number();
    record.log_level = found.log_level();
    record.status = status;
    record.has_upstream = u8::from(found.upstream != 0);
    record.has_cache =
        u8::from(layout.cache != u16::MAX && user::word(found.request + u64::from(layout.cache)) != 0);
    record.reserved = [0; 2];
    record.reserved2 = [0; 4];
    let told = thread::was_told(record.request, record.connection);
    record.told = u8::from(told);
    (record.peer_len, record.host_len, record.client_len, record.line_len) = (0, 0, 0, 0);
    if !told {
        record.peer_len = found.peer(&mut record.peer, layout);
        record.host_len = found.host(&mut record.host, layout);
        record.client_len = found.address(&mut record.client, layout);
        record.line_len = found.line(&mut record.line);
    }
    request::copy_states(record, found.request, layout);
    let tid = task::tid();
    record.closed.id = 0;
    // SAFETY: the entry belongs to this thread.
    if let Some(closed) = unsafe { CLOSED.get(&tid) } {
        // An error page follows the close in the same callback; an AF_UNIX close that was seen earlier is another's.
        let stale = closed.family == AF_UNIX && record.header.at - closed.fin_at > SAME_CALLBACK_NS;
        if !stale {
            kernel::copy_struct(&mut record.closed, closed);
        }
        let _ = CLOSED.remove(&tid);
    }
}

/// Sends an attempt that nginx complains about.
#[inline(always)]
pub fn attempt(call: &Call, found: &Found, sk: u64, layout: &NginxLayout, layout_index: u32) -> Option<()> {
    let record: &mut Attempt = scratch()?;
    record.header = emit::header(KIND_ATTEMPT);
    record.request = found.request;
    record.main = found.main(layout);
    record.connection = found.connection_number();
    record.log_level = found.log_level();
    record.via = call.via;
    record.level = call.level;
    record.errno = call.errno;
    record.text = call.text;
    record.text_len = user::copy_str(&mut record.text_copy, call.text);
    record.action = user::word(found.log + u64::from(layout.log_action));
    record.action_len = user::copy_str(&mut record.action_copy, record.action);
    record.index = request::states(found.request, layout).map_or(0, |(_, count, _)| count as u32);
    record.reserved = [0; 4];
    describe_arguments(record, call.arguments);
    record.peer_len = found.peer(&mut record.peer, layout);
    record.host_len = found.host(&mut record.host, layout);
    record.client_len = found.address(&mut record.client, layout);
    record.line_len = found.line(&mut record.line);
    describe_socket(record, sk);
    let main = if record.main == 0 { record.request } else { record.main };
    let client = Client { request: main, connection: record.connection, states: 0 };
    answer::watch(found, &client, layout_index, layout);
    let end = core::mem::offset_of!(Attempt, line) as u64 + u64::from(record.line_len);
    // SAFETY: `end` is at most the struct's size.
    let sent = unsafe {
        emit::send_bytes::<{ core::mem::offset_of!(Attempt, line) + LINE_MAX }>(
            core::ptr::from_ref(record).cast(),
            end,
        )
    };
    if sent {
        thread::remember_told(record.request, record.connection);
    }
    Some(())
}

/// The formats of interest begin with `%V` (a pointer to a string), with `%*s` (a length, then a pointer), or with a
/// number; which one it is only user space knows, so whatever can be read as text is sent, and the number as well.
#[inline(always)]
fn describe_arguments(record: &mut Attempt, [first, second]: [u64; 2]) {
    const SMALL: u64 = 1 << 16;
    record.number = if first < SMALL { first as i64 } else { second as i64 };
    record.detail_len = if first == 0 {
        0
    } else if first < SMALL {
        user::copy_bytes(&mut record.detail, second, first)
    } else {
        user::copy_ngx_str(&mut record.detail, first)
    };
}

#[inline(always)]
fn describe_socket(record: &mut Attempt, sk: u64) {
    if let Some(blank) = BLANK_CONNECTION.get(0) {
        kernel::copy_struct(&mut record.socket, &blank.facts);
    }
    if sk == 0 {
        return;
    }
    let mut peer = 0;
    if let Some(connection) = connection::get_current(sk) {
        connection.failed = 1;
        connection.told = 1;
        kernel::copy_struct(&mut record.socket, &connection.facts);
        peer = connection.peer;
    }
    connection::complete(&mut record.socket, sk, peer);
}

/// This thread's buffer, as a record of type `T`.
#[inline(always)]
fn scratch<'a, T>() -> Option<&'a mut T> {
    const { assert!(size_of::<T>() <= size_of::<Request>()) };
    let tid = task::tid();
    if SCRATCH.get_ptr(&tid).is_none() {
        let _ = SCRATCH.insert(&tid, BLANK.get(0)?, 0);
    }
    let buffer = SCRATCH.get_ptr_mut(&tid);
    if buffer.is_none() {
        emit::count_loss(loss::NO_BUFFER);
    }
    // SAFETY: map memory, large and aligned enough, that only this thread uses; any bytes are a valid record.
    buffer.map(|buffer| unsafe { &mut *buffer.cast::<T>() })
}
