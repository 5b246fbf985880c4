//! From nginx's words to a [`Symptom`]: every text of the upstream modules of nginx 1.14 to 1.31 and its forks.
//!
//! The texts are nginx's format strings, which hardly ever changed; where they did, prefixes cover both forms.

use bstr::ByteSlice;

use super::verdict::Symptom;
use crate::event::{Attempt, Via};

pub(super) const EPERM: i32 = 1;
pub(super) const ENOENT: i32 = 2;
pub(super) const EAGAIN: i32 = 11;
pub(super) const EACCES: i32 = 13;
pub(super) const ENOTDIR: i32 = 20;
pub(super) const ENFILE: i32 = 23;
pub(super) const EMFILE: i32 = 24;
pub(super) const EPIPE: i32 = 32;
pub(super) const ENAMETOOLONG: i32 = 36;
pub(super) const ELOOP: i32 = 40;
pub(super) const EADDRINUSE: i32 = 98;
pub(super) const EOPNOTSUPP: i32 = 95;
pub(super) const EAFNOSUPPORT: i32 = 97;
pub(super) const EADDRNOTAVAIL: i32 = 99;
pub(super) const ECONNRESET: i32 = 104;
pub(super) const ETIMEDOUT: i32 = 110;
pub(super) const ECONNREFUSED: i32 = 111;

/// What one message of nginx says about its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogMeaning {
    /// The attempt failed.
    Failed(Symptom),
    /// The attempt failed after the header went to the client; the symptom is what it would have been before.
    Truncated(Symptom),
    /// Output of a FastCGI application: a failure only when `fastcgi_catch_stderr` makes it one.
    Stderr,
    /// The peer will not be tried for `fail_timeout`.
    MarkedDown,
    /// `auth_request` got a status that it does not know.
    AuthStatus,
    /// No failure of an upstream.
    Ignore,
}

/// How a text is to be read.
#[derive(Clone, Copy)]
enum Rule {
    /// Always this symptom.
    Is(Symptom),
    /// connect(2): the errno decides.
    Connect,
    /// socket(2), made before there is a peer.
    SocketCall,
    /// bind(2) of `proxy_bind`.
    Bind,
    /// A read: the errno decides.
    Read,
    /// An OpenSSL read.
    SslRead,
    /// A timer: the action decides.
    Timer,
    /// Served as HTTP/0.9 by all but freenginx ≥ 1.29.1.
    NoHttpHeader,
    /// A file of nginx's own: a failure of the request where it buffers the upstream's response.
    File,
    /// One of the other notes.
    Means(LogMeaning),
}

/// Prefixes in order: the first that matches decides.
const PREFIXES: &[(&str, Rule)] = &[
    ("connect() failed", Rule::Connect),
    ("connect() to ", Rule::Connect),
    ("kevent() reported that connect() failed", Rule::Connect),
    ("upstream timed out", Rule::Timer),
    ("http3 connection timed out", Rule::Timer),
    ("http3 connection", Rule::Is(Symptom::ClosedEarly)),
    ("no live upstreams", Rule::Is(Symptom::NoLiveUpstreams)),
    ("upstream server temporarily disabled", Rule::Means(LogMeaning::MarkedDown)),
    ("socket() failed", Rule::SocketCall),
    ("%ui worker_connections are not enough, reusing", Rule::Means(LogMeaning::Ignore)),
    ("%ui worker_connections are not enough", Rule::Is(Symptom::FdExhausted)),
    ("the new socket has number", Rule::Is(Symptom::FdExhausted)),
    ("bind(", Rule::Bind),
    ("no resolver defined to resolve", Rule::Is(Symptom::NameUnresolved)),
    ("%V could not be resolved", Rule::Is(Symptom::NameUnresolved)),
    ("peer closed connection in SSL handshake", Rule::Is(Symptom::TlsFailed)),
    ("handshake rejected", Rule::Is(Symptom::TlsFailed)),
    ("upstream SSL certificate", Rule::Is(Symptom::TlsFailed)),
    ("upstream prematurely sent response", Rule::Is(Symptom::TlsFailed)),
    ("SSL_do_handshake() failed", Rule::Is(Symptom::TlsFailed)),
    ("SSL_read", Rule::SslRead),
    ("SSL_write", Rule::Is(Symptom::SendFailed)),
    ("SSL_sendfile() failed", Rule::Is(Symptom::SendFailed)),
    ("SSL_shutdown", Rule::Means(LogMeaning::Ignore)),
    ("SSL_set", Rule::Is(Symptom::TlsFailed)),
    ("SSL_use", Rule::Is(Symptom::TlsFailed)),
    ("cannot load certificate", Rule::Is(Symptom::TlsFailed)),
    ("writev() failed", Rule::Is(Symptom::SendFailed)),
    ("sendfile() failed", Rule::Is(Symptom::SendFailed)),
    ("send() failed", Rule::Is(Symptom::SendFailed)),
    ("setsockopt(TCP_", Rule::Is(Symptom::SendFailed)),
    ("recv() failed", Rule::Read),
    ("readv() failed", Rule::Read),
    ("kevent() reported that upstream closed connection", Rule::Is(Symptom::ClosedEarly)),
    ("upstream prematurely closed connection", Rule::Is(Symptom::ClosedEarly)),
    // A stream inside a living connection ended: nginx files it with malformed headers.
    ("upstream prematurely closed ", Rule::Is(Symptom::HeaderInvalid)),
    ("upstream sent too big header", Rule::Is(Symptom::HeaderTooBig)),
    ("upstream sent no valid HTTP/1.0 header", Rule::NoHttpHeader),
    ("upstream sent more data than specified", Rule::Means(LogMeaning::Ignore)),
    ("upstream sent data after ", Rule::Means(LogMeaning::Ignore)),
    ("upstream sent ", Rule::Is(Symptom::HeaderInvalid)),
    ("upstream rejected request with error", Rule::Is(Symptom::HeaderInvalid)),
    ("upstream violated ", Rule::Is(Symptom::HeaderInvalid)),
    ("memcached sent invalid ", Rule::Is(Symptom::HeaderInvalid)),
    ("invalid header after joining FastCGI records", Rule::Is(Symptom::HeaderInvalid)),
    ("open() \"", Rule::File),
    ("mkdir() \"", Rule::File),
    ("write() \"", Rule::File),
    ("pwrite() \"", Rule::File),
    ("writev() \"", Rule::File),
    ("pwritev() \"", Rule::File),
    ("FastCGI sent in stderr", Rule::Means(LogMeaning::Stderr)),
    ("auth request unexpected status", Rule::Means(LogMeaning::AuthStatus)),
];

/// Texts below level `error` that matter all the same. "invalid header" was logged at `info` by 1.21.1 to 1.21.3.
const QUIET_BUT_TELLING: &[&str] = &["upstream server temporarily disabled", "upstream sent invalid header"];

/// The most talkative level that reports failures: NGX_LOG_ERR.
const LEVEL_ERROR: u8 = 4;
/// NGX_LOG_CRIT.
const LEVEL_CRITICAL: u8 = 3;

/// Reads one message. `http09_refused` is true for servers that answer 502 to a headerless response.
pub(super) fn classify(attempt: &Attempt, unix: bool, http09_refused: bool) -> LogMeaning {
    let text = spoken(attempt);
    if text.ends_with(b", ignored") || of_the_client(attempt, text) {
        return LogMeaning::Ignore;
    }
    let quiet = attempt.via == Via::Log && attempt.level.is_some_and(|level| level > LEVEL_ERROR);
    if quiet && !QUIET_BUT_TELLING.iter().any(|telling| text.starts_with_str(telling)) {
        return LogMeaning::Ignore;
    }
    let Some(symptom) = (match reading(text) {
        Some(Rule::Means(note)) => return note,
        // A cut response is all that it is: nothing of the upstream's failed.
        Some(Rule::File) if buffers(attempt) => return LogMeaning::Truncated(Symptom::ResponseTruncated),
        Some(Rule::File) => return LogMeaning::Ignore,
        Some(reading) => symptom(reading, attempt, unix, http09_refused),
        None if text.is_empty() => unworded(attempt, unix),
        None => None,
    }) else {
        return LogMeaning::Ignore;
    };
    if header_sent(attempt) { LogMeaning::Truncated(symptom) } else { LogMeaning::Failed(symptom) }
}

/// The words that tell: for `%*s` the OpenSSL text that fills it.
fn spoken(attempt: &Attempt) -> &[u8] {
    match (&attempt.detail, attempt.text.starts_with(b"%*s")) {
        (Some(detail), true) => detail,
        _ => &attempt.text,
    }
}

fn reading(text: &[u8]) -> Option<Rule> {
    PREFIXES.iter().find(|(prefix, _)| text.starts_with_str(prefix)).map(|(_, reading)| *reading)
}

fn symptom(reading: Rule, attempt: &Attempt, unix: bool, http09_refused: bool) -> Option<Symptom> {
    Some(match reading {
        Rule::Is(symptom) => symptom,
        Rule::Connect => connect(attempt.errno.unwrap_or(ECONNREFUSED), unix),
        Rule::SocketCall => match attempt.errno {
            Some(EMFILE | ENFILE) => Symptom::FdExhausted,
            Some(EACCES | EPERM) if unix => Symptom::SocketDenied,
            Some(EACCES | EPERM) => Symptom::ConnectDenied,
            _ => Symptom::ConnectUnreachable,
        },
        Rule::Bind => match attempt.errno {
            Some(EACCES | EPERM) => Symptom::ConnectDenied,
            _ => Symptom::AddressExhausted,
        },
        Rule::Read => read(attempt.errno),
        Rule::SslRead => match attempt.errno {
            Some(_) => read(attempt.errno),
            None if attempt.detail.as_ref().is_some_and(|text| text.contains_str("unexpected eof")) => {
                Symptom::ClosedEarly
            }
            None => Symptom::TlsFailed,
        },
        Rule::Timer => timer(attempt),
        Rule::NoHttpHeader if http09_refused => Symptom::HeaderInvalid,
        Rule::NoHttpHeader | Rule::File | Rule::Means(_) => return None,
    })
}

/// The symptom of connect(2)'s errno, given at once or by SO_ERROR.
pub(super) fn connect(errno: i32, unix: bool) -> Symptom {
    match (errno, unix) {
        (ECONNREFUSED, false) => Symptom::ConnectRefused,
        (EACCES | EPERM, false) => Symptom::ConnectDenied,
        (ETIMEDOUT, _) => Symptom::ConnectTimedOut,
        (ECONNRESET | EPIPE, _) => Symptom::Reset,
        (EADDRNOTAVAIL | EADDRINUSE | EAGAIN, false) => Symptom::AddressExhausted,
        // Besides EHOSTUNREACH, ENETUNREACH, EHOSTDOWN and ENETDOWN: EINVAL, a blackhole route's.
        (_, false) => Symptom::ConnectUnreachable,
        (ENOENT | ENOTDIR | ELOOP | ENAMETOOLONG, true) => Symptom::SocketMissing,
        (EACCES | EPERM, true) => Symptom::SocketDenied,
        (EAGAIN, true) => Symptom::SocketBacklogFull,
        // EPROTOTYPE too: the socket there is not a stream.
        (_, true) => Symptom::SocketRefused,
    }
}

fn read(errno: Option<i32>) -> Symptom {
    match errno {
        // The kernel's own timeout (keepalive probes, retransmissions), unlike nginx's timer: 502.
        Some(ETIMEDOUT) => Symptom::ReadTimedOut,
        _ => Symptom::Reset,
    }
}

fn timer(attempt: &Attempt) -> Symptom {
    let connecting = match &attempt.action {
        Some(action) => action == "connecting to upstream",
        None => attempt.socket.as_ref().is_some_and(|socket| socket.established_at.is_none()),
    };
    if connecting { Symptom::ConnectTimedOut } else { Symptom::ReadTimedOut }
}

/// A call whose text could not be resolved: the function and the errno still tell something.
fn unworded(attempt: &Attempt, unix: bool) -> Option<Symptom> {
    let errno = attempt.errno?;
    match attempt.via {
        Via::SslError => Some(Symptom::TlsFailed),
        Via::ConnectionError | Via::Log => {
            let established = attempt.socket.as_ref()?.established_at.is_some();
            Some(match errno {
                ETIMEDOUT => timer(attempt),
                EPIPE => Symptom::SendFailed,
                _ if established => read(Some(errno)),
                _ => connect(errno, unix),
            })
        }
    }
}

/// Trouble with the client's own connection, or with the resolver's.
fn of_the_client(attempt: &Attempt, text: &[u8]) -> bool {
    let Some(action) = &attempt.action else { return false };
    let sending = [&b"send() failed"[..], b"writev() failed", b"sendfile() failed", b"client timed out"];
    action == "resolving"
        || action.starts_with_str("sending to client")
            && sending.iter().any(|prefix| text.starts_with(prefix))
}

/// Whether nginx was buffering a response: files that it serves are another matter.
fn buffers(attempt: &Attempt) -> bool {
    let critical = attempt.level.is_some_and(|level| level <= LEVEL_CRITICAL);
    critical && attempt.action.as_ref().is_some_and(|action| action == "reading upstream")
}

/// Whether nginx had sent the response header: no error page can follow.
fn header_sent(attempt: &Attempt) -> bool {
    attempt.action.as_ref().is_some_and(|action| {
        ["reading upstream", "proxying upgraded connection", "sending to client"]
            .iter()
            .any(|phase| action.as_slice() == phase.as_bytes())
    })
}

/// Whether the server refuses headerless responses: freenginx since 1.29.1.
pub(super) fn refuses_http09(version: Option<&str>) -> bool {
    let Some(number) = version.and_then(|version| version.strip_prefix("freenginx/")) else { return false };
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next()) >= (1, 29, 1)
}
