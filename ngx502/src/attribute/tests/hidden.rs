//! error_log's level hides nginx's message, and no socket was seen: only what is known is told.

use super::*;

/// A request whose only attempt got no connection; `peer` as nginx names it, where that could be read.
fn unconnected(peer: Option<&str>) -> Body {
    let state = State { status: 502, peer: peer.map(BString::from), ..State::default() };
    Body::Request(Box::new(Request {
        log_level: Some(3),
        states: Some(vec![state]),
        peer: None,
        ..page(502)
    }))
}

fn route(errno: Option<i32>) -> Body {
    let to = "127.0.0.1".parse().expect("an address");
    Body::Route(RouteLookup { worker: WORKER, to, netns: 1, errno })
}

/// Nothing but that there was no connection.
#[track_caller]
fn tells_nothing_more(found: &Verdict) {
    is(found, Symptom::ConnectFailed, Cause::Unknown, Certainty::Unknown);
    assert_eq!(found.attempts.last().and_then(|attempt| attempt.errno), None);
    assert_eq!(fixes(found)[0], "error_log /var/log/nginx/error.log error;");
}

#[test]
fn an_attempt_of_which_nothing_could_be_read_says_no_more_than_that() {
    let found = Trace::new().feed(unconnected(None)).verdict();
    tells_nothing_more(&found);
    says(&found, "an upstream whose name could not be read");
}

#[test]
fn without_a_look_up_a_refusal_is_not_assumed() {
    tells_nothing_more(&Trace::new().feed(unconnected(Some(PEER))).verdict());
    tells_nothing_more(&Trace::new().feed(unconnected(Some(SOCK))).verdict());
    // Of long ago.
    let old = Trace::new().feed(listening(tcp(PEER), vec![], true)).after(5).feed(unconnected(Some(PEER)));
    tells_nothing_more(&old.verdict());
}

#[test]
fn where_somebody_listens_nothing_was_refused_for_want_of_a_listener() {
    for (endpoint, peer) in [(tcp(PEER), PEER), (Endpoint::Unix("/run/app.sock".into()), SOCK)] {
        let there = listening(endpoint, vec![process(12, "app")], true);
        tells_nothing_more(&Trace::new().feed(there).feed(unconnected(Some(peer))).verdict());
    }
}

#[test]
fn where_nobody_listens_the_refusal_is_inferred() {
    let found = Trace::new().feed(listening(tcp(PEER), vec![], true)).feed(unconnected(Some(PEER))).verdict();
    is(&found, Symptom::ConnectRefused, Cause::NotListening, Certainty::Inferred);
    says(&found, "error_log's level hides nginx's message");
}

#[test]
fn a_missing_route_is_inferred_from_the_look_up() {
    let (unreachable, none) = (113, 101);
    for errno in [unreachable, none] {
        let found = Trace::new().feed(route(Some(errno))).feed(unconnected(Some(PEER))).verdict();
        is(&found, Symptom::ConnectUnreachable, Cause::Unreachable, Certainty::Inferred);
        assert_eq!(found.attempts.last().and_then(|attempt| attempt.errno), Some(errno));
    }
    tells_nothing_more(&Trace::new().feed(route(None)).feed(unconnected(Some(PEER))).verdict());
}

#[test]
fn words_that_were_missed_are_not_called_hidden() {
    let Body::Request(hidden) = unconnected(Some(PEER)) else { unreachable!() };
    let missed = Request { log_level: Some(4), ..*hidden };
    let found = Trace::new().feed(Body::Request(Box::new(missed))).verdict();
    is(&found, Symptom::ConnectFailed, Cause::Unknown, Certainty::Unknown);
    says(&found, "its message was not observed");
    assert!(fixes(&found).is_empty(), "the log's level is no reason: {:?}", fixes(&found));
}

#[test]
fn part_of_a_response_without_its_socket_may_have_been_wrong_or_cut() {
    let state = State {
        status: 502,
        connect_ms: Some(4),
        bytes_received: Some(40),
        peer: Some(PEER.into()),
        ..State::default()
    };
    let told = |log_level| {
        let request = Request { log_level: Some(log_level), states: Some(vec![state.clone()]), ..page(502) };
        Trace::new().feed(Body::Request(Box::new(request))).verdict()
    };
    for (level, words, count) in [(3, "error_log's level hides the reason", 1), (4, "was not observed", 0)] {
        let found = told(level);
        is(&found, Symptom::ResponseFailed, Cause::Unknown, Certainty::Unknown);
        says(&found, words);
        assert_eq!(fixes(&found).len(), count, "{:?}", fixes(&found));
    }
}
