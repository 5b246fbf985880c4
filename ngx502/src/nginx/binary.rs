//! One nginx executable: where its probe points are, what its literals say, and why it may be unusable.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bstr::{BString, ByteSlice as _};
use ngx502_common::config::FileKey;
use nix::sys::stat::{major, minor};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};
use object::{Object as _, ObjectKind, ObjectSegment as _, ObjectSymbol as _, SymbolKind};

use super::budget::Budget;
use super::entry::{ProbePoint, probe_point};
use super::foreign;
use super::version::{Signature, Version};
use crate::kernel::providers::{SPECIAL_RESPONSE, SSL_ERROR, UPROBES, When};

/// The longest literal that [`Binary::text_at`] returns; nginx's own format strings stay well below.
const MAX_TEXT: usize = 256;

/// A file's identity on this host, whatever path leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BinaryId {
    /// `st_dev`, as `stat` gives it.
    pub dev: u64,
    /// `st_ino`.
    pub inode: u64,
}

impl BinaryId {
    /// The file as the kernel's side knows it.
    pub fn key(self) -> FileKey {
        let number = |part: u64| u32::try_from(part).unwrap_or(u32::MAX);
        FileKey::of(number(major(self.dev)), number(minor(self.dev)), self.inode)
    }
}

impl From<&Metadata> for BinaryId {
    fn from(metadata: &Metadata) -> Self {
        Self { dev: metadata.dev(), inode: metadata.ino() }
    }
}

/// What changes when a file is written to, or its number is given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileState {
    id: BinaryId,
    /// Status change, which its owner cannot set: seconds and nanoseconds.
    changed: (i64, i64),
    size: u64,
}

impl From<&Metadata> for FileState {
    fn from(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self { id: metadata.into(), changed, size: metadata.len() }
    }
}

/// A loadable segment: its place in memory and file, and its bytes if it is read-only.
#[derive(Clone, Debug)]
struct Segment {
    vaddr: u64,
    file_offset: u64,
    file_size: u64,
    executable: bool,
    /// Empty for writable segments.
    bytes: Vec<u8>,
}

impl Segment {
    /// The virtual address of a file offset, if this segment maps some of `length` bytes from there.
    ///
    /// The kernel maps whole pages, so a mapping may start a little before the segment does.
    fn vaddr_of(&self, offset: u64, length: u64) -> Option<u64> {
        let overlaps = offset < self.file_offset.checked_add(self.file_size)?
            && offset.checked_add(length)? > self.file_offset;
        overlaps.then(|| self.vaddr.wrapping_sub(self.file_offset).wrapping_add(offset))
    }

    /// The bytes from a virtual address on, at most so many; none of a writable segment.
    fn code(&self, vaddr: u64, size: u64) -> &[u8] {
        let from = vaddr.checked_sub(self.vaddr).and_then(|from| usize::try_from(from).ok());
        let rest = from.and_then(|from| self.bytes.get(from..)).unwrap_or_default();
        &rest[..rest.len().min(usize::try_from(size).unwrap_or(usize::MAX))]
    }

    /// The offset in the file of a virtual address, if the file backs it.
    fn file_offset_of(&self, vaddr: u64) -> Option<u64> {
        let within = vaddr.checked_sub(self.vaddr).filter(|within| *within < self.file_size)?;
        self.file_offset.checked_add(within)
    }
}

/// An executable, read once: its probe points, read-only data and self-description.
#[derive(Clone, Debug)]
pub struct Binary {
    /// The path that it was opened by, which may lead to another file by now.
    pub path: PathBuf,
    /// The file that was read: what is attached is attached to this one.
    file: Arc<File>,
    /// How it was when it was read.
    state: FileState,
    /// Which file it is.
    pub id: BinaryId,
    /// Where to put the probes: for each BPF program in [`UPROBES`] whose function has a symbol, the place in the *file*.
    pub functions: HashMap<&'static str, ProbePoint>,
    /// What it calls itself; `None` when it does not say so.
    pub version: Option<Version>,
    /// Its build options as modules see them.
    pub signature: Option<Signature>,
    /// GNU build id.
    pub build_id: Option<Vec<u8>>,
    /// Name and CRC-32 of its separate debug file.
    pub debug_link: Option<(BString, u32)>,
    /// Whether it carries its debug information itself.
    pub has_debug_info: bool,
    /// Address in the file of the variable `ngx_cycle`; `None` without such a symbol.
    pub cycle: Option<u64>,
    /// Whether it has dynamic symbols at all.
    has_dynamic_symbols: bool,
    segments: Vec<Segment>,
}

impl Binary {
    /// Reads an executable.
    ///
    /// # Errors
    /// [`BinaryError`] when `path` is not a readable 64-bit ELF executable. Missing symbols are not an error: see
    /// [`Binary::problem`].
    pub fn open(path: &Path) -> Result<Self, BinaryError> {
        let file = foreign::open(path)?;
        let state = FileState::from(&file.metadata()?);
        let data = foreign::read(&file)?;
        Self::parse(path, file, state, &data)
    }

    pub(super) fn parse(path: &Path, file: File, state: FileState, data: &[u8]) -> Result<Self, BinaryError> {
        let elf = object::File::parse(data)?;
        if !elf.is_64() {
            return Err(BinaryError::WordSize);
        }
        if !matches!(elf.kind(), ObjectKind::Executable | ObjectKind::Dynamic) {
            let reason = "it is neither executable nor position-independent";
            return Err(BinaryError::Malformed(reason.to_owned()));
        }
        let segments = segments(&elf)?;
        let budget = Budget::new();
        let symbols = named(&elf, &budget)?;
        let texts = || segments.iter().map(|segment| segment.bytes.as_slice());
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            state,
            id: state.id,
            functions: functions(&elf, &symbols, &segments),
            version: texts().filter_map(Version::find).max_by_key(|version| version.product),
            signature: texts().find_map(Signature::find),
            build_id: elf.build_id().ok().flatten().map(<[u8]>::to_vec),
            debug_link: elf.gnu_debuglink().ok().flatten().map(|(name, crc)| (name.into(), crc)),
            has_debug_info: elf.section_by_name(".debug_info").is_some(),
            cycle: symbols.iter().find(|symbol| symbol.name == CYCLE).map(|symbol| symbol.address),
            has_dynamic_symbols: elf.dynamic_symbols().next().is_some(),
            segments,
        })
    }

    /// A path that leads to the very file that was read for as long as this lives, whatever became of its own path.
    ///
    /// # Errors
    /// When the file was written to since: what was read of it does not hold any more.
    pub fn pinned_path(&self) -> Result<PathBuf, BinaryError> {
        // An upgrade that removes the file changes its state, too, but not what it holds.
        if FileState::from(&self.file.metadata()?) != self.state && !self.holds_what_was_read()? {
            return Err(BinaryError::Changed);
        }
        Ok(PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd())))
    }

    fn holds_what_was_read(&self) -> Result<bool, BinaryError> {
        let data = self.bytes()?;
        let unchanged = |segment: &Segment| {
            let from = usize::try_from(segment.file_offset).unwrap_or(usize::MAX);
            data.get(from..).is_some_and(|rest| rest.starts_with(&segment.bytes))
        };
        Ok(self.segments.iter().filter(|segment| !segment.bytes.is_empty()).all(unchanged))
    }

    /// Whether two are one file on a disk, seen through different overlay mounts, as containers of one image have it: the
    /// kernel keeps its probes by the file below. An overlay shows that one's number, size and time of change.
    pub(super) fn is_same_below(&self, other: &Self) -> bool {
        let below = |binary: &Self| (binary.id.inode, binary.state.changed, binary.state.size);
        below(self) == below(other) && (self.is_overlaid() || other.is_overlaid())
    }

    /// Whether it was opened through an overlay mount, as containers have it.
    pub(super) fn is_overlaid(&self) -> bool {
        fstatfs(&self.file).is_ok_and(|found| found.filesystem_type() == OVERLAYFS_SUPER_MAGIC)
    }

    /// The bytes of the file as it is now.
    ///
    /// # Errors
    /// When it cannot be read any more.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, BinaryError> {
        foreign::read(&self.file)
    }

    /// Whether this is nginx or a fork: it has nginx's error page function, or both nginx's version line and module
    /// signature (a stripped static build). Programs that merely talk about nginx have neither.
    pub fn is_nginx(&self) -> bool {
        self.functions.contains_key(SPECIAL_RESPONSE) || (self.version.is_some() && self.signature.is_some())
    }

    /// What keeps it from being probed fully; `None` when all is well. A build without TLS needs no `ngx_ssl_error`.
    pub fn problem(&self) -> Option<BinaryProblem> {
        if self.functions.is_empty() {
            let dynamic = self.has_dynamic_symbols;
            return Some(if dynamic { BinaryProblem::NotExported } else { BinaryProblem::StaticAndStripped });
        }
        let without_tls = self.signature.is_some() && self.find(b"SSL_do_handshake() failed").is_none();
        let needed = UPROBES.iter().filter(|uprobe| {
            uprobe.when != When::Passthrough && !(without_tls && uprobe.program == SSL_ERROR)
        });
        let missing = needed.filter(|uprobe| !self.functions.contains_key(uprobe.program));
        let missing: Vec<_> = missing.map(|uprobe| uprobe.symbol).collect();
        (!missing.is_empty()).then_some(BinaryProblem::Missing(missing))
    }

    /// The literal at a virtual address of the file (a run-time pointer minus `load_bias`): up to its NUL, at most
    /// 256 bytes. `None` outside the read-only segments and for an empty or unterminated text.
    pub fn text_at(&self, vaddr: u64) -> Option<BString> {
        let segment = self.segments.iter().find(|segment| {
            vaddr.checked_sub(segment.vaddr).is_some_and(|within| within < segment.bytes.len() as u64)
        })?;
        let rest = &segment.bytes[usize::try_from(vaddr - segment.vaddr).ok()?..];
        let text = match rest.find_byte(0) {
            Some(end) => &rest[..end.min(MAX_TEXT)],
            None => rest.get(..MAX_TEXT)?,
        };
        (!text.is_empty()).then(|| text.into())
    }

    /// From the first to the last virtual address of the read-only segments: what lies there [`Binary::text_at`] reads.
    pub fn texts(&self) -> Range<u64> {
        let read_only = || self.segments.iter().filter(|segment| !segment.bytes.is_empty());
        let from = read_only().map(|segment| segment.vaddr).min();
        let to = read_only().map(|segment| segment.vaddr.saturating_add(segment.bytes.len() as u64)).max();
        from.unwrap_or(0)..to.unwrap_or(0)
    }

    /// The virtual address in the file of the first occurrence of some bytes in the read-only segments.
    pub fn find(&self, bytes: &[u8]) -> Option<u64> {
        self.segments.iter().find_map(|segment| segment.vaddr.checked_add(segment.bytes.find(bytes)? as u64))
    }

    /// The virtual address in the file of what is mapped from `offset` on for `length` bytes, if that is code.
    pub(super) fn code_address(&self, offset: u64, length: u64) -> Option<u64> {
        let mut code = self.segments.iter().filter(|segment| segment.executable);
        code.find_map(|segment| segment.vaddr_of(offset, length))
    }
}

/// Why an executable cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// What the kernel said.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It is not a regular file, or too large to be a server's executable.
    #[error("not a regular file of at most 256 MiB, so it is not read")]
    NotReadable,
    /// It is made so that reading it takes more than it may.
    #[error("its symbols or segments take more time or memory than any nginx's, so it is not probed")]
    TooCostly,
    /// It was written to between two looks.
    #[error("it was written to while it was read, so it is not probed")]
    Changed,
    /// It is not a whole ELF executable, for this reason.
    #[error("not a valid ELF executable ({0}), so it cannot be probed")]
    Malformed(String),
    /// It is a 32-bit executable, whose structs the probes do not know.
    #[error("32-bit executables are not supported by the nginx probes; only the kernel's view is left")]
    WordSize,
}

impl From<object::Error> for BinaryError {
    fn from(error: object::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// What keeps a readable nginx binary from being probed fully.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BinaryProblem {
    /// Neither `.dynsym` nor `.symtab` names nginx's functions.
    #[error(
        "it is statically linked and stripped, so no function can be probed and causes come from the kernel alone; \
         use an nginx that is dynamically linked or not stripped"
    )]
    StaticAndStripped,
    /// A dynamic binary that does not export its functions (linked without `-Wl,-E`) and is stripped.
    #[error(
        "it exports none of nginx's functions and is stripped, so none can be probed and causes come from the kernel \
         alone; link it with -Wl,-E, as nginx's configure does by itself, or do not strip it"
    )]
    NotExported,
    /// Some functions are there, some are not.
    #[error(
        "it lacks the symbol of {}, so failures visible only there come from the kernel alone; \
         use a build with all of nginx's symbols", .0.join(", ")
    )]
    Missing(Vec<&'static str>),
}

/// The bytes of an executable's read-only segments are kept up to this: no nginx has a quarter of it.
const MAX_SEGMENTS: usize = 128 << 20;

fn segments(elf: &object::File<'_>) -> Result<Vec<Segment>, BinaryError> {
    let mut kept = 0;
    let mut segments = Vec::new();
    for segment in elf.segments() {
        let (file_offset, file_size) = segment.file_range();
        let permissions = segment.permissions();
        let bytes = if permissions.writable() { &[][..] } else { segment.data()? };
        // Each may cover the whole file.
        kept += bytes.len();
        if kept > MAX_SEGMENTS {
            return Err(BinaryError::TooCostly);
        }
        segments.push(Segment {
            vaddr: segment.address(),
            file_offset,
            file_size,
            executable: permissions.executable(),
            bytes: bytes.to_vec(),
        });
    }
    Ok(segments)
}

/// What is defined in an executable.
struct Defined<'elf> {
    name: &'elf [u8],
    address: u64,
    size: u64,
    kind: SymbolKind,
}

/// nginx's variable that leads to its configuration.
const CYCLE: &[u8] = b"ngx_cycle";

/// The symbols that matter, of `.dynsym`, which survives `strip`, then of `.symtab`: only what is defined here, since an
/// imported function (a dynamic module's) has the name but no code.
fn named<'elf>(elf: &'elf object::File<'elf>, budget: &Budget) -> Result<Vec<Defined<'elf>>, BinaryError> {
    let mut found = Vec::new();
    for symbol in elf.dynamic_symbols().chain(elf.symbols()).filter(|symbol| symbol.is_definition()) {
        // The end of each name is searched for: a table without ends makes that long.
        if budget.is_over() {
            return Err(BinaryError::TooCostly);
        }
        let Ok(name) = symbol.name_bytes() else { continue };
        if name == CYCLE || UPROBES.iter().any(|uprobe| uprobe.symbol.as_bytes() == name) {
            let (address, size, kind) = (symbol.address(), symbol.size(), symbol.kind());
            found.push(Defined { name, address, size, kind });
        }
    }
    Ok(found)
}

/// A function without a size in the symbol table is read so far.
const UNSIZED: u64 = 64;

fn functions(
    elf: &object::File<'_>,
    symbols: &[Defined<'_>],
    segments: &[Segment],
) -> HashMap<&'static str, ProbePoint> {
    let mut functions = HashMap::new();
    // Data of that name would get a breakpoint written into it.
    for symbol in symbols.iter().filter(|symbol| symbol.kind == SymbolKind::Text) {
        let named = UPROBES.iter().find(|uprobe| uprobe.symbol.as_bytes() == symbol.name);
        let Some(uprobe) = named else { continue };
        let mut code = segments.iter().filter(|segment| segment.executable);
        let size = if symbol.size == 0 { UNSIZED } else { symbol.size };
        let point = code.find_map(|segment| {
            let offset = segment.file_offset_of(symbol.address)?;
            Some(probe_point(
                elf.architecture(),
                offset,
                uprobe.arguments,
                segment.code(symbol.address, size),
            ))
        });
        if let Some(point) = point {
            functions.entry(uprobe.program).or_insert(point);
        }
    }
    functions
}
