//! Where requests were not told in full: lost answers, unreadable names, texts that `error_log … crit` hides.

use super::unseen::{app, unix};
use super::*;

#[test]
fn hidden_openssl_words_leave_the_size_of_what_it_refused() {
    let handshake = |received| Attempt {
        via: Via::SslError,
        socket: Some(Box::new(Socket {
            bytes_received: Some(received),
            closer: Some(closer(app(), false, 0)),
            errno: Some(104),
            ..socket(PEER)
        })),
        ..said(PEER, "SSL_do_handshake() failed", 0, "SSL handshaking to upstream")
    };
    let plain = Trace::new().attempt(handshake(90)).page(502).verdict();
    is(&plain, Symptom::TlsFailed, Cause::ProtocolMismatch, Certainty::Inferred);
    assert_eq!(plain.errno, None, "a reset that came after the refused bytes is not their reason");
    let alert = Trace::new().attempt(handshake(7)).page(502).verdict();
    is(&alert, Symptom::TlsFailed, Cause::Unknown, Certainty::Unknown);
}

#[test]
fn a_rescued_request_has_its_facts_from_the_attempt() {
    let attempt = Attempt {
        request_line: Some("GET /a HTTP/1.1".into()),
        host: Some("example.org".into()),
        client: Some("192.0.2.1".into()),
        ..refused()
    };
    let facts =
        Trace::new().attempt(attempt).answer(200).rescued().request.expect("the attempt names the request");
    assert_eq!((facts.host, facts.client), (Some("example.org".into()), Some("192.0.2.1".into())));
}

#[test]
fn a_name_that_does_not_resolve_is_no_attempt() {
    let found =
        Trace::new().attempt(said("", "no resolver defined to resolve %V", 0, "")).page(502).verdict();
    assert_eq!((found.symptom, found.attempts.len()), (Symptom::NameUnresolved, 0));
}

#[test]
fn a_later_request_on_the_same_connection_is_not_merged_when_the_answer_was_lost() {
    let line = |uri: &str| Attempt { request_line: Some(format!("GET {uri} HTTP/1.1").into()), ..refused() };
    let other_line = Trace::new().attempt(line("/1")).attempt(line("/2")).answer(200).rescued();
    assert_eq!(other_line.request.and_then(|facts| facts.uri), Some("/2".into()));
    assert_eq!(other_line.attempts.len(), 1);
    let second = Attempt { index: 2, ..refused() };
    let restarted = Trace::new().attempt(refused()).attempt(second).attempt(refused()).answer(200).rescued();
    assert_eq!(restarted.attempts.len(), 1, "attempts are numbered upwards");
    let paged = Trace::new().attempt(refused()).feed(held(502)).attempt(refused()).answer(200).end();
    assert!(matches!(&paged[..], [Outcome::Verdict(_), Outcome::Rescued(_)]), "{paged:?}");
    let repeated = Trace::new().attempt(refused()).after(1).attempt(refused()).answer(200).rescued();
    assert_eq!(observed(&repeated, "nginx").len(), 1);
}

#[test]
fn a_cut_response_has_the_status_that_the_client_got() {
    let cut = || said(PEER, "upstream prematurely closed connection", 0, "reading upstream");
    assert_eq!(Trace::new().attempt(cut()).answer(206).verdict().status, 206);
    let gone = Answer { key: KEY, client_gone: true, ..Answer::default() };
    assert_eq!(Trace::new().attempt(cut()).feed(Body::Answer(gone)).verdict().status, 200);
    assert_eq!(Trace::new().attempt(cut()).after(2).out.len(), 1, "it waits a second at most");
}

#[test]
fn a_kept_socket_of_another_peer_is_not_this_requests() {
    let state = State { peer: Some("app".into()), status: 502, ..State::default() };
    let request = Request {
        log_level: Some(3),
        states: Some(vec![state]),
        peer: Some("app".into()),
        closed: Some(Box::new(socket("127.0.0.1:9001"))),
        ..page(502)
    };
    let found = Trace::new().feed(Body::Request(Box::new(request))).verdict();
    assert_eq!(found.symptom, Symptom::NoLiveUpstreams);
}

#[test]
fn a_full_backlog_shows_where_error_log_hides_it() {
    let state = State { peer: Some(SOCK.into()), status: 502, ..State::default() };
    let request =
        Request { log_level: Some(3), states: Some(vec![state]), peer: Some(SOCK.into()), ..page(502) };
    let trace = Trace::new().feed(queued(unix(), 129, 128));
    let found = trace.feed(Body::Request(Box::new(request))).verdict();
    assert_eq!(
        (found.symptom, found.cause, found.errno),
        (Symptom::SocketBacklogFull, Cause::QueueFull, Some(11))
    );
}

/// A request whose text `error_log … crit` hides.
fn muted(status: u16, received: u64, closed: Option<Socket>) -> Body {
    let peer = if closed.is_some() { PEER } else { SOCK };
    let state = State {
        status,
        connect_ms: Some(0),
        response_ms: Some(300),
        bytes_received: Some(received),
        peer: Some(peer.into()),
        ..State::default()
    };
    Body::Request(Box::new(Request {
        log_level: Some(3),
        states: Some(vec![state]),
        peer: Some(peer.into()),
        closed: closed.map(Box::new),
        ..page(status)
    }))
}

#[test]
fn a_hidden_rejection_is_not_taken_for_an_early_close() {
    let fin = |exiting| Socket {
        fin_at: Some(Nanos(1_000_400_000)),
        closer: Some(closer(app(), exiting, 3 << 8)),
        ..socket(PEER)
    };
    let answered = Trace::new().feed(muted(502, 40, Some(fin(false)))).verdict();
    is(&answered, Symptom::HeaderInvalid, Cause::BadResponse, Certainty::Inferred);
    let died = Trace::new().feed(muted(502, 40, Some(fin(true)))).verdict();
    is(&died, Symptom::ClosedEarly, Cause::Exited, Certainty::Inferred);
    let before = Trace::new().feed(muted(502, 0, Some(fin(false)))).verdict();
    is(&before, Symptom::ClosedEarly, Cause::ClosedByUpstream, Certainty::Proven);
}

#[test]
fn a_hidden_unix_failure_without_its_socket_is_inferred_from_the_listener() {
    let start = || Trace::new().feed(listening(unix(), vec![app()], false));
    let closed = start().feed(muted(502, 0, None)).verdict();
    is(&closed, Symptom::ClosedEarly, Cause::ClosedByUpstream, Certainty::Inferred);
    let slow = Trace::new().feed(queued(unix(), 0, 128)).feed(muted(504, 0, None)).verdict();
    is(&slow, Symptom::ReadTimedOut, Cause::UpstreamSlow, Certainty::Inferred);
    let waiting = Trace::new().feed(queued(unix(), 1, 128)).feed(muted(504, 0, None)).verdict();
    is(&waiting, Symptom::ReadTimedOut, Cause::Unknown, Certainty::Unknown);
}
