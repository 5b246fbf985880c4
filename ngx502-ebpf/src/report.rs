//! Builds the two large records: a failed attempt, and an error page of nginx's own.

use ngx502_common::{
    event::{Attempt, KIND_ATTEMPT, KIND_REQUEST, LINE_MAX, Request, State},
    net::AF_UNIX,
};

use crate::{
    answer, connection,
    descriptor::sock_of_connection,
    emit, kernel,
    maps::BLANK_CONNECTION,
    request::TracedBinary,
    state::{Found, Identity, SockCommon, Thread, ThreadScratch, Watch},
    user,
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
pub fn error_page(status: u16, found: &mut Found, rest: ThreadScratch<'_>, build: &TracedBinary<'_>) {
    let layout = build.layout;
    let record: &mut Request = as_record(rest.record);
    record.reported = 0;
    (record.peer_len, record.peer_unread) = found.peer(&mut record.peer, layout);
    record.host_len = found.host(&mut record.host, layout);
    record.client_len = found.address(&mut record.client, layout);
    record.line_len = found.line(&mut record.line);
    finish_page(status, found, rest, build);
}

/// Sends the error page of a request of which this thread has just reported an attempt, with what that did not say;
/// false where that is not so.
#[inline(always)]
pub fn reported_error_page(status: u16, request: u64, thread: &mut Thread, build: &TracedBinary<'_>) -> bool {
    let (found, rest) = thread.parts();
    if rest.reported.request != request || !found.find_again(rest.reported) {
        return false;
    }
    let record: &mut Request = as_record(rest.record);
    record.reported = 1;
    record.peer_unread = 0;
    (record.peer_len, record.host_len, record.client_len, record.line_len) = (0, 0, 0, 0);
    finish_page(status, found, rest, build);
    true
}

/// Completes and sends a page's record, but for its texts.
#[inline(always)]
fn finish_page(status: u16, found: &mut Found, rest: ThreadScratch<'_>, build: &TracedBinary<'_>) {
    let record: &mut Request = as_record(rest.record);
    record.header = emit::header(KIND_REQUEST);
    record.request = found.who.request;
    record.main = found.who.main;
    record.connection = found.who.connection;
    record.log_level = found.who.log_level;
    record.status = status;
    record.has_upstream = u8::from(found.has_upstream(build.layout));
    record.has_cache = u8::from(found.has_cache(build.layout));
    record.reserved = [0; 2];
    found.copy_states(record, build.layout);
    record.closed.id = 0;
    if rest.closed.id != 0 {
        // An error page follows the close in the same callback; an AF_UNIX close that was seen earlier is another's.
        let at = record.header.at;
        if rest.closed.family != AF_UNIX || at.wrapping_sub(rest.closed.fin_at) <= SAME_CALLBACK_NS {
            kernel::copy_struct(&mut record.closed, rest.closed);
        }
        rest.closed.id = 0;
    }
    let is_main = found.who.main_or_self() == found.who.request;
    let reported_states = if is_main { record.states_total } else { 0 };
    record.answer_follows = u8::from(wait(&found.who, reported_states, rest.watch, build));
    send_page(record);
}

/// Sends a page's record as far as it says anything.
#[inline(always)]
fn send_page(record: &Request) {
    let end = if record.reported != 0 && record.closed.id == 0 {
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
            record.header.at,
        )
    };
}

/// Waits for the answer to the client of a request; whether it can be waited for. `states` is how many upstream states
/// user space knows by then.
#[inline(always)]
fn wait(who: &Identity, states: u32, place: &mut Watch, build: &TracedBinary<'_>) -> bool {
    // Since the attempt that was reported a moment ago, nothing has changed but the count.
    if place.sk != 0 && place.is_of(who) {
        place.states = states;
        return true;
    }
    let sk = sock_of_connection(who.client, build.layout);
    answer::watch(place, sk, who, states, build.traced.layout)
}

/// Sends an attempt that nginx complains about.
#[inline(always)]
pub fn attempt(call: &Call, found: &Found, sk: u64, rest: ThreadScratch<'_>, build: &TracedBinary<'_>) {
    let layout = build.layout;
    let record: &mut Attempt = as_record(rest.record);
    record.header = emit::header(KIND_ATTEMPT);
    record.request = found.who.request;
    record.main = found.who.main;
    record.connection = found.who.connection;
    record.log_level = found.who.log_level;
    record.via = call.via;
    record.level = call.level;
    record.errno = call.errno;
    record.text = call.text;
    record.action = found.action(layout);
    (record.text_len, record.action_len) = (0, 0);
    if !build.traced.knows_text(call.text) {
        record.text_len = user::copy_str(&mut record.text_copy, call.text);
    }
    if !build.traced.knows_text(record.action) {
        record.action_len = user::copy_str(&mut record.action_copy, record.action);
    }
    record.index = found.state_count(layout);
    describe_arguments(record, call.arguments);
    (record.peer_len, record.peer_unread) = found.peer(&mut record.peer, layout);
    record.host_len = found.host(&mut record.host, layout);
    record.client_len = found.address(&mut record.client, layout);
    record.line_len = found.line(&mut record.line);
    describe_socket(record, rest.head, sk);
    wait(&found.who, 0, rest.watch, build);
    let end = core::mem::offset_of!(Attempt, line) as u64 + u64::from(record.line_len);
    // SAFETY: `end` is at most the struct's size.
    let sent = unsafe {
        emit::send_bytes::<{ core::mem::offset_of!(Attempt, line) + LINE_MAX }>(
            core::ptr::from_ref(record).cast(),
            end,
            record.header.at,
        )
    };
    if sent {
        *rest.reported = found.who;
    }
}

/// The formats of interest begin with `%V` (a pointer to an `ngx_str_t`), with `%s` (a C string), with `%*s` (a length, then a
/// pointer), with `%l:%s` (a number, then a C string), or with a number; which one it is only user space knows, so whatever can
/// be read as text is sent, and both arguments as numbers. A number that may be a code is none that limits the text: user space
/// cuts that.
#[inline(always)]
fn describe_arguments(record: &mut Attempt, [first, second]: [u64; 2]) {
    const SMALL: u64 = 1 << 16;
    const CODES: u64 = 128;
    record.arguments = [first as i64, second as i64];
    record.detail_len = if first == 0 {
        0
    } else if first < CODES {
        user::copy_str(&mut record.detail, second)
    } else if first < SMALL {
        user::copy_bytes(&mut record.detail, second, first)
    } else {
        let counted = user::copy_ngx_str(&mut record.detail, first);
        // The bytes of a C string are no length and no address.
        if counted == 0 { user::copy_str(&mut record.detail, first) } else { counted }
    };
}

#[inline(always)]
fn describe_socket(record: &mut Attempt, head: &mut SockCommon, sk: u64) {
    let connection = if sk == 0 { None } else { connection::get_current(sk) };
    let Some(connection) = connection else {
        if let Some(blank) = BLANK_CONNECTION.get(0) {
            kernel::copy_struct(&mut record.socket, &blank.facts);
        }
        if sk != 0 {
            connection::complete(&mut record.socket, head, sk, 0);
        }
        return;
    };
    connection.failed = 1;
    connection.reported = 1;
    kernel::copy_struct(&mut record.socket, &connection.facts);
    connection::complete(&mut record.socket, head, sk, connection.peer);
}

/// A buffer as a record of type `T`.
#[inline(always)]
fn as_record<T>(bytes: &mut [u8; size_of::<Request>()]) -> &mut T {
    const { assert!(size_of::<T>() <= size_of::<Request>()) };
    // SAFETY: large enough, and aligned as the thread's entry, in which it follows words; any bytes are a valid record.
    unsafe { &mut *bytes.as_mut_ptr().cast::<T>() }
}
