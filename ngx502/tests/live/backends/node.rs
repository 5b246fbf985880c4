//! Node.js: one process, which takes its listener along when it ends.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use xtask::lab::{Service, Site, Transport, wait};

use super::scene::{Expect, Scene, find};
use super::waits::silent;
use super::{CUT, Play};

pub(super) const PROGRAM: &str = "node";

pub(super) const PLAYS: &[(&str, Transport, Play)] = &[
    ("uncaught-exception", Transport::Unix, uncaught_exception),
    ("uncaught-exception", Transport::Tcp, uncaught_exception),
    ("exit", Transport::Unix, exit),
    ("exit", Transport::Tcp, exit),
    ("killed", Transport::Tcp, killed),
    ("api-hung", Transport::Tcp, api_hung),
    ("keepalive-race", Transport::Tcp, keepalive_race),
];

const APPLICATION: &str = r#"
const fs = require('fs'), http = require('http');
const server = http.createServer((request, response) => {
  fs.writeFileSync('served.new', String(process.pid));
  fs.renameSync('served.new', 'served');
  switch (request.url.split('/')[1]) {
    case 'throw': throw new Error('nobody catches this');
    case 'exit': process.exit(3);
    case 'hold': return;
    case 'ask': {
      const api = fs.readFileSync('dependency', 'utf8').split(':');
      http.get({ host: api[0], port: Number(api[1]), path: '/' }, () => response.end('ok\n'));
      return;
    }
  }
  // Some releases take a body that is left unread for activity, and leave the connection open.
  request.resume().on('end', () => response.end('ok\n'));
});
server.keepAliveTimeout = Number(process.argv[3]);
const place = process.argv[2];
if (place.startsWith('unix:')) server.listen(place.slice(5));
else server.listen(Number(place.split(':')[1]), '127.0.0.1');
"#;
/// After this long Node closes an idle connection: long enough for nginx to be stopped before.
const IDLE: Duration = Duration::from_millis(500);
const LOCATION: &str = "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://up_real;";

fn serve(over: Transport) -> Result<Service> {
    let site = Site::new(over)?;
    site.write("app.js", APPLICATION)?;
    let (address, idle) = (site.address().to_owned(), wait::scaled(IDLE).as_millis().to_string());
    Service::start(site, &find(PROGRAM).context("node has gone")?, &["app.js", &address, &idle])
}

/// The request that ends the process fails, and so do those after it, for the same reason.
fn ends_by(over: Transport, action: &str, causes: &[&str]) -> Result<()> {
    let mut scene = Scene::start(serve(over)?, LOCATION)?;
    let (first, process) = scene.ask_and(action, Ok)?;
    scene.service.wait_gone()?;
    let next = scene.ask("ok")?;
    scene.explains(&first, Expect { symptoms: CUT, causes, culprit: Some(process) })?;
    let symptoms = &["connect-refused", "socket-refused", "socket-missing"];
    scene.explains(&next, Expect { symptoms, causes, culprit: Some(process) })?;
    scene.finish().map(drop)
}

fn uncaught_exception(over: Transport) -> Result<()> {
    ends_by(over, "throw", &["exited"])
}

fn exit(over: Transport) -> Result<()> {
    ends_by(over, "exit", &["exited"])
}

/// An event loop that asked somebody else, who does not answer.
fn api_hung(over: Transport) -> Result<()> {
    let mut scene = Scene::start(serve(over)?, &format!("proxy_read_timeout 1s; {LOCATION}"))?;
    let api = silent(&scene, "tcp:127.0.0.1:0")?;
    let (uri, process) = scene.ask_and("ask", Ok)?;
    let causes = &["dependency-slow"];
    let line =
        scene.explains(&uri, Expect { symptoms: &["read-timed-out"], causes, culprit: Some(process) })?;
    let peer = &line["details"]["waits"][0]["peer"]["process"]["pid"];
    ensure!(*peer == api.pid(), "not {}: {line}", api.pid());
    ensure!(line["certainty"] == "inferred", "which request it is for cannot be seen: {line}");
    scene.finish().map(drop)
}

fn killed(over: Transport) -> Result<()> {
    let mut scene = Scene::start(serve(over)?, LOCATION)?;
    let (uri, process) = scene.ask_and("hold", |process| {
        scene.service.signal(Signal::SIGKILL)?;
        Ok(process)
    })?;
    scene.explains(&uri, Expect { symptoms: CUT, causes: &["killed"], culprit: Some(process) })?;
    scene.finish().map(drop)
}

/// Node closes an idle connection just as nginx reuses it.
fn keepalive_race(_: Transport) -> Result<()> {
    let mut scene = Scene::start_as(serve(Transport::Tcp)?, "root", "keepalive 4;", LOCATION)?;
    let port: u16 = scene.service.site().address().rsplit(':').next().context("no port")?.parse()?;
    let uri = scene.uri("ok");
    let mut client = scene.lab.client()?;
    client.send("POST", &scene.uri("ok"), b"one")?;
    ensure!(client.receive()?.status == 200, "the first request must succeed");
    // The worker is stopped: it finds the second request before the end of the idle connection.
    scene.lab.paused(|| {
        client.send("POST", &uri, b"two")?;
        wait::until("Node to close the idle connection", Duration::from_secs(10), || {
            closing(port).then_some(())
        })
    })?;
    client.receive()?;
    let symptoms = &["reset", "closed-early", "send-failed"];
    scene.explains(&uri, Expect { symptoms, causes: &["keepalive-race"], culprit: None })?;
    scene.finish().map(drop)
}

/// Whether a client's socket towards `port` has got a FIN (CLOSE_WAIT).
fn closing(port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let remote = format!(":{port:04X}");
    table.lines().map(str::split_whitespace).any(|mut fields| {
        fields.nth(2).is_some_and(|address| address.ends_with(&remote)) && fields.next() == Some("08")
    })
}
