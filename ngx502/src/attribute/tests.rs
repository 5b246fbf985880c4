//! Attribution on constructed records: one small scene per rule.

use bstr::BString;

use super::verdict::{Cause, Certainty, Outcome, Symptom, Verdict};
use super::{Attributor, Options};
use crate::event::*;
use crate::session::Session;
use crate::synthetic::NETNS;
use crate::synthetic::play::{facts, fixes, summary};
use crate::synthetic::scene::host::endpoint_info;
use crate::synthetic::scene::{CONNECTING, READING, Scene};

/// What the first scene of the made-up host has.
const WORKER: Pid = Pid(410);
const KEY: RequestKey = RequestKey { worker: WORKER, request: 0x55d0_1234_5000, connection: 7 };
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
    Scene::new(0).error_page(status)
}

fn held(status: u16) -> Body {
    Body::Request(Box::new(Request { answer_follows: true, ..page(status) }))
}

fn said(peer: &str, text: &str, errno: i32, action: &str) -> Attempt {
    Scene::new(0).said(peer, text, errno, action)
}

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

/// A connection of the first millisecond.
fn socket(remote: &str) -> Socket {
    Socket {
        id: 0xabc,
        connect_at: Some(Nanos(1_000_000_100)),
        established_at: Some(Nanos(1_000_000_200)),
        sent_at: Some(Nanos(1_000_000_300)),
        ..Scene::new(0).socket_to(remote.parse().expect("an address"))
    }
}

fn closer(process: ProcessRef, exiting: bool, exit_code: i32) -> Closer {
    let (unread, received, written) = (None, None, None);
    let how = CloseKind::Closed;
    Closer {
        process,
        at: Nanos(1_000_500_000),
        how,
        exiting,
        exit_code,
        cgroup: 0,
        unread,
        received,
        written,
    }
}

fn tcp(address: &str) -> Endpoint {
    Endpoint::Tcp(address.parse().expect("an address"))
}

fn listening(endpoint: Endpoint, holders: Vec<ProcessRef>, asked: bool) -> Body {
    Scene::new(0).listening(endpoint, holders, asked)
}

fn queued(endpoint: Endpoint, length: u32, limit: u32) -> Body {
    Scene::new(0).queued(endpoint, (length, limit), vec![process(12, "php-fpm")], Some(true))
}

fn exit(process: ProcessRef, code: i32) -> Body {
    Body::Exit(Exit { process, parent: Pid(1), code, cgroup: 0, oom_victim: false })
}

fn sent(number: i32, code: i32, target: ProcessRef, sender: ProcessRef) -> Body {
    Scene::new(0).signal(number, code, target, sender)
}

fn shut(process: ProcessRef, exiting: bool) -> Body {
    Scene::new(0).shut(tcp(PEER), process, exiting)
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
        summary(verdict)
    );
    assert!(!summary(verdict).is_empty() && !facts(verdict).is_empty());
}

#[track_caller]
fn says(verdict: &Verdict, words: &str) {
    assert!(summary(verdict).contains(words), "{}", summary(verdict));
}

#[track_caller]
fn begins(verdict: &Verdict, words: &str) {
    assert!(summary(verdict).starts_with(words), "{}", summary(verdict));
}

/// The facts of one kind.
fn observed(verdict: &Verdict, kind: &str) -> Vec<String> {
    facts(verdict).into_iter().filter(|(event, _)| event == kind).map(|(_, text)| text).collect()
}

mod bounds;
mod causes;
mod denied;
mod evidence;
mod flow;
mod gallery;
mod hidden;
mod paste;
mod supervisors;
mod symptoms;
mod unix_listen;
mod unseen;
mod untold;
