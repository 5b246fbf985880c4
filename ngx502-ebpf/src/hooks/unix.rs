//! AF_UNIX connections and the end of listeners, on kernels with kprobes. Elsewhere nginx's own words and enrichment take their place.

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use ngx502_common::{
    event::{CLOSE_ABORT, CLOSE_FIN, CLOSE_NEVER_ACCEPTED},
    net::{AF_UNIX, LISTEN},
};

use crate::{
    connection, descriptor, emit,
    hooks::listen,
    kernel::{self, offset},
    sock::Sock,
    task, thread,
};

/// `int __sys_connect(int fd, struct sockaddr __user *uservaddr, int addrlen)`
#[kprobe]
pub fn sys_connect_enter(ctx: ProbeContext) -> u32 {
    if task::is_traced()
        && let Some(fd) = ctx.arg::<u64>(0)
    {
        if let Some(thread) = thread::current() {
            thread.connect_fd = fd as u32;
            thread.connect_at = emit::now();
        }
    }
    0
}

/// The return of `__sys_connect`: an AF_UNIX connect is over by then, whichever way.
#[kretprobe]
pub fn sys_connect_exit(ctx: RetProbeContext) -> u32 {
    let Some(thread) = thread::existing() else { return 0 };
    if thread.connect_at == 0 {
        return 0;
    }
    let result: i32 = ctx.ret();
    let began = core::mem::replace(&mut thread.connect_at, 0);
    let sk = descriptor::sock_of_fd(thread.connect_fd);
    if sk != 0
        && sk.family() == AF_UNIX
        && let Some(connection) = connection::begin_unix(sk, connection::get(sk))
    {
        connection.facts.connect_at = began;
        if result == 0 {
            connection.facts.established_at = emit::now();
        } else {
            connection.facts.errno = -result;
        }
    }
    0
}

/// `static void unix_release_sock(struct sock *sk, int embrion)`: a unix socket ends, in its closer's context.
/// `embrion` is set for a connection that was still in the accept queue.
#[kprobe]
pub fn unix_release_sock(ctx: ProbeContext) -> u32 {
    let (Some(sk), Some(embryo)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1)) else { return 0 };
    let peer = sk.unix_peer().unwrap_or(0);
    if peer == 0 {
        // Still the state that it ends in.
        if kernel::read_or(sk, offset!(skc_state), 0u8) == LISTEN {
            listen::unix_changed(sk, 0, 0);
        }
    } else if let Some(connection) = connection::get(peer) {
        let unread = kernel::read_or(sk, offset!(sk_receive_qlen), 0u32) > 0;
        let how = match (embryo as u32, unread) {
            (0, true) => CLOSE_ABORT,
            (0, false) => CLOSE_FIN,
            _ => CLOSE_NEVER_ACCEPTED,
        };
        connection::peer_closed(connection, how);
    }
    connection::released(sk);
    0
}
