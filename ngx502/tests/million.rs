//! The speed of replay and report over a million verdicts. A measurement: `docs/performance.md` says how to run it.

mod synthetic;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VERDICTS: u64 = 1_000_000;
const MEMORY: u64 = 150 << 20;

/// The release build: what debug builds take tells nothing.
fn program() -> PathBuf {
    std::env::var_os("NGX502_BIN").map_or(env!("CARGO_BIN_EXE_ngx502").into(), PathBuf::from)
}

/// Wall time, and the peak of resident memory in bytes.
fn measured(words: &[&str], capture: &Path, output: &Path) -> (Duration, u64) {
    let begin = Instant::now();
    let mut child = Command::new(program())
        .args(words)
        .arg(capture)
        .stdin(Stdio::null())
        .stdout(File::create(output).expect("room"))
        .spawn()
        .expect("the program");
    let usage = wait(&mut child);
    (begin.elapsed(), usage)
}

/// Waits for a child; its peak of resident memory in bytes.
fn wait(child: &mut Child) -> u64 {
    let mut peak = 0;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib =
            line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
        peak = kib.map_or(peak, |kib| peak.max(kib << 10));
        match child.try_wait().expect("a child of ours") {
            None => std::thread::sleep(Duration::from_millis(5)),
            Some(status) if status.success() => return peak,
            Some(status) => panic!("it ended with {status}"),
        }
    }
}

#[test]
#[ignore = "on demand: a measurement of the release build: see docs/performance.md"]
fn a_million_verdicts() {
    let directory = tempfile::tempdir().expect("a directory");
    let capture = match std::env::var_os("NGX502_CAPTURE") {
        Some(path) => PathBuf::from(path),
        None => directory.path().join("million.ngx502"),
    };
    if !capture.exists() {
        synthetic::incident(&capture, "web-1", VERDICTS, None);
    }
    let size = capture.metadata().expect("the capture").len();
    println!("capture: {} bytes a verdict", size as f64 / VERDICTS as f64);
    let output = directory.path().join("out");
    let (time, memory) = measured(&["replay", "--format", "json"], &capture, &output);
    let speed = VERDICTS as f64 / time.as_secs_f64();
    println!("replay: {time:.2?}, {speed:.0} verdicts a second, {} MiB", memory >> 20);
    let (report, report_memory) = measured(&["report", "--format", "json"], &capture, &output);
    println!("report: {report:.2?}, {} MiB", report_memory >> 20);
    let text = std::fs::read_to_string(&output).expect("a report");
    assert!(text.contains("\"failed\":1000000") || text.contains("\"failed\": 1000000"), "{text:.300}");
    // Times are for people to read; memory does not depend on what else the machine does.
    assert!(memory.max(report_memory) <= MEMORY, "{} MiB", memory.max(report_memory) >> 20);
}
