//! Several captures as one stream, merged by wall time.
//!
//! The files of one rotated capture are read one after another, as one stream; different traces (hosts) are merged.
//! Within a stream the order never changes: attribution must see what it saw live.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

use crate::capture::{ReadError, Reader};
use crate::event::Record;
use crate::session::Session;

/// One trace: the files of one session, in order.
struct Stream {
    session: Session,
    /// Still to be read, the next one last.
    later: Vec<Part>,
    current: Part,
    /// The latest wall time so far: merging must not reorder a stream.
    wall: i128,
    head: Option<Record>,
}

struct Part {
    path: PathBuf,
    reader: Reader,
}

/// All streams, merged.
pub struct Merged {
    streams: Vec<Stream>,
    order: BinaryHeap<Reverse<(i128, usize)>>,
    complaints: Vec<String>,
    /// Bytes of the files that are read to their end.
    finished: u64,
}

impl Merged {
    /// Opens all files and reads their metadata.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Merged, ReadError> {
        let mut parts = Vec::new();
        for path in paths {
            let path = path.as_ref();
            parts.push(Part { path: path.to_owned(), reader: Reader::open(path)? });
        }
        let mut merged =
            Merged { streams: group(parts), order: BinaryHeap::new(), complaints: Vec::new(), finished: 0 };
        for index in 0..merged.streams.len() {
            merged.advance(index);
        }
        Ok(merged)
    }

    /// The sessions; [`Merged::next`] names them by index.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.streams.iter().map(|stream| &stream.session)
    }

    /// The next record by wall time with the index of its session.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator could not be asked for sessions meanwhile"
    )]
    pub fn next(&mut self) -> Option<(usize, Record)> {
        let Reverse((_, index)) = self.order.pop()?;
        let record = self.streams[index].head.take();
        self.advance(index);
        record.map(|record| (index, record))
    }

    /// Bytes read so far, of all files.
    pub fn position(&self) -> u64 {
        self.finished + self.streams.iter().map(|stream| stream.current.reader.position()).sum::<u64>()
    }

    /// What is wrong with the files that are read to their end, in sentences for a person.
    pub fn complaints(self) -> Vec<String> {
        self.complaints
    }

    fn advance(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        loop {
            if let Some(record) = stream.current.reader.next() {
                stream.wall = stream.wall.max(stream.session.wall(record.at));
                stream.head = Some(record);
                self.order.push(Reverse((stream.wall, index)));
                return;
            }
            self.complaints.extend(complaints(&stream.current));
            let Some(mut next) = stream.later.pop() else { return };
            if next.reader.part() == stream.current.reader.part() + 1 {
                next.reader.skip_carried();
            }
            self.finished += stream.current.reader.position();
            stream.current = next;
        }
    }
}

/// Puts the parts of one trace together, in their order.
fn group(mut parts: Vec<Part>) -> Vec<Stream> {
    parts.sort_by_key(|part| Reverse(part.reader.part()));
    let mut streams: Vec<Stream> = Vec::new();
    while let Some(part) = parts.pop() {
        let session = part.reader.session().clone();
        // Files without readable metadata share nothing but their emptiness.
        let known = !session.boot_id.is_empty();
        let belongs = |other: &mut Part| {
            known && *other.reader.session() == session && other.reader.part() > part.reader.part()
        };
        // In the order of `parts`: the next one is last.
        let later = parts.extract_if(.., belongs).collect();
        streams.push(Stream { session, later, current: part, wall: i128::MIN, head: None });
    }
    streams
}

/// What is wrong with a file that is read to its end, in sentences for a person.
fn complaints(Part { path, reader, .. }: &Part) -> Vec<String> {
    let name = path.display();
    let (damages, more) = reader.damages();
    let mut lines: Vec<_> = damages.iter().map(|damage| format!("{name}: {damage}")).collect();
    if more > 0 {
        lines.push(format!("{name}: {more} further damages"));
    }
    for (what, count) in reader.unknown() {
        let what = what.escape_debug();
        lines.push(format!("{name}: skipped {count} × {what}, written by a newer ngx502"));
    }
    if reader.end().is_none() {
        lines.push(format!(
            "{name}: no end marker: the tracer was killed or the file was truncated; up to one second of records is missing"
        ));
    }
    lines
}
