//! Which network namespaces are connected to which: by interfaces whose other end is in another one, as veth, macvlan and
//! netkit have it. An address that two of them call their own leads only to the one that a cable leads to.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use netlink_packet_core::{
    DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::sockets::{Netns, exchange};
use crate::event::Links;

/// What leads out of a namespace; `others` are those that may be at the other ends.
pub(super) fn of(netns: Netns, others: &[Netns]) -> io::Result<Links> {
    netns.run(|| {
        let mut outside = false;
        let mut unnamed = HashSet::new();
        exchange(NETLINK_ROUTE, LinkMessage::default(), true, |link| {
            outside |= link.is_hardware;
            unnamed.extend(link.other_end);
        })??;
        let mut to = Vec::new();
        for other in others.iter().filter(|other| other.inum != netns.inum) {
            if unnamed.is_empty() {
                break;
            }
            if number_of(*other)?.is_some_and(|number| unnamed.remove(&number)) {
                to.push(other.inum);
            }
        }
        Ok(Links { to, outside })
    })
}

/// Whether packets may go from one namespace to another, directly or through others.
pub(super) fn connected(from: Netns, to: Netns, others: &[Netns]) -> io::Result<bool> {
    let (mut seen, mut outside) = (HashSet::from([from.inum]), false);
    let mut next = vec![from];
    while let Some(netns) = next.pop() {
        let links = of(netns, others)?;
        outside |= links.outside;
        if links.to.contains(&to.inum) {
            return Ok(true);
        }
        next.extend(others.iter().filter(|other| links.to.contains(&other.inum) && seen.insert(other.inum)));
    }
    // Two that are each on a real network may meet there.
    Ok(outside && of(to, others)?.outside)
}

/// The number by which the calling thread's namespace knows another one, if it has an interface into that.
fn number_of(other: Netns) -> io::Result<Option<i32>> {
    let Ok(namespace) = File::open(format!("/proc/{}/ns/net", other.via)) else { return Ok(None) };
    let descriptor = u32::try_from(namespace.as_raw_fd()).map_err(io::Error::other)?;
    let mut question = NsidMessage::default();
    question.attributes = vec![NsidAttribute::Fd(descriptor)];
    let mut number = None;
    exchange(NETLINK_ROUTE, RouteNetlinkMessage::GetNsId(question), false, |answer| {
        if let RouteNetlinkMessage::NewNsId(answer) = answer {
            number = answer.attributes.iter().find_map(|attribute| match attribute {
                // -1: none.
                NsidAttribute::Id(number) => Some(*number).filter(|number| *number >= 0),
                _ => None,
            });
        }
    })??;
    Ok(number)
}

/// `RTM_GETLINK`, `IFLA_*` and `IFLA_INFO_KIND` (linux/rtnetlink.h, linux/if_link.h), `ARPHRD_LOOPBACK` (linux/if_arp.h).
const GET_LINK: u16 = 18;
const LINK_INFO: u16 = 18;
const LINK_NETNSID: u16 = 37;
const INFO_KIND: u16 = 1;
const LOOPBACK: u16 = 772;
/// The bytes of `struct ifinfomsg`.
const HEADER: usize = 16;

/// A question about all interfaces of a namespace, and of an answer what matters here: the whole would be decoded for
/// nothing, and left out where one of its hundred attributes is newer than the decoder.
#[derive(Clone, Copy, Debug, Default)]
struct LinkMessage {
    /// The number of the namespace of its other end.
    other_end: Option<i32>,
    /// Not made by software: neither loopback nor of a kind.
    is_hardware: bool,
}

impl NetlinkSerializable for LinkMessage {
    fn message_type(&self) -> u16 {
        GET_LINK
    }

    fn buffer_len(&self) -> usize {
        HEADER
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

impl NetlinkDeserializable for LinkMessage {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let Some((header, attributes)) = payload.split_at_checked(HEADER) else {
            return Err("an interface without a header".into());
        };
        let (mut other_end, mut has_kind) = (None, false);
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            match attribute.kind() {
                LINK_NETNSID => other_end = attribute.value().first_chunk().copied().map(i32::from_ne_bytes),
                LINK_INFO => {
                    let mut inner = NlasIterator::new(attribute.value());
                    has_kind = inner.any(|inner| inner.is_ok_and(|inner| inner.kind() == INFO_KIND));
                }
                _ => {}
            }
        }
        let loopback = header.get(2..4) == Some(&LOOPBACK.to_ne_bytes()[..]);
        Ok(Self { other_end, is_hardware: !loopback && !has_kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Pid;

    #[test]
    fn the_own_namespace_is_not_linked_to_itself() {
        let own = Netns::of(Pid(std::process::id())).expect("a namespace");
        let links = of(own, &[own]).expect("an answer");
        assert!(links.to.is_empty(), "{links:?}");
    }

    #[test]
    fn a_kind_and_the_other_ends_number_are_read_and_a_cut_answer_is_refused() {
        let mut payload = vec![0; HEADER];
        payload.extend([[8, 0, 37, 0], 3i32.to_ne_bytes()].concat());
        let decode = |payload: &[u8]| LinkMessage::deserialize(&NetlinkHeader::default(), payload);
        let bare = decode(&payload).expect("an interface");
        assert_eq!((bare.other_end, bare.is_hardware), (Some(3), true));
        payload.extend([12, 0, 18, 0, 8, 0, 1, 0, b'v', b'e', b't', b'h']);
        assert!(!decode(&payload).expect("an interface").is_hardware);
        assert!(decode(&payload[..HEADER - 1]).is_err());
    }
}
