//! Services that systemd holds failed: what is left of a listener that died before the trace began.
//!
//! systemd is asked by `systemctl`, which knows every version's way to reach it. Where systemd does not run, or does not
//! answer soon, nothing is reported.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bstr::ByteSlice as _;

use crate::event::{FailedUnit, Nanos};
use crate::proc::clock;

/// There while systemd is the init system, sd_booted(3).
const BOOTED: &str = "/run/systemd/system";
/// The tracer waits no longer for an answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// More failed units would not help.
const MAX_UNITS: usize = 64;
/// No more of the answer is read.
const ANSWER_BYTES: u64 = 256 * 1024;
/// Code and status of `waitid`: exited, as opposed to killed by a signal.
const EXITED: &str = "1";

/// The services that failed and were not started again; empty where there is no systemd, an error where systemctl is
/// missing, fails, or is slow.
pub(super) fn failed() -> io::Result<Vec<FailedUnit>> {
    if !Path::new(BOOTED).exists() {
        return Ok(Vec::new());
    }
    Ok(parse(&ask()?, clock::asleep()))
}

fn ask() -> io::Result<Vec<u8>> {
    let mut child = Command::new("systemctl")
        .args(["show", "--type=service", "--state=failed", "--no-pager", "*"])
        .args(
            ["Id", "Result", "ExecMainCode", "ExecMainStatus", "InactiveEnterTimestampMonotonic"]
                .map(|name| format!("--property={name}")),
        )
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = child.stdout.take();
    let (sender, answer) = mpsc::channel();
    let reader = thread::Builder::new().name("ngx502-systemctl".into()).spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.map(|stdout| stdout.take(ANSWER_BYTES).read_to_end(&mut bytes));
        // The receiver is gone where it took too long.
        let _ = sender.send(read.unwrap_or(Ok(0)).map(|_| bytes));
    });
    let answer = reader.and_then(|_| answer.recv_timeout(PATIENCE).map_err(io::Error::other)?);
    // It ended with its output, or is not to go on; either way nothing else waits for it.
    let _ = child.kill();
    child.wait()?;
    answer
}

/// Blocks of `Key=Value` lines in any order, apart by blank lines. `asleep`: nanoseconds that the boot clock is ahead of
/// the monotonic one.
fn parse(answer: &[u8], asleep: u64) -> Vec<FailedUnit> {
    let text = answer.to_str_lossy();
    let blocks = text.split("\n\n").filter_map(|block| {
        let value = |key: &str| {
            let found = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            found.filter(|value| !value.is_empty())
        };
        let entered = value("InactiveEnterTimestampMonotonic").and_then(|micros| micros.parse::<u64>().ok());
        let entered = entered.filter(|micros| *micros > 0);
        let status = value("ExecMainStatus").and_then(|status| status.parse().ok());
        Some(FailedUnit {
            unit: value("Id")?.to_owned(),
            result: value("Result")?.to_owned(),
            exit_status: status.filter(|_| value("ExecMainCode") == Some(EXITED)),
            at: entered.map(|micros| Nanos(micros.saturating_mul(1_000).saturating_add(asleep))),
        })
    });
    blocks.take(MAX_UNITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the form of systemd 252's answers; the first block is a recorded one.
    const ANSWER: &[u8] = b"Result=exit-code\nExecMainCode=1\nExecMainStatus=78\nId=php8.2-fpm.service\n\
        InactiveEnterTimestampMonotonic=4401187573\n\nResult=oom-kill\nExecMainCode=2\nExecMainStatus=9\n\
        Id=app.service\nInactiveEnterTimestampMonotonic=0\n";

    #[test]
    fn failed_units_have_their_result_and_time() {
        let found = parse(ANSWER, 5_000);
        let php = FailedUnit {
            unit: "php8.2-fpm.service".into(),
            result: "exit-code".into(),
            exit_status: Some(78),
            at: Some(Nanos(4_401_187_578_000)),
        };
        let app =
            FailedUnit { unit: "app.service".into(), result: "oom-kill".into(), exit_status: None, at: None };
        assert_eq!(found, [php, app]);
        for hostile in [&b""[..], b"\n\n\n", b"Id=\nResult=x\n", b"Id=x.service\n", b"\xff=\xfe\n"] {
            assert_eq!(parse(hostile, 0), []);
        }
    }

    #[test]
    fn without_systemd_there_is_no_unit_and_no_error() {
        if Path::new(BOOTED).exists() {
            assert!(failed().is_ok_and(|units| units.len() <= MAX_UNITS));
        } else {
            assert_eq!(failed().expect("nobody is asked"), []);
        }
    }
}
