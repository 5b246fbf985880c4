//! What is known of nginx's upstream sockets, and how it becomes [`SocketFacts`].

use aya_ebpf::bindings::BPF_NOEXIST;
use ngx502_common::{
    config::loss,
    connection::{Connection, Origins, Pair},
    event::{ACCEPTED_NO, ACCEPTED_YES, CloserFacts, SocketFacts, UNKNOWN},
    net::{AF_UNIX, CLOSE_WAIT, ESTABLISHED},
};

use crate::{
    answer, emit, filter,
    kernel::{self, offset},
    latency,
    maps::{BLANK_CONNECTION, CONNECTIONS, PAIRS, REFUSALS, TRACED},
    onward,
    sock::{Progress, Sock, netns_of, socket_of, unix_path},
    state::SockCommon,
    task, thread,
};

/// Starts to observe a TCP socket that the current worker connects to an upstream.
#[inline(always)]
pub fn begin(sk: impl Sock) {
    let Some(connection) = blank(sk.address(), get(sk.address())) else { return };
    connection.facts.connect_at = emit::now();
    connection.facts.family = sk.family();
    latency::identify(connection, sk);
}

/// Starts to observe an AF_UNIX socket that the current worker has connected to an upstream; when it did, the caller
/// may know. `earlier` is what `get` says of its address.
#[inline(always)]
pub fn begin_unix<'a>(sk: impl Sock, earlier: Option<&'a mut Connection>) -> Option<&'a mut Connection> {
    let known = earlier.as_ref().map(|earlier| (earlier.series, earlier.place));
    let connection = blank(sk.address(), earlier)?;
    connection.facts.family = AF_UNIX;
    connection.inode = sk.inode();
    connection.peer = sk.unix_peer().map_or(0, Sock::address);
    filter::unix_added();
    latency::identify_path(connection, connection.peer);
    // Most often it is of the same upstream, whose place need not be looked for again.
    if let Some((series, place)) = known
        && series == connection.series
    {
        connection.place = place;
    }
    Some(connection)
}

/// A new entry for a socket. Where no hook sees an AF_UNIX socket's end, the next one at its address takes its
/// entry over.
#[inline(always)]
fn blank<'a>(sk: u64, earlier: Option<&'a mut Connection>) -> Option<&'a mut Connection> {
    // The initial value comes from a map, since it would fill most of the stack.
    let blank = BLANK_CONNECTION.get(0)?;
    if let Some(earlier) = earlier {
        kernel::copy_struct(earlier, blank);
        earlier.worker = task::tgid();
        earlier.facts.id = sk;
        return Some(earlier);
    }
    filter::socket_added(sk);
    if CONNECTIONS.insert(&sk, blank, u64::from(BPF_NOEXIST)).is_err() {
        filter::socket_removed(sk);
        emit::count_loss(loss::CONNECTIONS_FULL);
        return None;
    }
    let connection = get(sk)?;
    connection.worker = task::tgid();
    connection.facts.id = sk;
    Some(connection)
}

/// The observed socket, to be changed in place.
#[inline(always)]
pub fn get<'a>(sk: u64) -> Option<&'a mut Connection> {
    if filter::may_know_socket(sk) { look_up(sk) } else { None }
}

/// The observed socket: nginx's, or one of a process that serves it.
#[inline(always)]
pub fn any<'a>(sk: u64) -> Option<&'a mut Connection> {
    get(sk).or_else(|| onward::connection(sk))
}

/// nginx's, where `filter::may_know_socket` was asked before.
#[inline(always)]
pub fn look_up<'a>(sk: u64) -> Option<&'a mut Connection> {
    // SAFETY: map memory stays valid while a program runs; racing writers can only mix times of one socket.
    CONNECTIONS.get_ptr_mut(&sk).map(|connection| unsafe { &mut *connection })
}

/// The observed socket, unless what is at its address by now is another one.
#[inline(always)]
pub fn get_current<'a>(sk: impl Sock) -> Option<&'a mut Connection> {
    get(sk.address()).filter(|connection| is_current(connection, sk))
}

/// Whether the socket at an observed one's address is still that one. Where no hook sees the end of AF_UNIX
/// sockets, entries outlive them.
#[inline(always)]
pub fn is_current(connection: &Connection, sk: impl Sock) -> bool {
    connection.facts.family != AF_UNIX || connection.inode == sk.inode()
}

/// Stops to observe a socket.
#[inline(always)]
pub fn end(connection: &Connection, sk: u64) {
    // A key that was never published is not in the way.
    if connection.facts.established_at != 0 && connection.facts.family != AF_UNIX {
        let _ = PAIRS.remove(&connection.pair);
    }
    if CONNECTIONS.remove(&sk).is_ok() {
        filter::socket_removed(sk);
    }
}

/// The other end will send nothing more.
#[inline(always)]
pub fn fin_received(connection: &mut Connection, sk: impl Sock) {
    connection.facts.fin_at = emit::now();
    if let Some(progress) = sk.progress() {
        connection.facts.unacked_at_fin = progress.write_seq.wrapping_sub(progress.snd_una);
    }
}

/// Makes an established socket findable by its other end.
#[inline(always)]
pub fn publish(connection: &mut Connection, sk: impl Sock) {
    let Some(origins) = sk.origins() else { return };
    connection.pair = origins.of_client();
    if PAIRS.insert(&connection.pair, &sk.address(), 0).is_err() {
        emit::count_loss(loss::CONNECTIONS_FULL);
    }
}

/// The other end of an observed socket is established: how that one sees itself is kept, since its memory may be
/// another's by the time that somebody asks.
#[inline(always)]
pub fn joined(connection: &mut Connection, server: impl Sock) {
    connection.peer = server.address();
    let Some(ends) = server.ends() else { return };
    let facts = &mut connection.facts.server;
    facts.address = ends.local;
    facts.port = u16::from_be(ends.local_port);
    facts.family = server.family();
    facts.netns = netns_of(ends.net);
}

/// The observed socket, nginx's or one of those that serve it, whose other end `sk` is.
#[inline(always)]
pub fn of_peer<'a>(sk: impl Sock) -> Option<&'a mut Connection> {
    let pair = sk.origins()?.of_server();
    // SAFETY: the value is copied at once.
    match unsafe { PAIRS.get(&pair) }.copied() {
        Some(client) => get(client),
        None => onward::of_pair(&pair),
    }
}

/// Completes facts with what is read from the socket itself at this moment. `head` is room for its addresses, which is
/// not available on the stack below a uprobe.
#[inline(never)]
pub fn complete(facts: &mut SocketFacts, head: &mut SockCommon, sk: u64, peer: u64) {
    head.load(sk);
    facts.id = sk;
    facts.family = head.family();
    facts.state = head.get(offset!(skc_state)).unwrap_or(0);
    facts.netns = kernel::read_or(head.get(offset!(skc_net)).unwrap_or(0), offset!(net_inum), 0);
    if facts.errno == 0 {
        facts.errno = sk.error();
    }
    if facts.family == AF_UNIX {
        complete_unix(facts, sk);
        return;
    }
    let local_port = kernel::read_or(sk, offset!(inet_sport), 0u16);
    head.copy_addresses(&mut facts.local, &mut facts.remote);
    facts.local_port = u16::from_be(local_port);
    facts.remote_port = u16::from_be(head.get(offset!(skc_dport)).unwrap_or(0));
    facts.bytes_received = kernel::read_or(sk, offset!(tcp_bytes_received), u64::MAX);
    facts.bytes_acked = kernel::read_or(sk, offset!(tcp_bytes_acked), u64::MAX);
    facts.window = kernel::read_or(sk, offset!(tcp_snd_wnd), UNKNOWN);
    let Some(Progress { snd_una, write_seq, .. }) = sk.progress() else { return };
    facts.unacked = write_seq.wrapping_sub(snd_una);
    facts.first_unacked = snd_una;
    // SAFETY: copied at once.
    if let Some(refusal) = unsafe { REFUSALS.get(&snd_una) } {
        facts.refusal = *refusal;
    }
    complete_server(facts, sk, peer);
}

/// The other end's memory is only looked at while it is still the other end of this socket. Once it is closed, its
/// socket says nothing about what it was before.
#[inline(always)]
fn complete_server(facts: &mut SocketFacts, sk: u64, peer: u64) {
    let state = kernel::read_or(peer, offset!(skc_state), 0u8);
    if !matches!(state, ESTABLISHED | CLOSE_WAIT) || origins(peer).of_server() != origins(sk).of_client() {
        return;
    }
    let socket = socket_of(peer);
    facts.accepted = if socket == 0 { ACCEPTED_NO } else { ACCEPTED_YES };
    facts.server.inode = kernel::read_or(socket, offset!(socket_inode), 0);
    if let Some(progress) = peer.progress() {
        facts.server.unread = unread(&progress, state);
    }
}

/// As [`Sock::origins`], with zeros for what cannot be read: an `Option` that is compared is read whole, and verifiers
/// before 6.4 refuse to read what a `None` leaves unwritten.
#[inline(always)]
fn origins(sk: u64) -> Origins {
    let acked: u64 = kernel::read_or(sk, offset!(tcp_bytes_acked), 0);
    let received: u64 = kernel::read_or(sk, offset!(tcp_bytes_received), 0);
    Origins {
        sent: kernel::read_or(sk, offset!(tcp_snd_una), 0u32).wrapping_sub(acked as u32),
        received: kernel::read_or(sk, offset!(tcp_rcv_nxt), 0u32).wrapping_sub(received as u32),
    }
}

/// Bytes that arrived and are not read. The client's FIN takes a number as well.
#[inline(always)]
fn unread(progress: &Progress, state: u8) -> u32 {
    progress.rcv_nxt.wrapping_sub(progress.copied_seq).wrapping_sub(u32::from(state == CLOSE_WAIT))
}

#[inline(never)]
fn complete_unix(facts: &mut SocketFacts, sk: u64) {
    facts.bytes_received = u64::MAX;
    facts.bytes_acked = u64::MAX;
    facts.unacked = UNKNOWN;
    facts.window = UNKNOWN;
    let peer = sk.unix_peer().unwrap_or(0);
    if peer == 0 {
        return;
    }
    facts.path_len = unix_path(&mut facts.path, peer);
    let state = kernel::read_or(peer, offset!(skc_state), 0u8);
    // A released peer (TCP_CLOSE) has lost its socket, accepted or not.
    if state == ESTABLISHED {
        facts.accepted = if socket_of(peer) == 0 { ACCEPTED_NO } else { ACCEPTED_YES };
    }
}

/// Notes who closes the other end of a TCP connection, and what that one had of it; `state` is the one that it was in.
#[inline(always)]
pub fn server_closed(connection: &mut Connection, sk: impl Sock, state: u8, how: u32) {
    if connection.facts.closer.how != 0 {
        return;
    }
    peer_closed(connection, how);
    let Some(progress) = sk.progress() else { return };
    let Pair { client, server } = connection.pair;
    let closer = &mut connection.facts.closer;
    closer.unread = unread(&progress, state);
    closer.received = progress.rcv_nxt.wrapping_sub(client).wrapping_sub(u32::from(state == CLOSE_WAIT));
    closer.written = progress.write_seq.wrapping_sub(server);
}

/// Notes who closes the other end of a connection, in the closer's own context; the first one counts.
#[inline(never)]
pub fn peer_closed(connection: &mut Connection, how: u32) {
    if connection.facts.closer.how != 0 {
        return;
    }
    let current = task::current();
    let exiting = task::is_exiting(current);
    connection.facts.closer = CloserFacts {
        at: emit::now(),
        cgroup: task::cgroup(),
        process: task::process(current),
        how,
        exiting: u32::from(exiting),
        exit_code: if exiting { task::exit_code(current) } else { 0 },
        unread: UNKNOWN,
        received: UNKNOWN,
        written: UNKNOWN,
    };
}

/// A socket is gone: an upstream's, or perhaps that of a client that waits for its answer.
#[inline(always)]
pub fn released(sk: u64) {
    onward::released(sk);
    if !filter::may_know_socket(sk) {
        return;
    }
    match get(sk) {
        Some(connection) => {
            save_closed(connection, sk);
            end(connection, sk);
        }
        None => answer::client_ended(sk),
    }
}

/// Saves the socket that a worker closes: an error page that follows at once is about it, and where the error log
/// hides the failure's text nothing else shows it.
#[inline(never)]
pub fn save_closed(connection: &mut Connection, sk: u64) {
    if connection.saved != 0 || connection.worker != task::tgid() {
        return;
    }
    connection.saved = 1;
    latency::count(connection);
    // An answer came and nothing broke: an error page that is about it all the same (a bad header) has its text in
    // the error log, unless that hides it. And what an attempt has reported needs no second word.
    let well = connection.facts.first_byte_at != 0 && connection.facts.errno == 0;
    let superfluous = well || connection.reported != 0;
    if superfluous && !filter::hiding_log_seen() {
        return;
    }
    // SAFETY: read at once. A worker that is ending is not in the table any more, and sends no answers.
    let hides = unsafe { TRACED.get(&task::tgid()) }.map(|traced| traced.log_hides != 0);
    if hides.is_none() || (hides == Some(false) && superfluous) {
        return;
    }
    if let Some(thread) = thread::current() {
        kernel::copy_struct(&mut thread.closed, &connection.facts);
        complete(&mut thread.closed, &mut thread.head, sk, connection.peer);
    }
}
