//! Signals that may kill, and who sent them.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use ngx502_common::event::{KIND_SIGNAL, Signal};

use crate::{
    emit,
    kernel::{self, offset},
    task,
};

/// HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STOP TSTP TTIN TTOU XCPU XFSZ VTALRM PROF SYS: what
/// ends or stops a process, or makes a supervisor end one. The frequent ones (CHLD, WINCH, the C library's own) are left out.
const FATAL: u64 = 1 << 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 9
    | 1 << 10
    | 1 << 11
    | 1 << 12
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 19
    | 1 << 20
    | 1 << 21
    | 1 << 22
    | 1 << 24
    | 1 << 25
    | 1 << 26
    | 1 << 27
    | 1 << 31;
/// VTALRM PROF: profilers have hundreds a second from the kernel's timers; only those that a process sends are news.
const TIMERS: u64 = 1 << 26 | 1 << 27;
/// ILL TRAP BUS FPE SEGV: `si_addr` is an address.
const FAULTS: u64 = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 11;

/// `info` may be one of two small numbers in place of a pointer.
const SEND_SIG_NOINFO: u64 = 0;
const SEND_SIG_PRIV: u64 = 1;
const SI_KERNEL: i32 = 0x80;
/// A timer of timer_create(2) ran out, in whose context ever.
const SI_TIMER: i32 = -2;

/// `TRACE_EVENT(signal_generate, TP_PROTO(int sig, struct kernel_siginfo *info, struct task_struct *task, int group,
/// int result))`
#[raw_tracepoint(tracepoint = "signal_generate")]
pub fn signal_generate(ctx: RawTracePointContext) -> i32 {
    let (signal, info, target): (i32, u64, u64) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let result: i32 = ctx.arg(4);
    // TRACE_SIGNAL_DELIVERED; the others were ignored, pending already or lost.
    if result != 0 || !(1..64).contains(&signal) || FATAL >> signal & 1 == 0 {
        return 0;
    }
    let code = match info {
        SEND_SIG_NOINFO => 0,
        SEND_SIG_PRIV => SI_KERNEL,
        info => kernel::read_or(info, offset!(siginfo_code), 0i32),
    };
    let from_user = code <= 0 && code != SI_TIMER;
    if !from_user && TIMERS >> signal & 1 == 1 {
        return 0;
    }
    let is_fault = info > SEND_SIG_PRIV && code > 0 && FAULTS >> signal & 1 == 1;
    emit::send(&Signal {
        header: emit::header(KIND_SIGNAL),
        target: task::process(target),
        sender: task::process(task::current()),
        sender_cgroup: task::cgroup(),
        fault_address: if is_fault { kernel::read_or(info, offset!(siginfo_addr), 0) } else { 0 },
        signal,
        code,
        from_user: u32::from(from_user),
        has_fault_address: u32::from(is_fault),
    });
    0
}
