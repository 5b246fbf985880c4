//! Gunicorn with synchronous workers.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use xtask::lab::truth::Truth;
use xtask::lab::{Service, Site, Transport};

use super::scene::{Expect, Scene, find, wait_replaced};
use super::{CUT, Play, WSGI};
use crate::tracer::says;

pub(super) const PROGRAM: &str = "gunicorn";

pub(super) const PLAYS: &[(&str, Transport, Play)] = &[
    ("worker-timeout", Transport::Unix, worker_timeout),
    ("worker-timeout", Transport::Tcp, worker_timeout),
    ("worker-stuck", Transport::Unix, worker_stuck),
    ("worker-oom", Transport::Unix, worker_oom),
    ("worker-oom", Transport::Tcp, worker_oom),
    ("worker-crash", Transport::Unix, worker_crash),
    ("worker-crash", Transport::Tcp, worker_crash),
    ("worker-exit", Transport::Unix, worker_exit),
    ("stopped", Transport::Tcp, stopped),
    ("reload-under-load", Transport::Unix, reload_under_load),
];

fn scene(over: Transport, workers: u32, timeout: u32) -> Result<Scene> {
    let service = serve(over, workers, timeout)?;
    Scene::start(service, "proxy_read_timeout 10s; proxy_pass http://up_real;")
}

fn serve(over: Transport, workers: u32, timeout: u32) -> Result<Service> {
    let site = Site::new(over)?;
    site.write("app.py", WSGI)?;
    let (bind, workers, timeout) = (site.address().to_owned(), workers.to_string(), timeout.to_string());
    let program = find(PROGRAM).context("gunicorn has gone")?;
    let args = [
        "--bind",
        &bind,
        "--workers",
        &workers,
        "--timeout",
        &timeout,
        "--worker-tmp-dir",
        "/dev/shm",
        "app:app",
    ];
    Service::start(site, &program, &args)
}

/// The arbiter ends a worker that is silent for too long: SIGABRT, which the worker answers by exiting. Gunicorn 23 (Debian
/// 13) has it answer the request with 500 first, if it was in Python code: no gateway's error then, and no verdict.
fn worker_timeout(over: Transport) -> Result<()> {
    let mut scene = scene(over, 1, 1)?;
    let (uri, worker) = scene.ask_and("hold", Ok)?;
    if Truth::of(&scene.lab, &uri)?.upstream_status == "500" {
        return scene.finish().map(drop);
    }
    let line = scene.explains(&uri, Expect { symptoms: CUT, causes: &["killed"], culprit: Some(worker) })?;
    says(&line, "silent for longer than --timeout")?;
    scene.finish().map(drop)
}

/// A worker in native code does not hear SIGABRT: SIGKILL follows.
fn worker_stuck(over: Transport) -> Result<()> {
    let mut scene = scene(over, 1, 1)?;
    let (uri, worker) = scene.ask_and("stick", Ok)?;
    let line = scene.explains(&uri, Expect { symptoms: CUT, causes: &["killed"], culprit: Some(worker) })?;
    says(&line, "SIGKILL by gunicorn")?;
    says(&line, "a worker that outlives --timeout")?;
    scene.finish().map(drop)
}

fn worker_oom(over: Transport) -> Result<()> {
    scene(over, 1, 30)?.outgrow_memory()
}

fn worker_crash(over: Transport) -> Result<()> {
    let mut scene = scene(over, 2, 30)?;
    let (uri, worker) = scene.ask_and("crash", Ok)?;
    scene.explains(&uri, Expect { symptoms: CUT, causes: &["crashed"], culprit: Some(worker) })?;
    scene.finish().map(drop)
}

fn worker_exit(over: Transport) -> Result<()> {
    let mut scene = scene(over, 2, 30)?;
    let (uri, worker) = scene.ask_and("exit", Ok)?;
    scene.explains(&uri, Expect { symptoms: CUT, causes: &["exited"], culprit: Some(worker) })?;
    scene.finish().map(drop)
}

/// Stopped as a service manager stops it.
fn stopped(over: Transport) -> Result<()> {
    let mut scene = scene(over, 1, 30)?;
    scene.ask("ok")?;
    scene.service.signal(Signal::SIGTERM)?;
    scene.service.wait_gone()?;
    let uri = scene.ask("ok")?;
    let symptoms = &["socket-missing", "socket-refused", "connect-refused"];
    scene.explains(&uri, Expect { symptoms, causes: &["exited", "stopped-listening"], culprit: None })?;
    scene.finish().map(drop)
}

/// A reload is graceful: nothing fails, and nothing is invented.
fn reload_under_load(over: Transport) -> Result<()> {
    let scene = scene(over, 2, 30)?;
    let old = scene.service.workers();
    let (good, all) = scene.under_load(|| {
        scene.service.signal(Signal::SIGHUP)?;
        wait_replaced(&scene.service, &old)
    })?;
    let said = scene.finish()?;
    let failed = u32::try_from(said.verdicts.len())?;
    ensure!(good + failed == all, "{good} of {all} were answered, and {failed} verdicts told");
    Ok(())
}
