//! `ngx502 trace --format json` as a script would use it: start, wait for `ready`, read lines, end by SIGTERM.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::lab::Lab;
use xtask::lab::truth::{Entry, Owed, Truth};
use xtask::lab::wait::scaled;

/// Longest silence between a request and its line.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the reason says of events that the kernel kept from a probe that was still at work.
const BUSY: &str = "still at work on that CPU";

/// Such events of all tracers so far.
static KEPT: AtomicU64 = AtomicU64::new(0);

/// How many events the kernel has kept from probes of this program's tracers.
pub(crate) fn kept() -> u64 {
    KEPT.load(Ordering::Relaxed)
}

/// A running tracer; killed when this drops.
#[derive(Debug)]
pub(crate) struct Tracer {
    child: Child,
    lines: Receiver<Value>,
    seen: Vec<Value>,
    stderr: Option<JoinHandle<String>>,
}

/// Everything that a tracer said, by kind.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// `verdict` lines.
    pub(crate) verdicts: Vec<Value>,
    /// `rescued` lines.
    pub(crate) rescued: Vec<Value>,
    /// `lost` lines, apart from those below.
    pub(crate) lost: Vec<Value>,
    /// Events that the kernel kept from a probe that was still at work: rare, no matter what is traced, and mostly not
    /// of what is traced.
    pub(crate) skipped: u64,
    /// `notice` lines.
    pub(crate) notices: Vec<Value>,
    /// `latency` lines.
    pub(crate) latency: Vec<Value>,
    /// The `summary`.
    pub(crate) summary: Value,
}

impl Tracer {
    /// Starts a tracer of the nginx with this master and waits until it is ready.
    pub(crate) fn start(master: u32, flags: &[&str]) -> Result<Tracer> {
        let pid = master.to_string();
        Tracer::start_with(&[&["--pid", pid.as_str()], flags].concat())
    }

    /// Starts a tracer with any flags and waits until it is ready.
    pub(crate) fn start_with(flags: &[&str]) -> Result<Tracer> {
        Tracer::start_as(Command::new(program()), flags)
    }

    /// Starts a tracer by a command that runs it, and waits until it is ready.
    pub(crate) fn start_as(mut command: Command, flags: &[&str]) -> Result<Tracer> {
        let mut child = command
            .args(["trace", "--format", "json"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{command:?} cannot be run"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut stderr = child.stderr.take().context("no standard error")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let stderr = thread::spawn(move || {
            let mut text = Vec::new();
            // What could be read before the tracer died is all there is to show.
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut tracer = Tracer { child, lines, seen: Vec::new(), stderr: Some(stderr) };
        // Attaching means parsing the kernel's BTF and verifying every program.
        tracer.wait_within(Duration::from_secs(30), "ready", |line| line["type"] == "ready")?;
        Ok(tracer)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the first line, already read or to come, that `wanted` accepts.
    pub(crate) fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        self.wait_within(PATIENCE, what, wanted)
    }

    /// A line that `wanted` accepts, among those that have come so far.
    pub(crate) fn peek_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        self.seen.extend(self.lines.try_iter());
        self.seen.iter().find(|line| wanted(line)).cloned()
    }

    fn wait_within(&mut self, limit: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        if let Some(line) = self.seen.iter().find(|line| wanted(line)) {
            return Ok(line.clone());
        }
        let deadline = Instant::now() + scaled(limit);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if wanted(&line) {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no {what} in time; the tracer said: {}", listed(&self.seen));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let stderr = self.stderr.take().map(|reader| reader.join().unwrap_or_default());
                    bail!("the tracer ended before {what}: {}", stderr.unwrap_or_default().trim());
                }
            }
        }
    }

    /// Waits for the verdict or rescued line of a URI.
    pub(crate) fn wait_for_uri(&mut self, kind: &str, uri: &str) -> Result<Value> {
        self.wait_for(&format!("{kind} for {uri}"), |line| {
            line["type"] == kind && line["request"]["uri"] == uri
        })
    }

    /// The verdict of a URI that has been asked for: symptom and status are those of nginx's own logs. Returns it with
    /// the log's entry.
    pub(crate) fn agreed_verdict(&mut self, lab: &Lab, uri: &str) -> Result<(Value, Entry)> {
        let entry = Truth::of(lab, uri)?;
        let Owed::Verdict(symptom) = entry.owed() else { bail!("{uri} did not fail: {entry:?}") };
        let line = self.wait_for_uri("verdict", uri)?;
        ensure!(line["symptom"] == symptom, "symptom {}, not {symptom}: {line}", line["symptom"]);
        ensure!(line["status"] == entry.status, "status {}, not {}: {line}", line["status"], entry.status);
        Ok((line, entry))
    }

    /// How many uprobes and kprobes it has attached: a perf event each, or since Linux 5.15 a link to one.
    pub(crate) fn probes(&self) -> Result<usize> {
        let process = format!("/proc/{}", self.child.id());
        let open = std::fs::read_dir(format!("{process}/fd"))?;
        let is_probe = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry?;
            let target = std::fs::read_link(entry.path())?;
            let number = entry.file_name();
            let info = std::fs::read_to_string(format!("{process}/fdinfo/{}", number.display()))?;
            std::io::Result::Ok(
                target.as_os_str() == "anon_inode:[perf_event]" || info.contains("link_type:\tperf"),
            )
        };
        // A descriptor may be closed between listing and reading.
        Ok(open.map(is_probe).filter(|probe| matches!(probe, Ok(true))).count())
    }

    /// Sends the tracer a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    /// Ends the tracer by SIGTERM and gives everything it said.
    pub(crate) fn stop(self) -> Result<Said> {
        Ok(self.stop_with_complaints()?.0)
    }

    /// Like [`Tracer::stop`], with what it wrote to standard error.
    pub(crate) fn stop_with_complaints(mut self) -> Result<(Said, String)> {
        self.signal(Signal::SIGTERM)?;
        self.wait_for("summary", |line| line["type"] == "summary")?;
        // The summary is the last line: the stream must end now.
        if let Ok(line) = self.lines.recv_timeout(scaled(PATIENCE)) {
            bail!("a line after the summary: {line}");
        }
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the tracer ended with {status} after SIGTERM, not with 0");
        }
        let mut said = Said { skipped: self.count_kept(), ..Said::default() };
        for line in std::mem::take(&mut self.seen) {
            match line["type"].as_str() {
                Some("verdict") => said.verdicts.push(line),
                Some("rescued") => said.rescued.push(line),
                Some("lost") if skipped(&line) > 0 => {}
                Some("lost") => said.lost.push(line),
                Some("notice") => said.notices.push(line),
                Some("latency") => said.latency.push(line),
                Some("summary") => said.summary = line,
                Some("ready") => {}
                _ => bail!("not a line of schema 1: {line}"),
            }
        }
        let complaints = self.stderr.take().map(|reader| reader.join().unwrap_or_default());
        Ok((said, complaints.unwrap_or_default()))
    }

    /// How many events the kernel kept from probes, as far as was said.
    fn count_kept(&self) -> u64 {
        let events = self.seen.iter().map(skipped).sum();
        KEPT.fetch_add(events, Ordering::Relaxed);
        events
    }
}

impl Said {
    /// Verdicts of one URI.
    pub(crate) fn verdicts_of(&self, uri: &str) -> Vec<&Value> {
        self.verdicts.iter().filter(|line| line["request"]["uri"] == uri).collect()
    }

    /// Rescued lines of one URI.
    pub(crate) fn rescued_of(&self, uri: &str) -> Vec<&Value> {
        self.rescued.iter().filter(|line| line["request"]["uri"] == uri).collect()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It has ended already after `stop`; otherwise the trial failed, and what it says at its end may tell why.
        if matches!(self.child.try_wait(), Ok(None)) && self.signal(Signal::SIGTERM).is_ok() {
            let _ = self.wait_for("summary", |line| line["type"] == "summary");
            self.count_kept();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many events a line tells of that the kernel kept from a probe.
fn skipped(line: &Value) -> u64 {
    let busy = line["type"] == "lost" && line["reason"].as_str().is_some_and(|reason| reason.contains(BUSY));
    line["events"].as_u64().filter(|_| busy).unwrap_or(0)
}

/// The summary of a verdict contains `words`.
pub(crate) fn says(line: &Value, words: &str) -> Result<()> {
    let said = line["summary"].as_str().is_some_and(|summary| summary.contains(words));
    ensure!(said, "the summary does not say `{words}`: {line}");
    Ok(())
}

/// The ngx502 to test.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("NGX502_BIN").map_or(env!("CARGO_BIN_EXE_ngx502").into(), PathBuf::from)
}

fn listed(lines: &[Value]) -> String {
    if lines.is_empty() {
        return "nothing".to_owned();
    }
    lines.iter().map(|line| format!("\n  {line}")).collect()
}
