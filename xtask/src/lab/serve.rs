//! The upstream process itself: binds, says where, treats connections, obeys commands on standard input.
//!
//! Commands, one a line, each answered by `done`: `stop-listening`, `await-connection`,
//! `close-connections`. `eat` allocates until the kernel
//! ends the process. The end of standard input ends the process.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{Backlog, SockaddrStorage, getsockname, listen};

use super::behaviour::{Behaviour, Conn, eat};
use super::process::pid;
use super::spawn::{helper, join_netns};
use super::wait;

/// How quickly an idle listener notices that it has to stop, in milliseconds.
const ATTENTION: u16 = 20;

/// The command line of an upstream.
#[derive(Debug, Default)]
struct Options {
    listen: String,
    behaviour: Option<Behaviour>,
    backlog: Option<i32>,
    workers: u32,
    netns: Option<OsString>,
    cgroup: Option<OsString>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// State that the connections and the commands share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    open: Mutex<Vec<Arc<Conn>>>,
}

/// Runs an upstream until its standard input ends.
pub(super) fn main(args: &[OsString]) -> Result<()> {
    let options = parse(args)?;
    prctl::set_name(c"faulty")?;
    if let Some(path) = &options.netns {
        join_netns(path)?;
    }
    // A master stays outside: the limit is its workers', lest the kernel choose the master.
    if let Some(path) = options.cgroup.as_ref().filter(|_| options.workers == 0) {
        fs::write(Path::new(path).join("cgroup.procs"), "0").context("the cgroup takes no process")?;
    }
    let behaviour = options.behaviour.context("--behave is missing")?;
    match options.listen.as_str() {
        "udp" => serve_dns(),
        "inherit" => serve_inherited(behaviour),
        _ if options.workers > 0 => prefork(&options, behaviour),
        _ => serve(&options, behaviour),
    }
}

/// One process, one thread a connection.
fn serve(options: &Options, behaviour: Behaviour) -> Result<()> {
    let listener = Listener::bind(&options.listen, options.backlog)?;
    let ready = format!("ready {}", listener.address()?);
    let shared = Arc::new(Shared::default());
    let acceptor = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || accept_until_stopped(listener, behaviour, &shared))
    };
    say(&ready)?;
    let mut acceptor = Some(acceptor);
    for line in io::stdin().lock().lines() {
        match line?.as_str() {
            "stop-listening" => {
                shared.stop.store(true, Ordering::SeqCst);
                acceptor.take().map(JoinHandle::join);
            }
            "await-connection" => shared.await_connection()?,
            "close-connections" => shared.close_open(),
            "eat" => eat(),
            other => bail!("no command is named `{other}`"),
        }
        say("done")?;
    }
    Ok(())
}

/// A master that only holds the listener, and workers that accept on it; a worker that ends is replaced.
fn prefork(options: &Options, behaviour: Behaviour) -> Result<()> {
    let listener = Arc::new(Listener::bind(&options.listen, options.backlog)?);
    say(&format!("ready {}", listener.address()?))?;
    for _ in 0..options.workers {
        let (listener, cgroup) = (Arc::clone(&listener), options.cgroup.clone());
        thread::spawn(move || {
            if let Err(error) = keep_worker(&listener, behaviour, cgroup.as_deref()) {
                eprintln!("lab upstream: a worker is not replaced: {error:#}");
            }
        });
    }
    // When this process ends, the kernel ends the workers (PR_SET_PDEATHSIG).
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

/// Runs one worker after another. One that writes a line takes too long by its own account and is ended, as
/// supervisors do.
fn keep_worker(listener: &Listener, behaviour: Behaviour, cgroup: Option<&OsStr>) -> Result<()> {
    loop {
        let mut command = helper("faulty")?;
        command.args(["--listen", "inherit", "--behave", behaviour.as_str()]);
        if let Some(cgroup) = cgroup {
            command.arg("--cgroup").arg(cgroup);
        }
        command.stdin(Stdio::from(listener.as_fd().try_clone_to_owned()?));
        let mut worker = command.spawn()?;
        let output = worker.stdout.take().context("the worker has no output")?;
        if BufReader::new(output).read_line(&mut String::new())? > 0 {
            kill(pid(worker.id()), Signal::SIGTERM)?;
        }
        worker.wait()?;
    }
}

/// A worker of [`prefork`]: the listener is its standard input.
fn serve_inherited(behaviour: Behaviour) -> Result<()> {
    let fd = io::stdin().as_fd().try_clone_to_owned()?;
    let tcp = getsockname::<SockaddrStorage>(fd.as_raw_fd())?.as_sockaddr_in().is_some();
    let listener = if tcp { Listener::Tcp(fd.into()) } else { Listener::Unix(fd.into()) };
    accept_until_stopped(listener, behaviour, &Arc::default());
    Ok(())
}

/// Answers every DNS query with NXDOMAIN.
fn serve_dns() -> Result<()> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    say(&format!("ready {}", socket.local_addr()?))?;
    let mut packet = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut packet)?;
        if length >= 12 {
            // QR and RD set; RA and RCODE 3.
            packet[2] = 0x81;
            packet[3] = 0x83;
            socket.send_to(&packet[..length], from)?;
        }
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Vec<Arc<Conn>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Treats a connection while commands can reach it.
    fn while_open(&self, mut conn: Conn, behaviour: Behaviour) -> io::Result<()> {
        let handle = Arc::new(conn.try_clone()?);
        self.open().push(Arc::clone(&handle));
        let treated = behaviour.treat(&mut conn);
        // The duplicate must be gone first: the last descriptor closes the connection.
        self.open().retain(|other| !Arc::ptr_eq(other, &handle));
        treated
    }

    /// Waits until a connection is open.
    fn await_connection(&self) -> Result<()> {
        wait::until("a connection", Duration::from_secs(10), || (!self.open().is_empty()).then_some(()))
    }

    /// Closes every open connection.
    fn close_open(&self) {
        for conn in self.open().drain(..) {
            // A connection that is closed already is what is wanted.
            let _ = conn.shutdown();
        }
    }
}

/// Accepts until told to stop; then the listener closes.
fn accept_until_stopped(listener: Listener, behaviour: Behaviour, shared: &Arc<Shared>) {
    while !shared.stop.load(Ordering::SeqCst) {
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if behaviour == Behaviour::NeverAccept {
            ready[0].set_events(PollFlags::empty());
        }
        if !matches!(poll(&mut ready, ATTENTION), Ok(1..)) {
            continue;
        }
        // Another worker may have been faster; a client may be gone.
        let Ok(conn) = listener.accept() else { continue };
        let shared = Arc::clone(shared);
        // A client that gives up is no error of an upstream.
        thread::spawn(move || drop(shared.while_open(conn, behaviour)));
    }
}

impl Listener {
    /// Binds `tcp:ADDRESS` or `unix:PATH`; `backlog` replaces the default by listening again.
    fn bind(place: &str, backlog: Option<i32>) -> Result<Listener> {
        let listener = match place.split_once(':') {
            Some(("tcp", address)) => {
                let listener =
                    TcpListener::bind(address).with_context(|| format!("{address} cannot be bound"))?;
                listener.set_nonblocking(true)?;
                Listener::Tcp(listener)
            }
            Some(("unix", path)) => {
                let listener = UnixListener::bind(path).with_context(|| format!("{path} cannot be bound"))?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
                listener.set_nonblocking(true)?;
                Listener::Unix(listener)
            }
            _ => bail!("`{place}` is neither tcp:ADDRESS nor unix:PATH"),
        };
        if let Some(backlog) = backlog {
            listen(&listener, Backlog::new(backlog)?)?;
        }
        Ok(listener)
    }

    /// As nginx writes it.
    fn address(&self) -> Result<String> {
        Ok(match self {
            Listener::Tcp(listener) => listener.local_addr()?.to_string(),
            Listener::Unix(listener) => {
                let address = listener.local_addr()?;
                format!("unix:{}", address.as_pathname().context("the socket has no path")?.display())
            }
        })
    }

    fn accept(&self) -> io::Result<Conn> {
        let conn = match self {
            Listener::Tcp(listener) => Conn::Tcp(listener.accept()?.0),
            Listener::Unix(listener) => Conn::Unix(listener.accept()?.0),
        };
        Ok(conn)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}

fn parse(args: &[OsString]) -> Result<Options> {
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        let value = args.next().with_context(|| format!("{flag:?} needs a value"))?;
        let text = value.to_string_lossy();
        match flag.to_str() {
            Some("--listen") => options.listen = text.into_owned(),
            Some("--behave") => options.behaviour = Some(text.parse()?),
            Some("--backlog") => options.backlog = Some(text.parse()?),
            Some("--workers") => options.workers = text.parse()?,
            Some("--netns") => options.netns = Some(value.clone()),
            Some("--cgroup") => options.cgroup = Some(value.clone()),
            _ => bail!("no flag is named {flag:?}"),
        }
    }
    Ok(options)
}

fn say(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
