//! AF_UNIX listeners that come and go while the tracer watches, and none of whose failures has had it look before: what
//! a hook on unix_listen tells is proven, and without one nothing is claimed to be.

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use xtask::lab::backend::{Backend, BackendConfig};
use xtask::lab::behaviour::Behaviour;
use xtask::lab::{Testbed, faults};

use crate::outcome_of;
use crate::tracer::Tracer;

/// The location of a socket that is not there unless a trial makes it.
const PLACE: &str = "socket-missing";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("unix-listen::nobody", || outcome_of(nobody)),
        Trial::test("unix-listen::came-and-was-killed", || outcome_of(came_and_was_killed)),
        Trial::test("unix-listen::came-and-stopped", || outcome_of(came_and_stopped)),
    ]
}

struct Scene {
    testbed: Testbed,
    tracer: Tracer,
    /// Whether this kernel tells of AF_UNIX listeners.
    hooked: bool,
}

impl Scene {
    fn open() -> Result<Scene> {
        let testbed = Testbed::start(&[faults::named(PLACE)], |_| {})?;
        let mut tracer = Tracer::start(testbed.lab().master(), &[])?;
        let ready = tracer.peek_for(|line| line["type"] == "ready").context("not ready")?;
        let provider = |signal: &str| ready["providers"][signal].is_string();
        let hooked = provider("unix-listen");
        ensure!(hooked == provider("unix-close"), "only one of two kprobes attaches: {ready}");
        Ok(Scene { testbed, tracer, hooked })
    }

    /// An upstream that begins to listen at the place now.
    fn upstream(&mut self) -> Result<Backend> {
        Backend::start(&BackendConfig {
            listen: self.testbed.peer(PLACE, 0).address.clone(),
            behaviour: Behaviour::Answer,
            backlog: None,
            workers: 0,
            netns: None,
            cgroup: None,
            container: None,
        })
    }

    /// The verdict of a request that fails with `symptom`.
    fn verdict(&mut self, symptom: &str) -> Result<Value> {
        let sent = self.testbed.fire(PLACE)?;
        let line = self.tracer.wait_for_uri("verdict", &sent.uri)?;
        ensure!(line["symptom"] == symptom, "not {symptom}: {line}");
        Ok(line)
    }

    /// The verdict names this cause and proves it, where the kernel tells of listeners; else it proves none.
    fn close(self, line: &Value, cause: &str) -> Result<()> {
        let proven = line["certainty"] == "proven";
        ensure!(proven == self.hooked, "hooked: {}, but {line}", self.hooked);
        ensure!(!proven || line["cause"] == cause, "not {cause}: {line}");
        let said = self.tracer.stop()?;
        ensure!(said.lost.is_empty(), "records were lost: {:?}", said.lost);
        Ok(())
    }
}

fn nobody() -> Result<()> {
    let mut scene = Scene::open()?;
    let line = scene.verdict("socket-missing")?;
    ensure!(line["cause"] == "not-listening", "{line}");
    scene.close(&line, "not-listening")
}

fn came_and_was_killed() -> Result<()> {
    let mut scene = Scene::open()?;
    let mut upstream = scene.upstream()?;
    let pid = upstream.pid();
    upstream.kill(Signal::SIGKILL)?;
    let line = scene.verdict("socket-refused")?;
    if scene.hooked {
        ensure!(line["upstream"]["process"]["pid"] == pid, "not of {pid}: {line}");
    }
    scene.close(&line, "killed")
}

fn came_and_stopped() -> Result<()> {
    let mut scene = Scene::open()?;
    let mut upstream = scene.upstream()?;
    upstream.stop_listening()?;
    let line = scene.verdict("socket-refused")?;
    if scene.hooked {
        ensure!(line["upstream"]["process"]["pid"] == upstream.pid(), "not of {}: {line}", upstream.pid());
    }
    scene.close(&line, "stopped-listening")
}
