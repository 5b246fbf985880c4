//! The container: a file header, then frames that can be read each on its own.
//!
//! All numbers are little endian. The checksums are CRC-32 (IEEE). Limits hold for readers; writers stay far below.

use serde::{Deserialize, Serialize};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

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

/// Kinds of frame: [`Opening`] as JSON, records in columns, [`End`] as JSON. Others are of a later minor version.
pub(super) const FRAME_OPENING: u8 = 1;
pub(super) const FRAME_RECORDS: u8 = 2;
pub(super) const FRAME_END: u8 = 3;

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

/// The header of a frame as it is stored.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct FrameHeader {
    pub(super) magic: [u8; 8],
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) reserved: [u8; 2],
    pub(super) records: U32,
    /// Bytes of the payload in the file.
    pub(super) stored: U32,
    /// Bytes of the payload after decompression.
    pub(super) size: U32,
    /// The earliest and the latest [`crate::event::Record::at`]; 0 without records.
    pub(super) times: [U64; 2],
    /// CRC-32 of the payload in the file.
    pub(super) payload_checksum: U32,
    /// CRC-32 of what is before it.
    pub(super) checksum: U32,
}

const _: () = assert!(size_of::<FrameHeader>() == FRAME_HEADER);

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
    /// The header with its magic and its checksum.
    pub(super) fn sealed(self) -> FrameHeader {
        let mut header = FrameHeader { magic: FRAME_MAGIC, ..self };
        header.checksum = header.own_checksum();
        header
    }

    /// Reads a header; `None` when it is not whole or not within the limits.
    pub(super) fn decode(bytes: &[u8]) -> Option<FrameHeader> {
        let (header, _) = FrameHeader::read_from_prefix(bytes).ok()?;
        let whole = header.magic == FRAME_MAGIC && header.checksum == header.own_checksum();
        let within = |size: U32| size.get() as usize <= MAX_FRAME;
        (whole && within(header.stored) && within(header.size)).then_some(header)
    }

    fn own_checksum(&self) -> U32 {
        crc32fast::hash(&self.as_bytes()[..FRAME_HEADER - 4]).into()
    }
}
