//! What became of a request with a failed attempt: the first write to its client, or the client's end.

use aya_ebpf::bindings::BPF_NOEXIST;
use ngx502_common::{
    event::{Answer, KIND_ANSWER, State},
    layout::NginxLayout,
};

use crate::{
    emit, filter,
    maps::{WATCHED, Watch},
    request::{self, Found},
    task, thread,
};

/// Whose answer is waited for.
pub struct Client {
    /// The main request, or the subrequest where the layout is not known.
    pub request: u64,
    /// Its connection's number.
    pub connection: u64,
    /// How many upstream states user space was told of.
    pub states: u32,
}

/// Waits for the answer to a client; false when its socket is not to be had.
#[inline(always)]
pub fn watch(found: &Found, client: &Client, layout_index: u32, layout: &NginxLayout) -> bool {
    let sk = found.client_sock(layout);
    if sk == 0 {
        return false;
    }
    let watch = Watch {
        request: client.request,
        connection: client.connection,
        worker: task::tgid(),
        layout: layout_index,
        states: client.states,
        reserved: 0,
    };
    if let Some(earlier) = WATCHED.get_ptr_mut(&sk) {
        // SAFETY: map memory that only this worker's thread changes.
        let earlier = unsafe { &mut *earlier };
        if earlier.request != watch.request || earlier.connection != watch.connection {
            // Another stream of the same HTTP/2 connection: its fate is what it is by now.
            answered(earlier, false);
        }
        *earlier = watch;
        return true;
    }
    filter::socket_added(sk);
    let inserted = WATCHED.insert(&sk, &watch, u64::from(BPF_NOEXIST)).is_ok();
    if !inserted {
        filter::socket_removed(sk);
    }
    inserted
}

/// nginx wrote to a socket that is no upstream's.
#[inline(always)]
pub fn sent(sk: u64) {
    // SAFETY: copied at once.
    if let Some(watch) = unsafe { WATCHED.get(&sk) } {
        let watch = *watch;
        if watch.worker == task::tgid() {
            answered(&watch, false);
            forget(sk);
        }
    }
}

/// The client's socket ends in the worker's context without an answer. In another context it is already known that
/// the worker will find out.
#[inline(always)]
pub fn client_ended(sk: u64) {
    if !filter::may_know_socket(sk) {
        return;
    }
    // SAFETY: copied at once.
    if let Some(watch) = unsafe { WATCHED.get(&sk) } {
        let watch = *watch;
        if watch.worker == task::tgid() {
            answered(&watch, true);
            forget(sk);
        }
    }
}

#[inline(always)]
fn forget(sk: u64) {
    if WATCHED.remove(&sk).is_ok() {
        filter::socket_removed(sk);
    }
}

/// Sends the answer; reads nginx's memory, hence only in the worker's context.
#[inline(never)]
fn answered(watch: &Watch, client_gone: bool) {
    // SAFETY: integers and byte arrays, for which zero is valid.
    let last: State = unsafe { core::mem::zeroed() };
    let mut answer = Answer {
        header: emit::header(KIND_ANSWER),
        main: watch.request,
        connection: watch.connection,
        states_total: 0,
        status: 0,
        client_gone: u8::from(client_gone),
        has_last: 0,
        last,
    };
    if let Some(layout) = request::layout(watch.layout)
        && request::is_of_connection(watch.request, watch.connection, layout)
    {
        answer.status = request::status(watch.request, layout.request_line, layout);
        if let Some((elements, count, size)) = request::states(watch.request, layout) {
            answer.states_total = count as u32;
            if count as u32 > watch.states {
                answer.has_last = 1;
                request::copy_state(&mut answer.last, elements + (count - 1) * size, layout);
            }
        }
    }
    emit::send(&answer);
    thread::forget_told();
}
