//! How talkative a running nginx's error log is.

use std::ops::RangeInclusive;

use super::{Binary, memory::Memory};
use crate::event::Pid;

/// `cycle->log`, after `conf_ctx` and `pool`: the same in every release and fork (`src/core/ngx_cycle.h`).
const CYCLE_LOG: u64 = 16;
/// NGX_LOG_DEBUG, the last of the levels.
const DEBUG: u64 = 8;
/// NGX_LOG_DEBUG_CORE and more: masks of what is debugged, instead of a level.
const DEBUG_MASKS: RangeInclusive<u64> = 0x10..=0xffff_ffff;

/// NGX_LOG_ERR, the least severe level at which nginx logs why an upstream failed.
const ERROR: u64 = 4;

/// Whether a log of this level leaves out why an upstream failed.
pub fn hides_failures(level: u64) -> bool {
    (1..ERROR).contains(&level)
}

/// Whether a log of this level may take more than a message a request: `debug`, where nginx was built for it.
pub fn is_debug(level: u64) -> bool {
    level >= DEBUG
}

/// The level of the main `error_log`, 1 (emerg) to 8 (debug) or a debug mask beyond, read from the process's memory;
/// locations may have others. `None` when it cannot be read, or is not a level.
pub fn log_level(pid: Pid, binary: &Binary, bias: u64) -> Option<u64> {
    let memory = Memory::of(pid)?;
    let cycle = memory.word(binary.cycle?.wrapping_add(bias))?;
    let log = memory.word(cycle.checked_add(CYCLE_LOG)?)?;
    memory.word(log).filter(|level| (1..=DEBUG).contains(level) || DEBUG_MASKS.contains(level))
}
