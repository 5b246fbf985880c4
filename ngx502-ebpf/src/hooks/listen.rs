//! Sockets that begin or cease to listen: TCP by their state, AF_UNIX on kernels with kprobes. Elsewhere enrichment
//! looks for the latter when it matters.

use aya_ebpf::{macros::kprobe, programs::ProbeContext};
use ngx502_common::{
    event::{KIND_LISTEN, KIND_LISTEN_UNIX, Listen, ListenUnix},
    net::{AF_UNIX, CLOSE},
};

use crate::{
    emit,
    kernel::{self, offset},
    maps::HOLDERS,
    sock::{self, Sock},
    task,
};

const SOCK_STREAM: u16 = 1;

/// `static int unix_listen(struct socket *sock, int backlog)`, in the context of listen(2). It takes what is checked
/// here, and nothing else.
#[kprobe]
pub fn unix_listen(ctx: ProbeContext) -> u32 {
    let (Some(socket), Some(backlog)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1)) else { return 0 };
    let sk = kernel::read_or(socket, offset!(socket_sk), 0u64);
    let bound = sk.unix_addr() != 0;
    // CLOSE: it neither listens nor is connected.
    if bound && kernel::read_or(sk, offset!(skc_state), 0u8) == CLOSE {
        unix_changed(sk, 1, backlog as u32);
    }
    0
}

/// Called by the state hook, in the context of listen(2) or of the last close(2). Not inlined: its record would take
/// stack from every other path through that hook.
#[inline(never)]
pub fn changed(sk: u64, open: bool) {
    let mut listen = listen(sk, KIND_LISTEN, open);
    listen.backlog = kernel::read_or(sk, offset!(sk_max_ack_backlog), 0);
    if let Some(ends) = sk.ends() {
        listen.local = ends.local;
        listen.port = u16::from_be(ends.local_port);
    }
    listen.family = sk.family();
    emit::send(&listen);
}

/// An AF_UNIX socket begins to listen (`open` 1) or is released (0), in the context of whoever does that.
#[inline(never)]
pub fn unix_changed(sk: u64, open: u32, backlog: u32) {
    // nginx connects to no other kind.
    if kernel::read_or(sk, offset!(sk_type), SOCK_STREAM) != SOCK_STREAM {
        return;
    }
    let mut record = ListenUnix {
        listen: listen(sk, KIND_LISTEN_UNIX, open != 0),
        path: [0; 112],
        path_len: 0,
        reserved: [0; 6],
    };
    record.listen.backlog = backlog;
    record.listen.family = AF_UNIX;
    record.path_len = sock::unix_path(&mut record.path, sk);
    emit::send(&record);
}

/// The record without its address. Who listens from now on is watched.
#[inline(always)]
fn listen(sk: u64, kind: u16, open: bool) -> Listen {
    let current = task::current();
    if open {
        let _ = HOLDERS.insert(&task::tgid(), &1, 0);
    }
    Listen {
        header: emit::header(kind),
        id: sk,
        process: task::process(current),
        netns: sock::netns(sk),
        backlog: 0,
        local: [0; 16],
        port: 0,
        family: 0,
        open: u8::from(open),
        exiting: u8::from(task::is_exiting(current)),
        reserved: 0,
        exit_code: task::exit_code(current),
        mounts: task::mounts(current),
    }
}
