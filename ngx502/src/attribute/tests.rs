//! Attribution on constructed records: one small scene per rule.

use bstr::BString;

use super::verdict::{Cause, Certainty, Outcome, Symptom, Verdict};
use super::{Attributor, Options, Summary};
use crate::event::*;
use crate::session::Session;

const WORKER: Pid = Pid(100);
const KEY: RequestKey = RequestKey { worker: WORKER, request: 0x1000, connection: 7 };
const PEER: &str = "127.0.0.1:9000";
const SOCK: &str = "unix:/run/app.sock";

/// A trace in the making: every record comes one millisecond after the last.
struct Trace {
    engine: Attributor,
    at: u64,
    out: Vec<Outcome>,
}

impl Trace {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        Self::watching(options, &["tcp-state", "exit"])
    }

    /// A trace that has hooks for these signals.
    fn watching(options: Options, signals: &[&str]) -> Self {
        let session = Session {
            host: "web1".into(),
            providers: signals.iter().map(|signal| ((*signal).to_owned(), "raw_tp".to_owned())).collect(),
            ..Session::default()
        };
        Self { engine: Attributor::new(&session, options), at: 1_000_000_000, out: Vec::new() }
    }

    fn feed(mut self, body: Body) -> Self {
        self.at += 1_000_000;
        self.engine.feed(Record { at: Nanos(self.at), body }, &mut self.out);
        self
    }

    fn attempt(self, attempt: Attempt) -> Self {
        self.feed(Body::Attempt(Box::new(attempt)))
    }

    fn page(self, status: u16) -> Self {
        self.feed(Body::Request(Box::new(page(status))))
    }

    fn answer(self, status: u16) -> Self {
        self.feed(Body::Answer(Answer { key: KEY, status: Some(status), states: 2, ..Answer::default() }))
    }

    fn after(mut self, seconds: u64) -> Self {
        self.at += seconds * 1_000_000_000;
        self.feed(Body::Tick)
    }

    fn end(mut self) -> Vec<Outcome> {
        self.engine.finish(&mut self.out);
        self.out
    }

    /// The one verdict of the trace.
    fn verdict(self) -> Verdict {
        match self.end().as_slice() {
            [Outcome::Verdict(verdict)] => (**verdict).clone(),
            other => panic!("expected one verdict, got {other:#?}"),
        }
    }

    fn rescued(self) -> Verdict {
        match self.end().as_slice() {
            [Outcome::Rescued(verdict)] => (**verdict).clone(),
            other => panic!("expected one rescued request, got {other:#?}"),
        }
    }
}

fn page(status: u16) -> Request {
    Request {
        key: KEY,
        status,
        request_line: Some("GET /a?b=1 HTTP/1.1".into()),
        host: Some("example.org".into()),
        client: Some("192.0.2.1".into()),
        log_level: Some(4),
        has_upstream: true,
        ..Request::default()
    }
}

fn held(status: u16) -> Body {
    Body::Request(Box::new(Request { answer_follows: true, ..page(status) }))
}

fn said(peer: &str, text: &str, errno: i32, action: &str) -> Attempt {
    let via = match text {
        "connect() failed" | "recv() failed" | "readv() failed" | "writev() failed" => Via::ConnectionError,
        _ => Via::Log,
    };
    Attempt {
        key: KEY,
        index: 1,
        via,
        level: Some(4),
        errno: (errno != 0).then_some(errno),
        text: text.into(),
        action: (!action.is_empty()).then(|| action.into()),
        peer: Some(peer.into()),
        ..Attempt::default()
    }
}

const CONNECTING: &str = "connecting to upstream";
const READING: &str = "reading response header from upstream";

fn refused() -> Attempt {
    said(PEER, "connect() failed", 111, CONNECTING)
}

fn closed(socket: Socket) -> Attempt {
    Attempt {
        socket: Some(Box::new(socket)),
        ..said(PEER, "upstream prematurely closed connection", 0, READING)
    }
}

fn process(pid: u32, comm: &str) -> ProcessRef {
    ProcessRef { pid: Pid(pid), start: Nanos(u64::from(pid) * 1_000_000_000), comm: comm.into() }
}

fn socket(remote: &str) -> Socket {
    Socket {
        id: 0xabc,
        netns: 1,
        ends: Ends::Tcp {
            local: "127.0.0.1:40000".parse().expect("an address"),
            remote: remote.parse().expect("an address"),
        },
        state: 1,
        connect_at: Some(Nanos(1_000_000_100)),
        established_at: Some(Nanos(1_000_000_200)),
        sent_at: Some(Nanos(1_000_000_300)),
        first_byte_at: None,
        fin_at: None,
        reset_at: None,
        errno: None,
        icmp: None,
        retransmits: 0,
        bytes_received: None,
        bytes_acked: None,
        requests: 1,
        queue: None,
        accepted: None,
        closer: None,
        owner: None,
        reset_sent_at: None,
    }
}

fn closer(process: ProcessRef, exiting: bool, exit_code: i32) -> Closer {
    Closer { process, at: Nanos(1_000_500_000), how: CloseKind::Closed, exiting, exit_code, cgroup: 0 }
}

fn tcp(address: &str) -> Endpoint {
    Endpoint::Tcp(address.parse().expect("an address"))
}

fn listening(endpoint: Endpoint, holders: Vec<ProcessRef>, asked: bool) -> Body {
    let queue = Some(Queue { length: 0, limit: 128 });
    let listeners = match holders.is_empty() {
        true => Vec::new(),
        false => vec![ListenerInfo { bound: endpoint.clone(), inode: 5, queue, holders, all_busy: None }],
    };
    endpoint_info(endpoint, listeners, asked)
}

fn endpoint_info(endpoint: Endpoint, listeners: Vec<ListenerInfo>, asked: bool) -> Body {
    Body::Endpoint(Box::new(EndpointInfo {
        endpoint,
        netns: 1,
        listeners,
        near: Vec::new(),
        path: None,
        asked,
        holders_at: Nanos(0),
    }))
}

fn queued(endpoint: Endpoint, length: u32, limit: u32) -> Body {
    let queue = Some(Queue { length, limit });
    let holders = vec![process(12, "php-fpm")];
    let found = ListenerInfo { bound: endpoint.clone(), inode: 5, queue, holders, all_busy: Some(true) };
    endpoint_info(endpoint, vec![found], true)
}

fn exit(process: ProcessRef, code: i32) -> Body {
    Body::Exit(Exit { process, parent: Pid(1), code, cgroup: 0, oom_victim: false })
}

fn sent(number: i32, code: i32, target: ProcessRef, sender: ProcessRef, from_user: bool) -> Body {
    Body::Signal(Signal {
        signal: number,
        code,
        target,
        sender,
        sender_cgroup: 0,
        from_user,
        fault_address: None,
    })
}

fn shut(process: ProcessRef, exiting: bool) -> Body {
    Body::Listen(Listen {
        open: false,
        id: 9,
        netns: 1,
        endpoint: tcp(PEER),
        process,
        exiting,
        exit_code: 0,
        backlog: 0,
    })
}

/// A listener of one process, which ends by `deaths`; then a refused connect.
fn after_death(deaths: Vec<Body>) -> Verdict {
    let app = process(12, "php-fpm");
    let mut trace = Trace::new().feed(listening(tcp(PEER), vec![app], false));
    for death in deaths {
        trace = trace.feed(death);
    }
    trace.feed(listening(tcp(PEER), vec![], true)).attempt(refused()).page(502).verdict()
}

#[track_caller]
fn is(verdict: &Verdict, symptom: Symptom, cause: Cause, certainty: Certainty) {
    assert_eq!(
        (verdict.symptom, verdict.cause, verdict.certainty),
        (symptom, cause, certainty),
        "{}",
        verdict.summary()
    );
    assert!(!verdict.summary().to_string().is_empty() && !verdict.evidence.is_empty());
}

mod bounds;
mod causes;
mod denied;
mod evidence;
mod flow;
mod gallery;
mod hidden;
mod supervisors;
mod symptoms;
mod unix_listen;
mod unseen;
mod untold;
