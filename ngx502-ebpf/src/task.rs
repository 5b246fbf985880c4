//! Who runs, and who a task is.

use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task};
use ngx502_common::event::Process;

use crate::{
    filter,
    kernel::{self, offset},
    maps::TRACED,
};

/// PF_EXITING of `task_struct.flags`, unchanged since 2.6.
const EXITING: u32 = 4;

/// The current thread-group id.
#[inline(always)]
pub fn tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Whether the current process is a traced nginx.
#[inline(always)]
pub fn is_traced() -> bool {
    let tgid = tgid();
    // SAFETY: only looked at for presence.
    filter::may_trace(tgid) && unsafe { TRACED.get(&tgid) }.is_some()
}

/// The current thread id.
#[inline(always)]
pub fn tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// The current `task_struct *`.
#[inline(always)]
pub fn current() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_task() }
}

/// The current task's cgroup v2 id.
#[inline(always)]
pub fn cgroup() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_cgroup_id() }
}

/// The process that a task belongs to, named after its leader.
#[inline(always)]
pub fn process(task: u64) -> Process {
    let leader = kernel::read_or(task, offset!(task_group_leader), task);
    let mut process = Process {
        start: kernel::read_or(leader, offset!(task_start), 0),
        pid: kernel::read_or(task, offset!(task_tgid), 0),
        reserved: 0,
        comm: [0; 16],
    };
    kernel::copy(&mut process.comm, leader + u64::from(offset!(task_comm)));
    process
}

/// The number of a task's mount namespace; 0 when it has none any more.
#[inline(always)]
pub fn mounts(task: u64) -> u32 {
    let nsproxy = kernel::read_or(task, offset!(task_nsproxy), 0u64);
    let namespace = kernel::read_or(nsproxy, offset!(nsproxy_mnt_ns), 0u64);
    kernel::read_or(namespace, offset!(mnt_namespace_inum), 0)
}

/// Whether a task is on its way out.
#[inline(always)]
pub fn is_exiting(task: u64) -> bool {
    kernel::read_or(task, offset!(task_flags), 0u32) & EXITING != 0
}

/// The exit code that wait(2) will give: the group's where one was set, else the task's own.
#[inline(always)]
pub fn exit_code(task: u64) -> i32 {
    let signal = kernel::read_or(task, offset!(task_signal), 0u64);
    let group = kernel::read_or(signal, offset!(signal_group_exit_code), 0i32);
    if group != 0 { group } else { kernel::read_or(task, offset!(task_exit_code), 0) }
}
