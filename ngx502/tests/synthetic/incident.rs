//! An incident as a capture of any length: php-fpm resets connections until it is killed, and later connects are refused.
//!
//! The records are those of a live trace in kind and order; clocks, ports, socket addresses and URIs have no pattern
//! that compression or attribution could profit from.

use std::path::Path;

use ngx502::capture::{Options, Writer};
use ngx502::event::*;

use super::scene::{CONNECTING, READING, Scene};
use super::{BEGIN, SECOND, mixed, session};

/// From one failure to the next, on average.
const STEP: u64 = 33_000;

/// Writes a capture of one host with this many verdicts, and shows `each` record; every hundredth request has a URI of
/// `uri` instead of its own.
pub(crate) fn write(
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
    let mut scene = Scene::new(0);
    scene.php_fpm();
    scene.feed(scene.listening(scene.tcp(), vec![scene.app()], false));
    for record in scene.take_records() {
        write(&Record { at: Nanos(BEGIN - 4 * SECOND), ..record });
    }
    for number in 0..verdicts {
        if number == verdicts / 10 {
            death(&scene, BEGIN + number * STEP).iter().for_each(&mut write);
        }
        let special = uri.filter(|_| number % 100 == 7);
        failure(&scene, number, number < verdicts / 10, special).iter().for_each(&mut write);
        if number % 15_000 == 0 {
            write(&Record { at: Nanos(BEGIN + number * STEP), body: Body::Tick });
        }
    }
    writer.finish().expect("room");
}

/// A signal, its victim's listener, its exit.
fn death(s: &Scene, at: u64) -> [Record; 3] {
    [
        Record { at: Nanos(at - 9_000), body: s.sent(9, s.app(), s.deploy()) },
        Record { at: Nanos(at - 6_000), body: s.shut(s.tcp(), s.app(), true) },
        Record { at: Nanos(at - 3_000), body: s.exit(s.app(), 9) },
    ]
}

/// One failed request: reset by a worker while php-fpm lives, refused after its death.
fn failure(s: &Scene, number: u64, alive: bool, uri: Option<&str>) -> [Record; 3] {
    let noise = mixed(number);
    let at = BEGIN + number * STEP + (noise >> 52);
    let key = RequestKey {
        request: 0x55d0_1234_5000 + (noise >> 61) * 0x1000,
        connection: number * 2 + 1,
        ..s.key()
    };
    let line = match uri {
        Some(uri) => format!("GET {uri} HTTP/1.1"),
        None => format!("GET /api/orders/{:08x} HTTP/1.1", noise >> 32),
    };
    let (text, errno, action) = match alive {
        true => ("recv() failed", 104, READING),
        false => ("connect() to %V failed", 111, CONNECTING),
    };
    let attempt = s.on(socket(s, at, noise, alive), text, errno, action);
    let peer = attempt.peer.clone();
    let attempt = Attempt {
        key,
        via: Via::ConnectionError,
        detail: peer.clone().filter(|_| !alive),
        request_line: Some(line.into()),
        host: Some("shop.example".into()),
        client: Some(format!("10.0.0.{}", noise >> 60).into()),
        log_level: Some(4),
        ..attempt
    };
    let connect_ms = alive.then_some(0);
    let state = State { status: 502, connect_ms, response_ms: Some(1), peer, ..State::default() };
    // What the attempt told is not told again.
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

fn socket(s: &Scene, at: u64, noise: u64, alive: bool) -> Socket {
    let before = |nanos: u64| alive.then(|| Nanos(at - nanos));
    let closer = s.closer(s.app(), CloseKind::Aborted).filter(|_| alive);
    let local = ([127, 0, 0, 1], 32768 + (noise >> 49) as u16 % 28000).into();
    Socket {
        id: 0xffff_8881_0000_0000 + (noise >> 58) * 2368,
        ends: Ends::Tcp { local, remote: s.address() },
        state: 7,
        connect_at: Some(Nanos(at - 30_000 - (noise >> 50 & 0xfff))),
        established_at: before(20_000),
        sent_at: before(15_000 - (noise >> 54)),
        reset_at: before(800),
        errno: Some(if alive { 104 } else { 111 }),
        requests: u32::from(alive),
        accepted: alive.then_some(true),
        closer: closer.map(|closer| Closer { at: Nanos(at - 900), cgroup: 1, ..closer }),
        ..s.socket()
    }
}
