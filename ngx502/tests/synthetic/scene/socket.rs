//! The upstream's socket, and who closed its other end.

use std::net::SocketAddr;

use ngx502::event::*;

use super::Scene;
use crate::synthetic::NETNS;

/// The upstream's socket.
impl Scene {
    /// A connection to the upstream on this host over which the request was sent.
    pub(crate) fn socket(&self) -> Socket {
        self.socket_to(self.address())
    }

    pub(crate) fn socket_to(&self, remote: SocketAddr) -> Socket {
        let local = if remote.ip().is_loopback() { [127, 0, 0, 1] } else { [192, 0, 2, 10] };
        Socket {
            id: 0xffff_8881_0000_0000 + u64::from(self.number) * 2_368,
            netns: NETNS,
            ends: Ends::Tcp { local: (local, self.port(40_000)).into(), remote },
            state: 1,
            connect_at: Some(self.before(8_500)),
            established_at: Some(self.before(8_450)),
            sent_at: Some(self.before(8_400)),
            first_byte_at: None,
            fin_at: None,
            reset_at: None,
            reset_sent_at: None,
            errno: None,
            icmp: None,
            retransmits: 0,
            bytes_received: None,
            bytes_acked: None,
            request_bytes: None,
            unacked_at_fin: None,
            unacked: Some(0),
            window: None,
            refusal: None,
            server: None,
            requests: 1,
            queue: None,
            accepted: None,
            closer: None,
            owner: None,
        }
    }

    /// A socket that has begun to connect.
    pub(crate) fn unconnected(&self, remote: SocketAddr) -> Socket {
        let connect_at = Some(self.before(90));
        Socket {
            state: 2,
            connect_at,
            established_at: None,
            sent_at: None,
            requests: 0,
            ..self.socket_to(remote)
        }
    }

    /// An AF_UNIX socket that could not connect.
    pub(crate) fn unix_unconnected(&self, path: &str) -> Socket {
        let ends = Ends::Unix { path: path.into() };
        Socket { ends, ..self.unconnected(self.address()) }
    }

    /// An AF_UNIX connection, which `owner` read from last.
    pub(crate) fn unix_socket(&self, owner: Option<ProcessRef>) -> Socket {
        let ends = Ends::Unix { path: self.path().into() };
        Socket { ends, connect_at: None, established_at: None, owner, ..self.socket() }
    }

    /// Who closed the other end while it lived.
    pub(crate) fn closer(&self, process: ProcessRef, how: CloseKind) -> Option<Closer> {
        let (at, unread, received, written) = (self.before(300), None, None, None);
        Some(Closer { process, at, how, exiting: false, exit_code: 0, cgroup: 0, unread, received, written })
    }

    /// Who closed it as it died.
    pub(crate) fn dying(&self, process: ProcessRef, exit_code: i32) -> Option<Closer> {
        let closer = self.closer(process, CloseKind::Closed)?;
        Some(Closer { exiting: true, exit_code, ..closer })
    }
}
