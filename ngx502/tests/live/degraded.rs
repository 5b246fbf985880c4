//! Kernels and privileges that allow less: the tracer works with what is there, or refuses with one clear sentence and
//! exit status 1. `doctor` names each missing provider and what its absence costs.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use xtask::lab::faults::{self, Fault};
use xtask::lab::hide_sysfs::{Hidden, without};
use xtask::lab::{Testbed, wait};

use crate::check::{line_agrees, nginx_agrees};
use crate::outcome_of;
use crate::tracer::{Tracer, program};

const TYPES: Hidden = Hidden { folder: "/sys/kernel/btf", but: "" };
const TRACEFS: Hidden = Hidden { folder: "/sys/kernel/tracing", but: "" };
const DEBUGFS: Hidden = Hidden { folder: "/sys/kernel/debug", but: "" };
/// The kinds of events that perf_event_open(2) knows.
const EVENTS: &str = "/sys/bus/event_source/devices";

/// Failures of TCP and AF_UNIX whose cause takes no hook that a kernel may lack.
const TELLING: [&str; 4] = ["refused-killed", "socket-missing", "closed-after-request", "slow"];

/// Capabilities by number, since older tools have no names for them: CAP_SYS_PTRACE, CAP_PERFMON, CAP_BPF.
const PTRACE: &str = "cap_19";
const TRACING: [&str; 2] = ["cap_38", "cap_39"];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("degraded::no-types", || outcome_of(no_types)),
        Trial::test("degraded::no-tracefs", || outcome_of(no_tracefs)),
        Trial::test("degraded::no-kprobes", || outcome_of(no_kprobes)),
        Trial::test("degraded::no-uprobes", || outcome_of(no_uprobes)),
        Trial::test("degraded::no-capability", || outcome_of(no_capability)),
        Trial::test("degraded::tracing-capabilities-only", || outcome_of(tracing_capabilities_only)),
        Trial::test("degraded::tracing-capabilities-and-ptrace", || {
            outcome_of(tracing_capabilities_and_ptrace)
        }),
    ];
    // What cannot be had without booting for it is no test elsewhere.
    let booted_with = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if let Some(mode) = booted_with.split_whitespace().find_map(|word| word.strip_prefix("lockdown=")) {
        let mode = mode.to_owned();
        trials.push(Trial::test("degraded::lockdown", move || outcome_of(|| locked_down(&mode))));
    }
    trials
}

/// Locked down for integrity, nothing is lost: reading the kernel's memory is allowed. For confidentiality, it is not.
fn locked_down(mode: &str) -> Result<()> {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").context("no lockdown in this kernel")?;
    ensure!(modes.contains(&format!("[{mode}]")), "the kernel is not locked down for {mode}: {modes}");
    match mode {
        "integrity" => locked_for_integrity(),
        _ => {
            refuses(Command::new(program()), &["trace", "--duration", "1s"], &["lockdown", "confidentiality"])
        }
    }
}

/// A command of ours that runs with nothing but these capabilities, as the root user all the same.
fn with_capabilities(kept: &[&str]) -> Command {
    let mut bounding = "-all".to_owned();
    for capability in kept {
        bounding += &format!(",+{capability}");
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", &bounding]).arg(program());
    command
}

/// Runs to the end, which must come by itself.
fn run(mut command: Command, args: &[&str]) -> Result<Output> {
    let mut child = command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{command:?} cannot be run"))?;
    let ended = wait::until("the command to end", Duration::from_secs(20), || {
        child.try_wait().ok().flatten().map(drop)
    });
    if ended.is_err() {
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    ended.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok(output)
}

/// Refused in one sentence that has these words, with exit status 1.
fn refuses(command: Command, args: &[&str], words: &[&str]) -> Result<()> {
    let output = run(command, args)?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{}, not exit status 1: {stderr}", output.status);
    ensure!(!stderr.contains("panicked"), "it panicked: {stderr}");
    let last: Vec<_> = stderr.lines().filter(|line| line.starts_with("ngx502: ")).collect();
    ensure!(last.len() == 1, "{} sentences, not one: {stderr}", last.len());
    for word in words {
        ensure!(last[0].contains(word), "no word of {word:?}: {stderr}");
    }
    Ok(())
}

/// Each telling fault is explained by a tracer that `command` starts.
fn explains(mut command: impl FnMut() -> Result<Command>) -> Result<()> {
    for name in TELLING {
        let fault: &'static Fault = faults::named(name);
        let mut testbed = Testbed::start(&[fault], |_| {})?;
        let pid = testbed.lab().master().to_string();
        let mut tracer = Tracer::start_as(command()?, &["--pid", &pid])?;
        testbed.inject(name)?;
        let sent = testbed.fire(name)?;
        let entry = nginx_agrees(&testbed, fault, &sent)?;
        line_agrees(&tracer.wait_for_uri("verdict", &sent.uri)?, fault, &sent, &entry)?;
        let (said, complaints) = tracer.stop_with_complaints()?;
        ensure!(said.lost.is_empty(), "records were lost: {:?}", said.lost);
        ensure!(!complaints.contains("panicked"), "it panicked: {complaints}");
    }
    Ok(())
}

/// What `doctor` says of each observation. Whatever has no provider has its price named.
fn diagnosis(command: Command) -> Result<Vec<Value>> {
    let output = run(command, &["doctor", "--format", "json"])?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!stderr.contains("panicked"), "it panicked: {stderr}");
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let lines: Vec<Value> = lines.map(serde_json::from_slice).collect::<Result<_, _>>().context(stderr)?;
    let signals: Vec<Value> = lines.into_iter().filter(|line| line["type"] == "signal").collect();
    ensure!(!signals.is_empty(), "doctor names no signal");
    for signal in &signals {
        let missing = signal["provider"].is_null();
        let priced = signal["costs"].as_str().is_some_and(|text| !text.is_empty());
        ensure!(missing == priced, "a price without a lack, or the other way round: {signal}");
        let tried = signal["tried"].as_array().map_or(0, Vec::len);
        ensure!(!missing || tried > 0, "missing without a reason: {signal}");
    }
    Ok(signals)
}

fn missing(signals: &[Value]) -> impl Iterator<Item = &str> {
    signals.iter().filter(|signal| signal["provider"].is_null()).filter_map(|signal| signal["name"].as_str())
}

fn no_types() -> Result<()> {
    let words = &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"];
    for args in [&["trace", "--duration", "1s"][..], &["doctor"]] {
        refuses(without(&[TYPES], &program())?, args, words)?;
    }
    Ok(())
}

/// No hook is found through tracefs.
fn no_tracefs() -> Result<()> {
    let hidden = [TRACEFS, DEBUGFS];
    let all = diagnosis(Command::new(program()))?;
    let left = diagnosis(without(&hidden, &program())?)?;
    ensure!(missing(&all).eq(missing(&left)), "hooks need tracefs: {left:?}");
    explains(|| without(&hidden, &program()))
}

/// As on kernels that are built without: who closed an AF_UNIX connection is inferred, the rest is as ever.
fn no_kprobes() -> Result<()> {
    let hidden = [Hidden { folder: EVENTS, but: "uprobe" }, TRACEFS, DEBUGFS];
    let signals = diagnosis(without(&hidden, &program())?)?;
    let lacking: Vec<_> = missing(&signals).collect();
    for name in ["unix-listen", "unix-connect", "unix-close"] {
        ensure!(lacking.contains(&name), "{name} has a provider: {signals:?}");
    }
    explains(|| without(&hidden, &program()))
}

/// Without the one thing that nothing can stand in for.
fn no_uprobes() -> Result<()> {
    let testbed = Testbed::start(&[faults::named("refused-nobody")], |_| {})?;
    let pid = testbed.lab().master().to_string();
    let hidden = [Hidden { folder: EVENTS, but: "" }, TRACEFS, DEBUGFS];
    refuses(without(&hidden, &program())?, &["trace", "--duration", "1s", "--pid", &pid], &["can be traced"])
}

fn no_capability() -> Result<()> {
    for args in [&["trace", "--duration", "1s"][..], &["doctor"]] {
        refuses(with_capabilities(&[]), args, &["no permission to load BPF programs", "sudo"])?;
    }
    Ok(())
}

/// An nginx of a user with more capabilities cannot be seen: that is said, and nothing is invented.
fn tracing_capabilities_only() -> Result<()> {
    let testbed = Testbed::start(&[faults::named("refused-nobody")], |_| {})?;
    let output = run(with_capabilities(&TRACING), &["trace", "--duration", "1s", "--format", "json"])?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!stderr.contains("panicked"), "it panicked: {stderr}");
    ensure!(stderr.contains("CAP_SYS_PTRACE is missing"), "what is missing is not said: {stderr}");
    ensure!(matches!(output.status.code(), Some(0 | 1)), "{}: {stderr}", output.status);
    drop(testbed);
    Ok(())
}

/// They suffice where the kernel lets them attach uprobes; elsewhere the lack is named.
fn tracing_capabilities_and_ptrace() -> Result<()> {
    let kept = [TRACING[0], TRACING[1], PTRACE];
    let testbed = Testbed::start(&[faults::named("refused-nobody")], |_| {})?;
    let pid = testbed.lab().master().to_string();
    let tried = run(with_capabilities(&kept), &["trace", "--duration", "1s", "--pid", &pid])?;
    drop(testbed);
    if tried.status.success() {
        return explains(|| Ok(with_capabilities(&kept)));
    }
    let stderr = String::from_utf8_lossy(&tried.stderr).into_owned();
    ensure!(tried.status.code() == Some(1) && !stderr.contains("panicked"), "{}: {stderr}", tried.status);
    ensure!(stderr.contains("CAP_SYS_ADMIN"), "what is missing is not said: {stderr}");
    Ok(())
}

fn locked_for_integrity() -> Result<()> {
    let signals = diagnosis(Command::new(program()))?;
    let lacking: Vec<_> = missing(&signals).filter(|name| *name != "icmp-error").collect();
    ensure!(lacking.is_empty(), "without {lacking:?}");
    explains(|| Ok(Command::new(program())))
}
