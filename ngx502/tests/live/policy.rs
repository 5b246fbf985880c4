//! Policies that no fault row can have, since they guard nginx itself: a BPF program of its cgroup, AppArmor.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use xtask::lab::policy::{ConnectBan, Profile};
use xtask::lab::{Lab, LabConfig};

use crate::tracer::Tracer;
use crate::{Outcome, outcome_of, skip};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![Trial::test("policy::cgroup-program", || outcome_of(cgroup_program))];
    // Where the kernel was built without AppArmor there is nothing to try, and nothing to skip.
    if Profile::kernel_knows() {
        trials.push(Trial::test("policy::apparmor-tcp", || apparmor(apparmor_tcp)));
        trials.push(Trial::test("policy::apparmor-unix", || apparmor(apparmor_unix)));
    }
    trials
}

fn apparmor(play: fn() -> Result<()>) -> Outcome {
    if let Some(reason) = Profile::impossible() {
        skip!(reason);
    }
    outcome_of(play)
}

/// nginx in front of `upstream`, under `profile` if there is one.
fn lab(upstream: &str, profile: Option<&Profile>) -> Result<Lab> {
    Lab::start(LabConfig {
        server: format!("location / {{ proxy_pass http://{upstream}; }}"),
        profile: profile.map(|profile| profile.name().to_owned()),
        ..LabConfig::default()
    })
}

/// The one verdict on a request that fails with `errno`, and agrees with nginx's log about the symptom.
fn verdict(lab: &Lab, errno: &str) -> Result<Value> {
    let mut tracer = Tracer::start(lab.master(), &[])?;
    lab.get("/denied")?;
    let (line, _) = tracer.agreed_verdict(lab, "/denied")?;
    ensure!(line["errno"] == errno, "errno {}, not {errno}: {line}", line["errno"]);
    ensure!(tracer.stop()?.verdicts.len() == 1, "exactly one verdict");
    Ok(line)
}

fn is_policy(line: &Value, named: &str) -> Result<()> {
    ensure!(line["cause"] == "security-policy", "cause {}: {line}", line["cause"]);
    ensure!(line["certainty"] == "inferred", "certainty {}: {line}", line["certainty"]);
    let summary = line["summary"].as_str().context("no summary")?;
    ensure!(summary.contains(named), "`{named}` is not in the summary: {line}");
    Ok(())
}

/// A program of the worker's cgroup answers every connect with EPERM; the listener is there and the route open.
fn cgroup_program() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let lab = lab(&listener.local_addr()?.to_string(), None)?;
    let ban = ConnectBan::create()?;
    lab.workers().into_iter().try_for_each(|worker| ban.adopt(worker))?;
    let line = verdict(&lab, "EPERM")?;
    is_policy(&line, "a BPF program of its cgroup (1 attached)")
}

/// The profile denies IPv6, which only the upstream has: socket(2) fails, nginx answers 500.
fn apparmor_tcp() -> Result<()> {
    let listener = TcpListener::bind("[::1]:0")?;
    let profile = Profile::load("deny network inet6,")?;
    let lab = lab(&listener.local_addr()?.to_string(), Some(&profile))?;
    let line = verdict(&lab, "EACCES")?;
    is_policy(&line, &format!("AppArmor with nginx's label {} (enforce)", profile.name()))
}

/// The profile comes to deny AF_UNIX once nginx runs: its master needs such sockets to start workers.
fn apparmor_unix() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("up.sock");
    let _listener = UnixListener::bind(&path)?;
    let profile = Profile::load("")?;
    let lab = lab(&format!("unix:{}:", path.display()), Some(&profile))?;
    profile.deny("deny network unix stream,")?;
    let line = verdict(&lab, "EACCES")?;
    ensure!(line["symptom"] == "socket-denied", "symptom {}: {line}", line["symptom"]);
    is_policy(&line, &format!("AppArmor with nginx's label {} (enforce)", profile.name()))
}
