//! Replay over real files.

use std::path::Path;

use jiff::Timestamp;

use super::*;
use crate::attribute::verdict::{Cause, Outcome, Symptom};
use crate::capture::{self, Writer};
use crate::event::{Attempt, Body, Nanos, Record, Request, RequestKey, Via};

/// A refused connect, or for a 504 a wait in vain, and the error page after it.
fn failure(second: u64, status: u16) -> [Body; 2] {
    let key = RequestKey { request: second, ..RequestKey::default() };
    let request_line = Some("GET /a?token=secret HTTP/1.1".into());
    let (via, errno, text, action, peer) = match status {
        504 => {
            (Via::Log, 110, "upstream timed out", "reading response header from upstream", "unix:/run/x.sock")
        }
        _ => (Via::ConnectionError, 111, "connect() failed", "connecting to upstream", "127.0.0.1:9000"),
    };
    let attempt = Attempt {
        key,
        index: 1,
        via,
        errno: Some(errno),
        text: text.into(),
        action: Some(action.into()),
        peer: Some(peer.into()),
        ..Attempt::default()
    };
    let request = Request { key, status, request_line, has_upstream: true, ..Request::default() };
    [Body::Attempt(Box::new(attempt)), Body::Request(Box::new(request))]
}

/// Requests at these seconds of wall time, captured on a host whose boot was at second `boot`.
fn capture(path: &Path, host: &str, boot: u64, requests: &[(u64, u16)], options: capture::Options) {
    let session = Session {
        host: host.into(),
        boot_id: host.into(),
        with_query: true,
        wall_offset: i64::try_from(boot * 1_000_000_000).expect("a small number"),
        ..Session::default()
    };
    let mut writer = Writer::create(path, &session, options).expect("a new file");
    for (second, status) in requests {
        let at = Nanos((second - boot) * 1_000_000_000);
        for body in failure(*second, *status) {
            writer.record(&Record { at, body }).expect("room");
        }
        writer.flush().expect("room");
    }
    writer.finish().expect("room");
}

/// Host, second and URI of each verdict.
#[derive(Default)]
struct Seen(Vec<(String, i128, String)>);

impl Watcher for Seen {
    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> Result<()> {
        if let Outcome::Verdict(verdict) = outcome {
            let uri = verdict.request.as_ref().and_then(|request| request.uri.as_ref());
            let second = session.wall(verdict.at) / 1_000_000_000;
            self.0.push((verdict.host.to_string(), second, uri.expect("a URI").to_string()));
        }
        Ok(())
    }
}

fn run(captures: &Captures) -> (Seen, Vec<String>) {
    let mut seen = Seen::default();
    let complaints = Replay::open(captures).expect("captures").run(&mut seen).expect("a replay");
    (seen, complaints)
}

#[test]
fn hosts_are_merged_by_wall_time_and_parts_are_joined() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name);
    capture(&file("a"), "web-1", 10, &[(20, 502), (22, 502), (24, 502)], capture::Options::default());
    let options = capture::Options { force: false, max_size: Some(1), max_files: 9 };
    capture(&file("b"), "web-2", 5, &[(21, 502), (23, 504), (25, 502)], options);
    let files = [file("b"), file("b.1"), file("a"), file("b.2"), file("b.3")];
    let (seen, complaints) = run(&Captures { files: files.to_vec(), ..Captures::default() });
    let order: Vec<_> = seen.0.iter().map(|(host, second, _)| (host.as_str(), *second)).collect();
    let expected = [("web-1", 20), ("web-2", 21), ("web-1", 22), ("web-2", 23), ("web-1", 24), ("web-2", 25)];
    assert_eq!(order, expected);
    assert_eq!(complaints, [""; 0]);
}

#[test]
fn filters_choose_verdicts() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = [directory.path().join("a")];
    capture(&files[0], "web-1", 10, &[(20, 502), (22, 504), (24, 502)], capture::Options::default());
    let seconds = |filter: Filter| {
        let (seen, _) = run(&Captures { files: files.to_vec(), filter, with_query: false });
        seen.0.into_iter().map(|(_, second, _)| second).collect::<Vec<_>>()
    };
    let second = |second| Timestamp::from_second(second).ok();
    assert_eq!(seconds(Filter { causes: vec![Cause::Unknown], ..Filter::default() }), [22]);
    assert_eq!(seconds(Filter { symptoms: vec![Symptom::ConnectRefused], ..Filter::default() }), [20, 24]);
    assert_eq!(seconds(Filter { upstreams: vec!["unix:/run/x.sock".into()], ..Filter::default() }), [22]);
    assert_eq!(seconds(Filter { since: second(22), until: second(24), ..Filter::default() }), [22]);
    assert_eq!(seconds(Filter { hosts: vec!["web-9".into()], ..Filter::default() }), []);
}

#[test]
fn a_cut_capture_is_replayed_and_complained_about() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a");
    capture(&path, "web-1", 10, &[(20, 502), (22, 502)], capture::Options::default());
    let bytes = std::fs::read(&path).expect("the capture");
    std::fs::write(&path, &bytes[..bytes.len() - 120]).expect("room");
    let (seen, complaints) = run(&Captures { files: vec![path], ..Captures::default() });
    assert_eq!(seen.0.len(), 1);
    let complaints = complaints.join("\n");
    assert!(complaints.contains("cut in a frame") && complaints.contains("no end marker"), "{complaints}");
}

#[test]
fn a_replay_shows_query_strings_only_when_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = vec![directory.path().join("a")];
    capture(&files[0], "web-1", 10, &[(20, 502)], capture::Options::default());
    for (with_query, uri) in [(false, "/a"), (true, "/a?token=secret")] {
        let (seen, _) = run(&Captures { files: files.clone(), with_query, ..Captures::default() });
        assert_eq!(seen.0[0].2, uri);
    }
}
