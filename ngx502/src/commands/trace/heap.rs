//! A start takes much memory that a trace does not need: the kernel's types, the BPF object, nginx's debug information.
//! Freed, it would stay with the allocator for as long as the trace runs.

/// Returns freed memory to the kernel, where the allocator is glibc's; others do so by themselves.
pub(super) fn give_back() {
    // SAFETY: touches nothing but what is free, and any thread may call it at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
