//! What the routing table answers, asked as a worker: the same look-up that connect(2) makes.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::access::Credentials;
use super::sockets::{Netns, exchange};
use crate::event::{Pid, RouteLookup};

/// Looks the route up in the worker's namespace, with its user id, since rules may depend on it. An error when the worker is
/// gone, its namespace cannot be entered, or the kernel gives no answer.
pub(super) fn towards(worker: Pid, to: IpAddr) -> io::Result<RouteLookup> {
    let (netns, uid) = (Netns::of(worker)?, Credentials::of(worker)?.uid);
    let to = to.to_canonical();
    let errno = netns.run(|| ask(to, uid))?;
    Ok(RouteLookup { worker, to, netns: netns.inum, errno })
}

/// The errno that the kernel answers; `None` for a route.
fn ask(to: IpAddr, uid: u32) -> io::Result<Option<i32>> {
    let mut message = RouteMessage::default();
    let (family, address, bits) = match to {
        IpAddr::V4(ip) => (AddressFamily::Inet, RouteAddress::Inet(ip), 32),
        IpAddr::V6(ip) => (AddressFamily::Inet6, RouteAddress::Inet6(ip), 128),
    };
    (message.header.address_family, message.header.destination_prefix_length) = (family, bits);
    message.attributes = vec![RouteAttribute::Destination(address), RouteAttribute::Uid(uid)];
    let mut found = false;
    let request = RouteNetlinkMessage::GetRoute(message);
    match exchange(NETLINK_ROUTE, request, false, |_| found = true)? {
        Err(refusal) => Ok(refusal.raw_os_error()),
        Ok(()) if found => Ok(None),
        Ok(()) => Err(io::Error::other("an answer of another kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_a_route_for_everybody() {
        let own = Pid(std::process::id());
        for to in ["127.0.0.1", "::ffff:127.0.0.2"] {
            let to: IpAddr = to.parse().expect("an address");
            let found = towards(own, to).expect("an answer");
            assert_eq!((found.to, found.errno), (to.to_canonical(), None));
        }
        assert!(towards(Pid(u32::MAX), IpAddr::from([127, 0, 0, 1])).is_err());
    }
}
