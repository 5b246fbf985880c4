//! Which nginx processes this host runs, containers included.
//!
//! An executable counts by what it holds, not by its name alone; everything comes from `/proc`, and a process that
//! vanishes while it is looked at is simply not there.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use bstr::{BString, ByteSlice as _};

use super::binary::{Binary, BinaryId, FileState};
use super::role::{self, Role};
use crate::event::{Pid, ProcessRef};
use crate::proc;

/// A file is only opened to see whether it is nginx when its name has one of these words, or its process nginx's title.
const NAMES: [&[u8]; 4] = [b"nginx", b"openresty", b"angie", b"tengine"];

/// What the kernel appends to the link of an executable that was removed or replaced.
const DELETED: &[u8] = b" (deleted)";

/// More files than this with nginx's name are never seen on one host; beyond it the memory is worth more.
const MAX_VERDICTS: usize = 1024;

/// One process that runs nginx or a fork of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NginxProcess {
    /// The process, with its start rounded down to a clock tick.
    pub process: ProcessRef,
    /// Its parent, in this pid namespace; 0 when that is outside.
    pub parent: Pid,
    /// What it does.
    pub role: Role,
    /// The executable's path as the process itself sees it, without ` (deleted)`.
    pub exe: BString,
    /// A path by which *this* process can open the executable, whatever namespace it is in. It is good for as long as
    /// the process lives.
    pub binary_path: PathBuf,
    /// Which file the executable is.
    pub id: BinaryId,
    /// Its container: whole id or name.
    pub container: Option<String>,
}

/// The link to what a process runs, which it may change at any moment.
pub(super) fn exe(pid: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/exe"))
}

/// Every nginx process that can be seen, by ascending pid. Empty without `/proc`.
pub fn processes() -> Vec<NginxProcess> {
    let mut found: Vec<_> = proc::pids().into_iter().flatten().filter_map(inspect).collect();
    found.sort_by_key(|nginx| nginx.process.pid.0);
    found
}

/// One process; `None` when it is gone or not nginx.
pub fn inspect(pid: Pid) -> Option<NginxProcess> {
    let directory = Path::new("/proc").join(pid.to_string());
    let link = fs::read_link(directory.join("exe")).ok()?.into_os_string().into_vec();
    let cmdline = proc::read(&format!("/proc/{pid}/cmdline")).ok()?;
    let exe = link.strip_suffix(DELETED).unwrap_or(&link);
    if !has_nginx_name(exe) && role::title(&cmdline).is_none() {
        return None;
    }
    let binary_path = openable(&directory, exe)?;
    let id = nginx_id(&binary_path)?;
    let proc::Stat { comm, parent, start, .. } = proc::stat(pid).ok()?;
    Some(NginxProcess {
        process: ProcessRef { pid, start, comm },
        parent,
        role: Role::from_cmdline(&cmdline),
        exe: exe.into(),
        binary_path,
        id,
        container: proc::cgroup::of(pid).container,
    })
}

/// Keeps what `--pid` names: the processes themselves and all that descend from them, so that a master stands for its
/// workers, also for those of the new master in an upgrade. No pids select everything.
pub fn select(all: Vec<NginxProcess>, pids: &[Pid]) -> Vec<NginxProcess> {
    if pids.is_empty() {
        return all;
    }
    let parents: HashMap<u32, u32> = all.iter().map(|nginx| (nginx.process.pid.0, nginx.parent.0)).collect();
    let is_named = |pid: u32| pids.iter().any(|named| named.0 == pid);
    // `/proc` is read bit by bit, so reused pids could make a ring of parents; no chain is longer than the list.
    let descends = |nginx: &NginxProcess| {
        std::iter::successors(Some(nginx.process.pid.0), |pid| parents.get(pid).copied())
            .take(parents.len() + 1)
            .any(is_named)
    };
    all.into_iter().filter(descends).collect()
}

/// Whether an executable's path, or a process's name, is that of an nginx.
pub fn has_nginx_name(exe: &[u8]) -> bool {
    let name = exe.rsplit_str(b"/").next().unwrap_or_default().to_ascii_lowercase();
    NAMES.iter().any(|word| name.contains_str(word))
}

/// The magic link opens even a removed file; the path through the process's root serves where the link is closed.
fn openable(directory: &Path, exe: &[u8]) -> Option<PathBuf> {
    let relative = OsStr::from_bytes(exe.trim_start_with(|c| c == '/'));
    [directory.join("exe"), directory.join("root").join(relative)]
        .into_iter()
        .find(|path| path.metadata().is_ok_and(|metadata| metadata.is_file()) && File::open(path).is_ok())
}

/// Whether a file is nginx, remembered: hundreds of workers share one binary.
static VERDICTS: LazyLock<Mutex<HashMap<FileState, bool>>> = LazyLock::new(Mutex::default);

/// The identity of the executable at `path` if it is nginx.
fn nginx_id(path: &Path) -> Option<BinaryId> {
    let metadata = path.metadata().ok()?;
    let id = BinaryId::from(&metadata);
    // So that a reused inode number is not taken for the old file.
    let state = FileState::from(&metadata);
    let known = VERDICTS.lock().unwrap_or_else(PoisonError::into_inner).get(&state).copied();
    let is_nginx = known.unwrap_or_else(|| {
        // Read outside the lock: a large file must not hold up other callers.
        let verdict = Binary::open(path).is_ok_and(|binary| binary.is_nginx());
        let mut verdicts = VERDICTS.lock().unwrap_or_else(PoisonError::into_inner);
        if verdicts.len() >= MAX_VERDICTS {
            verdicts.clear();
        }
        verdicts.insert(state, verdict);
        verdict
    });
    is_nginx.then_some(id)
}
