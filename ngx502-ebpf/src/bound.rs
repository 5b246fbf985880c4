//! Limits that verifiers before Linux 6.8 believe.

use core::arch::asm;

/// `len`, at most `MAX`, which must fit a jump's immediate operand.
///
/// Written in plain Rust the compiler may compare one copy of `len` and pass another one, which it had spilled to the
/// stack; older verifiers do not know that the two are equal: "invalid access to map value, size=65535".
#[inline(always)]
pub fn at_most<const MAX: usize>(mut len: u64) -> u64 {
    const { assert!(MAX <= i32::MAX as usize) };
    // SAFETY: two register instructions; the second one is jumped over or not.
    unsafe {
        asm!("if {len} <= {max} goto +1", "{len} = {max}", len = inout(reg) len, max = const MAX, options(nomem, nostack));
    }
    len
}
