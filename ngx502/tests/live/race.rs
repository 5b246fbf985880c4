//! Faults that depend on who is first: the worker is paused, so that the order is decided and not lucky.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use xtask::lab::Stage;
use xtask::lab::faults::{self, Fault};
use xtask::lab::stage::Shot;
use xtask::lab::truth::{Entry, Owed, Truth};

use crate::check::{line_agrees, nginx_agrees};
use crate::told;
use crate::tracer::Tracer;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("lab::keepalive-race", || told(keepalive_race_happens)),
        Trial::test("lab::send-failed", || told(send_failure_happens)),
        Trial::test("verdict::keepalive-race", || told(keepalive_race_is_named)),
        Trial::test("verdict::keepalive-race-rescued", || told(keepalive_race_is_rescued)),
        Trial::test("verdict::send-failed", || told(send_failure_is_named)),
    ]
}

fn stage(name: &str) -> Result<(&'static Fault, Stage)> {
    let fault = faults::named(name);
    Ok((fault, Stage::start(&[fault], |_| {})?))
}

/// A second request on a kept connection that the upstream closes just then.
fn keepalive_race(stage: &mut Stage, method: &str) -> Result<(Shot, Entry)> {
    let uri = format!("/keepalive-race/{method}-2");
    let mut client = stage.lab().client()?;
    client.send(method, &format!("/keepalive-race/{method}-1"), b"one")?;
    ensure!(client.receive()?.status == 200, "the first request must succeed");
    // The backend is told while the worker is stopped; both need the stage.
    let mut backend = stage.peer("keepalive-race", 0).backend.take().expect("the row has a process");
    let raced = stage.lab().paused(|| {
        client.send(method, &uri, b"two")?;
        backend.close_connections()
    });
    stage.peer("keepalive-race", 0).backend = Some(backend);
    raced?;
    let response = Some(client.receive()?);
    let entry = Truth::of(stage.lab(), &uri)?;
    Ok((Shot { uri, response }, entry))
}

/// The upstream is gone when the second half of the body comes.
fn send_failure(stage: &mut Stage) -> Result<Shot> {
    let uri = "/send-failed/1".to_owned();
    let mut client = stage.lab().client()?;
    client.send_head("POST", &uri, 200)?;
    client.send_bytes(&[b'x'; 100])?;
    let mut backend = stage.peer("send-failed", 0).backend.take().expect("the row has a process");
    let raced = backend.await_connection().and_then(|()| {
        stage.lab().paused(|| {
            client.send_bytes(&[b'x'; 100])?;
            backend.close_connections()
        })
    });
    stage.peer("send-failed", 0).backend = Some(backend);
    raced?;
    let response = Some(client.receive()?);
    Ok(Shot { uri, response })
}

fn keepalive_race_happens() -> Result<()> {
    let (fault, mut stage) = stage("keepalive-race")?;
    let (shot, entry) = keepalive_race(&mut stage, "POST")?;
    ensure!(entry.status == fault.expect.status, "unexpected: {shot:?} {entry:?}");
    // Whether the worker reads the FIN or the RST first is the kernel's choice.
    ensure!(
        matches!(entry.owed(), Owed::Verdict("reset" | "closed-early")),
        "unexpected: {shot:?} {entry:?}"
    );
    Ok(())
}

fn send_failure_happens() -> Result<()> {
    let (fault, mut stage) = stage("send-failed")?;
    let shot = send_failure(&mut stage)?;
    nginx_agrees(&stage, fault, &shot).map(drop)
}

fn keepalive_race_is_named() -> Result<()> {
    let (fault, mut stage) = stage("keepalive-race")?;
    let mut tracer = Tracer::start(stage.lab().master(), &[])?;
    let (shot, entry) = keepalive_race(&mut stage, "POST")?;
    let line = tracer.wait_for_uri("verdict", &shot.uri)?;
    let Owed::Verdict(symptom) = entry.owed() else { anyhow::bail!("no 502: {entry:?}") };
    let errno = (symptom == "reset").then_some("ECONNRESET");
    let expect = faults::Expect { symptom, errno, ..fault.expect };
    line_agrees(&line, &Fault { expect, ..*fault }, &shot, &entry)?;
    ensure!(tracer.stop()?.verdicts.len() == 1, "exactly one verdict");
    Ok(())
}

/// nginx repeats a GET on a fresh connection by itself.
fn keepalive_race_is_rescued() -> Result<()> {
    let (_, mut stage) = stage("keepalive-race")?;
    let mut tracer = Tracer::start(stage.lab().master(), &[])?;
    let (shot, entry) = keepalive_race(&mut stage, "GET")?;
    ensure!(entry.status == 200, "nginx repeats a GET: {entry:?}");
    let line = tracer.wait_for_uri("rescued", &shot.uri)?;
    ensure!(line["cause"] == "keepalive-race", "cause {}: {line}", line["cause"]);
    ensure!(tracer.stop()?.verdicts.is_empty(), "the client got its answer");
    Ok(())
}

fn send_failure_is_named() -> Result<()> {
    let (fault, mut stage) = stage("send-failed")?;
    let mut tracer = Tracer::start(stage.lab().master(), &[])?;
    let shot = send_failure(&mut stage)?;
    let entry = nginx_agrees(&stage, fault, &shot)?;
    line_agrees(&tracer.wait_for_uri("verdict", &shot.uri)?, fault, &shot, &entry)?;
    ensure!(tracer.stop()?.verdicts.len() == 1, "exactly one verdict");
    Ok(())
}
