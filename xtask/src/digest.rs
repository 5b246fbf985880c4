//! A fingerprint of a stream that is too long to keep: whether a replay says what attribution said.
//!
//! Not for anything that somebody might want to forge.

use std::fmt;
use std::io;

/// FNV-1a of 64 bits, and the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    hash: u64,
    bytes: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, bytes: 0 }
    }
}

impl Digest {
    /// Takes the next bytes of the stream.
    pub fn add(&mut self, bytes: &[u8]) {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        self.hash = bytes.iter().fold(self.hash, step);
        self.bytes += bytes.len() as u64;
    }
}

impl io::Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} of {} bytes", self.hash, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_on_the_bytes_and_not_on_their_portions() {
        let digest = |portions: &[&str]| {
            let mut digest = Digest::default();
            portions.iter().for_each(|portion| digest.add(portion.as_bytes()));
            digest.to_string()
        };
        assert_eq!(digest(&["foo", "bar"]), "85944171f73967e8 of 6 bytes");
        assert_eq!(digest(&["foobar"]), digest(&["f", "ooba", "r"]));
        assert_ne!(digest(&["foobar"]), digest(&["foobaz"]));
    }
}
