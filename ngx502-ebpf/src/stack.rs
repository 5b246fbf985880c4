//! Has a uprobe's program run on its own task's stack.
//!
//! Since 6.13 the kernel gives programs of this type a stack a CPU, as kprobes do not interrupt each other there. A
//! uprobe's program can be preempted, though, and another worker's then overwrites what it had on that stack: records
//! of two requests got mixed. No such stack is given where a program makes a tail call, if only to nowhere.

use aya_ebpf::{EbpfContext, macros::map, maps::ProgramArray};

/// Always empty.
#[map]
static NOWHERE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// To be called once in every uprobe's program, outside of its other functions; does nothing.
#[inline(always)]
pub fn opt_out_of_private_stack(ctx: &impl EbpfContext) {
    // SAFETY: the slot is empty, so that control comes back.
    unsafe { NOWHERE.tail_call(ctx, 0) };
}
