//! One table: which hook serves which observation, what else would, and which verdicts are lost without it.
//!
//! Providers are chosen by loading and attaching, in the order listed, never by the kernel's version: distributions
//! backport hooks, and vendors remove them.

use crate::session::observation;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `BPF_RAW_TRACEPOINT_OPEN` by the tracepoint's name.
    RawTracepoint(&'static str),
    /// The same for a program whose arguments have the kernel's own types, so that it may load from them.
    BtfTracepoint(&'static str),
    /// A kprobe at a function's entry or return, as the program says.
    Kprobe(&'static str),
}

/// A way to make an observation: all its programs must attach.
#[derive(Clone, Copy, Debug)]
pub struct Provider {
    /// As shown to people: `raw_tp:sched_process_exit`, `tp_btf:sock_send_length`.
    pub name: &'static str,
    /// BPF function and where it goes.
    pub programs: &'static [(&'static str, Hook)],
}

/// Something that the tracer wants to know of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// Its name in `ready` and `doctor`.
    pub name: &'static str,
    /// Best first.
    pub providers: &'static [Provider],
    /// What goes wrong without it: named causes and symptoms.
    pub without: &'static str,
}

/// A provider whose programs bear the names of what they are attached to.
macro_rules! provider {
    ($kind:literal, $hook:ident, $($name:literal),+) => {
        Provider {
            name: concat!($kind, $(":", $name),+),
            programs: &[$(($name, Hook::$hook($name))),+],
        }
    };
}

/// Every observation, in the order in which it is attached: life and death first, so that no listener is missed.
pub const OBSERVATIONS: &[Observation] = &[
    Observation {
        name: "exit",
        providers: &[provider!("raw_tp", RawTracepoint, "sched_process_exit")],
        without: "oom-killed, killed, crashed and exited become unknown",
    },
    Observation {
        name: "fork",
        providers: &[provider!("raw_tp", RawTracepoint, "sched_process_fork")],
        without: "workers forked later are missed until the next scan; forked processes that share a listener are unknown",
    },
    Observation {
        name: observation::EXEC,
        providers: &[provider!("raw_tp", RawTracepoint, "sched_process_exec")],
        without: "an nginx started or upgraded later is found only by the scan every few seconds",
    },
    Observation {
        name: "signal",
        providers: &[provider!("raw_tp", RawTracepoint, "signal_generate")],
        without: "killed does not name the sender",
    },
    Observation {
        name: "oom",
        providers: &[provider!("raw_tp", RawTracepoint, "mark_victim")],
        without: "oom-killed looks like killed by an unknown sender",
    },
    Observation {
        name: observation::TCP_STATE,
        providers: &[provider!("tp_btf", BtfTracepoint, "inet_sock_set_state", "tcp_destroy_sock")],
        without: "unknown who closed or reset a TCP connection, and which listeners open and close",
    },
    Observation {
        name: "tcp-reset",
        providers: &[provider!("raw_tp", RawTracepoint, "tcp_receive_reset")],
        without: "the time of a reset is unknown",
    },
    Observation {
        name: observation::RESET_SENT,
        providers: &[
            provider!("kprobe", Kprobe, "tcp_v4_send_reset", "tcp_v6_send_reset"),
            provider!("raw_tp", RawTracepoint, "tcp_send_reset"),
        ],
        without: "no evidence that this host refused a connect, or where: a refusal behind an address translation has no \
                  known author",
    },
    Observation {
        name: "icmp-error",
        providers: &[provider!("raw_tp", RawTracepoint, "inet_sk_error_report")],
        without: "firewall and unreachable are distinguished less often",
    },
    Observation {
        name: "retransmit",
        providers: &[provider!("raw_tp", RawTracepoint, "tcp_retransmit_skb")],
        without: "no evidence of lost segments in a timeout",
    },
    Observation {
        name: observation::SENT,
        providers: &[
            provider!("tp_btf", BtfTracepoint, "sock_send_length"),
            provider!("kprobe", Kprobe, "tcp_sendmsg", "unix_stream_sendmsg"),
        ],
        without: "rescued requests are not reported, and a request saved by an error_page still counts as a verdict; \
                  keepalive-race cannot be distinguished from an early close",
    },
    Observation {
        name: observation::RECEIVED,
        providers: &[
            provider!("tp_btf", BtfTracepoint, "sock_recv_length"),
            provider!("kprobe", Kprobe, "tcp_cleanup_rbuf", "unix_stream_recvmsg"),
        ],
        without: "times to the first byte come from nginx, in whole milliseconds",
    },
    Observation {
        name: observation::UNIX_LISTEN,
        providers: &[provider!("kprobe", Kprobe, "unix_listen")],
        without: "an AF_UNIX listener that came and went between two look-ups is not known: not-listening is inferred",
    },
    Observation {
        name: "unix-connect",
        providers: &[Provider {
            name: "kprobe:__sys_connect",
            programs: &[
                ("sys_connect_enter", Hook::Kprobe("__sys_connect")),
                ("sys_connect_exit", Hook::Kprobe("__sys_connect")),
            ],
        }],
        without: "AF_UNIX connects have no times, and their errno comes from nginx's error log only",
    },
    Observation {
        name: "unix-close",
        providers: &[provider!("kprobe", Kprobe, "unix_release_sock")],
        without: "who closed an AF_UNIX connection is inferred from who last received on it, and stopped-listening \
                  from a look-up",
    },
];

/// A function of nginx's that is probed.
#[derive(Clone, Copy, Debug)]
pub struct Uprobe {
    /// The BPF program.
    pub program: &'static str,
    /// The function, by the symbol that nginx exports.
    pub symbol: &'static str,
    /// How many of its arguments the program reads, the first of them.
    pub arguments: usize,
    /// When it is attached.
    pub when: When,
    /// What its absence costs.
    pub without: &'static str,
}

/// When a uprobe is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// From the start.
    Always,
    /// Once nginx is seen to hide the text of its failures (`error_log … crit`): the others tell as much before.
    LogHides,
    /// With `--passthrough` only: it is on nginx's success path and takes some 1.5 µs a response.
    Passthrough,
}

/// The uprobe of nginx's error pages; by its function an executable is known to be nginx.
pub const SPECIAL_RESPONSE: &str = "special_response";
/// The uprobe that reads nginx's error log.
pub const LOG: &str = "log_error_core";
/// The uprobe of a function that only a build with TLS has.
pub const SSL_ERROR: &str = "ssl_error";

/// Every uprobe.
pub static UPROBES: [Uprobe; 5] = [
    Uprobe {
        program: SPECIAL_RESPONSE,
        symbol: "ngx_http_special_response_handler",
        arguments: 2,
        when: When::Always,
        without: "no verdict at all for this binary",
    },
    Uprobe {
        program: LOG,
        symbol: "ngx_log_error_core",
        arguments: 6,
        when: When::Always,
        without: "symptoms that only the log text shows: timeouts, early closes, bad headers",
    },
    // No level of the error log short of `info` tells of an upgraded connection that timed out.
    Uprobe {
        program: "connection_error",
        symbol: "ngx_connection_error",
        arguments: 3,
        when: When::Always,
        without: "connection errors where error_log hides them, idle upgraded connections",
    },
    // It costs nothing but the 100 ms that each uprobe adds to the end of a trace.
    Uprobe {
        program: SSL_ERROR,
        symbol: "ngx_ssl_error",
        arguments: 4,
        when: When::LogHides,
        without: "TLS errors where error_log hides them",
    },
    Uprobe {
        program: "send_header",
        symbol: "ngx_http_send_header",
        arguments: 1,
        when: When::Passthrough,
        without: "502s and 504s that the upstream answered itself, which --passthrough reports",
    },
];

/// The uprobes that every trace may attach.
pub fn error_path() -> impl Iterator<Item = &'static Uprobe> {
    UPROBES.iter().filter(|uprobe| uprobe.when != When::Passthrough)
}

/// The tracepoints of every [`Hook::BtfTracepoint`].
pub fn btf_tracepoints() -> impl Iterator<Item = &'static str> {
    let programs = OBSERVATIONS
        .iter()
        .flat_map(|observation| observation.providers)
        .flat_map(|provider| provider.programs);
    programs.filter_map(|(_, hook)| match hook {
        Hook::BtfTracepoint(tracepoint) => Some(*tracepoint),
        _ => None,
    })
}
