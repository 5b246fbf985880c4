//! nginx and its upstream in containers, each with mounts, pids, a control group and a root of its own, in a network of
//! their pod's: what is told of them are the host's pids, the runtime's ids and the container's paths.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use xtask::lab::backend::{Backend, BackendConfig};
use xtask::lab::behaviour::Behaviour;
use xtask::lab::container::{POD, Runtime, VOLUME};
use xtask::lab::nginx::binary;
use xtask::lab::{Container, Lab, LabConfig, Netns};

use crate::tracer::{Said, Tracer};
use crate::{outcome_of, skip};

/// Enough for nginx, and for an upstream until it is told to eat.
const MEMORY: u64 = 64 << 20;

/// What a trial does with its pod.
type Play = fn(Pod) -> Result<()>;

pub(crate) fn trials() -> Vec<Trial> {
    let plays: [(&str, Play); 8] = [
        ("killed", killed),
        ("killed-unix", killed_unix),
        ("same-path-in-other-mounts", same_path_in_other_mounts),
        ("first-process-killed", first_process_killed),
        ("oom-killed", oom_killed),
        ("exits-upon-a-request", exits_upon_a_request),
        ("same-port-elsewhere", same_port_elsewhere),
        ("socket-denied-inside", socket_denied_inside),
    ];
    let trial = |(name, play): (&str, Play)| {
        Trial::test(format!("container::{name}"), move || {
            if let Err(error) = Pod::create() {
                skip!(format!("{error:#}"));
            }
            outcome_of(|| play(Pod::create()?))
        })
    };
    plays.into_iter().map(trial).collect()
}

/// Two containers in one network.
struct Pod {
    front: Container,
    back: Container,
    netns: Arc<Netns>,
}

/// A pod in operation, with the tracer of every nginx beside it.
struct Scene {
    // Dropped in this order: a container's processes end before its control group goes.
    tracer: Tracer,
    lab: Lab,
    backend: Option<Backend>,
    front: Arc<Container>,
    back: Container,
    netns: Arc<Netns>,
}

impl Pod {
    fn create() -> Result<Pod> {
        let netns = Arc::new(Netns::create()?);
        let front = Container::create(Runtime::Docker, MEMORY, Some(Arc::clone(&netns)))?;
        let back = Container::create(Runtime::Kubernetes, MEMORY, Some(Arc::clone(&netns)))?;
        Ok(Pod { back: back.sharing_volume_of(&front), front, netns })
    }

    fn backend(&self, listen: &str, behaviour: Behaviour) -> Result<Backend> {
        self.backend_with(listen, behaviour, 0)
    }

    fn backend_with(&self, listen: &str, behaviour: Behaviour, workers: u32) -> Result<Backend> {
        Backend::start(&BackendConfig {
            listen: listen.to_owned(),
            behaviour,
            backlog: None,
            workers,
            netns: None,
            cgroup: None,
            container: Some(&self.back),
        })
    }

    /// Starts nginx in front of `address`.
    fn serve(self, address: &str, backend: Option<Backend>, user: &str) -> Result<Scene> {
        let front = Arc::new(self.front);
        let lab = Lab::start(LabConfig {
            user: user.to_owned(),
            http: format!("upstream back {{ server {address} max_fails=0; }}"),
            server: "location / { proxy_pass http://back; }".to_owned(),
            container: Some(Arc::clone(&front)),
            ..Default::default()
        })?;
        let tracer = Tracer::start_with(&[])?;
        Ok(Scene { tracer, lab, backend, front, back: self.back, netns: self.netns })
    }

    /// Starts an upstream on a free port of the pod's and nginx in front of it.
    fn with_backend(self, behaviour: Behaviour) -> Result<Scene> {
        let backend = self.backend("tcp:127.0.0.1:0", behaviour)?;
        let address = backend.address().to_owned();
        self.serve(&address, Some(backend), "root")
    }
}

impl Scene {
    fn backend(&mut self) -> Result<&mut Backend> {
        self.backend.as_mut().context("this scene has no upstream")
    }

    /// Asks once; the verdict has this symptom and cause, for certain, and names the worker by pid and container.
    fn explained(&mut self, name: &str, symptom: &str, cause: &str) -> Result<Value> {
        // Other trials' nginx are traced as well; this URI is nobody else's.
        let uri = format!("/{name}/{}", self.lab.master());
        self.lab.get(&uri)?;
        let line = self.tracer.wait_for_uri("verdict", &uri)?;
        ensure!(line["symptom"] == symptom, "symptom {}, not {symptom}: {line}", line["symptom"]);
        ensure!(line["cause"] == cause, "cause {}, not {cause}: {line}", line["cause"]);
        ensure!(line["certainty"] == "proven", "not proven: {line}");
        let workers = self.lab.workers();
        ensure!(workers.iter().any(|pid| line["worker"]["pid"] == *pid), "not of {workers:?}: {line}");
        let id = self.front.id();
        ensure!(line["worker"]["container"] == id, "worker not in {id}: {line}");
        let exe = fs::canonicalize(binary())?;
        ensure!(line["worker"]["exe"] == exe.to_string_lossy().as_ref(), "not {exe:?}: {line}");
        Ok(line)
    }

    fn close(self) -> Result<Said> {
        let said = self.tracer.stop()?;
        ensure!(said.lost.is_empty(), "records were lost: {:?}", said.lost);
        Ok(said)
    }
}

/// The verdict names this process of the upstream's container, by the host's pid.
fn names(line: &Value, pid: u32, container: &Container) -> Result<()> {
    let process = &line["upstream"]["process"];
    ensure!(process["pid"] == pid, "not process {pid}: {line}");
    ensure!(process["container"] == container.id(), "not in {}: {line}", container.id());
    ensure!(container.is_named() && process["container_name"] == POD.join("/"), "not called {POD:?}: {line}");
    let summary = line["summary"].as_str().unwrap_or_default();
    ensure!(summary.contains(&format!("[{pid}]")), "the summary does not name {pid}: {line}");
    Ok(())
}

/// Killed from outside, by this program.
fn killed(pod: Pod) -> Result<()> {
    let mut scene = pod.with_backend(Behaviour::Answer)?;
    let victim = scene.backend()?.pid();
    scene.backend()?.kill(Signal::SIGKILL)?;
    let line = scene.explained("killed", "connect-refused", "killed")?;
    names(&line, victim, &scene.back)?;
    let killer = format!("[{}]", std::process::id());
    ensure!(line.to_string().contains(&killer), "the killer {killer} is not named: {line}");
    let [namespace, pod, name] = POD;
    let logs = format!("kubectl -n {namespace} logs -c {name} --tail 50 {pod}");
    ensure!(
        line["fix"].as_array().is_some_and(|fix| fix.contains(&logs.clone().into())),
        "no {logs}: {line}"
    );
    scene.close().map(drop)
}

/// The socket's path is the containers', and there is nothing at that place on the host.
fn killed_unix(pod: Pod) -> Result<()> {
    let path = format!("unix:{VOLUME}/killed.sock");
    let backend = pod.backend(&path, Behaviour::Answer)?;
    let mut scene = pod.serve(&path, Some(backend), "root")?;
    let victim = scene.backend()?.pid();
    // The first process of a pid namespace gets no other signal that it does not handle.
    scene.backend()?.kill(Signal::SIGKILL)?;
    let line = scene.explained("killed-unix", "socket-refused", "killed")?;
    names(&line, victim, &scene.back)?;
    scene.close().map(drop)
}

/// A server of another container is killed that listened on nginx's path, but in mounts of its own: that is another file, and
/// the death proves nothing.
fn same_path_in_other_mounts(pod: Pod) -> Result<()> {
    let apart = Container::create(Runtime::Kubernetes, MEMORY, Some(Arc::clone(&pod.netns)))?;
    let pod = Pod { back: apart, ..pod };
    let path = format!("unix:{VOLUME}/apart.sock");
    let backend = pod.backend(&path, Behaviour::Answer)?;
    let mut scene = pod.serve(&path, Some(backend), "root")?;
    scene.backend()?.kill(Signal::SIGKILL)?;
    let uri = format!("/apart/{}", scene.lab.master());
    scene.lab.get(&uri)?;
    let line = scene.tracer.wait_for_uri("verdict", &uri)?;
    ensure!(line["symptom"] == "socket-missing", "nginx sees no file: {line}");
    let doubted = line["certainty"] == "inferred" && line["summary"].to_string().contains("other mounts");
    ensure!(line["cause"] != "killed" || doubted, "another file's server is blamed for certain: {line}");
    scene.close().map(drop)
}

/// Its workers are killed by the kernel as the first process of their PID namespace ends: by the hand that ended that one.
fn first_process_killed(pod: Pod) -> Result<()> {
    let backend = pod.backend_with("tcp:127.0.0.1:0", Behaviour::Answer, 2)?;
    let address = backend.address().to_owned();
    let mut scene = pod.serve(&address, Some(backend), "root")?;
    let first = scene.backend()?.pid();
    scene.backend()?.kill(Signal::SIGKILL)?;
    let line = scene.explained("first-process-killed", "connect-refused", "killed")?;
    let details = &line["details"];
    // It holds the socket as well, and may be the one that lets go of it last.
    let named = [&details["victim"]["pid"], &details["ended_with"]["pid"]];
    ensure!(named.iter().any(|pid| **pid == first), "{first} is not named as the first process: {line}");
    ensure!(details["sender"]["pid"] == std::process::id(), "the killer is not named: {line}");
    scene.close().map(drop)
}

/// The limit that was exceeded is the upstream container's own.
fn oom_killed(pod: Pod) -> Result<()> {
    let mut scene = pod.with_backend(Behaviour::Answer)?;
    let victim = scene.backend()?.pid();
    scene.backend()?.eat_memory()?;
    let line = scene.explained("oom-killed", "connect-refused", "oom-killed")?;
    names(&line, victim, &scene.back)?;
    let group = format!("cri-containerd-{}.scope", scene.back.id());
    ensure!(line.to_string().contains(&group), "{group} is not named: {line}");
    scene.close().map(drop)
}

fn exits_upon_a_request(pod: Pod) -> Result<()> {
    let mut scene = pod.with_backend(Behaviour::Exit)?;
    let victim = scene.backend()?.pid();
    let line = scene.explained("exits", "closed-early", "exited")?;
    names(&line, victim, &scene.back)?;
    scene.close().map(drop)
}

/// Somebody listens on that port, and in another network: nobody listens for this nginx.
fn same_port_elsewhere(pod: Pod) -> Result<()> {
    let elsewhere = TcpListener::bind(("127.0.0.1", 0))?;
    let address = elsewhere.local_addr()?.to_string();
    let mut scene = pod.serve(&address, None, "root")?;
    let line = scene.explained("same-port", "connect-refused", "not-listening")?;
    ensure!(line["upstream"]["process"].is_null(), "a process of another network: {line}");
    // Now the other way round: the pod has a listener there, the host's nginx has none.
    let inside = scene.netns.run(|| Ok(TcpListener::bind(("127.0.0.1", 0))?))?;
    let address = inside.local_addr()?;
    let lab = Lab::start(LabConfig {
        server: format!("location / {{ proxy_pass http://{address}; }}"),
        ..Default::default()
    })?;
    let uri = format!("/same-port-outside/{}", lab.master());
    // A new nginx of a known build: traced from its first request.
    lab.get(&uri)?;
    let line = scene.tracer.wait_for_uri("verdict", &uri)?;
    ensure!(line["cause"] == "not-listening" && line["upstream"]["process"].is_null(), "wrong: {line}");
    let id = scene.front.id();
    ensure!(line["worker"]["container"] != id, "a worker of the host in {id}: {line}");
    drop((inside, elsewhere));
    scene.close().map(drop)
}

/// The walk goes through the worker's root: on the host the same path is open to everybody.
fn socket_denied_inside(pod: Pod) -> Result<()> {
    let decoy = tempfile::Builder::new().prefix("ngx502-decoy-").tempdir_in(VOLUME)?;
    fs::set_permissions(decoy.path(), fs::Permissions::from_mode(0o755))?;
    fs::write(decoy.path().join("app.sock"), "")?;
    fs::set_permissions(decoy.path().join("app.sock"), fs::Permissions::from_mode(0o777))?;
    let name = decoy.path().file_name().context("a folder has a name")?;
    let closed = pod.front.volume().join(name);
    fs::create_dir(&closed)?;
    let path = Path::new(VOLUME).join(name).join("app.sock");
    let address = format!("unix:{}", path.display());
    let backend = pod.backend(&address, Behaviour::Answer)?;
    fs::set_permissions(closed.join("app.sock"), fs::Permissions::from_mode(0o777))?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700))?;
    let mut scene = pod.serve(&address, Some(backend), "nobody nogroup")?;
    let line = scene.explained("denied", "socket-denied", "file-permissions")?;
    let summary = line["summary"].as_str().unwrap_or_default();
    let folder = path.parent().context("the socket is in a folder")?.to_string_lossy();
    ensure!(summary.contains(folder.as_ref()), "{folder} is not named: {line}");
    scene.close().map(drop)
}
