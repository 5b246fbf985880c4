//! PHP-FPM.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use xtask::lab::{Service, Site, Transport};

use super::scene::{Expect, Scene, find, wait_replaced};
use super::waits::silent;
use super::{CUT, Play};
use crate::tracer::says;

pub(super) const PROGRAM: &str = "php-fpm";

pub(super) const PLAYS: &[(&str, Transport, Play)] = &[
    ("down", Transport::Unix, down),
    ("down", Transport::Tcp, down),
    ("killed", Transport::Unix, killed),
    ("pool-exhausted", Transport::Unix, pool_exhausted),
    ("pool-exhausted", Transport::Tcp, pool_exhausted),
    ("queue-full", Transport::Unix, queue_full),
    ("queue-full", Transport::Tcp, queue_full),
    ("database-hung", Transport::Unix, database_hung),
    ("database-hung", Transport::Tcp, database_hung),
    ("child-oom", Transport::Unix, child_oom),
    ("child-oom", Transport::Tcp, child_oom),
    ("child-crash", Transport::Unix, child_crash),
    ("child-crash", Transport::Tcp, child_crash),
    ("child-signals-itself", Transport::Unix, child_signals_itself),
    ("terminate-timeout", Transport::Unix, terminate_timeout),
    ("terminate-timeout", Transport::Tcp, terminate_timeout),
    ("wrong-path", Transport::Unix, wrong_path),
    ("wrong-mode", Transport::Unix, wrong_mode),
    ("reload-under-load", Transport::Unix, reload_under_load),
];

/// `hold` sleeps again and again: the SIGQUIT with which a reload begins ends a `sleep`, and the script could then be done
/// before the SIGTERM that follows.
const APPLICATION: &str = r#"<?php
$note = "served." . getmypid();
file_put_contents($note, getmypid());
rename($note, "served");
switch (explode("/", $_SERVER["REQUEST_URI"])[1]) {
case "hold": for ($end = time() + 30; time() < $end;) sleep(1); break;
case "ask":
    $database = stream_socket_client("tcp://" . file_get_contents("dependency"));
    fwrite($database, "SELECT 1");
    fread($database, 16);
    break;
case "crash": FFI::cdef("void *memset(long to, int byte, long count);")->memset(16, 0, 1); break;
case "signal": posix_kill(getmypid(), 11); sleep(5); break;
case "eat": $hoard = str_repeat("x", 1 << 29); break;
}
echo "ok\n";
"#;

/// Starts one child behind the site's socket; `more` are lines of the pool's section.
fn serve(over: Transport, more: &str) -> Result<Service> {
    let site = Site::new(over)?;
    let dir = site.dir().display().to_string();
    let listen = site.socket().unwrap_or(site.address());
    site.write("app.php", APPLICATION)?;
    let pool = format!(
        "[global]\nerror_log = {dir}/fpm.log\ndaemonize = no\n[lab]\nuser = root\ngroup = root\nlisten = {listen}\n\
         listen.mode = 0666\nchdir = {dir}\npm = static\npm.max_children = 1\nphp_admin_value[memory_limit] = -1\n{more}\n"
    );
    let config = site.write("fpm.conf", &pool)?;
    let program = find(PROGRAM).context("php-fpm has gone")?;
    let config = config.to_str().context("the temporary directory has an odd name")?;
    let args = [
        "-n",
        "-R",
        "-F",
        "-d",
        "extension=posix",
        "-d",
        "extension=ffi",
        "-d",
        "ffi.enable=1",
        "-y",
        config,
    ];
    Service::start(site, &program, &args)
}

fn location(dir: &str, more: &str) -> String {
    format!(
        "fastcgi_param SCRIPT_FILENAME {dir}/app.php; fastcgi_param REQUEST_URI $request_uri; \
         fastcgi_param REQUEST_METHOD $request_method; fastcgi_read_timeout 10s; fastcgi_pass {{up}}; {more}"
    )
}

fn scene(service: Service) -> Result<Scene> {
    let location = location(&service.site().dir().display().to_string(), "");
    Scene::start(service, &location)
}

/// nginx gives up after half a second.
fn impatient(service: Service) -> Result<Scene> {
    let location = location(&service.site().dir().display().to_string(), "fastcgi_connect_timeout 500ms;");
    Scene::start(service, &location.replace("fastcgi_read_timeout 10s", "fastcgi_read_timeout 500ms"))
}

/// Stopped as a service manager stops it: the master exits, and takes its socket file along.
fn down(over: Transport) -> Result<()> {
    let mut scene = scene(serve(over, "")?)?;
    let master = scene.service.pid();
    scene.ask("ok")?;
    scene.service.signal(Signal::SIGTERM)?;
    scene.service.wait_gone()?;
    let uri = scene.ask("ok")?;
    let symptoms = &["socket-missing", "socket-refused", "connect-refused"];
    scene.explains(&uri, Expect { symptoms, causes: &["exited", "killed"], culprit: Some(master) })?;
    scene.finish().map(drop)
}

fn killed(over: Transport) -> Result<()> {
    let mut scene = scene(serve(over, "")?)?;
    scene.ask("ok")?;
    scene.service.signal_all(Signal::SIGKILL)?;
    scene.service.wait_gone()?;
    let uri = scene.ask("ok")?;
    let symptoms = &["socket-refused", "connect-refused"];
    scene.explains(&uri, Expect { symptoms, causes: &["killed"], culprit: None })?;
    scene.finish().map(drop)
}

/// The one child is busy: a second request waits in the queue; the first one is slow.
fn pool_exhausted(over: Transport) -> Result<()> {
    let mut scene = impatient(serve(over, "")?)?;
    let (slow, (waiting, child)) = scene.ask_and("hold", |child| Ok((scene.ask("ok")?, child)))?;
    let symptoms = &["read-timed-out"];
    scene.explains(&slow, Expect { symptoms, causes: &["upstream-slow"], culprit: Some(child) })?;
    scene.explains(&waiting, Expect { symptoms, causes: &["not-accepted"], culprit: None })?;
    scene.finish().map(drop)
}

/// The one child waits for a database; so does, through it, a second request in the queue.
fn database_hung(over: Transport) -> Result<()> {
    let mut scene = impatient(serve(over, "")?)?;
    let database = silent(&scene, "tcp:127.0.0.1:0")?;
    let (slow, child) = scene.ask_and("ask", Ok)?;
    let waiting = scene.ask("ok")?;
    let symptoms = &["read-timed-out"];
    for (uri, culprit) in [(slow, Some(child)), (waiting, None)] {
        let line = scene.explains(&uri, Expect { symptoms, causes: &["dependency-slow"], culprit })?;
        let peer = &line["details"]["waits"][0]["peer"]["process"]["pid"];
        ensure!(*peer == database.pid(), "not {}: {line}", database.pid());
    }
    scene.finish().map(drop)
}

/// The one child is busy, and more wait than the backlog allows.
fn queue_full(over: Transport) -> Result<()> {
    let mut scene = impatient(serve(over, "listen.backlog = 1")?)?;
    let address = scene.service.site().address().to_owned();
    let (_, refused) = scene.ask_and("hold", |_| {
        let waiting = super::scene::fill_queue(&address, 2)?;
        let refused = scene.ask("ok")?;
        drop(waiting);
        Ok(refused)
    })?;
    let symptoms = &["socket-backlog-full", "connect-timed-out"];
    let line = scene.explains(&refused, Expect { symptoms, causes: &["queue-full"], culprit: None })?;
    let fix = line["fix"].to_string();
    ensure!(fix.contains("pm.max_children") && fix.contains("in pool lab"), "no word of the pool: {fix}");
    let seen = line["evidence"].as_array().into_iter().flatten().any(|fact| fact["event"] == "queue");
    ensure!(seen, "the queue's length and limit are not in the evidence: {line}");
    scene.finish().map(drop)
}

fn child_oom(over: Transport) -> Result<()> {
    scene(serve(over, "")?)?.outgrow_memory()
}

fn child_crash(over: Transport) -> Result<()> {
    let mut scene = scene(serve(over, "")?)?;
    let (uri, child) = scene.ask_and("crash", Ok)?;
    scene.explains(&uri, Expect { symptoms: CUT, causes: &["crashed"], culprit: Some(child) })?;
    scene.finish().map(drop)
}

fn child_signals_itself(over: Transport) -> Result<()> {
    let mut scene = scene(serve(over, "")?)?;
    let (uri, child) = scene.ask_and("signal", Ok)?;
    scene.explains(&uri, Expect { symptoms: CUT, causes: &["crashed", "killed"], culprit: Some(child) })?;
    scene.finish().map(drop)
}

/// The master ends a child that takes too long.
fn terminate_timeout(over: Transport) -> Result<()> {
    let mut scene = scene(serve(over, "request_terminate_timeout = 1s")?)?;
    let (uri, child) = scene.ask_and("hold", Ok)?;
    let line = scene.explains(&uri, Expect { symptoms: CUT, causes: &["killed"], culprit: Some(child) })?;
    says(&line, "its master, as it does when request_terminate_timeout is exceeded")?;
    ensure!(line["upstream"]["process"]["pool"] == "lab", "not of the pool: {line}");
    let fix = line["fix"].to_string();
    let of =
        format!("request_terminate_timeout in pool lab of {}/fpm.conf", scene.service.site().dir().display());
    ensure!(fix.contains(&of), "not {of}: {fix}");
    scene.finish().map(drop)
}

/// nginx is told another path than PHP-FPM.
fn wrong_path(over: Transport) -> Result<()> {
    let service = serve(over, "")?;
    let dir = service.site().dir().display().to_string();
    let mut scene =
        Scene::start(service, &location(&dir, "").replace("{up}", &format!("unix:{dir}/php.sock")))?;
    let uri = scene.ask("ok")?;
    let expect = Expect { symptoms: &["socket-missing"], causes: &["not-listening"], culprit: None };
    let line = scene.explains(&uri, expect)?;
    ensure!(line["fix"].to_string().contains("server.sock"), "the fix does not name the near socket: {line}");
    scene.finish().map(drop)
}

/// nginx's user may not write to the socket.
fn wrong_mode(over: Transport) -> Result<()> {
    let service = serve(over, "")?;
    let socket = service.site().socket().context("a mode needs a socket file")?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    let location = location(&service.site().dir().display().to_string(), "");
    let mut scene = Scene::start_as(service, "www-data www-data", "", &location)?;
    let uri = scene.ask("ok")?;
    let expect = Expect { symptoms: &["socket-denied"], causes: &["file-permissions"], culprit: None };
    scene.explains(&uri, expect)?;
    scene.finish().map(drop)
}

/// A reload without process_control_timeout kills what is at work.
fn reload_under_load(over: Transport) -> Result<()> {
    let mut scene = scene(serve(over, "pm.max_children = 4")?)?;
    let old = scene.service.workers();
    let (held, child) = scene.ask_and("hold", |child| {
        scene.under_load(|| {
            scene.service.signal(Signal::SIGUSR2)?;
            wait_replaced(&scene.service, &old)
        })?;
        Ok(child)
    })?;
    scene.explains(&held, Expect { symptoms: CUT, causes: &["killed"], culprit: Some(child) })?;
    let said = scene.finish()?;
    for line in &said.verdicts {
        let cause = line["cause"].as_str().unwrap_or_default();
        let wrong =
            line["certainty"] == "proven" && !matches!(cause, "killed" | "exited" | "closed-by-upstream");
        ensure!(!wrong, "not by the reload: {line}");
    }
    Ok(())
}
