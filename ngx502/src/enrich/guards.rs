//! What may refuse a worker besides permission bits and routes: security modules, seccomp, programs of its cgroup.
//!
//! Not here: what each of them decides, which the kernel does not show. Landlock and programs of the BPF security module
//! cannot be seen from outside at all.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use bstr::ByteSlice as _;
use nix::errno::Errno;
use nix::libc;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

use crate::event::{Confinement, Guards, Pid};
use crate::proc::{self, cgroup, status::numbers};

/// Where the unified hierarchy is mounted: alone, or beside the controllers of version 1.
const HIERARCHIES: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// `BPF_PROG_QUERY` of bpf(2).
const PROG_QUERY: libc::c_long = 16;
/// `BPF_F_QUERY_EFFECTIVE`: with the programs of the cgroups above.
const EFFECTIVE: u32 = 1;
/// `BPF_CGROUP_INET4_CONNECT`, `BPF_CGROUP_INET6_CONNECT`.
const CONNECT: [u32; 2] = [10, 11];
/// Modules that give each process a label by which they decide.
const LABELLING: [&str; 3] = ["selinux", "apparmor", "smack"];

/// What guards a worker; an error when it is gone.
pub(super) fn of(worker: Pid) -> io::Result<Guards> {
    let status = proc::read(&format!("/proc/{worker}/status"))?;
    let modules = text("/sys/kernel/security/lsm");
    Ok(Guards {
        worker,
        confinement: confinement(worker, modules.as_deref()),
        modules,
        // 2 is SECCOMP_MODE_FILTER.
        seccomp: numbers(&status, "Seccomp:").next().map(|mode| mode == 2),
        cgroup_programs: cgroup_programs(worker),
    })
}

/// AppArmor has a file of its own since 5.8; `attr/current` belongs to whichever module came first.
fn confinement(worker: Pid, modules: Option<&str>) -> Option<Confinement> {
    if let Some(label) = text(&format!("/proc/{worker}/attr/apparmor/current")) {
        return Some(apparmor(&label));
    }
    let label = text(&format!("/proc/{worker}/attr/current"))?;
    let listed = modules.unwrap_or_default().split(',').find(|module| LABELLING.contains(module));
    // Without the list: SELinux's labels have four parts, AppArmor's a mode.
    let module = listed.unwrap_or(if label.matches(':').count() >= 2 { "selinux" } else { "apparmor" });
    if module == "apparmor" {
        return Some(apparmor(&label));
    }
    let enforced = (module == "selinux").then(|| text("/sys/fs/selinux/enforce")).flatten();
    Some(Confinement {
        module: module.to_owned(),
        label,
        enforced: enforced.and_then(|flag| flag.parse::<u8>().ok()).map(|flag| flag != 0),
    })
}

/// `nginx (enforce)`, `nginx (complain)`, `unconfined`.
fn apparmor(label: &str) -> Confinement {
    let enforced = match label.rsplit_once(" (") {
        Some((_, mode)) => Some(matches!(mode, "enforce)" | "kill)" | "mixed)")),
        None => Some(label != "unconfined"),
    };
    Confinement { module: "apparmor".into(), label: label.to_owned(), enforced }
}

/// Programs that every TCP connect of the worker's cgroup runs through.
fn cgroup_programs(worker: Pid) -> Option<u32> {
    let path = cgroup::unified(worker)?;
    let group = HIERARCHIES.iter().find_map(|root| {
        let group = File::open(Path::new(root).join(path.trim_start_matches('/'))).ok()?;
        (fstatfs(&group).ok()?.filesystem_type() == CGROUP2_SUPER_MAGIC).then_some(group)
    })?;
    CONNECT
        .iter()
        .map(|kind| count(&group, *kind))
        .sum::<nix::Result<u32>>()
        .inspect_err(|error| log::debug!("programs of the cgroup {path} cannot be counted: {error}"))
        .ok()
}

/// The part of `union bpf_attr` that BPF_PROG_QUERY reads and writes, up to the count.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    reserved: u32,
}

fn count(group: &File, attach_type: u32) -> nix::Result<u32> {
    let target = u32::try_from(group.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    let mut query = Query { target, attach_type, query_flags: EFFECTIVE, ..Query::default() };
    // SAFETY: the kernel reads and writes no more of `query` than the size it is given, and, with no room for
    // identifiers announced, nothing through its pointer.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>() as u32) };
    Errno::result(result)?;
    Ok(query.count)
}

fn text(path: &str) -> Option<String> {
    let bytes = proc::read(path).ok()?;
    let text = bytes.trim_end_with(|c| c == '\0' || c == '\n').to_str_lossy().into_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_apparmor_label_tells_whether_it_is_enforced() {
        let enforced = |label: &str| apparmor(label).enforced;
        assert_eq!(enforced("/usr/sbin/nginx (enforce)"), Some(true));
        assert_eq!(enforced("nginx (complain)"), Some(false));
        assert_eq!(enforced("nginx (unconfined)"), Some(false));
        assert_eq!(enforced("unconfined"), Some(false));
    }

    #[test]
    fn this_process_is_guarded_by_what_its_status_says() {
        let found = of(Pid(std::process::id())).expect("own guards");
        let status = std::fs::read_to_string("/proc/self/status").expect("own status");
        assert_eq!(found.seccomp, Some(status.contains("Seccomp:\t2")));
        assert!(of(Pid(u32::MAX)).is_err());
    }
}
