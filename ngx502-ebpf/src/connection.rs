//! What is known of nginx's upstream sockets, and how it becomes [`SocketFacts`].

use ngx502_common::{
    config::loss,
    connection::Connection,
    event::{ACCEPTED_NO, ACCEPTED_YES, CloserFacts, SocketFacts},
};

use crate::{
    emit,
    kernel::{self, offset},
    latency,
    maps::{BLANK_CONNECTION, CONNECTIONS, TUPLES, Tuple},
    task,
};

pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;

/// TCP_ESTABLISHED, also of AF_UNIX.
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;

/// The socket's address family.
#[inline(always)]
pub fn family(sk: u64) -> u16 {
    kernel::read_or(sk, offset!(skc_family), 0)
}

/// The socket's network namespace.
#[inline(always)]
pub fn netns(sk: u64) -> u32 {
    let net = kernel::read_or(sk, offset!(skc_net), 0u64);
    kernel::read_or(net, offset!(net_inum), 0)
}

/// `sk->sk_socket`: 0 for an orphan or a connection that nobody accepted.
#[inline(always)]
pub fn socket_of(sk: u64) -> u64 {
    kernel::read_or(sk, offset!(sk_socket), 0)
}

/// The inode number of the socket; 0 for an orphan.
#[inline(always)]
pub fn inode(sk: u64) -> u64 {
    kernel::read_or(socket_of(sk), offset!(socket_inode), 0)
}

/// Starts to observe an upstream socket of the current worker.
#[inline(never)]
pub fn begin<'a>(sk: u64) -> Option<&'a mut Connection> {
    // The initial value comes from a map, since it would fill most of the stack.
    let blank = BLANK_CONNECTION.get(0)?;
    if CONNECTIONS.insert(&sk, blank, 0).is_err() {
        emit::count_loss(loss::CONNECTIONS_FULL);
        return None;
    }
    let connection = get(sk)?;
    connection.worker = task::tgid();
    connection.facts.id = sk;
    connection.facts.connect_at = emit::now();
    connection.facts.family = family(sk);
    connection.facts.netns = netns(sk);
    connection.inode = inode(sk);
    latency::identify(connection, sk);
    Some(connection)
}

/// The observed socket, to be changed in place.
#[inline(always)]
pub fn get<'a>(sk: u64) -> Option<&'a mut Connection> {
    // SAFETY: map memory stays valid while a program runs; racing writers can only mix times of one socket.
    CONNECTIONS.get_ptr_mut(&sk).map(|connection| unsafe { &mut *connection })
}

/// The observed socket, unless it is an earlier AF_UNIX one at the same address: where no hook tells of their end,
/// entries outlive their sockets.
#[inline(always)]
pub fn get_current<'a>(sk: u64) -> Option<&'a mut Connection> {
    get(sk).filter(|connection| connection.facts.family != AF_UNIX || connection.inode == inode(sk))
}

/// Stops to observe a socket.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn end(sk: u64) -> u32 {
    if let Some(tuple) = tuple(sk).map(reversed) {
        let _ = TUPLES.remove(&tuple);
    }
    let _ = CONNECTIONS.remove(&sk);
    0
}

/// Makes an established socket findable by its other end.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn publish(sk: u64) -> u32 {
    if let Some(tuple) = tuple(sk).map(reversed)
        && TUPLES.insert(&tuple, &sk, 0).is_err()
    {
        emit::count_loss(loss::CONNECTIONS_FULL);
    }
    0
}

/// The observed nginx socket whose other end `sk` is.
#[inline(never)]
pub fn of_peer<'a>(sk: u64) -> Option<&'a mut Connection> {
    let tuple = tuple(sk)?;
    // SAFETY: the value is copied at once.
    let client = *unsafe { TUPLES.get(&tuple) }?;
    get(client)
}

#[inline(always)]
fn reversed(tuple: Tuple) -> Tuple {
    Tuple {
        local: tuple.remote,
        remote: tuple.local,
        local_port: tuple.remote_port,
        remote_port: tuple.local_port,
        netns: tuple.netns,
    }
}

/// The addresses as `sk` sees them. IPv4-mapped IPv6 becomes IPv4, since the two ends may differ in that.
#[inline(always)]
fn tuple(sk: u64) -> Option<Tuple> {
    let (local, remote) = addresses(sk)?;
    let local_port = kernel::read(sk, offset!(inet_sport))?;
    let remote_port = kernel::read(sk, offset!(skc_dport))?;
    let loopback = local[0] == 127 || (local[..15] == [0; 15] && local[15] == 1);
    Some(Tuple { local, remote, local_port, remote_port, netns: if loopback { netns(sk) } else { 0 } })
}

/// (local, remote); IPv4 in the first four bytes.
#[inline(always)]
pub fn addresses(sk: u64) -> Option<([u8; 16], [u8; 16])> {
    match family(sk) {
        AF_INET => {
            let local: [u8; 4] = kernel::read(sk, offset!(skc_rcv_saddr))?;
            let remote: [u8; 4] = kernel::read(sk, offset!(skc_daddr))?;
            Some((widen(local), widen(remote)))
        }
        AF_INET6 => {
            let local: [u8; 16] = kernel::read(sk, offset!(skc_v6_rcv_saddr))?;
            let remote: [u8; 16] = kernel::read(sk, offset!(skc_v6_daddr))?;
            Some((unmapped(local), unmapped(remote)))
        }
        _ => None,
    }
}

#[inline(always)]
fn widen(address: [u8; 4]) -> [u8; 16] {
    let mut wide = [0; 16];
    (wide[0], wide[1], wide[2], wide[3]) = (address[0], address[1], address[2], address[3]);
    wide
}

#[inline(always)]
fn unmapped(address: [u8; 16]) -> [u8; 16] {
    let mapped = address[..10] == [0; 10] && address[10] == 0xff && address[11] == 0xff;
    if mapped { widen([address[12], address[13], address[14], address[15]]) } else { address }
}

/// Completes facts with what is read from the socket itself at this moment.
#[inline(never)]
pub fn complete(facts: &mut SocketFacts, sk: u64, peer: u64) {
    facts.id = sk;
    facts.family = family(sk);
    facts.state = kernel::read_or(sk, offset!(skc_state), 0u8);
    facts.netns = netns(sk);
    if facts.errno == 0 {
        facts.errno = kernel::read_or(sk, offset!(sk_err), 0i32);
    }
    if facts.family == AF_UNIX {
        complete_unix(facts, sk);
        return;
    }
    if let Some((local, remote)) = addresses(sk) {
        facts.local = local;
        facts.remote = remote;
        facts.local_port = u16::from_be(kernel::read_or(sk, offset!(inet_sport), 0));
        facts.remote_port = u16::from_be(kernel::read_or(sk, offset!(skc_dport), 0));
    }
    facts.bytes_received = kernel::read_or(sk, offset!(tcp_bytes_received), u64::MAX);
    facts.bytes_acked = kernel::read_or(sk, offset!(tcp_bytes_acked), u64::MAX);
    // The peer's memory is only looked at while it is still the other end of this socket.
    // Once it is closed, its socket says nothing about what it was before.
    let open = matches!(kernel::read_or(peer, offset!(skc_state), 0u8), ESTABLISHED | CLOSE_WAIT);
    if open
        && tuple(peer)
            .map(reversed)
            .is_some_and(|seen| Some(seen.local_port) == kernel::read(sk, offset!(inet_sport)))
    {
        facts.accepted = if socket_of(peer) == 0 { ACCEPTED_NO } else { ACCEPTED_YES };
    }
}

/// `sockaddr_un.sun_path` follows the two bytes of the family.
const SUN_PATH: u64 = 2;
/// `UNIX_PATH_MAX`.
const SUN_PATH_MAX: usize = 108;

#[inline(never)]
fn complete_unix(facts: &mut SocketFacts, sk: u64) {
    facts.bytes_received = u64::MAX;
    facts.bytes_acked = u64::MAX;
    let peer = kernel::read_or(sk, offset!(unix_peer), 0u64);
    if peer == 0 {
        return;
    }
    unix_path(facts, peer);
    let state = kernel::read_or(peer, offset!(skc_state), 0u8);
    // A released peer (TCP_CLOSE) has lost its socket, accepted or not.
    if state == ESTABLISHED {
        facts.accepted = if socket_of(peer) == 0 { ACCEPTED_NO } else { ACCEPTED_YES };
    }
}

/// Copies the path that a unix socket is bound to; an accepted one shares its listener's.
#[inline(always)]
pub fn unix_path(facts: &mut SocketFacts, sk: u64) {
    let address = kernel::read_or(sk, offset!(unix_addr), 0u64);
    if address == 0 {
        return;
    }
    let len = kernel::read_or(address, offset!(unix_address_len), 0u32);
    let path = address + u64::from(offset!(unix_address_name)) + SUN_PATH;
    if len as u64 > SUN_PATH && kernel::copy_prefix::<112, SUN_PATH_MAX>(&mut facts.path, path) {
        let len = (len as u64 - SUN_PATH) as u16;
        facts.path_len = if len > SUN_PATH_MAX as u16 { SUN_PATH_MAX as u16 } else { len };
    }
}

/// Notes who closes the other end of a connection, in the closer's own context; the first one counts.
#[inline(never)]
pub fn peer_closed(connection: &mut Connection, how: u32) {
    if connection.facts.closer.how != 0 {
        return;
    }
    let current = task::current();
    connection.facts.closer = CloserFacts {
        at: emit::now(),
        cgroup: task::cgroup(),
        process: task::process(current),
        how,
        exiting: u32::from(task::is_exiting(current)),
        exit_code: task::exit_code(current),
        reserved: 0,
    };
}
