//! The fault library: what can go wrong, how it is made, and what nginx and ngx502 have to say about it.
//!
//! A row is one location of the lab's nginx (`/NAME/…`) with its own upstreams. Directives may use `{up}` (the row's
//! upstream block), `{peer0}` (an address) and `{id}` (the name as an identifier). Expectations follow the contract's
//! tables of symptoms and causes.

use nix::sys::signal::Signal;

use super::behaviour::Behaviour as B;
use super::peer::{Peer, Place};

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Its name, location and test name.
    pub name: &'static str,
    /// Its upstreams, in nginx's order.
    pub peers: &'static [Peer],
    /// Parameters of every `server` of the upstream block.
    pub server_args: &'static str,
    /// Further directives of the upstream block.
    pub upstream: &'static str,
    /// Directives of the main context; rows that have some cannot share an nginx.
    pub main: &'static str,
    /// Directives of the http block.
    pub http: &'static str,
    /// Directives of the server block.
    pub server: &'static str,
    /// Directives of the location.
    pub location: &'static str,
    /// `worker_connections`; 0 for the lab's own.
    pub connections: u32,
    /// Whether workers must run as an ordinary user.
    pub unprivileged: bool,
    /// Commands that break an own network namespace; `None` stays on the host's loopback.
    pub netns: Option<&'static [&'static str]>,
    /// Requests of preparation, sent before arming.
    pub warm: u32,
    /// What happens once everything runs.
    pub inject: Injection,
    /// How the request is made.
    pub ask: Ask,
    /// What must come of it.
    pub expect: Expect,
    /// Whether it may be fired any number of times, from several clients, beside other rows.
    pub repeatable: bool,
}

/// What breaks the upstream after it has worked.
#[derive(Clone, Copy, Debug)]
pub enum Injection {
    /// Nothing: it is broken from the start, or by the request.
    Nothing,
    /// The preparing request ends the peer's process; its listener may outlast the connection by a moment.
    Ended(usize),
    /// A signal that ends the peer's process.
    Kill(usize, Signal),
    /// The peer's process closes its listener.
    StopListening(usize),
    /// The peer's accept queue is filled.
    FillQueue(usize),
    /// The peer's process eats memory until the kernel kills it.
    OutOfMemory(usize),
    /// The mode of the peer's socket file changes.
    SocketMode(usize, u32),
    /// All local ports towards the peer are taken.
    TakePorts(usize),
    /// The peer's socket file is removed.
    RemoveSocket(usize),
    /// The peer's socket file is replaced by one that nobody listens on.
    ReplaceSocket(usize),
    /// A directory of nginx's own, below its prefix, is removed.
    RemoveDirectory(&'static str),
    /// The worker's descriptor limit leaves room for one more: the client.
    LimitDescriptors,
}

/// How a request is made.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// GET.
    Get,
    /// POST with so many bytes.
    Post(usize),
    /// GET that asks for an upgrade of the connection.
    Upgrade,
    /// GET, and the client leaves once the upstream has it.
    Abandon,
    /// GET until nginx answers with this `X-Cache`.
    UntilCache(&'static str),
}

/// What ngx502 must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A verdict.
    Verdict,
    /// A verdict with `--passthrough`, nothing without.
    Passthrough,
    /// A rescued attempt.
    Rescued,
    /// Nothing.
    Silent,
}

/// What must come of a fault.
#[derive(Clone, Copy, Debug)]
pub struct Expect {
    /// Kind of line.
    pub outcome: Outcome,
    /// The client's status, as nginx logs it: 9 for an HTTP/0.9 answer.
    pub status: u16,
    /// The symptom of the deciding attempt; empty for [`Outcome::Silent`].
    pub symptom: &'static str,
    /// Causes that are right, best first.
    pub causes: &'static [&'static str],
    /// The errno's name.
    pub errno: Option<&'static str>,
    /// Attempts that nginx made.
    pub attempts: usize,
}

/// A row with nothing special: one GET through `proxy_pass`.
const ROW: Fault = Fault {
    name: "",
    peers: &[],
    server_args: "max_fails=0",
    upstream: "",
    main: "",
    http: "",
    server: "",
    location: "proxy_pass http://{up};",
    connections: 0,
    unprivileged: false,
    netns: None,
    warm: 0,
    inject: Injection::Nothing,
    ask: Ask::Get,
    expect: SILENT,
    repeatable: false,
};

const SILENT: Expect =
    Expect { outcome: Outcome::Silent, status: 200, symptom: "", causes: &[], errno: None, attempts: 0 };

const fn bad_gateway(symptom: &'static str, causes: &'static [&'static str]) -> Expect {
    Expect { outcome: Outcome::Verdict, status: 502, symptom, causes, errno: None, attempts: 1 }
}

impl Expect {
    const fn errno(self, name: &'static str) -> Expect {
        Expect { errno: Some(name), ..self }
    }

    const fn status(self, status: u16) -> Expect {
        Expect { status, ..self }
    }

    const fn attempts(self, attempts: usize) -> Expect {
        Expect { attempts, ..self }
    }

    const fn outcome(self, outcome: Outcome) -> Expect {
        Expect { outcome, ..self }
    }
}

const REFUSED: &str = "connect-refused";
const CLOSED: &str = "closed-early";
const TRUNCATED: &str = "response-truncated";
const DEAD: Peer = Peer::at(Place::DeadPort);
const TEST_NET: Peer = Peer::at(Place::Elsewhere("198.51.100.1:80"));
const ANSWERS: Peer = Peer::tcp(B::Answer);

/// The row named `name`.
///
/// # Panics
/// When there is none: a typing error in a test.
pub fn named(name: &str) -> &'static Fault {
    FAULTS
        .iter()
        .chain(RACES)
        .find(|fault| fault.name == name)
        .unwrap_or_else(|| panic!("no fault is named `{name}`"))
}

/// Every fault.
#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    // Connecting over TCP.
    Fault { name: "refused-nobody", peers: &[DEAD], repeatable: true,
        expect: bad_gateway(REFUSED, &["not-listening"]).errno("ECONNREFUSED"), ..ROW },
    Fault { name: "refused-killed", peers: &[ANSWERS], warm: 1, inject: Injection::Kill(0, Signal::SIGKILL),
        expect: bad_gateway(REFUSED, &["killed"]).errno("ECONNREFUSED"), ..ROW },
    Fault { name: "refused-terminated", peers: &[ANSWERS], warm: 1, inject: Injection::Kill(0, Signal::SIGTERM),
        expect: bad_gateway(REFUSED, &["killed"]).errno("ECONNREFUSED"), ..ROW },
    Fault { name: "refused-oom", peers: &[Peer { memory: Some(32 << 20), ..ANSWERS }], warm: 1, inject: Injection::OutOfMemory(0),
        expect: bad_gateway(REFUSED, &["oom-killed"]).errno("ECONNREFUSED"), ..ROW },
    Fault { name: "refused-crashed", peers: &[Peer::tcp(B::Segfault)], warm: 1, inject: Injection::Ended(0),
        expect: bad_gateway(REFUSED, &["crashed"]).errno("ECONNREFUSED"), ..ROW },
    Fault { name: "refused-exited", peers: &[Peer::tcp(B::Exit)], warm: 1, inject: Injection::Ended(0),
        expect: bad_gateway(REFUSED, &["exited"]).errno("ECONNREFUSED"), ..ROW },
    Fault { name: "refused-stopped-listening", peers: &[ANSWERS], warm: 1, inject: Injection::StopListening(0),
        expect: bad_gateway(REFUSED, &["stopped-listening"]).errno("ECONNREFUSED"), ..ROW },
    Fault { name: "refused-twice", peers: &[DEAD, DEAD],
        expect: bad_gateway(REFUSED, &["not-listening"]).errno("ECONNREFUSED").attempts(2), repeatable: true, ..ROW },
    Fault { name: "unreachable-route", peers: &[TEST_NET], netns: Some(&["ip route add unreachable 198.51.100.0/24"]),
        expect: bad_gateway("connect-unreachable", &["unreachable"]).errno("EHOSTUNREACH"), ..ROW },
    Fault { name: "unreachable-no-route", peers: &[TEST_NET], netns: Some(&[]),
        expect: bad_gateway("connect-unreachable", &["unreachable"]).errno("ENETUNREACH"), ..ROW },
    Fault { name: "denied-prohibit-route", peers: &[TEST_NET], netns: Some(&["ip route add prohibit 198.51.100.0/24"]),
        expect: bad_gateway("connect-denied", &["unreachable"]).errno("EACCES"), ..ROW },
    Fault { name: "timed-out-queue-full", peers: &[Peer::tcp(B::NeverAccept).backlog(1)], inject: Injection::FillQueue(0),
        location: "proxy_connect_timeout 300ms; proxy_pass http://{up};",
        expect: bad_gateway("connect-timed-out", &["queue-full"]).status(504).errno("ETIMEDOUT"), repeatable: true, ..ROW },
    // Longer than the kernel waits until it repeats a SYN (1 s): one that is lost may have met a full queue.
    Fault { name: "timed-out-dropped", peers: &[ANSWERS], location: "proxy_connect_timeout 1800ms; proxy_pass http://{up};",
        netns: Some(&["nft add table inet lab", "nft add chain inet lab inbound { type filter hook input priority 0 ; }",
            "nft add rule inet lab inbound tcp dport != 8080 tcp flags == syn drop"]),
        expect: bad_gateway("connect-timed-out", &["firewall"]).status(504).errno("ETIMEDOUT"), ..ROW },
    Fault { name: "refused-firewall", peers: &[ANSWERS],
        netns: Some(&["nft add table inet lab", "nft add chain inet lab inbound { type filter hook input priority 0 ; }",
            "nft add rule inet lab inbound tcp dport != 8080 tcp flags == syn reject with tcp reset"]),
        expect: bad_gateway(REFUSED, &["firewall"]).errno("ECONNREFUSED"), ..ROW },
    Fault { name: "address-other-family", peers: &[Peer::at(Place::Elsewhere("[2001:db8::1]:80"))],
        netns: Some(&["sysctl -qw net.ipv6.conf.all.disable_ipv6=1"]),
        expect: bad_gateway("address-exhausted", &["unreachable"]).errno("EADDRNOTAVAIL"), ..ROW },
    Fault { name: "address-of-nobody", peers: &[ANSWERS], location: "proxy_bind 192.0.2.77; proxy_pass http://{up};",
        expect: bad_gateway("address-exhausted", &["unreachable"]).status(500).errno("EADDRNOTAVAIL"), ..ROW },
    Fault { name: "address-exhausted", peers: &[ANSWERS], netns: Some(&[]), inject: Injection::TakePorts(0),
        expect: bad_gateway("address-exhausted", &["port-exhaustion"]).errno("EADDRNOTAVAIL"), ..ROW },

    // Connecting to a unix socket.
    Fault { name: "socket-missing", peers: &[Peer::at(Place::NoSocket)], repeatable: true,
        expect: bad_gateway("socket-missing", &["not-listening"]).errno("ENOENT"), ..ROW },
    Fault { name: "socket-stale", peers: &[Peer::at(Place::StaleSocket)], repeatable: true,
        expect: bad_gateway("socket-refused", &["not-listening"]).errno("ECONNREFUSED"), ..ROW },
    Fault { name: "socket-killed", peers: &[Peer::unix(B::Answer)], warm: 1, inject: Injection::Kill(0, Signal::SIGKILL),
        expect: bad_gateway("socket-refused", &["killed"]).errno("ECONNREFUSED"), ..ROW },
    Fault { name: "socket-stopped-listening", peers: &[Peer::unix(B::Answer)], warm: 1, inject: Injection::StopListening(0),
        expect: bad_gateway("socket-refused", &["stopped-listening"]).errno("ECONNREFUSED"), ..ROW },
    Fault { name: "socket-removed", peers: &[Peer::unix(B::Answer)], warm: 1, inject: Injection::RemoveSocket(0),
        expect: bad_gateway("socket-missing", &["socket-replaced"]).errno("ENOENT"), ..ROW },
    Fault { name: "socket-replaced", peers: &[Peer::unix(B::Answer)], warm: 1, inject: Injection::ReplaceSocket(0),
        expect: bad_gateway("socket-refused", &["socket-replaced"]).errno("ECONNREFUSED"), ..ROW },
    Fault { name: "socket-denied", peers: &[Peer::unix(B::Answer)], unprivileged: true, inject: Injection::SocketMode(0, 0o600),
        expect: bad_gateway("socket-denied", &["file-permissions"]).errno("EACCES"), ..ROW },
    Fault { name: "socket-backlog-full", peers: &[Peer::unix(B::NeverAccept).backlog(1)], inject: Injection::FillQueue(0),
        expect: bad_gateway("socket-backlog-full", &["queue-full"]).errno("EAGAIN"), repeatable: true, ..ROW },

    // Descriptors.
    Fault { name: "fd-limit", peers: &[ANSWERS], inject: Injection::LimitDescriptors,
        expect: bad_gateway("fd-exhausted", &["fd-limit"]).status(500).errno("EMFILE"), ..ROW },
    Fault { name: "fd-worker-connections", peers: &[ANSWERS], connections: 3,
        expect: bad_gateway("fd-exhausted", &["fd-limit"]).status(500), ..ROW },

    // TLS and other protocols.
    Fault { name: "tls-to-plain", peers: &[ANSWERS], location: "proxy_pass https://{up};", repeatable: true,
        expect: bad_gateway("tls-failed", &["protocol-mismatch"]), ..ROW },
    Fault { name: "tls-closed", peers: &[Peer::tcp(B::CloseMidBody)], location: "proxy_pass https://{up};", repeatable: true,
        expect: bad_gateway("tls-failed", &["closed-by-upstream", "protocol-mismatch"]), ..ROW },
    Fault { name: "tls-silent", peers: &[Peer::tcp(B::NeverAccept)],
        location: "proxy_connect_timeout 300ms; proxy_read_timeout 300ms; proxy_send_timeout 300ms; proxy_pass https://{up};",
        expect: bad_gateway("read-timed-out", &["not-accepted"]).status(504).errno("ETIMEDOUT"), repeatable: true, ..ROW },
    Fault { name: "fastcgi-to-http", peers: &[ANSWERS], location: "fastcgi_pass {up};", repeatable: true,
        expect: bad_gateway("header-invalid", &["protocol-mismatch"]), ..ROW },
    Fault { name: "fastcgi-bad-header", peers: &[Peer::tcp(B::FastCgiGarbage)], location: "fastcgi_pass {up};",
        expect: bad_gateway("header-invalid", &["bad-response"]), repeatable: true, ..ROW },

    Fault { name: "grpc-to-http", peers: &[ANSWERS], location: "grpc_pass grpc://{up};", repeatable: true,
        expect: bad_gateway("header-invalid", &["protocol-mismatch"]), ..ROW },
    Fault { name: "grpc-refused-stream", peers: &[Peer::tcp(B::H2Refuse)], location: "grpc_pass grpc://{up};", repeatable: true,
        expect: bad_gateway("header-invalid", &["stream-reset"]), ..ROW },
    Fault { name: "grpc-goaway", peers: &[Peer::tcp(B::H2Goaway)], location: "grpc_pass grpc://{up};", repeatable: true,
        expect: bad_gateway("header-invalid", &["keepalive-race"]), ..ROW },
    Fault { name: "grpc-goaway-error", peers: &[Peer::tcp(B::H2Calm)], location: "grpc_pass grpc://{up};", repeatable: true,
        expect: bad_gateway("header-invalid", &["stream-reset"]), ..ROW },

    // Reading the header.
    Fault { name: "closed-after-request", peers: &[Peer::tcp(B::Close)], repeatable: true,
        expect: bad_gateway(CLOSED, &["closed-by-upstream"]), ..ROW },
    Fault { name: "closed-after-request-unix", peers: &[Peer::unix(B::Close)], repeatable: true,
        expect: bad_gateway(CLOSED, &["closed-by-upstream"]), ..ROW },
    Fault { name: "closed-in-header", peers: &[Peer::tcp(B::PartialHeader)], repeatable: true,
        expect: bad_gateway(CLOSED, &["closed-by-upstream", "bad-response"]), ..ROW },
    Fault { name: "closed-by-crash", peers: &[Peer::tcp(B::Segfault)],
        expect: bad_gateway(CLOSED, &["crashed"]), ..ROW },
    Fault { name: "closed-by-abort", peers: &[Peer::tcp(B::Abort)],
        expect: bad_gateway(CLOSED, &["crashed"]), ..ROW },
    Fault { name: "closed-by-broken-pipe", peers: &[Peer::tcp(B::BrokenPipe)],
        expect: bad_gateway(CLOSED, &["crashed"]), ..ROW },
    Fault { name: "closed-by-file-limit", peers: &[Peer::tcp(B::FileLimit)],
        expect: bad_gateway(CLOSED, &["crashed"]), ..ROW },
    Fault { name: "closed-by-alarm-unix", peers: &[Peer::unix(B::Alarm)],
        expect: bad_gateway(CLOSED, &["crashed"]), ..ROW },
    Fault { name: "closed-by-profiler", peers: &[Peer::tcp(B::Profiler)],
        expect: bad_gateway(CLOSED, &["crashed"]), ..ROW },
    Fault { name: "closed-by-own-hand", peers: &[Peer::tcp(B::KillItself)],
        expect: bad_gateway(CLOSED, &["crashed"]), ..ROW },
    Fault { name: "closed-by-exit", peers: &[Peer::tcp(B::Exit)],
        expect: bad_gateway(CLOSED, &["exited"]), ..ROW },
    Fault { name: "closed-by-worker-crash", peers: &[Peer { workers: 2, ..Peer::tcp(B::Segfault) }],
        expect: bad_gateway(CLOSED, &["crashed"]), ..ROW },
    Fault { name: "closed-by-worker-crash-unix", peers: &[Peer { workers: 2, ..Peer::unix(B::Segfault) }],
        expect: bad_gateway(CLOSED, &["crashed"]), ..ROW },
    Fault { name: "closed-by-worker-exit-unix", peers: &[Peer { workers: 2, ..Peer::unix(B::Exit) }],
        expect: bad_gateway(CLOSED, &["exited"]), ..ROW },
    Fault { name: "closed-by-worker-oom", peers: &[Peer { workers: 2, memory: Some(32 << 20), ..Peer::tcp(B::Eat) }],
        expect: bad_gateway(CLOSED, &["oom-killed"]), ..ROW },
    Fault { name: "closed-by-worker-oom-unix", peers: &[Peer { workers: 2, memory: Some(32 << 20), ..Peer::unix(B::Eat) }],
        expect: bad_gateway(CLOSED, &["oom-killed"]), ..ROW },
    Fault { name: "closed-by-worker-overrun", peers: &[Peer { workers: 2, ..Peer::tcp(B::Overrun) }],
        expect: bad_gateway(CLOSED, &["killed"]), ..ROW },
    Fault { name: "closed-by-worker-overrun-unix", peers: &[Peer { workers: 2, ..Peer::unix(B::Overrun) }],
        expect: bad_gateway(CLOSED, &["killed"]), ..ROW },
    Fault { name: "reset-linger", peers: &[Peer::tcp(B::Reset)], repeatable: true,
        expect: bad_gateway("reset", &["closed-by-upstream"]).errno("ECONNRESET"), ..ROW },
    Fault { name: "reset-destroyed", peers: &[Peer::tcp(B::Destroyed)],
        expect: bad_gateway("reset", &["closed-by-upstream"]).errno("ECONNRESET"), ..ROW },
    Fault { name: "reset-unread", peers: &[Peer::tcp(B::CloseUnread)], repeatable: true,
        expect: bad_gateway("reset", &["closed-by-upstream"]).errno("ECONNRESET"), ..ROW },
    Fault { name: "reset-unread-unix", peers: &[Peer::unix(B::CloseUnread)], repeatable: true,
        expect: bad_gateway("reset", &["closed-by-upstream"]).errno("ECONNRESET"), ..ROW },
    Fault { name: "header-garbage", peers: &[Peer::tcp(B::GarbageHeader)], repeatable: true,
        expect: bad_gateway("header-invalid", &["bad-response"]), ..ROW },
    Fault { name: "header-too-big", peers: &[Peer::tcp(B::BigHeader)], repeatable: true,
        expect: bad_gateway("header-too-big", &["header-buffer-small"]), ..ROW },
    Fault { name: "slow", peers: &[Peer::tcp(B::Silent)], location: "proxy_read_timeout 300ms; proxy_pass http://{up};",
        expect: bad_gateway("read-timed-out", &["upstream-slow"]).status(504).errno("ETIMEDOUT"), repeatable: true, ..ROW },
    Fault { name: "slow-deaf", peers: &[Peer::tcp(B::Deaf)], ask: Ask::Post(8 << 20),
        location: "client_max_body_size 16m; proxy_send_timeout 400ms; proxy_pass http://{up};",
        expect: bad_gateway("read-timed-out", &["upstream-slow"]).status(504).errno("ETIMEDOUT"), ..ROW },
    Fault { name: "slow-unix", peers: &[Peer::unix(B::Silent)], location: "proxy_read_timeout 300ms; proxy_pass http://{up};",
        expect: bad_gateway("read-timed-out", &["upstream-slow"]).status(504).errno("ETIMEDOUT"), repeatable: true, ..ROW },
    Fault { name: "never-accepted", peers: &[Peer::tcp(B::NeverAccept)],
        location: "proxy_read_timeout 300ms; proxy_pass http://{up};",
        expect: bad_gateway("read-timed-out", &["not-accepted"]).status(504).errno("ETIMEDOUT"), ..ROW },

    // No peer at all.
    Fault { name: "no-live-upstreams", peers: &[DEAD, DEAD], server_args: "max_fails=1 fail_timeout=600s", warm: 1,
        upstream: "zone no_live 64k;",
        expect: bad_gateway("no-live-upstreams", &["all-peers-down"]), ..ROW },
    Fault { name: "name-nxdomain", peers: &[Peer::at(Place::Udp(B::NxDomain))], repeatable: true,
        location: "resolver {peer0} ipv6=off; set $name gone.test; proxy_pass http://$name;",
        expect: bad_gateway("name-unresolved", &["dns"]).attempts(0), ..ROW },
    Fault { name: "name-resolver-dead", peers: &[DEAD],
        location: "resolver {peer0} ipv6=off; resolver_timeout 500ms; set $name gone.test; proxy_pass http://$name;",
        expect: bad_gateway("name-unresolved", &["dns"]).attempts(0), ..ROW },

    // After the header.
    Fault { name: "truncated-body", peers: &[Peer::tcp(B::Truncate)], repeatable: true,
        expect: bad_gateway(TRUNCATED, &["closed-by-upstream"]).status(200), ..ROW },
    // nginx says it of the client's connection, at level info, which only the yardstick needs.
    Fault { name: "upgraded-idle", peers: &[Peer::tcp(B::Upgrade)], ask: Ask::Upgrade, repeatable: true,
        location: "error_log error.log info; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; \
                   proxy_read_timeout 300ms; proxy_pass http://{up};",
        expect: bad_gateway(TRUNCATED, &["idle-timeout"]).status(101).errno("ETIMEDOUT"), ..ROW },
    Fault { name: "storage-gone", peers: &[ANSWERS], inject: Injection::RemoveDirectory("gone-temp"),
        location: "proxy_temp_path gone-temp; proxy_store gone-store; proxy_pass http://{up};",
        expect: bad_gateway(TRUNCATED, &["nginx-storage"]).status(200).errno("ENOENT"), ..ROW },
    Fault { name: "truncated-chunk", peers: &[Peer::tcp(B::BadChunk)], repeatable: true,
        location: "proxy_http_version 1.1; proxy_pass http://{up};",
        expect: bad_gateway(TRUNCATED, &["bad-response"]).status(200), ..ROW },

    // The upstream's own status.
    Fault { name: "status-502", peers: &[Peer::tcp(B::Status502)], repeatable: true,
        expect: bad_gateway("upstream-status", &["upstream-error"]).outcome(Outcome::Passthrough), ..ROW },
    Fault { name: "status-504", peers: &[Peer::tcp(B::Status504)],
        expect: bad_gateway("upstream-status", &["upstream-error"]).status(504).outcome(Outcome::Passthrough), ..ROW },
    Fault { name: "status-502-intercepted", peers: &[Peer::tcp(B::Status502)], repeatable: true,
        location: "proxy_intercept_errors on; error_page 502 /lab-error-page; proxy_pass http://{up};",
        server: "location = /lab-error-page { internal; return 200 'page'; }",
        expect: bad_gateway("upstream-status", &["upstream-error"]), ..ROW },

    // Failures that the client does not see as such.
    Fault { name: "rescued-by-retry", peers: &[DEAD, ANSWERS],
        expect: bad_gateway(REFUSED, &["not-listening"]).status(200).errno("ECONNREFUSED").outcome(Outcome::Rescued).attempts(2),
        ..ROW },
    Fault { name: "rescued-by-stale-cache", peers: &[ANSWERS], warm: 1, inject: Injection::Kill(0, Signal::SIGKILL),
        http: "proxy_cache_path {id} keys_zone={id}:64k;", ask: Ask::UntilCache("STALE"),
        location: "proxy_cache {id}; proxy_cache_key fixed; proxy_cache_valid 200 1s; proxy_cache_use_stale error; \
                   add_header X-Cache $upstream_cache_status; proxy_pass http://{up};",
        expect: bad_gateway(REFUSED, &["killed"]).status(200).errno("ECONNREFUSED").outcome(Outcome::Rescued), ..ROW },
    Fault { name: "rescued-by-fallback", peers: &[DEAD], repeatable: true,
        location: "error_page 502 = @{id}; proxy_pass http://{up};",
        server: "location @{id} { return 200 'fallback'; }",
        expect: bad_gateway(REFUSED, &["not-listening"]).status(200).errno("ECONNREFUSED").outcome(Outcome::Rescued), ..ROW },
    Fault { name: "static-error-page", peers: &[DEAD], repeatable: true,
        location: "error_page 502 /{id}-page; proxy_pass http://{up};",
        server: "location = /{id}-page { internal; return 200 'sorry'; }",
        expect: bad_gateway(REFUSED, &["not-listening"]).errno("ECONNREFUSED"), ..ROW },
    Fault { name: "silent-return", location: "return 502;", repeatable: true,
        expect: Expect { status: 502, ..SILENT }, ..ROW },
    Fault { name: "silent-cached-502", peers: &[Peer::tcp(B::Status502)], warm: 1,
        http: "proxy_cache_path {id} keys_zone={id}:64k;", ask: Ask::UntilCache("HIT"),
        location: "proxy_cache {id}; proxy_cache_key fixed; proxy_cache_valid 502 60s; \
                   add_header X-Cache $upstream_cache_status always; proxy_pass http://{up};",
        expect: Expect { status: 502, ..SILENT }, ..ROW },
    Fault { name: "auth-request-refused", peers: &[DEAD], repeatable: true,
        location: "auth_request /{id}-auth; proxy_pass http://{up};",
        server: "location = /{id}-auth { internal; proxy_pass http://{up}; }",
        expect: bad_gateway(REFUSED, &["not-listening"]).status(500).errno("ECONNREFUSED"), ..ROW },
    Fault { name: "auth-request-status", peers: &[Peer::tcp(B::Status502)], repeatable: true,
        location: "auth_request /{id}-auth; proxy_pass http://{up};",
        server: "location = /{id}-auth { internal; proxy_pass http://{up}; }",
        expect: bad_gateway("upstream-status", &["upstream-error"]).status(500), ..ROW },
    Fault { name: "silent-mirror", peers: &[DEAD, ANSWERS], repeatable: true,
        location: "mirror /{id}-mirror; proxy_pass http://{peer1};",
        server: "location = /{id}-mirror { internal; proxy_pass http://{peer0}; }", expect: SILENT, ..ROW },
    Fault { name: "silent-limit-req", peers: &[ANSWERS], warm: 1,
        http: "limit_req_zone fixed zone={id}:64k rate=1r/m;",
        location: "limit_req zone={id}; limit_req_status 502; proxy_pass http://{up};",
        expect: Expect { status: 502, ..SILENT }, ..ROW },
    Fault { name: "silent-http09", peers: &[Peer::tcp(B::Http09)], expect: Expect { status: 9, ..SILENT }, repeatable: true, ..ROW },
    Fault { name: "silent-fastcgi-stderr", peers: &[Peer::unix(B::FastCgiStderr)], location: "fastcgi_pass {up};",
        expect: SILENT, repeatable: true, ..ROW },
    Fault { name: "silent-client-abort", peers: &[Peer::tcp(B::Silent)], ask: Ask::Abandon,
        expect: Expect { status: 499, ..SILENT }, ..ROW },
    Fault { name: "silent-success", peers: &[Peer { workers: 2, ..ANSWERS }], expect: SILENT, repeatable: true, ..ROW },
];

/// Faults that need a paused worker and a told upstream (see `Lab::paused`), so that what races is decided.
#[rustfmt::skip]
pub const RACES: &[Fault] = &[
    // The upstream closes an idle connection after the client has sent the next request.
    Fault { name: "keepalive-race", peers: &[Peer::tcp(B::KeepAlive)], upstream: "keepalive 4;", ask: Ask::Post(3),
        location: "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://{up};",
        expect: bad_gateway("reset", &["keepalive-race"]).errno("ECONNRESET"), ..ROW },
    // The upstream closes between two pieces of a request body.
    Fault { name: "send-failed", peers: &[Peer::unix(B::Silent)], ask: Ask::Post(200),
        location: "proxy_request_buffering off; proxy_http_version 1.1; proxy_pass http://{up};",
        expect: bad_gateway("send-failed", &["closed-by-upstream"]).errno("EPIPE"), ..ROW },
];
