//! Least privilege: a tracer reads what strangers write, so that it gives up what it never needs before it reads anything.

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// What tracing needs, from the first program to the last look-up.
const NEEDED: [Capability; 10] = [
    // Programs, maps, probes.
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_SYS_ADMIN,
    // The locked memory of maps, before Linux 5.11.
    Capability::CAP_SYS_RESOURCE,
    // Other people's processes: their memory maps, descriptors, namespaces.
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    // Entering a mount or network namespace, and asking which programs guard a cgroup.
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_NET_ADMIN,
    // The kernel's log, which says where a process crashed.
    Capability::CAP_SYSLOG,
    // A capture's next part, in a folder of the person behind sudo.
    Capability::CAP_DAC_OVERRIDE,
];

/// Gives up all other capabilities for good, also for programs that this one starts, and keeps this process's memory from being
/// dumped. Must be called before there is a second thread: capabilities are a thread's.
///
/// What cannot be given up is only reported: tracing works with it.
pub fn restrict() {
    if let Err(error) = give_up() {
        log::debug!("capabilities are kept: {error}");
    }
    if let Err(error) = prctl::set_no_new_privs() {
        log::debug!("programs that this one starts may have more privileges: {error}");
    }
    // Look-ups of itself through /proc still work: they are of one process.
    if let Err(error) = prctl::set_dumpable(false) {
        log::debug!("this process can be dumped: {error}");
    }
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        log::debug!("this process can leave a core file: {error}");
    }
}

fn give_up() -> Result<(), caps::errors::CapsError> {
    let needed = CapsHashSet::from(NEEDED);
    let has = caps::read(None, CapSet::Permitted)?;
    // It takes CAP_SETPCAP, which goes with the others.
    if has.contains(&Capability::CAP_SETPCAP) {
        for unneeded in caps::read(None, CapSet::Bounding)?.difference(&needed) {
            caps::drop(None, CapSet::Bounding, *unneeded)?;
        }
    }
    let kept: CapsHashSet = has.intersection(&needed).copied().collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}
