//! The OOM killer's victims.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use ngx502_common::event::{KIND_OOM, Oom, Process};

use crate::{
    emit,
    kernel::{self, offset},
    task,
};

/// How many levels of nested memory cgroups are looked at.
const DEPTH: usize = 8;
/// `PAGE_COUNTER_MAX` and above: no limit.
const UNLIMITED: u64 = i64::MAX as u64 / 4096;
/// A cgroup whose use is this close to its limit, in pages, is the one that ran out: a charge is refused when it
/// would pass the limit, and the per-CPU stock holds back up to 64 pages a CPU.
const NEAR: u64 = 512;

const SCOPE_UNKNOWN: u32 = 0;
const SCOPE_CGROUP: u32 = 1;

/// `TRACE_EVENT(mark_victim, TP_PROTO(struct task_struct *task, uid_t uid))`; up to 5.10 and in older stable kernels
/// the argument is a pid, and only the number is known.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn mark_victim(ctx: RawTracePointContext) -> i32 {
    let argument: u64 = ctx.arg(0);
    // SAFETY: integers and byte arrays, for which zero is valid.
    let mut oom: Oom = unsafe { core::mem::zeroed() };
    oom.header = emit::header(KIND_OOM);
    oom.trigger = task::process(task::current());
    oom.limit_pages = u64::MAX;
    oom.rss_pages = u64::MAX;
    oom.scope = SCOPE_UNKNOWN;
    if offset!(mark_victim_is_task) == 1 {
        oom.victim = task::process(argument);
        oom.rss_pages = resident_pages(argument);
        limiting_cgroup(&mut oom, argument);
    } else {
        oom.victim = Process { start: 0, pid: argument as u32, reserved: 0, comm: [0; 16] };
    }
    emit::send(&oom);
    0
}

/// MM_FILEPAGES, MM_ANONPAGES and MM_SHMEMPAGES, the first, second and fourth counter.
#[inline(always)]
fn resident_pages(task: u64) -> u64 {
    let mm = kernel::read_or(task, offset!(task_mm), 0u64);
    if mm == 0 || offset!(mm_rss) == u16::MAX {
        return u64::MAX;
    }
    let first = mm + u64::from(offset!(mm_rss));
    let stride = u64::from(offset!(mm_rss_stride));
    let mut pages = 0;
    for counter in [0, 1, 3] {
        let count = kernel::read_or(first + counter * stride, 0, 0i64);
        pages += if count > 0 { count as u64 } else { 0 };
    }
    pages
}

/// Names the victim's memory cgroup, and the nearest one upwards that has reached its limit.
#[inline(always)]
fn limiting_cgroup(oom: &mut Oom, task: u64) {
    let set = kernel::read_or(task, offset!(task_cgroups), 0u64);
    // A `mem_cgroup` begins with its `cgroup_subsys_state`.
    let mut group = kernel::read_or(set, offset!(css_set_memory), 0u64);
    oom.victim_cgroup_len = copy_name(&mut oom.victim_cgroup, group);
    for _ in 0..DEPTH {
        if group == 0 {
            return;
        }
        let limit = kernel::read_or(group, offset!(memcg_max), u64::MAX);
        let usage = kernel::read_or(group, offset!(memcg_usage), 0u64);
        if limit < UNLIMITED && usage + NEAR >= limit {
            oom.scope = SCOPE_CGROUP;
            oom.limit_pages = limit;
            oom.cgroup_len = copy_name(&mut oom.cgroup, group);
            return;
        }
        group = kernel::read_or(group, offset!(css_parent), 0);
    }
}

#[inline(always)]
fn copy_name(to: &mut [u8; 96], group: u64) -> u16 {
    let cgroup = kernel::read_or(group, offset!(css_cgroup), 0u64);
    let node = kernel::read_or(cgroup, offset!(cgroup_kn), 0u64);
    match kernel::read_or(node, offset!(kernfs_name), 0u64) {
        0 => 0,
        name => kernel::copy_str(to, name),
    }
}
