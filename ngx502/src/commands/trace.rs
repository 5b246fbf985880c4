//! `ngx502 trace`: attach, explain, until told to stop.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::driver::{Driver, Outputs, warn_forgotten};
use crate::{
    capture,
    decode::{self, Decoded},
    enrich::{Enricher, waits::Looker},
    event::{Body, LOST_TRAFFIC, Latency, Nanos, Pid, Record},
    filter::Filter,
    kernel::{
        durations::DurationReader,
        load::Kernel,
        onward::OnwardReader,
        preflight, providers,
        skipped::{Skipped, SkippedRuns},
    },
    nginx::{self, Tracked},
    privileges,
    proc::{clock, sockets_of},
    session::{NO_PROVIDER, Session, observation},
    sink::options::Format,
    source::ring::RingSource,
    values,
};

/// How often held verdicts, losses and folded lines are looked after.
const TICK: Duration = Duration::from_millis(500);

/// How often the kernel's histograms are read, so that a capture can draw latency over time.
const READ_HISTOGRAMS: Duration = Duration::from_secs(5);
/// How often AF_UNIX connections are looked for whose end no hook told.
const FORGET_CLOSED: Duration = Duration::from_secs(10);
/// Records taken at once before signals and timers get their turn.
const BATCH: usize = 4096;

/// What to trace and how to show it.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Output format. Default: human on a terminal, json otherwise.
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Trace only this nginx master (with its workers) or worker; repeatable. Default: every nginx on the host,
    /// including those in containers and those started later.
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    /// Report only these statuses, e.g. 502,504. Default: every failed upstream request.
    #[arg(long = "status", value_delimiter = ',', value_name = "STATUS",
          value_parser = clap::value_parser!(u16).range(200..600))]
    pub statuses: Option<Vec<u16>>,
    /// Also report 502s and 504s that the upstream itself returned. This puts a probe on every response (about
    /// 1.5 µs each), so it is off by default.
    #[arg(long)]
    pub passthrough: bool,
    /// Print upstream latency at this interval, e.g. 10s or 1m. Default: at the end, and on SIGUSR1.
    #[arg(long, value_parser = values::duration, value_name = "TIME", conflicts_with = "no_latency")]
    pub interval: Option<Duration>,
    /// Do not measure latency (removes the probe on the success path).
    #[arg(long)]
    pub no_latency: bool,
    /// Stop after this time, e.g. 30s, 5m or 1h.
    #[arg(long, value_parser = values::duration, value_name = "TIME")]
    pub duration: Option<Duration>,
    /// Keep query strings in URIs. They often contain personal data.
    #[arg(long)]
    pub with_query: bool,
    /// Print one line per verdict.
    #[arg(short, long)]
    pub quiet: bool,
    /// Also record a capture to this file, for `replay`, `report`, `chart` and `export`.
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub capture: Option<PathBuf>,
    /// What the capture may overwrite, and how large it may grow.
    #[command(flatten)]
    pub retention: capture::Options,
}

/// Traces until SIGINT, SIGTERM, the duration's end, or a closed standard output.
///
/// # Errors
/// When the capture cannot be created, the kernel or the privileges do not allow tracing, or standard output fails.
pub fn run(options: &Options, verbose: u8) -> Result<()> {
    privileges::restrict();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(trace(options, verbose))
}

async fn trace(options: &Options, verbose: u8) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut report = signal(SignalKind::user_defined1())?;
    let (looker, mut looks) =
        Looker::start().context("the thread that looks at processes cannot be started")?;
    let mut tracer = Tracer::start(options, verbose, looker)?;
    let end = options.duration.map(|duration| Instant::now() + duration);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = report.recv() => tracer.latency()?,
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break,
            // Before the records, which in a storm are always there.
            _ = tick.tick() => tracer.tick()?,
            Some(found) = looks.recv() => tracer.accept(Decoded::Record(found))?,
            ready = tracer.ring.ready() => {
                ready.context("cannot wait for the ring buffer")?;
                tracer.drain()?;
            }
        }
    }
    while let Ok(found) = looks.try_recv() {
        tracer.accept(Decoded::Record(found))?;
    }
    tracer.finish()
}

/// Everything that a running trace consists of.
struct Tracer {
    kernel: Kernel,
    ring: RingSource,
    targets: Tracked,
    enricher: Enricher,
    driver: Driver,
    outputs: Outputs,
    /// Losses that were reported already.
    lost: [u64; LOSSES],
    skipped_runs: SkippedRuns,
    durations: DurationReader,
    /// How often latency is shown; `None` for on demand only.
    interval: Option<Duration>,
    /// When histograms were last read, and last shown.
    read_at: Instant,
    shown_at: Instant,
    /// When connections were last looked after.
    forgot_at: Instant,
}

/// Why the kernel left out runs of programs that see more than traffic.
const SKIPPED: &str = "probe still at work on that CPU, events of any process";

const LOSSES: usize = ngx502_common::config::loss::COUNT as usize;

impl Tracer {
    fn start(options: &Options, verbose: u8, looker: Looker) -> Result<Self> {
        if let Some(path) = &options.capture {
            // Attaching takes a while: whoever must choose another name hears it before.
            capture::check(path, options.retention)?;
        }
        let mut kernel = Kernel::load(preflight::check()?, verbose > 0)?;
        trim_heap();
        start_bpf_log(&mut kernel, verbose > 0);
        // It serves latency only.
        let latency = [observation::RECEIVED];
        kernel.attach(if options.no_latency { &latency } else { &[] });
        let ring = RingSource::new(kernel.take_events()?)?;
        let mut targets = Tracked::new(options.pids.iter().copied().map(Pid).collect(), options.passthrough);
        let found = targets.attach_all(&mut kernel)?;
        let mut enricher =
            Enricher::of_this_machine().with_onward(OnwardReader::take(&mut kernel)?).with_looker(looker);
        let snapshot = enricher.snapshot(targets.workers(), clock::now());
        add_holders(&mut kernel, &snapshot);
        let session = session(&kernel, &targets, options);
        match (targets.is_empty(), targets.refused()) {
            (true, 0) => eprintln!("ngx502: no nginx is running yet; waiting for one to start (Ctrl-C ends)"),
            (true, refused) => anyhow::bail!(
                "none of the {refused} nginx processes here can be traced; see the warnings above"
            ),
            (false, _) => {}
        }
        let capture = match &options.capture {
            Some(path) => Some(capture::Writer::create(path, &session, options.retention)?),
            None => None,
        };
        let output = super::output(options.format, options.quiet, verbose);
        let mut outputs = Outputs::new(output, false, capture);
        outputs.ready(&session)?;
        let mut driver = Driver::new(session, Filter::default());
        for record in found.into_iter().chain(snapshot) {
            driver.push(record, &mut outputs)?;
        }
        let durations = DurationReader::take(&mut kernel, clock::now())?;
        trim_heap();
        let (interval, now) = (options.interval, Instant::now());
        let lost = [0; LOSSES];
        Ok(Self {
            kernel,
            ring,
            targets,
            enricher,
            driver,
            outputs,
            lost,
            skipped_runs: SkippedRuns::default(),
            durations,
            interval,
            read_at: now,
            shown_at: now,
            forgot_at: now,
        })
    }

    fn push(&mut self, record: Record) -> Result<()> {
        self.driver.push(record, &mut self.outputs)
    }

    /// Takes what the ring buffer holds, at most a batch of it, one record after the other: a record's memory is free
    /// again before the next one needs some. Whether nothing is left.
    fn drain(&mut self) -> Result<bool> {
        for _ in 0..BATCH {
            let targets = &self.targets;
            match self.ring.next(|bytes| decode::decode(bytes, targets)) {
                Some(Ok(decoded)) => self.accept(decoded)?,
                Some(Err(error)) => log::error!("skipping an undecodable record: {error}"),
                None => {
                    self.outputs.flush()?;
                    return Ok(true);
                }
            }
        }
        self.ring.leave_rest();
        self.outputs.flush()?;
        Ok(false)
    }

    fn accept(&mut self, decoded: Decoded) -> Result<()> {
        let record = match decoded {
            Decoded::Record(record) => record,
            Decoded::Exec(process) => {
                let mut found = self.targets.executed(&process, &mut self.kernel);
                found.extend(self.targets.rescan(&mut self.kernel));
                return found.into_iter().try_for_each(|record| self.push(record));
            }
        };
        match &record.body {
            Body::Fork { parent, child } => self.targets.forked(parent.pid, child.pid, &mut self.kernel),
            Body::Request(request) if request.log_level.is_some_and(nginx::hides_failures) => {
                self.targets.log_hides(request.key.worker, &mut self.kernel);
            }
            Body::Exit(exit) => {
                self.targets.exited(exit.process.pid, &mut self.kernel);
                self.enricher.forget(exit.process.pid);
            }
            _ => {}
        }
        let facts = self.enricher.before(&record);
        add_holders(&mut self.kernel, &facts);
        facts.into_iter().chain([record]).try_for_each(|record| self.push(record))
    }

    fn tick(&mut self) -> Result<()> {
        let now = clock::now();
        let found = self.targets.rescan(&mut self.kernel);
        self.targets.release(&mut self.kernel);
        let unread = self.targets.watch_logs(&mut self.kernel, now);
        found.into_iter().chain(unread).try_for_each(|record| self.push(record))?;
        for (reason, total) in self.kernel.lost().into_iter().enumerate() {
            let events = total - self.lost[reason];
            if events > 0 {
                self.lost[reason] = total;
                let reason = ngx502_common::config::loss::NAMES[reason].to_owned();
                self.push(Record { at: now, body: Body::Lost { events, reason } })?;
            }
        }
        self.report_skipped(now)?;
        self.push(Record { at: now, body: Body::Tick })?;
        if self.forgot_at.elapsed() >= FORGET_CLOSED {
            self.forgot_at = Instant::now();
            self.durations.forget_closed(now, sockets_of);
        }
        if self.read_at.elapsed() >= READ_HISTOGRAMS {
            // Without it, new programs are only found by looking for them.
            if !self.kernel.observes(observation::EXEC) {
                self.targets.rescan_soon();
            }
            self.read_durations()?;
        }
        if self.interval.is_some_and(|interval| self.shown_at.elapsed() >= interval) {
            self.shown_at = Instant::now();
            self.latency()?;
        }
        self.outputs.flush()
    }

    /// Reports events that no program saw.
    fn report_skipped(&mut self, now: Nanos) -> Result<()> {
        let Skipped { traffic, others } = self.skipped_runs.read(&self.kernel);
        let kinds = [(traffic, LOST_TRAFFIC), (others, SKIPPED)];
        for (events, reason) in kinds.into_iter().filter(|(events, _)| *events > 0) {
            self.push(Record { at: now, body: Body::Lost { events, reason: reason.to_owned() } })?;
        }
        Ok(())
    }

    /// Takes over what the kernel has counted since the last time.
    fn read_durations(&mut self) -> Result<()> {
        self.read_at = Instant::now();
        let now = clock::now();
        let latency = self.durations.read(now).map(|latency| record_of(now, latency));
        latency.map_or(Ok(()), |record| self.push(record))
    }

    /// Shows the latency of all upstream requests so far.
    fn latency(&mut self) -> Result<()> {
        self.read_durations()?;
        let now = clock::now();
        let uncounted = self.durations.uncounted(now);
        self.outputs.latency(self.driver.session(), now, uncounted.as_ref())
    }

    fn finish(mut self) -> Result<()> {
        while !self.drain()? {}
        self.tick()?;
        let Self { kernel, mut durations, mut driver, mut outputs, .. } = self;
        // Without its probes, no request ends between the two readings and is then in both of them, or in neither.
        drop(kernel);
        let now = clock::now();
        // What is not counted by now never will be.
        for latency in [durations.read(now), durations.uncounted(now)].into_iter().flatten() {
            driver.push(record_of(now, latency), &mut outputs)?;
        }
        outputs.close();
        driver.finish(&mut outputs)?;
        warn_forgotten([&driver]);
        outputs.finish(driver.session())
    }
}

fn record_of(at: Nanos, latency: Latency) -> Record {
    Record { at, body: Body::Latency(Box::new(latency)) }
}

/// Returns freed memory to the kernel, where the allocator is glibc's; others do so by themselves. A start takes much that
/// a trace does not need (the kernel's types, the BPF object, nginx's debug information), and the allocator would keep it.
fn trim_heap() {
    // SAFETY: touches nothing but what is free, and any thread may call it at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// aya-log carries what the BPF programs themselves have to say.
fn start_bpf_log(kernel: &mut Kernel, verbose: bool) {
    if !verbose {
        return;
    }
    let logger = match aya_log::EbpfLogger::init(kernel.ebpf_mut()) {
        Ok(logger) => logger,
        Err(error) => return log::warn!("BPF program logs are unavailable: {error}"),
    };
    // SAFETY: the logger owns its ring buffer's descriptor and gives the same one for as long as it lives.
    match unsafe { tokio::io::unix::AsyncFd::register(logger) } {
        Ok(mut logger) => {
            tokio::spawn(async move {
                while let Ok(mut guard) = logger.readable_mut().await {
                    guard.get_inner_mut().flush();
                    guard.clear_ready();
                }
            });
        }
        Err(error) => log::warn!("BPF program logs cannot be read: {error}"),
    }
}

/// The kernel passes on the lives of processes that hold listeners; those that a look-up found are told to it.
fn add_holders(kernel: &mut Kernel, facts: &[Record]) {
    for record in facts {
        if let Body::Endpoint(endpoint) = &record.body {
            for holder in endpoint.listeners.iter().flat_map(|listener| &listener.holders) {
                kernel.add_holder(holder.pid.0);
            }
        }
    }
}

fn session(kernel: &Kernel, targets: &Tracked, options: &Options) -> Session {
    let mut providers: Vec<_> = kernel
        .observations
        .iter()
        .map(|state| (state.observation.name.to_owned(), state.provider.unwrap_or(NO_PROVIDER).to_owned()))
        .collect();
    providers.extend(providers::error_path().map(|uprobe| {
        let attached = targets.has_probe(uprobe.program);
        let provider = if attached { format!("uprobe:{}", uprobe.symbol) } else { NO_PROVIDER.to_owned() };
        (uprobe.program.replace('_', "-"), provider)
    }));
    let uname = nix::sys::utsname::uname().ok();
    let text = |value: Option<&std::ffi::OsStr>| value.unwrap_or_default().to_string_lossy().into_owned();
    Session {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: text(uname.as_ref().map(|uname| uname.nodename())),
        kernel: text(uname.as_ref().map(|uname| uname.release())),
        boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        providers,
        nginx: targets.builds(),
        workers: targets.workers().map(|pid| pid.0).collect(),
        wall_offset: clock::wall_offset(),
        ready_at: clock::now(),
        with_query: options.with_query,
        statuses: options.statuses.clone(),
        passthrough: options.passthrough,
    }
}
