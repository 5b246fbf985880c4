//! Questions to the running kernel's type information (BTF): member offsets, enumerators, tracepoint arguments.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    path::Path,
};

use btf_rs::{Backend, Btf, Type};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Where the kernel shows its own BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The kernel's types.
///
/// Some forty of 130,000 types are asked for. btf-rs either keeps all of them as objects (100 ms and 60 MB at the
/// start of every trace) or searches all of them for each name; an index of the names' hashes in between takes 5 ms,
/// and less than a megabyte.
pub struct KernelTypes {
    btf: Btf,
    /// Hash of a name and the id of a type that may have it, sorted.
    names: Vec<(u64, u32)>,
}

/// A member found: its distance from the struct's beginning, and its type.
struct Found {
    bits: u32,
    member: btf_rs::Member,
}

impl KernelTypes {
    /// Reads BTF from a file, normally [`VMLINUX`].
    ///
    /// # Errors
    /// When the file is missing or no BTF.
    pub fn from_file(path: &Path) -> Result<Self, btf_rs::Error> {
        let bytes = std::fs::read(path)?;
        let names =
            names(&bytes).ok_or_else(|| btf_rs::Error::Format("types that cannot be walked".to_owned()))?;
        // Where there is no memfd, the slow way is still a way.
        let btf = map(&bytes).or_else(|_| Btf::from_bytes(&bytes))?;
        Ok(Self { btf, names })
    }

    /// Types of a name with their ids, in order.
    fn named(&self, name: &str) -> impl Iterator<Item = (u32, Type)> {
        let wanted = hash(name.as_bytes());
        let from = self.names.partition_point(|(hash, _)| *hash < wanted);
        let same = self.names[from..].iter().take_while(move |(hash, _)| *hash == wanted);
        same.filter_map(|(_, id)| Some((*id, self.btf.resolve_type_by_id(*id).ok()?))).filter(
            move |(_, found)| {
                let text = match found {
                    Type::Struct(found) | Type::Union(found) => self.btf.resolve_name(found),
                    Type::Enum(found) => self.btf.resolve_name(found),
                    Type::Typedef(found) => self.btf.resolve_name(found),
                    _ => return false,
                };
                text.is_ok_and(|text| text == name)
            },
        )
    }

    /// Byte offset of a member by path, e.g. `("sock", "__sk_common.skc_family")`. Anonymous structs and unions are
    /// descended into; `a|b` tries a renamed member's names in turn. `None` when this kernel has no such member.
    pub fn offset(&self, structure: &str, path: &str) -> Option<u16> {
        let mut current = self.structure(structure)?;
        let mut bits = 0;
        let mut segments = path.split('.').peekable();
        while let Some(segment) = segments.next() {
            let found = segment.split('|').find_map(|name| self.member(&current, name))?;
            bits += found.bits;
            if segments.peek().is_some() {
                current = self.as_structure(self.btf.resolve_chained_type(&found.member).ok()?)?;
            }
        }
        u16::try_from(bits / 8).ok()
    }

    /// Size of a struct in bytes.
    pub fn size(&self, structure: &str) -> Option<u16> {
        u16::try_from(self.structure(structure)?.size()).ok()
    }

    /// The value of an enumerator of a named enum.
    pub fn enumerator(&self, enumeration: &str, name: &str) -> Option<u32> {
        self.named(enumeration).find_map(|(_, kind)| match kind {
            Type::Enum(found) => found
                .members
                .iter()
                .find(|member| self.btf.resolve_name(*member).is_ok_and(|text| text == name))
                .map(btf_rs::EnumMember::val),
            _ => None,
        })
    }

    /// Whether a tracepoint's argument `index` is a pointer; `None` without such a tracepoint or argument.
    pub fn tracepoint_argument_is_pointer(&self, tracepoint: &str, index: usize) -> Option<bool> {
        let prototype = self.tracepoint(tracepoint)?;
        // The first parameter is the tracer's own `void *__data`.
        let parameter = prototype.parameters.get(index + 1)?;
        Some(matches!(self.btf.resolve_chained_type(parameter).ok()?, Type::Ptr(_)))
    }

    /// BTF in which nothing but tracepoints of these names is described, each under the id that it has in the kernel: what
    /// aya looks for in order to load a program for one. From the whole it would make as many objects as the kernel has
    /// types, which takes longer than all else at the start.
    pub fn tracepoints<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<aya::Btf, aya::BtfError> {
        let mut strings = vec![0];
        let mut types: Vec<[u32; 3]> = Vec::new();
        for name in names.into_iter().map(|name| format!("btf_trace_{name}")) {
            let Some(id) = self.typedef_id(&name) else { continue };
            types.resize(types.len().max(id as usize), [0, FORWARD << 24, 0]);
            types[id as usize - 1] = [strings.len() as u32, TYPEDEF << 24, 0];
            strings.extend(name.bytes().chain([0]));
        }
        let (types_len, strings_len) = (size_of_val(types.as_slice()) as u32, strings.len() as u32);
        let mut btf = MAGIC.to_ne_bytes().to_vec();
        btf.extend([1, 0]);
        let sections = [HEADER_LEN, 0, types_len, types_len, strings_len];
        btf.extend(sections.iter().chain(types.as_flattened()).flat_map(|word| word.to_ne_bytes()));
        btf.extend(strings);
        aya::Btf::parse(&btf, aya::Endianness::default())
    }

    fn typedef_id(&self, name: &str) -> Option<u32> {
        self.named(name).find_map(|(id, kind)| matches!(kind, Type::Typedef(_)).then_some(id))
    }

    fn tracepoint(&self, name: &str) -> Option<btf_rs::FuncProto> {
        self.named(&format!("btf_trace_{name}")).find_map(|(_, kind)| {
            let Type::Typedef(definition) = kind else { return None };
            let Type::Ptr(pointer) = self.btf.resolve_chained_type(&definition).ok()? else { return None };
            match self.btf.resolve_chained_type(&pointer).ok()? {
                Type::FuncProto(prototype) => Some(prototype),
                _ => None,
            }
        })
    }

    fn structure(&self, name: &str) -> Option<btf_rs::Struct> {
        self.named(name).find_map(|(_, kind)| match kind {
            Type::Struct(found) | Type::Union(found) => Some(found),
            _ => None,
        })
    }

    /// Strips typedefs and qualifiers.
    fn as_structure(&self, mut kind: Type) -> Option<btf_rs::Struct> {
        loop {
            kind = match kind {
                Type::Struct(found) | Type::Union(found) => return Some(found),
                Type::Typedef(inner) => self.btf.resolve_chained_type(&inner).ok()?,
                Type::Const(inner) | Type::Volatile(inner) | Type::Restrict(inner) => {
                    self.btf.resolve_chained_type(&inner).ok()?
                }
                _ => return None,
            };
        }
    }

    fn member(&self, structure: &btf_rs::Struct, name: &str) -> Option<Found> {
        structure.members.iter().find_map(|member| {
            let text = self.btf.resolve_name(member).ok()?;
            if text == name {
                return Some(Found { bits: member.bit_offset(), member: member.clone() });
            }
            if !text.is_empty() {
                return None;
            }
            let inner = self.as_structure(self.btf.resolve_chained_type(member).ok()?)?;
            let found = self.member(&inner, name)?;
            Some(Found { bits: member.bit_offset() + found.bits, ..found })
        })
    }
}

/// The first two bytes of BTF.
const MAGIC: u16 = 0xeb9f;
/// Bytes of `struct btf_header`.
const HEADER_LEN: u32 = 24;
/// BTF_KIND_FWD and BTF_KIND_TYPEDEF, of `linux/btf.h`: neither has anything after its head.
const FORWARD: u32 = 7;
const TYPEDEF: u32 = 8;

/// Lets btf-rs map the types: sysfs only allows that since Linux 6.16, a file in memory always does.
fn map(bytes: &[u8]) -> Result<Btf, btf_rs::Error> {
    let mut copy = File::from(memfd_create(c"btf", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
    copy.write_all(bytes)?;
    Btf::from_file_with_backend(format!("/proc/self/fd/{}", copy.as_raw_fd()), Backend::Mmap)
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// The names' hashes and ids of all named structs, unions, enums and typedefs, sorted; `None` when the bytes are no BTF
/// of this machine's byte order, or hold a kind that is not known.
fn names(btf: &[u8]) -> Option<Vec<(u64, u32)>> {
    let word = |at: usize| -> Option<u32> { Some(u32::from_ne_bytes(btf.get(at..at + 4)?.try_into().ok()?)) };
    if btf.get(..2)? != MAGIC.to_ne_bytes() {
        return None;
    }
    let section = |at: usize| -> Option<&[u8]> {
        let begin = word(4)?.checked_add(word(at)?)? as usize;
        btf.get(begin..)?.get(..word(at + 4)? as usize)
    };
    let (types, strings) = (section(8)?, section(16)?);
    let mut names = Vec::new();
    let (mut rest, mut id) = (types, 0);
    while !rest.is_empty() {
        let (head, tail) = rest.split_first_chunk::<12>()?;
        let field = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (name, info) = (field(0) as usize, field(4));
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        id += 1;
        if is_indexed(kind) && name != 0 {
            let text = strings.get(name..)?.split(|byte| *byte == 0).next()?;
            names.push((hash(text), id));
        }
        rest = tail.get(trailer(kind, count)?..)?;
    }
    names.sort_unstable();
    Some(names)
}

/// Bytes after the head of a type, by `enum { BTF_KIND_… }` of `linux/btf.h`.
fn trailer(kind: u32, count: usize) -> Option<usize> {
    match kind {
        1 | 14 | 17 => Some(4),
        3 => Some(12),
        4 | 5 | 15 | 19 => Some(12 * count),
        6 | 13 => Some(8 * count),
        2 | 7..=12 | 16 | 18 => Some(0),
        _ => None,
    }
}

/// BTF_KIND_STRUCT, BTF_KIND_UNION, BTF_KIND_ENUM and BTF_KIND_TYPEDEF.
fn is_indexed(kind: u32) -> bool {
    matches!(kind, 4 | 5 | 6 | 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct a { int: 1 member }`, an int, and a typedef named as the struct.
    fn sample() -> Vec<u8> {
        let strings = b"\0a\0m\0int\0";
        let words: [u32; 3 + 3 + 3 + 1 + 3] = [1, 4 << 24 | 1, 4, 3, 2, 0, 5, 1 << 24, 4, 32, 1, 8 << 24, 2];
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut btf = 0xeb9f_u16.to_ne_bytes().to_vec();
        btf.extend([1, 0]);
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            btf.extend(word.to_ne_bytes());
        }
        [btf, types, strings.to_vec()].concat()
    }

    #[test]
    fn names_lead_to_the_types_that_btf_rs_knows_by_these_ids() {
        let btf = sample();
        assert_eq!(names(&btf).unwrap(), [(hash(b"a"), 1), (hash(b"a"), 3)]);
        let types = KernelTypes { btf: map(&btf).unwrap(), names: names(&btf).unwrap() };
        assert_eq!(types.offset("a", "m"), Some(0));
        assert_eq!(types.size("a"), Some(4));
        assert_eq!(types.size("int"), None, "an int is no struct");
        let collision = KernelTypes { names: vec![(hash(b"b"), 1)], ..types };
        assert_eq!(collision.size("b"), None, "the hash alone does not make it a struct b");
    }

    #[test]
    fn tracepoints_keep_their_ids() {
        let Ok(types) = KernelTypes::from_file(Path::new(VMLINUX)) else {
            eprintln!("skipped: this kernel shows no BTF");
            return;
        };
        let few =
            types.tracepoints(["inet_sock_set_state", "no_such_tracepoint", "tcp_destroy_sock"]).unwrap();
        let named = names(&few.to_bytes()).unwrap();
        assert_eq!(named.len(), 2);
        for name in ["btf_trace_inet_sock_set_state", "btf_trace_tcp_destroy_sock"] {
            let id = types.typedef_id(name).unwrap();
            assert!(named.contains(&(hash(name.as_bytes()), id)), "{name} is not type {id}");
        }
    }

    #[test]
    fn whatever_is_cut_off_is_no_btf() {
        let btf = sample();
        assert!((0..btf.len() - 1).all(|len| names(&btf[..len]).is_none()));
        assert!(names(&[0; 64]).is_none());
    }

    #[test]
    fn this_kernels_types_are_found() {
        let path = Path::new(VMLINUX);
        if !path.exists() {
            eprintln!("skipped: this kernel shows no BTF");
            return;
        }
        let types = KernelTypes::from_file(path).unwrap();
        assert_eq!(types.offset("sock_common", "skc_daddr"), Some(0));
        assert!(types.tracepoint("sched_process_exit").is_some());
        assert_eq!(types.offset("no_such_struct", "x"), None);
    }
}
