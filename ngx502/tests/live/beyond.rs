//! nginx and its upstream in different network namespaces: by the upstream's own address, and by a virtual one that is
//! translated to it. What happens there is told as if it happened in nginx's own, and as surely.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use xtask::lab::backend::{Backend, BackendConfig};
use xtask::lab::behaviour::Behaviour;
use xtask::lab::{Lab, LabConfig, Netns, Network, wait};

use crate::tracer::Tracer;
use crate::{outcome_of, skip};

/// The port of the virtual address, and of the upstream where that matters.
const PORT: u16 = 80;

/// The address of a third namespace behind the bridge.
const THIRD: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 3);

/// How nginx names the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By its own address.
    Direct,
    /// By the virtual address.
    Translated,
}

/// What a trial does.
type Play = fn(Way) -> Result<()>;

pub(crate) fn trials() -> Vec<Trial> {
    let plays: [(&str, Play); 8] = [
        ("killed", killed),
        ("nobody", nobody),
        ("exits-upon-a-request", |way| served(way, Behaviour::Exit, "closed-early", &["exited"])),
        ("crashes-upon-a-request", |way| served(way, Behaviour::Segfault, "closed-early", &["crashed"])),
        ("closes", |way| served(way, Behaviour::Close, "closed-early", &["closed-by-upstream"])),
        ("resets", |way| served(way, Behaviour::Reset, "reset", &["closed-by-upstream"])),
        ("slow", |way| served(way, Behaviour::Silent, "read-timed-out", &["upstream-slow"])),
        ("never-accepts", |way| served(way, Behaviour::NeverAccept, "read-timed-out", &["not-accepted"])),
    ];
    let ways = [(Way::Direct, "direct"), (Way::Translated, "translated")];
    let mut trials: Vec<_> = plays
        .into_iter()
        .flat_map(|(name, play)| ways.map(|(way, called)| (format!("{called}-{name}"), play, way)))
        .map(|(name, play, way)| trial(&name, move || play(way)))
        .collect();
    trials.push(trial("innocent-wildcard", innocent_wildcard));
    trials.push(trial("request-dropped", request_dropped));
    trials.push(trial("container-gone", container_gone));
    trials.push(trial("same-address-in-a-network-apart", same_address_apart));
    trials.push(trial("address-reused", address_reused));
    trials
}

fn trial(name: &str, play: impl Fn() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(format!("beyond::{name}"), move || {
        if let Err(error) = Network::create() {
            skip!(format!("{error:#}"));
        }
        outcome_of(&play)
    })
}

/// A network in operation, with a tracer of its nginx.
struct Scene {
    // Dropped in this order.
    tracer: Tracer,
    lab: Lab,
    backend: Option<Backend>,
    network: Network,
}

fn backend(netns: &Netns, listen: &str, behaviour: Behaviour) -> Result<Backend> {
    Backend::start(&BackendConfig {
        listen: listen.to_owned(),
        behaviour,
        backlog: None,
        workers: 0,
        netns: Some(netns.path()),
        cgroup: None,
        container: None,
    })
}

impl Scene {
    /// An upstream that listens on every address of the back, and nginx in the front.
    fn with(way: Way, behaviour: Behaviour) -> Result<Scene> {
        let network = Network::create()?;
        let upstream = backend(&network.back, "tcp:0.0.0.0:0", behaviour)?;
        let bound: SocketAddr = upstream.address().parse()?;
        let there = SocketAddr::from((Network::BACK, bound.port()));
        Scene::of(network, way, there, Some(upstream))
    }

    fn of(network: Network, way: Way, there: SocketAddr, backend: Option<Backend>) -> Result<Scene> {
        let named = match way {
            Way::Direct => there,
            Way::Translated => {
                network.translate(PORT, there)?;
                SocketAddr::from((Network::VIRTUAL, PORT))
            }
        };
        let lab = Lab::start(LabConfig {
            http: format!(
                "proxy_read_timeout 700ms; proxy_connect_timeout 6s; upstream back {{ server {named} max_fails=0; }}"
            ),
            server: "location / { proxy_pass http://back; }".to_owned(),
            netns: Some(Arc::clone(&network.front)),
            ..Default::default()
        })?;
        let tracer = Tracer::start(lab.master(), &[])?;
        Ok(Scene { tracer, lab, backend, network })
    }

    /// An upstream at [`THIRD`] that was killed, and whose namespace went with it; its pid. `beside` is called with its
    /// address and port before the trace, `meanwhile` during it, as long as the upstream lives.
    fn without_its_third(
        beside: impl FnOnce(Ipv4Addr, u16) -> Result<()>,
        meanwhile: impl FnOnce() -> Result<()>,
    ) -> Result<(Scene, u32)> {
        let network = Network::create()?;
        let third = Netns::create()?;
        network.connect(&third, THIRD)?;
        let mut upstream = backend(&third, "tcp:0.0.0.0:0", Behaviour::Answer)?;
        let port = upstream.address().parse::<SocketAddr>()?.port();
        beside(THIRD, port)?;
        let scene = Scene::of(network, Way::Direct, SocketAddr::from((THIRD, port)), None)?;
        meanwhile()?;
        upstream.kill(Signal::SIGKILL)?;
        drop(third);
        // The kernel takes the namespace and its end of the cable down when it finds the time.
        wait::until("the namespace to go", Duration::from_secs(30), || {
            scene.network.front.command("ip link show veth3").is_err().then_some(())
        })?;
        Ok((scene, upstream.pid()))
    }

    /// Asks once; returns the verdict, which has this symptom and one of these causes.
    fn explained(&mut self, symptom: &str, causes: &[&str]) -> Result<Value> {
        let uri = format!("/beyond/{}", self.lab.master());
        self.lab.get(&uri)?;
        let line = self.tracer.wait_for_uri("verdict", &uri)?;
        ensure!(line["symptom"] == symptom, "symptom {}, not {symptom}: {line}", line["symptom"]);
        let cause = line["cause"].as_str().unwrap_or_default();
        ensure!(causes.contains(&cause), "cause {cause}, not of {causes:?}: {line}");
        Ok(line)
    }
}

fn proven(line: &Value) -> Result<()> {
    ensure!(line["certainty"] == "proven", "not proven: {line}");
    Ok(())
}

/// The verdict names this process.
fn names(line: &Value, pid: u32) -> Result<()> {
    ensure!(line["upstream"]["process"]["pid"] == pid, "not process {pid}: {line}");
    Ok(())
}

/// One request of an upstream that behaves so.
fn served(way: Way, behaviour: Behaviour, symptom: &str, causes: &[&str]) -> Result<()> {
    let mut scene = Scene::with(way, behaviour)?;
    let pid = scene.backend.as_ref().context("it serves")?.pid();
    let line = scene.explained(symptom, causes)?;
    proven(&line)?;
    names(&line, pid)?;
    scene.tracer.stop().map(drop)
}

fn killed(way: Way) -> Result<()> {
    let mut scene = Scene::with(way, Behaviour::Answer)?;
    let backend = scene.backend.as_mut().context("it serves")?;
    let pid = backend.pid();
    backend.kill(Signal::SIGKILL)?;
    let line = scene.explained("connect-refused", &["killed"])?;
    proven(&line)?;
    names(&line, pid)?;
    scene.tracer.stop().map(drop)
}

/// The port has no listener there; the front has one on every address, which is not what nginx connects to.
fn nobody(way: Way) -> Result<()> {
    let network = Network::create()?;
    let decoy = backend(&network.front, "tcp:0.0.0.0:0", Behaviour::Answer)?;
    let bound: SocketAddr = decoy.address().parse()?;
    let there = SocketAddr::from((Network::BACK, bound.port()));
    let mut scene = Scene::of(network, way, there, Some(decoy))?;
    let line = scene.explained("connect-refused", &["not-listening"])?;
    proven(&line)?;
    ensure!(line["upstream"]["process"].is_null(), "a process of nginx's own namespace: {line}");
    scene.tracer.stop().map(drop)
}

/// nginx connects to an address of no namespace here, where somebody refuses; a process of the front that listened on
/// that port, on every address, was killed: it has nothing to do with it.
fn innocent_wildcard() -> Result<()> {
    let network = Network::create()?;
    let mut innocent = backend(&network.front, "tcp:0.0.0.0:0", Behaviour::Answer)?;
    let port = innocent.address().parse::<SocketAddr>()?.port();
    for line in [
        "ip route add 198.51.100.0/24 via 10.89.0.2",
        "nft add table inet lab",
        "nft add chain inet lab outbound { type filter hook output priority 0 ; }",
        "nft add rule inet lab outbound ip daddr 198.51.100.0/24 tcp flags == syn reject with tcp reset",
    ] {
        network.front.command(line)?;
    }
    let there = SocketAddr::from((Ipv4Addr::new(198, 51, 100, 7), port));
    let mut scene = Scene::of(network, Way::Direct, there, None)?;
    innocent.kill(Signal::SIGKILL)?;
    let line = scene.explained("connect-refused", &["closed-by-remote", "firewall", "unknown"])?;
    ensure!(line["certainty"] != "proven", "a filter's answer is another host's for certain: {line}");
    ensure!(!line.to_string().contains(&format!("[{}]", innocent.pid())), "the innocent is named: {line}");
    scene.tracer.stop().map(drop)
}

/// The connection is established, and a filter of the upstream's namespace drops what is longer than an empty segment.
fn request_dropped() -> Result<()> {
    let mut scene = Scene::with(Way::Direct, Behaviour::Answer)?;
    for line in [
        "nft add table inet lab",
        "nft add chain inet lab inbound { type filter hook input priority 0 ; }",
        "nft add rule inet lab inbound meta length > 90 drop",
    ] {
        scene.network.back.command(line)?;
    }
    let line = scene.explained("read-timed-out", &["firewall"])?;
    ensure!(line["certainty"] == "inferred", "nobody saw the filter: {line}");
    ensure!(line["details"]["retransmissions"].as_u64() > Some(0), "no retransmissions: {line}");
    scene.tracer.stop().map(drop)
}

/// The upstream's namespace is gone, and another one has its address, where nobody listens.
fn address_reused() -> Result<()> {
    let mut fourth = None;
    // Made before the other one is gone: else it often has that one's number, and is taken for the same.
    let make = || Netns::create().map(|made| fourth = Some(made));
    let (mut scene, _) = Scene::without_its_third(|_, _| Ok(()), make)?;
    let fourth = fourth.context("it was made")?;
    scene.network.connect(&fourth, THIRD)?;
    scene.network.front.command("ip neighbour flush dev docker0")?;
    let line = scene.explained("connect-refused", &["not-listening"])?;
    let moved = &line["details"]["moved"];
    ensure!(moved["address"] == THIRD.to_string(), "not told of {THIRD}: {line}");
    ensure!(moved["before"]["pid"].is_u64() && moved["now"]["pid"].is_u64(), "not whose: {line}");
    ensure!(moved["before"]["pid"] != moved["now"]["pid"], "the same one's: {line}");
    scene.tracer.stop().map(drop)
}

/// The upstream is killed and its namespace goes with it: nobody answers for its address.
fn container_gone() -> Result<()> {
    let (mut scene, pid) = Scene::without_its_third(|_, _| Ok(()), || Ok(()))?;
    let line = scene.explained("connect-unreachable", &["killed"])?;
    ensure!(line["certainty"] == "inferred", "by its address alone, it cannot be certain: {line}");
    names(&line, pid)?;
    scene.tracer.stop().map(drop)
}

/// The same beside another network to which no cable leads, as each user's of rootless containers: the same address is
/// somebody's there, who listens on that very port.
fn same_address_apart() -> Result<()> {
    let (apart, stranger) = (Network::create()?, Netns::create()?);
    let mut namesake = None;
    let beside = |address, port| {
        apart.connect(&stranger, address)?;
        namesake = Some(backend(&stranger, &format!("tcp:0.0.0.0:{port}"), Behaviour::Answer)?);
        Ok(())
    };
    let (mut scene, pid) = Scene::without_its_third(beside, || Ok(()))?;
    let line = scene.explained("connect-unreachable", &["killed"])?;
    ensure!(line["certainty"] == "inferred", "by its address alone, it cannot be certain: {line}");
    names(&line, pid)?;
    scene.tracer.stop().map(drop)
}
