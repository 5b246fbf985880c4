//! What the routing table answers, asked as a worker: the same look-up that connect(2) makes.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::access::Credentials;
use super::sockets::Netns;
use crate::event::{Pid, RouteLookup};

/// Larger than the answer about one route.
const RECEIVE_BYTES: usize = 16 * 1024;

/// Looks the route up in the worker's namespace, with its user id, since rules may depend on it.
///
/// # Errors
///
/// The worker is gone, its namespace cannot be entered, or the kernel gives no answer.
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
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // The kernel answers within send itself: waiting would only ever wait for nothing.
    socket.set_non_blocking(true)?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut packet = NetlinkMessage::new(header, RouteNetlinkMessage::GetRoute(message).into());
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = vec![0; RECEIVE_BYTES];
    let size = socket.recv(&mut &mut buffer[..], 0)?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(buffer.get(..size).unwrap_or(&[]));
    match answer.map_err(io::Error::other)?.payload {
        NetlinkPayload::Error(error) => Ok(error.to_io().raw_os_error()),
        NetlinkPayload::InnerMessage(_) => Ok(None),
        other => Err(io::Error::other(format!("an answer of another kind: {other:?}"))),
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
