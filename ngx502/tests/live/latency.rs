//! The kernel's latency histograms against nginx's own `$upstream_*_time`.

use std::cell::Cell;
use std::fmt::Write as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use xtask::lab::behaviour::Behaviour;
use xtask::lab::peer::{Peer, Place, RunningPeer};
use xtask::lab::truth::{Times, Truth};
use xtask::lab::wait::{self, slowness};
use xtask::lab::{Lab, LabConfig};

use crate::outcome_of;
use crate::tracer::{Tracer, program};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("latency::agrees-with-nginx", || outcome_of(agrees_with_nginx)),
        Trial::test("latency::retries", || outcome_of(retries)),
        Trial::test("latency::on-demand", || outcome_of(on_demand)),
        Trial::test("latency::interval", || outcome_of(interval)),
        Trial::test("latency::switched-off", || outcome_of(switched_off)),
        Trial::test("latency::captured", || outcome_of(captured)),
    ]
}

/// A location and its upstream.
struct Route {
    /// The location's and the upstream's name.
    name: &'static str,
    /// The upstream's servers.
    peers: &'static [Peer],
    /// Directives of the upstream block.
    upstream: &'static str,
    /// Directives of the location.
    location: &'static str,
    /// How a request is sent.
    ask: Ask,
    /// How many connections its requests take when they come one after another; `None`: one each.
    connections: Option<u64>,
}

/// How a request is sent.
#[derive(Clone, Copy)]
enum Ask {
    Get,
    /// So many pieces of body, with a pause before each.
    Upload(usize),
}

const KEPT: &str = "proxy_http_version 1.1; proxy_set_header Connection '';";
const UNBUFFERED: &str =
    "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_request_buffering off;";
const POOL: &str = "keepalive 8;";

/// nginx 1.29.7 and later keep connections to upstreams unless told otherwise.
const CLOSED: &str = "proxy_http_version 1.0; proxy_set_header Connection close;";

const SHORT: Route =
    Route { name: "", peers: &[], upstream: "", location: CLOSED, ask: Ask::Get, connections: None };
const POOLED: Route = Route { upstream: POOL, location: KEPT, connections: Some(1), ..SHORT };

const TCP_SHORT: Route = Route { name: "tcp-short", peers: &[Peer::tcp(Behaviour::SlowAnswer)], ..SHORT };
const TCP_POOLED: Route =
    Route { name: "tcp-pooled", peers: &[Peer::tcp(Behaviour::SlowKeepAlive)], ..POOLED };
/// The upstream closes first.
const UNIX_SHORT: Route = Route { name: "unix-short", peers: &[Peer::unix(Behaviour::SlowAnswer)], ..SHORT };
/// nginx closes first and never reads to the end: no hook tells on a kernel without kprobes.
const UNIX_LEFT: Route = Route {
    name: "unix-left",
    peers: &[Peer::unix(Behaviour::SlowKeepAlive)],
    // This upstream keeps the connection whatever it is asked.
    upstream: "keepalive_requests 1;",
    ..SHORT
};
const UNIX_POOLED: Route =
    Route { name: "unix-pooled", peers: &[Peer::unix(Behaviour::SlowKeepAlive)], ..POOLED };
const CHUNKED: Route = Route { name: "chunked", peers: &[Peer::tcp(Behaviour::SlowChunks)], ..POOLED };
const UNIX_CHUNKED: Route =
    Route { name: "unix-chunked", peers: &[Peer::unix(Behaviour::SlowChunks)], ..POOLED };
const UPLOAD: Route = Route {
    name: "upload",
    peers: &[Peer::tcp(Behaviour::SlowKeepAlive)],
    location: UNBUFFERED,
    ask: Ask::Upload(4),
    ..POOLED
};

/// The size of an upload's piece, and the time before each.
const PIECE: usize = 64 * 1024;
const PIECE_PAUSE: Duration = Duration::from_millis(10);
/// For what the tracer is asked again and again.
const PATIENCE: Duration = Duration::from_secs(5);

/// An nginx with some routes.
struct Bench {
    lab: Lab,
    routes: Vec<(&'static Route, Vec<RunningPeer>)>,
    _sockets: tempfile::TempDir,
}

impl Bench {
    fn start(routes: &[&'static Route]) -> Result<Bench> {
        let sockets = tempfile::tempdir()?;
        let mut config = LabConfig::default();
        let mut running = Vec::new();
        for route in routes {
            let start = |(index, peer): (usize, &Peer)| {
                RunningPeer::start(*peer, sockets.path(), &format!("{}-{index}", route.name), None)
            };
            let peers = route.peers.iter().enumerate().map(start).collect::<Result<Vec<_>>>()?;
            writeln!(config.http, "upstream {} {{", route.name)?;
            for peer in &peers {
                writeln!(config.http, "server {} max_fails=0;", peer.address)?;
            }
            writeln!(config.http, "{} }}", route.upstream)?;
            let Route { name, location, .. } = route;
            writeln!(config.server, "location /{name}/ {{ proxy_pass http://{name}; {location} }}")?;
            running.push((*route, peers));
        }
        Ok(Bench { lab: Lab::start(config)?, routes: running, _sockets: sockets })
    }

    /// Sends `count` requests to every route: one after another, but to all routes at once.
    fn ask(&self, count: usize, round: &str) -> Result<()> {
        thread::scope(|scope| {
            let asking: Vec<_> = self
                .routes
                .iter()
                .map(|(route, _)| scope.spawn(move || self.ask_one(route, count, round)))
                .collect();
            asking.into_iter().try_for_each(|thread| thread.join().expect("a client does not panic"))
        })
    }

    fn ask_one(&self, route: &Route, count: usize, round: &str) -> Result<()> {
        for request in 0..count {
            let uri = format!("/{}/{round}-{request}", route.name);
            let response = match route.ask {
                Ask::Get => self.lab.get(&uri)?,
                Ask::Upload(pieces) => {
                    let mut client = self.lab.client()?;
                    client.send_head("POST", &uri, pieces * PIECE)?;
                    for _ in 0..pieces {
                        thread::sleep(PIECE_PAUSE);
                        client.send_bytes(&[b'x'; PIECE])?;
                    }
                    client.receive()?
                }
            };
            ensure!(matches!(response.status, 200 | 502), "{uri}: {}", response.status);
        }
        Ok(())
    }

    fn address(&self, route: &str, peer: usize) -> &str {
        let found = self.routes.iter().find(|(known, _)| known.name == route);
        &found.expect("the route is on this bench").1[peer].address
    }

    /// What nginx logs of its attempts on an upstream, once `requests` requests are logged.
    fn attempts(&self, address: &str, requests: usize) -> Result<Vec<Times>> {
        let truth = Truth::wait_for(&self.lab, requests)?;
        let of = |(_, entry): (&str, &xtask::lab::truth::Entry)| {
            let addresses: Vec<_> = entry.upstream_addr.split(", ").map(str::to_owned).collect();
            addresses.into_iter().zip(entry.times.clone())
        };
        let all = truth.entries().collect::<Vec<_>>();
        let all = all.into_iter().flat_map(of);
        Ok(all.filter(|(tried, _)| tried == address).map(|(_, times)| times).collect())
    }
}

/// One upstream's entry of a `latency` or `summary` line.
fn series<'a>(line: &'a Value, address: &str, ok: bool) -> Option<&'a Value> {
    let upstreams = line["upstreams"].as_array()?;
    upstreams.iter().find(|series| series["address"] == address && series["ok"] == ok)
}

fn count(line: &Value, address: &str, phase: &str) -> u64 {
    series(line, address, true).and_then(|series| series[phase]["count"].as_u64()).unwrap_or(0)
}

/// The kernel's median lies within nginx's millisecond, and a bucket's width above. Not so higher percentiles on a busy
/// machine: nginx takes the time once a turn of its event loop, and does not see for how long it lost the CPU then.
fn same_median(phase: &Value, mut nginx: Vec<u64>) -> Result<()> {
    nginx.sort_unstable();
    let rank = nginx.len().div_ceil(2).max(1);
    let millis = *nginx.get(rank - 1).context("nginx logged no attempt")?;
    let found = phase["p50"].as_u64().with_context(|| format!("no median: {phase}"))?;
    // An emulated processor takes milliseconds for a turn of nginx's event loop, in which nginx's clock stands still: there
    // the two can only be compared by count.
    if slowness() > 1 {
        return Ok(());
    }
    // Both ends of nginx's difference are cut to whole milliseconds.
    let (low, high) = (millis.saturating_sub(1) * 1_000, (millis + 1) * 1_000);
    let high = high + high / 16;
    ensure!((low..=high).contains(&found), "the median is {found} µs, nginx's {millis} ms: {phase}");
    Ok(())
}

fn agrees_with_nginx() -> Result<()> {
    const EACH: usize = 20;
    const ROUTES: [&Route; 8] =
        [&TCP_SHORT, &TCP_POOLED, &UNIX_SHORT, &UNIX_LEFT, &UNIX_POOLED, &CHUNKED, &UNIX_CHUNKED, &UPLOAD];
    let bench = Bench::start(&ROUTES)?;
    let mut tracer = Tracer::start(bench.lab.master(), &[])?;
    let ready = tracer.wait_for("ready", |line| line["type"] == "ready")?;
    let unix_connects =
        ready["providers"]["unix-connect"].as_str().is_some_and(|provider| provider != "none");
    bench.ask(EACH, "a")?;
    let summary = tracer.stop()?.summary;
    for (route, peers) in &bench.routes {
        let address = &peers[0].address;
        let agrees = || -> Result<()> {
            let attempts = bench.attempts(address, EACH * ROUTES.len())?;
            ensure!(attempts.len() == EACH, "nginx logged {} attempts", attempts.len());
            let series = series(&summary, address, true).context("no latency")?;
            for phase in ["first_byte_us", "total_us"] {
                ensure!(series[phase]["count"] == EACH, "not {EACH} of {phase}: {series}");
            }
            let seen = !address.starts_with("unix:") || unix_connects;
            let connections = if seen { route.connections.unwrap_or(EACH as u64) } else { 0 };
            ensure!(
                count(&summary, address, "connect_us") == connections,
                "not {connections} connects: {series}"
            );
            if connections == EACH as u64 {
                let connect: Vec<_> = attempts.iter().filter_map(|times| times.connect).collect();
                same_median(&series["connect_us"], connect).context("connect")?;
            }
            let header = attempts.iter().filter_map(|times| Some(times.header? - times.connect.unwrap_or(0)));
            same_median(&series["first_byte_us"], header.collect()).context("first byte")?;
            let response: Vec<_> = attempts.iter().filter_map(|times| times.response).collect();
            same_median(&series["total_us"], response).context("total")
        };
        agrees().with_context(|| route.name)?;
    }
    Ok(())
}

/// Every attempt that had an answer is counted for its own upstream, as nginx took it.
fn retries() -> Result<()> {
    const REQUESTS: usize = 12;
    const REFUSED: Route = Route {
        name: "refused",
        peers: &[Peer::at(Place::DeadPort), Peer::tcp(Behaviour::SlowKeepAlive)],
        ..POOLED
    };
    const GARBAGE: Route = Route {
        name: "garbage",
        peers: &[Peer::tcp(Behaviour::GarbageHeader), Peer::tcp(Behaviour::SlowAnswer)],
        location: "proxy_next_upstream error timeout invalid_header;",
        ..SHORT
    };
    let bench = Bench::start(&[&REFUSED, &GARBAGE])?;
    let tracer = Tracer::start(bench.lab.master(), &[])?;
    bench.ask(REQUESTS, "a")?;
    let summary = tracer.stop()?.summary;
    for route in ["refused", "garbage"] {
        let address = bench.address(route, 1);
        let attempts = bench.attempts(address, 2 * REQUESTS)?;
        ensure!(attempts.len() == REQUESTS, "{route}: {} attempts", attempts.len());
        let found = series(&summary, address, true).with_context(|| format!("{route}: no latency"))?;
        ensure!(found["total_us"]["count"] == REQUESTS, "{route}: not {REQUESTS}: {found}");
        let response: Vec<_> = attempts.iter().filter_map(|times| times.response).collect();
        same_median(&found["total_us"], response).context(route)?;
    }
    let garbage = bench.address("garbage", 0);
    let failed = bench.attempts(garbage, 2 * REQUESTS)?.len();
    ensure!(failed > 0, "nginx never tried the bad upstream");
    let found = series(&summary, garbage, false).context("no latency of failed attempts")?;
    ensure!(found["total_us"]["count"] == failed, "not {failed} failed attempts: {found}");
    ensure!(series(&summary, garbage, true).is_none(), "a failed attempt counts as content: {summary}");
    ensure!(series(&summary, bench.address("refused", 0), true).is_none(), "a refused connect: {summary}");
    Ok(())
}

const BOTH: [&Route; 4] = [&TCP_POOLED, &TCP_SHORT, &UNIX_POOLED, &UNIX_LEFT];

/// SIGUSR1 shows every request so far, and shows none twice later.
fn on_demand() -> Result<()> {
    const EACH: u64 = 5;
    let bench = Bench::start(&BOTH)?;
    let mut tracer = Tracer::start(bench.lab.master(), &[])?;
    let mut signals = 0;
    for round in 1..=3 {
        bench.ask(EACH as usize, &round.to_string())?;
        // A client has its answer a moment before nginx is done with the upstream: a request may be missing once.
        wait::until(&format!("{} requests of each", round * EACH), PATIENCE, || {
            tracer.signal(Signal::SIGUSR1).ok()?;
            signals += 1;
            let lines = Cell::new(0);
            let line = tracer.wait_for("a latency line", |line| {
                lines.set(lines.get() + usize::from(line["type"] == "latency"));
                lines.get() == signals
            });
            let line = line.ok()?;
            let complete = |address: &str| count(&line, address, "total_us") == round * EACH;
            bench.routes.iter().all(|(_, peers)| complete(&peers[0].address)).then_some(())
        })?;
    }
    let said = tracer.stop()?;
    ensure!(said.latency.len() == signals, "{} latency lines after {signals} signals", said.latency.len());
    for (route, peers) in &bench.routes {
        let counted = count(&said.summary, &peers[0].address, "total_us");
        ensure!(counted == 3 * EACH, "{}: {counted} of {} in {}", route.name, 3 * EACH, said.summary);
    }
    Ok(())
}

/// `--interval` shows latency by itself; counts only grow, up to the number of requests.
fn interval() -> Result<()> {
    const EACH: u64 = 10;
    let bench = Bench::start(&BOTH)?;
    let mut tracer = Tracer::start(bench.lab.master(), &["--interval", "500ms"])?;
    bench.ask(EACH as usize, "a")?;
    let addresses: Vec<_> = bench.routes.iter().map(|(_, peers)| peers[0].address.clone()).collect();
    tracer.wait_for("a line with every request", |line| {
        line["type"] == "latency" && addresses.iter().all(|address| count(line, address, "total_us") == EACH)
    })?;
    let said = tracer.stop()?;
    for address in &addresses {
        let counts: Vec<_> = said.latency.iter().map(|line| count(line, address, "total_us")).collect();
        ensure!(counts.is_sorted() && counts.iter().all(|count| *count <= EACH), "{address}: {counts:?}");
        ensure!(count(&said.summary, address, "total_us") == EACH, "{address}: {}", said.summary);
    }
    Ok(())
}

/// `--no-latency` leaves the hook out; failed attempts still have theirs.
fn switched_off() -> Result<()> {
    const DEAD: Route = Route { name: "dead", peers: &[Peer::at(Place::DeadPort)], ..SHORT };
    let bench = Bench::start(&[&TCP_POOLED, &DEAD])?;
    let mut tracer = Tracer::start(bench.lab.master(), &["--no-latency"])?;
    let ready = tracer.wait_for("ready", |line| line["type"] == "ready")?;
    ensure!(matches!(ready["providers"]["received"].as_str(), None | Some("none")), "a hook: {ready}");
    bench.ask(3, "a")?;
    let summary = tracer.stop()?.summary;
    ensure!(summary["upstreams"] == serde_json::json!([]), "latency was counted: {summary}");
    ensure!(summary["latency"]["total_us"]["count"] == 3, "three failed attempts: {summary}");
    Ok(())
}

/// A capture holds the histograms: a replay sums up alike, and a chart draws them.
fn captured() -> Result<()> {
    const EACH: usize = 8;
    let bench = Bench::start(&BOTH)?;
    let dir = tempfile::tempdir()?;
    let capture = dir.path().join("capture").to_string_lossy().into_owned();
    let tracer = Tracer::start(bench.lab.master(), &["-o", &capture])?;
    bench.ask(EACH, "a")?;
    let summary = tracer.stop()?.summary;
    let replayed = ngx502(&["replay", &capture, "--format", "json"])?;
    let last = replayed.lines().last().context("the replay says nothing")?;
    let last: Value = serde_json::from_str(last)?;
    ensure!(last["upstreams"] == summary["upstreams"], "a replay of {summary} says {last}");
    ensure!(count(&last, bench.address("unix-left", 0), "total_us") == EACH as u64, "missing: {last}");
    let chart = dir.path().join("chart.svg");
    ngx502(&["chart", &capture, "-o", &chart.to_string_lossy()])?;
    let drawn = std::fs::read_to_string(&chart)?;
    ensure!(drawn.contains("<svg"), "no SVG: {drawn}");
    let told = format!("{} answered", BOTH.len() * EACH);
    ensure!(drawn.contains(&told), "the chart does not tell of {told}");
    Ok(())
}

fn ngx502(arguments: &[&str]) -> Result<String> {
    let output = Command::new(program()).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ngx502 {arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}
