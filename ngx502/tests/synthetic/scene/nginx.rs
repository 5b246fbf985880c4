//! What nginx says: attempts, error pages, answers.

use std::net::SocketAddr;

use bstr::BString;
use ngx502::event::*;

use super::Scene;

pub(crate) const CONNECTING: &str = "connecting to upstream";
pub(crate) const SENDING: &str = "sending request to upstream";
pub(crate) const READING: &str = "reading response header from upstream";
pub(crate) const HANDSHAKE: &str = "SSL handshaking to upstream";

/// What nginx says.
impl Scene {
    pub(crate) fn said(&self, peer: &str, text: &str, errno: i32, action: &str) -> Attempt {
        let via = match text {
            "connect() failed" | "recv() failed" | "readv() failed" | "writev() failed" => {
                Via::ConnectionError
            }
            _ => Via::Log,
        };
        let known = |text: &str| (!text.is_empty()).then(|| BString::from(text));
        Attempt {
            key: self.key(),
            index: 1,
            via,
            level: Some(4),
            errno: (errno != 0).then_some(errno),
            text: text.into(),
            action: known(action),
            peer: known(peer),
            ..Attempt::default()
        }
    }

    /// connect(2) to the upstream on this host was refused.
    pub(crate) fn refused(&self) -> Attempt {
        self.with_socket(self.unconnected(self.address()), &self.peer(), "connect() failed", 111, CONNECTING)
    }

    /// connect(2) to the AF_UNIX upstream failed at once.
    pub(crate) fn unix_failed(&self, errno: i32) -> Attempt {
        let sock = self.sock();
        Attempt {
            detail: Some(sock.as_str().into()),
            ..self.said(&sock, "connect() to %V failed", errno, CONNECTING)
        }
    }

    /// connect(2) to `remote` failed at once.
    pub(crate) fn tcp_failed(&self, remote: SocketAddr, errno: i32) -> Attempt {
        let peer = remote.to_string();
        Attempt {
            detail: Some(peer.as_str().into()),
            ..self.said(&peer, "connect() to %V failed", errno, CONNECTING)
        }
    }

    /// The upstream's end of this connection went away while nginx waited.
    pub(crate) fn closed(&self, socket: Socket) -> Attempt {
        self.on(socket, "upstream prematurely closed connection", 0, READING)
    }

    /// What nginx says of a connection.
    pub(crate) fn on(&self, socket: Socket, text: &str, errno: i32, action: &str) -> Attempt {
        let peer = match &socket.ends {
            Ends::Tcp { remote, .. } => remote.to_string(),
            Ends::Unix { .. } => self.sock(),
        };
        self.with_socket(socket, &peer, text, errno, action)
    }

    fn with_socket(&self, socket: Socket, peer: &str, text: &str, errno: i32, action: &str) -> Attempt {
        Attempt { socket: Some(Box::new(socket)), ..self.said(peer, text, errno, action) }
    }

    pub(crate) fn attempt(&mut self, attempt: Attempt) {
        self.feed(Body::Attempt(Box::new(attempt)));
    }

    /// nginx's own error page, as it is made of the request.
    pub(crate) fn error_page(&self, status: u16) -> Request {
        Request {
            key: self.key(),
            status,
            request_line: Some("GET /index.php?token=secret HTTP/1.1".into()),
            host: Some("shop.example".into()),
            client: Some("203.0.113.9".into()),
            log_level: Some(4),
            has_upstream: true,
            ..Request::default()
        }
    }

    pub(crate) fn page(&mut self, status: u16) {
        self.request(self.error_page(status));
    }

    pub(crate) fn request(&mut self, request: Request) {
        self.feed(Body::Request(Box::new(request)));
    }

    /// One attempt, and nginx's 502.
    pub(crate) fn fails(&mut self, attempt: Attempt) {
        self.attempt(attempt);
        self.page(502);
    }

    /// nginx answered the client.
    pub(crate) fn answer(&mut self, status: u16, last_state: Option<State>) {
        let states = if last_state.is_some() { 2 } else { 1 };
        self.feed(Body::Answer(Answer {
            key: self.key(),
            status: Some(status),
            states,
            last_state,
            client_gone: false,
        }));
    }

    /// A request whose failed attempt left no log line that was read: the level hides it, or the call was `missed`.
    pub(crate) fn unlogged(&mut self, missed: bool, state: State, closed: Option<Socket>) {
        let status = state.status;
        let (peer, closed) = (state.peer.clone(), closed.map(Box::new));
        let log_level = Some(if missed { 4 } else { 3 });
        self.request(Request {
            log_level,
            states: Some(vec![state]),
            peer,
            closed,
            ..self.error_page(status)
        });
    }
}

/// nginx's own account of an attempt that got no connection.
pub(crate) fn no_connection(status: u16, peer: &str) -> State {
    State { status, peer: (!peer.is_empty()).then(|| peer.into()), ..State::default() }
}

/// The same of one that was connected, and read so many bytes.
pub(crate) fn connected(status: u16, peer: &str, received: u64) -> State {
    State {
        connect_ms: Some(0),
        response_ms: Some(8),
        bytes_received: Some(received),
        ..no_connection(status, peer)
    }
}
