//! The nginx binaries and processes under trace: attached once a binary, followed from fork to exit.

mod logs;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Result, anyhow};
use aya::programs::uprobe::UProbeLinkId;
use bstr::BString;
use ngx502_common::config::Traced;

use self::logs::Chatter;
pub(in crate::commands) use self::logs::LIMIT as LOG_LIMIT;
use crate::{
    decode::Texts,
    event::{Body, Pid, ProcessRef, Record, WorkerInfo},
    kernel::{
        load::Kernel,
        providers::{FOR_HIDDEN_LOGS, LOG, PASSTHROUGH, UPROBES},
    },
    nginx::{
        Binary, BinaryId, NginxProcess, discover, hides_failures, layout, load_bias, log_level, string_at,
    },
    proc::clock,
};

/// An nginx executable with its probes.
struct Target {
    binary: Binary,
    /// Where it stands in the kernel's table of layouts.
    index: u32,
    /// BPF names of the probes that are attached.
    probes: Vec<&'static str>,
    /// Those of [`FOR_HIDDEN_LOGS`] that were not needed yet, with their places.
    deferred: Vec<(&'static str, u64)>,
    /// The text of its failures was seen to be hidden, or is no longer read.
    log_hides: bool,
    /// The probe that reads its error log, unless there is none any more, and how much it had to read.
    log: Option<(UProbeLinkId, Chatter)>,
    /// Its error log is no longer read, since it says too much.
    log_unread: bool,
    /// Its path in its own root.
    exe: BString,
}

/// A traced process.
struct Member {
    id: BinaryId,
    /// Run-time address minus address in the file; `None` where its memory map could not be read.
    bias: Option<u64>,
    serves: bool,
}

impl Target {
    /// What the kernel is told of a process of this binary.
    fn traced(&self, bias: Option<u64>) -> Traced {
        let texts = bias.map_or(0..0, |bias| {
            let texts = self.binary.texts();
            texts.start.wrapping_add(bias)..texts.end.wrapping_add(bias)
        });
        Traced {
            layout: self.index,
            log_hides: u32::from(self.log_hides),
            texts_from: texts.start,
            texts_to: texts.end,
        }
    }
}

/// See the module.
pub(in crate::commands) struct Targets {
    /// What `--pid` named; empty for every nginx.
    selected: HashSet<Pid>,
    passthrough: bool,
    binaries: HashMap<BinaryId, Target>,
    members: BTreeMap<Pid, Member>,
    /// How many more ticks look for workers of an nginx that has just started.
    look_again: u32,
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
const LOOKS: u32 = 4;

impl Targets {
    pub(in crate::commands) fn new(selected: HashSet<Pid>, passthrough: bool) -> Self {
        Self {
            selected,
            passthrough,
            binaries: HashMap::new(),
            members: BTreeMap::new(),
            look_again: 0,
            refused: 0,
        }
    }

    /// Attaches to every nginx that runs now and is wanted.
    ///
    /// # Errors
    /// When a process named by `--pid` is no nginx.
    pub(in crate::commands) fn attach_all(&mut self, kernel: &mut Kernel) -> Result<Vec<Record>> {
        let all = discover::processes();
        if let Some(pid) =
            self.selected.iter().find(|pid| !all.iter().any(|nginx| nginx.process.pid == **pid))
        {
            return Err(anyhow!(
                "process {pid} is no running nginx, so there is nothing to trace; see `pgrep -a nginx`"
            ));
        }
        let pids: Vec<_> = self.selected.iter().copied().collect();
        let mut records = Vec::new();
        for nginx in discover::select(all, &pids) {
            records.extend(self.attach(&nginx, kernel));
        }
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
    pub(super) fn look_again(&mut self) {
        self.look_again = LOOKS;
    }

    /// A process runs another program: perhaps an nginx that was just started.
    pub(super) fn executed(&mut self, process: &ProcessRef, kernel: &mut Kernel) -> Vec<Record> {
        let known = self.members.remove(&process.pid).is_some();
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
                self.look_again = LOOKS;
            }
            return Vec::new();
        };
        self.look_again = LOOKS;
        self.attach(&nginx, kernel).into_iter().collect()
    }

    /// What a process runs that is no nginx may be a file with the number of one that was removed.
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
    pub(super) fn catch_up(&mut self, kernel: &mut Kernel) -> Vec<Record> {
        if self.look_again == 0 {
            return Vec::new();
        }
        self.look_again -= 1;
        let mut pids: Vec<_> = self.selected.iter().copied().collect();
        if !pids.is_empty() {
            // After an upgrade the selected master is gone; its successor was followed from the fork on.
            pids.extend(self.members.keys());
        }
        discover::select(discover::processes(), &pids)
            .iter()
            .filter_map(|nginx| self.attach(nginx, kernel))
            .collect()
    }

    /// A child of a traced process runs the same program at the same addresses. The kernel traces it already, unless it
    /// was forked before its parent was traced.
    pub(super) fn forked(&mut self, parent: Pid, child: Pid, kernel: &mut Kernel) {
        let Some(Member { id, bias, .. }) = self.members.get(&parent) else { return };
        let member = Member { id: *id, bias: *bias, serves: true };
        let Some(target) = self.binaries.get(id) else { return };
        if let Err(error) = kernel.trace(child.0, target.traced(*bias)) {
            log::warn!("nginx {child} is not traced: {error:#}");
        }
        self.members.insert(child, member);
    }

    /// A process is gone.
    pub(super) fn exited(&mut self, pid: Pid, kernel: &mut Kernel) {
        if self.members.remove(&pid).is_some() {
            kernel.untrace(pid.0);
        }
    }

    /// Pids of traced processes that serve requests.
    pub(super) fn workers(&self) -> impl Iterator<Item = Pid> {
        self.members.iter().filter(|(_, member)| member.serves).map(|(pid, _)| *pid)
    }

    /// How many processes were found that could not be traced.
    pub(super) fn refused(&self) -> usize {
        self.refused
    }

    /// Whether nothing is traced.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether a probe is attached to every binary.
    pub(super) fn has_probe(&self, name: &str) -> bool {
        !self.binaries.is_empty() && self.binaries.values().all(|target| target.probes.contains(&name))
    }

    /// The builds, as `/usr/sbin/nginx (nginx/1.22.1)`.
    pub(super) fn builds(&self) -> Vec<String> {
        let mut builds: Vec<_> = self
            .binaries
            .iter()
            .filter(|(id, _)| self.members.values().any(|member| member.id == **id))
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
        if self.members.get(&pid).is_some_and(|member| member.id == nginx.id) {
            return None;
        }
        if let Err(error) = self.attach_new(nginx, kernel) {
            if discover::inspect(pid).is_none() {
                log::debug!("nginx {pid} ended meanwhile: {error:#}");
                return None;
            }
            log::warn!("nginx {pid} ({}) is not traced: {error:#}", nginx.exe);
            self.refused += 1;
            return None;
        }
        let target = self.binaries.get(&nginx.id)?;
        let bias = load_bias(pid, &target.binary);
        if bias.is_none() {
            log::warn!(
                "the memory map of nginx {pid} cannot be read; its log texts come from its memory instead"
            );
        }
        if let Err(error) = kernel.trace(pid.0, target.traced(bias)) {
            log::warn!("nginx {pid} is not traced: {error:#}");
            self.refused += 1;
            return None;
        }
        self.members.insert(pid, Member { id: nginx.id, bias, serves: nginx.role.serves() });
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
        Some(Record { at: clock::now(), body: Body::Worker(worker) })
    }

    /// Attaches to an nginx's executable unless that was done.
    fn attach_new(&mut self, nginx: &NginxProcess, kernel: &mut Kernel) -> Result<()> {
        if self.binaries.contains_key(&nginx.id) {
            return Ok(());
        }
        let binary = Binary::open(&nginx.binary_path)?;
        if let Some(problem) = binary.problem() {
            log::warn!("{}: {problem}", nginx.exe);
        }
        self.attach_binary(binary, &nginx.binary_path, nginx.exe.clone(), kernel)
    }

    fn attach_binary(
        &mut self,
        binary: Binary,
        path: &Path,
        exe: BString,
        kernel: &mut Kernel,
    ) -> Result<()> {
        let id = binary.id;
        let index = u32::try_from(self.binaries.len())?;
        let (layout, source) = layout::of(&binary);
        log::debug!("{exe}: layout from {source:?}: {layout:?}");
        kernel.set_layout(index, layout)?;
        let offsets = binary.functions.named();
        let (mut probes, mut deferred, mut log) = (Vec::new(), Vec::new(), None);
        for (program, symbol) in UPROBES.iter().chain(self.passthrough.then_some(&PASSTHROUGH)) {
            let Some(offset) =
                offsets.iter().find(|(name, _)| name == symbol).and_then(|(_, offset)| *offset)
            else {
                continue;
            };
            if FOR_HIDDEN_LOGS.contains(program) {
                deferred.push((*program, offset));
            } else {
                let link = kernel.attach_uprobe(program, path, offset)?;
                if *program == LOG {
                    log = Some((link, Chatter::new(clock::now())));
                }
            }
            probes.push(*program);
        }
        let (log_hides, log_unread) = (false, false);
        let target = Target { binary, index, probes, deferred, log_hides, log, log_unread, exe };
        kernel.know_binary(id.key(), target.traced(None), self.selected.is_empty());
        self.binaries.insert(id, target);
        Ok(())
    }
}

impl Texts for Targets {
    fn text(&self, worker: Pid, address: u64) -> Option<BString> {
        let member = self.members.get(&worker)?;
        self.binaries.get(&member.id)?.binary.text_at(address.wrapping_sub(member.bias?))
    }

    fn string(&self, worker: Pid, address: u64) -> Option<BString> {
        string_at(worker, address)
    }
}
