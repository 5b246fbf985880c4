//! Waiting that ended without an answer.

use ngx502::event::*;

use super::Case;
use crate::synthetic::scene::{CONNECTING, READING, SENDING, Scene, connected};

/// Whose queue it is.
fn server(s: &Scene, comm: &str) -> ProcessRef {
    s.process(812, comm)
}

/// The backlog of the AF_UNIX socket is full; a look-up finds this program there.
fn backlog(s: &mut Scene, comm: &str, busy: Option<bool>) {
    s.feed(s.queued(s.unix(), (129, 128), vec![server(s, comm)], busy));
    s.fails(s.unix_failed(11));
}

/// The SYN to this host was not answered; a look-up found this queue, or nothing.
fn silent(s: &mut Scene, lookup: Option<Body>) {
    s.after(60);
    s.feed_all(lookup);
    let connect_at = Some(s.before(60_001_000));
    let socket = Socket { connect_at, retransmits: 2, ..s.unconnected(s.address()) };
    s.attempt(s.on(socket, "upstream timed out", 110, CONNECTING));
    s.page(504);
}

/// The request was not answered in time.
pub(super) fn unanswered(s: &mut Scene, socket: Socket) {
    let waited = Socket {
        connect_at: Some(s.before(60_001_000)),
        established_at: Some(s.before(60_000_900)),
        sent_at: Some(s.before(60_000_800)),
        ..socket
    };
    s.attempt(s.on(waited, "upstream timed out", 110, READING));
    s.page(504);
}

/// A look-up found the server's end in these hands.
pub(super) fn other_end(s: &Scene, accepted: Option<bool>, holders: Vec<ProcessRef>, unread: u32) -> Body {
    Body::PeerSocket(PeerSocket {
        of: s.socket().id,
        accepted,
        holders,
        unread: Some(unread),
        ..PeerSocket::default()
    })
}

fn waits_in_queue(s: &mut Scene, comm: &str, busy: Option<bool>) {
    s.after(60);
    s.feed(s.queued(s.tcp(), (5, 511), vec![server(s, comm), s.second()], busy));
    s.feed(other_end(s, Some(false), vec![], 78));
    unanswered(s, s.socket());
}

pub(super) const CASES: &[Case] = &[
    ("an upgraded connection that is silent", |s| {
        let socket = Socket {
            first_byte_at: Some(s.before(61_000_000)),
            unacked: Some(0),
            owner: Some(server(s, "node")),
            ..s.socket()
        };
        s.attempt(s.on(socket, "upstream timed out", 110, "proxying upgraded connection"));
        s.answer(101, None);
    }),
    ("php-fpm's backlog, its workers busy", |s| {
        s.php_fpm();
        backlog(s, "php-fpm8.2", Some(true));
    }),
    ("gunicorn's backlog, a worker idle", |s| backlog(s, "gunicorn", Some(false))),
    ("uwsgi's backlog, its workers not seen", |s| backlog(s, "uwsgi", None)),
    ("another server's backlog", |s| backlog(s, "node", Some(true))),
    ("a backlog that the connect met, and no look-up", |s| {
        let queue = Some(Queue { length: 3, limit: 2 });
        let socket = Socket { queue, ..s.unix_unconnected(&s.path()) };
        let full = s.unix_failed(11);
        s.fails(Attempt { socket: Some(Box::new(socket)), ..full });
    }),
    ("a backlog of which nothing is known", |s| s.fails(s.unix_failed(11))),
    ("a SYN that met a full queue", |s| {
        let full = s.queued(s.tcp(), (129, 128), vec![s.app()], Some(true));
        silent(s, Some(full));
    }),
    ("a request that a full queue never acknowledged", |s| {
        s.after(60);
        s.feed(s.queued(s.tcp(), (129, 128), vec![s.app()], Some(true)));
        let socket = Socket { retransmits: 4, bytes_acked: Some(0), accepted: Some(false), ..s.socket() };
        unanswered(s, socket);
    }),
    ("in the queue of busy workers", |s| waits_in_queue(s, "php-fpm8.2", Some(true))),
    ("in the queue of an idle worker", |s| waits_in_queue(s, "gunicorn", Some(false))),
    ("not accepted, and no look-up", |s| {
        s.after(60);
        unanswered(s, Socket { accepted: Some(false), ..s.socket() });
    }),
    ("a worker that a look-up found with the connection", |s| {
        s.php_fpm();
        s.after(60);
        s.feed(other_end(s, Some(true), vec![s.app()], 0));
        unanswered(s, s.socket());
    }),
    ("a worker that has not read all of the request", |s| {
        s.after(60);
        s.feed(other_end(s, Some(true), vec![s.app()], 1_448));
        unanswered(s, s.socket());
    }),
    ("accepted, by whom is not known", |s| {
        s.after(60);
        s.feed(other_end(s, Some(true), vec![], 0));
        unanswered(s, Socket { accepted: Some(true), ..s.socket() });
    }),
    ("a response that stopped in its header", |s| {
        s.after(60);
        unanswered(s, Socket { first_byte_at: Some(s.before(59_000_000)), ..s.socket() });
    }),
    ("a request that could not be sent in time", |s| {
        s.after(60);
        let began = Some(s.before(60_000_900));
        let moments = Socket { connect_at: began, established_at: began, sent_at: began, ..s.socket() };
        let socket = Socket { accepted: Some(true), ..moments };
        s.attempt(s.on(socket, "upstream timed out", 110, SENDING));
        s.page(504);
    }),
    ("a socket that was not observed, and an empty queue", |s| {
        s.feed(s.queued(s.unix(), (0, 511), vec![s.app()], None));
        s.attempt(s.said(&s.sock(), "upstream timed out", 110, READING));
        let state = State { connect_ms: Some(0), response_ms: Some(60_000), ..State::default() };
        s.request(Request { states: Some(vec![State { status: 504, ..state }]), ..s.error_page(504) });
    }),
    ("the same, and how long it took is not known", |s| {
        s.feed(s.queued(s.unix(), (0, 511), vec![s.app()], None));
        let state = State { response_ms: None, ..connected(504, &s.sock(), 0) };
        s.unlogged(false, state, None);
    }),
    ("a socket that was not observed", |s| {
        s.attempt(s.said(&s.peer(), "upstream timed out", 110, READING));
        s.page(504);
    }),
    ("a request that another host's path lost", |s| {
        s.after(60);
        let lost = Socket {
            retransmits: 3,
            unacked: Some(139),
            request_bytes: Some(139),
            ..s.socket_to(s.remote())
        };
        unanswered(s, lost);
    }),
    ("a request that is dropped between two ends on this host", |s| {
        s.after(60);
        let accepted = Some(true);
        unanswered(
            s,
            Socket { retransmits: 3, unacked: Some(139), window: Some(64_000), accepted, ..s.socket() },
        );
    }),
    ("a request that another host acknowledged", |s| {
        s.after(60);
        s.feed(s.owned(s.remote(), Owner::Nobody));
        unanswered(s, Socket { request_bytes: Some(139), ..s.socket_to(s.remote()) });
    }),
    ("a worker that stopped reading", |s| {
        s.php_fpm();
        s.after(60);
        s.feed(other_end(s, Some(true), vec![s.app()], 65_536));
        let socket = Socket { unacked: Some(9_000), window: Some(0), ..s.socket() };
        unanswered(s, socket);
    }),
    ("whether it was accepted is not known", |s| {
        s.after(60);
        unanswered(s, s.socket());
    }),
    ("an empty queue and no answer to the SYN", |s| {
        let empty = s.queued(s.tcp(), (0, 128), vec![s.app()], None);
        silent(s, Some(empty));
    }),
    ("no listener, and no answer to the SYN", |s| {
        let empty = s.listening(s.tcp(), vec![], true);
        silent(s, Some(empty));
    }),
    ("no answer to the SYN, and no look-up", |s| silent(s, None)),
    ("no answer of another host", |s| {
        let socket = Socket { retransmits: 5, ..s.unconnected(s.remote()) };
        s.attempt(s.on(socket, "upstream timed out", 110, CONNECTING));
        s.page(504);
    }),
    ("an ICMP error, and the time was over", |s| {
        let socket = Socket { icmp: Some((3, 1)), ..s.unconnected(s.remote()) };
        s.attempt(s.on(socket, "upstream timed out", 110, CONNECTING));
        s.page(504);
    }),
    ("a connect whose socket was not observed", |s| {
        s.attempt(s.said(&s.remote().to_string(), "upstream timed out", 110, CONNECTING));
        s.page(504);
    }),
    ("a host that ceased to acknowledge", |s| {
        let socket = Socket { retransmits: 7, errno: Some(110), ..s.socket_to(s.remote()) };
        s.fails(s.on(socket, "recv() failed", 110, READING));
    }),
];
