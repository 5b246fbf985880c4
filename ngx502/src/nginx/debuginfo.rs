//! Field offsets from DWARF debug information: in the binary itself or in its separate debug file, which is found by
//! build id or debug link as debuggers find it, on this host and in the container of the process.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use gimli::{
    AttributeValue, DebugInfoOffset, DebuggingInformationEntry, Dwarf, DwarfSections, EndianSlice,
    RunTimeEndian, SectionId, Unit, UnitOffset, constants as dw,
};
use ngx502_common::layout::{ABSENT, NginxLayout};
use object::{CompressionFormat, Object as _, ObjectSection as _};

use super::binary::Binary;
use super::budget::Budget;
use super::foreign;

/// Where debug files are installed.
const DEBUG_DIRECTORY: &str = "usr/lib/debug";

/// What the types need; the line tables because units are not read without them.
const SECTIONS: [SectionId; 6] = [
    SectionId::DebugInfo,
    SectionId::DebugAbbrev,
    SectionId::DebugStr,
    SectionId::DebugLineStr,
    SectionId::DebugStrOffsets,
    SectionId::DebugLine,
];

/// How many qualifiers and typedefs may stand between a member and its struct; only a malformed file has more.
const MAX_TYPE_DEPTH: usize = 16;

/// The structs that all others are reached from.
const ROOTS: [&str; 4] = ["ngx_http_request_s", "ngx_connection_s", "ngx_http_upstream_s", "ngx_log_s"];

type Reader<'data> = EndianSlice<'data, RunTimeEndian>;
type Entry<'data> = DebuggingInformationEntry<Reader<'data>>;

/// The offsets that debug information gives, over those of `base`; and the file that holds it.
///
/// `None` when there is none, or it does not describe nginx's request, or takes too long to read.
pub fn layout(binary: &Binary, base: NginxLayout) -> Option<(NginxLayout, PathBuf)> {
    let budget = Budget::new();
    if binary.has_debug_info
        && let Ok(data) = binary.bytes()
        && let Ok(elf) = object::File::parse(data.as_slice())
        && let Some(layout) = read_layout(&elf, base, &budget)
    {
        return Some((layout, binary.path.clone()));
    }
    separate_files(binary).into_iter().find_map(|(root, path)| {
        let data = foreign::read(&foreign::open_in_root(&root, &path).ok()?).ok()?;
        let elf = object::File::parse(data.as_slice()).ok()?;
        let layout = belongs_to(binary, &elf, &data).then(|| read_layout(&elf, base, &budget))??;
        Some((layout, root.join(path)))
    })
}

/// Where a separate debug file may lie: below which root, and where there.
fn separate_files(binary: &Binary) -> Vec<(PathBuf, PathBuf)> {
    let mut files = Vec::new();
    let exe = fs::read_link(&binary.path).unwrap_or_else(|_| binary.path.clone());
    let debug = Path::new(DEBUG_DIRECTORY);
    for root in roots(&binary.path) {
        let mut add = |path: PathBuf| files.push((root.clone(), path));
        if let Some([first, rest @ ..]) = binary.build_id.as_deref()
            && !rest.is_empty()
        {
            let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
            add(debug.join(format!(".build-id/{first:02x}/{rest}.debug")));
        }
        if let Some((name, _)) = &binary.debug_link
            && let Some(directory) = exe.parent()
            // The name comes from the file; one with a slash would lead elsewhere.
            && !name.contains(&b'/')
        {
            let name = Path::new(OsStr::from_bytes(name));
            let directory = directory.strip_prefix("/").unwrap_or(directory);
            add(directory.join(name));
            add(directory.join(".debug").join(name));
            add(debug.join(directory).join(name));
        }
    }
    files
}

/// This host's root, and before it that of the process when the binary was opened as `/proc/PID/…`.
fn roots(path: &Path) -> Vec<PathBuf> {
    let pid = path.strip_prefix("/proc").ok().and_then(|within| within.iter().next());
    let of_process = pid.map(|pid| Path::new("/proc").join(pid).join("root"));
    of_process.into_iter().chain([PathBuf::from("/")]).collect()
}

/// Whether a debug file was made from this very build.
fn belongs_to(binary: &Binary, debug: &object::File<'_>, data: &[u8]) -> bool {
    match (&binary.build_id, debug.build_id().ok().flatten()) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => binary.debug_link.as_ref().is_some_and(|(_, crc)| *crc == crc32fast::hash(data)),
    }
}

fn read_layout(elf: &object::File<'_>, base: NginxLayout, budget: &Budget) -> Option<NginxLayout> {
    let endian = if elf.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let sections = DwarfSections::load(|id| match SECTIONS.contains(&id) {
        true => section(elf, id.name(), budget),
        false => Ok(Cow::Borrowed(&[][..])),
    });
    let sections = sections.ok()?;
    Types::read(sections.borrow(|data| EndianSlice::new(data, endian)), budget).ok()?.layout(base)
}

/// A section's bytes, unpacked; empty when it is missing.
fn section<'data>(
    elf: &object::File<'data>,
    name: &str,
    budget: &Budget,
) -> Result<Cow<'data, [u8]>, object::Error> {
    let Some(section) = elf.section_by_name(name) else { return Ok(Cow::Borrowed(&[])) };
    let packed = section.compressed_data()?;
    let limit = packed.uncompressed_size.min(budget.bytes());
    let mut unpacked = Vec::new();
    // What cannot be unpacked is left empty, and the structs are then not found.
    let done = match packed.format {
        CompressionFormat::None => return Ok(Cow::Borrowed(packed.data)),
        CompressionFormat::Zlib => {
            flate2::read::ZlibDecoder::new(packed.data).take(limit).read_to_end(&mut unpacked)
        }
        CompressionFormat::Zstandard => {
            zstd::Decoder::new(packed.data).and_then(|reader| reader.take(limit).read_to_end(&mut unpacked))
        }
        _ => Ok(0),
    };
    budget.spend(unpacked.len() as u64);
    Ok(Cow::Owned(if done.is_ok() { unpacked } else { Vec::new() }))
}

/// The compilation units of a file that describe nginx's structs, and where those are in them.
struct Types<'data, 'budget> {
    dwarf: Dwarf<Reader<'data>>,
    /// Only those, and what they refer to: the others are read and dropped, since each has its own copy of a table.
    units: RefCell<Vec<Rc<Unit<Reader<'data>>>>>,
    roots: [Option<DebugInfoOffset>; ROOTS.len()],
    budget: &'budget Budget,
}

impl<'data, 'budget> Types<'data, 'budget> {
    fn read(dwarf: Dwarf<Reader<'data>>, budget: &'budget Budget) -> gimli::Result<Self> {
        let mut types = Self { dwarf, units: RefCell::default(), roots: [None; ROOTS.len()], budget };
        let mut headers = types.dwarf.units();
        while let Some(header) = headers.next()? {
            if budget.is_over() {
                log::debug!("debug information takes too long to read, and is left");
                break;
            }
            let unit = types.dwarf.unit(header)?;
            let root = |entry: &Entry<'data>| {
                let name = types.name_of(&unit, entry).filter(|_| is_definition(entry))?;
                let root = ROOTS.iter().position(|root| root.as_bytes() == name)?;
                Some((root, entry.offset().to_debug_info_offset(&unit.header)?))
            };
            let found = children(&unit, None, budget, root)?;
            let mut new = false;
            for (root, place) in found {
                new |= types.roots[root].is_none();
                types.roots[root].get_or_insert(place);
            }
            if new {
                types.units.borrow_mut().push(Rc::new(unit));
            }
            if types.roots.iter().all(Option::is_some) {
                break;
            }
        }
        Ok(types)
    }

    fn name_of(&self, unit: &Unit<Reader<'data>>, entry: &Entry<'data>) -> Option<&'data [u8]> {
        let name = self.dwarf.attr_string(unit, entry.attr_value(dw::DW_AT_name)?).ok()?;
        Some(name.slice())
    }

    /// The offset of a member such as `peer.name` and its type.
    fn member(&self, parent: DebugInfoOffset, path: &str) -> Option<(u64, DebugInfoOffset)> {
        path.split('.').try_fold((0_u64, parent), |(offset, parent), name| {
            let (unit, structure) = self.structure(parent)?;
            let member = |entry: &Entry<'data>| {
                let found = entry.tag() == dw::DW_TAG_member;
                (found && self.name_of(&unit, entry) == Some(name.as_bytes())).then(|| entry.clone())
            };
            let member = children(&unit, Some(structure), self.budget, member).ok()?.into_iter().next()?;
            let at = member.attr_value(dw::DW_AT_data_member_location)?.udata_value()?;
            Some((offset.checked_add(at)?, type_of(&unit, &member)?))
        })
    }

    /// Follows typedefs, qualifiers and pointers to the struct behind them.
    fn structure(&self, mut place: DebugInfoOffset) -> Option<(Rc<Unit<Reader<'data>>>, UnitOffset)> {
        for _ in 0..MAX_TYPE_DEPTH {
            let unit = self.unit_of(place)?;
            let offset = place.to_unit_offset(&unit.header)?;
            let next = {
                let entry = unit.entry(offset).ok()?;
                match entry.tag() {
                    _ if is_definition(&entry) => None,
                    dw::DW_TAG_typedef
                    | dw::DW_TAG_const_type
                    | dw::DW_TAG_volatile_type
                    | dw::DW_TAG_pointer_type => Some(type_of(&unit, &entry)?),
                    _ => return None,
                }
            };
            match next {
                Some(next) => place = next,
                None => return Some((unit, offset)),
            }
        }
        None
    }

    /// The unit that has an entry: one of those that are kept, else another one, where shared types are.
    fn unit_of(&self, place: DebugInfoOffset) -> Option<Rc<Unit<Reader<'data>>>> {
        let has = |unit: &&Rc<Unit<Reader<'data>>>| place.to_unit_offset(&unit.header).is_some();
        if let Some(kept) = self.units.borrow().iter().find(has) {
            return Some(Rc::clone(kept));
        }
        let mut headers = self.dwarf.units();
        while let Some(header) = headers.next().ok()?
            && !self.budget.is_over()
        {
            if place.to_unit_offset(&header).is_some() {
                let unit = Rc::new(self.dwarf.unit(header).ok()?);
                self.units.borrow_mut().push(Rc::clone(&unit));
                return Some(unit);
            }
        }
        None
    }

    /// Fills in all that the structs say; `None` unless they describe every part.
    fn layout(&self, base: NginxLayout) -> Option<NginxLayout> {
        let [Some(request), Some(connection), Some(upstream), Some(log)] = self.roots else { return None };
        let state = self.member(upstream, "state")?.1;
        let at = |parent, path| u16::try_from(self.member(parent, path)?.0).ok();
        let request_line = at(request, "request_line")?;
        let after_line = at(request, "main")?.checked_sub(request_line)?;
        let before_line = request_line.checked_sub(at(request, "headers_out.status")?)?;
        Some(NginxLayout {
            upstream: at(request, "upstream")?,
            upstream_states: at(request, "upstream_states")?,
            cache: at(request, "cache").unwrap_or(ABSENT),
            host: at(request, "headers_in.host")?,
            request_line,
            main_from_request_line: after_line,
            status_before_request_line: before_line,
            connection_fd: at(connection, "fd")?,
            connection_log: at(connection, "log")?,
            connection_addr_text: at(connection, "addr_text")?,
            peer_connection: at(upstream, "peer.connection")?,
            peer_name: at(upstream, "peer.name")?,
            log_data: at(log, "data")?,
            log_action: at(log, "action")?,
            state_status: at(state, "status")?,
            state_bytes_received: at(state, "bytes_received")?,
            state_bytes_sent: at(state, "bytes_sent").unwrap_or(ABSENT),
            state_peer: at(state, "peer")?,
            ..base
        })
    }
}

/// Whether a struct is defined there, not merely declared.
fn is_definition(entry: &Entry<'_>) -> bool {
    entry.tag() == dw::DW_TAG_structure_type && entry.has_attr(dw::DW_AT_byte_size)
}

/// Where the type of an entry is, in the same unit or another.
fn type_of<'data>(unit: &Unit<Reader<'data>>, entry: &Entry<'data>) -> Option<DebugInfoOffset> {
    match entry.attr_value(dw::DW_AT_type)? {
        AttributeValue::UnitRef(offset) => offset.to_debug_info_offset(&unit.header),
        AttributeValue::DebugInfoRef(offset) => Some(offset),
        _ => None,
    }
}

/// What `pick` takes of the entries below `parent`, or of the whole unit's.
fn children<'data, T>(
    unit: &Unit<Reader<'data>>,
    parent: Option<UnitOffset>,
    budget: &Budget,
    pick: impl Fn(&Entry<'data>) -> Option<T>,
) -> gimli::Result<Vec<T>> {
    let mut tree = unit.entries_tree(parent)?;
    let mut children = tree.root()?.children();
    let mut picked = Vec::new();
    while let Some(child) = children.next()?
        && !budget.is_over()
    {
        picked.extend(pick(child.entry()));
    }
    Ok(picked)
}
