//! Births and deaths of processes that matter: nginx's, and those that may hold a listening socket.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use ngx502_common::{
    config::{FileKey, KnownBinary},
    event::{Exec, Exit, Fork, KIND_EXEC, KIND_EXIT, KIND_FORK},
};

use crate::{
    emit, filter,
    kernel::{self, offset},
    maps::{BINARIES, HOLDERS, TRACED},
    task, thread,
};

/// The low bits of an exit code: a signal number.
const SIGNAL_BITS: i32 = 0x7f;

/// `TRACE_EVENT(sched_process_fork, TP_PROTO(struct task_struct *parent, struct task_struct *child))`
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    let (parent, child): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    let parent_id = kernel::read_or(parent, offset!(task_tgid), 0u32);
    let child_id = kernel::read_or(child, offset!(task_tgid), 0u32);
    if parent_id == child_id {
        return 0;
    }
    // SAFETY: copied at once.
    let traced = unsafe { TRACED.get(&parent_id) }.copied();
    // SAFETY: only looked at for presence. init is left out: everything descends from it, and what it opened for a
    // service shows in the snapshot that is taken when that service fails.
    let holds = parent_id != 1 && unsafe { HOLDERS.get(&parent_id) }.is_some();
    if let Some(traced) = traced {
        filter::worker_added(child_id);
        let _ = TRACED.insert(&child_id, &traced, 0);
    }
    if holds {
        let _ = HOLDERS.insert(&child_id, &1, 0);
    }
    if traced.is_some() || holds {
        emit::send(&Fork {
            header: emit::header(KIND_FORK),
            parent: task::process(parent),
            child: task::process(child),
        });
    }
    0
}

/// `TRACE_EVENT(sched_process_exec, TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm))`
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    let tgid = task::tgid();
    // Another program is no longer traced, unless it is an nginx that has its probes already: a restarted one may fail
    // a request before user space has had a look.
    let was_traced = TRACED.remove(&tgid).is_ok();
    if let Some(known) = known_binary(ctx.arg(2))
        && (was_traced || known.anyone != 0)
    {
        filter::worker_added(tgid);
        let _ = TRACED.insert(&tgid, &known.traced, 0);
    }
    emit::send(&Exec { header: emit::header(KIND_EXEC), process: task::process(ctx.arg(0)) });
    0
}

/// The entry of the file that a `struct linux_binprm *` executes.
#[inline(always)]
fn known_binary(binprm: u64) -> Option<KnownBinary> {
    let file = kernel::read_or(binprm, offset!(binprm_file), 0u64);
    let inode = kernel::read_or(file, offset!(file_inode), 0u64);
    let superblock = kernel::read_or(inode, offset!(inode_sb), 0u64);
    let device: u32 = kernel::read(superblock, offset!(sb_dev))?;
    let key = FileKey { inode: kernel::read(inode, offset!(inode_number))?, device: u64::from(device) };
    // SAFETY: copied at once.
    unsafe { BINARIES.get(&key) }.copied()
}

/// `TRACE_EVENT(sched_process_exit, TP_PROTO(struct task_struct *p[, bool group_dead]))`: before its files are closed.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    if task::is_traced() {
        thread::ended();
    }
    let signal = kernel::read_or(task, offset!(task_signal), 0u64);
    // The last thread need not be the leader.
    if kernel::read_or(signal, offset!(signal_live), 1i32) != 0 {
        return 0;
    }
    let tgid = task::tgid();
    let traced = TRACED.remove(&tgid).is_ok();
    let held = HOLDERS.remove(&tgid).is_ok();
    let code = task::exit_code(task);
    if traced || held || code & SIGNAL_BITS != 0 {
        let parent = kernel::read_or(task, offset!(task_real_parent), 0u64);
        emit::send(&Exit {
            header: emit::header(KIND_EXIT),
            process: task::process(task),
            cgroup: task::cgroup(),
            parent: kernel::read_or(parent, offset!(task_tgid), 0),
            code,
            oom_victim: u32::from(kernel::read_or(signal, offset!(signal_oom_mm), 0u64) != 0),
            reserved: 0,
        });
    }
    0
}
