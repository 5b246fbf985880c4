//! The addresses of a socket, read at once.

use ngx502_common::net::{AF_INET, AF_INET6};

use crate::{
    kernel::{self, offset},
    state::{SOCK_COMMON, SockCommon},
};

impl SockCommon {
    pub const EMPTY: Self = Self([0; SOCK_COMMON]);

    /// Reads it in place, since a returned one would take its room on the stack twice; whether it worked.
    #[inline(always)]
    pub fn load(&mut self, sk: u64) -> bool {
        sk != 0 && kernel::copy(&mut self.0, sk)
    }

    /// A member; `None` where the kernel has none, or has it farther behind.
    #[inline(always)]
    pub fn get<T: Copy>(&self, offset: u16) -> Option<T> {
        if offset as usize > SOCK_COMMON - size_of::<T>() {
            return None;
        }
        // SAFETY: within the array; the kernel aligns its members, the array is aligned as `struct sock` is.
        Some(unsafe { self.0.as_ptr().add(offset as usize).cast::<T>().read() })
    }

    #[inline(always)]
    pub fn family(&self) -> u16 {
        self.get(offset!(skc_family)).unwrap_or(0)
    }

    /// Copies the addresses one after the other, which takes less of the stack than having both.
    #[inline(always)]
    pub fn copy_addresses(&self, local: &mut [u8; 16], remote: &mut [u8; 16]) {
        match self.family() {
            AF_INET => {
                self.copy_v4(local, offset!(skc_rcv_saddr));
                self.copy_v4(remote, offset!(skc_daddr));
            }
            AF_INET6 => {
                self.copy_v6(local, offset!(skc_v6_rcv_saddr));
                self.copy_v6(remote, offset!(skc_v6_daddr));
            }
            _ => {}
        }
    }

    #[inline(always)]
    fn copy_v4(&self, to: &mut [u8; 16], offset: u16) {
        *to = [0; 16];
        to[..4].copy_from_slice(&self.get::<u32>(offset).unwrap_or(0).to_ne_bytes());
    }

    #[inline(always)]
    fn copy_v6(&self, to: &mut [u8; 16], offset: u16) {
        *to = unmapped(self.get(offset).unwrap_or([0; 4]));
    }

    /// (local, remote); IPv4 in the first four bytes.
    #[inline(always)]
    pub fn addresses(&self) -> Option<([u8; 16], [u8; 16])> {
        match self.family() {
            AF_INET => {
                let local: u32 = self.get(offset!(skc_rcv_saddr))?;
                let remote: u32 = self.get(offset!(skc_daddr))?;
                Some((widen(local), widen(remote)))
            }
            AF_INET6 => {
                let local: [u32; 4] = self.get(offset!(skc_v6_rcv_saddr))?;
                let remote: [u32; 4] = self.get(offset!(skc_v6_daddr))?;
                Some((unmapped(local), unmapped(remote)))
            }
            _ => None,
        }
    }
}

/// An IPv4 address in the room for either.
#[inline(always)]
pub fn widen(address: u32) -> [u8; 16] {
    let mut wide = [0; 16];
    wide[..4].copy_from_slice(&address.to_ne_bytes());
    wide
}

/// An IPv6 address in the words as which the kernel aligns it; one that stands for an IPv4 address becomes that.
#[inline(always)]
pub fn unmapped([a, b, c, d]: [u32; 4]) -> [u8; 16] {
    if (a, b, c) == (0, 0, 0xffff_u32.to_be()) {
        return widen(d);
    }
    let mut all = [0; 16];
    all[..4].copy_from_slice(&a.to_ne_bytes());
    all[4..8].copy_from_slice(&b.to_ne_bytes());
    all[8..12].copy_from_slice(&c.to_ne_bytes());
    all[12..].copy_from_slice(&d.to_ne_bytes());
    all
}
