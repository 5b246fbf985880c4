//! What the processes that serve nginx connect to themselves. A proxy's own attempt that failed is why nginx's did, so
//! each one's latest connections are kept with all that is kept of nginx's own, for when user space asks.

use aya_ebpf::bindings::BPF_NOEXIST;
use ngx502_common::{
    connection::{Connection, Pair},
    net::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, LAST_ACK, SYN_SENT},
    onward::{Onward, RECENT_LEN, Recent},
};

use crate::{
    connection, emit, filter,
    maps::{BLANK_ONWARD, BLANK_RECENT, HOLDERS, ONWARD, ONWARD_PAIRS, ONWARD_SOCKETS, RECENT},
    sock::{self, Sock},
    state::SockCommon,
    task,
};

/// A process connects: it counts where it may hold a listener, since only such a one serves anybody.
#[inline(always)]
pub fn begin(sk: impl Sock) {
    let tgid = task::tgid();
    // SAFETY: only looked at for presence.
    if unsafe { HOLDERS.get(&tgid) }.is_some() {
        begin_of(tgid, sk);
    }
}

#[inline(always)]
fn begin_of(tgid: u32, sk: impl Sock) {
    // No two connects of one machine have the same nanosecond and the same process.
    let now = emit::now();
    let key = now ^ (u64::from(tgid) << 40);
    let (Some(blank), Some(recent)) = (BLANK_ONWARD.get(0), recent_of(tgid)) else { return };
    if ONWARD.insert(&key, blank, u64::from(BPF_NOEXIST)).is_err() {
        return;
    }
    let Some(onward) = by_key(key) else { return };
    onward.connection.worker = tgid;
    let facts = &mut onward.connection.facts;
    facts.id = key;
    facts.connect_at = now;
    facts.family = sk.family();
    if let Some(ends) = sk.ends() {
        facts.remote = ends.remote;
        facts.remote_port = u16::from_be(ends.remote_port);
        facts.netns = sock::netns_of(ends.net);
    }
    let address = sk.address();
    if ONWARD_SOCKETS.insert(&address, &key, 0).is_ok() {
        filter::onward_added(address);
    }
    // SAFETY: masked to the array; racing threads of the process may lose a place to each other.
    unsafe { *recent.keys.as_mut_ptr().add(recent.count as usize & (RECENT_LEN - 1)) = key };
    recent.count += 1;
}

/// The current process's entry.
#[inline(always)]
fn recent_of<'a>(tgid: u32) -> Option<&'a mut Recent> {
    let process = task::process(task::current());
    // SAFETY: map memory stays valid while a program runs.
    let known = |tgid: &u32| RECENT.get_ptr_mut(tgid).map(|recent| unsafe { &mut *recent });
    if let Some(recent) = known(&tgid).filter(|recent| recent.process.start == process.start) {
        return Some(recent);
    }
    RECENT.insert(&tgid, BLANK_RECENT.get(0)?, 0).ok()?;
    let recent = known(&tgid)?;
    recent.process = process;
    Some(recent)
}

/// A connection under observation, to be changed in place.
#[inline(always)]
pub fn get<'a>(sk: u64) -> Option<&'a mut Onward> {
    if !filter::may_be_onward(sk) {
        return None;
    }
    // SAFETY: copied at once.
    by_key(*unsafe { ONWARD_SOCKETS.get(&sk) }?).filter(|onward| onward.ended_at == 0)
}

/// The same, as what it has in common with nginx's own.
#[inline(always)]
pub fn connection<'a>(sk: u64) -> Option<&'a mut Connection> {
    get(sk).map(|onward| &mut onward.connection)
}

/// The connection whose two ends have these numbers.
#[inline(always)]
pub fn of_pair<'a>(pair: &Pair) -> Option<&'a mut Connection> {
    if !filter::onward_seen() {
        return None;
    }
    // SAFETY: copied at once.
    by_key(*unsafe { ONWARD_PAIRS.get(pair) }?).map(|onward| &mut onward.connection)
}

#[inline(always)]
fn by_key<'a>(key: u64) -> Option<&'a mut Onward> {
    // SAFETY: map memory stays valid while a program runs.
    ONWARD.get_ptr_mut(&key).map(|onward| unsafe { &mut *onward })
}

/// Its socket changed from one TCP state to another.
#[inline(always)]
pub fn changed(onward: &mut Onward, sk: impl Sock, old: u8, new: u8) {
    let connection = &mut onward.connection;
    match (old, new) {
        (SYN_SENT, ESTABLISHED) => {
            connection.facts.established_at = emit::now();
            if let Some(ends) = sk.ends() {
                connection.facts.local = ends.local;
                connection.facts.local_port = u16::from_be(ends.local_port);
            }
            if let Some(origins) = sk.origins() {
                connection.pair = origins.of_client();
                let _ = ONWARD_PAIRS.insert(&connection.pair, &connection.facts.id, 0);
            }
        }
        (ESTABLISHED, CLOSE_WAIT) => {
            connection::fin_received(connection, sk);
            complete(connection, sk.address());
        }
        (_, CLOSE) => {
            if connection.facts.errno == 0 {
                connection.facts.errno = sk.error();
            }
            let facts = &connection.facts;
            if facts.errno == 0 && facts.fin_at == 0 && facts.reset_at == 0 {
                onward.closed_at = emit::now();
            }
            ended(onward, sk.address());
        }
        (ESTABLISHED, FIN_WAIT1) => {
            onward.closed_at = emit::now();
            ended(onward, sk.address());
        }
        (CLOSE_WAIT, LAST_ACK) => ended(onward, sk.address()),
        _ => {}
    }
}

#[inline(always)]
fn ended(onward: &mut Onward, sk: u64) {
    if onward.connection.facts.fin_at == 0 {
        complete(&mut onward.connection, sk);
    }
    onward.ended_at = emit::now();
}

/// Reads what only the living socket tells.
#[inline(never)]
fn complete(connection: &mut Connection, sk: u64) {
    let mut head = SockCommon::EMPTY;
    let peer = connection.peer;
    connection::complete(&mut connection.facts, &mut head, sk, peer);
}

/// A socket is gone.
#[inline(always)]
pub fn released(sk: u64) {
    if !filter::may_be_onward(sk) {
        return;
    }
    if let Some(onward) = get(sk) {
        ended(onward, sk);
    }
    if ONWARD_SOCKETS.remove(&sk).is_ok() {
        filter::onward_removed(sk);
    }
}
