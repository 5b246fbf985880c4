//! Reading a capture, whatever has happened to it.
//!
//! The reader yields the records of every whole frame in order. Where bytes are missing or wrong it goes on at the next
//! frame and notes a [`Damage`]. It never panics, and its memory is bounded by the format's limits, not by the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

use super::columns::{ColumnDecoder, ColumnError};
use super::format::{
    CARRIED, End, FILE_HEADER, FILE_MAGIC, FRAME_END, FRAME_HEADER, FRAME_OPENING, FRAME_RECORDS,
    FrameHeader, MAJOR, MAX_FRAME, Opening,
};
use super::window::Window;
use crate::event::Record;
use crate::session::Session;

/// Damages that are told one by one; the rest is only counted.
const MAX_DAMAGES: usize = 64;
/// Kinds of record that are told by name.
const MAX_UNKNOWN: usize = 64;

/// Why a file could not be read at all.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Opening or reading failed.
    #[error("cannot read the capture `{0}`")]
    System(PathBuf, #[source] io::Error),
    /// It is something else.
    #[error("`{0}` is not an ngx502 capture (bad magic): expected a file written by `ngx502 trace -o`")]
    NotACapture(PathBuf),
    /// It is from the future: of this major version.
    #[error("`{0}` has capture format {1}, but this ngx502 reads only up to {MAJOR}: use a newer ngx502")]
    TooNew(PathBuf, u16),
}

/// A part of the file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes were passed over; 0 where something that should follow is missing.
    pub bytes: u64,
    /// What was wrong.
    pub reason: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at byte {}: {}", self.offset, self.reason)?;
        if self.bytes > 0 { write!(f, "; {} bytes are lost", self.bytes) } else { Ok(()) }
    }
}

/// A capture being read: an iterator over its records.
pub struct Reader<R = File> {
    window: Window<R>,
    opening: Opening,
    end: Option<End>,
    frame: Option<Frame>,
    inflate: zstd::bulk::Decompressor<'static>,
    spare: Vec<u8>,
    damages: Vec<Damage>,
    more_damages: u64,
    unknown: BTreeMap<String, u64>,
    skip_carried: bool,
}

/// The frame that records come from.
struct Frame {
    rows: ColumnDecoder,
    offset: u64,
    stored: u64,
    left: u32,
}

impl Reader {
    /// Opens a file and reads its metadata.
    pub fn open(path: &Path) -> Result<Reader, ReadError> {
        let file = File::open(path).map_err(|source| ReadError::System(path.to_owned(), source))?;
        Reader::new(file, path)
    }
}

impl<R: Read> Reader<R> {
    /// Reads the metadata of a stream that `path` names in messages.
    pub fn new(input: R, path: &Path) -> Result<Reader<R>, ReadError> {
        let system = |source| ReadError::System(path.to_owned(), source);
        let mut window = Window::new(input);
        let header = window.peek(FILE_HEADER).map_err(system)?;
        if !header.starts_with(&FILE_MAGIC) {
            return Err(ReadError::NotACapture(path.to_owned()));
        }
        let major = header.get(8..10).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
        let whole =
            header.len() == FILE_HEADER && header[12..] == crc32fast::hash(&header[..12]).to_le_bytes();
        if let Some(major) = major.filter(|major| whole && *major > MAJOR) {
            return Err(ReadError::TooNew(path.to_owned(), major));
        }
        window.consume(FILE_HEADER);
        let mut reader = Reader {
            window,
            opening: Opening::default(),
            end: None,
            frame: None,
            inflate: zstd::bulk::Decompressor::new().map_err(system)?,
            spare: Vec::new(),
            damages: Vec::new(),
            more_damages: 0,
            unknown: BTreeMap::new(),
            skip_carried: false,
        };
        if !whole {
            reader.damage(0, 0, "the file header is cut or its checksum is wrong");
        }
        reader.read_opening();
        Ok(reader)
    }

    /// What holds for the whole trace. Empty when the file's beginning is damaged, which [`Reader::damages`] says.
    pub fn session(&self) -> &Session {
        &self.opening.session
    }

    /// Which file of a rotated capture this is, from 0.
    pub fn part(&self) -> u64 {
        self.opening.part
    }

    /// The end marker, once everything is read; `None` when the capture was cut or its tracer killed.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// What could not be read so far, and how many further damages there are.
    pub fn damages(&self) -> (&[Damage], u64) {
        (&self.damages, self.more_damages)
    }

    /// Records (and whole frames) of a later version that were skipped, by what was not known.
    pub fn unknown(&self) -> &BTreeMap<String, u64> {
        &self.unknown
    }

    /// Bytes of the file that are behind.
    pub fn position(&self) -> u64 {
        self.window.offset()
    }

    /// Leaves out what a rotated file repeats of the part before it, for those who have read that part.
    pub fn skip_carried(&mut self) {
        self.skip_carried = true;
    }

    fn damage(&mut self, offset: u64, bytes: u64, reason: impl Into<String>) {
        if self.damages.len() < MAX_DAMAGES {
            self.damages.push(Damage { offset, bytes, reason: reason.into() });
        } else {
            self.more_damages += 1;
        }
    }

    fn read_opening(&mut self) {
        let is_opening = |bytes: &[u8]| FrameHeader::decode(bytes).is_some_and(|h| h.kind == FRAME_OPENING);
        if !self.window.peek(FRAME_HEADER).is_ok_and(is_opening) || !self.read_frame() {
            let offset = self.window.offset();
            self.damage(offset, 0, "the metadata are unreadable: host and wall-clock time are unknown");
        }
    }

    /// Reads the next frame of any kind; false at the end or after damage.
    fn read_frame(&mut self) -> bool {
        let offset = self.window.offset();
        match self.frame_at_window() {
            Ok(Some((header, payload))) => {
                self.window.consume(FRAME_HEADER + header.stored.get() as usize);
                self.accept(offset, header, payload)
            }
            Ok(None) => false,
            Err(reason) => {
                // Not by the header's length: bytes may be missing inside the frame.
                self.window.consume(1);
                let sought = self.window.seek_frame();
                let bytes = self.window.offset() - offset;
                let reason = sought.err().map_or(reason, |error| error.to_string());
                self.damage(offset, bytes, reason);
                false
            }
        }
    }

    /// The whole frame at the window, checked and decompressed; `None` at the file's end.
    fn frame_at_window(&mut self) -> Result<Option<(FrameHeader, Vec<u8>)>, String> {
        let bytes = self.window.peek(FRAME_HEADER).map_err(|error| error.to_string())?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let cut = bytes.len() < FRAME_HEADER;
        let header = FrameHeader::decode(bytes).ok_or(if cut {
            "the file is cut in a frame"
        } else {
            "no frame begins here"
        })?;
        let len = FRAME_HEADER + header.stored.get() as usize;
        let bytes = self.window.peek(len).map_err(|error| error.to_string())?;
        let stored = bytes.get(FRAME_HEADER..len).ok_or("the file is cut in a frame")?;
        if header.payload_checksum != crc32fast::hash(stored) {
            return Err("a frame's checksum is wrong".to_owned());
        }
        let mut payload = std::mem::take(&mut self.spare);
        payload.clear();
        payload.reserve((header.size.get() as usize).min(MAX_FRAME));
        self.inflate
            .decompress_to_buffer(stored, &mut payload)
            .map_err(|error| format!("a frame does not decompress: {error}"))?;
        if payload.len() != header.size.get() as usize {
            return Err("a frame's size is wrong".to_owned());
        }
        Ok(Some((header, payload)))
    }

    fn accept(&mut self, offset: u64, header: FrameHeader, payload: Vec<u8>) -> bool {
        let stored = u64::from(header.stored.get());
        let outcome = match header.kind {
            FRAME_OPENING => json(&payload).map(|opening| self.opening = opening),
            FRAME_END => json(&payload).map(|end| self.end = Some(end)),
            FRAME_RECORDS if header.flags & CARRIED != 0 && self.skip_carried => Ok(()),
            FRAME_RECORDS => ColumnDecoder::new(payload).map_err(|e| e.to_string()).map(|rows| {
                self.frame = Some(Frame { rows, offset, stored, left: header.records.get() });
            }),
            kind => {
                self.note_unknown(format!("frame of kind {kind}"), 1);
                Ok(())
            }
        };
        if let Err(reason) = &outcome {
            self.damage(offset, stored + FRAME_HEADER as u64, reason);
        }
        outcome.is_ok()
    }

    fn note_unknown(&mut self, what: String, count: u64) {
        if self.unknown.len() < MAX_UNKNOWN || self.unknown.contains_key(&what) {
            *self.unknown.entry(what).or_default() += count;
        }
    }

    /// A row could not be read: steps over it where that is possible, else gives up the rest of its frame.
    fn not_read(&mut self, error: ColumnError) {
        let Some(mut frame) = self.frame.take() else { return };
        let stepped = match error {
            ColumnError::UnknownVariant(name) => {
                self.note_unknown(*name, 1);
                frame.rows.step_over()
            }
            error => Err(error),
        };
        let Err(error) = stepped else {
            frame.left -= 1;
            self.frame = Some(frame);
            return;
        };
        let reason = format!("{} records of a frame are unreadable: {error}", frame.left);
        self.damage(frame.offset, frame.stored + FRAME_HEADER as u64, reason);
    }
}

fn json<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    serde_json::from_slice(payload).map_err(|error| error.to_string())
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            while let Some(frame) = self.frame.as_mut().filter(|frame| frame.left > 0) {
                match frame.rows.next() {
                    Ok(record) => {
                        frame.left -= 1;
                        return Some(record);
                    }
                    Err(error) => self.not_read(error),
                }
            }
            if let Some(frame) = self.frame.take() {
                self.spare = frame.rows.into_buffer();
            }
            let before = self.window.offset();
            if !self.read_frame() && self.window.offset() == before {
                return None;
            }
        }
    }
}
