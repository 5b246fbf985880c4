//! What this host lacks or cannot reach: routes, ports, descriptors, names.

use std::fmt::{self, Display as _};
use std::net::IpAddr;

use bstr::BString;
use nix::libc::{EDQUOT, ENOSPC, EROFS};
use serde::Serialize;

use super::fix::quoted;
use super::listener::Icmp;
use super::{Fix, Moved, On, Page, lossy_or_null, route};
use crate::attribute::verdict::Cause;
use crate::event::{Limits, Ports};
use crate::units::Errno;

/// What was not to be had.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Local {
    /// No route, or the host or network is down.
    Unreachable {
        /// What connect(2) answered.
        errno: Option<Errno>,
        /// The ICMP message that said so; null for a local answer.
        icmp: Option<Icmp>,
        /// The upstream's address.
        #[serde(skip)]
        to: Option<IpAddr>,
        /// What nginx's network namespace lacks to connect there; null where that is not the reason.
        lacks: Option<Lack>,
        /// Whose the address was before it was nobody's on this host; null otherwise.
        moved: Option<Moved>,
    },
    /// A filter on the way said that it is prohibited.
    Prohibited {
        /// The ICMP message that said so.
        icmp: Icmp,
        /// The upstream's address.
        #[serde(skip)]
        to: Option<IpAddr>,
    },
    /// No free local port for that destination.
    PortExhaustion(PortRange),
    /// All of the worker's connections are in use.
    WorkerConnections {
        /// `worker_connections`; null where nginx's text does not tell it.
        worker_connections: Option<i64>,
    },
    /// No descriptor.
    Descriptors(Descriptors),
    /// nginx could not keep what it buffers.
    Storage {
        /// The system call: `open`, `mkdir`, `pwrite`.
        call: String,
        /// Of which file; null where that could not be read.
        #[serde(serialize_with = "lossy_or_null")]
        path: Option<BString>,
        /// What it answered.
        errno: Option<Errno>,
    },
    /// The resolver gave no address.
    Dns(Dns),
}

/// What a network namespace needs, and lacks, to connect to an address.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Lack {
    /// The address family: the kernel is without it.
    Family,
    /// An address of the family and scope to connect from.
    Source,
    /// The address that `proxy_bind` names.
    Bind {
        /// That address; null where it could not be read.
        #[serde(serialize_with = "lossy_or_null")]
        address: Option<BString>,
    },
}

/// The local ports that may be used, and how many lead to the destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortRange {
    /// The first of the range; null, as all here, where it was not looked up.
    pub low: Option<u16>,
    /// The last.
    pub high: Option<u16>,
    /// How many lead to the destination.
    pub used: Option<u32>,
}

/// The descriptors of a worker and of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Descriptors {
    /// True: the system ran out; false: the worker.
    pub system: bool,
    /// Open in the worker; null, as all below, where it was not looked up.
    pub open: Option<u64>,
    /// The worker's RLIMIT_NOFILE.
    pub limit: Option<u64>,
    /// Open in the system.
    pub file_used: Option<u64>,
    /// `fs.file-max`.
    pub file_max: Option<u64>,
}

/// What the resolver said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dns {
    /// The name; null where it could not be read.
    #[serde(serialize_with = "lossy_or_null")]
    pub name: Option<BString>,
    /// The DNS response code, or 110 for no answer in time; null where it is hidden.
    pub code: Option<i64>,
    /// Whether a resolver is configured; null where that is hidden.
    pub resolver: Option<bool>,
}

impl PortRange {
    /// How many ports there are from `low` to `high`.
    pub(in crate::attribute) fn size(low: u16, high: u16) -> u32 {
        u32::from(high).saturating_sub(u32::from(low)) + 1
    }
}

impl From<&Ports> for PortRange {
    fn from(ports: &Ports) -> Self {
        Self { low: Some(ports.low), high: Some(ports.high), used: Some(ports.used) }
    }
}

/// `IPv6`, `IPv4`.
fn family(to: Option<IpAddr>) -> &'static str {
    match to {
        Some(IpAddr::V6(_)) => "IPv6",
        Some(IpAddr::V4(_)) => "IPv4",
        None => "such",
    }
}

impl Lack {
    fn sentence(&self, there: &str, to: Option<IpAddr>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = family(to);
        match self {
            Lack::Family => write!(f, "{there} cannot be reached: this kernel has no {family}"),
            Lack::Source => write!(
                f,
                "{there} cannot be reached: nginx's network namespace has no {family} address to connect from"
            ),
            Lack::Bind { address } => {
                f.write_str("nginx cannot connect from ")?;
                match address {
                    Some(address) => write!(f, "{address}, as its configuration says (proxy_bind): ")?,
                    None => f.write_str("the address that its configuration says (proxy_bind): ")?,
                }
                f.write_str("no interface of its network namespace has it")
            }
        }
    }

    fn fix(&self, to: Option<IpAddr>) -> Option<Fix> {
        match (self, to) {
            (Lack::Bind { .. }, _) => {
                Some(Fix::advice("give an interface that address, or correct proxy_bind"))
            }
            (_, Some(IpAddr::V6(_))) => Some(Fix::advice(
                "pass to the upstream's IPv4 address (a name such as localhost means both families; resolver … ipv6=off; for \
                 names in variables)",
            )),
            _ => None,
        }
    }
}

impl Descriptors {
    /// As a look-up found them, or not known.
    pub(in crate::attribute) fn new(limits: Option<&Limits>, system: bool) -> Self {
        Self {
            system,
            open: limits.map(|limits| limits.open),
            limit: limits.map(|limits| limits.nofile),
            file_used: limits.map(|limits| limits.file_used),
            file_max: limits.map(|limits| limits.file_max),
        }
    }

    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { system, open, limit, file_used, file_max } = *self;
        match (open.zip(limit), file_used.zip(file_max), system) {
            (_, Some((used, max)), true) => {
                write!(f, "the system-wide file limit is reached: {used} of fs.file-max {max}")
            }
            (Some((open, limit)), Some((used, max)), false) => write!(
                f,
                "nginx's worker {} has {open} descriptors open of its limit {limit} (system: {used} of {max})",
                on.worker.pid
            ),
            (_, _, true) => {
                f.write_str("the system-wide file limit is reached (fs.file-max was not looked up)")
            }
            (_, _, false) => {
                f.write_str("nginx's worker ran out of file descriptors (its limit was not looked up)")
            }
        }
    }
}

impl Dns {
    fn name(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match &self.name {
            Some(name) => name.fmt(f),
            None => f.write_str("the upstream's name"),
        })
    }

    fn sentence(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        let reason = match (self.resolver, self.code) {
            (Some(false), _) => {
                return write!(f, "{name} needs to be resolved at run time, and no resolver is configured");
            }
            (_, None) => return f.write_str("nginx had no address to connect to"),
            (_, Some(1)) => "FORMERR",
            (_, Some(2)) => "SERVFAIL",
            (_, Some(3)) => "NXDOMAIN: no such name",
            (_, Some(4)) => "NOTIMP",
            (_, Some(5)) => "REFUSED",
            (_, Some(110)) => "the resolver did not answer in time",
            (_, Some(code)) => return write!(f, "{name} could not be resolved: code {code}"),
        };
        write!(f, "{name} could not be resolved: {reason}")
    }

    fn fix(&self) -> Option<Fix> {
        let name = || self.name.as_ref().map_or("NAME".to_owned(), quoted);
        match (self.resolver, self.code) {
            (Some(false), _) => {
                Some(Fix::directive("resolver 127.0.0.53;").remark("in http, server or location"))
            }
            (_, Some(_)) => Some(
                Fix::command(format!("dig @RESOLVER -q {}", name()))
                    .remark("as in nginx's resolver directive"),
            ),
            (_, None) => None,
        }
    }
}

impl Page for Local {
    fn cause(&self) -> Cause {
        match self {
            Local::Unreachable { .. } => Cause::Unreachable,
            Local::Prohibited { .. } => Cause::Firewall,
            Local::PortExhaustion(_) => Cause::PortExhaustion,
            Local::WorkerConnections { .. } | Local::Descriptors(_) => Cause::FdLimit,
            Local::Storage { .. } => Cause::NginxStorage,
            Local::Dns(_) => Cause::Dns,
        }
    }

    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = on.target;
        match self {
            Local::Unreachable { errno, to, lacks: Some(lacks), .. } => {
                lacks.sentence(there, *to, f)?;
                errno.map_or(Ok(()), |errno| write!(f, " ({errno})"))
            }
            Local::Unreachable { icmp, errno, moved, .. } => {
                write!(f, "{there} is unreachable")?;
                match (icmp, errno) {
                    (Some(icmp), Some(errno)) => write!(f, ": {icmp} ({errno})")?,
                    (Some(icmp), None) => write!(f, ": {icmp}")?,
                    (None, Some(errno)) => write!(f, ": the kernel answered {errno}")?,
                    (None, None) => {}
                }
                moved.as_ref().map_or(Ok(()), |moved| moved.sentence(on, f))
            }
            Local::Prohibited { icmp, .. } => {
                write!(f, "a filter rejected the connect to {there}: {icmp}, administratively prohibited")
            }
            Local::PortExhaustion(PortRange { low: Some(low), high: Some(high), used: Some(used) }) => {
                let size = PortRange::size(*low, *high);
                write!(f, "no free local port towards {there}: {used} of {size} in {low}-{high} are in use")
            }
            Local::PortExhaustion(_) => write!(f, "no free local port towards {there}"),
            Local::WorkerConnections { worker_connections: Some(number) } => {
                write!(f, "nginx's worker has all its {number} worker_connections in use")
            }
            Local::WorkerConnections { worker_connections: None } => {
                f.write_str("nginx's worker has all its worker_connections in use")
            }
            Local::Descriptors(descriptors) => descriptors.sentence(on, f),
            Local::Storage { call, path, errno } => {
                write!(f, "nginx could not buffer the response of {there} in a temporary file: {call}(")?;
                path.as_ref().map_or(Ok(()), |path| write!(f, "{path}"))?;
                errno.map_or(f.write_str(") failed"), |errno| write!(f, ") answered {errno}"))
            }
            Local::Dns(dns) => dns.sentence(f),
        }
    }

    fn fix(&self, _on: &On<'_>, lines: &mut Vec<Fix>) {
        match self {
            Local::Unreachable { to, lacks, moved, .. } => {
                lines.extend(lacks.as_ref().and_then(|lacks| lacks.fix(*to)));
                moved.iter().for_each(|moved| moved.fix(lines));
                let routed = to.filter(|_| !matches!(lacks, Some(Lack::Bind { .. })));
                lines.extend(routed.map(route));
            }
            Local::Prohibited { to, .. } => {
                lines.extend(to.map(route));
            }
            Local::PortExhaustion(_) => lines.extend([
                Fix::advice(
                    "keep connections to the upstream open: keepalive in the upstream block, proxy_http_version 1.1",
                ),
                Fix::command("sysctl -w net.ipv4.ip_local_port_range='1024 65535'"),
            ]),
            Local::WorkerConnections { worker_connections } => {
                let now = worker_connections.map_or(String::new(), |number| format!(" (now {number})"));
                lines.push(Fix::advice(format!("raise worker_connections in the events block{now}")));
            }
            Local::Descriptors(Descriptors { system: false, limit: Some(limit), .. }) => lines.push(Fix::advice(format!(
                "raise worker_rlimit_nofile (now {limit}) in nginx.conf, and LimitNOFILE= of its unit"
            ))),
            Local::Descriptors(_) => lines.push(Fix::advice(
                "raise worker_rlimit_nofile in nginx.conf, LimitNOFILE= of its unit, fs.file-max for the system",
            )),
            Local::Storage { path, errno, .. } => {
                let path = path.as_ref().map_or("PATH".to_owned(), quoted);
                lines.push(match errno.map(|errno| errno.0) {
                    Some(ENOSPC | EDQUOT) => Fix::command(format!(
                        "df -h \"$(dirname -- {path})\"; df -i \"$(dirname -- {path})\""
                    )),
                    Some(EROFS) => Fix::command(format!("findmnt -T {path}")),
                    _ => Fix::command(format!("namei -l -- {path}")).remark("nginx's user needs to write there"),
                });
                lines.push(Fix::advice(
                    "proxy_temp_path or client_body_temp_path elsewhere, or proxy_max_temp_file_size 0; (no file)",
                ));
            }
            Local::Dns(dns) => lines.extend(dns.fix()),
        }
    }
}
