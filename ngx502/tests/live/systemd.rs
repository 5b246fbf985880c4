//! Services of a real systemd, which names the units, stops them, limits their memory and remembers which failed.
//!
//! Where another program is the first process there is nothing to try, and nothing to skip: `cargo xtask test` boots a
//! guest for these trials.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use xtask::lab::{Lab, LabConfig, Site, Transport, wait};

use crate::outcome_of;
use crate::tracer::{Tracer, says};

/// There while systemd is the init system, sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// What a manager of services may take for a start or a stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers every request; `eat` wants more memory than its unit may have, `exit` ends it with status 78.
const SERVER: &str = r#"
import http.server, os, socketserver, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/eat":
            hoard = [b"x" * (1 << 20) for _ in range(1 << 10)]
        if self.path == "/exit":
            os._exit(78)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def address_string(self):
        return "nginx"

place = sys.argv[1]
if place.startswith("unix:"):
    server = socketserver.UnixStreamServer(place[5:], Handler)
else:
    host, port = place.rsplit(":", 1)
    server = http.server.HTTPServer((host, int(port)), Handler)
server.serve_forever()
"#;

pub(crate) fn trials() -> Vec<Trial> {
    if !Path::new(BOOTED).exists() {
        return Vec::new();
    }
    vec![
        Trial::test("systemd::stopped", || outcome_of(stopped)),
        Trial::test("systemd::outlives-its-stop", || outcome_of(outlives_its_stop)),
        Trial::test("systemd::out-of-memory", || outcome_of(out_of_memory)),
        Trial::test("systemd::failed-before-the-trace", || outcome_of(failed_before_the_trace)),
    ]
}

/// A transient service in front of which an nginx stands. Dropped, it is stopped and forgotten.
struct Unit {
    name: String,
    site: Site,
}

impl Unit {
    /// Starts the server at a place `over` TCP or AF_UNIX, in a unit with these properties, and waits until it listens.
    fn start(stem: &str, over: Transport, properties: &[&str], prelude: &str) -> Result<Unit> {
        let unit = Unit { name: format!("{stem}-{}.service", std::process::id()), site: Site::new(over)? };
        let program = unit.site.write("server.py", &format!("{prelude}{SERVER}"))?;
        let mut run = Command::new("systemd-run");
        run.args(["--quiet", "--unit", &unit.name]);
        run.args(properties.iter().flat_map(|property| ["--property", property]));
        run.arg("/usr/bin/python3").arg(program).arg(unit.site.address());
        say(&mut run)?;
        wait::until("the service to listen", PATIENCE, || unit.site.accepts().then_some(()))
            .with_context(|| unit.status())?;
        Ok(unit)
    }

    /// What systemd says of it, for a message.
    fn status(&self) -> String {
        let status =
            Command::new("systemctl").args(["status", "--no-pager", "--lines=20", &self.name]).output();
        status
            .map_or_else(|error| error.to_string(), |said| String::from_utf8_lossy(&said.stdout).into_owned())
    }

    /// An nginx whose one location is this service.
    fn lab(&self) -> Result<Lab> {
        let colon = if self.site.socket().is_some() { ":" } else { "" };
        Lab::start(LabConfig {
            server: format!("location / {{ proxy_pass http://{}{colon}; }}", self.site.address()),
            ..LabConfig::default()
        })
    }

    fn stop(&self) -> Result<()> {
        say(Command::new("systemctl").args(["stop", &self.name])).map(drop)
    }

    /// Waits until the unit is in this state.
    fn wait_for(&self, state: &str) -> Result<()> {
        wait::until(&format!("{} to be {state}", self.name), PATIENCE, || {
            let mut show = Command::new("systemctl");
            let found = say(show.args(["show", "--property=ActiveState", "--value", &self.name])).ok()?;
            (found.trim() == state).then_some(())
        })
    }

    /// The verdict has this cause, and names the unit wherever a person would look for it.
    fn is_named(&self, line: &Value, cause: &str) -> Result<()> {
        ensure!(line["cause"] == cause && line["certainty"] == "proven", "not {cause}, proven: {line}");
        ensure!(line["upstream"]["process"]["unit"] == self.name, "not of {}: {line}", self.name);
        says(line, &self.name)?;
        let fix = line["fix"].to_string();
        for command in
            [format!("journalctl -u {} -n 50", self.name), format!("systemctl restart {}", self.name)]
        {
            ensure!(fix.contains(&command), "no `{command}`: {line}");
        }
        Ok(())
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // One that is gone already needs neither.
        let _ = self.stop();
        let _ = say(Command::new("systemctl").args(["reset-failed", &self.name]));
    }
}

/// Runs a command of systemd's to its end; returns its output.
fn say(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks for this path, and returns the verdict on it.
fn verdict(lab: &Lab, tracer: &mut Tracer, path: &str) -> Result<Value> {
    lab.get(path)?;
    Ok(tracer.agreed_verdict(lab, path)?.0)
}

/// `systemctl stop`: the service is told by SIGTERM.
fn stopped() -> Result<()> {
    let unit = Unit::start("ngx502-stopped", Transport::Tcp, &[], "")?;
    let lab = unit.lab()?;
    let mut tracer = Tracer::start(lab.master(), &[])?;
    ensure!(lab.get("/ok")?.status == 200, "the service does not answer");
    unit.stop()?;
    let line = verdict(&lab, &mut tracer, "/stopped")?;
    unit.is_named(&line, "killed")?;
    says(&line, "with SIGTERM by systemd[1]")?;
    says(&line, &format!("the service manager, as it does to stop or restart {}", unit.name))
}

/// A service that ignores SIGTERM gets SIGKILL when its time is over.
fn outlives_its_stop() -> Result<()> {
    let deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n";
    let unit = Unit::start("ngx502-deaf", Transport::Unix, &["TimeoutStopSec=1"], deaf)?;
    let lab = unit.lab()?;
    let mut tracer = Tracer::start(lab.master(), &[])?;
    unit.stop()?;
    let line = verdict(&lab, &mut tracer, "/stopped")?;
    unit.is_named(&line, "killed")?;
    says(&line, "with SIGKILL by systemd[1]")?;
    says(&line, "as it does when TimeoutStopSec= is exceeded")
}

/// `MemoryMax=`: the request that it dies of, and the one that finds nobody there afterwards.
fn out_of_memory() -> Result<()> {
    let limit = ["MemoryMax=64M", "MemorySwapMax=0"];
    let unit = Unit::start("ngx502-hungry", Transport::Tcp, &limit, "")?;
    let lab = unit.lab()?;
    let mut tracer = Tracer::start(lab.master(), &[])?;
    let limit = format!("in cgroup system.slice/{} (limit 64 MiB)", unit.name);
    for path in ["/eat", "/afterwards"] {
        let line = verdict(&lab, &mut tracer, path)?;
        unit.is_named(&line, "oom-killed")?;
        says(&line, &limit)?;
        unit.wait_for("failed")?;
    }
    Ok(())
}

/// The service left its socket file, and systemd knows what became of it.
fn failed_before_the_trace() -> Result<()> {
    let unit = Unit::start("ngx502-gone", Transport::Unix, &[], "")?;
    let lab = unit.lab()?;
    lab.get("/exit")?;
    unit.wait_for("failed")?;
    let mut tracer = Tracer::start(lab.master(), &[])?;
    let line = verdict(&lab, &mut tracer, "/afterwards")?;
    ensure!(line["symptom"] == "socket-refused" && line["cause"] == "not-listening", "{line}");
    says(&line, "is a socket file left behind by a server that is gone")?;
    let failed = json!({ "unit": unit.name, "result": "exit-code", "exit_status": 78 });
    // Units of the guest's own may have failed, too.
    let mut all = line["details"]["failed_units"].as_array().into_iter().flatten();
    ensure!(all.any(|unit| *unit == failed), "{failed} is not among the failed units: {line}");
    ensure!(line["fix"].to_string().contains(&format!("systemctl status {}", unit.name)), "no fix: {line}");
    Ok(())
}
