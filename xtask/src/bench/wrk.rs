//! wrk, told by a script to report in JSON: its own text rounds latencies and hides units in words.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::scenario::Scenario;
use crate::exec;

/// Connections that it keeps open to nginx.
pub(super) const CONNECTIONS: u32 = 64;

/// Printed once at the end; latencies are in microseconds.
const REPORT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\nREPORT {"requests":%d,"duration":%d,"p50":%d,"p99":%d,"status":%d,"socket":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), e.status,
    e.connect + e.read + e.write + e.timeout))
end
"#;

/// Every other request fails.
const ALTERNATE: &str = r#"
local count = 0
request = function()
  count = count + 1
  return wrk.format("GET", count % 2 == 0 and "/storm" or "/keep-alive")
end
"#;

/// What wrk saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    /// Answers.
    pub(super) requests: u64,
    /// Wall-clock time.
    pub(super) seconds: f64,
    /// Median latency in microseconds.
    pub(super) p50: f64,
    /// 99th percentile of latency in microseconds.
    pub(super) p99: f64,
    /// Answers with a status of 400 and above.
    pub(super) errors: u64,
    /// Connections that failed or timed out.
    pub(super) broken: u64,
}

/// Asks `nginx` for the scenario's path as often as it answers.
///
/// # Errors
/// When wrk is missing or fails.
pub(super) fn run(nginx: SocketAddr, scenario: Scenario, time: Duration, cpu: usize) -> Result<Load> {
    let mut script = tempfile::Builder::new().suffix(".lua").tempfile()?;
    script.write_all(REPORT.as_bytes())?;
    if scenario == Scenario::Mix {
        script.write_all(ALTERNATE.as_bytes())?;
    }
    let mut wrk = Command::new("taskset");
    wrk.args(["--cpu-list", &cpu.to_string(), "wrk", "--threads", "1"]);
    // wrk takes whole seconds only.
    wrk.args(["--connections", &CONNECTIONS.to_string(), "--duration", &time.as_secs().max(1).to_string()]);
    wrk.arg("--script").arg(script.path()).arg(format!("http://{nginx}{}", scenario.path()));
    parse(&exec::read(&mut wrk)?)
}

/// Whether the answers were those that the scenario is about.
///
/// # Errors
/// With what was wrong.
pub(super) fn check(scenario: Scenario, load: &Load) -> Result<()> {
    let share = load.errors as f64 / load.requests.max(1) as f64;
    let expected = match scenario {
        Scenario::Storm => 1.0..=1.0,
        Scenario::Mix => 0.45..=0.55,
        _ => 0.0..=0.0,
    };
    if load.requests == 0 || load.broken > 0 || !expected.contains(&share) {
        bail!(
            "{scenario}: of {} answers {} were errors, {} connections broke; so this measures something else",
            load.requests,
            load.errors,
            load.broken
        );
    }
    Ok(())
}

fn parse(output: &str) -> Result<Load> {
    let line = output.lines().find_map(|line| line.strip_prefix("REPORT "));
    let report: Value = serde_json::from_str(line.context("wrk gave no report")?)?;
    let number = |name: &str| report[name].as_u64().with_context(|| format!("wrk's report has no {name}"));
    Ok(Load {
        requests: number("requests")?,
        seconds: number("duration")? as f64 / 1e6,
        p50: number("p50")? as f64,
        p99: number("p99")? as f64,
        errors: number("status")?,
        broken: number("socket")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Running 3s test @ http://127.0.0.1:1/\n\
        REPORT {\"requests\":100,\"duration\":2000000,\"p50\":5,\"p99\":9,\"status\":0,\"socket\":0}\n";

    #[test]
    fn the_report_is_read() {
        let load = parse(OUTPUT).unwrap();
        assert_eq!((load.requests, load.seconds, load.p50, load.p99), (100, 2.0, 5.0, 9.0));
        assert!(parse("Requests/sec: 3").is_err());
    }

    #[test]
    fn answers_of_another_kind_spoil_the_run() {
        let load = parse(OUTPUT).unwrap();
        assert!(check(Scenario::KeepAlive, &load).is_ok());
        assert!(check(Scenario::Storm, &load).is_err());
        assert!(check(Scenario::Mix, &Load { errors: 50, ..load }).is_ok());
        assert!(check(Scenario::Short, &Load { broken: 1, ..load }).is_err());
    }
}
