//! The capture that `cargo xtask bench replay` measures with, and what attribution says of its records.

mod synthetic;

use std::fs;
use std::path::PathBuf;

use ngx502::attribute::{Attributor, Options};
use ngx502::sink::Sink as _;
use ngx502::sink::json::JsonSink;
use xtask::digest::Digest;

/// A capture at `NGX502_CAPTURE` with `NGX502_VERDICTS` verdicts; beside it, with the extension `digest`, the digest of
/// the JSON lines that attribution makes of the same records when no capture lies between.
#[test]
#[ignore = "on demand: makes the capture of `cargo xtask bench replay`"]
fn write_capture() {
    let setting = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let (path, verdicts) = (PathBuf::from(setting("NGX502_CAPTURE")), setting("NGX502_VERDICTS"));
    let verdicts = verdicts.parse().expect("NGX502_VERDICTS is a number");
    let session = synthetic::session("web-1");
    let mut attributor = Attributor::new(&session, Options::of(&session));
    let mut digest = Digest::default();
    let (mut sink, mut outcomes) = (JsonSink::new(&mut digest), Vec::new());
    synthetic::incident::write(&path, "web-1", verdicts, None, |record| {
        attributor.feed(record.clone(), &mut outcomes);
        outcomes.drain(..).for_each(|outcome| sink.outcome(&session, &outcome).expect("memory"));
    });
    attributor.finish(&mut outcomes);
    outcomes.drain(..).for_each(|outcome| sink.outcome(&session, &outcome).expect("memory"));
    sink.flush().expect("memory");
    drop(sink);
    fs::write(path.with_extension("digest"), digest.to_string()).expect("room");
}
