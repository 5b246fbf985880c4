//! The nginx under load, the quick upstream behind it, and where on the machine each of them runs.
//!
//! Placement: the nginx under test has processor 0 to itself, the upstream and wrk share processor 1 (where there are
//! more, wrk gets processor 2). Pinning keeps the scheduler's moods out of a comparison of a few per cent. What is
//! traced then decides the throughput only as long as processor 0 is the busier one, hence every run also takes the
//! processor time that nginx's worker spends on a request, which no idle neighbour can hide. The tracer is not pinned:
//! it takes its time where the kernel gives it, as it would in production.

use std::fs;
use std::net::SocketAddr;
use std::num::NonZero;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};
use xtask::lab::{Lab, LabConfig, wait};

use super::scenario::Scenario;
use super::usage;
use super::wrk::{self, CONNECTIONS, Load};

/// Idle connections that nginx keeps to the upstream: one for each of wrk's.
const POOL: u32 = CONNECTIONS;
/// nginx closes a client's connection after 1000 requests by default, which would mix `short` into `keep-alive`.
const ENDLESS: &str = "keepalive_requests 1000000000;";

/// A running nginx with its upstream.
pub(super) struct Bed {
    nginx: Lab,
    upstream: Lab,
    _sockets: tempfile::TempDir,
    /// Bound and not listening: the port stays closed and nobody else's.
    _closed_port: OwnedFd,
    wrk_cpu: usize,
}

/// One run of wrk, seen from both sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// What wrk counted.
    pub(super) load: Load,
    /// Processor time of nginx's worker.
    pub(super) cpu: Duration,
    /// 502s in the access log; 0 where the scenario keeps none.
    pub(super) failures: u64,
}

impl Run {
    /// Requests a second.
    pub(super) fn throughput(&self) -> f64 {
        self.load.requests as f64 / self.load.seconds
    }

    /// Processor time of nginx's worker a request, in microseconds.
    pub(super) fn cpu_per_request(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.load.requests.max(1) as f64
    }

    /// Share of one processor that nginx's worker used.
    pub(super) fn busy(&self) -> f64 {
        self.cpu.as_secs_f64() / self.load.seconds
    }
}

impl Bed {
    /// Starts both nginx.
    ///
    /// # Errors
    /// When one of them does not start.
    pub(super) fn start() -> Result<Bed> {
        let cpus = available_parallelism().map_or(1, NonZero::get);
        let sockets = tempfile::tempdir()?;
        let socket_path = sockets.path().join("upstream.sock");
        let upstream = Lab::start(LabConfig {
            main: affinity(1 % cpus),
            connections: 4096,
            server: format!(
                "listen unix:{}; access_log off; {ENDLESS} location / {{ return 200 ok\\n; }}",
                socket_path.display()
            ),
            ..LabConfig::default()
        })
        .context("the upstream of the bench")?;
        let (closed_port, closed) = closed_port()?;
        let nginx = Lab::start(LabConfig {
            main: affinity(0),
            connections: 4096,
            http: format!("upstream pool {{ server {}; keepalive {POOL}; }}", upstream.address()),
            server: locations(upstream.address(), closed, &socket_path.to_string_lossy()),
            ..LabConfig::default()
        })
        .context("the nginx under load")?;
        let wrk_cpu = if cpus > 2 { 2 } else { 1 % cpus };
        Ok(Bed { nginx, upstream, _sockets: sockets, _closed_port: closed_port, wrk_cpu })
    }

    /// The master's pid: what a tracer is pointed at.
    pub(super) fn master(&self) -> u32 {
        self.nginx.master()
    }

    /// The pid of the upstream's master.
    pub(super) fn upstream(&self) -> u32 {
        self.upstream.master()
    }

    /// The one worker's pid.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn worker(&self) -> Result<u32> {
        self.nginx.workers().first().copied().context("nginx under load has no worker any more")
    }

    /// One run of wrk.
    ///
    /// # Errors
    /// When wrk fails, or answers are not what the scenario is about.
    pub(super) fn run(&self, scenario: Scenario, time: Duration) -> Result<Run> {
        let worker = self.worker()?;
        let log = self.nginx.prefix().join("access.log");
        // The file is kept short, since it is read whole after each run; nginx appends.
        fs::OpenOptions::new().write(true).open(&log)?.set_len(0)?;
        fs::OpenOptions::new().write(true).open(self.nginx.prefix().join("error.log"))?.set_len(0)?;
        let before = usage::cpu(worker)?;
        let load = wrk::run(self.nginx.address(), scenario, time, self.wrk_cpu)?;
        let cpu = usage::cpu(worker)?.saturating_sub(before);
        let failures = if scenario.fails() { self.count_failures()? } else { 0 };
        wrk::check(scenario, &load)?;
        Ok(Run { load, cpu, failures })
    }

    /// 502s in the access log, once nginx has dealt with what wrk left unfinished.
    fn count_failures(&self) -> Result<u64> {
        let path = self.nginx.prefix().join("access.log");
        let mut last = None;
        let mut still = 0;
        wait::until("nginx to come to rest", Duration::from_secs(10), || {
            let len = fs::metadata(&path).ok()?.len();
            still = if last == Some(len) { still + 1 } else { 0 };
            last = Some(len);
            (still >= 20).then_some(())
        })?;
        let log = fs::read(&path)?;
        Ok(log.split(|byte| *byte == b'\n').filter(|line| contains(line, br#""status":"502""#)).count()
            as u64)
    }
}

fn affinity(cpu: usize) -> String {
    // nginx reads the mask's lowest bit at the right.
    format!("worker_cpu_affinity 1{};", "0".repeat(cpu))
}

fn locations(upstream: SocketAddr, closed: SocketAddr, socket: &str) -> String {
    format!(
        "access_log off; {ENDLESS}
location = /keep-alive {{ proxy_pass http://pool; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
location = /short {{ proxy_pass http://{upstream}; }}
location = /unix {{ proxy_pass http://unix:{socket}:; }}
location = /storm {{ access_log access.log lab; proxy_pass http://{closed}; }}"
    )
}

/// A loopback port that refuses connections for as long as the descriptor is open.
fn closed_port() -> Result<(OwnedFd, SocketAddr)> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    let bound: SockaddrIn = getsockname(fd.as_raw_fd())?;
    Ok((fd, SocketAddr::from((bound.ip(), bound.port()))))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_names_one_processor() {
        assert_eq!(affinity(0), "worker_cpu_affinity 1;");
        assert_eq!(affinity(2), "worker_cpu_affinity 100;");
    }

    #[test]
    fn the_closed_port_refuses() {
        let (_held, address) = closed_port().unwrap();
        let refused = std::net::TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
