//! What a user sees of a recorded incident, whole: every line of it was meant.

use std::path::Path;
use std::process::Command;

/// Standard output of the real program on a fixture.
fn replayed(words: &[&str]) -> String {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mixed-v1.ngx502");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ngx502"));
    let output = command.args(words).arg(fixture).env_remove("RUST_LOG").output().expect("the program");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{words:?}: {}: {stderr}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn an_incident_reads_as_it_did_in_the_terminal() {
    insta::assert_snapshot!("mixed-human", replayed(&["replay", "--format", "human"]));
}

#[test]
fn an_incident_reads_as_it_did_in_one_line_per_verdict() {
    insta::assert_snapshot!("mixed-quiet", replayed(&["replay", "--format", "human", "--quiet"]));
}

#[test]
fn an_incident_reads_as_it_did_in_full() {
    insta::assert_snapshot!("mixed-verbose", replayed(&["-v", "replay", "--format", "human"]));
}

#[test]
fn an_incident_reads_as_it_did_in_json() {
    insta::assert_snapshot!("mixed-json", replayed(&["replay", "--format", "json"]));
}

#[test]
fn an_incident_reads_as_it_did_in_a_report() {
    insta::assert_snapshot!("mixed-report", replayed(&["report", "--format", "text"]));
}
