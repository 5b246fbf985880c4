//! A window on a stream that can look ahead, so that a reader may search for the next frame after damage.

use std::io::{self, Read};

use bstr::ByteSlice as _;

use super::format::FRAME_MAGIC;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// The unread part of a stream; grows to what is asked for, which the caller bounds.
pub(super) struct Window<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    /// Where in the stream the window begins.
    offset: u64,
    ended: bool,
}

impl<R: Read> Window<R> {
    pub(super) fn new(input: R) -> Self {
        Window { input, buffer: Vec::new(), start: 0, offset: 0, ended: false }
    }

    /// Bytes consumed so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next `len` bytes, fewer at the end of the stream.
    pub(super) fn peek(&mut self, len: usize) -> io::Result<&[u8]> {
        while self.buffer.len() - self.start < len && !self.ended {
            self.fill()?;
        }
        let end = self.buffer.len().min(self.start + len);
        Ok(&self.buffer[self.start..end])
    }

    /// Moves on by at most `len` bytes that were peeked at.
    pub(super) fn consume(&mut self, len: usize) {
        let len = len.min(self.buffer.len() - self.start);
        self.start += len;
        self.offset += len as u64;
    }

    /// Moves to the next frame's magic or the end.
    pub(super) fn seek_frame(&mut self) -> io::Result<()> {
        loop {
            let seen = self.peek(CHUNK)?;
            if let Some(at) = seen.find(FRAME_MAGIC) {
                self.consume(at);
                return Ok(());
            }
            let seen = seen.len();
            let is_rest = self.ended && seen == self.buffer.len() - self.start;
            // The magic may straddle the end of what was searched.
            self.consume(if is_rest { seen } else { seen.saturating_sub(FRAME_MAGIC.len() - 1) });
            if self.ended && self.start == self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let len = self.buffer.len();
        self.buffer.resize(len + CHUNK, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[len..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(len + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(())
    }
}
