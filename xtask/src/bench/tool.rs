//! The tracers that are compared: how each is started, known to be ready, ended, and what it has said.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::lab::{nginx, wait};

use super::bed::Bed;
use super::usage::{self, Memory};

/// bpftrace compiles with LLVM, which takes seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const JOB: &str = include_str!("job.bt");

/// Something that watches nginx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Tool {
    /// `ngx502 trace --format json` to a file.
    Ngx502,
    /// The same with `--no-latency`.
    NoLatency,
    /// The same of the upstream's nginx: what its neighbours pay, and the least that probes in these places cost.
    Elsewhere,
    /// `job.bt`.
    Bpftrace,
    /// strace on the worker's network calls.
    Strace,
    /// bcc's `tcpconnlat`: how long each connect(2) of the worker takes. Needs kprobes or fentry.
    Tcpconnlat,
    /// bcc's `tcplife`: a line for each of the worker's TCP connections.
    Tcplife,
    /// bcc's `tcpstates`: a line for each change of a TCP connection's state, of all processes.
    Tcpstates,
}

/// What is measured of a tracer itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// From its start until it says that it is ready.
    pub(super) ready: Duration,
    /// From the signal until its process is gone.
    pub(super) detach: Duration,
    /// Processor time in user space and system calls during the load; BPF programs count for nginx.
    pub(super) cpu: Duration,
    /// Its memory after the load.
    pub(super) memory: Memory,
    /// Lines that explain a failed request.
    pub(super) verdicts: u64,
    /// Events that it says it lost.
    pub(super) lost: u64,
}

impl Tool {
    /// Its name in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Tool::Ngx502 => "ngx502",
            Tool::NoLatency => "ngx502 --no-latency",
            Tool::Elsewhere => "ngx502 of another nginx",
            Tool::Bpftrace => "bpftrace",
            Tool::Strace => "strace",
            Tool::Tcpconnlat => "tcpconnlat",
            Tool::Tcplife => "tcplife",
            Tool::Tcpstates => "tcpstates",
        }
    }

    /// Whether it explains failed requests: only then are its lines counted against them.
    pub(super) fn explains(self) -> bool {
        !matches!(self, Tool::Elsewhere | Tool::Tcpconnlat | Tool::Tcplife | Tool::Tcpstates)
    }

    /// Whether bars hold for it: it is ours, and explains the load.
    pub(super) fn is_judged(self) -> bool {
        self.is_ours() && self.explains()
    }

    /// Whether it is ours.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Tool::Ngx502 | Tool::NoLatency | Tool::Elsewhere)
    }

    fn command(self, binary: &Path, bed: &Bed, scratch: &Path) -> Result<Command> {
        let worker = bed.worker()?.to_string();
        let mut command = Command::new(if self.is_ours() { binary } else { Path::new(self.name()) });
        match self {
            Tool::Ngx502 => ours(&mut command, bed.master()),
            Tool::NoLatency => ours(&mut command, bed.master()).arg("--no-latency"),
            Tool::Elsewhere => ours(&mut command, bed.upstream()),
            Tool::Bpftrace => {
                let script =
                    JOB.replace("NGINX", &nginx::binary().to_string_lossy()).replace("WORKER", &worker);
                let path = scratch.join("job.bt");
                fs::write(&path, script)?;
                // Line by line, or `ready` waits in the buffer.
                command.args(["-B", "line"]).arg(path)
            }
            Tool::Strace => {
                // A non-blocking connect(2) tells its errno by getsockopt(2).
                let calls = "trace=connect,getsockopt,recvfrom,readv,writev,close";
                command
                    .args(["-f", "-ttt", "-T", "-e", calls, "-p", &worker, "-o"])
                    .arg(scratch.join("trace"))
            }
            // Their heading tells that they are ready, and would wait in the buffer.
            Tool::Tcpconnlat | Tool::Tcplife => {
                command = line_by_line(self.name());
                command.args(["-p", &worker])
            }
            Tool::Tcpstates => {
                command = line_by_line(self.name());
                &mut command
            }
        };
        Ok(command)
    }

    /// File and text that tell when it is attached.
    fn ready_mark(self) -> (&'static str, &'static str) {
        match self {
            Tool::Ngx502 | Tool::NoLatency | Tool::Elsewhere => ("stdout", r#"{"type":"ready""#),
            Tool::Bpftrace => ("stdout", "ready\n"),
            Tool::Strace => ("stderr", "attached"),
            Tool::Tcpconnlat | Tool::Tcplife | Tool::Tcpstates => ("stdout", "COMM"),
        }
    }

    fn end_signal(self) -> Signal {
        if self.is_ours() { Signal::SIGTERM } else { Signal::SIGINT }
    }
}

fn ours(command: &mut Command, master: u32) -> &mut Command {
    command.args(["trace", "--format", "json", "--pid", &master.to_string()])
}

fn line_by_line(program: &str) -> Command {
    let mut command = Command::new("stdbuf");
    command.args(["--output=L", program]);
    command
}

/// A tracer at work; killed when this drops.
pub(super) struct Tracer {
    tool: Tool,
    child: Child,
    scratch: tempfile::TempDir,
    ready: Duration,
    cpu_when_ready: Duration,
}

impl Tracer {
    /// Starts a tracer of the bed's nginx and waits until it is attached.
    ///
    /// # Errors
    /// When it ends before, or is not ready within a minute: with what it wrote to standard error.
    pub(super) fn start(tool: Tool, binary: &Path, bed: &Bed) -> Result<Tracer> {
        let scratch = tempfile::tempdir()?;
        let mut command = tool.command(binary, bed, scratch.path())?;
        command.stdin(Stdio::null());
        command.stdout(File::create(scratch.path().join("stdout"))?);
        command.stderr(File::create(scratch.path().join("stderr"))?);
        let start = Instant::now();
        let child = command.spawn().with_context(|| format!("{} cannot be run", tool.name()))?;
        let mut tracer =
            Tracer { tool, child, scratch, ready: Duration::ZERO, cpu_when_ready: Duration::ZERO };
        tracer.wait_until_ready(start)?;
        tracer.cpu_when_ready = usage::cpu(tracer.pid())?;
        Ok(tracer)
    }

    fn wait_until_ready(&mut self, start: Instant) -> Result<()> {
        let (file, mark) = self.tool.ready_mark();
        let path = self.scratch.path().join(file);
        let limit = wait::scaled(PATIENCE);
        // Not `wait::until`: its steps of 5 ms would show in the result.
        while !fs::read_to_string(&path).is_ok_and(|text| text.contains(mark)) {
            let ended = self.child.try_wait()?;
            if ended.is_some() || start.elapsed() > limit {
                let said = fs::read_to_string(self.scratch.path().join("stderr")).unwrap_or_default();
                bail!("{} was never ready: {}", self.tool.name(), said.trim());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.ready = start.elapsed();
        Ok(())
    }

    /// Its pid.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time since it was ready.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn cpu(&self) -> Result<Duration> {
        Ok(usage::cpu(self.pid())?.saturating_sub(self.cpu_when_ready))
    }

    /// Ends it and reads what it said.
    ///
    /// # Errors
    /// When it died under the load, or does not end.
    pub(super) fn stop(mut self) -> Result<Cost> {
        let cpu = self.cpu().with_context(|| format!("{} died under the load", self.tool.name()))?;
        let memory = usage::memory(self.pid())?;
        let start = Instant::now();
        kill(Pid::from_raw(i32::try_from(self.pid())?), self.tool.end_signal())?;
        // Blocks without steps, for the same reason as above; a tracer that hangs is seen at once by who waits.
        self.child.wait()?;
        let detach = start.elapsed();
        let (verdicts, lost) = self.said()?;
        Ok(Cost { ready: self.ready, detach, cpu, memory, verdicts, lost })
    }

    /// (verdicts, lost events)
    fn said(&self) -> Result<(u64, u64)> {
        match self.tool {
            Tool::Ngx502 | Tool::NoLatency | Tool::Elsewhere => {
                json_lines(&self.scratch.path().join("stdout"))
            }
            Tool::Bpftrace => {
                let (verdicts, lost) = text_lines(&self.scratch.path().join("stdout"))?;
                Ok((verdicts, lost + text_lines(&self.scratch.path().join("stderr"))?.1))
            }
            Tool::Strace => Ok((
                lines(&self.scratch.path().join("trace"))?
                    .filter(|line| line.contains("SO_ERROR, [ECONNREFUSED]"))
                    .count() as u64,
                0,
            )),
            Tool::Tcpconnlat | Tool::Tcplife | Tool::Tcpstates => Ok((0, 0)),
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Errors mean that it is gone, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(path: &PathBuf) -> Result<impl Iterator<Item = String>> {
    let file = File::open(path).with_context(|| format!("{path:?} cannot be read"))?;
    Ok(BufReader::new(file)
        .split(b'\n')
        .map_while(Result::ok)
        .map(|line| String::from_utf8_lossy(&line).into_owned()))
}

/// Counts ngx502's lines; the summary has the last word on losses and must be there.
fn json_lines(path: &PathBuf) -> Result<(u64, u64)> {
    let mut verdicts = 0;
    let mut summary = None;
    for line in lines(path)? {
        if line.starts_with(r#"{"type":"verdict""#) {
            verdicts += 1;
        } else if line.starts_with(r#"{"type":"summary""#) {
            summary = Some(serde_json::from_str::<Value>(&line).context("the summary is no JSON")?);
        }
    }
    let lost = summary.context("ngx502 ended without a summary")?["lost_events"].as_u64();
    Ok((verdicts, lost.context("the summary has no lost_events")?))
}

/// Counts bpftrace's lines.
fn text_lines(path: &PathBuf) -> Result<(u64, u64)> {
    let (mut verdicts, mut lost) = (0, 0);
    for line in lines(path)? {
        if line.starts_with("verdict ") {
            verdicts += 1;
        } else if let Some(rest) = line.strip_prefix("Lost ") {
            lost += rest.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok((verdicts, lost))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_by_kind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout");
        fs::write(
            &path,
            "{\"type\":\"ready\"}\n{\"type\":\"verdict\",\"a\":1}\n{\"type\":\"rescued\"}\n{\"type\":\"verdict\"}\n\
             {\"type\":\"summary\",\"lost_events\":7}\n",
        )
        .unwrap();
        assert_eq!(json_lines(&path).unwrap(), (2, 7));
        fs::write(&path, "{\"type\":\"verdict\"}\n").unwrap();
        assert!(json_lines(&path).is_err(), "a tracer that crashed has no summary");
        fs::write(&path, "ready\nverdict 1\nLost 12 events\nlog x\nverdict 2\nLost 3 events\n").unwrap();
        assert_eq!(text_lines(&path).unwrap(), (2, 15));
    }
}
