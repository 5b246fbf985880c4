//! Puma in cluster mode.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::lab::{Service, Site, Transport};

use super::scene::{Expect, Scene, find, wait_replaced};
use super::{CUT, Play};

pub(super) const PROGRAM: &str = "puma";

/// nginx 1.29.7 and later would keep the connections, and try a request again on another one.
const LOCATION: &str = "proxy_http_version 1.0; proxy_set_header Connection close; proxy_read_timeout 20s; \
                        proxy_pass http://up_real;";

pub(super) const PLAYS: &[(&str, Transport, Play)] = &[
    ("worker-killed", Transport::Unix, worker_killed),
    ("worker-killed", Transport::Tcp, worker_killed),
    ("worker-exit", Transport::Tcp, worker_exit),
    ("phased-restart", Transport::Unix, phased_restart),
    ("phased-restart", Transport::Tcp, phased_restart),
];

const APPLICATION: &str = r#"
run lambda { |env|
  note = "served.#{Process.pid}.#{Thread.current.object_id}"
  File.write(note, Process.pid.to_s)
  File.rename(note, 'served')
  case env['PATH_INFO'].split('/')[1]
  when 'hold' then sleep 30
  when 'exit' then exit!(3)
  end
  [200, { 'content-length' => '3' }, ["ok\n"]]
}
"#;

fn scene(over: Transport) -> Result<Scene> {
    let site = Site::new(over)?;
    site.write("config.ru", APPLICATION)?;
    let bind = match site.socket() {
        Some(path) => format!("unix://{path}"),
        None => format!("tcp://{}", site.address()),
    };
    let program = find(PROGRAM).context("puma has gone")?;
    let args = ["-C", "-", "-e", "production", "-w", "2", "-t", "1:2", "-b", &bind, "config.ru"];
    let service = Service::start(site, &program, &args)?;
    let scene = Scene::start(service, LOCATION)?;
    // The listener is there before the workers.
    scene.ask("ok")?;
    Ok(scene)
}

/// Somebody kills a worker at work.
fn worker_killed(over: Transport) -> Result<()> {
    let mut scene = scene(over)?;
    let (uri, worker) = scene.ask_and("hold", |worker| {
        kill(Pid::from_raw(i32::try_from(worker)?), Signal::SIGKILL)?;
        Ok(worker)
    })?;
    scene.explains(&uri, Expect { symptoms: CUT, causes: &["killed"], culprit: Some(worker) })?;
    scene.finish().map(drop)
}

fn worker_exit(over: Transport) -> Result<()> {
    let mut scene = scene(over)?;
    let (uri, worker) = scene.ask_and("exit", Ok)?;
    scene.explains(&uri, Expect { symptoms: CUT, causes: &["exited"], culprit: Some(worker) })?;
    scene.finish().map(drop)
}

/// Worker after worker is replaced: nothing fails, and nothing is invented.
fn phased_restart(over: Transport) -> Result<()> {
    let scene = scene(over)?;
    let old = scene.service.workers();
    ensure!(old.len() == 2, "two workers, not {old:?}: {}", scene.service.output());
    let (good, all) = scene.under_load(|| {
        scene.service.signal(Signal::SIGUSR1)?;
        wait_replaced(&scene.service, &old)
    })?;
    let said = scene.finish()?;
    let failed = u32::try_from(said.verdicts.len())?;
    ensure!(good + failed == all, "{good} of {all} were answered, and {failed} verdicts told");
    Ok(())
}
