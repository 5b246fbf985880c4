//! Executables made to cost their reader time or memory: each costs that file its probes or its layout, and nothing else.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::super::{Binary, BinaryError, LayoutSource, layout};

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: usize = 64;

/// A section: its name, type, flags, the section that it refers to, its entries' size, its bytes.
type Section<'a> = (&'a str, u32, u64, u32, u64, Vec<u8>);

/// A 64-bit x86 executable with these loadable segments (offset and size in the file) and sections, as long as it is said.
fn elf(path: &Path, segments: &[(u64, u64)], sections: &[Section<'_>], length: u64) {
    let mut names = vec![0];
    let mut data = vec![0; HEADER + PROGRAM_HEADER * segments.len()];
    let mut table = vec![0; SECTION_HEADER];
    let mut add =
        |(name, kind, flags, link, entry, bytes): &Section<'_>, data: &mut Vec<u8>, names: &mut Vec<u8>| {
            let (at, name_at) = (data.len() as u64, names.len() as u32);
            names.extend([name.as_bytes(), &[0]].concat());
            data.extend(bytes);
            let numbers = [*flags, 0, at, bytes.len() as u64];
            table.extend([name_at.to_le_bytes(), kind.to_le_bytes()].concat());
            table.extend(numbers.map(u64::to_le_bytes).concat());
            table.extend([link.to_le_bytes(), 0_u32.to_le_bytes()].concat());
            table.extend([1_u64.to_le_bytes(), entry.to_le_bytes()].concat());
        };
    for section in sections {
        add(section, &mut data, &mut names);
    }
    let all_names = [names.as_slice(), b".shstrtab\0"].concat();
    add(&(".shstrtab", 3, 0, 0, 0, all_names), &mut data, &mut names);
    let table_at = data.len() as u64;
    data.extend(&table);
    data[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let halves = |values: &[u16]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    data[16..20].copy_from_slice(&halves(&[3, 62]));
    data[20..24].copy_from_slice(&1_u32.to_le_bytes());
    data[32..40].copy_from_slice(&(HEADER as u64).to_le_bytes());
    data[40..48].copy_from_slice(&table_at.to_le_bytes());
    let count = sections.len() as u16 + 2;
    let sizes = [HEADER, PROGRAM_HEADER, segments.len(), SECTION_HEADER].map(|size| size as u16);
    data[52..64].copy_from_slice(&halves(&[&sizes[..], &[count, count - 1]].concat()));
    for (number, (offset, size)) in segments.iter().enumerate() {
        let at = HEADER + number * PROGRAM_HEADER;
        // PT_LOAD, readable and executable.
        data[at..at + 8].copy_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
        let numbers = [*offset, *offset, *offset, *size, *size, 0x1000];
        data[at + 8..at + PROGRAM_HEADER].copy_from_slice(&numbers.map(u64::to_le_bytes).concat());
    }
    fs::write(path, &data).expect("room");
    let file = fs::OpenOptions::new().write(true).open(path).expect("the file");
    file.set_len(length.max(data.len() as u64)).expect("a sparse file");
}

fn file(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("nginx")
}

#[test]
fn the_builder_makes_executables() {
    let directory = tempfile::tempdir().expect("a directory");
    elf(&file(&directory), &[(0, 0x1000)], &[(".debug_info", 1, 0, 0, 0, vec![0; 8])], 0x1000);
    let binary = Binary::open(&file(&directory)).expect("an executable");
    assert!(binary.has_debug_info && !binary.is_nginx());
}

#[test]
fn segments_that_each_cover_a_large_file_are_not_copied() {
    const SIZE: u64 = 64 << 20;
    let directory = tempfile::tempdir().expect("a directory");
    elf(&file(&directory), &[(0, SIZE); 73], &[], SIZE);
    let refused = Binary::open(&file(&directory));
    assert!(matches!(refused, Err(BinaryError::TooCostly)), "{:?}", refused.map(|binary| binary.id));
}

#[test]
fn names_without_an_end_are_not_searched_for_it_for_ever() {
    let directory = tempfile::tempdir().expect("a directory");
    // A global function, defined in section 1, whose name is the whole table.
    let symbol = [&1_u32.to_le_bytes()[..], &[0x12, 0, 1, 0], &[0; 16]].concat();
    let sections = [
        (".dynsym", 11, 2, 2, 24, symbol.repeat(1_000_000)),
        (".dynstr", 3, 2, 0, 0, [vec![0], vec![b'x'; 40 << 20]].concat()),
    ];
    elf(&file(&directory), &[(0, 0x1000)], &sections, 0);
    let refused = Binary::open(&file(&directory));
    assert!(matches!(refused, Err(BinaryError::TooCostly)), "{:?}", refused.map(|binary| binary.id));
}

#[test]
fn packed_sections_are_unpacked_within_a_limit_for_all_of_them() {
    const ZSTD: u32 = 2;
    const SIZE: u64 = 8 << 30;
    let directory = tempfile::tempdir().expect("a directory");
    let mut packed = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    io::copy(&mut io::Read::take(io::repeat(0), SIZE / 8), &mut packed).expect("room");
    packed.flush().expect("room");
    let packed = packed.finish().expect("room");
    let header = [&ZSTD.to_le_bytes()[..], &[0; 4], &SIZE.to_le_bytes(), &1_u64.to_le_bytes()].concat();
    let bomb = [header, packed].concat();
    let names =
        [".debug_info", ".debug_abbrev", ".debug_str", ".debug_line_str", ".debug_line", ".debug_ranges"];
    let sections = names.map(|name| (name, 1, 0x800, 0, 0, bomb.clone()));
    elf(&file(&directory), &[(0, 0x1000)], &sections, 0);
    let binary = Binary::open(&file(&directory)).expect("an executable");
    let source = layout::of(&binary).1;
    assert!(!matches!(source, LayoutSource::DebugInformation(_)), "{source:?}");
}
