//! The only raw reads of kernel memory, through offsets that the loader took from this kernel's BTF.

use aya_ebpf::helpers::{bpf_probe_read_kernel, generated};
use ngx502_common::config::{ABSENT, KernelLayout};

use crate::bound;

/// Filled in by the loader before the programs are loaded; read-only afterwards, so that the verifier knows each
/// value and drops the branches of what is absent.
#[unsafe(no_mangle)]
static KERNEL: KernelLayout = KernelLayout::NONE;

/// An offset of this kernel.
macro_rules! offset {
    ($field:ident) => {
        $crate::kernel::offset_at(core::mem::offset_of!(ngx502_common::config::KernelLayout, $field))
    };
}
pub(crate) use offset;

/// Reads the offset that lies `at` bytes into the layout; volatile, so that the compiler cannot fold the placeholder
/// in: the loader rewrites the section.
#[inline(always)]
pub fn offset_at(at: usize) -> u16 {
    // SAFETY: `at` comes from `offset_of!`, every field is a u16.
    unsafe { (&raw const KERNEL).cast::<u8>().add(at).cast::<u16>().read_volatile() }
}

/// Reads a member; `None` where the kernel has no such member or the address is bad.
#[inline(always)]
pub fn read<T: Copy>(base: u64, offset: u16) -> Option<T> {
    if offset == ABSENT || base == 0 {
        return None;
    }
    // SAFETY: the helper checks the address itself.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T).ok() }
}

/// Reads a member, with the type's zero in place of nothing.
#[inline(always)]
pub fn read_or<T: Copy>(base: u64, offset: u16, otherwise: T) -> T {
    read(base, offset).unwrap_or(otherwise)
}

/// Copies `N` bytes at an address; whether it worked.
#[inline(always)]
pub fn copy<const N: usize>(to: &mut [u8; N], from: u64) -> bool {
    // SAFETY: `to` is N writable bytes, the helper checks `from`.
    unsafe { generated::bpf_probe_read_kernel(to.as_mut_ptr().cast(), N as u32, from as *const _) == 0 }
}

/// Copies `len` bytes, at most `MAX`, to the beginning of a buffer; how many were copied.
#[inline(always)]
pub fn copy_bytes<const N: usize, const MAX: usize>(to: &mut [u8; N], from: u64, len: u64) -> u16 {
    const { assert!(MAX <= N) };
    let len = bound::at_most::<MAX>(len);
    // SAFETY: `to` has at least `len` writable bytes, the helper checks `from`.
    let result =
        unsafe { generated::bpf_probe_read_kernel(to.as_mut_ptr().cast(), len as u32, from as *const _) };
    if result == 0 { len as u16 } else { 0 }
}

/// Copies a large struct between maps by one helper call; the compiler would copy it byte by byte in a loop.
#[inline(always)]
pub fn copy_struct<T: Copy>(to: &mut T, from: &T) {
    // SAFETY: both are valid for the struct's size.
    unsafe {
        generated::bpf_probe_read_kernel(
            core::ptr::from_mut(to).cast(),
            size_of::<T>() as u32,
            core::ptr::from_ref(from).cast(),
        );
    }
}

/// Copies a NUL-terminated string; its length without the NUL.
#[inline(always)]
pub fn copy_str<const N: usize>(to: &mut [u8; N], from: u64) -> u16 {
    // SAFETY: `to` is N writable bytes, the helper checks `from`.
    let n =
        unsafe { generated::bpf_probe_read_kernel_str(to.as_mut_ptr().cast(), N as u32, from as *const _) };
    if n > 0 { (n - 1) as u16 } else { 0 }
}
