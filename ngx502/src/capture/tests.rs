//! Captures that are whole, cut, corrupted, rotated, refused; and what a 502 costs in bytes and time.

mod samples;
mod versions;
mod writing;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;

use self::samples::{additions, corners, process, session, storm};
use super::format::{FILE_HEADER, FRAME_HEADER, FRAME_OPENING, FRAME_RECORDS, FrameHeader, MAX_FRAME};
use super::rotate::Files;
use super::*;
use crate::event::*;

fn write(path: &Path, records: &[Record], options: Options) {
    let mut writer = Writer::create(path, &session(), options).expect("a new file");
    for (index, record) in records.iter().enumerate() {
        writer.record(record).expect("room on the disk");
        if index % 10 == 9 {
            writer.flush().expect("room on the disk");
        }
    }
    writer.finish().expect("room on the disk")
}

fn read(bytes: &[u8]) -> Option<(Vec<Record>, usize, bool)> {
    let mut reader = Reader::new(bytes, Path::new("x")).ok()?;
    let records: Vec<_> = reader.by_ref().collect();
    let (damages, more) = reader.damages();
    Some((records, damages.len() + more as usize, reader.end().is_some()))
}

fn small_capture() -> (Vec<Record>, Vec<u8>) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("c");
    // Four frames: every cut of them is read.
    let records = corners()[..33].to_vec();
    write(&path, &records, Options::default());
    (records, fs::read(&path).expect("the capture"))
}

#[test]
fn what_is_written_is_read() {
    let (records, bytes) = small_capture();
    let (read, damages, ended) = read(&bytes).expect("a capture");
    assert_eq!(read, records);
    assert_eq!((damages, ended), (0, true));
    let mut reader = Reader::new(&bytes[..], Path::new("x")).expect("a capture");
    assert_eq!(reader.session(), &session());
    assert_eq!(reader.by_ref().count(), records.len());
    let end = reader.end().expect("an end marker");
    assert_eq!((end.records, end.lost_events), (records.len() as u64, 3));
}

#[test]
fn what_later_versions_add_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("c");
    write(&path, &additions(), Options::default());
    let (records, damages, ended) = read(&fs::read(&path).expect("the capture")).expect("a capture");
    assert_eq!((records, damages, ended), (additions(), 0, true));
}

#[test]
fn a_capture_cut_at_any_byte_yields_every_whole_frame_and_says_so() {
    let (records, bytes) = small_capture();
    let mut longest = 0;
    for cut in 0..bytes.len() {
        let Some((read, _, ended)) = read(&bytes[..cut]) else {
            assert!(cut < FILE_HEADER, "cut at {cut}");
            continue;
        };
        assert!(records.starts_with(&read), "cut at {cut}");
        assert!(!ended && read.len() >= longest, "cut at {cut}");
        longest = read.len();
    }
    assert_eq!(longest, records.len());
}

#[test]
fn a_wrong_byte_costs_one_frame_at_most() {
    let (records, bytes) = small_capture();
    for at in (FILE_HEADER..bytes.len()).step_by(3) {
        let mut wrong = bytes.clone();
        wrong[at] ^= 0x55;
        let (read, damages, _) = read(&wrong).expect("the file header is whole");
        assert!(damages > 0, "byte {at} was not noticed");
        assert!(read.len() + 10 >= records.len(), "byte {at} cost {} records", records.len() - read.len());
        assert!(read.iter().all(|record| records.contains(record)), "byte {at}");
    }
}

/// Every byte of a large capture would take too long: cuts and wrong bytes at places without a pattern.
#[test]
fn a_large_capture_cut_or_corrupted_anywhere_yields_the_rest() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("c");
    let records: Vec<_> = (0..1_000).flat_map(storm).collect();
    write(&path, &records, Options::default());
    let bytes = fs::read(&path).expect("the capture");
    assert!(bytes.len() > 200_000, "{} bytes", bytes.len());
    let places = noise(4 * 24);
    for place in places.chunks_exact(4) {
        let number = u32::from_le_bytes(place.try_into().expect("four bytes"));
        let at = FILE_HEADER + number as usize % (bytes.len() - FILE_HEADER);
        let (cut, _, ended) = read(&bytes[..at]).expect("the file header is whole");
        assert!(records.starts_with(&cut) && !ended, "cut at {at}");
        // Frames are alike in size: what is read grows with what is there.
        assert!(cut.len() + 40 >= records.len() * at / bytes.len() * 9 / 10, "cut at {at}: {}", cut.len());
        let mut wrong = bytes.clone();
        wrong[at] ^= 1 << (number >> 29);
        let (rest, damages, _) = read(&wrong).expect("the file header is whole");
        assert!(damages > 0 && rest.len() + 10 >= records.len(), "byte {at}");
    }
}

#[test]
fn bytes_missing_in_the_middle_cost_the_frames_they_were_in() {
    let (records, bytes) = small_capture();
    for at in (FILE_HEADER..bytes.len() - 200).step_by(37) {
        let gap = [&bytes[..at], &bytes[at + 100..]].concat();
        let (read, damages, ended) = read(&gap).expect("the file header is whole");
        assert!(damages > 0 && ended, "gap at {at}");
        assert!(read.len() + 20 >= records.len(), "gap at {at}");
    }
}

#[test]
fn frames_far_behind_damage_are_found() {
    let (records, bytes) = small_capture();
    for junk in [1, 65_529, 65_530, 65_536, 200_000] {
        let mut damaged = bytes.clone();
        let mut torn = sealed(FRAME_RECORDS, 1, &noise(junk));
        torn[FRAME_HEADER] ^= 1;
        damaged.splice(FILE_HEADER..FILE_HEADER, torn);
        let (read, damages, ended) = read(&damaged).expect("a capture");
        assert_eq!(read, records, "after {junk} bytes");
        assert!(damages > 0 && ended);
    }
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn sealed(kind: u8, records: u32, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { kind, records: records.into(), ..FrameHeader::default() };
    writer::seal(header, payload).expect("zstd")
}

#[test]
fn a_frame_that_lies_about_its_size_costs_no_memory() {
    let bomb = vec![0; MAX_FRAME * 8];
    let mut bytes = format::file_header().to_vec();
    let mut frame = sealed(FRAME_RECORDS, u32::MAX, &bomb);
    bytes.extend(&frame);
    frame[20..24].copy_from_slice(&100u32.to_le_bytes());
    let checksum = crc32fast::hash(&frame[..44]);
    frame[44..48].copy_from_slice(&checksum.to_le_bytes());
    bytes.extend(&frame);
    let (records, damages, _) = read(&bytes).expect("a capture");
    assert!(records.is_empty() && damages >= 2);
    assert!(frame.len() > FRAME_HEADER);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        read(&[&format::file_header()[..], &bytes].concat());
        read(&bytes);
    }

    #[test]
    fn arbitrary_columns_are_survived(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..16),
        records in any::<u32>(),
    ) {
        let mut frame = columns::ColumnEncoder::new();
        for record in corners().iter().take(24) {
            frame.push(record).expect("a row");
        }
        let mut payload = frame.take();
        for (at, byte) in edits {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        let bytes = [&format::file_header()[..], &sealed(FRAME_RECORDS, records, &payload)].concat();
        read(&bytes);
    }
}

#[test]
#[ignore = "on demand: a measurement, run it with --release --nocapture"]
fn what_a_502_costs() {
    let count = 1_000_000u64;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("c");
    let begin = std::time::Instant::now();
    let mut writer = Writer::create(&path, &session(), Options::default()).expect("a new file");
    for record in (0..count).flat_map(storm) {
        writer.record(&record).expect("room");
    }
    writer.finish().expect("room");
    let written = begin.elapsed();
    let size = fs::metadata(&path).expect("the file").len();
    let begin = std::time::Instant::now();
    let read = Reader::open(&path).expect("a capture").count() as u64;
    let each = |time: std::time::Duration| time.as_nanos() as u64 / count;
    println!(
        "{} bytes a 502, write {} ns, read {} ns",
        size as f64 / count as f64,
        each(written),
        each(begin.elapsed())
    );
    assert_eq!(read, count * 3);
    assert!(size <= 60 * count);
    let mut named = Vec::new();
    for record in (0..100_000).flat_map(storm) {
        named.extend(rmp_serde::to_vec_named(&record).expect("a record"));
    }
    let mut packed = 0;
    for chunk in named.chunks(1 << 20) {
        packed += zstd::bulk::compress(chunk, 3).expect("zstd").len();
    }
    let begin = std::time::Instant::now();
    let mut rest = &named[..];
    while !rest.is_empty() {
        let _: Record = rmp_serde::from_read(&mut rest).expect("a record");
    }
    println!(
        "rows with names: {} bytes a 502, read {} ns",
        packed / 100_000,
        begin.elapsed().as_nanos() / 100_000
    );
}
