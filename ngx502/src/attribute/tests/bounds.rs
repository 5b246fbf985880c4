//! No flood makes attribution grow: what goes beyond a table's room is forgotten, and counted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::*;

/// More than any table holds.
const FLOOD: u32 = 40_000;

/// What the engine counts as forgotten after a flood of records that differ in one number.
fn forgotten(record: impl Fn(u32) -> Body) -> u64 {
    let mut engine = Attributor::new(&Session::default(), Options::default());
    let mut out = Vec::new();
    for number in 1..=FLOOD {
        engine.feed(Record { at: Nanos(1_000_000_000 + u64::from(number)), body: record(number) }, &mut out);
    }
    engine.evicted()
}

fn numbered(number: u32) -> ProcessRef {
    ProcessRef { pid: Pid(number), start: Nanos(u64::from(number)), comm: "app".into() }
}

fn address(number: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | number)), 80)
}

fn path(number: u32) -> BString {
    format!("/run/{number}.sock").into()
}

/// A table of `room` entries lost the rest of the flood.
#[track_caller]
fn loses_all_but(room: u32, record: impl Fn(u32) -> Body) {
    assert_eq!(forgotten(record), u64::from(FLOOD - room));
}

#[test]
fn look_ups_are_forgotten_from_the_oldest_on() {
    const ROOM: u32 = 4_096;
    let worker = Pid;
    loses_all_but(ROOM, |number| {
        let remote = address(number);
        Body::Ports(Ports { remote, netns: 1, low: 1, high: 2, used: 1 })
    });
    loses_all_but(ROOM, |number| {
        Body::Limits(Limits { worker: worker(number), nofile: 1, open: 1, file_max: 1, file_used: 1 })
    });
    loses_all_but(ROOM, |number| {
        Body::Route(RouteLookup { worker: WORKER, to: address(number).ip(), netns: 1, errno: None })
    });
    loses_all_but(ROOM, |number| {
        Body::Guards(Box::new(Guards { worker: worker(number), ..Guards::default() }))
    });
    loses_all_but(ROOM, |number| {
        Body::PeerSocket(PeerSocket {
            of: u64::from(number),
            accepted: None,
            holders: vec![],
            unread: None,
            ..PeerSocket::default()
        })
    });
    loses_all_but(ROOM, |number| listening(Endpoint::Unix(path(number)), vec![], true));
}

#[test]
fn listeners_and_processes_have_room_for_a_large_host_and_no_more() {
    let listens = |number| listening(Endpoint::Unix(path(number)), vec![numbered(number)], false);
    assert_eq!(forgotten(listens), u64::from(FLOOD - 8_192) + u64::from(FLOOD - 32_768));
    loses_all_but(8_192, |number| Body::PathAlias { path: path(number), resolved: path(0) });
    loses_all_but(16_384, |number| {
        Body::Process(Box::new(ProcessInfo { process: numbered(number), ..ProcessInfo::default() }))
    });
    loses_all_but(8_192, |number| exit(numbered(number), 9));
}

#[test]
fn a_process_number_that_returns_keeps_its_latest_lives_only() {
    // Eight lives of one number are kept, whatever comes: nothing is evicted, nothing grows.
    let reborn = |number: u32| ProcessRef { start: Nanos(u64::from(number) * 1_000_000_000), ..numbered(7) };
    assert_eq!(forgotten(|number| exit(reborn(number), 9)), 0);
}

#[test]
fn requests_that_never_end_are_given_up() {
    let attempt = |number: u32| {
        let key = RequestKey { request: u64::from(number), ..KEY };
        Body::Attempt(Box::new(Attempt { key, ..refused() }))
    };
    assert!(forgotten(attempt) > 0);
}

/// A listener that some process opens and closes.
fn flap(number: u32, endpoint: &str, netns: u32) -> [Body; 2] {
    let process = process(1_000 + number, "stranger");
    let Body::Listen(close) = Scene::new(number).shut(tcp(endpoint), process, false) else { unreachable!() };
    let close = Listen { netns, ..close };
    [Body::Listen(Listen { open: true, ..close.clone() }), Body::Listen(close)]
}

/// A stranger opens and closes listeners on the port of an upstream that was killed, at an address or in a namespace of its
/// own: nothing of that may erase the death.
#[test]
fn listeners_of_strangers_do_not_push_out_a_death() {
    let app = process(12, "php-fpm");
    let start = Trace::new().feed(listening(tcp(PEER), vec![app.clone()], false)).feed(exit(app, 9));
    let flaps = (0..200).flat_map(|number| {
        [("127.0.0.2:9000", 1), (PEER, 77)].map(|(place, netns)| flap(number, place, netns))
    });
    let trace = flaps.flatten().fold(start, Trace::feed);
    let found = trace.feed(listening(tcp(PEER), vec![], true)).attempt(refused()).page(502).verdict();
    assert_eq!(found.cause, Cause::Killed, "{}", summary(&found));
    says(&found, "php-fpm[12]");
}

/// Where one was forgotten on that port, nobody can be proven not to have listened; elsewhere that is still known.
#[test]
fn a_forgotten_listener_ends_the_certainty_of_its_place_only() {
    let certainty = |place: &str| {
        let start = flap(1, PEER, 77).into_iter().fold(Trace::new(), Trace::feed);
        let trace = (0..200).flat_map(|number| flap(number, place, 1)).fold(start, Trace::feed);
        let found = trace.feed(listening(tcp(PEER), vec![], true)).attempt(refused()).page(502).verdict();
        assert_eq!(found.cause, Cause::NotListening, "{}", summary(&found));
        found.certainty
    };
    assert_eq!(certainty("127.0.0.2:9000"), Certainty::Inferred);
    assert_eq!(certainty("127.0.0.2:9001"), Certainty::Proven);
}
