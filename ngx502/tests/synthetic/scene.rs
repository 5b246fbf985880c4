//! A scene on web-1: the records of one failed request and of what led to it, one millisecond apart.
//!
//! Every scene has numbers of its own (pids, ports, paths, moments), so that many can be played one after the other in
//! one trace and none disturbs another. Scene 0 has the numbers that people expect: php-fpm8.2[812] on port 9000.

pub(crate) mod host;
mod nginx;
mod socket;

use std::net::SocketAddr;

use ngx502::event::*;
use ngx502::session::Session;

pub(crate) use host::near;
pub(crate) use nginx::{CONNECTING, HANDSHAKE, READING, SENDING, connected, no_connection};

use super::{BEGIN, SECOND};

/// Between two scenes (nanoseconds): longer than any of them lasts.
const APART: u64 = 200 * SECOND;
const MILLISECOND: u64 = 1_000_000;

/// A trace of web-1 that shows what the upstreams themselves answered too.
pub(crate) fn session() -> Session {
    Session { passthrough: true, ..super::session("web-1") }
}

/// The records of one scene, as they are made.
pub(crate) struct Scene {
    number: u32,
    at: u64,
    records: Vec<Record>,
}

impl Scene {
    /// The scene of that number, with nginx at work and nothing else.
    pub(crate) fn new(number: u32) -> Self {
        let mut scene = Self { number, at: BEGIN + u64::from(number) * APART, records: Vec::new() };
        let worker = WorkerInfo {
            process: scene.process(410, "nginx"),
            exe: "/usr/sbin/nginx".into(),
            version: Some("nginx/1.22.1".into()),
            container: None,
        };
        scene.feed(Body::Worker(worker));
        scene
    }

    /// The records so far, in their order.
    pub(crate) fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    pub(crate) fn feed(&mut self, body: Body) {
        self.at += MILLISECOND;
        self.records.push(Record { at: Nanos(self.at), body });
    }

    pub(crate) fn feed_all(&mut self, bodies: impl IntoIterator<Item = Body>) {
        bodies.into_iter().for_each(|body| self.feed(body));
    }

    /// Time passes.
    pub(crate) fn after(&mut self, seconds: u64) {
        self.at += seconds * SECOND;
        self.feed(Body::Tick);
    }

    /// So many microseconds before the next record.
    pub(crate) fn before(&self, micros: u64) -> Nanos {
        Nanos(self.at + MILLISECOND - micros * 1_000)
    }
}

/// Who and where.
impl Scene {
    /// A process of this scene; init is everybody's.
    pub(crate) fn process(&self, pid: u32, comm: &str) -> ProcessRef {
        let pid = if pid == 1 { 1 } else { pid + self.number * 10_000 };
        ProcessRef { pid: Pid(pid), start: Nanos(50 * SECOND), comm: comm.into() }
    }

    pub(crate) fn master(&self) -> ProcessRef {
        self.process(811, "php-fpm8.2")
    }

    pub(crate) fn app(&self) -> ProcessRef {
        self.process(812, "php-fpm8.2")
    }

    pub(crate) fn second(&self) -> ProcessRef {
        self.process(813, "php-fpm8.2")
    }

    pub(crate) fn deploy(&self) -> ProcessRef {
        self.process(2_000, "deploy.sh")
    }

    pub(crate) fn systemd(&self) -> ProcessRef {
        self.process(1, "systemd")
    }

    pub(crate) fn worker(&self) -> Pid {
        self.process(410, "nginx").pid
    }

    pub(crate) fn key(&self) -> RequestKey {
        let number = u64::from(self.number);
        RequestKey { worker: self.worker(), request: 0x55d0_1234_5000, connection: 7 + number }
    }

    fn port(&self, port: u16) -> u16 {
        port + u16::try_from(self.number).expect("a small number")
    }

    /// The upstream on this host.
    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port(9_000)).into()
    }

    pub(crate) fn tcp(&self) -> Endpoint {
        Endpoint::Tcp(self.address())
    }

    /// The same as nginx names it.
    pub(crate) fn peer(&self) -> String {
        self.address().to_string()
    }

    /// The upstream on another host.
    pub(crate) fn remote(&self) -> SocketAddr {
        ([192, 0, 2, 7], self.port(8_080)).into()
    }

    /// The path of the upstream's AF_UNIX socket.
    pub(crate) fn path(&self) -> String {
        match self.number {
            0 => "/run/php/php8.2-fpm.sock".to_owned(),
            number => format!("/run/php{number}/php8.2-fpm-{number}.sock"),
        }
    }

    pub(crate) fn unix(&self) -> Endpoint {
        Endpoint::Unix(self.path().into())
    }

    /// The same as nginx names it.
    pub(crate) fn sock(&self) -> String {
        format!("unix:{}", self.path())
    }
}
