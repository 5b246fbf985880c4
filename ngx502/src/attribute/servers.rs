//! What is known about application servers: a row each, so that a new server is one row.
//!
//! A server is known by its processes' names. A rule about a signal is named only where the sender has the right to it:
//! the process's own parent. Where two rules give the same signal, both are named. Sources: each server's own
//! documentation and code.

use std::net::{IpAddr, SocketAddr};

use bstr::{BStr, ByteSlice};

use super::finding::Fix;

const SIGQUIT: i32 = 3;
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// In a setting: where the pool of the process is configured, if that is known.
pub(super) const POOL: &str = "the pool's configuration";

/// One server.
pub(super) struct Server {
    /// Its processes' names begin so.
    comms: &'static [&'static str],
    /// What the title of a worker says before its pool, and that of the master before its configuration's path.
    titles: Option<(&'static str, &'static str)>,
    /// What its master does with signals to its workers.
    signals: &'static [SignalRule],
    /// How to let more connections wait, and how to serve more at once; `{}` is where a known limit goes.
    backlog: &'static str,
    /// How to make its socket writable for nginx's user; `{user}` and `{pool}` are filled in.
    socket_mode: Option<&'static str>,
}

/// Programs that pass on what comes. What one of them does is mostly not its own doing; others are known by what they do.
const FORWARDERS: &[&str] = &[
    "docker-proxy",
    "envoy",
    "haproxy",
    "nginx",
    "pasta",
    "rootlesskit",
    "rootlessport",
    "slirp4netns",
    "socat",
    "ssh",
    "stunnel",
    "systemd-socket-",
    "traefik",
    "varnishd",
];

/// Whether a process of this name only forwards.
pub(super) fn only_forwards(comm: &BStr) -> bool {
    FORWARDERS.iter().any(|name| comm.starts_with(name.as_bytes()))
}

/// Where a process forwards to by its command line, blanks between the words: docker-proxy's, which dockerd starts for each
/// published port (moby, cmd/docker-proxy).
pub(super) fn forwards_to(command: &BStr) -> Option<SocketAddr> {
    let mut words = command.split_str(" ");
    let program = words.next()?;
    if !program.ends_with_str("docker-proxy") {
        return None;
    }
    let words: Vec<_> = words.collect();
    let value = |flag: &str| {
        let at = words.iter().position(|word| *word == flag.as_bytes())?;
        words.get(at + 1)?.to_str().ok()
    };
    let udp = value("-proto").is_some_and(|proto| proto != "tcp");
    let (ip, port): (IpAddr, u16) =
        (value("-container-ip")?.parse().ok()?, value("-container-port")?.parse().ok()?);
    (!udp).then(|| SocketAddr::new(ip, port))
}

/// What a master sends, and when.
pub(super) struct SignalRule {
    /// The signal.
    signal: i32,
    /// What the server calls the process that sends it.
    pub(super) sender: &'static str,
    /// On which occasions: "as it does …".
    pub(super) occasion: &'static str,
    /// The setting behind it, and what else helps.
    pub(super) setting: Option<&'static str>,
}

const fn rule(
    signal: i32,
    sender: &'static str,
    occasion: &'static str,
    setting: Option<&'static str>,
) -> SignalRule {
    SignalRule { signal, sender, occasion, setting }
}

const RELOAD: &str = "on a reload or stop";

#[rustfmt::skip]
static SERVERS: &[Server] = &[
    Server {
        comms: &["php-fpm"],
        titles: Some(("php-fpm: pool ", "php-fpm: master process (")),
        signals: &[
            rule(SIGTERM, "master", "when request_terminate_timeout is exceeded, or on a reload",
                Some("raise request_terminate_timeout in the pool's configuration, or make the script faster")),
            rule(SIGQUIT, "master", RELOAD, None),
            rule(SIGKILL, "master", "when process_control_timeout is exceeded on a reload or stop", None),
        ],
        backlog: "raise pm.max_children, then listen.backlog{} in {pool}",
        socket_mode: Some("set listen.group to a group of {user} and listen.mode = 0660 in {pool}"),
    },
    Server {
        comms: &["gunicorn"],
        titles: None,
        signals: &[
            rule(SIGABRT, "arbiter", "to a worker that was silent for longer than --timeout",
                Some("raise gunicorn --timeout, or make the request faster")),
            rule(SIGKILL, "arbiter", "to a worker that outlives --timeout or, on a stop, --graceful-timeout",
                Some("raise gunicorn --timeout, or make the request faster")),
            rule(SIGTERM, "arbiter", RELOAD, None),
        ],
        backlog: "gunicorn --workers N --backlog N{}",
        socket_mode: Some("gunicorn --umask 007, with Group= a group of {user} in its unit"),
    },
    Server {
        comms: &["uwsgi"],
        titles: None,
        signals: &[
            rule(SIGKILL, "master", "when harakiri is exceeded, or a reload's mercy",
                Some("raise uwsgi --harakiri, or make the request faster")),
        ],
        backlog: "uwsgi --processes N --listen N{}",
        socket_mode: Some("uwsgi --chmod-socket=660 --chown-socket=OWNER:GROUP, a group of {user}"),
    },
    Server {
        comms: &["puma"],
        titles: None,
        signals: &[
            rule(SIGKILL, "master", "to a worker that has not checked in for worker_timeout", None),
            rule(SIGTERM, "master", "on a restart or stop", None),
        ],
        backlog: "raise workers or threads, then add ?backlog=N{} to bind in puma.rb",
        socket_mode: Some("puma --bind 'unix://PATH?umask=0117', run with a group of {user}"),
    },
    Server {
        comms: &["unicorn"],
        titles: None,
        signals: &[
            rule(SIGKILL, "master", "to a worker that was silent for longer than timeout",
                Some("raise timeout in unicorn.conf.rb, or make the request faster")),
            rule(SIGQUIT, "master", RELOAD, None),
        ],
        backlog: "raise worker_processes, then listen …, backlog: N{} in unicorn.conf.rb",
        socket_mode: Some("listen PATH, umask: 0117 in unicorn.conf.rb, run with a group of {user}"),
    },
    Server {
        comms: &["apache2", "httpd"],
        titles: None,
        signals: &[
            rule(SIGTERM, "parent process", "on a restart or stop", None),
            rule(SIGKILL, "parent process", "to a child that outlives a restart or stop", None),
        ],
        backlog: "raise MaxRequestWorkers, then ListenBacklog{}",
        socket_mode: None,
    },
    Server {
        comms: &["uvicorn"],
        titles: None,
        signals: &[
            rule(SIGKILL, "supervisor", "to a worker that does not answer for --timeout-worker-healthcheck", None),
            rule(SIGTERM, "supervisor", RELOAD, None),
        ],
        backlog: "uvicorn --workers N --backlog N{}",
        socket_mode: None,
    },
    Server {
        comms: &["node"],
        titles: None,
        signals: &[],
        backlog: "run more processes (cluster), then server.listen({ backlog: N }){}",
        socket_mode: Some("server.listen({ path, readableAll: true, writableAll: true })"),
    },
];

const OTHER_SOCKET_MODE: &str = "have the server make its socket with mode 0660 and a group of {user}";
const OTHER_BACKLOG: &str = "add workers, then raise the backlog that the upstream passes to listen(2){}";

fn server(comm: &[u8]) -> Option<&'static Server> {
    SERVERS.iter().find(|server| server.comms.iter().any(|name| comm.starts_with(name.as_bytes())))
}

/// The pool in the title of a worker: `php-fpm: pool www`.
pub(super) fn pool(title: &[u8]) -> Option<String> {
    let name = after(title, |(worker, _)| worker)?;
    (!name.is_empty()).then(|| name.to_str_lossy().into_owned())
}

/// The file in the title of a master: `php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)`.
pub(super) fn configuration(title: &[u8]) -> Option<String> {
    let path = after(title, |(_, master)| master)?.strip_suffix(b")")?;
    path.starts_with(b"/").then(|| path.to_str_lossy().into_owned())
}

/// What follows a server's own words in a title.
fn after(title: &[u8], which: impl Fn((&'static str, &'static str)) -> &'static str) -> Option<&[u8]> {
    let mut titles = SERVERS.iter().filter_map(|server| server.titles);
    titles.find_map(|titles| title.strip_prefix(which(titles).as_bytes())).map(<[u8]>::trim_ascii)
}

/// The rule by which a master of this name sends this signal to its workers.
pub(super) fn signal_rule(comm: &[u8], signal: i32) -> Option<&'static SignalRule> {
    server(comm)?.signals.iter().find(|rule| rule.signal == signal)
}

/// On which occasions systemd sends a signal to a service's process: "as it does …", before the unit's name.
pub(super) fn systemd_occasion(signal: i32) -> &'static str {
    match signal {
        SIGABRT => "when WatchdogSec= is exceeded for",
        SIGKILL => "when TimeoutStopSec= is exceeded, or where KillSignal= or KillMode= says so, for",
        _ => "to stop or restart",
    }
}

/// How to serve more at once and to let more wait; `limit` is today's, `pool` where php-fpm's pool is configured.
pub(super) fn backlog(comm: &[u8], limit: Option<u32>, pool: Option<&str>) -> Fix {
    let now = limit.map_or(String::new(), |limit| format!(" (now {limit})"));
    let text = server(comm).map_or(OTHER_BACKLOG, |server| server.backlog);
    Fix::advice(text.replacen("{}", &now, 1).replace("{pool}", pool.unwrap_or(POOL)))
}

/// How to make the server's socket writable for nginx's `user`.
pub(super) fn socket_mode(comm: &[u8], user: &str, pool: Option<&str>) -> String {
    let text = server(comm).and_then(|server| server.socket_mode).unwrap_or(OTHER_SOCKET_MODE);
    text.replace("{user}", user).replace("{pool}", pool.unwrap_or("its pool"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_found_by_name_and_signal() {
        assert_eq!(signal_rule(b"gunicorn: maste", SIGABRT).map(|rule| rule.sender), Some("arbiter"));
        assert!(signal_rule(b"php-fpm8.2", SIGABRT).is_none() && signal_rule(b"bash", SIGKILL).is_none());
    }

    #[test]
    fn every_row_is_found_by_its_own_names_and_fills_what_it_leaves_open() {
        for row in SERVERS {
            for name in row.comms {
                assert!(std::ptr::eq(server(name.as_bytes()).expect("a row"), row), "{name} is shadowed");
                let text = backlog(name.as_bytes(), Some(128), Some("pool www")).to_string();
                assert!(
                    text.contains("(now 128)") && !text.contains("{}") && !text.contains("{pool}"),
                    "{text}"
                );
                let mode = socket_mode(name.as_bytes(), "www-data", None);
                assert!(mode.contains("www-data") || name == &"node", "{mode}");
                assert!(!mode.contains("{pool}"), "{mode}");
            }
        }
    }
}
