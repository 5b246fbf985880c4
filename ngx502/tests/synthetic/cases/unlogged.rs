//! nginx's log line was hidden by `error_log … crit`, or the call that writes it was missed.

use ngx502::event::*;

use super::Case;
use crate::synthetic::scene::{Scene, connected, no_connection};

/// No connection came about; look-ups were made just before.
fn unconnected(s: &mut Scene, missed: bool, peer: &str, lookups: Vec<Body>) {
    s.feed_all(lookups);
    s.unlogged(missed, no_connection(502, peer), None);
}

fn route(s: &Scene, errno: i32) -> Body {
    Body::Route(RouteLookup { worker: s.worker(), to: s.address().ip(), netns: 1, errno: Some(errno) })
}

pub(super) const CASES: &[Case] = &[
    ("hidden, and nothing was looked up", |s| unconnected(s, false, &s.peer(), vec![])),
    ("missed, and nothing was looked up", |s| unconnected(s, true, &s.peer(), vec![])),
    ("hidden, and the upstream's name could not be read", |s| unconnected(s, false, "", vec![])),
    ("hidden, and there is no listener", |s| {
        unconnected(s, false, &s.peer(), vec![s.listening(s.tcp(), vec![], true)]);
    }),
    ("missed, and there is no listener", |s| {
        unconnected(s, true, &s.peer(), vec![s.listening(s.tcp(), vec![], true)]);
    }),
    ("hidden, and there is no route", |s| unconnected(s, false, &s.peer(), vec![route(s, 113)])),
    ("missed, and there is no route", |s| unconnected(s, true, &s.peer(), vec![route(s, 101)])),
    ("hidden, and the backlog is full", |s| {
        unconnected(s, false, &s.sock(), vec![s.queued(s.unix(), (129, 128), vec![s.app()], Some(true))]);
    }),
    ("hidden, and a part of the response came", |s| s.unlogged(false, connected(502, &s.peer(), 40), None)),
    ("missed, and a part of the response came", |s| s.unlogged(true, connected(502, &s.peer(), 40), None)),
];
