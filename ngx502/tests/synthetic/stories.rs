//! Scenes that several tests tell.

use std::net::{Ipv6Addr, SocketAddr};

use bstr::BString;
use ngx502::event::*;

use super::scene::{CONNECTING, READING, Scene, no_connection};

/// php-fpm was killed at its cgroup's memory limit 12 s before; the first attempt met a port without a listener.
pub(crate) fn oom_killed(s: &mut Scene) {
    s.php_fpm();
    s.feed(s.listening(s.tcp(), vec![s.app()], false));
    s.feed(memory_limit(s));
    s.feed(s.exit(s.app(), 9));
    s.after(12);
    let other = SocketAddr::from(([127, 0, 0, 1], s.address().port() + 1));
    s.feed(s.listening(Endpoint::Tcp(other), vec![], true));
    s.attempt(s.on(s.unconnected(other), "connect() failed", 111, CONNECTING));
    s.feed(s.listening(s.tcp(), vec![], true));
    s.attempt(Attempt { index: 2, ..s.refused() });
    s.page(502);
}

/// php-fpm's worker was killed at its cgroup's memory limit as it served the request, 90 ms long.
pub(crate) fn oom_killed_at_work(s: &mut Scene) {
    s.php_fpm();
    s.feed(memory_limit(s));
    s.feed(s.exit(s.app(), 9));
    let socket = Socket {
        connect_at: Some(s.before(90_000)),
        established_at: Some(s.before(89_960)),
        sent_at: Some(s.before(89_900)),
        closer: s.dying(s.app(), 9),
        ..s.unix_socket(None)
    };
    s.fails(s.on(socket, "recv() failed", 104, READING));
}

fn memory_limit(s: &Scene) -> Body {
    Body::Oom(Oom {
        victim: s.app(),
        trigger: s.app(),
        memcg: Some(true),
        limit_cgroup: Some("php8.2-fpm.service".into()),
        limit_bytes: Some(512 << 20),
        victim_cgroup: None,
        rss_bytes: Some(498 << 20),
    })
}

/// php-fpm's worker was killed by another process as it served the request; `fin`: the end of it was seen.
pub(crate) fn killed_at_work(s: &mut Scene, fin: bool) {
    s.php_fpm();
    s.feed_all([s.sent(9, s.app(), s.deploy()), s.exit(s.app(), 9)]);
    let fin_at = fin.then(|| s.before(300));
    s.fails(s.closed(Socket { closer: s.dying(s.app(), 9), fin_at, ..s.socket() }));
}

/// One of gunicorn's workers did not answer within a minute.
pub(crate) fn slow(s: &mut Scene, worker: u32) {
    let worker = s.process(900 + worker, "gunicorn");
    s.feed(s.known(worker.clone(), |info| {
        (info.command, info.unit) = ("gunicorn shop:app".into(), Some("shop.service".into()));
    }));
    s.after(60);
    let began = Some(s.before(60_000_000));
    let socket = Socket {
        connect_at: began,
        established_at: began,
        sent_at: began,
        owner: Some(worker),
        ..s.socket_to(([127, 0, 0, 1], 8_000).into())
    };
    s.attempt(s.on(socket, "upstream timed out", 110, READING));
    s.page(504);
}

/// The backlog of php-fpm's socket was full, or those of as many listeners that share the place.
pub(crate) fn queue_full(s: &mut Scene, listeners: u32) {
    s.php_fpm();
    let Body::Endpoint(info) = s.queued(s.unix(), (512, 511), vec![s.app()], Some(true)) else {
        unreachable!()
    };
    let one = |more| {
        let queue = Some(Queue { length: 512 + more, limit: 511 });
        ListenerInfo { queue, ..info.listeners[0].clone() }
    };
    let listeners = (0..listeners).map(one).collect();
    s.feed(Body::Endpoint(Box::new(EndpointInfo { listeners, ..*info.clone() })));
    s.fails(s.unix_failed(11));
}

/// A port of this host's IPv6 address that never had a listener.
pub(crate) fn not_listening(s: &mut Scene) {
    let here = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);
    let remote = SocketAddr::from((here, 9_000));
    s.feed(s.listening(Endpoint::Tcp(remote), vec![], true));
    let ends = Ends::Tcp { local: (here, 40_000).into(), remote };
    let socket = Socket { ends, ..s.unconnected(remote) };
    s.fails(s.on(socket, "connect() failed", 111, CONNECTING));
}

/// A connection was reset, and its socket was not observed.
pub(crate) fn unobserved(s: &mut Scene) {
    s.fails(s.said(&s.sock(), "recv() failed", 104, READING));
}

/// Nothing could be read or observed but that nginx answered 502.
pub(crate) fn unknown(s: &mut Scene) {
    // A worker that was not looked at either.
    let key = RequestKey { worker: s.process(499, "nginx").pid, ..s.key() };
    let (status, log_level, states) = (502, Some(3), Some(vec![no_connection(502, "")]));
    s.request(Request { key, status, log_level, states, has_upstream: true, ..Request::default() });
}

/// A refused connect whose every name is an attack: `name` is what the client and nginx's configuration chose, `text`
/// the names of the dead server and of its unit.
pub(crate) fn hostile(s: &mut Scene, name: &[u8], text: &str) {
    let server = ProcessRef { comm: text.into(), ..s.app() };
    s.feed(s.known(server.clone(), |info| (info.unit, info.command) = (Some(text.to_owned()), text.into())));
    // As long as a path of a socket can be.
    let path = BString::from([b"/run/", &name[..name.len().min(100)]].concat());
    let peer = BString::from([b"unix:", path.as_slice()].concat());
    let place = Endpoint::Unix(path);
    s.feed(s.listening(place.clone(), vec![server.clone()], false));
    s.feed(s.exit(server, 9));
    s.feed(s.listening(place, vec![], true));
    s.attempt(Attempt { peer: Some(peer.clone()), detail: Some(peer), ..s.unix_failed(111) });
    let known = Some(BString::from(name));
    let line = [name, b" ", name, b" HTTP/1.1"].concat();
    s.request(Request {
        request_line: Some(line.into()),
        host: known.clone(),
        client: known,
        ..s.error_page(502)
    });
}
