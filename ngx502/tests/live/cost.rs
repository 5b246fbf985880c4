//! What the probes take from nginx is told, and verbose logs do not make it more.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use xtask::lab::Testbed;
use xtask::lab::{faults, wait};

use crate::outcome_of;
use crate::tracer::{Tracer, program};

/// The fault that every request here meets.
const FAULT: &str = "refused-nobody";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("cost::doctor-tells-what-each-hook-takes", || {
            outcome_of(doctor_tells_what_each_hook_takes)
        }),
        Trial::test("cost::a-log-at-debug-is-left-unread", || outcome_of(a_log_at_debug_is_left_unread)),
    ]
}

/// `doctor --cost` beside requests that fail: each meets a uprobe, and some of its socket's states.
fn doctor_tells_what_each_hook_takes() -> Result<()> {
    let testbed = Testbed::start(&[faults::named(FAULT)], |_| {})?;
    let mut doctor = Command::new(program())
        .args(["doctor", "--cost=2s", "--format", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut asked = 0;
    while doctor.try_wait()?.is_none() {
        testbed.fire(FAULT)?;
        asked += 1;
    }
    let output = doctor.wait_with_output()?;
    ensure!(output.status.success(), "doctor ended with {}", output.status);
    let lines: Vec<Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()?;
    let hooks: Vec<&Value> = lines.iter().filter(|line| line["type"] == "hook").collect();
    for (name, trap) in [("special_response", true), ("inet_sock_set_state", false)] {
        let hook = hooks.iter().find(|hook| hook["program"] == name).with_context(|| format!("no {name}"))?;
        ensure!(hook["trap"] == trap, "{hook}");
        let number = |field: &str| hook[field].as_f64().with_context(|| format!("no {field} in {hook}"));
        let (runs, nanos) = (number("runs_per_second")?, number("ns_per_run")?);
        ensure!(runs > 0.0 && nanos > 0.0, "{asked} failed requests did not show: {hook}");
        let share = number("cpu_share")?;
        ensure!((share / (runs * nanos * 1e-9) - 1.0).abs() < 1e-6, "the figures disagree: {hook}");
    }
    let sum: f64 = hooks.iter().filter_map(|hook| hook["cpu_share"].as_f64()).sum();
    let together = lines.iter().find(|line| line["type"] == "cost").context("no sum")?;
    let share = together["cpu_share"].as_f64().context("no sum of shares")?;
    ensure!((share / sum - 1.0).abs() < 1e-6, "{share} is not the sum {sum}: {together}");
    let traps = together["traps_per_second"].as_f64().context("no traps")?;
    ensure!(traps > 0.0, "no trap was counted: {together}");
    Ok(())
}

/// Under load nginx at `debug` writes more messages than are worth their traps: the probe on them goes, what tells of
/// failures without it comes, that is said once, and verdicts are right all the same.
fn a_log_at_debug_is_left_unread() -> Result<()> {
    const GARBAGE: &str = "header-garbage";
    let mut testbed = Testbed::start(&[faults::named(FAULT), faults::named(GARBAGE)], |config| {
        config.error_level = "debug".to_owned();
    })?;
    testbed.inject(GARBAGE)?;
    let mut tracer = Tracer::start(testbed.lab().master(), &[])?;
    let before = tracer.probes()?;
    let first = testbed.fire(GARBAGE)?;
    let read = tracer.wait_for_uri("verdict", &first.uri)?;
    let mut asked = 1;
    let notice = wait::until("the log to be too much", Duration::from_secs(30), || {
        for _ in 0..20 {
            asked += usize::from(testbed.fire(FAULT).is_ok());
        }
        tracer.peek_for(|line| line["type"] == "notice")
    })?;
    ensure!(notice["topic"] == "log-unread", "another notice: {notice}");
    let now = tracer.probes()?;
    ensure!(now == before, "{before} probes, then {now}: one was to go and one to come");
    let sent = testbed.fire(GARBAGE)?;
    let inferred = tracer.wait_for_uri("verdict", &sent.uri)?;
    for (line, certainty) in [(&read, "proven"), (&inferred, "inferred")] {
        ensure!(
            line["symptom"] == "header-invalid" && line["certainty"] == certainty,
            "not {certainty}: {line}"
        );
    }
    let (said, complaints) = tracer.stop_with_complaints()?;
    ensure!(said.notices.len() == 1, "said {} times", said.notices.len());
    ensure!(complaints.matches("stops reading it").count() == 1, "on standard error: {complaints}");
    ensure!(said.verdicts.len() == asked + 1, "{} verdicts of {}", said.verdicts.len(), asked + 1);
    let refused = said.summary["by_symptom"]["connect-refused"].as_u64();
    ensure!(refused == Some(asked as u64 - 1), "of {} refusals {refused:?} were told", asked - 1);
    Ok(())
}
