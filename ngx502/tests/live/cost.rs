//! What the probes take from nginx is told, and verbose logs do not make it more.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use xtask::lab::Stage;
use xtask::lab::faults;

use crate::told;
use crate::tracer::program;

/// The fault that every request here meets.
const FAULT: &str = "refused-nobody";

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test("cost::doctor-tells-what-each-hook-takes", || told(doctor_tells_what_each_hook_takes()))]
}

/// `doctor --cost` beside requests that fail: each meets a uprobe, and some of its socket's states.
fn doctor_tells_what_each_hook_takes() -> Result<()> {
    let stage = Stage::start(&[faults::named(FAULT)], |_| {})?;
    let mut doctor = Command::new(program())
        .args(["doctor", "--cost=2s", "--format", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut asked = 0;
    while doctor.try_wait()?.is_none() {
        stage.fire(FAULT)?;
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
