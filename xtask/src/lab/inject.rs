//! Breaking an upstream that worked.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};

use super::faults::{Fault, Injection};
use super::nginx::Lab;
use super::peer::RunningPeer;
use super::process::pid;

/// Local ports that [`Injection::TakePorts`] leaves in the namespace.
const PORT_RANGE: &str = "50000 50003";

/// Connections that keep a fault in force.
pub struct Held(#[expect(dead_code, reason = "held open until the testbed ends")] Vec<OwnedFd>);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

/// Does what the row's [`Injection`] says; the fault lasts as long as the result lives.
pub(super) fn inject(fault: &Fault, peers: &mut [RunningPeer], lab: &Lab) -> Result<Held> {
    let mut held = Vec::new();
    match fault.inject {
        Injection::Nothing => {}
        Injection::Ended(peer) => {
            peers[peer].backend()?.wait_gone()?;
        }
        Injection::Kill(peer, signal) => {
            peers[peer].backend()?.kill(signal)?;
        }
        Injection::StopListening(peer) => peers[peer].backend()?.stop_listening()?,
        Injection::OutOfMemory(peer) => peers[peer].backend()?.eat_memory()?,
        Injection::FillQueue(peer) => held = fill_queue(&peers[peer], lab)?,
        Injection::SocketMode(peer, mode) => {
            fs::set_permissions(socket_path(&peers[peer])?, fs::Permissions::from_mode(mode))?;
        }
        Injection::TakePorts(peer) => held = take_ports(&peers[peer], lab)?,
        Injection::RemoveSocket(peer) => fs::remove_file(socket_path(&peers[peer])?)?,
        Injection::ReplaceSocket(peer) => {
            let path = socket_path(&peers[peer])?;
            fs::remove_file(path)?;
            // Its file stays as it drops.
            drop(UnixListener::bind(path)?);
            fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        }
        Injection::RemoveDirectory(name) => fs::remove_dir_all(lab.prefix().join(name))?,
        Injection::LimitDescriptors => limit_descriptors(lab)?,
    }
    if fault.expect.symptom == "connect-refused" {
        held.extend(peers.iter().filter_map(|peer| occupy(&peer.address)));
    }
    Ok(Held(held))
}

/// Binds the port that a listener left, so that neither another listener nor a client gets it; `None` while it is in
/// use, or reserved already.
fn occupy(address: &str) -> Option<OwnedFd> {
    let SocketAddr::V4(address) = address.parse().ok()? else { return None };
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).ok()?;
    // Connections of the listener may be in TIME_WAIT.
    setsockopt(&fd, sockopt::ReuseAddr, &true).ok()?;
    bind(fd.as_raw_fd(), &SockaddrIn::from(address)).ok()?;
    Some(fd)
}

fn socket_path(peer: &RunningPeer) -> Result<&str> {
    peer.address.strip_prefix("unix:").context("this peer is no unix socket")
}

/// A queue with backlog N takes N + 1 connections; the next one finds it full.
fn fill_queue(peer: &RunningPeer, lab: &Lab) -> Result<Vec<OwnedFd>> {
    let room = peer.peer.backlog.context("the row gives no backlog")? + 1;
    lab.inside(|| {
        (0..room)
            .map(|_| match peer.address.strip_prefix("unix:") {
                Some(path) => Ok(UnixStream::connect(path)?.into()),
                None => Ok(TcpStream::connect(&peer.address)?.into()),
            })
            .collect()
    })
}

/// Shrinks the namespace's port range and connects until the kernel has no port left.
fn take_ports(peer: &RunningPeer, lab: &Lab) -> Result<Vec<OwnedFd>> {
    let address: SocketAddr = peer.address.parse()?;
    lab.inside(|| {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", PORT_RANGE)
            .context("the port range cannot be set")?;
        let mut held = Vec::new();
        loop {
            match TcpStream::connect(address) {
                Ok(stream) if held.len() < 64 => held.push(stream.into()),
                Ok(_) => bail!("the ports never ran out"),
                Err(error) if error.raw_os_error() == Some(Errno::EADDRNOTAVAIL as i32) => return Ok(held),
                Err(error) => return Err(error.into()),
            }
        }
    })
}

/// Lowers the running worker's limit so that exactly one number is free below it. (`worker_rlimit_nofile` cannot: a
/// starting worker needs more descriptors than it keeps.)
fn limit_descriptors(lab: &Lab) -> Result<()> {
    let [worker] = lab.workers()[..] else { bail!("the row needs exactly one worker") };
    let limit = u64::from(*free_descriptors(worker)?.get(1).context("no descriptor is free")?);
    let limits = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: prlimit(2) reads the struct during the call only, and writes nothing as the old limits are not asked for.
    let result =
        unsafe { libc::prlimit(pid(worker).as_raw(), libc::RLIMIT_NOFILE, &limits, std::ptr::null_mut()) };
    Errno::result(result).context("the worker's descriptor limit cannot be set")?;
    Ok(())
}

/// The lowest numbers that are not open in a process.
fn free_descriptors(process: u32) -> Result<Vec<u32>> {
    let open: Vec<u32> = fs::read_dir(format!("/proc/{process}/fd"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    Ok((0..1024).filter(|number| !open.contains(number)).take(2).collect())
}
