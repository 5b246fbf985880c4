//! What must hold before anything is loaded, each with the sentence to print when it does not.

use std::path::Path;

use super::btf;
use crate::proc;

/// A reason not to start.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Neither root nor the two capabilities.
    #[error(
        "no permission to load BPF programs (effective capabilities: {0:#x}). \
         Run ngx502 with sudo; before Linux 6.16, CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE suffice"
    )]
    Privileges(u64),
    /// Lockdown that forbids what the probes live on.
    #[error(
        "this kernel is in lockdown=confidentiality mode, which blocks BPF programs from reading kernel memory. \
         Boot it with lockdown=integrity or without lockdown"
    )]
    LockedDown,
    /// No BTF.
    #[error(
        "this kernel has no BTF type information at {path} ({0}), which the probes need to read kernel memory. \
         Use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as all current distributions are",
        path = btf::VMLINUX
    )]
    // Not its source, since the sentence says it already.
    NoTypes(btf_rs::Error),
}

/// The kernel's lockdown modes, the one in force in brackets.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

const CAP_SYS_PTRACE: u64 = 1 << 19;
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// The effective capabilities of this process, from `/proc/self/status`; 0 when they cannot be read.
pub fn effective_capabilities() -> u64 {
    proc::status::mask(&proc::read("/proc/self/status").unwrap_or_default(), "CapEff:")
}

/// Whether the capabilities suffice to load tracing programs.
pub fn may_trace(capabilities: u64) -> bool {
    capabilities & CAP_SYS_ADMIN != 0 || capabilities & (CAP_BPF | CAP_PERFMON) == CAP_BPF | CAP_PERFMON
}

/// What tracing without full root privileges will miss, as a sentence each.
pub fn shortcomings(capabilities: u64) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if capabilities & CAP_SYS_PTRACE == 0 {
        missing.push(
            "CAP_SYS_PTRACE is missing: nginx and upstream processes of other users are invisible; run ngx502 with sudo",
        );
    }
    if capabilities & CAP_SYS_ADMIN == 0 {
        missing.push(
            "CAP_SYS_ADMIN is missing: Linux 6.16 and later (and older ones with its fix) attach no uprobe to nginx \
             without it; if that fails, run ngx502 with sudo",
        );
    }
    missing
}

/// Checks privileges and reads the kernel's types.
///
/// # Errors
/// The first thing that is missing.
pub fn check() -> Result<btf::KernelTypes, Refusal> {
    let capabilities = effective_capabilities();
    if !may_trace(capabilities) {
        return Err(Refusal::Privileges(capabilities));
    }
    for shortcoming in shortcomings(capabilities) {
        log::warn!("{shortcoming}");
    }
    // Where the file cannot be read, the kernel's own refusal says so.
    if std::fs::read_to_string(LOCKDOWN).is_ok_and(|modes| modes.contains("[confidentiality]")) {
        return Err(Refusal::LockedDown);
    }
    btf::KernelTypes::from_file(Path::new(btf::VMLINUX)).map_err(Refusal::NoTypes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_privileges_lack_nothing() {
        assert_eq!(shortcomings(u64::MAX), [""; 0]);
        assert_eq!(shortcomings(CAP_SYS_ADMIN).len(), 1);
        assert_eq!(shortcomings(CAP_BPF | CAP_PERFMON).len(), 2);
    }

    #[test]
    fn a_missing_type_file_is_named_once() {
        let Err(reason) = btf::KernelTypes::from_file(Path::new("/nonexistent/btf")) else {
            panic!("there is no such file");
        };
        let missing = format!("{:#}", anyhow::Error::from(Refusal::NoTypes(reason)));
        assert_eq!(missing.matches("No such file").count(), 1, "{missing}");
    }

    #[test]
    fn either_admin_or_both_tracing_capabilities_suffice() {
        assert!(may_trace(CAP_SYS_ADMIN));
        assert!(may_trace(CAP_BPF | CAP_PERFMON));
        assert!(!may_trace(CAP_BPF));
        assert!(!may_trace(0));
    }
}
