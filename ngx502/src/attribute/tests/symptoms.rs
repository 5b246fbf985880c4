//! Every text of nginx as a symptom.

use super::*;

/// (peer, text, errno, action, status, symptom)
const SAID: &[(&str, &str, i32, &str, u16, Symptom)] = &[
    (PEER, "connect() failed", 111, CONNECTING, 502, Symptom::ConnectRefused),
    (PEER, "connect() failed", 113, CONNECTING, 502, Symptom::ConnectUnreachable),
    (PEER, "connect() failed", 110, CONNECTING, 502, Symptom::ConnectTimedOut),
    (PEER, "connect() to %V failed", 101, CONNECTING, 502, Symptom::ConnectUnreachable),
    (PEER, "connect() to %V failed", 13, CONNECTING, 502, Symptom::ConnectDenied),
    (PEER, "connect() to %V failed", 1, CONNECTING, 502, Symptom::ConnectDenied),
    (PEER, "connect() to %V failed", 99, CONNECTING, 502, Symptom::AddressExhausted),
    (SOCK, "connect() to %V failed", 2, CONNECTING, 502, Symptom::SocketMissing),
    (SOCK, "connect() to %V failed", 111, CONNECTING, 502, Symptom::SocketRefused),
    (SOCK, "connect() to %V failed", 13, CONNECTING, 502, Symptom::SocketDenied),
    (SOCK, "connect() to %V failed", 11, CONNECTING, 502, Symptom::SocketBacklogFull),
    (PEER, "socket() failed", 24, CONNECTING, 500, Symptom::FdExhausted),
    (PEER, "%ui worker_connections are not enough", 0, CONNECTING, 500, Symptom::FdExhausted),
    (PEER, "bind(%V) failed", 99, CONNECTING, 500, Symptom::AddressExhausted),
    (PEER, "upstream timed out", 110, CONNECTING, 504, Symptom::ConnectTimedOut),
    (PEER, "upstream timed out", 110, READING, 504, Symptom::ReadTimedOut),
    (PEER, "upstream timed out", 110, "sending request to upstream", 504, Symptom::ReadTimedOut),
    (PEER, "upstream timed out", 110, "SSL handshaking to upstream", 504, Symptom::ReadTimedOut),
    (
        PEER,
        "peer closed connection in SSL handshake",
        0,
        "SSL handshaking to upstream",
        502,
        Symptom::TlsFailed,
    ),
    (PEER, "upstream SSL certificate verify error: (%l:%s)", 0, "", 502, Symptom::TlsFailed),
    (PEER, "writev() failed", 32, "sending request to upstream", 502, Symptom::SendFailed),
    (PEER, "recv() failed", 104, READING, 502, Symptom::Reset),
    (PEER, "recv() failed", 110, READING, 502, Symptom::ReadTimedOut),
    (PEER, "upstream prematurely closed connection", 0, READING, 502, Symptom::ClosedEarly),
    (PEER, "upstream prematurely closed FastCGI stdout", 0, READING, 502, Symptom::HeaderInvalid),
    (PEER, "upstream sent too big header", 0, READING, 502, Symptom::HeaderTooBig),
    (PEER, "upstream sent invalid header", 0, READING, 502, Symptom::HeaderInvalid),
    (PEER, "upstream sent unexpected http2 frame: %d", 0, READING, 502, Symptom::HeaderInvalid),
    (PEER, "memcached sent invalid response: \"%V\"", 0, READING, 502, Symptom::HeaderInvalid),
    ("app", "no live upstreams", 0, CONNECTING, 502, Symptom::NoLiveUpstreams),
    ("app", "%V could not be resolved (%i: %s)", 0, "", 502, Symptom::NameUnresolved),
    ("app", "no resolver defined to resolve %V", 0, "", 502, Symptom::NameUnresolved),
    (PEER, "recv() failed", 104, "reading upstream", 200, Symptom::ResponseTruncated),
    (PEER, "upstream timed out", 110, "proxying upgraded connection", 101, Symptom::ResponseTruncated),
];

#[test]
fn every_text_has_its_symptom_and_one_verdict() {
    for (peer, text, errno, action, status, symptom) in SAID {
        let mut trace = Trace::new().attempt(said(peer, text, *errno, action));
        if *symptom != Symptom::ResponseTruncated {
            trace = trace.page(*status);
        }
        let verdict = trace.verdict();
        assert_eq!((verdict.symptom, verdict.status), (*symptom, *status), "{text} ({errno}) while {action}");
    }
}

#[test]
fn texts_that_are_no_failure_make_no_verdict() {
    let harmless = [
        ("FastCGI sent in stderr: \"%*s\"", READING),
        ("upstream sent no valid HTTP/1.0 header", READING),
        ("upstream server temporarily disabled", CONNECTING),
        ("upstream sent more data than specified in \"Content-Length\" header", "reading upstream"),
        ("setsockopt(SO_KEEPALIVE) failed, ignored", CONNECTING),
        ("SSL_shutdown() failed", ""),
        ("send() failed", "sending to client"),
        ("recv() failed", "resolving"),
        ("something new", READING),
    ];
    for (text, action) in harmless {
        let out = Trace::new().attempt(said(PEER, text, 0, action)).answer(200).end();
        assert_eq!(out, [], "{text}");
    }
}

#[test]
fn freenginx_refuses_headerless_responses() {
    let worker = |version: &str| {
        let process = ProcessRef { pid: WORKER, ..ProcessRef::default() };
        Body::Worker(WorkerInfo {
            process,
            exe: "/usr/sbin/nginx".into(),
            version: Some(version.into()),
            container: None,
        })
    };
    let text = said(PEER, "upstream sent no valid HTTP/1.0 header", 0, READING);
    let verdict = Trace::new().feed(worker("freenginx/1.29.1")).attempt(text.clone()).page(502).verdict();
    assert_eq!(verdict.symptom, Symptom::HeaderInvalid);
    assert_eq!(verdict.worker.exe, Some(BString::from("/usr/sbin/nginx")));
    let out = Trace::new().feed(worker("freenginx/1.29.0")).attempt(text).answer(200).end();
    assert_eq!(out, []);
}

#[test]
fn openssl_text_joins_its_attempt() {
    let first = Attempt {
        via: Via::SslError,
        ..said(PEER, "SSL_do_handshake() failed", 0, "SSL handshaking to upstream")
    };
    let words = "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number)";
    let second =
        Attempt { detail: Some(words.into()), ..said(PEER, "%*s", 0, "SSL handshaking to upstream") };
    let verdict = Trace::new().attempt(first).attempt(second.clone()).page(502).verdict();
    is(&verdict, Symptom::TlsFailed, Cause::ProtocolMismatch, Certainty::Proven);
    assert_eq!(verdict.attempts.len(), 1);
    let alone = Trace::new().attempt(second).page(502).verdict();
    is(&alone, Symptom::TlsFailed, Cause::ProtocolMismatch, Certainty::Proven);
}

/// A request of a location with `error_log … crit`.
fn muted(status: u16, state: State, closed: Option<Socket>) -> Body {
    let closed = closed.map(Box::new);
    let peer = Some(state.peer.clone().unwrap_or_else(|| PEER.into()));
    Body::Request(Box::new(Request {
        log_level: Some(3),
        states: Some(vec![state]),
        peer,
        closed,
        ..page(status)
    }))
}

#[test]
fn crit_hides_the_text_but_not_the_symptom() {
    let state = |status, connect_ms, bytes_received| State {
        status,
        connect_ms,
        bytes_received: Some(bytes_received),
        peer: Some(PEER.into()),
        ..State::default()
    };
    let unconnected = Socket { established_at: None, sent_at: None, errno: Some(111), ..socket(PEER) };
    let silent = Socket { errno: None, ..unconnected.clone() };
    let reset = Socket { reset_at: Some(Nanos(1_000_400_000)), ..socket(PEER) };
    let group = State { peer: Some("app".into()), status: 502, ..State::default() };
    let cases = [
        (502, state(502, None, 0), Some(unconnected), Symptom::ConnectRefused),
        (504, state(504, None, 0), Some(silent), Symptom::ConnectTimedOut),
        (504, state(504, None, 0), Some(socket(PEER)), Symptom::ReadTimedOut),
        (504, state(504, Some(1), 0), Some(socket(PEER)), Symptom::ReadTimedOut),
        (502, state(502, None, 0), Some(socket(PEER)), Symptom::TlsFailed),
        (502, state(502, Some(1), 0), Some(socket(PEER)), Symptom::ClosedEarly),
        (502, state(502, Some(1), 0), Some(reset), Symptom::Reset),
        (502, state(502, Some(1), 4096), Some(socket(PEER)), Symptom::HeaderTooBig),
        (502, state(502, Some(1), 77), Some(socket(PEER)), Symptom::HeaderInvalid),
        (502, group, None, Symptom::NoLiveUpstreams),
    ];
    for (status, state, closed, symptom) in cases {
        assert_eq!(Trace::new().feed(muted(status, state, closed)).verdict().symptom, symptom);
    }
    let unread = Request { log_level: Some(0x7fff_fff0), log_unread: true, ..page(502) };
    let verdict = Trace::new().feed(Body::Request(Box::new(unread.clone()))).verdict();
    is(&verdict, Symptom::NameUnresolved, Cause::Dns, Certainty::Inferred);
    let read = Request { log_unread: false, ..unread };
    assert_eq!(
        Trace::new().feed(Body::Request(Box::new(read))).end(),
        [Outcome::NotUpstream { status: 502 }],
        "a log that is read would have said so"
    );
    let resolver = Request { log_level: Some(3), ..page(502) };
    let verdict = Trace::new().feed(Body::Request(Box::new(resolver))).verdict();
    is(&verdict, Symptom::NameUnresolved, Cause::Dns, Certainty::Inferred);
}
