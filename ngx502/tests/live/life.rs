//! The life of nginx while it is traced: upgrade, restart, a worker's crash, a late start, several at once. From `ready`
//! on nothing is missed, and nothing is attributed to another instance.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use xtask::lab::faults::{self, Fault};
use xtask::lab::nginx::binary;
use xtask::lab::{Lab, LabConfig, Testbed, wait};

use crate::outcome_of;
use crate::tracer::{Said, Tracer};

/// Requests of one phase of a trial.
const SOME: usize = 8;
const PACKAGED: &str = "/usr/sbin/nginx";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("life::upgrade", || outcome_of(upgrade)),
        Trial::test("life::upgrade-to-another-file", || outcome_of(upgrade_to_another_file)),
        Trial::test("life::restart", || outcome_of(restart)),
        Trial::test("life::started-after-the-tracer", || outcome_of(started_after_the_tracer)),
        Trial::test("life::goes-into-the-background", || outcome_of(goes_into_the_background)),
        Trial::test("life::worker-killed", || outcome_of(|| worker_crashes(Signal::SIGKILL))),
        Trial::test("life::worker-crashed", || outcome_of(|| worker_crashes(Signal::SIGSEGV))),
        Trial::test("life::two-of-one-build", || outcome_of(|| two_at_once(&binary()))),
        Trial::test("life::two-builds", || outcome_of(two_builds)),
        Trial::test("life::other-instances-are-not-selected", || outcome_of(others_are_not_selected)),
    ]
}

fn refused() -> &'static Fault {
    faults::named("refused-nobody")
}

/// A nginx of one worker whose every request is refused.
fn testbed(change: impl FnOnce(&mut LabConfig)) -> Result<Testbed> {
    Testbed::start(&[refused()], change)
}

/// Fires some requests at an nginx, each with a URI that no other instance is asked for, and notes the URIs.
fn fire(lab: &Lab, uris: &mut Vec<String>) -> Result<()> {
    for _ in 0..SOME {
        let uri = format!("/refused-nobody/{}-{}", lab.address().port(), uris.len());
        let status = lab.get(&uri)?.status;
        ensure!(status == 502, "{uri} got {status}");
        uris.push(uri);
    }
    Ok(())
}

/// Every URI has exactly one verdict, right in symptom and cause, from a worker with this executable; returns the pids
/// of those workers in the order of the URIs.
fn explained(tracer: &mut Tracer, uris: &[String]) -> Result<Vec<u64>> {
    let mut workers = Vec::new();
    for uri in uris {
        let line = tracer.wait_for_uri("verdict", uri)?;
        ensure!(line["symptom"] == "connect-refused" && line["cause"] == "not-listening", "wrong: {line}");
        workers.push(line["worker"]["pid"].as_u64().with_context(|| format!("no worker: {line}"))?);
    }
    Ok(workers)
}

/// Nothing was lost, and of each URI there is one line.
fn closed(tracer: Tracer, uris: &[String]) -> Result<Said> {
    let said = tracer.stop()?;
    ensure!(said.lost.is_empty(), "records were lost: {:?}", said.lost);
    for uri in uris {
        let found = said.verdicts_of(uri).len();
        ensure!(found == 1, "{found} verdicts of {uri}");
    }
    Ok(said)
}

/// SIGUSR2, SIGWINCH, SIGQUIT: both generations serve, then the new one alone.
fn upgrade() -> Result<()> {
    // A master ignores SIGUSR2 for as long as the process that started it lives.
    let mut testbed = testbed(|config| config.daemon = true)?;
    let mut tracer = Tracer::start(testbed.lab().master(), &[])?;
    let mut uris = Vec::new();
    fire(testbed.lab(), &mut uris)?;
    let old = testbed.lab().workers();
    testbed.lab_mut().upgrade()?;
    fire(testbed.lab(), &mut uris)?;
    testbed.lab().retire_workers()?;
    fire(testbed.lab(), &mut uris)?;
    testbed.lab_mut().finish_upgrade()?;
    fire(testbed.lab(), &mut uris)?;
    let new = testbed.lab().workers();
    let workers = explained(&mut tracer, &uris)?;
    let served_by = |pids: &[u32], worker: &u64| pids.iter().any(|pid| u64::from(*pid) == *worker);
    ensure!(workers[..SOME].iter().all(|worker| served_by(&old, worker)), "not {old:?}: {workers:?}");
    ensure!(workers[2 * SOME..].iter().all(|worker| served_by(&new, worker)), "not {new:?}: {workers:?}");
    let said = closed(tracer, &uris)?;
    ensure!(said.verdicts.len() == uris.len(), "{} verdicts of {}", said.verdicts.len(), uris.len());
    Ok(())
}

/// A package brings a new file: the old master's tree runs a deleted one meanwhile.
fn upgrade_to_another_file() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("ngx502-upgrade-").tempdir()?;
    let installed = copied(&binary(), folder.path(), "nginx")?;
    let mut testbed = testbed(|config| (config.binary, config.daemon) = (Some(installed.clone()), true))?;
    let mut tracer = Tracer::start(testbed.lab().master(), &[])?;
    let mut uris = Vec::new();
    fire(testbed.lab(), &mut uris)?;
    fs::rename(copied(&binary(), folder.path(), "nginx.new")?, &installed)?;
    fire(testbed.lab(), &mut uris)?;
    testbed.lab_mut().upgrade()?;
    testbed.lab_mut().finish_upgrade()?;
    first_verdict(&mut tracer, testbed.lab())?;
    fire(testbed.lab(), &mut uris)?;
    explained(&mut tracer, &uris)?;
    closed(tracer, &uris).map(drop)
}

/// Probes go to a file that was never seen before once its process runs, which takes a moment: asks until a verdict
/// comes. From then on none is missed.
fn first_verdict(tracer: &mut Tracer, lab: &Lab) -> Result<Value> {
    let prefix = format!("/refused-nobody/first-{}-", lab.address().port());
    let mut asked = 0;
    wait::until("the new file to be traced", std::time::Duration::from_secs(20), || {
        asked += 1;
        lab.get(&format!("{prefix}{asked}")).ok()?;
        tracer.peek_for(|line| {
            line["type"] == "verdict"
                && line["request"]["uri"].as_str().is_some_and(|uri| uri.starts_with(&prefix))
        })
    })
}

/// The new instance's first failure is explained like the last one's of the old instance.
fn restart() -> Result<()> {
    let mut testbed = testbed(|_| {})?;
    let mut tracer = Tracer::start_with(&[])?;
    let mut uris = Vec::new();
    for _ in 0..3 {
        fire(testbed.lab(), &mut uris)?;
        testbed.lab_mut().restart()?;
    }
    fire(testbed.lab(), &mut uris)?;
    let workers = explained(&mut tracer, &uris)?;
    let last = testbed.lab().workers();
    // A worker that was forked under trace is as well known as one that ran before.
    let exe = fs::canonicalize(binary())?;
    let line = tracer.wait_for_uri("verdict", &uris[3 * SOME])?;
    ensure!(line["worker"]["exe"] == exe.to_string_lossy().as_ref(), "not {exe:?}: {line}");
    ensure!(last.iter().any(|pid| u64::from(*pid) == workers[3 * SOME]), "not {last:?}: {workers:?}");
    closed(tracer, &uris).map(drop)
}

/// An nginx that is installed where packages put it has its probes before it starts; another one once it was seen.
fn started_after_the_tracer() -> Result<()> {
    let packaged = binary() == Path::new(PACKAGED);
    let seen = if packaged { None } else { Some(testbed(|_| {})?) };
    let mut tracer = Tracer::start_with(&[])?;
    let late = testbed(|_| {})?;
    let mut uris = Vec::new();
    fire(late.lab(), &mut uris)?;
    explained(&mut tracer, &uris)?;
    drop(seen);
    closed(tracer, &uris).map(drop)
}

/// The process that was started is gone before anything is asked; its child is nginx.
fn goes_into_the_background() -> Result<()> {
    let mut tracer = Tracer::start_with(&[])?;
    let late = testbed(|config| config.daemon = true)?;
    first_verdict(&mut tracer, late.lab())?;
    let mut uris = Vec::new();
    fire(late.lab(), &mut uris)?;
    let workers = explained(&mut tracer, &uris)?;
    let own = late.lab().workers();
    ensure!(own.iter().any(|pid| u64::from(*pid) == workers[0]), "not {own:?}: {workers:?}");
    closed(tracer, &uris).map(drop)
}

/// A worker dies with a request under way, which nobody gets an answer to; its successor's failures are explained.
fn worker_crashes(signal: Signal) -> Result<()> {
    let silent = faults::named("slow");
    let mut testbed = Testbed::start(&[refused(), silent], |config| {
        // Longer than the row's own, lest nginx give up before its worker is killed.
        config.server.push_str("location /held/ { proxy_pass http://up_slow; proxy_read_timeout 60s; }\n");
    })?;
    let mut tracer = Tracer::start(testbed.lab().master(), &[])?;
    let mut uris = Vec::new();
    fire(testbed.lab(), &mut uris)?;
    let mut cut = testbed.lab().client()?;
    cut.send("GET", "/held/cut", b"")?;
    testbed.peer("slow", 0).backend()?.await_connection()?;
    testbed.lab().crash_worker(signal)?;
    ensure!(cut.receive().is_ok_and(|nothing| nothing.status == 0), "an answer from a dead worker");
    fire(testbed.lab(), &mut uris)?;
    let workers = explained(&mut tracer, &uris)?;
    ensure!(workers[0] != workers[SOME], "the same worker before and after: {workers:?}");
    let said = closed(tracer, &uris)?;
    ensure!(said.verdicts_of("/held/cut").is_empty(), "a verdict for a request without an answer");
    Ok(())
}

fn two_builds() -> Result<()> {
    if binary() != Path::new(PACKAGED) && Path::new(PACKAGED).exists() {
        return two_at_once(Path::new(PACKAGED));
    }
    let folder = tempfile::Builder::new().prefix("ngx502-other-").tempdir()?;
    two_at_once(&copied(&binary(), folder.path(), "nginx")?)
}

/// Each verdict names the worker and the executable of the instance that was asked.
fn two_at_once(other: &Path) -> Result<()> {
    let first = testbed(|_| {})?;
    let second = testbed(|config| config.binary = Some(other.to_owned()))?;
    let mut tracer = Tracer::start_with(&[])?;
    let (mut of_first, mut of_second) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        fire(first.lab(), &mut of_first)?;
        fire(second.lab(), &mut of_second)?;
    }
    for (lab, uris, exe) in [(first.lab(), &of_first, binary()), (second.lab(), &of_second, other.to_owned())]
    {
        let own = lab.workers();
        for worker in explained(&mut tracer, uris)? {
            ensure!(own.iter().any(|pid| u64::from(*pid) == worker), "{worker} is none of {own:?}");
        }
        let exe = fs::canonicalize(exe)?;
        let line = tracer.wait_for_uri("verdict", &uris[0])?;
        ensure!(line["worker"]["exe"] == exe.to_string_lossy().as_ref(), "not {exe:?}: {line}");
    }
    closed(tracer, &[of_first, of_second].concat()).map(drop)
}

/// `--pid` names one instance: the other one runs the same file, probes and all, and is not told of.
fn others_are_not_selected() -> Result<()> {
    let chosen = testbed(|_| {})?;
    let mut other = testbed(|_| {})?;
    let mut tracer = Tracer::start(chosen.lab().master(), &[])?;
    let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
    fire(other.lab(), &mut unwanted)?;
    fire(chosen.lab(), &mut wanted)?;
    other.lab_mut().restart()?;
    fire(other.lab(), &mut unwanted)?;
    fire(chosen.lab(), &mut wanted)?;
    explained(&mut tracer, &wanted)?;
    let said = closed(tracer, &wanted)?;
    ensure!(said.verdicts.len() == wanted.len(), "{} verdicts of {}", said.verdicts.len(), wanted.len());
    Ok(())
}

/// A copy of an executable: another file to the kernel.
fn copied(from: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    let to = folder.join(name);
    fs::copy(from, &to).with_context(|| format!("{from:?} cannot be copied"))?;
    Ok(to)
}
