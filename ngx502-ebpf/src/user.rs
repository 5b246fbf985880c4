//! The only raw reads of nginx's memory.

use aya_ebpf::helpers::{bpf_probe_read_user, generated};

use crate::bound;

/// Reads a value of the current process; `None` when the page is not there.
#[inline(always)]
pub fn read<T: Copy>(address: u64) -> Option<T> {
    if address == 0 {
        return None;
    }
    // SAFETY: the helper checks the address itself.
    unsafe { bpf_probe_read_user(address as *const T).ok() }
}

/// Reads a `u64`, 0 when it cannot be read.
#[inline(always)]
pub fn word(address: u64) -> u64 {
    read(address).unwrap_or(0)
}

/// Copies a NUL-terminated string; its length without the NUL.
#[inline(always)]
pub fn copy_str<const N: usize>(to: &mut [u8; N], from: u64) -> u16 {
    if from == 0 {
        return 0;
    }
    // SAFETY: `to` is N writable bytes, the helper checks `from`.
    let n = unsafe { generated::bpf_probe_read_user_str(to.as_mut_ptr().cast(), N as u32, from as *const _) };
    if n > 0 { (n - 1) as u16 } else { 0 }
}

/// Copies `len` bytes, at most `N`; how many were copied.
#[inline(always)]
pub fn copy_bytes<const N: usize>(to: &mut [u8; N], from: u64, len: u64) -> u16 {
    if from == 0 || len == 0 {
        return 0;
    }
    let len = bound::at_most::<N>(len);
    // SAFETY: `len` is at most N, the helper checks `from`.
    let result =
        unsafe { generated::bpf_probe_read_user(to.as_mut_ptr().cast(), len as u32, from as *const _) };
    if result == 0 { len as u16 } else { 0 }
}

/// Copies an `ngx_str_t { size_t len; u_char *data; }` at `address`.
#[inline(always)]
pub fn copy_ngx_str<const N: usize>(to: &mut [u8; N], address: u64) -> u16 {
    match read::<[u64; 2]>(address) {
        Some([len, data]) => copy_text(to, len, data),
        None => 0,
    }
}

/// A peer's name: its length, and 1 where only its address could be read. In an upstream with a `zone` names are in
/// shared memory, of which a worker sees a page only once it has touched it; user space can read it all the same.
#[inline(always)]
pub fn copy_peer_name<const N: usize>(to: &mut [u8; N], address: u64) -> (u16, u32) {
    if address == 0 {
        return (0, 0);
    }
    let len = copy_ngx_str(to, address);
    if len == 0 {
        to[..8].copy_from_slice(&address.to_ne_bytes());
    }
    (len, u32::from(len == 0))
}

/// Copies the text of an `ngx_str_t` whose members are known.
#[inline(always)]
pub fn copy_text<const N: usize>(to: &mut [u8; N], len: u64, data: u64) -> u16 {
    if len < 1 << 16 { copy_bytes(to, data, len) } else { 0 }
}

/// Copies `N` bytes; whether all of them could be read.
#[inline(always)]
pub fn copy<const N: usize>(to: &mut [u8; N], from: u64) -> bool {
    // SAFETY: `to` is N writable bytes, the helper checks `from`.
    from != 0
        && unsafe { generated::bpf_probe_read_user(to.as_mut_ptr().cast(), N as u32, from as *const _) == 0 }
}
