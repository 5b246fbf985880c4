//! What became of a request with a failed attempt: the first write to its client, or the client's end.

use aya_ebpf::bindings::BPF_NOEXIST;
use ngx502_common::{
    event::{Answered, KIND_ANSWER},
    layout::NginxLayout,
};

use crate::{
    emit, filter,
    maps::WATCHED,
    request,
    state::{AnswerScratch, Identity, Watch},
    task, thread, upstream_states,
};

impl Watch {
    #[inline(always)]
    pub fn is_of(&self, who: &Identity) -> bool {
        self.request == who.main_or_self() && self.connection == who.connection
    }
}

/// Waits for the answer to the client of a request by its socket; false without one. `states` is how many
/// upstream states were reported to user space, `layout` where its nginx has its layout.
///
/// The latest client of a thread waits in the thread's own entry, where a storm, which answers each request before it
/// turns to the next, needs no table at all.
#[inline(never)]
pub fn watch(place: &mut Watch, sk: u64, who: &Identity, states: u32, layout: u32) -> bool {
    if sk == 0 {
        return false;
    }
    if place.sk == sk {
        if !place.is_of(who) {
            // Another stream of the same HTTP/2 connection: its fate is what it is by now.
            answered(place, false);
        }
    } else {
        if place.sk != 0 && WATCHED.insert(&place.sk, &*place, u64::from(BPF_NOEXIST)).is_err() {
            filter::socket_removed(place.sk);
        }
        if filter::may_know_socket(sk)
            && let Some(earlier) = spilled(sk)
        {
            if !earlier.is_of(who) {
                answered(earlier, false);
            }
            forget(sk);
        }
        filter::socket_added(sk);
    }
    // Field by field: a value of its own would take too much of the stack.
    place.sk = sk;
    place.request = who.main_or_self();
    place.client = who.client;
    place.log = who.log;
    place.connection = who.connection;
    place.worker = task::tgid();
    place.layout = layout;
    place.states = states;
    true
}

/// nginx wrote to a socket that is not an upstream's.
#[inline(always)]
pub fn sent(sk: u64) {
    over(sk, false);
}

/// The client's socket ends in the worker's context without an answer. In another context it is already known that
/// the worker will find out.
#[inline(always)]
pub fn client_ended(sk: u64) {
    over(sk, true);
}

/// The wait of a client is over, if it is one that waits and this is its worker.
#[inline(never)]
fn over(sk: u64, client_gone: bool) {
    if let Some(thread) = thread::existing()
        && thread.watch.sk == sk
    {
        answered(&thread.watch, client_gone);
        thread.watch.sk = 0;
        thread.reported.request = 0;
        filter::socket_removed(sk);
        return;
    }
    if let Some(watch) = spilled(sk)
        && watch.worker == task::tgid()
    {
        answered(watch, client_gone);
        forget(sk);
        if let Some(thread) = thread::existing() {
            thread.reported.request = 0;
        }
    }
}

/// A client in the table. It is not copied, since five calls deep there is no room for it on the stack.
#[inline(always)]
fn spilled<'a>(sk: u64) -> Option<&'a Watch> {
    // SAFETY: map memory stays valid while a program runs; only this client's worker changes the entry.
    unsafe { WATCHED.get(&sk) }
}

/// Removes a client from the table.
#[inline(always)]
fn forget(sk: u64) {
    if WATCHED.remove(&sk).is_ok() {
        filter::socket_removed(sk);
    }
}

/// Sends the answer; reads nginx's memory, hence only in the worker's context.
#[inline(never)]
fn answered(watch: &Watch, client_gone: bool) {
    let mut answer = Answered {
        header: emit::header(KIND_ANSWER),
        main: watch.request,
        connection: watch.connection,
        states_total: 0,
        status: 0,
        client_gone: u8::from(client_gone),
        has_last: 0,
    };
    if let Some(layout) = request::layout(watch.layout)
        && request::is_still(watch.request, watch.client, watch.log, watch.connection)
    {
        answer.status = request::status(watch.request, layout.request_line, layout);
        if let Some((elements, count, size)) = upstream_states::of_request(watch.request, layout) {
            answer.states_total = count as u32;
            if count as u32 > watch.states {
                answer.has_last = 1;
                return answered_by_another(&answer, elements + (count - 1) * size, size, layout);
            }
        }
    }
    emit::send(&answer);
}

/// Sends an answer with the attempt that came after the last one that was reported to user space. It is built in the
/// thread's entry: on the stack there would be no room below a uprobe.
#[inline(never)]
fn answered_by_another(answered: &Answered, at: u64, size: u64, layout: &NginxLayout) {
    let Some(thread) = thread::current() else { return };
    let AnswerScratch { record, block } = &mut thread.answer;
    record.answered = *answered;
    upstream_states::copy(&mut record.last, at, size, block, layout);
    emit::send(record);
}
