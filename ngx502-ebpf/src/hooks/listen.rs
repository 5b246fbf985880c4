//! TCP sockets that begin or cease to listen. AF_UNIX has no hook for it; enrichment looks when it matters.

use ngx502_common::event::{KIND_LISTEN, Listen};

use crate::{
    connection, emit,
    kernel::{self, offset},
    maps::HOLDERS,
    task,
};

/// Called by the state hook, in the context of listen(2) or of the last close(2). Not inlined: its record would take
/// stack from every other path through that hook.
#[inline(never)]
pub fn changed(sk: u64, open: bool) {
    let current = task::current();
    let (local, _) = connection::addresses(sk).unwrap_or_default();
    let listen = Listen {
        header: emit::header(KIND_LISTEN),
        id: sk,
        process: task::process(current),
        netns: connection::netns(sk),
        backlog: kernel::read_or(sk, offset!(sk_max_ack_backlog), 0),
        local,
        // `skc_num` is already 0 on close, `inet_sport` is not.
        port: u16::from_be(kernel::read_or(sk, offset!(inet_sport), 0)),
        family: connection::family(sk),
        open: u8::from(open),
        exiting: u8::from(task::is_exiting(current)),
        reserved: 0,
        exit_code: task::exit_code(current),
        reserved2: 0,
    };
    if open {
        let _ = HOLDERS.insert(&task::tgid(), &1, 0);
    }
    emit::send(&listen);
}
