//! An upstream's place in a fault: a process, an address that nobody serves, a socket file that leads nowhere.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};

use super::backend::{Backend, BackendConfig};
use super::behaviour::Behaviour;
use super::cgroup::MemoryCgroup;

/// What is at an upstream's address.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A process on a TCP port.
    Tcp(Behaviour),
    /// A process on a unix socket.
    Unix(Behaviour),
    /// A process on a UDP port.
    Udp(Behaviour),
    /// A TCP port that is bound, so that nobody else takes it, but not listened on.
    DeadPort,
    /// A socket path that does not exist.
    NoSocket,
    /// A socket file whose listener is gone.
    StaleSocket,
    /// An address that the lab does not serve.
    Elsewhere(&'static str),
}

/// A row's upstream.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// What is there.
    pub place: Place,
    /// The listen backlog.
    pub backlog: Option<i32>,
    /// Worker processes behind a master; 0 for a single process.
    pub workers: u32,
    /// The limit of its own memory cgroup, in bytes.
    pub memory: Option<u64>,
}

impl Peer {
    /// A peer with nothing special.
    pub const fn at(place: Place) -> Peer {
        Peer { place, backlog: None, workers: 0, memory: None }
    }

    /// A process on a TCP port.
    pub const fn tcp(behaviour: Behaviour) -> Peer {
        Peer::at(Place::Tcp(behaviour))
    }

    /// A process on a unix socket.
    pub const fn unix(behaviour: Behaviour) -> Peer {
        Peer::at(Place::Unix(behaviour))
    }

    /// The same with a listen backlog.
    pub const fn backlog(self, backlog: i32) -> Peer {
        Peer { backlog: Some(backlog), ..self }
    }
}

/// A peer in operation.
#[derive(Debug)]
pub struct RunningPeer {
    /// As nginx's `server` directive takes it.
    pub address: String,
    /// The process, where there is one.
    pub backend: Option<Backend>,
    /// How the peer was described.
    pub peer: Peer,
    // Dropped after the process: the cgroup must be empty, the port stays reserved.
    _port: Option<OwnedFd>,
    _cgroup: Option<MemoryCgroup>,
}

impl RunningPeer {
    /// Puts a peer in operation; sockets go to `dir`, under `name`.
    ///
    /// # Errors
    /// When the process, its socket or its cgroup cannot be made.
    pub fn start(peer: Peer, dir: &Path, name: &str, netns: Option<&Path>) -> Result<RunningPeer> {
        let path = dir.join(format!("{name}.sock"));
        let unix = format!("unix:{}", path.display());
        let mut running =
            RunningPeer { address: unix.clone(), backend: None, peer, _port: None, _cgroup: None };
        let (listen, behaviour) = match peer.place {
            Place::Tcp(behaviour) => ("tcp:127.0.0.1:0".to_owned(), behaviour),
            Place::Unix(behaviour) => (unix, behaviour),
            Place::Udp(behaviour) => ("udp".to_owned(), behaviour),
            Place::DeadPort => {
                let (fd, address) = reserve_port()?;
                running._port = Some(fd);
                running.address = address.to_string();
                return Ok(running);
            }
            Place::NoSocket => return Ok(running),
            Place::StaleSocket => {
                drop(UnixListener::bind(&path)?);
                return Ok(running);
            }
            Place::Elsewhere(address) => {
                running.address = address.to_owned();
                return Ok(running);
            }
        };
        running._cgroup = peer.memory.map(MemoryCgroup::create).transpose()?;
        let cgroup = running._cgroup.as_ref().map(MemoryCgroup::path);
        let (backlog, workers) = (peer.backlog, peer.workers);
        let backend = Backend::start(&BackendConfig {
            listen,
            behaviour,
            backlog,
            workers,
            netns,
            cgroup,
            container: None,
        })?;
        running.address = backend.address().to_owned();
        running.backend = Some(backend);
        Ok(running)
    }

    /// The process.
    ///
    /// # Errors
    /// When the peer has none.
    pub fn backend(&mut self) -> Result<&mut Backend> {
        self.backend.as_mut().context("this peer has no process")
    }
}

/// Binds a free port without listening on it: connections are refused, and nobody else gets it meanwhile.
fn reserve_port() -> Result<(OwnedFd, SocketAddr)> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    let bound: SockaddrIn = getsockname(fd.as_raw_fd())?;
    Ok((fd, SocketAddr::from((bound.ip(), bound.port()))))
}
