//! The nginx binaries and processes under trace: attached once a binary, followed from fork to exit.
//!
//! The table also answers what the probes' records leave open ([`ResolveText`]). Not here: what an executable offers
//! ([`Binary`]), and which processes run one ([`discover`]).

mod binary;
mod logs;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bstr::BString;

use self::binary::TrackedBinary;
pub use self::logs::LOG_LIMIT;
use super::memory::{Memory, hides_failures, load_bias};
use super::{Binary, BinaryId, NginxProcess, discover};
use crate::decode::ResolveText;
use crate::event::{Body, Pid, ProcessRef, Record, WorkerInfo};
use crate::kernel::load::Kernel;
use crate::proc::clock;

/// A traced process.
struct TrackedProcess {
    /// Under which its executable's probes are kept.
    id: BinaryId,
    /// What it calls its executable itself: through another overlay mount another one.
    own: BinaryId,
    /// Run-time address minus address in the file; `None` where its memory map could not be read.
    bias: Option<u64>,
    serves: bool,
    /// `None` where it may not be read.
    memory: Option<Memory>,
}

/// See the module.
#[derive(Default)]
pub struct Tracked {
    /// What `--pid` named; empty for every nginx.
    selected: Vec<Pid>,
    passthrough: bool,
    binaries: HashMap<BinaryId, TrackedBinary>,
    /// The same files through other overlay mounts, and as what they are kept.
    aliases: HashMap<BinaryId, BinaryId>,
    /// Files that could not be probed, so that each further process of them is not tried again.
    unusable: HashSet<BinaryId>,
    processes: BTreeMap<Pid, TrackedProcess>,
    /// How many more ticks look for workers of an nginx that has just started.
    rescans_left: u32,
    /// Processes that could not be traced.
    refused: usize,
}

/// Where packages and nginx's own `make install` put it.
const INSTALLED: [&str; 6] = [
    "/usr/sbin/nginx",
    "/usr/local/sbin/nginx",
    "/usr/local/nginx/sbin/nginx",
    "/usr/local/openresty/nginx/sbin/nginx",
    "/usr/sbin/angie",
    "/usr/local/tengine/sbin/nginx",
];

/// How long an executable may be without a process before it is let go: a supervisor starts its nginx again meanwhile.
const UNUSED_FOR: Duration = Duration::from_secs(2);

/// Files that cannot be probed and are remembered.
const MAX_UNUSABLE: usize = 1_024;

/// A new nginx is looked at on this many ticks: at once, and when a slow start is over.
const RESCANS: u32 = 4;

impl Tracked {
    /// An empty table. `selected` are the pids that `--pid` named, none for every nginx; `passthrough` asks for the probe
    /// on the success path.
    pub fn new(selected: Vec<Pid>, passthrough: bool) -> Self {
        Self { selected, passthrough, ..Self::default() }
    }

    /// Attaches to every nginx that runs now and is wanted.
    ///
    /// # Errors
    /// When a process named by `--pid` is not an nginx.
    pub fn attach_all(&mut self, kernel: &mut Kernel) -> Result<Vec<Record>> {
        let all = discover::processes();
        let runs = |pid: &&Pid| all.iter().any(|nginx| nginx.process.pid == **pid);
        if let Some(pid) = self.selected.iter().find(|pid| !runs(pid)) {
            bail!("process {pid} is not a running nginx; `pgrep -a nginx` lists them");
        }
        let wanted = discover::select(all, &self.selected);
        let records = wanted.iter().filter_map(|nginx| self.attach(nginx, kernel)).collect();
        if self.selected.is_empty() {
            self.attach_installed(kernel);
        }
        Ok(records)
    }

    /// Attaches to what is installed and does not run yet, so that nothing is missed when it starts.
    fn attach_installed(&mut self, kernel: &mut Kernel) {
        for path in INSTALLED.map(Path::new) {
            let Ok(binary) = Binary::open(path) else { continue };
            // What is wrong with it is said once it runs.
            if !binary.is_nginx() || binary.problem().is_some() || self.binaries.contains_key(&binary.id) {
                continue;
            }
            if let Err(error) = self.attach_binary(binary, path.as_os_str().as_bytes().into(), kernel) {
                log::debug!("{}, which does not run yet: {error:#}", path.display());
            }
        }
    }

    /// Has the next ticks look for new nginx processes.
    pub fn rescan_soon(&mut self) {
        self.rescans_left = RESCANS;
    }

    /// A process runs another program: perhaps an nginx that was just started.
    pub fn executed(&mut self, process: &ProcessRef, kernel: &mut Kernel) -> Vec<Record> {
        let known = self.processes.remove(&process.pid).is_some();
        if !self.selected.is_empty() && !known {
            return Vec::new();
        }
        let Some(nginx) = discover::inspect(process.pid) else {
            if known {
                kernel.untrace(process.pid.0);
            }
            self.forget_reused(process.pid, kernel);
            // It may have gone into the background meanwhile.
            if discover::has_nginx_name(&process.comm) {
                self.rescan_soon();
            }
            return Vec::new();
        };
        self.rescan_soon();
        self.attach(&nginx, kernel).into_iter().collect()
    }

    /// A process may run another program whose file has the number of a removed nginx.
    fn forget_reused(&self, pid: Pid, kernel: &mut Kernel) {
        let file = std::fs::metadata(format!("/proc/{pid}/exe")).map(|file| BinaryId::from(&file));
        if let Ok(id) = file
            && (self.binaries.contains_key(&id) || self.aliases.contains_key(&id))
        {
            kernel.forget_binary(id.key());
            kernel.untrace(pid.0);
        }
    }

    /// Catches up with workers that a new master forked before it was traced itself.
    pub fn rescan(&mut self, kernel: &mut Kernel) -> Vec<Record> {
        if self.rescans_left == 0 {
            return Vec::new();
        }
        self.rescans_left -= 1;
        let mut pids = self.selected.clone();
        if !pids.is_empty() {
            // After an upgrade the selected master is gone; its successor was followed from the fork on.
            pids.extend(self.processes.keys());
        }
        discover::select(discover::processes(), &pids)
            .iter()
            .filter_map(|nginx| self.attach(nginx, kernel))
            .collect()
    }

    /// A child of a traced process runs the same program at the same addresses. The kernel traces it already, unless it
    /// was forked before its parent was traced.
    pub fn forked(&mut self, parent: Pid, child: Pid, kernel: &mut Kernel) {
        let Some(&TrackedProcess { id, own, bias, .. }) = self.processes.get(&parent) else { return };
        let Some(target) = self.binaries.get(&id) else { return };
        if let Err(error) = kernel.trace(child.0, target.traced(bias)) {
            log::warn!("nginx {child} is not traced: {error:#}");
        }
        let memory = Memory::of(child, own);
        self.processes.insert(child, TrackedProcess { id, own, bias, serves: true, memory });
    }

    /// A process is gone.
    pub fn exited(&mut self, pid: Pid, kernel: &mut Kernel) {
        if self.processes.remove(&pid).is_some() {
            kernel.untrace(pid.0);
        }
    }

    /// Lets go of executables that nobody runs any more: probes hold the mount through which they were attached, and with it
    /// the files of a container that was removed.
    pub fn release(&mut self, kernel: &mut Kernel) {
        let now = Instant::now();
        for target in self.binaries.values_mut() {
            let own = target.binary.id;
            let used = target.installed || self.processes.values().any(|process| process.own == own);
            target.unused_since = (!used).then(|| target.unused_since.unwrap_or(now));
        }
        let is_due = |target: &TrackedBinary| {
            target.unused_since.is_some_and(|since| now.duration_since(since) >= UNUSED_FOR)
        };
        let due: Vec<_> =
            self.binaries.iter().filter(|(_, target)| is_due(target)).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| self.release_one(id, kernel));
    }

    /// Takes the probes back, or has them hold another mount through which the file is run.
    fn release_one(&mut self, id: BinaryId, kernel: &mut Kernel) {
        let Some(mut old) = self.binaries.remove(&id) else { return };
        let through_others = self.processes.iter().filter(|(_, process)| process.id == id);
        let others: Vec<_> = through_others.map(|(pid, _)| discover::exe(*pid)).collect();
        let again = others.into_iter().find_map(|path| {
            let binary = Binary::open(&path).ok().filter(|binary| binary.is_same_below(&old.binary))?;
            old.moved_to(binary, kernel).inspect_err(|error| log::debug!("{}: {error:#}", old.exe)).ok()
        });
        old.detach(kernel);
        if let Some(new) = again {
            self.binaries.insert(id, new);
            return;
        }
        kernel.forget_binary(id.key());
        for (alias, _) in self.aliases.extract_if(|_, of| *of == id) {
            kernel.forget_binary(alias.key());
        }
        for (pid, _) in self.processes.extract_if(.., |_, process| process.id == id) {
            kernel.untrace(pid.0);
        }
    }

    /// Under which number the probes of a file are kept.
    fn kept_as(&self, id: BinaryId) -> BinaryId {
        self.aliases.get(&id).copied().unwrap_or(id)
    }

    /// Pids of traced processes that serve requests.
    pub fn workers(&self) -> impl Iterator<Item = Pid> {
        self.processes.iter().filter(|(_, process)| process.serves).map(|(pid, _)| *pid)
    }

    /// How many processes were found that could not be traced.
    pub fn refused(&self) -> usize {
        self.refused
    }

    /// Whether nothing is traced.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Whether a probe is attached to every binary.
    pub fn has_probe(&self, name: &str) -> bool {
        !self.binaries.is_empty() && self.binaries.values().all(|target| target.probes.contains(&name))
    }

    /// The builds, as `/usr/sbin/nginx (nginx/1.22.1)`.
    pub fn builds(&self) -> Vec<String> {
        let mut builds: Vec<_> = self
            .binaries
            .iter()
            .filter(|(id, _)| self.processes.values().any(|process| process.id == **id))
            .map(|(_, target)| match &target.binary.version {
                Some(version) => format!("{} ({version})", target.exe),
                None => target.exe.to_string(),
            })
            .collect();
        builds.sort();
        builds
    }

    /// Traces a process; `None` when it is traced already or cannot be.
    fn attach(&mut self, nginx: &NginxProcess, kernel: &mut Kernel) -> Option<Record> {
        let pid = nginx.process.pid;
        let traced = self.processes.get(&pid).is_some_and(|process| process.own == nginx.id);
        if traced || self.unusable.contains(&nginx.id) {
            return None;
        }
        let traced = self.trace(nginx, kernel).inspect_err(|error| {
            if discover::inspect(pid).is_none_or(|now| now.id != nginx.id) {
                log::debug!("nginx {pid} ended or runs another program meanwhile: {error:#}");
            } else {
                log::warn!("nginx {pid} ({}) is not traced: {error:#}", nginx.exe);
                self.refused += 1;
                if self.unusable.len() >= MAX_UNUSABLE {
                    self.unusable.clear();
                }
                self.unusable.insert(nginx.id);
            }
        });
        traced.ok()
    }

    /// Traces a process, and attaches to its executable unless that was done.
    fn trace(&mut self, nginx: &NginxProcess, kernel: &mut Kernel) -> Result<Record> {
        let pid = nginx.process.pid;
        if !self.binaries.contains_key(&self.kept_as(nginx.id)) {
            let path = &nginx.binary_path;
            let binary = Binary::open(path).with_context(|| path.display().to_string())?;
            if binary.id != nginx.id {
                bail!("it runs another program by now");
            }
            if let Some(problem) = binary.problem() {
                log::warn!("{}: {problem}", nginx.exe);
            }
            self.attach_binary(binary, nginx.exe.clone(), kernel)?;
        }
        let id = self.kept_as(nginx.id);
        let target = self.binaries.get(&id).context("its executable was replaced meanwhile")?;
        let bias = load_bias(pid, &target.binary, nginx.id);
        if bias.is_none() {
            log::warn!(
                "cannot read the memory map of nginx {pid}; its log messages are read from its memory instead"
            );
        }
        kernel.trace(pid.0, target.traced(bias))?;
        let memory = Memory::of(pid, nginx.id);
        let version = target.binary.version.as_ref().map(ToString::to_string);
        let level =
            memory.as_ref().zip(bias).and_then(|(memory, bias)| memory.log_level(&target.binary, bias));
        let process = TrackedProcess { id, own: nginx.id, bias, serves: nginx.role.serves(), memory };
        self.processes.insert(pid, process);
        if level.is_some_and(hides_failures) {
            self.log_hides(pid, kernel);
        }
        let worker = WorkerInfo {
            process: nginx.process.clone(),
            exe: nginx.exe.clone(),
            version,
            container: nginx.container.clone(),
        };
        Ok(Record { at: clock::now(), body: Body::Worker(worker) })
    }

    fn attach_binary(&mut self, binary: Binary, exe: BString, kernel: &mut Kernel) -> Result<()> {
        let id = binary.id;
        if let Some((kept, target)) =
            self.binaries.iter().find(|(_, target)| target.binary.is_same_below(&binary))
        {
            kernel.know_binary(id.key(), target.traced(None), self.selected.is_empty());
            self.aliases.insert(id, *kept);
            return Ok(());
        }
        let taken = |index: &u32| self.binaries.values().any(|target| target.index == *index);
        let index = (0..=u32::MAX).find(|index| !taken(index)).context("no room for another nginx")?;
        let new = TrackedBinary::attach(binary, exe, index, self.passthrough, kernel)?;
        kernel.know_binary(id.key(), new.traced(None), self.selected.is_empty());
        self.binaries.insert(id, new);
        Ok(())
    }
}

impl ResolveText for Tracked {
    fn text(&self, worker: Pid, address: u64) -> Option<BString> {
        let process = self.processes.get(&worker)?;
        self.binaries.get(&process.id)?.binary.text_at(address.wrapping_sub(process.bias?))
    }

    fn string(&self, worker: Pid, address: u64) -> Option<BString> {
        self.processes.get(&worker)?.memory.as_ref()?.string_at(address)
    }

    fn log_unread(&self, worker: Pid) -> bool {
        let binary = self.processes.get(&worker).and_then(|process| self.binaries.get(&process.id));
        binary.is_some_and(|binary| binary.log_unread)
    }
}
