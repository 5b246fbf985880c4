//! Loading the BPF object and attaching its programs, each on its own: one that fails only selects the next provider.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Btf, BtfError, Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::{
        BtfTracePoint, KProbe, Program, ProgramError, RawTracePoint, UProbe, uprobe::UProbeLinkId,
        uprobe::UProbeScope,
    },
};
use ngx502_common::{
    config::{FileKey, KnownBinary, Traced, loss, seen, worker_slot},
    latency::{Durations, durations_at},
    layout::NginxLayout,
};
use serde::Serialize;

use super::{
    btf::KernelTypes,
    offsets,
    providers::{self, Hook, OBSERVATIONS, Observation, Provider, UPROBES, When},
};

/// The object that build.rs compiled from `ngx502-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("NGX502_BPF_OBJECT"));

/// Why a provider does not serve.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// Its name.
    pub provider: &'static str,
    /// Why it did not attach.
    pub reason: String,
}

/// What became of an observation.
#[derive(Clone, Debug)]
pub struct ObservationState {
    /// The table's entry.
    pub observation: &'static Observation,
    /// The provider in use.
    pub provider: Option<&'static str>,
    /// Those that were tried before, in order.
    pub tried: Vec<Refused>,
}

/// The loaded programs and their maps.
pub struct Kernel {
    ebpf: Ebpf,
    /// The ids of BTF tracepoints, until they are attached: it is as long as the kernel's list of types.
    tracepoints: Option<Btf>,
    traced: HashMap<MapData, u32, Traced>,
    binaries: HashMap<MapData, FileKey, KnownBinary>,
    worker_slots: Array<MapData, u64>,
    seen: Array<MapData, u64>,
    layouts: Array<MapData, NginxLayout>,
    log_calls: PerCpuArray<MapData, u64>,
    holders: HashMap<MapData, u32, u8>,
    lost: PerCpuArray<MapData, u64>,
    /// What became of each observation.
    pub observations: Vec<ObservationState>,
}

impl Kernel {
    /// Loads the object and every program that this kernel takes, with the offsets of its `types`, which are of no
    /// further use. Kernel hooks are attached by [`Kernel::attach`].
    ///
    /// # Errors
    /// When the object itself, its maps or the required uprobe program are refused.
    pub fn load(types: KernelTypes, verbose: bool) -> Result<Self> {
        raise_memlock_limit();
        let (layout, places) = (offsets::resolve(&types), series_places());
        let tracepoints = types
            .tracepoints(providers::btf_tracepoints())
            .context("cannot hand the kernel's types to aya")?;
        drop(types);
        let level = u8::from(verbose) * LOG_LEVEL_DEBUG;
        // The loader has read all of the kernel's types by now, for relocations that Rust's objects do not have.
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global("KERNEL", &layout, true)
            .override_global("SERIES_PLACES", &places, true)
            .map_max_entries("SERIES", places)
            .map_max_entries("PATHS", places)
            .map_max_entries("DURATIONS", durations_at(places, false))
            .override_global("AYA_LOG_LEVEL", &level, false)
            .load(OBJECT)
            .context("the kernel refused the BPF maps; ngx502 cannot trace")?;
        for uprobe in UPROBES.iter().filter(|uprobe| uprobe.when == When::Always) {
            load_uprobe(&mut ebpf, uprobe.program)?;
        }
        Ok(Self {
            traced: take(&mut ebpf, "TRACED")?,
            binaries: take(&mut ebpf, "BINARIES")?,
            worker_slots: take(&mut ebpf, "WORKER_SLOTS")?,
            seen: take(&mut ebpf, "SEEN")?,
            layouts: take(&mut ebpf, "LAYOUTS")?,
            log_calls: take(&mut ebpf, "LOG_CALLS")?,
            holders: take(&mut ebpf, "HOLDERS")?,
            lost: take(&mut ebpf, "LOST")?,
            ebpf,
            tracepoints: Some(tracepoints),
            observations: Vec::new(),
        })
    }

    /// Loads also the uprobe programs that most traces do without; others load them when they attach them.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub fn load_every_uprobe(&mut self) -> Result<()> {
        UPROBES.iter().try_for_each(|uprobe| load_uprobe(&mut self.ebpf, uprobe.program))
    }

    /// Attaches every observation by the first provider that works, but for those named in `without`.
    pub fn attach(&mut self, without: &[&str]) {
        let tracepoints = self.tracepoints.take().unwrap_or_default();
        for observation in OBSERVATIONS.iter().filter(|one| !without.contains(&one.name)) {
            let mut state = ObservationState { observation, provider: None, tried: Vec::new() };
            for provider in observation.providers {
                match attach_provider(&mut self.ebpf, provider, &tracepoints) {
                    Ok(()) => {
                        state.provider = Some(provider.name);
                        break;
                    }
                    Err(error) => {
                        log::debug!("{}: {} does not attach: {error:#}", observation.name, provider.name);
                        state.tried.push(Refused { provider: provider.name, reason: format!("{error:#}") });
                    }
                }
            }
            self.observations.push(state);
        }
    }

    /// Whether an observation has a provider.
    pub fn observes(&self, name: &str) -> bool {
        self.observations.iter().any(|state| state.observation.name == name && state.provider.is_some())
    }

    /// The stream of records; can be taken once.
    ///
    /// # Errors
    /// When it was taken before.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>> {
        self.take("EVENTS")
    }

    /// One of the maps; can be taken once.
    pub(super) fn take<M: TryFrom<Map, Error = MapError>>(&mut self, name: &str) -> Result<M> {
        take(&mut self.ebpf, name)
    }

    /// Every program of the object, loaded or not, by name.
    pub(super) fn programs(&self) -> impl Iterator<Item = (&str, &Program)> {
        self.ebpf.programs()
    }

    /// The object, for aya-log.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Attaches one error-path uprobe to a binary at a file offset, for every process that runs it.
    ///
    /// # Errors
    /// When the kernel refuses, e.g. since the file is gone.
    pub fn attach_uprobe(&mut self, program: &str, binary: &Path, offset: u64) -> Result<UProbeLinkId> {
        load_uprobe(&mut self.ebpf, program)?;
        let probe: &mut UProbe = program_mut(&mut self.ebpf, program)?;
        probe
            .attach(offset, binary, UProbeScope::AllProcesses)
            .map_err(explain)
            .with_context(|| format!("cannot attach {program} to {}", binary.display()))
    }

    /// Takes a uprobe back.
    ///
    /// # Errors
    /// When it is not attached.
    pub fn detach_uprobe(&mut self, program: &str, link: UProbeLinkId) -> Result<()> {
        let probe: &mut UProbe = program_mut(&mut self.ebpf, program)?;
        probe.detach(link).map_err(explain)
    }

    /// Sets the layout of a binary.
    ///
    /// # Errors
    /// When `index` is out of range.
    pub fn set_layout(&mut self, index: u32, layout: NginxLayout) -> Result<()> {
        self.layouts.set(index, layout, 0).context("more than 256 different nginx binaries")
    }

    /// Traces a process.
    ///
    /// # Errors
    /// When the map is full.
    pub fn trace(&mut self, pid: u32, traced: Traced) -> Result<()> {
        // The slots first: without them the programs do not look at the table.
        self.worker_slots
            .set(worker_slot(pid), 1, 0)
            .context("cannot name an nginx process to the BPF programs")?;
        if traced.log_hides != 0 {
            self.seen
                .set(seen::HIDING_LOG, 1, 0)
                .context("cannot describe an error log to the BPF programs")?;
        }
        self.traced.insert(pid, traced, 0).context("more than 16384 nginx processes")
    }

    /// Ceases to trace a process.
    pub fn untrace(&mut self, pid: u32) {
        // It fails where the process was not traced, which is what is wanted.
        let _ = self.traced.remove(&pid);
    }

    /// Traces processes that execute `file`, from then on: those of `anyone`, or only those that were traced before.
    pub fn know_binary(&mut self, file: FileKey, traced: Traced, anyone: bool) {
        let known = KnownBinary { traced, anyone: u32::from(anyone), reserved: 0 };
        if let Err(error) = self.binaries.insert(file, known, 0) {
            log::debug!("file {file:?}: {error}");
        }
    }

    /// How many messages below the level `error` the processes with the layout at `index` have written so far, as far as
    /// `ngx_log_error_core` was probed.
    pub fn log_calls(&self, index: u32) -> u64 {
        self.log_calls.get(&index, 0).map_or(0, |counts| counts.iter().sum())
    }

    /// Forgets a file that is not an nginx any more.
    pub fn forget_binary(&mut self, file: FileKey) {
        // It fails where the file was not known, which is what is wanted.
        let _ = self.binaries.remove(&file);
    }

    /// Lets the programs know that a process may hold a listening socket.
    pub fn add_holder(&mut self, pid: u32) {
        if let Err(error) = self.holders.insert(pid, 1, 0) {
            log::debug!("holder {pid}: {error}");
        }
    }

    /// Records lost so far, by reason.
    pub fn lost(&self) -> [u64; loss::COUNT as usize] {
        std::array::from_fn(|reason| {
            let counts = self.lost.get(&(reason as u32), 0);
            counts.map_or(0, |counts| counts.iter().sum())
        })
    }
}

/// Memory for histograms, all CPUs together.
const DURATIONS_BYTES: usize = 16 << 20;

/// How many upstreams there is room for, a power of two: each takes 12 KiB a CPU.
fn series_places() -> u32 {
    let cpus = aya::util::nr_cpus().unwrap_or(1).max(1);
    let places = DURATIONS_BYTES / (cpus * 2 * size_of::<Durations>());
    let places = u32::try_from(places.clamp(32, 512)).unwrap_or(32);
    1 << places.ilog2()
}

/// aya-log's number for debug.
const LOG_LEVEL_DEBUG: u8 = 4;

/// Before 5.11 maps count against RLIMIT_MEMLOCK; later they do not, and raising it may be forbidden.
fn raise_memlock_limit() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        log::debug!("RLIMIT_MEMLOCK stays: {error} (only matters before Linux 5.11)");
    }
}

fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M> {
    let map = ebpf.take_map(name);
    Ok(map.with_context(|| format!("the BPF object has no map {name}, or it is in use"))?.try_into()?)
}

fn program_mut<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).with_context(|| format!("the BPF object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// Loads a uprobe program unless it is loaded; the verifier takes some 20 ms for each.
fn load_uprobe(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    let program: &mut UProbe = program_mut(ebpf, name)?;
    if program.fd().is_ok() {
        return Ok(());
    }
    program.load().map_err(explain).with_context(|| format!("the kernel refused the uprobe program {name}"))
}

fn attach_provider(ebpf: &mut Ebpf, provider: &Provider, tracepoints: &Btf) -> Result<()> {
    for (name, hook) in provider.programs {
        match hook {
            Hook::RawTracepoint(tracepoint) => {
                let program: &mut RawTracePoint = program_mut(ebpf, name)?;
                program.load().map_err(explain)?;
                program.attach(tracepoint).map_err(explain)?;
            }
            Hook::BtfTracepoint(tracepoint) => {
                let program: &mut BtfTracePoint = program_mut(ebpf, name)?;
                program.load(tracepoint, tracepoints).map_err(explain)?;
                program.attach().map_err(explain)?;
            }
            Hook::Kprobe(function) => {
                if !Path::new("/sys/bus/event_source/devices/kprobe").exists() {
                    bail!("this kernel has no kprobes");
                }
                let program: &mut KProbe = program_mut(ebpf, name)?;
                program.load().map_err(explain)?;
                program.attach(function, 0).map_err(explain)?;
            }
        }
    }
    Ok(())
}

/// One line from aya's error and its sources; the verifier's log only at debug level.
fn explain(error: ProgramError) -> anyhow::Error {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            log.lines().for_each(|line| log::debug!("{line}"));
            let last = log.lines().rfind(|line| !line.starts_with("processed")).unwrap_or_default();
            anyhow!("the verifier refused it: {io_error} ({last})")
        }
        ProgramError::Btf(BtfError::UnknownBtfTypeName { .. }) => {
            anyhow!("this kernel has no such tracepoint")
        }
        other => anyhow::Error::from(other),
    }
}
