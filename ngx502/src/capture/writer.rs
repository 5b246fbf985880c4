//! Writing a capture while the trace runs.
//!
//! Records gather in one frame, which is written when it is full or three quarters of a second old. A disk that is full ends the capture,
//! not the trace: the writer says so once, keeps every whole frame, and ignores what comes later.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;
use zerocopy::IntoBytes;

use super::columns::ColumnEncoder;
use super::format::{
    CARRIED, End, FRAME_END, FRAME_OPENING, FRAME_RECORDS, FULL_FRAME, FULL_TEXT, FrameHeader, Opening,
    file_header,
};
use super::rotate::{CreateError, Files, Options};
use crate::event::{Body, Endpoint, Nanos, Pid, Record};
use crate::session::Session;

/// zstd's own default; `docs/capture-format.md` has the sizes and times measured with it.
const COMPRESSION: i32 = 3;
/// For frames of at most [`SMALL_FRAME`] bytes: 10 % smaller, for some milliseconds of processor time a frame.
const THOROUGH: i32 = 17;
const SMALL_FRAME: usize = 64 << 10;
/// Records are written at the first tick at which they are this old, in nanoseconds: with [`Writer::tick`] twice a second,
/// none waits for a second.
const FLUSH_AFTER: u64 = 500_000_000;
/// Where records keep coming, the frame stays open for this long: each names its columns anew.
const FLUSH_BEFORE: u64 = 750_000_000;
/// Clock ticks alone may wait longer: a tracer that idles for a day must not fill a disk.
const FLUSH_TICKS_AFTER: u64 = 60_000_000_000;
/// Processes, endpoints and workers, each, that a rotated file begins with.
const MAX_CARRIED: usize = 4096;

/// The capture had to end before the trace.
#[derive(Debug, Error)]
#[error(
    "cannot write the capture `{path}`: {source}; it ends after {kept} records, and the trace continues without it: \
     free disk space and start another trace with -o"
)]
pub struct Stopped {
    /// The file.
    pub path: PathBuf,
    /// Records that are on disk, all parts together.
    pub kept: u64,
    /// The system's word.
    pub source: io::Error,
}

/// A capture being written.
pub struct Writer {
    opening: Opening,
    files: Files,
    frame: ColumnEncoder,
    rows: Rows,
    carried: Carried,
    /// Records on disk.
    records: u64,
    lost_events: u64,
    off: bool,
}

/// What the current frame's header will say.
#[derive(Clone, Copy, Default)]
struct Rows {
    count: u32,
    first: Nanos,
    last: Nanos,
    /// Whether there is more than the clock's ticks.
    matter: bool,
}

impl Rows {
    fn add(&mut self, record: &Record) {
        self.first = if self.count == 0 { record.at } else { self.first.min(record.at) };
        self.last = self.last.max(record.at);
        self.count += 1;
        self.matter |= record.body != Body::Tick;
    }

    fn header(self, flags: u8) -> FrameHeader {
        let (records, times) = (self.count.into(), [self.first.0.into(), self.last.0.into()]);
        FrameHeader { kind: FRAME_RECORDS, flags, records, times, ..FrameHeader::default() }
    }
}

impl Writer {
    /// Creates the file and writes what is known of the trace.
    pub fn create(path: &Path, session: &Session, options: Options) -> Result<Writer, CreateError> {
        let files = Files::create(path, options)?;
        let mut writer = Writer::over(files, session);
        writer.open_part().map_err(|error| CreateError::System(path.to_owned(), error))?;
        Ok(writer)
    }

    pub(super) fn over(files: Files, session: &Session) -> Writer {
        Writer {
            opening: Opening { session: session.clone(), part: 0 },
            files,
            frame: ColumnEncoder::new(),
            rows: Rows::default(),
            carried: Carried::default(),
            records: 0,
            lost_events: 0,
            off: false,
        }
    }

    /// Takes the next record of the trace. An error comes once; later records are ignored.
    pub fn record(&mut self, record: &Record) -> Result<(), Stopped> {
        if self.off {
            return Ok(());
        }
        if let Body::Lost { events, .. } = record.body {
            self.lost_events = self.lost_events.saturating_add(events);
        }
        self.carried.note(record);
        self.frame.push(record).map_err(|error| self.stop(io::Error::other(error)))?;
        self.rows.add(record);
        if self.frame.size() >= FULL_FRAME || self.frame.text() >= FULL_TEXT {
            self.flush()?;
        }
        self.flush_from(record.at, FLUSH_BEFORE)
    }

    /// Writes what has waited long enough; to be called at least twice a second with the host's boot time, so that nothing
    /// waits for a second.
    pub fn tick(&mut self, now: Nanos) -> Result<(), Stopped> {
        self.flush_from(now, FLUSH_AFTER)
    }

    /// Writes what is `age` nanoseconds old; the clock's ticks alone may be older.
    fn flush_from(&mut self, now: Nanos, age: u64) -> Result<(), Stopped> {
        let patience = if self.rows.matter { age } else { FLUSH_TICKS_AFTER };
        if self.rows.count > 0 && now.0.saturating_sub(self.rows.first.0) >= patience {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Writes what waits, at once.
    pub fn flush(&mut self) -> Result<(), Stopped> {
        if self.off || self.rows.count == 0 {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        let payload = self.frame.take();
        self.write_rows(&payload, rows).map_err(|error| self.stop(error))
    }

    /// Writes what waits and the end marker.
    pub fn finish(mut self) -> Result<(), Stopped> {
        self.flush()?;
        if self.off { Ok(()) } else { self.write_end(false).map_err(|error| self.stop(error)) }
    }

    fn stop(&mut self, source: io::Error) -> Stopped {
        self.off = true;
        Stopped { path: self.files.path().to_owned(), kept: self.records, source }
    }

    fn write_rows(&mut self, payload: &[u8], rows: Rows) -> io::Result<()> {
        let frame = seal(rows.header(0), payload)?;
        if self.files.is_full(frame.len() as u64) {
            self.write_end(true)?;
            self.files.rotate()?;
            self.opening.part += 1;
            self.open_part()?;
        }
        self.files.append(&frame)?;
        self.records += u64::from(rows.count);
        Ok(())
    }

    fn open_part(&mut self) -> io::Result<()> {
        let mut bytes = file_header().to_vec();
        bytes.extend(seal_json(FRAME_OPENING, &self.opening)?);
        let mut carried = ColumnEncoder::new();
        let mut rows = Rows::default();
        for record in self.carried.records() {
            carried.push(record).map_err(io::Error::other)?;
            rows.add(record);
        }
        if rows.count > 0 {
            bytes.extend(seal(rows.header(CARRIED), &carried.take())?);
        }
        self.files.append(&bytes)
    }

    fn write_end(&mut self, continued: bool) -> io::Result<()> {
        let end = End { records: self.records, lost_events: self.lost_events, continued };
        self.files.append(&seal_json(FRAME_END, &end)?)
    }
}

fn seal_json(kind: u8, value: &impl Serialize) -> io::Result<Vec<u8>> {
    seal(FrameHeader { kind, ..FrameHeader::default() }, &serde_json::to_vec(value)?)
}

/// A frame as it is stored; what its header says of the payload is filled in.
pub(super) fn seal(header: FrameHeader, payload: &[u8]) -> io::Result<Vec<u8>> {
    let level = if payload.len() <= SMALL_FRAME { THOROUGH } else { COMPRESSION };
    let stored = zstd::bulk::compress(payload, level)?;
    let size_of = |bytes: &[u8]| u32::try_from(bytes.len()).map(Into::into).map_err(io::Error::other);
    let header = FrameHeader {
        stored: size_of(&stored)?,
        size: size_of(payload)?,
        payload_checksum: crc32fast::hash(&stored).into(),
        ..header
    };
    Ok([header.sealed().as_bytes(), &stored].concat())
}

/// What a rotated file needs of the earlier ones to explain what follows: the latest word on every process, place and
/// worker, as far as they fit.
#[derive(Default)]
struct Carried {
    latest: BTreeMap<Subject, Record>,
    /// In the order of arrival; the oldest gives way.
    order: [VecDeque<Subject>; 3],
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Process(Pid),
    Endpoint(u32, Endpoint),
    Worker(Pid),
}

impl Carried {
    fn note(&mut self, record: &Record) {
        let (class, subject) = match &record.body {
            Body::Process(info) => (0, Subject::Process(info.process.pid)),
            Body::Endpoint(info) => (1, Subject::Endpoint(info.netns, info.endpoint.clone())),
            Body::Worker(info) => (2, Subject::Worker(info.process.pid)),
            Body::Exit(exit) => {
                self.latest.remove(&Subject::Process(exit.process.pid));
                self.latest.remove(&Subject::Worker(exit.process.pid));
                return;
            }
            _ => return,
        };
        if self.latest.insert(subject.clone(), record.clone()).is_none() {
            self.order[class].push_back(subject);
        }
        if self.order[class].len() > MAX_CARRIED
            && let Some(oldest) = self.order[class].pop_front()
        {
            self.latest.remove(&oldest);
        }
    }

    /// In the order in which they were observed.
    fn records(&self) -> Vec<&Record> {
        let mut records: Vec<_> = self.latest.values().collect();
        records.sort_by_key(|record| record.at);
        records
    }
}
