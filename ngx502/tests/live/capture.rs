//! What `trace -o` leaves: a file from which `replay` says what the trace said, whatever happened to the trace.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::lab::Testbed;
use xtask::lab::faults::{self, FAULTS, Fault};
use xtask::lab::wait;

use crate::tracer::program;
use crate::{Outcome, outcome_of, skip};

/// Longest time for anything that the tracer is to do.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("capture::replay-says-what-live-said", || outcome_of(|| replay_says_what_live_said(&[]))),
        Trial::test("capture::replay-shows-as-the-flags-said", || {
            outcome_of(|| replay_says_what_live_said(&["--with-query", "--passthrough", "--status", "502"]))
        }),
        Trial::test("capture::sigkill-costs-a-second", || outcome_of(sigkill_costs_a_second)),
        Trial::test("capture::nothing-is-overwritten", || outcome_of(nothing_is_overwritten)),
        Trial::test("capture::a-full-disk-ends-the-capture-only", a_full_disk_ends_the_capture_only),
    ]
}

/// A tracer whose output goes to files, byte for byte.
struct Recorder {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Recorder {
    /// Starts a trace of this nginx into `capture` and waits until it is ready.
    fn start(testbed: &Testbed, directory: &Path, capture: &Path, flags: &[&str]) -> Result<Recorder> {
        let (out, err) = (directory.join("out"), directory.join("err"));
        let child = Command::new(program())
            .args(["trace", "--format", "json", "--pid", &testbed.lab().master().to_string(), "-o"])
            .arg(capture)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .spawn()?;
        let recorder = Recorder { child, out, err };
        recorder.wait_for("ready", |said| said.contains("\"type\":\"ready\""))?;
        Ok(recorder)
    }

    fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let said = wait::until(what, PATIENCE, || {
            fs::read_to_string(&self.out).ok().filter(|said| wanted(said)).map(drop)
        });
        said.with_context(|| format!("the tracer complained: {}", self.complaints()))
    }

    /// Waits for the line about a request.
    fn wait_for_uri(&self, uri: &str) -> Result<()> {
        self.wait_for(&format!("a line about {uri}"), |said| said.contains(&format!("\"uri\":\"{uri}\"")))
    }

    fn complaints(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// Everything after `ready`, so far.
    fn lines(&self) -> Result<String> {
        let said = fs::read_to_string(&self.out)?;
        let (_, lines) = said.split_once('\n').context("not even `ready`")?;
        Ok(lines.to_owned())
    }

    fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // It has ended already unless a check failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn replay(capture: &Path, flags: &[&str]) -> Result<Output> {
    Ok(Command::new(program()).args(["replay", "--format", "json"]).args(flags).arg(capture).output()?)
}

/// Every repeatable row several times, so that retries, rescues and silent failures are among them.
fn many_failures(testbed: &Testbed, rows: &[&Fault]) -> Result<()> {
    std::thread::scope(|scope| {
        let client = |number: usize| {
            (0..2 * rows.len())
                .try_for_each(|turn| testbed.fire(rows[(turn + number * 7) % rows.len()].name).map(drop))
        };
        let clients: Vec<_> = (0..4).map(|number| scope.spawn(move || client(number))).collect();
        clients.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))
    })
}

/// The same bytes as live, apart from `ready`; with the flags that say what live showed.
fn replay_says_what_live_said(flags: &[&str]) -> Result<()> {
    let rows: Vec<_> = FAULTS.iter().filter(|fault| fault.repeatable).collect();
    let mut testbed = Testbed::start(&[&rows[..], &[faults::named("refused-killed")]].concat(), |config| {
        config.workers = 2;
        config.connections = 2048;
    })?;
    for row in &rows {
        testbed.inject(row.name)?;
    }
    let directory = tempfile::tempdir()?;
    let capture = directory.path().join("x.ngx502");
    let mut tracer = Recorder::start(&testbed, directory.path(), &capture, flags)?;
    // While it watches, an upstream is killed: the verdicts need the capture's signals and exits.
    testbed.inject("refused-killed")?;
    testbed.fire("refused-killed")?;
    many_failures(&testbed, &rows)?;
    testbed.lab().get("/refused-nobody/query?token=secret")?;
    let last = testbed.fire("refused-nobody")?;
    tracer.wait_for_uri(&last.uri)?;
    let status = tracer.end(Signal::SIGTERM)?;
    ensure!(status.success(), "the tracer ended with {status}: {}", tracer.complaints());
    let live = tracer.lines()?;
    let with_query = flags.contains(&"--with-query");
    let replayed = replay(&capture, if with_query { &["--with-query"] } else { &[] })?;
    let stderr = String::from_utf8_lossy(&replayed.stderr).into_owned();
    ensure!(replayed.status.success() && stderr.is_empty(), "{}: {stderr}", replayed.status);
    same_lines(&live, &String::from_utf8(replayed.stdout)?)?;
    ensure!(live.contains("\"cause\":\"killed\""), "no verdict about the killed upstream");
    ensure!(live.contains("token=secret") == with_query, "query strings with {flags:?}");
    let hidden = String::from_utf8(replay(&capture, &[])?.stdout)?;
    ensure!(!hidden.contains("secret"), "a replay shows a query string unasked");
    if let Some(kept) = std::env::var_os("NGX502_KEEP_CAPTURE").filter(|_| flags.is_empty()) {
        fs::copy(&capture, kept)?;
    }
    Ok(())
}

fn same_lines(live: &str, replayed: &str) -> Result<()> {
    for (number, (one, other)) in live.lines().zip(replayed.lines()).enumerate() {
        ensure!(one == other, "line {number} differs:\n  live   {one}\n  replay {other}");
    }
    ensure!(live == replayed, "{} lines live, {} replayed", live.lines().count(), replayed.lines().count());
    ensure!(live.lines().count() > 100, "too few lines to prove anything: {live}");
    Ok(())
}

/// A tracer killed in the middle leaves every record that is older than a second.
fn sigkill_costs_a_second() -> Result<()> {
    let testbed = Testbed::start(&[faults::named("refused-nobody")], |_| {})?;
    let directory = tempfile::tempdir()?;
    let capture = directory.path().join("x.ngx502");
    let mut tracer = Recorder::start(&testbed, directory.path(), &capture, &[])?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        // One at a time, so that a slow machine keeps up.
        tracer.wait_for_uri(&testbed.fire("refused-nobody")?.uri)?;
    }
    let limit = jiff::Timestamp::try_from(SystemTime::now() - Duration::from_secs(1))?;
    tracer.end(Signal::SIGKILL)?;
    let live = tracer.lines()?;
    let replayed = replay(&capture, &[])?;
    ensure!(replayed.status.success(), "the file is not readable: {replayed:?}");
    let complaint = String::from_utf8_lossy(&replayed.stderr).into_owned();
    ensure!(complaint.contains("no end marker"), "nothing says that the end is missing: {complaint}");
    let found = String::from_utf8(replayed.stdout)?;
    let mut old = 0;
    for line in live.lines() {
        let value: Value = serde_json::from_str(line)?;
        // Losses have no time; a storm in a debug build may have some.
        let time = value["time"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        if time.is_some_and(|time| time < limit) {
            ensure!(found.contains(line), "older than a second, but lost: {line}");
            old += 1;
        }
    }
    ensure!(old > 0, "only {old} verdicts older than a second");
    Ok(())
}

/// An existing file, a link, a device: refused before anything is attached; `--force` replaces files only.
fn nothing_is_overwritten() -> Result<()> {
    let testbed = Testbed::start(&[faults::named("refused-nobody")], |_| {})?;
    let directory = tempfile::tempdir()?;
    let capture = directory.path().join("x.ngx502");
    fs::write(&capture, "evidence")?;
    let refused = |path: &Path, flags: &[&str], wanted: &str| -> Result<()> {
        let output = Command::new(program()).args(["trace", "-o"]).arg(path).args(flags).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1) && stderr.contains(wanted), "{}: {stderr}", output.status);
        ensure!(stderr.lines().count() == 1, "more than a sentence: {stderr}");
        Ok(())
    };
    refused(&capture, &[], "--force")?;
    let link = directory.path().join("link");
    symlink(&capture, &link)?;
    refused(&link, &["--force"], "not a regular file")?;
    refused(Path::new("/dev/null"), &["--force"], "not a regular file")?;
    ensure!(fs::read(&capture)? == b"evidence", "the file was touched");
    let mut tracer = Recorder::start(&testbed, directory.path(), &capture, &["--force"])?;
    let sent = testbed.fire("refused-nobody")?;
    tracer.wait_for_uri(&sent.uri)?;
    tracer.end(Signal::SIGINT)?;
    let mode = fs::metadata(&capture)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o600, "mode {mode:o}");
    let replayed = String::from_utf8(replay(&capture, &[])?.stdout)?;
    ensure!(replayed == tracer.lines()?, "not what was traced: {replayed}");
    Ok(())
}

/// A file system of a few pages, gone with this.
struct Tiny(PathBuf);

impl Tiny {
    fn mount(place: &Path) -> Result<Tiny> {
        fs::create_dir(place)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "ngx502-test"])
            .arg(place)
            .output()?;
        ensure!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr).trim());
        Ok(Tiny(place.to_owned()))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        // Lazily: a tracer that a failed check leaves for a moment may hold a file there.
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.display());
        }
    }
}

fn a_full_disk_ends_the_capture_only() -> Outcome {
    let directory = tempfile::tempdir()?;
    match Tiny::mount(&directory.path().join("tiny")) {
        Ok(tiny) => outcome_of(|| a_full_disk(directory.path(), &tiny)),
        Err(error) => skip!(format!("no tmpfs can be mounted: {error:#}")),
    }
}

fn a_full_disk(directory: &Path, tiny: &Tiny) -> Result<()> {
    let testbed = Testbed::start(&[faults::named("refused-nobody")], |_| {})?;
    // Room for the metadata and a few frames.
    fs::write(tiny.0.join("filler"), vec![0; 48 << 10])?;
    let capture = tiny.0.join("x.ngx502");
    let mut tracer = Recorder::start(&testbed, directory, &capture, &[])?;
    wait::until("the disk to be full", PATIENCE, || {
        testbed.fire("refused-nobody").ok()?;
        tracer.complaints().contains("cannot write the capture").then_some(())
    })?;
    let after = testbed.fire("refused-nobody")?;
    tracer.wait_for_uri(&after.uri)?;
    let status = tracer.end(Signal::SIGTERM)?;
    ensure!(status.success(), "the trace failed with its capture: {status}");
    let complaints = tracer.complaints();
    ensure!(complaints.lines().count() == 1, "more than a sentence: {complaints}");
    let live = tracer.lines()?;
    let replayed = replay(&capture, &[])?;
    let complaint = String::from_utf8_lossy(&replayed.stderr).into_owned();
    ensure!(complaint.lines().count() == 1 && complaint.contains("no end marker"), "torn: {complaint}");
    let found = String::from_utf8(replayed.stdout)?;
    let verdicts: String = found
        .lines()
        .filter(|line| !line.contains("\"type\":\"summary\""))
        .map(|line| format!("{line}\n"))
        .collect();
    ensure!(
        verdicts.lines().count() > 10 && live.starts_with(&verdicts),
        "not the beginning of the trace: {verdicts}"
    );
    ensure!(!verdicts.contains(&format!("\"{}\"", after.uri)), "a record after the end of the capture");
    Ok(())
}
