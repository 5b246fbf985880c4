//! nginx's requests and their attempts, as its uprobes report them.

use bstr::BString;
use serde::{Deserialize, Serialize};

use super::{Pid, Socket};

/// What identifies a request while it lives. Request structs are reused, hence the connection number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestKey {
    /// The worker's pid.
    pub worker: Pid,
    /// Address of the *main* `ngx_http_request_t` in the worker (subrequests map to their main request).
    pub request: u64,
    /// `log->connection`, the `*N` of nginx's log; 0 when unknown.
    pub connection: u64,
}

/// Trouble with one attempt towards an upstream, from one call of nginx's error path.
///
/// One attempt can yield several (stderr, then a close); they share `key`, `subrequest` and `index`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The client request it belongs to.
    pub key: RequestKey,
    /// Address of the subrequest, when it is one (auth_request, mirror, SSI); `None` for the main request.
    pub subrequest: Option<u64>,
    /// How many upstream states the request had by now: 1 for the first attempt. 0 when unknown.
    pub index: u32,
    /// Which function reported it.
    pub via: Via,
    /// nginx's log level of the call, 1 (emerg) to 8 (debug), where the function has one.
    pub level: Option<u8>,
    /// The errno that nginx passed; `None` for 0.
    pub errno: Option<i32>,
    /// The format string or text, resolved from the binary: `connect() to %V failed`.
    /// Empty when it could not be resolved.
    pub text: BString,
    /// The format's first string argument where it has one: the peer name of `connect() to %V failed`, the
    /// OpenSSL text of `%*s`, the host of `%V could not be resolved (%i: %s)`. Hostile; may be cut at 192 bytes.
    pub detail: Option<BString>,
    /// The format's first number argument where it has one (resolver state, certificate verify code).
    pub number: Option<i64>,
    /// `log->action`, resolved: `connecting to upstream`.
    pub action: Option<BString>,
    /// `u->peer.name` as nginx prints it: `127.0.0.1:9000`, `unix:/run/x.sock`.
    pub peer: Option<BString>,
    /// The request line as received, may be cut; present where the layout is known.
    pub request_line: Option<BString>,
    /// The Host header.
    #[serde(default)]
    pub host: Option<BString>,
    /// The client's address as text, without port.
    #[serde(default)]
    pub client: Option<BString>,
    /// The kernel's view of the upstream socket, where there is one.
    pub socket: Option<Box<Socket>>,
    /// `log->log_level`, as configured for this location.
    pub log_level: Option<u64>,
}

/// The nginx function that reported an attempt's trouble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Via {
    /// `ngx_log_error_core`.
    #[default]
    Log,
    /// `ngx_connection_error`.
    ConnectionError,
    /// `ngx_ssl_error`.
    SslError,
}

/// nginx answers with its own error page: `ngx_http_special_response_handler(r, status)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The client request.
    pub key: RequestKey,
    /// Address of the subrequest that got the status, when it is one: the client does not see this status.
    pub subrequest: Option<u64>,
    /// 500 to 599.
    pub status: u16,
    /// The request line as the client sent it (method, URI with query, protocol); may be cut at 1,024 bytes.
    pub request_line: Option<BString>,
    /// The Host header.
    pub host: Option<BString>,
    /// The client's address as text, without port.
    pub client: Option<BString>,
    /// `log->log_level` of the location: 4 is `error`; below 4 nginx says less, and so do attempts.
    pub log_level: Option<u64>,
    /// Whether the request had an upstream at all (`r->upstream`): false for `return 502`.
    pub has_upstream: bool,
    /// Whether it came with a cache entry (`r->cache`).
    pub has_cache: bool,
    /// `r->upstream_states`: one per attempt, in order; `None` when there is no array (cached error, resolver).
    /// A state with every field absent separates internal redirects.
    pub states: Option<Vec<State>>,
    /// `u->peer.name`: the last peer's name, or the upstream group's when no peer was live.
    pub peer: Option<BString>,
    /// The upstream socket that this worker closed last before it answered, where the kernel side saw it.
    pub closed: Option<Box<Socket>>,
    /// Whether an [`Answer`] will follow (the client's socket is watched).
    pub answer_follows: bool,
    /// Whether the tracer had ceased to read this nginx's log, for it says too much (see [`super::Body::Notice`]).
    #[serde(default)]
    pub log_unread: bool,
}

/// NGX_LOG_ERR, the least severe level at which nginx logs why an upstream failed.
const NGX_LOG_ERR: u64 = 4;

impl Request {
    /// Whether what nginx says of its attempts did not reach the tracer: hidden by the level of its log, or unread.
    pub fn is_muted(&self) -> bool {
        self.log_unread || self.log_level.is_some_and(|level| level < NGX_LOG_ERR)
    }
}

/// `ngx_http_upstream_state_t`: nginx's own account of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The status nginx gave the attempt; 0 when none.
    pub status: u16,
    /// `$upstream_connect_time` in milliseconds (includes TLS); `None` when not reached.
    pub connect_ms: Option<u32>,
    /// `$upstream_header_time` in milliseconds; `None` when no complete header came.
    pub header_ms: Option<u32>,
    /// `$upstream_response_time` in milliseconds; `None` when not finished.
    pub response_ms: Option<u32>,
    /// Bytes from the upstream; `None` when unknown.
    pub bytes_received: Option<u64>,
    /// Bytes to the upstream; `None` when unknown.
    pub bytes_sent: Option<u64>,
    /// The peer's name; `None` for a separator or where it was not read.
    pub peer: Option<BString>,
}

/// What became of a client request that had a failed attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The client request.
    pub key: RequestKey,
    /// The status the client gets (`r->headers_out.status`), or the last state's where that cannot be read.
    pub status: Option<u16>,
    /// How many upstream states there were when nginx wrote: larger than before means that a retry or a fallback ran.
    pub states: u32,
    /// The last upstream state by then.
    pub last_state: Option<State>,
    /// True when the client's connection was closed before anything was written.
    pub client_gone: bool,
}
