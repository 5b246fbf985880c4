//! A made-up incident as a capture of any length: php-fpm is killed while it serves, and later connects are refused.
//!
//! The records are those of a live trace in kind and order; clocks, ports, socket addresses and URIs have no pattern
//! that compression or attribution could profit from.

#![allow(dead_code, reason = "each test crate that includes this uses a part of it")]

pub(crate) mod cases;
pub(crate) mod play;
pub(crate) mod scene;
pub(crate) mod stories;

use std::net::SocketAddr;
use std::path::Path;

use bstr::BString;
use ngx502::capture::{Options, Writer};
use ngx502::event::*;
use ngx502::session::Session;

/// 2026-11-21T02:00:00Z as CLOCK_REALTIME minus CLOCK_BOOTTIME.
const WALL: i64 = 1_795_226_400_000_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;
/// Boot time of the first failure.
pub(crate) const BEGIN: u64 = 1_000 * SECOND;
/// nginx's network namespace.
pub(crate) const NETNS: u32 = 4_026_531_840;
/// From one failure to the next, on average.
const STEP: u64 = 33_000;
const NGINX: Pid = Pid(410);

/// The trace of a host that sees who comes to listen, and who ends.
pub(crate) fn session(host: &str) -> Session {
    Session {
        version: "0.1.0".into(),
        host: host.into(),
        kernel: "6.1.0-31-amd64".into(),
        boot_id: format!("boot of {host}"),
        providers: ["tcp-state", "unix-listen", "exit"].map(|hook| (hook.into(), "raw_tp".into())).to_vec(),
        nginx: vec!["/usr/sbin/nginx (nginx/1.22.1)".into()],
        workers: vec![NGINX.0],
        wall_offset: WALL,
        ready_at: Nanos(BEGIN - 5 * SECOND),
        ..Session::default()
    }
}

/// Writes a capture of one host with this many verdicts, and shows `each` record; every hundredth request has a URI of
/// `uri` instead of its own.
pub(crate) fn incident(
    path: &Path,
    host: &str,
    verdicts: u64,
    uri: Option<&str>,
    mut each: impl FnMut(&Record),
) {
    let mut writer = Writer::create(path, &session(host), Options::default()).expect("a new file");
    let mut write = |record: &Record| {
        writer.record(record).expect("room");
        each(record);
    };
    snapshot().iter().for_each(&mut write);
    for number in 0..verdicts {
        if number == verdicts / 10 {
            death(BEGIN + number * STEP).iter().for_each(&mut write);
        }
        let special = uri.filter(|_| number % 100 == 7);
        failure(number, number < verdicts / 10, special).iter().for_each(&mut write);
        if number % 15_000 == 0 {
            write(&Record { at: Nanos(BEGIN + number * STEP), body: Body::Tick });
        }
    }
    writer.finish().expect("room");
}

fn fpm() -> ProcessRef {
    ProcessRef { pid: Pid(812), start: Nanos(50 * SECOND), comm: "php-fpm8.2".into() }
}

fn place() -> SocketAddr {
    ([127, 0, 0, 1], 9000).into()
}

/// What enrichment found at the start: nginx, php-fpm and its listener.
fn snapshot() -> Vec<Record> {
    let nginx = ProcessRef { pid: NGINX, start: Nanos(40 * SECOND), comm: "nginx".into() };
    let worker = WorkerInfo {
        process: nginx,
        exe: "/usr/sbin/nginx".into(),
        version: Some("nginx/1.22.1".into()),
        container: None,
    };
    let process = ProcessInfo {
        process: fpm(),
        parent: Pid(1),
        command: "php-fpm: master process".into(),
        unit: Some("php8.2-fpm.service".into()),
        ..ProcessInfo::default()
    };
    let bound = Endpoint::Tcp(place());
    let listener =
        ListenerInfo { bound: bound.clone(), inode: 77, queue: None, holders: vec![fpm()], all_busy: None };
    let endpoint = EndpointInfo {
        endpoint: bound,
        netns: NETNS,
        listeners: vec![listener],
        near: vec![],
        path: None,
        asked: false,
        holders_at: Nanos(0),
    };
    let bodies = [Body::Worker(worker), Body::Process(Box::new(process)), Body::Endpoint(Box::new(endpoint))];
    bodies.into_iter().map(|body| Record { at: Nanos(BEGIN - 4 * SECOND), body }).collect()
}

/// A signal, its victim's listener, its exit.
fn death(at: u64) -> [Record; 3] {
    let sender = ProcessRef { pid: Pid(2_000), start: Nanos(900 * SECOND), comm: "deploy.sh".into() };
    let signal = Signal {
        signal: 9,
        code: 0,
        target: fpm(),
        sender,
        sender_cgroup: 1,
        from_user: true,
        fault_address: None,
    };
    let listen = Listen {
        open: false,
        id: 0xffff_8881_0000_0000,
        netns: NETNS,
        endpoint: Endpoint::Tcp(place()),
        process: fpm(),
        exiting: true,
        exit_code: 9,
        backlog: 511,
    };
    let exit = Exit { process: fpm(), parent: Pid(1), code: 9, cgroup: 1, oom_victim: false };
    [
        Record { at: Nanos(at - 9_000), body: Body::Signal(signal) },
        Record { at: Nanos(at - 6_000), body: Body::Listen(listen) },
        Record { at: Nanos(at - 3_000), body: Body::Exit(exit) },
    ]
}

/// One failed request: reset by a worker while php-fpm lives, refused after its death.
fn failure(number: u64, alive: bool, uri: Option<&str>) -> [Record; 3] {
    let noise = mixed(number);
    let at = BEGIN + number * STEP + (noise >> 52);
    let key = RequestKey {
        worker: NGINX,
        request: 0x55d0_1234_5000 + (noise >> 61) * 0x1000,
        connection: number * 2 + 1,
    };
    let line = match uri {
        Some(uri) => BString::from(format!("GET {uri} HTTP/1.1")),
        None => BString::from(format!("GET /api/orders/{:08x} HTTP/1.1", noise >> 32)),
    };
    let peer = Some(BString::from("127.0.0.1:9000"));
    let errno = Some(if alive { 104 } else { 111 });
    let socket = Some(Box::new(socket(at, noise, alive, errno)));
    let text = if alive { "recv() failed" } else { "connect() to %V failed" };
    let action = if alive { "reading response header from upstream" } else { "connecting to upstream" };
    let attempt = Attempt {
        key,
        index: 1,
        via: Via::ConnectionError,
        errno,
        text: text.into(),
        detail: peer.clone().filter(|_| !alive),
        action: Some(action.into()),
        peer: peer.clone(),
        request_line: Some(line),
        host: Some("shop.example".into()),
        client: Some(format!("10.0.0.{}", noise >> 60).into()),
        socket,
        log_level: Some(4),
        ..Attempt::default()
    };
    // What the attempt told is not told again.
    let connect_ms = alive.then_some(0);
    let state = State { status: 502, connect_ms, response_ms: Some(1), peer, ..State::default() };
    let request = Request {
        key,
        status: 502,
        log_level: Some(4),
        has_upstream: true,
        states: Some(vec![state]),
        answer_follows: true,
        ..Request::default()
    };
    let answer = Answer { key, status: Some(502), states: 1, last_state: None, client_gone: false };
    [
        Record { at: Nanos(at), body: Body::Attempt(Box::new(attempt)) },
        Record { at: Nanos(at + 2_000 + (noise >> 53)), body: Body::Request(Box::new(request)) },
        Record { at: Nanos(at + 9_000 + (noise >> 51)), body: Body::Answer(answer) },
    ]
}

fn socket(at: u64, noise: u64, alive: bool, errno: Option<i32>) -> Socket {
    let before = |nanos: u64| alive.then(|| Nanos(at - nanos));
    let closer = Closer {
        process: fpm(),
        at: Nanos(at - 900),
        how: CloseKind::Aborted,
        exiting: false,
        exit_code: 0,
        cgroup: 1,
    };
    Socket {
        id: 0xffff_8881_0000_0000 + (noise >> 58) * 2368,
        netns: NETNS,
        ends: Ends::Tcp {
            local: ([127, 0, 0, 1], 32768 + (noise >> 49) as u16 % 28000).into(),
            remote: place(),
        },
        state: 7,
        connect_at: Some(Nanos(at - 30_000 - (noise >> 50 & 0xfff))),
        established_at: before(20_000),
        sent_at: before(15_000 - (noise >> 54)),
        first_byte_at: None,
        fin_at: None,
        reset_at: before(800),
        errno,
        icmp: None,
        retransmits: 0,
        bytes_received: None,
        bytes_acked: None,
        requests: u32::from(alive),
        queue: None,
        accepted: alive.then_some(true),
        closer: alive.then_some(closer),
        owner: None,
        reset_sent_at: None,
    }
}

/// Bits without a pattern (SplitMix64's last step).
pub(crate) fn mixed(index: u64) -> u64 {
    let once =
        (index ^ (index >> 30)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    twice ^ (twice >> 31)
}
