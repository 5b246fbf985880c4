//! The container: a file header, then frames that can be read each on its own.
//!
//! All numbers are little endian. The checksums are CRC-32 (IEEE). Limits hold for readers; writers stay far below.

use serde::{Deserialize, Serialize};

use crate::event::Nanos;
use crate::session::Session;

/// Readers refuse a file with a larger one.
pub const MAJOR: u16 = 1;
/// Counts compatible additions: readers skip what they do not know.
pub const MINOR: u16 = 0;

/// The first bytes of a capture; the first is no ASCII, the end catches text-mode transfers, as in PNG.
pub(super) const FILE_MAGIC: [u8; 8] = *b"\x89NGX\r\n\x1a\n";
/// The first bytes of a frame, which readers look for after damage.
pub(super) const FRAME_MAGIC: [u8; 8] = *b"\xf5N502FR\xfa";
/// Magic, major, minor, checksum.
pub(super) const FILE_HEADER: usize = 16;
/// Magic, kind, flags, two reserved bytes, five u32, two u64.
pub(super) const FRAME_HEADER: usize = 48;
/// The largest payload that a reader accepts, compressed or not.
pub(super) const MAX_FRAME: usize = 4 << 20;
/// The most text, repetitions counted, that a frame may expand to.
pub(super) const MAX_TEXT: usize = 64 << 20;
/// At this many bytes in its columns a writer closes a frame.
pub(super) const FULL_FRAME: usize = 1 << 20;
/// At this much text a writer closes a frame.
pub(super) const FULL_TEXT: usize = 16 << 20;
/// Set on a frame of records that the previous part of a rotated capture holds too.
pub(super) const CARRIED: u8 = 1;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// [`Opening`] as JSON.
    Opening,
    /// Records in columns.
    Records,
    /// [`End`] as JSON.
    End,
    /// Of a later minor version.
    Other(u8),
}

/// The metadata of one capture file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Opening {
    /// The trace that it belongs to.
    pub session: Session,
    /// 0 for the first file of a trace, counted up by rotation.
    pub part: u64,
}

/// The last frame of a capture that was closed in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// Records of the trace so far, all parts together.
    pub records: u64,
    /// Events of the trace that never reached the capture, all parts together.
    pub lost_events: u64,
    /// True when the trace goes on in the next part.
    pub continued: bool,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: FrameKind,
    pub(super) flags: u8,
    pub(super) records: u32,
    /// Bytes of the payload in the file.
    pub(super) stored: u32,
    /// Bytes of the payload after decompression.
    pub(super) size: u32,
    /// The earliest and the latest [`crate::event::Record::at`]; 0 without records.
    pub(super) times: (Nanos, Nanos),
    /// CRC-32 of the payload in the file.
    pub(super) checksum: u32,
}

/// The bytes that every capture of this version begins with.
pub(super) fn file_header() -> [u8; FILE_HEADER] {
    let mut bytes = [0; FILE_HEADER];
    bytes[..8].copy_from_slice(&FILE_MAGIC);
    bytes[8..10].copy_from_slice(&MAJOR.to_le_bytes());
    bytes[10..12].copy_from_slice(&MINOR.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

impl FrameHeader {
    /// The header as it is stored.
    pub(super) fn encode(&self) -> [u8; FRAME_HEADER] {
        let mut bytes = [0; FRAME_HEADER];
        bytes[..8].copy_from_slice(&FRAME_MAGIC);
        bytes[8] = match self.kind {
            FrameKind::Opening => 1,
            FrameKind::Records => 2,
            FrameKind::End => 3,
            FrameKind::Other(kind) => kind,
        };
        bytes[9] = self.flags;
        bytes[12..16].copy_from_slice(&self.records.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.stored.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.size.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.times.0.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.times.1.0.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.checksum.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..44]);
        bytes[44..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a header; `None` when it is not whole or not within the limits.
    pub(super) fn decode(bytes: &[u8]) -> Option<FrameHeader> {
        let bytes = bytes.first_chunk::<FRAME_HEADER>()?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[..8] != FRAME_MAGIC || crc32fast::hash(&bytes[..44]) != u32_at(44) {
            return None;
        }
        let header = FrameHeader {
            kind: match bytes[8] {
                1 => FrameKind::Opening,
                2 => FrameKind::Records,
                3 => FrameKind::End,
                kind => FrameKind::Other(kind),
            },
            flags: bytes[9],
            records: u32_at(12),
            stored: u32_at(16),
            size: u32_at(20),
            times: (Nanos(u64_at(24)), Nanos(u64_at(32))),
            checksum: u32_at(40),
        };
        let within = |size: u32| size as usize <= MAX_FRAME;
        (within(header.stored) && within(header.size)).then_some(header)
    }
}
