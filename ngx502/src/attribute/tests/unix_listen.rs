//! AF_UNIX listeners where a hook tells of each.

use super::*;

const ALL: &[&str] = &["exit", "unix-listen", "unix-close"];

fn app() -> ProcessRef {
    process(12, "app")
}

fn watching() -> Trace {
    Trace::watching(Options::default(), ALL)
}

fn unix(path: &str) -> Endpoint {
    Endpoint::Unix(path.into())
}

fn listens(path: &str, open: bool, exiting: bool) -> Body {
    let event = Listen {
        open,
        id: 9,
        netns: NETNS,
        endpoint: unix(path),
        process: app(),
        exiting,
        exit_code: 0,
        backlog: 128,
        mounts: None,
    };
    Body::Listen(event)
}

/// A connect to `/run/app.sock` that is refused as soon as a look-up has found nobody there.
fn refused_by_nobody(trace: Trace) -> Verdict {
    let asked = listening(unix("/run/app.sock"), vec![], true);
    let attempt = said(SOCK, "connect() to %V failed", 111, CONNECTING);
    trace.feed(asked).attempt(attempt).page(502).verdict()
}

#[test]
fn nobody_listened_is_proven_where_every_listener_is_told() {
    let found = refused_by_nobody(watching());
    is(&found, Symptom::SocketRefused, Cause::NotListening, Certainty::Proven);
    let unwatched = refused_by_nobody(Trace::watching(Options::default(), &["exit", "unix-close"]));
    is(&unwatched, Symptom::SocketRefused, Cause::NotListening, Certainty::Inferred);
}

#[test]
fn a_listener_that_came_and_was_killed_between_two_look_ups_is_known() {
    let trace = watching()
        .feed(listens("/run/app.sock", true, false))
        .feed(sent(9, 0, app(), process(50, "bash")))
        .feed(exit(app(), 9))
        .feed(listens("/run/app.sock", false, true));
    let found = refused_by_nobody(trace);
    is(&found, Symptom::SocketRefused, Cause::Killed, Certainty::Proven);
}

#[test]
fn a_listener_that_was_seen_closing_while_its_process_lives_has_stopped() {
    let trace = watching().feed(listening(unix("/run/app.sock"), vec![app()], false)).feed(listens(
        "/run/app.sock",
        false,
        false,
    ));
    let found = refused_by_nobody(trace);
    is(&found, Symptom::SocketRefused, Cause::StoppedListening, Certainty::Proven);
}

#[test]
fn a_listener_that_ended_at_a_like_path_may_have_been_this_one() {
    let ended = |path: &str| {
        let trace = watching().feed(listens(path, true, false)).feed(exit(app(), 9));
        refused_by_nobody(trace)
    };
    // Another mount of the same directory; a socket that its server has renamed.
    for path in ["/srv/run/app.sock", "/run/app.sock.812.tmp"] {
        let found = ended(path);
        is(&found, Symptom::SocketRefused, Cause::NotListening, Certainty::Inferred);
        says(&found, path);
    }
    is(&ended("app.sock"), Symptom::SocketRefused, Cause::Unknown, Certainty::Unknown);
    is(&ended("/srv/b.sock"), Symptom::SocketRefused, Cause::NotListening, Certainty::Proven);
}
