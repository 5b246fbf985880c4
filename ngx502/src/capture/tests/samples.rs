//! Records to write: a storm of 502s, and every corner of the types.

use bstr::BString;

use crate::event::*;
use crate::session::Session;
use crate::synthetic::mixed;

/// A trace whose metadata are easy to recognise.
pub(super) fn session() -> Session {
    Session {
        host: "web-1".into(),
        boot_id: "b".into(),
        wall_offset: 1_700_000_000_000_000_000,
        ..Session::default()
    }
}

/// A verdict's worth of a storm: refused connects with unique URIs, spread as clocks and ports are.
pub(super) fn storm(index: u64) -> [Record; 3] {
    let noise = mixed(index);
    let at = 1_000_000_000 + index * 33_000 + (noise >> 52);
    let key = RequestKey {
        worker: Pid(4242),
        request: 0x55d0_1234_5000 + (noise >> 61) * 0x1000,
        connection: index * 2,
    };
    let line = BString::from(format!("GET /api/orders/{:08x} HTTP/1.1", noise >> 32));
    let socket = Socket {
        id: 0xffff_8881_0000_0000 + (noise >> 58) * 2368,
        netns: 4_026_531_840,
        ends: Ends::Tcp {
            local: ([127, 0, 0, 1], 32768 + (noise >> 49) as u16 % 28000).into(),
            remote: ([127, 0, 0, 1], 9000).into(),
        },
        state: 7,
        connect_at: Some(Nanos(at - 30_000 - (noise >> 50 & 0xfff))),
        established_at: None,
        sent_at: None,
        first_byte_at: None,
        fin_at: None,
        reset_at: None,
        errno: Some(111),
        icmp: None,
        retransmits: 0,
        bytes_received: None,
        bytes_acked: None,
        request_bytes: None,
        unacked_at_fin: None,
        unacked: None,
        window: None,
        refusal: None,
        server: None,
        requests: 0,
        queue: None,
        accepted: None,
        closer: None,
        owner: None,
        reset_sent_at: None,
    };
    let peer = Some(BString::from("127.0.0.1:9000"));
    let attempt = Attempt {
        key,
        index: 1,
        via: Via::ConnectionError,
        errno: Some(111),
        text: "connect() to %V failed".into(),
        detail: peer.clone(),
        action: Some("connecting to upstream".into()),
        peer: peer.clone(),
        request_line: Some(line.clone()),
        socket: Some(Box::new(socket.clone())),
        log_level: Some(4),
        ..Attempt::default()
    };
    let state = State {
        status: 502,
        connect_ms: Some(0),
        response_ms: Some(0),
        peer: peer.clone(),
        ..State::default()
    };
    let request = Request {
        key,
        status: 502,
        request_line: Some(line),
        host: Some("shop.example".into()),
        client: Some(format!("10.0.0.{}", noise >> 60).into()),
        log_level: Some(4),
        has_upstream: true,
        states: Some(vec![state.clone()]),
        peer,
        closed: Some(Box::new(socket)),
        answer_follows: true,
        log_unread: false,
        ..Request::default()
    };
    let answer = Answer { key, status: Some(502), states: 1, last_state: Some(state), client_gone: false };
    [
        Record { at: Nanos(at), body: Body::Attempt(Box::new(attempt)) },
        Record { at: Nanos(at + 2_000 + (noise >> 53)), body: Body::Request(Box::new(request)) },
        Record { at: Nanos(at + 9_000 + (noise >> 51)), body: Body::Answer(answer) },
    ]
}

/// What /proc knew of a process with a hostile name.
pub(super) fn process(pid: u32, at: u64) -> Record {
    let process = ProcessRef { pid: Pid(pid), start: Nanos(7), comm: BString::from(vec![0xff, b'p']) };
    Record { at: Nanos(at), body: Body::Process(Box::new(ProcessInfo { process, ..ProcessInfo::default() })) }
}

/// One record of every kind and corner: IPv6, negative numbers, nested options, invalid UTF-8, struct variants.
pub(super) fn corners() -> Vec<Record> {
    let who = ProcessRef { pid: Pid(1), start: Nanos(u64::MAX), comm: "init".into() };
    let listen = Listen {
        open: true,
        id: u64::MAX,
        netns: 1,
        endpoint: Endpoint::Tcp("[2001:db8::1]:443".parse().expect("an address")),
        process: who.clone(),
        exiting: false,
        exit_code: i32::MIN,
        backlog: 511,
        mounts: None,
    };
    let series = LatencySeries {
        upstream: "u".into(),
        ok: true,
        connect: vec![(1, 2), (u64::MAX, 0)],
        first_byte: vec![],
        total: vec![(3, 4)],
    };
    let bodies = [
        Body::Tick,
        Body::Lost { events: 3, reason: "ring buffer full".into() },
        Body::Fork { parent: who.clone(), child: who },
        Body::Listen(Listen { endpoint: Endpoint::Unix(BString::from(vec![0, 0xff])), ..listen.clone() }),
        Body::Listen(listen),
        Body::Latency(Box::new(Latency { since: Nanos(5), series: vec![series] })),
        Body::Signal(Signal { signal: 9, code: -6, fault_address: Some(0), ..Signal::default() }),
        Body::Tick,
    ];
    let mut records: Vec<_> = bodies.into_iter().map(|body| Record { at: Nanos(10), body }).collect();
    records.push(process(9, 11));
    records.extend((0..20).flat_map(storm));
    records
}

/// What came after the fixture of version 1.0 was written.
pub(super) fn additions() -> Vec<Record> {
    let address = "[fd00::9]:3000".parse().expect("an address");
    let refusal = Refusal { at: Nanos(7), address, netns: 6, queue: Some(Queue { length: 2, limit: 1 }) };
    let server = Server { address, netns: 6, inode: Some(u64::MAX), unread: Some(0) };
    let [mut record, ..] = storm(0);
    if let Body::Attempt(attempt) = &mut record.body
        && let Some(socket) = &mut attempt.socket
    {
        (socket.refusal, socket.server, socket.unacked) = (Some(refusal), Some(server), Some(u32::MAX - 1));
    }
    let bodies = [
        Body::AddressOwner(AddressOwner { ip: [10, 0, 0, 9].into(), from: 5, owner: Owner::Several }),
        Body::NamespaceAddresses(NamespaceAddresses {
            netns: u32::MAX,
            addresses: vec![[0xfd00, 0, 0, 0, 0, 0, 0, 9].into(), [10, 0, 0, 9].into()],
            links: Some(Links { to: vec![0, u32::MAX], outside: true }),
            ..NamespaceAddresses::default()
        }),
    ];
    bodies.into_iter().map(|body| Record { at: Nanos(10), body }).chain([record]).collect()
}
