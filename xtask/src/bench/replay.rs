//! `cargo xtask bench replay`: how fast a capture of an incident becomes verdicts again, and whether they are the same.
//!
//! The capture is made by `ngx502/tests/million.rs`, which also says what attribution made of the same records without
//! a capture between. Processor time counts, since it depends least on what else the machine does.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use xtask::digest::Digest;

use super::usage;
use crate::exec;

/// Verdicts a second of processor time.
const SPEED_BAR: f64 = 300_000.0;
/// Processor time of a report over a million verdicts.
const REPORT_BAR: Duration = Duration::from_secs(3);
/// Resident memory of either, in MiB.
const MEMORY_BAR: u64 = 150;
/// Bytes of the capture a verdict.
const SIZE_BAR: f64 = 60.0;
/// Bytes of output between two looks at the memory.
const LOOK: usize = 1 << 20;

#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct Args {
    /// Verdicts in the capture.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    verdicts: u64,
    /// Replays and reports; the median of their times counts.
    #[arg(long = "replays", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

impl Default for Args {
    fn default() -> Self {
        Self { verdicts: 1_000_000, rounds: 3 }
    }
}

/// What a run of the program took.
#[derive(Clone, Copy, Debug)]
struct Took {
    cpu: Duration,
    /// KiB.
    peak: u64,
}

/// What was measured.
pub(super) struct Figures {
    verdicts: u64,
    capture: u64,
    replays: Vec<Took>,
    reports: Vec<Took>,
}

/// Makes the capture, replays it and reports on it.
///
/// # Errors
/// When a program fails, or the replay does not say byte for byte what attribution said.
pub(super) fn measure(args: Args, binary: &Path) -> Result<Figures> {
    let directory = tempfile::tempdir().context("there is no place for the capture")?;
    let capture = directory.path().join("million.ngx502");
    let expected = make(&capture, args.verdicts)?;
    let (mut replays, mut reports) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        let (took, said) = replay(binary, &capture)?;
        ensure!(
            said == expected,
            "replay said {said}, attribution {expected}: they must not differ in a byte"
        );
        replays.push(took);
        reports.push(report(binary, &capture, args.verdicts)?);
        eprintln!("replay · round {round} of {}: {took:?}", args.rounds);
    }
    let capture = fs::metadata(&capture)?.len();
    Ok(Figures { verdicts: args.verdicts, capture, replays, reports })
}

/// The capture; what attribution says of its records, as [`Digest`] prints it.
fn make(capture: &Path, verdicts: u64) -> Result<String> {
    let digest = capture.with_extension("digest");
    exec::run(
        exec::cargo("test")
            .args(["--package", "ngx502", "--test", "million", "--", "--ignored", "--exact", "write_capture"])
            .env("NGX502_CAPTURE", capture)
            .env("NGX502_VERDICTS", verdicts.to_string()),
    )?;
    Ok(fs::read_to_string(digest)?)
}

/// Runs `replay` to JSON lines; the digest is of all of them but the summary.
fn replay(binary: &Path, capture: &Path) -> Result<(Took, String)> {
    let mut digest = Digest::default();
    // The last line is the summary, and only at the end is a line known to be the last.
    let (mut line, mut last) = (Vec::new(), Vec::new());
    let took =
        run(Command::new(binary).args(["replay", "--format", "json"]).arg(capture), |output, look| {
            let mut seen = 0;
            while output.read_until(b'\n', &mut line)? > 0 {
                digest.add(&last);
                seen += line.len();
                if seen >= LOOK {
                    look();
                    seen = 0;
                }
                std::mem::swap(&mut line, &mut last);
                line.clear();
            }
            Ok(())
        })?;
    ensure!(last.starts_with(br#"{"type":"summary""#), "the replay does not end with a summary");
    Ok((took, digest.to_string()))
}

/// Runs `report` to JSON and checks that it counted every verdict.
fn report(binary: &Path, capture: &Path, verdicts: u64) -> Result<Took> {
    let mut text = String::new();
    let took =
        run(Command::new(binary).args(["report", "--format", "json"]).arg(capture), |output, look| {
            // The first bytes come once everything is collected.
            output.fill_buf()?;
            look();
            output.read_to_string(&mut text)?;
            Ok(())
        })?;
    let report: serde_json::Value = serde_json::from_str(&text).context("the report is no JSON")?;
    let failed = &report["totals"]["failed"];
    ensure!(failed == verdicts, "the report counts {failed} of {verdicts} failed requests");
    Ok(took)
}

/// Runs a program, hands its output to `read` with a function that looks at its memory, and waits for it.
fn run(
    command: &mut Command,
    read: impl FnOnce(&mut BufReader<std::process::ChildStdout>, &mut dyn FnMut()) -> Result<()>,
) -> Result<Took> {
    let before = children()?;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("standard output was asked to be a pipe")?;
    let (mut output, pid, mut peak) = (BufReader::with_capacity(LOOK, output), child.id(), 0);
    let done = read(&mut output, &mut || peak = peak.max(usage::memory(pid).map_or(0, |memory| memory.peak)));
    finish(&mut child, done)?;
    Ok(Took { cpu: children()?.saturating_sub(before), peak })
}

fn finish(child: &mut Child, done: Result<()>) -> Result<()> {
    if done.is_err() {
        // It would wait for a reader for ever.
        child.kill()?;
    }
    let status = child.wait()?;
    done?;
    if status.success() { Ok(()) } else { bail!("ngx502 ended with {status}") }
}

/// Processor time of all children that have ended and were waited for.
fn children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(micros.try_into()?))
}

impl Figures {
    /// The section for `docs/performance.md`.
    pub(super) fn to_markdown(&self, machine: &str) -> String {
        let (replay, report) = (median(&self.replays), median(&self.reports));
        let verdicts = self.verdicts as f64;
        let speed = verdicts / replay.as_secs_f64();
        let size = self.capture as f64 / verdicts;
        let allowed = REPORT_BAR.mul_f64(verdicts / 1e6);
        let all = self.replays.iter().chain(&self.reports);
        let peak = all.map(|took| took.peak).max().unwrap_or(0).div_ceil(1024);
        let mut text = format!(
            "{machine}\n\n{} verdicts, medians of {} runs, processor time (user and system) of one thread; every replay \
             was byte for byte what attribution said.\n\n| | bar | measured |\n|---|--:|---|\n",
            self.verdicts,
            self.replays.len(),
        );
        let rows = [
            (
                "`replay --format json`, verdicts per second",
                format!("≥ {SPEED_BAR:.0}"),
                format!("{speed:.0} ({:.2} µs each)", replay.as_secs_f64() * 1e6 / verdicts),
                speed >= SPEED_BAR,
            ),
            (
                "`report`",
                format!("< {:.1} s", allowed.as_secs_f64()),
                format!("{:.2} s", report.as_secs_f64()),
                report < allowed,
            ),
            ("memory, peak", format!("< {MEMORY_BAR} MiB"), format!("{peak} MiB"), peak < MEMORY_BAR),
            ("capture, bytes a 502", format!("≤ {SIZE_BAR:.0}"), format!("{size:.1}"), size <= SIZE_BAR),
        ];
        for (what, bar, measured, met) in rows {
            let met = if met { "met" } else { "missed" };
            let _ = writeln!(text, "| {what} | {bar} | **{measured}**: {met} |");
        }
        text
    }
}

fn median(all: &[Took]) -> Duration {
    let mut times: Vec<_> = all.iter().map(|took| took.cpu).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_met_or_missed() {
        let took = |millis, peak| Took { cpu: Duration::from_millis(millis), peak };
        let figures = Figures {
            verdicts: 1_000_000,
            capture: 61_000_000,
            replays: vec![took(9_000, 1), took(3_000, 160 << 10), took(3_200, 1)],
            reports: vec![took(2_999, 1)],
        };
        let text = figures.to_markdown("a machine");
        assert!(text.contains("| ≥ 300000 | **312500 (3.20 µs each)**: met |"), "{text}");
        assert!(text.contains("| < 3.0 s | **3.00 s**: met |"), "{text}");
        assert!(text.contains("| < 150 MiB | **160 MiB**: missed |"), "{text}");
        assert!(text.contains("| ≤ 60 | **61.0**: missed |"), "{text}");
    }

    #[test]
    fn a_program_that_fails_is_an_error_and_one_that_ends_is_measured() {
        let read = |output: &mut BufReader<_>, look: &mut dyn FnMut()| {
            output.fill_buf()?;
            look();
            Ok(())
        };
        let took =
            run(Command::new("sh").args(["-c", "echo x; read wait < /dev/null; exit 0"]), read).unwrap();
        assert!(took.cpu < Duration::from_secs(5));
        assert!(run(Command::new("sh").args(["-c", "exit 3"]), read).unwrap_err().to_string().contains("3"));
    }
}
