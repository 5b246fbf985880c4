//! One process, sampled twice.

use std::collections::HashMap;
use std::path::Path;

use bstr::ByteSlice as _;

use super::descriptors::Tables;
use super::thread;
use crate::event::{Doing, MemoryState, Pid, ProcessRef, ProcessWaits, ThreadWait, Throttled};
use crate::proc::{self, cgroup, status};

/// Threads of a process that are looked at.
const THREADS: usize = 128;
/// Threads that are told, the telling ones first.
const TOLD: usize = 32;

/// A process at one moment.
#[derive(Debug, Default)]
pub(super) struct Sample {
    threads: HashMap<u32, ThreadSample>,
    count: u32,
    quota: Option<Quota>,
}

/// A thread at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ThreadSample {
    /// `R`, `S`, `D`, `T`, `t`, …
    pub(super) state: u8,
    /// Clock ticks of CPU.
    pub(super) ticks: u64,
    /// `/proc/PID/task/TID/syscall`: the call with its arguments and where in the program it is.
    pub(super) call: Vec<u8>,
}

/// A CPU quota and how often it held the group so far.
#[derive(Clone, Debug)]
struct Quota {
    cgroup: String,
    quota_us: u64,
    period_us: u64,
    periods: u64,
    throttled: u64,
}

impl Sample {
    /// A process as it is now; empty when it is gone.
    pub(super) fn of(process: &ProcessRef) -> Self {
        let pid = process.pid;
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let ids: Vec<u32> = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect();
        let threads = ids.iter().take(THREADS).filter_map(|tid| Some((*tid, ThreadSample::of(pid, *tid)?)));
        Self { threads: threads.collect(), count: ids.len() as u32, quota: Quota::of(pid) }
    }
}

impl ThreadSample {
    fn of(pid: Pid, tid: u32) -> Option<Self> {
        let stat = proc::read(&format!("/proc/{pid}/task/{tid}/stat")).ok()?;
        let rest = stat.get(stat.rfind_byte(b')')? + 1..)?;
        let mut fields = rest.fields();
        let state = *fields.next()?.first()?;
        let mut number = |skip: usize| fields.nth(skip)?.to_str().ok()?.parse::<u64>().ok();
        // utime is field 14, stime 15; state is field 3.
        let ticks = number(10)? + number(0)?;
        let call = proc::read(&format!("/proc/{pid}/task/{tid}/syscall")).unwrap_or_default();
        Some(Self { state, ticks, call })
    }
}

/// What a process does, by this sample and one before.
pub(super) fn look(process: &ProcessRef, before: &Sample, tables: &mut Tables<'_>) -> ProcessWaits {
    let pid = process.pid;
    let now = Sample::of(process);
    let text = proc::read(&format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status::numbers(&text, "TracerPid:").next().filter(|tracer| *tracer != 0);
    let state = |wanted: u8| {
        let is = |thread: &ThreadSample| thread.state == wanted;
        !now.threads.is_empty() && now.threads.values().all(is)
    };
    let mut threads: Vec<_> = now
        .threads
        .iter()
        .filter_map(|(tid, after)| {
            let doing = thread::doing(pid, *tid, before.threads.get(tid)?, after, tables);
            Some(ThreadWait { tid: *tid, doing })
        })
        .collect();
    threads.sort_by_key(|thread| (rank(&thread.doing), thread.tid));
    threads.truncate(TOLD);
    ProcessWaits {
        process: process.clone(),
        stopped: state(b'T'),
        tracer: tracer.filter(|_| state(b't')).and_then(|tracer| proc::process_ref(Pid(tracer)).ok()),
        frozen: is_frozen(pid),
        throttled: held(before.quota.as_ref(), now.quota.as_ref()),
        memory: memory(pid),
        files_full: files_full(pid),
        thread_count: now.count,
        threads,
    }
}

/// What tells most comes first.
fn rank(doing: &Doing) -> u8 {
    match doing {
        Doing::Socket(_) | Doing::FileLock { .. } | Doing::Disk { .. } | Doing::Pipe { .. } => 0,
        Doing::Events(_) | Doing::Mutex(_) | Doing::Child(_) => 1,
        Doing::Runs(_) | Doing::Starves => 2,
        Doing::Sleeps | Doing::Call(_) => 3,
        Doing::Idle => 4,
    }
}

/// Where a controller of version 1 or the unified hierarchy has a process.
fn group_of(pid: Pid, controller: &str) -> Option<(String, String)> {
    let text = proc::read(&format!("/proc/{pid}/cgroup")).ok()?;
    let text = text.to_str_lossy().into_owned();
    let parts = |line: &str| {
        let mut fields = line.splitn(3, ':');
        Some((fields.nth(1)?.to_owned(), fields.next()?.to_owned()))
    };
    let lines: Vec<_> = text.lines().filter_map(parts).collect();
    let v1 = lines.iter().find(|(names, _)| names.split(',').any(|name| name == controller));
    let (root, path) = match v1 {
        Some((_, path)) => (format!("/sys/fs/cgroup/{controller}"), path),
        None => ("/sys/fs/cgroup".to_owned(), &lines.iter().find(|(names, _)| names.is_empty())?.1),
    };
    (!path.split('/').any(|part| part == "..")).then(|| (root, path.clone()))
}

fn value(text: &[u8], label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label.as_bytes()))?;
    line.trim().to_str().ok()?.parse().ok()
}

impl Quota {
    /// The tightest quota above a process.
    fn of(pid: Pid) -> Option<Self> {
        let (root, path) = group_of(pid, "cpu")?;
        let levels = Path::new(&path).ancestors().filter_map(|level| {
            let folder = format!("{root}{}", level.to_str()?);
            let number = |file: &str| {
                std::fs::read(format!("{folder}/{file}")).ok()?.trim().to_str().ok()?.parse().ok()
            };
            let (quota_us, period_us): (u64, u64) = match std::fs::read(format!("{folder}/cpu.max")) {
                Ok(text) => {
                    let mut fields = text.fields().map(|field| field.to_str().ok()?.parse().ok());
                    (fields.next()??, fields.next()??)
                }
                Err(_) => (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?),
            };
            let stat = std::fs::read(format!("{folder}/cpu.stat")).ok()?;
            let (periods, throttled) = (value(&stat, "nr_periods ")?, value(&stat, "nr_throttled ")?);
            let cgroup = level.to_str()?.trim_start_matches('/').to_owned();
            Some(Self { cgroup, quota_us, period_us, periods, throttled })
        });
        levels.min_by_key(|quota| quota.quota_us * 1_000 / quota.period_us.max(1))
    }
}

/// A quota that held its group between two samples.
fn held(before: Option<&Quota>, now: Option<&Quota>) -> Option<Throttled> {
    let (before, now) = before.zip(now).filter(|(before, now)| before.cgroup == now.cgroup)?;
    let throttled = now.throttled.saturating_sub(before.throttled);
    (throttled > 0).then(|| Throttled {
        cgroup: now.cgroup.clone(),
        quota_us: now.quota_us,
        period_us: now.period_us,
        periods: now.periods.saturating_sub(before.periods),
        throttled,
    })
}

fn is_frozen(pid: Pid) -> bool {
    let v1 = group_of(pid, "freezer").filter(|(root, _)| root.ends_with("/freezer"));
    if let Some((root, path)) = v1 {
        let state = std::fs::read(format!("{root}{path}/freezer.state")).unwrap_or_default();
        if state.trim() == b"FROZEN" {
            return true;
        }
    }
    let Some(path) = cgroup::unified(pid) else { return false };
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    roots.iter().any(|root| {
        let events = std::fs::read(format!("{root}{path}/cgroup.events")).unwrap_or_default();
        value(&events, "frozen ") == Some(1)
    })
}

/// A memory cgroup that is out of memory without being killed for it, or over its high mark.
fn memory(pid: Pid) -> Option<MemoryState> {
    let group = cgroup::of(pid).memory?;
    let plain = !group.path.split('/').any(|part| part == "..");
    let root = if group.v1 { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" };
    let read = |level: &Path, file: &str| std::fs::read(format!("{root}{}/{file}", level.to_str()?)).ok();
    let number =
        |level: &Path, file: &str| -> Option<u64> { read(level, file)?.trim().to_str().ok()?.parse().ok() };
    Path::new(&group.path).ancestors().take_while(|_| plain).find_map(|level| {
        let cgroup = level.to_str()?.trim_start_matches('/').to_owned();
        if group.v1 {
            let control = read(level, "memory.oom_control")?;
            let under_oom = value(&control, "under_oom ") == Some(1);
            let (usage_bytes, limit_bytes) =
                (number(level, "memory.usage_in_bytes")?, number(level, "memory.limit_in_bytes")?);
            return under_oom.then_some(MemoryState { cgroup, usage_bytes, limit_bytes, under_oom });
        }
        let (usage_bytes, limit_bytes) = (number(level, "memory.current")?, number(level, "memory.high")?);
        (usage_bytes >= limit_bytes).then_some(MemoryState {
            cgroup,
            usage_bytes,
            limit_bytes,
            under_oom: false,
        })
    })
}

/// The number of open descriptors where that is all it may have.
fn files_full(pid: Pid) -> Option<u64> {
    let limits = super::super::limits::descriptors(pid).ok()?;
    (limits.open >= limits.nofile).then_some(limits.open)
}
