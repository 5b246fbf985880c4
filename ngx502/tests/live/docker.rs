//! Real Docker: nginx on the host, its upstream in a container behind a published port. docker-proxy is not the cause.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use xtask::lab::backend::Backend;
use xtask::lab::behaviour::Behaviour;
use xtask::lab::{Docker, Lab, LabConfig, wait};

use crate::program::Program;
use crate::tracer::Tracer;
use crate::{outcome_of, skip};

/// Where the container's port is published.
const PUBLISHED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);
/// Where haproxy listens, if it stands before that.
const BALANCED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8001);
/// What containers listen on.
const INSIDE: &str = "tcp:0.0.0.0:80";

/// What a trial does.
type Play = fn() -> Result<()>;

pub(crate) fn trials() -> Vec<Trial> {
    let plays: [(&str, Play); 12] = [
        ("oom-killed-upon-a-request", || served(Behaviour::Eat, &["closed-early", "reset"], "oom-killed")),
        ("crashes-upon-a-request", || served(Behaviour::Segfault, &["closed-early", "reset"], "crashed")),
        ("exits-upon-a-request", || served(Behaviour::Exit, &["closed-early", "reset"], "exited")),
        ("resets", || served(Behaviour::Reset, &["closed-early", "reset"], "closed-by-upstream")),
        ("slow", || served(Behaviour::Silent, &["read-timed-out"], "upstream-slow")),
        ("paused", paused),
        ("down-before-tracing", down_before_tracing),
        ("cpu-quota", cpu_quota),
        ("killed-before", killed_before),
        ("wrong-port", || nobody("tcp:0.0.0.0:81")),
        ("bound-to-its-loopback", || nobody("tcp:127.0.0.1:80")),
        ("killed-behind-haproxy", killed_behind_haproxy),
    ];
    let trial = |(name, play): (&'static str, Play)| {
        Trial::test(format!("docker::{name}"), move || {
            if let Some(reason) = impossible() {
                skip!(reason);
            }
            let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
            outcome_of(play)
        })
    };
    plays.into_iter().map(trial).collect()
}

/// Why there is no Docker here; found out once.
fn impossible() -> Option<&'static String> {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    REASON.get_or_init(|| Docker::start().err().map(|error| format!("{error:#}"))).as_ref()
}

/// One daemon at a time: two would fight for control groups, and each takes seconds to start.
static ONE: Mutex<()> = Mutex::new(());

/// A container in operation with nginx before it.
struct Scene {
    // Dropped in this order.
    tracer: Tracer,
    lab: Lab,
    backend: Backend,
    docker: Docker,
}

impl Scene {
    /// nginx connects to `named`.
    fn of(docker: Docker, backend: Backend, named: SocketAddr) -> Result<Scene> {
        let lab = Lab::start(LabConfig {
            http: format!("proxy_read_timeout 1s; upstream back {{ server {named} max_fails=0; }}"),
            server: "location / { proxy_pass http://back; }".to_owned(),
            netns: Some(Arc::clone(docker.netns())),
            ..Default::default()
        })?;
        let tracer = Tracer::start(lab.master(), &[])?;
        Ok(Scene { tracer, lab, backend, docker })
    }

    /// Behind a published port.
    fn published(listen: &str, behaviour: Behaviour) -> Result<Scene> {
        let docker = Docker::start()?;
        let backend = run(&docker, listen, behaviour)?;
        Scene::of(docker, backend, PUBLISHED)
    }

    /// The same with further flags of `docker run`.
    fn with(flags: &[&str], behaviour: Behaviour) -> Result<Scene> {
        let docker = Docker::start()?;
        let publish = format!("{PUBLISHED}:80");
        let backend = docker.run("api", &[flags, &["--publish", &publish]].concat(), INSIDE, behaviour)?;
        Scene::of(docker, backend, PUBLISHED)
    }

    /// Asks once; returns the verdict, which has one of these symptoms and this cause.
    fn explained(&mut self, symptoms: &[&str], cause: &str) -> Result<Value> {
        let uri = format!("/docker/{}", self.lab.master());
        self.lab.get(&uri)?;
        let line = self.tracer.wait_for_uri("verdict", &uri)?;
        let symptom = line["symptom"].as_str().unwrap_or_default();
        ensure!(symptoms.contains(&symptom), "symptom {symptom}, not of {symptoms:?}: {line}");
        ensure!(line["cause"] == cause, "cause {}, not {cause}: {line}", line["cause"]);
        Ok(line)
    }
}

fn run(docker: &Docker, listen: &str, behaviour: Behaviour) -> Result<Backend> {
    let publish = format!("{PUBLISHED}:80");
    docker.run("api", &["--memory", "64m", "--publish", &publish], listen, behaviour)
}

/// A container that had ended before anybody watched: Docker's own files tell.
fn down_before_tracing() -> Result<()> {
    let docker = Docker::start()?;
    docker.run_down("api", &["--publish", &format!("{PUBLISHED}:80")])?;
    let lab = Lab::start(LabConfig {
        server: format!("location / {{ proxy_pass http://{PUBLISHED}; }}"),
        netns: Some(Arc::clone(docker.netns())),
        ..Default::default()
    })?;
    let mut tracer = Tracer::start(lab.master(), &[])?;
    lab.get("/down")?;
    let line = tracer.wait_for_uri("verdict", "/down")?;
    ensure!(line["cause"] == "not-listening", "cause {}: {line}", line["cause"]);
    let down = &line["details"]["containers_down"][0];
    ensure!(down["name"] == "api" && down["exit_code"] == 0, "not api: {line}");
    ensure!(line["summary"].as_str().is_some_and(|text| text.contains("container api")), "not said: {line}");
    Ok(())
}

/// As an administrator pauses a container: its processes are frozen.
fn paused() -> Result<()> {
    let mut scene = Scene::published(INSIDE, Behaviour::Answer)?;
    scene.docker.read(&["pause", "api"])?;
    let line = scene.explained(&["read-timed-out"], "paused");
    scene.docker.read(&["unpause", "api"])?;
    let line = line?;
    ensure!(line["details"]["how"] == "frozen", "not frozen: {line}");
    let fix = line["fix"].as_array().context("there are fixes")?;
    ensure!(fix.contains(&"docker unpause api".into()), "no way out: {line}");
    Ok(())
}

/// A container that may use a tenth of a CPU, and computes.
fn cpu_quota() -> Result<()> {
    let mut scene = Scene::with(&["--cpus", "0.1"], Behaviour::Compute)?;
    let line = scene.explained(&["read-timed-out"], "cpu-throttled")?;
    ensure!(line["details"]["quota_us"] == 10_000, "not its quota: {line}");
    Ok(())
}

/// The way leads through these programs to a process of the container.
fn leads(line: &Value, programs: &[&str], pid: Option<u32>) -> Result<()> {
    let hops = line["hops"].as_array().context("there are hops")?;
    let names: Vec<_> = hops.iter().map(|hop| hop["process"]["comm"].as_str().unwrap_or_default()).collect();
    let before = &names[..names.len().saturating_sub(1)];
    ensure!(before == programs, "through {before:?}, not {programs:?}: {line}");
    let last = hops.last().context("the way ends somewhere")?;
    ensure!(last["cause"] == line["cause"], "the last station does not decide: {line}");
    ensure!(last["address"].as_str().is_some_and(|to| to.starts_with("172.")), "not the container's: {line}");
    if let Some(pid) = pid {
        ensure!(last["process"]["pid"] == pid, "not process {pid}: {line}");
        ensure!(last["container"].is_string(), "not in a container: {line}");
    }
    Ok(())
}

fn served(behaviour: Behaviour, symptoms: &[&str], cause: &str) -> Result<()> {
    let mut scene = Scene::published(INSIDE, behaviour)?;
    let pid = scene.backend.pid();
    let line = scene.explained(symptoms, cause)?;
    leads(&line, &["docker-proxy"], Some(pid))?;
    scene.tracer.stop().map(drop)
}

/// The container is killed between two requests: dockerd ends docker-proxy, and nginx is refused.
fn killed_before() -> Result<()> {
    let mut scene = Scene::published(INSIDE, Behaviour::Answer)?;
    let pid = scene.backend.pid();
    scene.lab.get("/docker/warm")?;
    scene.backend.kill(Signal::SIGKILL)?;
    wait::until("docker-proxy to end", Duration::from_secs(20), || {
        let refused = scene.lab.inside(|| Ok(std::net::TcpStream::connect(PUBLISHED)?)).is_err();
        refused.then_some(())
    })?;
    let line = scene.explained(&["connect-refused"], "killed")?;
    leads(&line, &["docker-proxy"], Some(pid))?;
    scene.tracer.stop().map(drop)
}

/// docker-proxy accepts, and nobody in the container does.
fn nobody(listen: &str) -> Result<()> {
    let mut scene = Scene::published(listen, Behaviour::Answer)?;
    let line = scene.explained(&["closed-early", "reset"], "not-listening")?;
    leads(&line, &["docker-proxy"], None)?;
    scene.tracer.stop().map(drop)
}

/// nginx, haproxy, docker-proxy, and a container whose process is killed while it serves.
fn killed_behind_haproxy() -> Result<()> {
    let docker = Docker::start()?;
    let backend = run(&docker, INSIDE, Behaviour::Silent)?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("haproxy.cfg");
    std::fs::write(
        &config,
        format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\nlisten front\n bind {BALANCED}\n \
             server back {PUBLISHED}\n"
        ),
    )?;
    let haproxy = || Program::start(Command::new("haproxy").arg("-db").arg("-f").arg(&config));
    let _balancer = docker.netns().run(haproxy)?;
    wait::until("haproxy to listen", Duration::from_secs(10), || {
        docker.netns().run(|| Ok(std::net::TcpStream::connect(BALANCED)?)).ok()
    })?;
    let mut scene = Scene::of(docker, backend, BALANCED)?;
    let pid = scene.backend.pid();
    let uri = format!("/docker/{}", scene.lab.master());
    let mut client = scene.lab.client()?;
    client.send("GET", &uri, b"")?;
    scene.backend.await_connection()?;
    scene.backend.kill(Signal::SIGKILL)?;
    let line = scene.tracer.wait_for_uri("verdict", &uri)?;
    ensure!(line["cause"] == "killed", "not killed: {line}");
    leads(&line, &["haproxy", "docker-proxy"], Some(pid))?;
    scene.tracer.stop().map(drop)
}
