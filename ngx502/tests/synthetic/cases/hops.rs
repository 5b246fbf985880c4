//! The process that nginx met only passed on what came: the cause is one station further.

use std::net::SocketAddr;

use ngx502::event::*;

use super::Case;
use crate::synthetic::scene::{READING, Scene};

/// A container's network namespace.
const CONTAINER: u32 = 4_026_532_300;

/// docker-proxy, which published the upstream's port.
fn proxy(s: &Scene) -> ProcessRef {
    s.process(700, "docker-proxy")
}

/// The process in the container.
fn inside(s: &Scene) -> ProcessRef {
    s.process(900, "node")
}

fn container(s: &Scene) -> SocketAddr {
    SocketAddr::from(([172, 17, 0, 2], s.remote().port()))
}

/// docker-proxy listens where nginx connects to, and node in the container.
fn published(s: &mut Scene) {
    let command = format!(
        "/usr/bin/docker-proxy -proto tcp -host-ip 127.0.0.1 -host-port {} -container-ip 172.17.0.2 -container-port {}",
        s.address().port(),
        container(s).port()
    );
    s.feed(s.known(proxy(s), |info| {
        (info.parent, info.command) = (s.process(600, "dockerd").pid, command.as_str().into());
        info.unit = Some("docker.service".into());
    }));
    s.feed(s.known(inside(s), |info| {
        (info.unit, info.command) = (None, "node server.js".into());
        info.container = Some("3f4a1b2c3d4e5f60".repeat(4));
        info.container_names =
            Some(ContainerNames { runtime: Some(Runtime::Docker), name: Some("api".into()), pod: None });
    }));
    s.feed(s.listening(s.tcp(), vec![proxy(s)], false));
    s.feed(s.inside(CONTAINER, inside(s), vec![container(s).ip()]));
    s.feed(s.listening_in(CONTAINER, Endpoint::Tcp(container(s)), inside(s)));
}

/// A connection of docker-proxy's own to a place.
fn onward(s: &Scene, id: u64, remote: SocketAddr) -> Socket {
    let ends = Ends::Tcp { local: ([172, 17, 0, 1], 50_000).into(), remote };
    let counted = (Some(80), Some(0));
    let (bytes_acked, bytes_received) = counted;
    Socket { id, ends, requests: 0, sent_at: None, bytes_acked, bytes_received, ..s.socket() }
}

/// docker-proxy's connections, all of which ended.
fn connected(s: &Scene, sockets: Vec<Socket>) -> Body {
    let attempts = sockets.into_iter().map(|socket| OnwardAttempt {
        ended_at: socket.reset_at.or(socket.fin_at).or(Some(s.before(400))),
        closed_at: None,
        socket,
    });
    Body::Onward(Box::new(Onward { process: proxy(s), attempts: attempts.collect() }))
}

/// One that was refused in the container.
fn refused(s: &Scene, id: u64, address: SocketAddr) -> Socket {
    let at = s.before(500);
    let refusal = Some(Refusal { at, address, netns: CONTAINER, queue: None });
    let (established_at, reset_at) = (None, Some(at));
    Socket { established_at, reset_at, refusal, errno: Some(111), ..onward(s, id, address) }
}

/// docker-proxy closes nginx's connection.
fn passed_on(s: &mut Scene) {
    let closer = s.closer(proxy(s), CloseKind::Closed);
    s.fails(s.closed(Socket { closer, fin_at: Some(s.before(250)), ..s.socket() }));
}

/// node is killed, and the container's listener with it.
fn killed(s: &mut Scene) {
    s.feed_all([s.sent(9, inside(s), s.deploy()), s.exit(inside(s), 9)]);
    if let Body::Listen(closed) = s.shut(Endpoint::Tcp(container(s)), inside(s), true) {
        s.feed(Body::Listen(Listen { netns: CONTAINER, ..closed }));
    }
}

pub(super) const CASES: &[Case] = &[
    ("through a proxy whose own connect was refused, since the server was killed", |s| {
        published(s);
        killed(s);
        s.feed(connected(s, vec![refused(s, 1, container(s))]));
        passed_on(s);
    }),
    ("through a proxy whose own connect nobody takes", |s| {
        published(s);
        let other = SocketAddr::new(container(s).ip(), 3_000);
        let Body::Endpoint(info) = s.near(Endpoint::Tcp(other), vec![], None) else { unreachable!() };
        s.feed(Body::Endpoint(Box::new(EndpointInfo { netns: CONTAINER, ..*info })));
        s.feed(connected(s, vec![refused(s, 1, other)]));
        passed_on(s);
    }),
    ("through a proxy whose server died as it served", |s| {
        published(s);
        s.feed_all([s.sent(9, inside(s), s.deploy()), s.exit(inside(s), 9)]);
        let closer = s.dying(inside(s), 9);
        let socket = Socket { closer, fin_at: Some(s.before(350)), ..onward(s, 1, container(s)) };
        s.feed(connected(s, vec![socket]));
        passed_on(s);
    }),
    ("through a proxy that had connections to two places fail", |s| {
        published(s);
        let other = SocketAddr::from(([172, 17, 0, 3], 80));
        s.feed(connected(s, vec![refused(s, 1, other), refused(s, 2, container(s))]));
        passed_on(s);
    }),
    ("through a proxy that was ended after its server was killed", |s| {
        published(s);
        killed(s);
        let dockerd = s.process(600, "dockerd");
        s.feed_all([s.sent(2, proxy(s), dockerd), s.exit(proxy(s), 2), s.shut(s.tcp(), proxy(s), true)]);
        s.feed(s.owned(container(s), Owner::Nobody));
        s.feed(s.listening(s.tcp(), vec![], true));
        s.fails(s.refused());
    }),
    ("through a proxy that waits for its server", |s| {
        published(s);
        let of = s.socket().id;
        let held = |of, holder: ProcessRef| {
            let (accepted, holders, unread) = (Some(true), vec![holder], Some(0));
            Body::PeerSocket(PeerSocket { of, accepted, holders, unread, ..PeerSocket::default() })
        };
        s.feed_all([held(of, proxy(s)), held(1, inside(s))]);
        let attempt = OnwardAttempt { socket: onward(s, 1, container(s)), ended_at: None, closed_at: None };
        s.feed(Body::Onward(Box::new(Onward { process: proxy(s), attempts: vec![attempt] })));
        s.attempt(s.on(s.socket(), "upstream timed out", 110, READING));
        s.page(504);
    }),
];
