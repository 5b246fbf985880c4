//! What may run out: descriptors, local ports, a memory cgroup.

use std::io;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use bstr::ByteSlice as _;

use super::sockets::{self, Netns};
use crate::event::{Limits, MemoryLimit, Oom, Pid, Ports};
use crate::proc::{self, cgroup, cgroup::MemoryGroup};

/// A worker's descriptor limit and use, with the system's; an error when the worker is gone.
pub(super) fn descriptors(worker: Pid) -> io::Result<Limits> {
    let limits = proc::read(&format!("/proc/{worker}/limits"))?;
    let nofile = limits.lines().find_map(|line| line.strip_prefix(b"Max open files"));
    let soft = nofile.and_then(|line| line.fields().next()).unwrap_or_default();
    let file_nr = proc::read("/proc/sys/fs/file-nr").unwrap_or_default();
    let mut files = file_nr.fields().filter_map(|field| field.to_str().ok()?.parse::<u64>().ok());
    Ok(Limits {
        worker,
        nofile: if soft == b"unlimited" { u64::MAX } else { number(soft).unwrap_or(0) },
        open: std::fs::read_dir(format!("/proc/{worker}/fd"))?.count() as u64,
        file_used: files.next().unwrap_or(0),
        file_max: files.nth(1).unwrap_or(0),
    })
}

/// The local ports of the worker's namespace and how many of them are in use towards `remote`; an error when the worker is
/// gone, its namespace cannot be entered, or sock_diag is missing.
pub(super) fn ports(worker: Pid, remote: SocketAddr) -> io::Result<Ports> {
    let netns = Netns::of(worker)?;
    netns.run(|| {
        // /proc/sys/net shows the namespace of whoever reads it.
        let range = proc::read("/proc/sys/net/ipv4/ip_local_port_range")?;
        let mut range = range.fields().filter_map(|field| field.to_str().ok()?.parse::<u16>().ok());
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "ip_local_port_range has no two numbers");
        let (low, high) = range.next().zip(range.next()).ok_or_else(missing)?;
        let used = sockets::ports_towards(remote)?;
        let used = used.iter().filter(|port| (low..=high).contains(port)).count() as u32;
        Ok(Ports { remote, netns: netns.inum, low, high, used })
    })
}

/// The smallest memory limit above an OOM victim, from its cgroup while that still exists.
pub(super) fn memory(oom: &Oom) -> Option<MemoryLimit> {
    let own = cgroup::of(oom.victim.pid).memory;
    // The kernel's record has the last component only, which finds the group of a victim that is gone where that group
    // is below the root.
    let named = oom.limit_cgroup.as_ref().or(oom.victim_cgroup.as_ref());
    let named =
        named.into_iter().flat_map(|path| [true, false].map(|v1| MemoryGroup { path: path.clone(), v1 }));
    own.into_iter().chain(named).find_map(|group| {
        let root = Path::new(if group.v1 { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" });
        let (cgroup, limit_bytes, usage_bytes) = smallest_limit(root, &group)?;
        Some(MemoryLimit { victim: oom.victim.clone(), cgroup, limit_bytes, usage_bytes })
    })
}

/// Climbs from the group to the root: every level limits all below it.
fn smallest_limit(root: &Path, group: &MemoryGroup) -> Option<(String, u64, Option<u64>)> {
    let (limit, usage) = match group.v1 {
        true => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        false => ("memory.max", "memory.current"),
    };
    let relative = Path::new(&group.path);
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    relative.components().all(plain).then_some(())?;
    let value = |directory: &PathBuf, file: &str| number(std::fs::read(directory.join(file)).ok()?.trim());
    relative
        .ancestors()
        .filter_map(|level| {
            let directory = root.join(level.strip_prefix("/").unwrap_or(level));
            // v1 writes "no limit" as the largest multiple of the page size.
            let bytes = value(&directory, limit).filter(|bytes| *bytes < i64::MAX as u64 / 2)?;
            Some((level.to_string_lossy().into_owned(), bytes, value(&directory, usage)))
        })
        .min_by_key(|(_, bytes, _)| *bytes)
}

fn number(text: &[u8]) -> Option<u64> {
    text.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_descriptors_within_its_limit() {
        let limits = descriptors(Pid(std::process::id())).expect("own limits");
        assert!(limits.open > 0 && limits.open <= limits.nofile);
        assert!(limits.file_used > 0 && limits.file_used <= limits.file_max);
        assert!(descriptors(Pid(u32::MAX)).is_err());
    }

    #[test]
    fn a_connection_uses_one_port_towards_its_destination() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let remote = listener.local_addr().expect("an address");
        let own = Pid(std::process::id());
        let before = ports(own, remote).expect("ports");
        assert!(before.low < before.high && before.used == 0);
        let _connections = [(); 3].map(|()| std::net::TcpStream::connect(remote).expect("a connection"));
        assert_eq!(ports(own, remote).expect("ports").used, 3);
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let root = tempfile::tempdir().expect("a directory");
        let inner = root.path().join("app.slice/app.service");
        std::fs::create_dir_all(&inner).expect("directories");
        std::fs::write(inner.join("memory.max"), "max\n").expect("a file");
        std::fs::write(root.path().join("app.slice/memory.max"), "1048576\n").expect("a file");
        std::fs::write(root.path().join("app.slice/memory.current"), "4096\n").expect("a file");
        let group = |path: &str| MemoryGroup { path: path.into(), v1: false };
        let found = smallest_limit(root.path(), &group("/app.slice/app.service"));
        assert_eq!(found, Some(("/app.slice".into(), 1_048_576, Some(4096))));
        assert_eq!(smallest_limit(root.path(), &group("/../app.slice")), None);
        assert_eq!(smallest_limit(root.path(), &group("/gone")), None);
    }
}
