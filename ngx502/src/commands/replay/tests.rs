//! Replay over real files with an engine that makes a verdict of every request.

use std::path::Path;

use jiff::Timestamp;

use super::*;
use crate::attribute::verdict::{Cause, Symptom, Verdict};
use crate::capture::{Options, Retention, Writer};
use crate::event::{Nanos, Request};
use crate::synthetic::{play, stories};

struct EachRequest(String);

impl Engine for EachRequest {
    fn feed(&mut self, record: Record, outcomes: &mut Vec<Outcome>) {
        let Body::Request(request) = &record.body else { return };
        let model = match request.status {
            504 => play::verdict(|scene| stories::queue_full(scene, 1)),
            _ => play::verdict(|scene| stories::killed_at_work(scene, true)),
        };
        let verdict = Verdict { host: self.0.as_str().into(), ..play::moved(&model, record.at) };
        outcomes.push(Outcome::Verdict(Box::new(verdict)));
    }

    fn finish(&mut self, outcomes: &mut Vec<Outcome>) {
        outcomes.push(Outcome::NotUpstream { status: 500 });
    }
}

/// Requests at these seconds of wall time, captured on a host whose boot was at second `boot`.
fn capture(path: &Path, host: &str, boot: u64, requests: &[(u64, u16)], retention: Retention) {
    let session = Session {
        host: host.into(),
        boot_id: host.into(),
        wall_offset: i64::try_from(boot * 1_000_000_000).expect("a small number"),
        ..Session::default()
    };
    let mut writer = Writer::create(path, &session, Options { force: false, retention }).expect("a new file");
    for (second, status) in requests {
        let request = Request { status: *status, ..Request::default() };
        let at = Nanos((second - boot) * 1_000_000_000);
        writer.record(&Record { at, body: Body::Request(Box::new(request)) }).expect("room");
        writer.flush().expect("room");
    }
    writer.finish().expect("room");
}

fn run(files: &[PathBuf], filter: &Filter) -> (Vec<(String, i128)>, Replayed) {
    let mut seen = Vec::new();
    let captures = Captures { files: files.to_vec(), filter: filter.clone(), with_query: false };
    let mut watch = |session: &Session, outcome: &Outcome| {
        if let Outcome::Verdict(verdict) = outcome {
            seen.push((verdict.host.to_string(), session.wall(verdict.at) / 1_000_000_000));
        }
        Ok(())
    };
    let engine = |session: &Session| EachRequest(session.host.clone());
    let replayed = Replay::open(&captures).expect("captures").run(engine, &mut watch).expect("a replay");
    (seen, replayed)
}

#[test]
fn hosts_are_merged_by_wall_time_and_parts_are_joined() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name);
    capture(&file("a"), "web-1", 10, &[(20, 502), (22, 502), (24, 502)], Retention::default());
    let retention = Retention { max_size: Some(1), max_files: 9 };
    capture(&file("b"), "web-2", 5, &[(21, 502), (23, 504), (25, 502)], retention);
    let files = [file("b"), file("b.1"), file("a"), file("b.2"), file("b.3")];
    let (seen, replayed) = run(&files, &Filter::default());
    let order: Vec<_> = seen.iter().map(|(host, second)| (host.as_str(), *second)).collect();
    let expected = [("web-1", 20), ("web-2", 21), ("web-1", 22), ("web-2", 23), ("web-1", 24), ("web-2", 25)];
    assert_eq!(order, expected);
    assert_eq!((replayed.shown, replayed.filtered, replayed.files.len()), (8, 0, 5));
    assert!(replayed.files.iter().all(|file| file.complaints().is_empty()));
}

#[test]
fn filters_choose_verdicts() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = [directory.path().join("a")];
    capture(&files[0], "web-1", 10, &[(20, 502), (22, 504), (24, 502)], Retention::default());
    let seconds =
        |filter: Filter| run(&files, &filter).0.into_iter().map(|(_, second)| second).collect::<Vec<_>>();
    let second = |second| Timestamp::from_second(second).ok();
    assert_eq!(seconds(Filter { causes: vec![Cause::QueueFull], ..Filter::default() }), [22]);
    assert_eq!(seconds(Filter { symptoms: vec![Symptom::ClosedEarly], ..Filter::default() }), [20, 24]);
    assert_eq!(
        seconds(Filter { upstreams: vec!["unix:/run/php/php8.2-fpm.sock".into()], ..Filter::default() }),
        [22]
    );
    assert_eq!(seconds(Filter { since: second(22), until: second(24), ..Filter::default() }), [22]);
    assert_eq!(seconds(Filter { hosts: vec!["web-9".into()], ..Filter::default() }), []);
}

#[test]
fn a_cut_capture_is_replayed_and_complained_about() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a");
    capture(&path, "web-1", 10, &[(20, 502), (22, 502)], Retention::default());
    let bytes = std::fs::read(&path).expect("the capture");
    std::fs::write(&path, &bytes[..bytes.len() - 120]).expect("room");
    let (seen, replayed) = run(&[path], &Filter::default());
    assert_eq!(seen.len(), 1);
    let complaints = replayed.files[0].complaints().join("\n");
    assert!(complaints.contains("cut in a frame") && complaints.contains("no end marker"), "{complaints}");
}
