//! What this host lacks or cannot reach.

use bstr::{BStr, ByteSlice};

use super::{errno, quoted};
use crate::event::{Limits, Ports, RouteLookup};

pub(in crate::attribute) fn prohibited(there: &str, code: u8) -> String {
    format!("a filter rejected the connect to {there}: ICMP type 3 code {code}, administratively prohibited")
}

pub(in crate::attribute) fn unreachable_icmp(
    there: &str,
    (kind, code): (u8, u8),
    number: Option<i32>,
) -> String {
    let word = number.map_or("an error".to_owned(), errno);
    format!("{there} is unreachable: ICMP type {kind} code {code} ({word})")
}

pub(in crate::attribute) fn unreachable(there: &str, number: i32) -> String {
    format!("{there} is unreachable: the kernel answered {}", errno(number))
}

pub(in crate::attribute) fn no_errno(there: &str) -> String {
    format!("connecting to {there} failed; the errno could not be read")
}

pub(in crate::attribute) fn route(to: std::net::IpAddr) -> String {
    format!("ip route get {to}")
}

/// What the look-up of a route answered, as evidence.
pub(in crate::attribute) fn route_found(route: &RouteLookup) -> String {
    match route.errno {
        None => format!("the routing table has a route to {}", route.to),
        Some(number) => format!("the routing table answered {} for {}", errno(number), route.to),
    }
}

pub(in crate::attribute) fn bind_failed(there: &str, address: Option<&BStr>) -> String {
    let address = address.map_or("its address".into(), |address| address.to_str_lossy());
    format!(
        "bind({address}) failed before connecting to {there}: proxy_bind names an address that is not free here"
    )
}

pub(in crate::attribute) fn bind_fix() -> String {
    "ip -br address; check proxy_bind".into()
}

pub(in crate::attribute) fn no_port(there: &str) -> String {
    format!("no free local port towards {there} (inferred from the errno; the range was not looked up)")
}

pub(in crate::attribute) fn ports_used(there: &str, ports: &Ports, range: u32, enough: bool) -> String {
    let doubt = if enough { "" } else { " by now (inferred from the errno)" };
    format!(
        "no free local port towards {there}: {} of {range} in {}-{} are in use{doubt}",
        ports.used, ports.low, ports.high
    )
}

pub(in crate::attribute) fn ports_fix() -> [String; 2] {
    [
        "keep connections to the upstream open: keepalive in the upstream block, proxy_http_version 1.1"
            .into(),
        "sysctl -w net.ipv4.ip_local_port_range='1024 65535'".into(),
    ]
}

/// The count of the ports, as evidence.
pub(in crate::attribute) fn ports_counted(there: &str, ports: &Ports, range: u32) -> String {
    format!("{} of {range} local ports ({}-{}) led to {there}", ports.used, ports.low, ports.high)
}

/// `connections`: nginx's own number, where its text tells it.
pub(in crate::attribute) fn connections_used(connections: Option<i64>) -> String {
    let number = connections.map_or(String::new(), |number| format!("{number} "));
    format!("nginx's worker has all its {number}worker_connections in use")
}

pub(in crate::attribute) fn more_connections(connections: Option<i64>) -> String {
    let now = connections.map_or(String::new(), |number| format!(" (now {number})"));
    format!("raise worker_connections in the events block{now}")
}

pub(in crate::attribute) fn descriptors_gone(system: bool) -> String {
    match system {
        true => "the system has no file left (fs.file-max was not looked up)".into(),
        false => "nginx's worker ran out of file descriptors (its limit was not looked up)".into(),
    }
}

pub(in crate::attribute) fn descriptors_used(limits: &Limits, system: bool) -> String {
    match system {
        true => {
            format!("the system has no file left: {} of fs.file-max {}", limits.file_used, limits.file_max)
        }
        false => format!(
            "nginx's worker {} has {} descriptors open of its limit {} (system: {} of {})",
            limits.worker, limits.open, limits.nofile, limits.file_used, limits.file_max
        ),
    }
}

/// The count of the descriptors, as evidence.
pub(in crate::attribute) fn descriptors_counted(limits: &Limits) -> String {
    format!(
        "worker {} had {} of {} descriptors open, the system {} of {} files",
        limits.worker, limits.open, limits.nofile, limits.file_used, limits.file_max
    )
}

/// `limits`: the worker's, where it is they that ran out.
pub(in crate::attribute) fn more_descriptors(limits: Option<&Limits>) -> String {
    match limits {
        Some(limits) => format!(
            "raise worker_rlimit_nofile (now {}) in nginx.conf, and LimitNOFILE= of its unit",
            limits.nofile
        ),
        None => {
            "raise worker_rlimit_nofile in nginx.conf, LimitNOFILE= of its unit, fs.file-max for the system"
                .into()
        }
    }
}

fn name(detail: Option<&BStr>) -> String {
    detail.map_or("the upstream's name".into(), |name| name.to_str_lossy().into_owned())
}

pub(in crate::attribute) fn no_resolver(detail: Option<&BStr>) -> String {
    format!("{} needs to be resolved at run time, and no resolver is configured", name(detail))
}

pub(in crate::attribute) fn resolver_fix() -> String {
    "resolver 127.0.0.53; (in http, server or location)".into()
}

pub(in crate::attribute) fn unresolved_hidden() -> String {
    "nginx had no address to connect to (inferred: name resolution; error_log's level hides the text)".into()
}

/// `number` is the resolver's state: a DNS response code, or 110.
pub(in crate::attribute) fn unresolved(detail: Option<&BStr>, number: i64) -> String {
    let code = match number {
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN: no such name",
        4 => "NOTIMP",
        5 => "REFUSED",
        110 => "the resolver did not answer in time",
        code => return format!("{} could not be resolved: code {code}", name(detail)),
    };
    format!("{} could not be resolved: {code}", name(detail))
}

pub(in crate::attribute) fn dig(detail: Option<&BStr>) -> String {
    let name = detail.map_or("NAME".to_owned(), |name| quoted(&name.to_str_lossy()));
    format!("dig {name} @RESOLVER (as in nginx's resolver directive)")
}
