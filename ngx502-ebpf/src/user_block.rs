//! A part of one of nginx's structs, copied at once: a read of user memory costs some 50 ns, whether it is of 8 bytes or
//! of 200.

use core::arch::asm;

use crate::{bound, state::UserBlock, user};

impl<const N: usize> UserBlock<N> {
    /// Copies what is at an address; whether all of it could be read.
    #[inline(always)]
    pub fn load(&mut self, address: u64) -> bool {
        self.address = address;
        user::copy(&mut self.bytes, address)
    }

    /// Copies a struct of `len` bytes, or its beginning; whether it could be read.
    #[inline(always)]
    pub fn load_struct(&mut self, address: u64, len: u64) -> bool {
        self.address = address;
        user::copy_bytes(&mut self.bytes, address, bound::at_most::<N>(len)) != 0
    }

    /// The word at a distance; what lies beyond is read by itself.
    #[inline(always)]
    pub fn word(&self, offset: u16) -> u64 {
        let mut at = u64::from(offset);
        if at > Self::LAST {
            return user::word(self.address.wrapping_add(at));
        }
        // As in `bound::at_most`: the bound must be on the very register that is added.
        // SAFETY: two register instructions; the second one is jumped over or not.
        unsafe {
            asm!("if {at} <= {last} goto +1", "{at} = {last}", at = inout(reg) at, last = const Self::LAST, options(nomem, nostack));
        }
        // SAFETY: within the array.
        unsafe { self.bytes.as_ptr().add(at as usize).cast::<u64>().read_unaligned() }
    }

    const LAST: u64 = N as u64 - 8;
}
