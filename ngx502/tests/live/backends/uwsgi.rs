//! uWSGI with the Python plugin, over its own protocol.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use xtask::lab::{Service, Site, Transport};

use super::scene::{Expect, Scene, fill_queue, find};
use super::{CUT, Play, WSGI};
use crate::tracer::says;

pub(super) const PROGRAM: &str = "uwsgi";

pub(super) const PLAYS: &[(&str, Transport, Play)] = &[
    ("harakiri", Transport::Unix, harakiri),
    ("harakiri", Transport::Tcp, harakiri),
    ("queue-full", Transport::Unix, queue_full),
    ("queue-full", Transport::Tcp, queue_full),
    ("worker-oom", Transport::Unix, worker_oom),
    ("killed", Transport::Tcp, killed),
];

const LOCATION: &str = "uwsgi_param REQUEST_METHOD $request_method; uwsgi_param PATH_INFO $document_uri; \
     uwsgi_param SERVER_NAME lab; uwsgi_param SERVER_PORT 80; uwsgi_pass {up};";

fn serve(over: Transport, more: &[&str]) -> Result<Service> {
    let site = Site::new(over)?;
    site.write("app.py", WSGI)?;
    let address = site.socket().unwrap_or(site.address()).to_owned();
    let program = find(PROGRAM).context("uwsgi has gone")?;
    let mut args =
        vec!["--plugin", "python3", "--master", "--processes", "1", "--chmod-socket=666", "--die-on-term"];
    args.extend(["--need-app", "--wsgi-file", "app.py", "--callable", "app", "--socket", &address]);
    args.extend(more);
    Service::start(site, &program, &args)
}

/// The master kills a worker that takes too long.
fn harakiri(over: Transport) -> Result<()> {
    let mut scene = Scene::start(serve(over, &["--harakiri", "1"])?, LOCATION)?;
    let (uri, worker) = scene.ask_and("hold", Ok)?;
    let line = scene.explains(&uri, Expect { symptoms: CUT, causes: &["killed"], culprit: Some(worker) })?;
    says(&line, "its master, as it does when harakiri is exceeded")?;
    scene.finish().map(drop)
}

/// The one worker is busy, and more wait than `--listen` allows.
fn queue_full(over: Transport) -> Result<()> {
    let location = format!("uwsgi_connect_timeout 500ms; uwsgi_read_timeout 3s; {LOCATION}");
    let mut scene = Scene::start(serve(over, &["--listen", "1"])?, &location)?;
    let address = scene.service.site().address().to_owned();
    let (_, refused) = scene.ask_and("hold", |_| {
        let waiting = fill_queue(&address, 2)?;
        let refused = scene.ask("ok")?;
        drop(waiting);
        Ok(refused)
    })?;
    let symptoms = &["socket-backlog-full", "connect-timed-out"];
    scene.explains(&refused, Expect { symptoms, causes: &["queue-full"], culprit: None })?;
    scene.finish().map(drop)
}

fn worker_oom(over: Transport) -> Result<()> {
    Scene::start(serve(over, &[])?, LOCATION)?.outgrow_memory()
}

fn killed(over: Transport) -> Result<()> {
    let mut scene = Scene::start(serve(over, &[])?, LOCATION)?;
    scene.ask("ok")?;
    scene.service.signal_all(Signal::SIGKILL)?;
    scene.service.wait_gone()?;
    let uri = scene.ask("ok")?;
    let symptoms = &["connect-refused", "socket-refused"];
    scene.explains(&uri, Expect { symptoms, causes: &["killed"], culprit: None })?;
    scene.finish().map(drop)
}
