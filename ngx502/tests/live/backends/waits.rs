//! What a Gunicorn worker waits for when nginx gives it up, and what it does not.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::lab::backend::{Backend, BackendConfig};
use xtask::lab::behaviour::Behaviour;
use xtask::lab::{Service, Site, Transport};

use super::Play;
use super::scene::{Expect, Scene, find};

pub(super) const PROGRAM: &str = "gunicorn";

pub(super) const PLAYS: &[(&str, Transport, Play)] = &[
    ("dependency", Transport::Tcp, dependency),
    ("dependency", Transport::Unix, dependency),
    ("dependency-of-a-pool", Transport::Tcp, dependency_of_a_pool),
    ("dependency-paused", Transport::Tcp, dependency_paused),
    ("paused", Transport::Tcp, paused),
    ("lock", Transport::Unix, lock),
    ("pipe", Transport::Tcp, pipe),
    ("computing", Transport::Tcp, computing),
    ("sleeping", Transport::Tcp, |over| nothing(over, "hold")),
    ("unanswered-log", Transport::Tcp, |over| nothing(over, "log")),
];

/// The dependency's address is in a file, as HOST:PORT or as a path.
const APPLICATION: &str = r#"
import fcntl, os, socket, subprocess, time

def dependency():
    place = open("dependency").read()
    if place.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(place[5:])
    else:
        host, port = place.rsplit(":", 1)
        connection = socket.create_connection((host, int(port)))
    return connection

def app(environ, start_response):
    new = "served.%d" % os.getpid()
    with open(new, "w") as note:
        note.write(str(os.getpid()))
    os.replace(new, "served")
    action = environ["PATH_INFO"].split("/")[1]
    if action == "ask":
        connection = dependency()
        connection.sendall(b"SELECT 1")
        connection.recv(16)
    elif action == "hold":
        time.sleep(30)
    elif action == "log":
        collector = dependency()
        for line in range(8):
            collector.sendall(b"a line of a log\n")
            time.sleep(0.01)
        time.sleep(30)
    elif action == "lock":
        fcntl.flock(open("lock", "w"), fcntl.LOCK_EX)
    elif action == "pipe":
        reader = subprocess.Popen(["sleep", "30"], stdin=subprocess.PIPE)
        reader.stdin.write(b"x" * (1 << 20))
    elif action == "compute":
        while True:
            pass
    start_response("200 OK", [("Content-Length", "3")])
    return [b"ok\n"]
"#;

fn scene(over: Transport, workers: u32) -> Result<Scene> {
    let site = Site::new(over)?;
    site.write("app.py", APPLICATION)?;
    let (bind, workers) = (site.address().to_owned(), workers.to_string());
    let program = find(PROGRAM).context("gunicorn has gone")?;
    let args = [
        "--bind",
        &bind,
        "--workers",
        &workers,
        "--timeout",
        "60",
        "--worker-tmp-dir",
        "/dev/shm",
        "app:app",
    ];
    let service = Service::start(site, &program, &args)?;
    Scene::start(service, "proxy_read_timeout 1s; proxy_pass http://up_real;")
}

/// A server that reads what it is asked, and says nothing.
pub(super) fn silent(scene: &Scene, listen: &str) -> Result<Backend> {
    let backend = Backend::start(&BackendConfig {
        listen: listen.to_owned(),
        behaviour: Behaviour::Silent,
        backlog: None,
        workers: 0,
        netns: None,
        cgroup: None,
        container: None,
    })?;
    scene.service.site().write("dependency", backend.address())?;
    Ok(backend)
}

fn timed_out(scene: &mut Scene, uri: &str, causes: &[&str], culprit: Option<u32>) -> Result<Value> {
    scene.explains(uri, Expect { symptoms: &["read-timed-out"], causes, culprit })
}

/// Blocked on a socket to a process that does not answer: both are named.
fn dependency(over: Transport) -> Result<()> {
    let mut scene = scene(over, 1)?;
    let listen = match over {
        Transport::Tcp => "tcp:127.0.0.1:0".to_owned(),
        Transport::Unix => format!("unix:{}/dependency.sock", scene.service.site().dir().display()),
    };
    let database = silent(&scene, &listen)?;
    let (uri, worker) = scene.ask_and("ask", Ok)?;
    let line = timed_out(&mut scene, &uri, &["dependency-slow"], Some(worker))?;
    ensure!(line["certainty"] == "proven", "not proven: {line}");
    let wait = &line["details"]["waits"][0];
    ensure!(wait["peer"]["process"]["pid"] == database.pid(), "not {}: {line}", database.pid());
    let address = database.address().strip_prefix("unix:").unwrap_or(database.address());
    ensure!(wait["on"].as_str().is_some_and(|on| on.ends_with(address)), "not on {address}: {line}");
    scene.finish().map(drop)
}

/// Both workers wait for it: a third request, which nobody accepts, has the same reason.
fn dependency_of_a_pool(over: Transport) -> Result<()> {
    let mut scene = scene(over, 2)?;
    let _database = silent(&scene, "tcp:127.0.0.1:0")?;
    for _ in 0..2 {
        scene.ask_and("ask", Ok)?;
    }
    let uri = scene.ask("ok")?;
    let line = timed_out(&mut scene, &uri, &["dependency-slow"], None)?;
    let pool = &line["details"]["pool"];
    ensure!(pool["workers"] == 2 && pool["waiting"] == 2, "not both of two workers: {line}");
    scene.finish().map(drop)
}

/// The chain goes on to the process that is stopped.
fn dependency_paused(over: Transport) -> Result<()> {
    let mut scene = scene(over, 1)?;
    let database = silent(&scene, "tcp:127.0.0.1:0")?;
    let stopped = Pid::from_raw(i32::try_from(database.pid())?);
    kill(stopped, Signal::SIGSTOP)?;
    let uri = scene.ask("ask")?;
    let line = timed_out(&mut scene, &uri, &["paused"], Some(database.pid()));
    kill(stopped, Signal::SIGCONT)?;
    let line = line?;
    let hops = line["hops"].as_array().map_or(0, Vec::len);
    ensure!(hops == 2 && line["hops"][1]["relation"] == "waits-for", "no way to it: {line}");
    scene.finish().map(drop)
}

/// The worker itself is stopped, by this program.
fn paused(over: Transport) -> Result<()> {
    let mut scene = scene(over, 1)?;
    let (uri, worker) = scene.ask_and("hold", |worker| {
        kill(Pid::from_raw(i32::try_from(worker)?), Signal::SIGSTOP)?;
        Ok(worker)
    })?;
    let line = timed_out(&mut scene, &uri, &["paused"], Some(worker));
    kill(Pid::from_raw(i32::try_from(worker)?), Signal::SIGCONT)?;
    let line = line?;
    ensure!(line["details"]["how"] == "stopped", "not stopped: {line}");
    ensure!(line["details"]["by"]["pid"] == std::process::id(), "not by this program: {line}");
    scene.finish().map(drop)
}

/// This program holds the lock.
fn lock(over: Transport) -> Result<()> {
    let mut scene = scene(over, 1)?;
    let path = scene.service.site().dir().join("lock");
    let held = Flock::lock(File::create(&path)?, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let (uri, worker) = scene.ask_and("lock", Ok)?;
    let line = timed_out(&mut scene, &uri, &["lock-wait"], Some(worker))?;
    drop(held);
    ensure!(line["details"]["holder"]["pid"] == std::process::id(), "not held by this program: {line}");
    ensure!(line["details"]["path"].as_str().is_some_and(|path| path.ends_with("/lock")), "no path: {line}");
    scene.finish().map(drop)
}

fn pipe(over: Transport) -> Result<()> {
    let mut scene = scene(over, 1)?;
    let (uri, worker) = scene.ask_and("pipe", Ok)?;
    let line = timed_out(&mut scene, &uri, &["io-wait"], Some(worker))?;
    ensure!(line["details"]["reader"]["comm"] == "sleep", "not read by sleep: {line}");
    scene.finish().map(drop)
}

fn computing(over: Transport) -> Result<()> {
    let mut scene = scene(over, 1)?;
    let (uri, worker) = scene.ask_and("compute", Ok)?;
    timed_out(&mut scene, &uri, &["cpu-bound"], Some(worker))?;
    scene.finish().map(drop)
}

/// It waits for nothing but time: nobody is blamed.
fn nothing(over: Transport, action: &str) -> Result<()> {
    let mut scene = scene(over, 1)?;
    let _collector = silent(&scene, "tcp:127.0.0.1:0")?;
    let (uri, worker) = scene.ask_and(action, Ok)?;
    timed_out(&mut scene, &uri, &["upstream-slow"], Some(worker))?;
    scene.finish().map(drop)
}
