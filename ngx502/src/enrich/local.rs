//! Which addresses a network namespace calls its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bstr::ByteSlice as _;

use super::links;
use super::sockets::Netns;
use crate::event::{ADDRESSES_MAX, Owner};
use crate::proc;

/// Routing tables beyond this are not searched: the host is a router, and the answer would take too long.
const TABLE_BYTES: u64 = 1024 * 1024;

/// Where a connect from `from` to `ip` ends: its own namespace, or the only other one that has the address and is
/// connected to it; else who owns it.
pub(super) fn namespace_of(ip: IpAddr, from: Netns, others: &[Netns]) -> Result<Netns, Owner> {
    let ip = ip.to_canonical();
    if ip.is_loopback() || ip.is_unspecified() || has(from, ip) {
        return Ok(from);
    }
    let mut only = None;
    for netns in others.iter().filter(|netns| netns.inum != from.inum && has(**netns, ip)) {
        match links::connected(from, *netns, others) {
            Ok(false) => {}
            Ok(true) if only.is_none() => only = Some(*netns),
            Ok(true) => return Err(Owner::Several),
            Err(error) => {
                log::debug!("whether {ip} is reached in namespace {} is not known: {error}", netns.inum);
                return Err(Owner::Several);
            }
        }
    }
    only.ok_or(Owner::Nobody)
}

/// A namespace's addresses, loopback left out.
pub(super) fn addresses(netns: Netns) -> Vec<IpAddr> {
    let (v4, v6) = (table(netns, "fib_trie"), table(netns, "if_inet6"));
    let all = local_v4(&v4).map(IpAddr::V4).chain(local_v6(&v6).map(IpAddr::V6));
    let mut found = Vec::new();
    for ip in all.filter(|ip| !ip.is_loopback()) {
        // The trie lists an address once for each of its tables.
        if found.len() < ADDRESSES_MAX && !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

fn has(netns: Netns, ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => local_v4(&table(netns, "fib_trie")).any(|own| own == ip),
        IpAddr::V6(ip) => local_v6(&table(netns, "if_inet6")).any(|own| own == ip),
    }
}

fn table(netns: Netns, name: &str) -> Vec<u8> {
    proc::read_at_most(TABLE_BYTES, &format!("/proc/{}/net/{name}", netns.via)).unwrap_or_else(|error| {
        log::debug!("{name} cannot be read, so a namespace has no known addresses: {error}");
        Vec::new()
    })
}

/// The leaves of `/proc/net/fib_trie` (`|-- 10.0.0.5`) that are followed by `/32 host LOCAL`.
fn local_v4(text: &[u8]) -> impl Iterator<Item = Ipv4Addr> {
    let mut leaf = None;
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(address) = line.strip_prefix(b"|-- ") {
            leaf = address.to_str().ok()?.parse().ok();
            return None;
        }
        line.starts_with(b"/32 host LOCAL").then_some(leaf)?
    })
}

/// The first column of `/proc/net/if_inet6`: 32 hexadecimal digits.
fn local_v6(text: &[u8]) -> impl Iterator<Item = Ipv6Addr> {
    text.lines().filter_map(|line| {
        let digits = line.fields().next().filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(digits.to_str().ok()?, 16).ok().map(Ipv6Addr::from_bits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_host_leaves_are_own_addresses() {
        let text = b"Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.0.0.5\n        \
                     /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n";
        assert_eq!(local_v4(text).collect::<Vec<_>>(), [Ipv4Addr::new(10, 0, 0, 5)]);
    }

    #[test]
    fn an_ipv6_address_is_the_first_column() {
        let text = b"00000000000000000000000000000001 01 80 10 80       lo\nzz\n\n";
        assert_eq!(local_v6(text).collect::<Vec<_>>(), [Ipv6Addr::LOCALHOST]);
    }
}
