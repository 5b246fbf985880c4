//! An established connection ended: who closed it.

use ngx502::event::*;

use super::Case;
use crate::synthetic::scene::{READING, SENDING, Scene, no_connection};

/// A process that lives closed it so; `change` is how far the response had come.
fn closed_by(s: &mut Scene, how: CloseKind, change: impl FnOnce(&mut Socket)) {
    s.php_fpm();
    let mut socket = Socket { closer: s.closer(s.app(), how), fin_at: Some(s.before(300)), ..s.socket() };
    change(&mut socket);
    s.fails(s.closed(socket));
}

/// A pooled connection over which a second request was sent.
fn reused(socket: Socket) -> Socket {
    Socket { requests: 2, connect_at: None, established_at: None, ..socket }
}

/// The closer was not observed; `holders` share the listener.
fn unseen(s: &mut Scene, holders: Vec<ProcessRef>, deaths: Vec<Body>) {
    s.php_fpm();
    s.feed(s.listening(s.tcp(), holders, false));
    let socket = s.socket();
    s.feed_all(deaths);
    s.fails(s.closed(socket));
}

/// An AF_UNIX connection that `owner` read from last.
fn read_by(s: &mut Scene, owner: ProcessRef, change: impl FnOnce(&mut Socket)) {
    s.php_fpm();
    s.feed(s.listening(s.unix(), vec![s.app(), s.second()], false));
    let mut socket = s.unix_socket(Some(owner));
    change(&mut socket);
    s.fails(s.closed(socket));
}

/// An AF_UNIX connection whose reader was not observed.
fn unread(s: &mut Scene, holders: Vec<ProcessRef>) {
    s.php_fpm();
    s.feed(s.listening(s.unix(), holders, false));
    s.fails(s.closed(s.unix_socket(None)));
}

fn from_remote(s: &mut Scene, change: impl FnOnce(&mut Socket)) {
    let mut socket = s.socket_to(s.remote());
    change(&mut socket);
    s.fails(s.closed(socket));
}

pub(super) const CASES: &[Case] = &[
    ("without an answer", |s| closed_by(s, CloseKind::Closed, |_| ())),
    ("and exits a moment later", |s| {
        closed_by(s, CloseKind::Closed, |_| ());
        s.feed(s.exit(s.app(), 0));
    }),
    ("and is killed a moment later", |s| {
        closed_by(s, CloseKind::Closed, |_| ());
        s.feed_all([s.sent(9, s.app(), s.deploy()), s.exit(s.app(), 9)]);
    }),
    ("in the midst of its response", |s| {
        let first = Some(s.before(500));
        closed_by(s, CloseKind::Closed, |socket| socket.first_byte_at = first);
    }),
    ("before it had the request", |s| closed_by(s, CloseKind::Closed, |socket| socket.sent_at = None)),
    ("with a RST", |s| {
        s.php_fpm();
        let closer = s.closer(s.app(), CloseKind::Aborted);
        let (sent, arrived) = (Some(s.before(310)), Some(s.before(290)));
        let socket = Socket { closer, reset_sent_at: sent, reset_at: arrived, ..s.socket() };
        s.fails(s.on(socket, "recv() failed", 104, READING));
    }),
    ("by an administrator's tool", |s| {
        s.php_fpm();
        let (sent, arrived) = (Some(s.before(310)), Some(s.before(290)));
        let closer = s.closer(s.process(4711, "ss"), CloseKind::Destroyed);
        let socket = Socket { closer, reset_sent_at: sent, reset_at: arrived, ..s.socket() };
        s.fails(s.on(socket, "recv() failed", 104, READING));
    }),
    ("with its listener, before it was accepted", |s| closed_by(s, CloseKind::NeverAccepted, |_| ())),
    ("by a process that died, by whose hand is not known", |s| {
        let socket = Socket { closer: s.dying(s.app(), 9), ..s.socket() };
        s.fails(s.closed(socket));
    }),
    ("by the last that read from it", |s| read_by(s, s.app(), |_| ())),
    ("by the last that read from it, which died", |s| {
        s.php_fpm();
        s.feed(s.listening(s.unix(), vec![s.app(), s.second()], false));
        s.feed_all([s.fault(11, 1, s.second()), s.exit(s.second(), 11)]);
        s.fails(s.closed(s.unix_socket(Some(s.second()))));
    }),
    ("by the last that read from it, which its master told to end", |s| {
        s.php_fpm();
        s.feed(s.listening(s.unix(), vec![s.app(), s.second()], false));
        s.feed(s.sent(15, s.app(), s.master()));
        s.fails(s.closed(s.unix_socket(Some(s.app()))));
    }),
    ("the last that read from it is gone", |s| read_by(s, s.process(877, "cgi"), |_| ())),
    ("by the only process that listens there", |s| unread(s, vec![s.app()])),
    ("by one of two that listen there", |s| unread(s, vec![s.app(), s.second()])),
    ("the closer was not observed, and one process died", |s| {
        unseen(s, vec![s.master(), s.app()], vec![s.exit(s.app(), 11)]);
    }),
    ("the closer was not observed, and two processes died", |s| {
        let deaths = vec![s.exit(s.app(), 11), s.exit(s.second(), 11)];
        unseen(s, vec![s.master(), s.app(), s.second()], deaths);
    }),
    ("the closer was not observed", |s| unseen(s, vec![s.master(), s.app()], vec![])),
    ("a socket that was not observed", |s| {
        s.fails(s.said(&s.peer(), "upstream prematurely closed connection", 0, READING));
    }),
    ("a response that may have been rejected before", |s| {
        let closer = s.dying(s.app(), 3 << 8);
        let socket = Socket { closer, fin_at: Some(s.before(300)), ..s.socket() };
        let state = State { connect_ms: Some(0), bytes_received: Some(40), ..no_connection(502, &s.peer()) };
        s.unlogged(false, state, Some(socket));
    }),
    ("without reading the request", |s| {
        let (unread, received, written) = (Some(88), Some(88), Some(0));
        closed_by(s, CloseKind::Aborted, |socket| {
            socket.request_bytes = Some(88);
            socket.closer = socket.closer.take().map(|closer| Closer { unread, received, written, ..closer });
        });
    }),
    ("after an early answer", |s| {
        let (unread, received, written) = (Some(50_162), Some(65_000), Some(137));
        closed_by(s, CloseKind::Aborted, |socket| {
            socket.request_bytes = Some(65_000);
            socket.closer = socket.closer.take().map(|closer| Closer { unread, received, written, ..closer });
        });
    }),
    ("an idle connection that was reset with the request unread", |s| {
        let (unread, received, written) = (Some(88), Some(488), Some(900));
        closed_by(s, CloseKind::Aborted, |socket| {
            *socket = Socket { request_bytes: Some(88), ..reused(socket.clone()) };
            socket.closer = socket.closer.take().map(|closer| Closer { unread, received, written, ..closer });
        });
    }),
    ("another host's close that had not the request", |s| {
        let (request_bytes, unacked_at_fin) = (Some(88), Some(88));
        let socket = reused(Socket { request_bytes, unacked_at_fin, ..s.socket_to(s.remote()) });
        s.fails(s.closed(Socket { fin_at: Some(s.before(300)), ..socket }));
    }),
    ("a second turn that may have been a handshake's", |s| {
        let (request_bytes, unacked_at_fin) = (Some(88), Some(88));
        let socket = Socket { requests: 2, request_bytes, unacked_at_fin, ..s.socket_to(s.remote()) };
        s.fails(s.closed(Socket { fin_at: Some(s.before(300)), ..socket }));
    }),
    ("an idle connection that was being closed", |s| {
        s.php_fpm();
        let closer =
            Closer { at: s.before(8_600), ..s.closer(s.app(), CloseKind::Closed).expect("a closer") };
        let socket = Socket { closer: Some(closer), fin_at: Some(s.before(8_600)), ..reused(s.socket()) };
        s.fails(s.closed(socket));
    }),
    ("a close that crossed the request", |s| {
        let closer =
            Closer { at: s.before(8_000), ..s.closer(s.app(), CloseKind::Closed).expect("a closer") };
        s.fails(s.closed(Socket {
            closer: Some(closer),
            fin_at: Some(s.before(8_000)),
            ..reused(s.socket())
        }));
    }),
    ("another host's close that crossed the request", |s| {
        let socket = reused(s.socket_to(s.remote()));
        s.fails(s.closed(Socket { fin_at: Some(s.before(8_000)), ..socket }));
    }),
    ("an idle connection that refused the first write", |s| {
        s.php_fpm();
        s.feed(s.listening(s.unix(), vec![s.app()], false));
        s.fails(s.on(reused(s.unix_socket(Some(s.app()))), "writev() failed", 32, SENDING));
    }),
    ("a reused connection that ended at once", |s| {
        s.php_fpm();
        s.feed(s.listening(s.unix(), vec![s.app()], false));
        let socket = Socket { sent_at: Some(s.before(900)), ..reused(s.unix_socket(Some(s.app()))) };
        s.fails(s.closed(socket));
    }),
    ("another host's FIN", |s| {
        let at = s.before(300);
        from_remote(s, |socket| socket.fin_at = Some(at));
    }),
    ("another host's RST", |s| {
        let socket = Socket { reset_at: Some(s.before(300)), errno: Some(104), ..s.socket_to(s.remote()) };
        s.fails(s.on(socket, "recv() failed", 104, READING));
    }),
    ("another host, and neither FIN nor RST was observed", |s| from_remote(s, |_| ())),
    ("another host or a container", |s| {
        let bound = Endpoint::Tcp(([0, 0, 0, 0], s.remote().port()).into());
        s.feed(s.listening_in(2, bound, s.app()));
        s.feed(s.owned(s.remote(), Owner::Several));
        let socket = Socket { unacked: None, fin_at: Some(s.before(300)), ..s.socket_to(s.remote()) };
        s.fails(s.closed(socket));
    }),
    ("another host, since no end on this one was seen", |s| {
        let socket = Socket { fin_at: Some(s.before(300)), ..s.socket_to(s.remote()) };
        s.fails(s.closed(socket));
    }),
    ("a response that was cut", |s| {
        s.php_fpm();
        let first = Some(s.before(500));
        let closer = s.closer(s.app(), CloseKind::Closed);
        let socket = Socket { closer, first_byte_at: first, fin_at: Some(s.before(300)), ..s.socket() };
        s.attempt(s.on(socket, "upstream prematurely closed connection", 0, "reading upstream"));
        s.answer(200, None);
    }),
    ("a retry that gave the client an answer", |s| {
        s.php_fpm();
        s.feed(s.listening(s.tcp(), vec![s.app()], false));
        s.feed_all([s.sent(9, s.app(), s.deploy()), s.exit(s.app(), 9)]);
        s.feed(s.listening(s.tcp(), vec![], true));
        s.attempt(s.refused());
        let state = State { status: 200, header_ms: Some(4), ..no_connection(200, "192.0.2.7:8080") };
        s.answer(200, Some(state));
    }),
];
