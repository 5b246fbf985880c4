//! What this host lacks or cannot reach: routes, ports, descriptors, names, peers.

use std::net::Ipv6Addr;

use ngx502::event::*;

use super::Case;
use crate::synthetic::scene::{CONNECTING, Scene};

fn route(s: &Scene, errno: Option<i32>) -> Body {
    Body::Route(RouteLookup { worker: s.worker(), to: s.remote().ip(), netns: 1, errno })
}

fn by_icmp(s: &mut Scene, code: u8, errno: i32) {
    let socket = Socket { icmp: Some((3, code)), ..s.unconnected(s.remote()) };
    s.fails(s.on(socket, "connect() failed", errno, CONNECTING));
}

/// No port is left; so many of ten were found in use.
fn ports(s: &mut Scene, used: u32) {
    s.feed(Body::Ports(Ports { remote: s.remote(), netns: 1, low: 40_000, high: 40_009, used }));
    s.fails(s.tcp_failed(s.remote(), 99));
}

/// socket(2) failed for lack of descriptors; `known`: they were counted.
fn no_socket(s: &mut Scene, errno: i32, known: bool) {
    let limits =
        Limits { worker: s.worker(), nofile: 1_024, open: 1_024, file_max: 65_536, file_used: 65_500 };
    s.feed_all(known.then_some(Body::Limits(limits)));
    s.attempt(s.said(&s.peer(), "socket() failed", errno, CONNECTING));
    s.page(500);
}

fn no_slot(s: &mut Scene, number: Option<i64>) {
    let text = "%ui worker_connections are not enough";
    s.attempt(Attempt { number, ..s.said(&s.peer(), text, 0, CONNECTING) });
    s.page(500);
}

const V6: (Ipv6Addr, u16) = (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 80);

/// nginx cannot keep a response that it reads.
fn storage(s: &mut Scene, text: &str, errno: i32) {
    let path = Some("/var/lib/nginx/proxy/3/00/0000000003".into());
    let said = s.said(&s.peer(), text, errno, "reading upstream");
    s.attempt(Attempt { level: Some(3), detail: path, ..said });
    s.answer(200, None);
}

/// The resolver's answer.
fn unresolved(s: &mut Scene, detail: Option<&str>, code: i64) {
    let text = "%V could not be resolved (%i: %s)";
    s.fails(Attempt { detail: detail.map(Into::into), number: Some(code), ..s.said("", text, 0, "") });
}

fn no_peer(s: &Scene, group: &str) -> Attempt {
    Attempt { index: 2, ..s.said(group, "no live upstreams", 0, CONNECTING) }
}

pub(super) const CASES: &[Case] = &[
    ("no host there", |s| {
        s.feed(route(s, None));
        s.fails(s.tcp_failed(s.remote(), 113));
    }),
    ("no route", |s| {
        s.feed(route(s, Some(101)));
        s.fails(s.tcp_failed(s.remote(), 101));
    }),
    ("a router's ICMP error", |s| by_icmp(s, 1, 113)),
    ("an ICMP error without an errno", |s| {
        let socket = Socket { icmp: Some((3, 1)), ..s.unconnected(s.remote()) };
        s.fails(s.on(socket, "socket() failed", 0, CONNECTING));
    }),
    ("a failure without an errno", |s| {
        s.fails(s.said(&s.remote().to_string(), "socket() failed", 0, CONNECTING))
    }),
    ("a filter's ICMP error", |s| by_icmp(s, 13, 113)),
    ("all ports in use", |s| ports(s, 10)),
    ("fewer ports in use by the time of the look-up", |s| ports(s, 3)),
    ("ports that were not counted", |s| s.fails(s.tcp_failed(s.remote(), 99))),
    ("no address of the family to connect from", |s| {
        s.feed(Body::Ports(Ports { remote: V6.into(), netns: 1, low: 40_000, high: 40_009, used: 0 }));
        s.feed(Body::Route(RouteLookup { worker: s.worker(), to: V6.0.into(), netns: 1, errno: Some(101) }));
        s.fails(s.tcp_failed(V6.into(), 99));
    }),
    ("no address of the scope to connect from, most likely", |s| ports(s, 0)),
    ("neither ports nor route were looked up, for IPv6", |s| s.fails(s.tcp_failed(V6.into(), 99))),
    ("a kernel without IPv6", |s| {
        s.feed(Body::Route(RouteLookup { worker: s.worker(), to: V6.0.into(), netns: 1, errno: Some(95) }));
        s.attempt(s.said(&format!("[{}]:80", V6.0), "socket() failed", 97, CONNECTING));
        s.page(500);
    }),
    ("a filter of system calls that forbids a family", |s| {
        let guards = Guards { worker: s.worker(), seccomp: Some(true), ..Guards::default() };
        s.feed(Body::Guards(Box::new(guards)));
        s.feed(Body::Route(RouteLookup { worker: s.worker(), to: V6.0.into(), netns: 1, errno: None }));
        s.attempt(s.said(&format!("[{}]:80", V6.0), "socket() failed", 97, CONNECTING));
        s.page(500);
    }),
    ("a temporary file that may not be made", |s| storage(s, "open() \"%s\" failed", 13)),
    ("a file system that is full", |s| storage(s, "pwrite() \"%s\" failed", 28)),
    ("a file system that is read-only", |s| storage(s, "mkdir() \"%s\" failed", 30)),
    ("an address that is not this host's", |s| {
        let text = "bind(%V) failed";
        s.attempt(Attempt { detail: Some("10.9.9.9".into()), ..s.said(&s.peer(), text, 99, CONNECTING) });
        s.page(500);
    }),
    ("an address that is not this host's and could not be read", |s| {
        s.attempt(s.said(&s.peer(), "bind(%V) failed", 99, CONNECTING));
        s.page(500);
    }),
    ("the worker's descriptors", |s| no_socket(s, 24, true)),
    ("the worker's descriptors, not counted", |s| no_socket(s, 24, false)),
    ("the system's files", |s| no_socket(s, 23, true)),
    ("the system's files, not counted", |s| no_socket(s, 23, false)),
    ("worker_connections", |s| no_slot(s, Some(512))),
    ("worker_connections, their number not read", |s| no_slot(s, None)),
    ("no resolver", |s| {
        let text = "no resolver defined to resolve %V";
        s.fails(Attempt { detail: Some("app.internal".into()), ..s.said("", text, 0, "") });
    }),
    ("no resolver, for a name that could not be read", |s| {
        s.fails(s.said("", "no resolver defined to resolve %V", 0, ""));
    }),
    ("the resolver's code 1", |s| unresolved(s, Some("app.internal"), 1)),
    ("the resolver's code 2", |s| unresolved(s, Some("app.internal"), 2)),
    ("the resolver's code 3", |s| unresolved(s, Some("app.internal"), 3)),
    ("the resolver's code 4", |s| unresolved(s, Some("app.internal"), 4)),
    ("the resolver's code 5", |s| unresolved(s, Some("app.internal"), 5)),
    ("the resolver's time-out", |s| unresolved(s, Some("app.internal"), 110)),
    ("another code, for a name that could not be read", |s| unresolved(s, None, 9)),
    ("a hostile name", |s| unresolved(s, Some("a;reboot"), 3)),
    ("a resolver, and nginx's log is hidden", |s| {
        s.request(Request { log_level: Some(3), ..s.error_page(502) });
    }),
    ("the peers that this request tried", |s| {
        s.feed(s.listening(s.tcp(), vec![], true));
        s.attempt(s.refused());
        s.attempt(no_peer(s, "app"));
        s.page(502);
    }),
    ("peers that failed lately", |s| {
        s.feed(s.listening(s.tcp(), vec![], true));
        s.attempt(s.refused());
        s.answer(200, None);
        s.fails(no_peer(s, "shop"));
    }),
    ("no failure of a peer was seen", |s| s.fails(no_peer(s, "blog"))),
];
