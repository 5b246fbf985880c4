//! Faults that depend on who is first: the worker is paused, so that the order is decided and not lucky.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use xtask::lab::Testbed;
use xtask::lab::faults::{self, Fault};
use xtask::lab::testbed::Sent;
use xtask::lab::truth::{Entry, Owed, Truth};

use crate::check::{line_agrees, nginx_agrees};
use crate::outcome_of;
use crate::tracer::Tracer;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("lab::keepalive-race", || outcome_of(keepalive_race_happens)),
        Trial::test("lab::send-failed", || outcome_of(send_failure_happens)),
        Trial::test("verdict::keepalive-race", || outcome_of(keepalive_race_is_named)),
        Trial::test("verdict::keepalive-race-rescued", || outcome_of(keepalive_race_is_rescued)),
        Trial::test("verdict::send-failed", || outcome_of(send_failure_is_named)),
    ]
}

fn testbed(name: &str) -> Result<(&'static Fault, Testbed)> {
    let fault = faults::named(name);
    Ok((fault, Testbed::start(&[fault], |_| {})?))
}

/// A second request on a kept connection that the upstream closes just then.
fn keepalive_race(testbed: &mut Testbed, method: &str) -> Result<(Sent, Entry)> {
    let uri = format!("/keepalive-race/{method}-2");
    let mut client = testbed.lab().client()?;
    client.send(method, &format!("/keepalive-race/{method}-1"), b"one")?;
    ensure!(client.receive()?.status == 200, "the first request must succeed");
    // The backend is told while the worker is stopped; both need the testbed.
    let mut backend = testbed.peer("keepalive-race", 0).backend.take().expect("the row has a process");
    let raced = testbed.lab().paused(|| {
        client.send(method, &uri, b"two")?;
        backend.close_connections()
    });
    testbed.peer("keepalive-race", 0).backend = Some(backend);
    raced?;
    let response = Some(client.receive()?);
    let entry = Truth::of(testbed.lab(), &uri)?;
    Ok((Sent { uri, response }, entry))
}

/// The upstream is gone when the second half of the body comes.
fn send_failure(testbed: &mut Testbed) -> Result<Sent> {
    let uri = "/send-failed/1".to_owned();
    let mut client = testbed.lab().client()?;
    client.send_head("POST", &uri, 200)?;
    client.send_bytes(&[b'x'; 100])?;
    let mut backend = testbed.peer("send-failed", 0).backend.take().expect("the row has a process");
    let raced = backend.await_connection().and_then(|()| {
        testbed.lab().paused(|| {
            client.send_bytes(&[b'x'; 100])?;
            backend.close_connections()
        })
    });
    testbed.peer("send-failed", 0).backend = Some(backend);
    raced?;
    let response = Some(client.receive()?);
    Ok(Sent { uri, response })
}

fn keepalive_race_happens() -> Result<()> {
    let (fault, mut testbed) = testbed("keepalive-race")?;
    let (sent, entry) = keepalive_race(&mut testbed, "POST")?;
    ensure!(entry.status == fault.expect.status, "unexpected: {sent:?} {entry:?}");
    // Whether the worker reads the FIN or the RST first is the kernel's choice.
    ensure!(
        matches!(entry.owed(), Owed::Verdict("reset" | "closed-early")),
        "unexpected: {sent:?} {entry:?}"
    );
    Ok(())
}

fn send_failure_happens() -> Result<()> {
    let (fault, mut testbed) = testbed("send-failed")?;
    let sent = send_failure(&mut testbed)?;
    nginx_agrees(&testbed, fault, &sent).map(drop)
}

fn keepalive_race_is_named() -> Result<()> {
    let (fault, mut testbed) = testbed("keepalive-race")?;
    let mut tracer = Tracer::start(testbed.lab().master(), &[])?;
    let (sent, entry) = keepalive_race(&mut testbed, "POST")?;
    let line = tracer.wait_for_uri("verdict", &sent.uri)?;
    let Owed::Verdict(symptom) = entry.owed() else { anyhow::bail!("no 502: {entry:?}") };
    let errno = (symptom == "reset").then_some("ECONNRESET");
    let expect = faults::Expect { symptom, errno, ..fault.expect };
    line_agrees(&line, &Fault { expect, ..*fault }, &sent, &entry)?;
    ensure!(tracer.stop()?.verdicts.len() == 1, "exactly one verdict");
    Ok(())
}

/// nginx repeats a GET on a fresh connection by itself.
fn keepalive_race_is_rescued() -> Result<()> {
    let (_, mut testbed) = testbed("keepalive-race")?;
    let mut tracer = Tracer::start(testbed.lab().master(), &[])?;
    let (sent, entry) = keepalive_race(&mut testbed, "GET")?;
    ensure!(entry.status == 200, "nginx repeats a GET: {entry:?}");
    let line = tracer.wait_for_uri("rescued", &sent.uri)?;
    ensure!(line["cause"] == "keepalive-race", "cause {}: {line}", line["cause"]);
    ensure!(tracer.stop()?.verdicts.is_empty(), "the client got its answer");
    Ok(())
}

fn send_failure_is_named() -> Result<()> {
    let (fault, mut testbed) = testbed("send-failed")?;
    let mut tracer = Tracer::start(testbed.lab().master(), &[])?;
    let sent = send_failure(&mut testbed)?;
    let entry = nginx_agrees(&testbed, fault, &sent)?;
    line_agrees(&tracer.wait_for_uri("verdict", &sent.uri)?, fault, &sent, &entry)?;
    ensure!(tracer.stop()?.verdicts.len() == 1, "exactly one verdict");
    Ok(())
}
