//! The ways in which an upstream can fail, and how one connection is treated accordingly.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal};
use nix::sys::socket::{setsockopt, sockopt};

/// A complete, friendly answer.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
/// The same on a connection that stays open.
const OK_KEEP: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nok\n";
/// What a plain HTTP server says to bytes of another protocol.
const BAD_REQUEST: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// How long a slow upstream takes to answer.
pub const SLOWNESS: Duration = Duration::from_millis(30);
/// How many chunks [`Behaviour::SlowChunks`] sends, and how long it waits before each.
pub const CHUNKS: u32 = 4;
/// See [`CHUNKS`].
pub const CHUNK_PAUSE: Duration = Duration::from_millis(10);
/// A header block beyond any default `proxy_buffer_size`, in bytes.
const BIG_HEADER: usize = 64 * 1024;

macro_rules! behaviours {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// How an upstream treats its connections.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Behaviour { $($(#[$doc])* $variant,)+ }

        impl Behaviour {
            /// The name on a helper's command line.
            pub fn as_str(self) -> &'static str {
                match self { $(Behaviour::$variant => $name,)+ }
            }
        }

        impl FromStr for Behaviour {
            type Err = anyhow::Error;

            fn from_str(text: &str) -> anyhow::Result<Self> {
                match text {
                    $($name => Ok(Behaviour::$variant),)+
                    _ => anyhow::bail!("no behaviour is named `{text}`"),
                }
            }
        }
    };
}

behaviours! {
    /// Answers 200 and closes.
    Answer = "answer",
    /// Answers 200 and keeps the connection.
    KeepAlive = "keep-alive",
    /// Answers 200 after 30 ms and closes.
    SlowAnswer = "slow-answer",
    /// Answers 200 after 30 ms and keeps the connection.
    SlowKeepAlive = "slow-keep-alive",
    /// Answers 200 after 30 ms, in chunks 10 ms apart, and keeps the connection.
    SlowChunks = "slow-chunks",
    /// Never calls accept.
    NeverAccept = "never-accept",
    /// Reads the request and never answers.
    Silent = "silent",
    /// Accepts, and reads nothing until the connection ends.
    Deaf = "deaf",
    /// Reads the request and closes: FIN.
    Close = "close",
    /// Reads the request and resets: SO_LINGER 0.
    Reset = "reset",
    /// Reads the request and has its own end destroyed by `ss -K`. Only for TCP.
    Destroyed = "destroyed",
    /// Closes with the request unread: RST on TCP, ECONNRESET on unix.
    CloseUnread = "close-unread",
    /// Reads a first piece of a request and closes with the rest to come.
    CloseMidBody = "close-mid-body",
    /// Sends half a header and closes.
    PartialHeader = "partial-header",
    /// Sends a header line that is none.
    GarbageHeader = "garbage-header",
    /// Sends 64 KiB of header.
    BigHeader = "big-header",
    /// Sends a valid header and a chunk size that is none.
    BadChunk = "bad-chunk",
    /// Sends less body than announced.
    Truncate = "truncate",
    /// Answers with a body and no header at all.
    Http09 = "http09",
    /// Answers 502 itself.
    Status502 = "status-502",
    /// Answers 504 itself.
    Status504 = "status-504",
    /// Ends its process with exit code 3 upon a request.
    Exit = "exit",
    /// Dereferences a bad pointer upon a request.
    Segfault = "segfault",
    /// Calls abort(3) upon a request.
    Abort = "abort",
    /// Writes upon a request to a pipe that nobody reads, with SIGPIPE as it is by default.
    BrokenPipe = "broken-pipe",
    /// Writes upon a request beyond its limit of file sizes.
    FileLimit = "file-limit",
    /// Sets a timer upon a request, and does not handle its signal.
    Alarm = "alarm",
    /// The same with a profiler's timer.
    Profiler = "profiler",
    /// Sends itself SIGTERM upon a request.
    KillItself = "kill-itself",
    /// Allocates upon a request until the kernel ends its process.
    Eat = "eat",
    /// A worker that is ended by its master upon a request, as supervisors end what takes too long.
    Overrun = "overrun",
    /// FastCGI: answers 200.
    FastCgi = "fastcgi",
    /// FastCGI: writes to stderr, then answers 200.
    FastCgiStderr = "fastcgi-stderr",
    /// FastCGI: answers without a usable header.
    FastCgiGarbage = "fastcgi-garbage",
    /// Computes upon a request, and never answers.
    Compute = "compute",
    /// Answers 101 and is silent.
    Upgrade = "upgrade",
    /// HTTP/2: refuses the stream (RST_STREAM, REFUSED_STREAM).
    H2Refuse = "h2-refuse",
    /// HTTP/2: GOAWAY without an error, and the request is not served.
    H2Goaway = "h2-goaway",
    /// HTTP/2: GOAWAY with ENHANCE_YOUR_CALM.
    H2Calm = "h2-calm",
    /// DNS over UDP: answers NXDOMAIN.
    NxDomain = "nxdomain",
}

/// An accepted connection.
#[derive(Debug)]
pub(super) enum Conn {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Conn {
    pub(super) fn try_clone(&self) -> io::Result<Conn> {
        Ok(match self {
            Conn::Tcp(stream) => Conn::Tcp(stream.try_clone()?),
            Conn::Unix(stream) => Conn::Unix(stream.try_clone()?),
        })
    }

    pub(super) fn shutdown(&self) -> io::Result<()> {
        match self {
            Conn::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Conn::Unix(stream) => stream.shutdown(Shutdown::Both),
        }
    }

    fn wait_for_end(&self) -> io::Result<()> {
        poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLHUP)], PollTimeout::NONE)?;
        Ok(())
    }

    fn wait_readable(&self) -> io::Result<()> {
        poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
        Ok(())
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Conn::Tcp(stream) => stream.as_fd(),
            Conn::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for Conn {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Conn::Tcp(stream) => stream.read(buffer),
            Conn::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Conn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Conn::Tcp(stream) => stream.write(bytes),
            Conn::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the other side speaks, judged by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Http,
    Tls,
    FastCgi,
}

impl Behaviour {
    /// Treats one connection, until it is to be closed.
    pub(super) fn treat(self, conn: &mut Conn) -> io::Result<()> {
        match self {
            Behaviour::CloseUnread => return conn.wait_readable(),
            Behaviour::Deaf => return conn.wait_for_end(),
            Behaviour::CloseMidBody => return conn.read(&mut [0; 4096]).map(drop),
            Behaviour::H2Refuse | Behaviour::H2Goaway | Behaviour::H2Calm => {
                read_http2(conn)?;
                conn.write_all(&self.bytes())?;
                return io::copy(conn, &mut io::sink()).map(drop);
            }
            _ => {}
        }
        let speaks = read_request(conn)?;
        if speaks == Speaks::Tls || (speaks == Speaks::FastCgi && !self.is_fastcgi()) {
            return conn.write_all(BAD_REQUEST.as_bytes());
        }
        match self {
            Behaviour::KeepAlive | Behaviour::SlowKeepAlive | Behaviour::SlowChunks => {
                self.keep_answering(conn)
            }
            Behaviour::SlowAnswer => {
                thread::sleep(SLOWNESS);
                conn.write_all(OK.as_bytes())
            }
            Behaviour::Silent => io::copy(conn, &mut io::sink()).map(drop),
            Behaviour::Reset => {
                setsockopt(conn, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
                Ok(())
            }
            Behaviour::Destroyed => destroy(conn),
            Behaviour::Exit => std::process::exit(3),
            Behaviour::Segfault => segfault(),
            Behaviour::Abort => std::process::abort(),
            Behaviour::Eat => eat(),
            Behaviour::BrokenPipe
            | Behaviour::FileLimit
            | Behaviour::Alarm
            | Behaviour::Profiler
            | Behaviour::KillItself => self.bring_upon_itself(),
            Behaviour::Compute => loop {
                black_box(());
            },
            Behaviour::Upgrade => {
                conn.write_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: lab\r\n\r\n",
                )?;
                io::copy(conn, &mut io::sink()).map(drop)
            }
            Behaviour::Overrun => {
                writeln!(io::stdout(), "overrun")?;
                io::copy(conn, &mut io::sink()).map(drop)
            }
            _ => conn.write_all(&self.bytes()),
        }
    }

    fn is_fastcgi(self) -> bool {
        matches!(self, Behaviour::FastCgi | Behaviour::FastCgiStderr | Behaviour::FastCgiGarbage)
    }

    /// Does what the kernel ends a process for.
    fn bring_upon_itself(self) -> io::Result<()> {
        let default = |signal| {
            // SAFETY: no handler is installed, the default action is restored.
            unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }.map(drop)
        };
        match self {
            Behaviour::BrokenPipe => {
                default(Signal::SIGPIPE)?;
                let (reader, writer) = nix::unistd::pipe()?;
                drop(reader);
                nix::unistd::write(writer, b"x")?;
            }
            Behaviour::FileLimit => {
                default(Signal::SIGXFSZ)?;
                setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
                setrlimit(Resource::RLIMIT_FSIZE, 1, 1)?;
                tempfile::tempfile()?.write_all(b"xx")?;
            }
            Behaviour::KillItself => nix::sys::signal::raise(Signal::SIGTERM)?,
            Behaviour::Alarm => timer(libc::ITIMER_REAL)?,
            _ => timer(libc::ITIMER_PROF)?,
        }
        Err(io::Error::other("the kernel let this process live"))
    }

    fn keep_answering(self, conn: &mut Conn) -> io::Result<()> {
        self.answer_once(conn)?;
        loop {
            read_request(conn)?;
            self.answer_once(conn)?;
        }
    }

    /// One answer on a connection that is kept.
    fn answer_once(self, conn: &mut Conn) -> io::Result<()> {
        if self != Behaviour::KeepAlive {
            thread::sleep(SLOWNESS);
        }
        if self != Behaviour::SlowChunks {
            return conn.write_all(OK_KEEP.as_bytes());
        }
        conn.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for _ in 0..CHUNKS {
            thread::sleep(CHUNK_PAUSE);
            conn.write_all(b"3\r\nok\n\r\n")?;
        }
        conn.write_all(b"0\r\n\r\n")
    }

    /// Everything that this behaviour sends before it closes.
    fn bytes(self) -> Vec<u8> {
        match self {
            Behaviour::Answer => OK.into(),
            Behaviour::PartialHeader => b"HTTP/1.1 200 OK\r\nContent-Le".into(),
            Behaviour::GarbageHeader => b"HTTP/1.1 200 OK\r\nBad\0Header: x\r\n\r\n".into(),
            Behaviour::BigHeader => {
                format!("HTTP/1.1 200 OK\r\nX-Big: {}\r\n\r\n", "x".repeat(BIG_HEADER)).into_bytes()
            }
            Behaviour::BadChunk => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".into(),
            Behaviour::Truncate => b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\ncut".into(),
            Behaviour::Http09 => b"only a body\n".into(),
            Behaviour::Status502 => own_status("502 Bad Gateway"),
            Behaviour::Status504 => own_status("504 Gateway Timeout"),
            Behaviour::H2Refuse => http2_frame(3, 1, &7_u32.to_be_bytes()),
            Behaviour::H2Goaway => http2_frame(7, 0, &[0; 8]),
            Behaviour::H2Calm => http2_frame(7, 0, &[[0; 4], 11_u32.to_be_bytes()].concat()),
            Behaviour::FastCgi => fastcgi(b"", b"Content-Type: text/plain\r\n\r\nok\n"),
            Behaviour::FastCgiStderr => fastcgi(b"PHP Warning: lab", b"Content-Type: text/plain\r\n\r\nok\n"),
            Behaviour::FastCgiGarbage => fastcgi(b"", b"Bad\0Header: x\r\n\r\nok\n"),
            _ => Vec::new(),
        }
    }
}

/// As an administrator or a fail-over script ends a connection.
fn destroy(conn: &Conn) -> io::Result<()> {
    let Conn::Tcp(stream) = conn else { return Err(io::ErrorKind::Unsupported.into()) };
    let (ours, theirs) = (stream.local_addr()?, stream.peer_addr()?);
    let done = Command::new("ss")
        .args(["--kill", "--no-header", "--numeric", "--tcp", "state", "established"])
        .args(["src", &ours.to_string(), "dst", &theirs.to_string()])
        .stdout(Stdio::null())
        .status()?;
    if done.success() { Ok(()) } else { Err(io::Error::other(format!("ss -K: {done}"))) }
}

fn own_status(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbad\n").into_bytes()
}

/// A FastCGI answer: stderr where there is any, stdout, end of request.
fn fastcgi(stderr: &[u8], stdout: &[u8]) -> Vec<u8> {
    const END: u8 = 3;
    const STDOUT: u8 = 6;
    const STDERR: u8 = 7;
    let record = |kind: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).expect("the lab's answers are short").to_be_bytes();
        [&[1, kind, 0, 1, length[0], length[1], 0, 0][..], content].concat()
    };
    let errors = if stderr.is_empty() { Vec::new() } else { record(STDERR, stderr) };
    [errors, record(STDOUT, stdout), record(STDOUT, b""), record(END, &[0; 8])].concat()
}

/// Reads one request completely (of TLS: the first bytes).
fn read_request(conn: &mut Conn) -> io::Result<Speaks> {
    let mut head = vec![0];
    conn.read_exact(&mut head)?;
    match head[0] {
        0x16 => Ok(Speaks::Tls),
        0x01 => read_fastcgi(conn).map(|()| Speaks::FastCgi),
        _ => read_http(conn, head).map(|()| Speaks::Http),
    }
}

fn read_http(conn: &mut Conn, mut head: Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 16 * 1024];
    let body_at = loop {
        if let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        match conn.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got => head.extend_from_slice(&piece[..got]),
        }
    };
    let text = String::from_utf8_lossy(&head[..body_at]).to_ascii_lowercase();
    let length =
        text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    let missing: u64 = u64::saturating_sub(length, (head.len() - body_at) as u64);
    io::copy(&mut conn.take(missing), &mut io::sink()).map(drop)
}

/// A frame of HTTP/2 after empty settings: length, type, no flags, stream.
fn http2_frame(kind: u8, stream: u8, content: &[u8]) -> Vec<u8> {
    const SETTINGS: u8 = 4;
    let frame = |kind: u8, stream: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).expect("the lab's frames are short");
        [&[0, 0, length, kind, 0, 0, 0, 0, stream][..], content].concat()
    };
    [frame(SETTINGS, 0, &[]), frame(kind, stream, content)].concat()
}

/// Reads HTTP/2's preface and frames until those of a request's header.
fn read_http2(conn: &mut Conn) -> io::Result<()> {
    const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
    const HEADERS: u8 = 1;
    conn.read_exact(&mut [0; PREFACE])?;
    loop {
        let mut header = [0; 9];
        conn.read_exact(&mut header)?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        io::copy(&mut conn.take(u64::from(length)), &mut io::sink())?;
        if header[3] == HEADERS {
            return Ok(());
        }
    }
}

/// Lets a timer run out, working meanwhile, since one kind counts CPU time only.
fn timer(which: libc::c_int) -> io::Result<()> {
    let soon = libc::timeval { tv_sec: 0, tv_usec: 1_000 };
    let timer = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: soon };
    // SAFETY: the struct is complete, and no old value is asked for.
    let set = unsafe { libc::setitimer(which as _, &timer, std::ptr::null_mut()) };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        black_box(began);
    }
    Ok(())
}

/// Reads records until the empty FCGI_STDIN; the first header's first byte is already read.
fn read_fastcgi(conn: &mut Conn) -> io::Result<()> {
    const STDIN: u8 = 5;
    let mut header = [1_u8; 8];
    conn.read_exact(&mut header[1..])?;
    loop {
        let content = u64::from(u16::from_be_bytes([header[4], header[5]]));
        io::copy(&mut conn.take(content + u64::from(header[6])), &mut io::sink())?;
        if header[1] == STDIN && content == 0 {
            return Ok(());
        }
        conn.read_exact(&mut header)?;
    }
}

/// Allocates and touches memory until the kernel ends this process.
pub(super) fn eat() -> ! {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 1 << 20]));
    }
}

fn segfault() -> ! {
    let nowhere = std::ptr::without_provenance_mut::<u32>(16);
    // SAFETY: not sound and not meant to be: the write faults, since the first page is never mapped
    // (vm.mmap_min_addr), and the kernel ends this process with a real SIGSEGV, which is its purpose.
    unsafe { nowhere.write_volatile(1) };
    std::process::abort()
}
