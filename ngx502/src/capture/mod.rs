//! Captures: the records of a trace in a file that every later version reads.
//!
//! A capture is a header and independent zstd frames with checksums (`format`); the first frame tells about the trace,
//! the others hold records in columns (`columns`, `shred`, `assemble`), in the live order. [`Writer`] makes captures
//! (files and rotation: `rotate`), [`Reader`] reads what is left of one. `docs/capture-format.md` is the full account.
//!
//! Not here: merging several captures (`source::file`), what to do with the records (`attribute`).

mod assemble;
mod columns;
mod format;
mod reader;
mod rotate;
mod shred;
#[cfg(test)]
mod tests;
mod window;
mod writer;

use std::borrow::Cow;

use bstr::{BStr, BString, ByteSlice};

pub use format::{End, MAJOR, MINOR, Opening};
pub use reader::{Damage, ReadError, Reader};
pub use rotate::{CreateError, Retention, check};
pub use writer::{Options, Stopped, Totals, Writer, without_query};

/// A request line without the URI's query string, which may carry secrets: `GET /a?token=x HTTP/1.1` becomes
/// `GET /a HTTP/1.1`. A line that was cut loses everything from the question mark on; so does one whose query contains
/// spaces, up to the last protocol version.
pub fn strip_query(request_line: &BStr) -> Cow<'_, BStr> {
    let Some(query) = request_line.find_byte(b'?') else { return Cow::Borrowed(request_line) };
    let tail = request_line[query..].rfind(b" HTTP/").map_or(&b""[..], |at| &request_line[query + at..]);
    // Only a version may follow: anything longer or odd is a part of the query that poses as one.
    let is_version =
        tail.len() <= b" HTTP/1.1\r\n".len() && tail.iter().skip(6).all(|b| b"0123456789.\r\n".contains(b));
    let tail = if is_version { tail } else { b"" };
    Cow::Owned(BString::from([&request_line[..query], tail].concat()))
}
