//! Comparing a line of the tracer with what its fault is known to be.

use anyhow::{Result, bail, ensure};
use serde_json::Value;
use xtask::lab::Testbed;
use xtask::lab::faults::{Fault, Outcome};
use xtask::lab::testbed::Sent;
use xtask::lab::truth::{Entry, Owed, Truth};

/// Fails with both values unless they are equal.
macro_rules! same {
    ($line:expr, $name:expr, $found:expr, $wanted:expr) => {
        if $found != $wanted {
            bail!("{}: {:?}, not {:?}, in {}", $name, $found, $wanted, $line);
        }
    };
}

/// The row's promise about nginx itself: the client's status and the symptom in nginx's error log.
pub(crate) fn nginx_agrees(testbed: &Testbed, fault: &Fault, sent: &Sent) -> Result<Entry> {
    let entry = Truth::of(testbed.lab(), &sent.uri)?;
    let expect = &fault.expect;
    ensure!(entry.status == expect.status, "status {} instead of {}: {entry:?}", entry.status, expect.status);
    if let Some(response) = &sent.response {
        // nginx logs 200 for a header that it never came to send.
        let seen = if response.status == 0 { 200 } else { response.status };
        ensure!(seen == expect.status, "the client got {seen}, not {}", expect.status);
        let cut = expect.symptom == "response-truncated";
        ensure!(response.truncated == cut, "truncated: {}, not {cut}", response.truncated);
    }
    let owed = entry.owed();
    let agrees = match expect.outcome {
        // nginx writes nothing of a status that it intercepts, nor below `error_log … crit`.
        Outcome::Verdict if expect.symptom == "upstream-status" => owed == Owed::Unreported,
        Outcome::Verdict => owed == Owed::Verdict(expect.symptom),
        Outcome::Rescued => owed == Owed::Rescued(expect.symptom),
        Outcome::Passthrough => owed == Owed::Unreported,
        Outcome::Silent => matches!(owed, Owed::Nothing | Owed::Unreported),
    };
    ensure!(agrees, "the error log says {owed:?}, the row {expect:?}");
    Ok(entry)
}

/// A verdict (or rescued line) says what the row promises.
pub(crate) fn line_agrees(line: &Value, fault: &Fault, sent: &Sent, entry: &Entry) -> Result<()> {
    let expect = &fault.expect;
    same!(line, "symptom", line["symptom"], expect.symptom);
    same!(line, "status", line["status"], expect.status);
    match expect.errno {
        Some(errno) => same!(line, "errno", line["errno"], errno),
        None => ensure!(line["errno"].is_null(), "an errno that nobody saw: {line}"),
    }
    same!(line, "uri", line["request"]["uri"], sent.uri);
    same!(line, "method", line["request"]["method"], entry.method);
    same!(line, "host", line["request"]["host"], "lab.test");
    same!(line, "client", line["request"]["client"], "127.0.0.1");
    let attempts = line["attempts"].as_array().map_or(0, Vec::len);
    same!(line, "attempts", attempts, expect.attempts);
    // Without a peer nginx logs none (no descriptor, no address) or the group's name (nobody lives).
    let last = entry.upstream_addr.rsplit([',', ' ']).next().unwrap_or_default();
    let has_peer = !last.is_empty() && expect.symptom != "no-live-upstreams";
    if has_peer && expect.outcome != Outcome::Rescued {
        same!(line, "upstream address", line["upstream"]["address"], last);
        let kind = if last.starts_with("unix:") { "unix" } else { "tcp" };
        same!(line, "upstream kind", line["upstream"]["kind"], kind);
    }
    ensure!(line["summary"].as_str().is_some_and(|text| !text.is_empty()), "no summary: {line}");
    cause_agrees(line, fault)
}

/// The cause is one of the row's, and as certain as it claims to be.
fn cause_agrees(line: &Value, fault: &Fault) -> Result<()> {
    let cause = line["cause"].as_str().unwrap_or_default();
    ensure!(fault.expect.causes.contains(&cause), "cause {cause}, not {:?}: {line}", fault.expect.causes);
    let certainty = line["certainty"].as_str().unwrap_or_default();
    ensure!(
        (cause == "unknown") == (certainty == "unknown"),
        "certainty {certainty} of cause {cause}: {line}"
    );
    if certainty == "proven" {
        let evidence = line["evidence"].as_array().map_or(0, Vec::len);
        ensure!(evidence > 0, "proven without evidence: {line}");
    }
    Ok(())
}
