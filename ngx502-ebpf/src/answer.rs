//! What became of a request with a failed attempt: the first write to its client, or the client's end.

use ngx502_common::{
    event::{Answer, KIND_ANSWER, State},
    layout::NginxLayout,
};

use crate::{
    emit,
    maps::{WATCHED, Watch},
    request::{self, Found},
    task,
};

/// Waits for the answer to `main`; false when its client's socket is not to be had.
#[inline(always)]
pub fn watch(found: &Found, main: u64, connection: u64, layout_index: u32, layout: &NginxLayout) -> bool {
    let sk = found.client_sock(layout);
    if sk == 0 {
        return false;
    }
    // SAFETY: copied at once.
    if let Some(earlier) = unsafe { WATCHED.get(&sk) } {
        if earlier.request == main && earlier.connection == connection {
            return true;
        }
        // Another stream of the same HTTP/2 connection: its fate is what it is by now.
        let earlier = *earlier;
        answered(&earlier, false);
    }
    let watch = Watch { request: main, connection, worker: task::tgid(), layout: layout_index };
    WATCHED.insert(&sk, &watch, 0).is_ok()
}

/// nginx wrote to a socket that is no upstream's.
#[inline(always)]
pub fn sent(sk: u64) {
    // SAFETY: copied at once.
    if let Some(watch) = unsafe { WATCHED.get(&sk) } {
        let watch = *watch;
        if watch.worker == task::tgid() {
            answered(&watch, false);
            let _ = WATCHED.remove(&sk);
        }
    }
}

/// The client's socket ends in the worker's context without an answer. In another context it is already known that
/// the worker will find out.
#[inline(always)]
pub fn client_ended(sk: u64) {
    // SAFETY: copied at once.
    if let Some(watch) = unsafe { WATCHED.get(&sk) } {
        let watch = *watch;
        if watch.worker == task::tgid() {
            answered(&watch, true);
            let _ = WATCHED.remove(&sk);
        }
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
        && let Some(found) = request::find(watch.request, layout)
        && found.connection_number() == watch.connection
    {
        answer.status = found.status(layout);
        if let Some((elements, count, size)) = request::states(watch.request, layout) {
            answer.states_total = count as u32;
            if count > 0 {
                answer.has_last = 1;
                request::copy_state(&mut answer.last, elements + (count - 1) * size, layout);
            }
        }
    }
    emit::send(&answer);
}
