//! The nginx binaries and processes under trace: attached once a binary, followed from fork to exit.
//!
//! The table also answers what the probes' records leave open ([`ResolveText`]). Not here: what an executable offers
//! ([`Binary`]), and which processes run one ([`discover`]).

mod binary;
mod logs;

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use bstr::BString;

use self::binary::TrackedBinary;
pub use self::logs::LOG_LIMIT;
use super::memory::{hides_failures, load_bias, log_level, string_at};
use super::{Binary, BinaryId, NginxProcess, discover};
use crate::decode::ResolveText;
use crate::event::{Body, Pid, ProcessRef, Record, WorkerInfo};
use crate::kernel::load::Kernel;
use crate::proc::clock;

/// A traced process.
struct TrackedProcess {
    id: BinaryId,
    /// Run-time address minus address in the file; `None` where its memory map could not be read.
    bias: Option<u64>,
    serves: bool,
}

/// See the module.
#[derive(Default)]
pub struct Tracked {
    /// What `--pid` named; empty for every nginx.
    selected: Vec<Pid>,
    passthrough: bool,
    binaries: HashMap<BinaryId, TrackedBinary>,
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
            if let Err(error) = self.attach_binary(binary, path, path.as_os_str().as_bytes().into(), kernel) {
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
            && self.binaries.contains_key(&id)
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
        let Some(TrackedProcess { id, bias, .. }) = self.processes.get(&parent) else { return };
        let process = TrackedProcess { id: *id, bias: *bias, serves: true };
        let Some(target) = self.binaries.get(id) else { return };
        if let Err(error) = kernel.trace(child.0, target.traced(*bias)) {
            log::warn!("nginx {child} is not traced: {error:#}");
        }
        self.processes.insert(child, process);
    }

    /// A process is gone.
    pub fn exited(&mut self, pid: Pid, kernel: &mut Kernel) {
        if self.processes.remove(&pid).is_some() {
            kernel.untrace(pid.0);
        }
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
        if self.processes.get(&pid).is_some_and(|process| process.id == nginx.id) {
            return None;
        }
        let traced = self.trace(nginx, kernel).inspect_err(|error| {
            if discover::inspect(pid).is_none() {
                log::debug!("nginx {pid} ended meanwhile: {error:#}");
            } else {
                log::warn!("nginx {pid} ({}) is not traced: {error:#}", nginx.exe);
                self.refused += 1;
            }
        });
        traced.ok()
    }

    /// Traces a process, and attaches to its executable unless that was done.
    fn trace(&mut self, nginx: &NginxProcess, kernel: &mut Kernel) -> Result<Record> {
        let pid = nginx.process.pid;
        if !self.binaries.contains_key(&nginx.id) {
            let path = &nginx.binary_path;
            let binary = Binary::open(path).with_context(|| path.display().to_string())?;
            if let Some(problem) = binary.problem() {
                log::warn!("{}: {problem}", nginx.exe);
            }
            self.attach_binary(binary, path, nginx.exe.clone(), kernel)?;
        }
        let target = self.binaries.get(&nginx.id).context("its executable was replaced meanwhile")?;
        let bias = load_bias(pid, &target.binary);
        if bias.is_none() {
            log::warn!(
                "cannot read the memory map of nginx {pid}; its log messages are read from its memory instead"
            );
        }
        kernel.trace(pid.0, target.traced(bias))?;
        self.processes.insert(pid, TrackedProcess { id: nginx.id, bias, serves: nginx.role.serves() });
        let version = target.binary.version.as_ref().map(ToString::to_string);
        if bias.and_then(|bias| log_level(pid, &target.binary, bias)).is_some_and(hides_failures) {
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

    fn attach_binary(
        &mut self,
        binary: Binary,
        path: &Path,
        exe: BString,
        kernel: &mut Kernel,
    ) -> Result<()> {
        let (id, index) = (binary.id, u32::try_from(self.binaries.len())?);
        let new = TrackedBinary::attach(binary, path, exe, index, self.passthrough, kernel)?;
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
        string_at(worker, address)
    }

    fn log_unread(&self, worker: Pid) -> bool {
        let binary = self.processes.get(&worker).and_then(|process| self.binaries.get(&process.id));
        binary.is_some_and(|binary| binary.log_unread)
    }
}
