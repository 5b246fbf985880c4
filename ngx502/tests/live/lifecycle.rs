//! Workers come and go while the tracer watches; filters and privacy of the output.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use xtask::lab::Testbed;
use xtask::lab::faults::{self, Fault};

use crate::outcome_of;
use crate::tracer::Tracer;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("lifecycle::two-workers-and-a-reload", || outcome_of(two_workers_and_a_reload)),
        Trial::test("lifecycle::query-is-hidden", || outcome_of(query_is_hidden)),
        Trial::test("lifecycle::passthrough-is-opt-in", || outcome_of(passthrough_is_opt_in)),
        Trial::test("lifecycle::status-filter", || outcome_of(status_filter)),
        Trial::test("lifecycle::the-place-of-a-crash", || outcome_of(the_place_of_a_crash)),
    ]
}

/// How often a crash is made until the kernel logs one: it leaves out lines where many come in a few seconds, as other
/// trials' do.
const CRASHES: usize = 12;

/// A crash is told with the file that holds the instruction: the upstreams are this program.
fn the_place_of_a_crash() -> Result<()> {
    let program = std::env::current_exe()?;
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut last = String::new();
    for _ in 0..CRASHES {
        let testbed = Testbed::start(&[faults::named("closed-by-crash")], |_| {})?;
        let mut tracer = Tracer::start(testbed.lab().master(), &[])?;
        let uri = testbed.fire("closed-by-crash")?.uri;
        let line = tracer.wait_for_uri("verdict", &uri)?;
        ensure!(line["cause"] == "crashed", "{line}");
        let module = &line["details"]["module"];
        if !module.is_null() {
            ensure!(*module == name.as_str(), "in {module}, not in {name}: {line}");
            let told = format!(" in {name}");
            ensure!(line["summary"].as_str().is_some_and(|text| text.contains(&told)), "not told: {line}");
            return tracer.stop().map(drop);
        }
        last = line.to_string();
        tracer.stop()?;
    }
    anyhow::bail!("none of {CRASHES} crashes has a place, the last one: {last}")
}

fn refused() -> &'static Fault {
    faults::named("refused-nobody")
}

/// Every request is explained whichever worker served it, those of a new generation included.
fn two_workers_and_a_reload() -> Result<()> {
    const EACH: usize = 20;
    let mut testbed = Testbed::start(&[refused()], |config| config.workers = 2)?;
    let mut tracer = Tracer::start(testbed.lab().master(), &[])?;
    let mut uris = Vec::new();
    for round in 0..2 {
        if round == 1 {
            testbed.lab_mut().reload(|_| {})?;
        }
        for _ in 0..EACH {
            uris.push(testbed.fire("refused-nobody")?.uri);
        }
    }
    for uri in &uris {
        tracer.wait_for_uri("verdict", uri)?;
    }
    let said = tracer.stop()?;
    ensure!(said.verdicts.len() == 2 * EACH, "{} verdicts of {}", said.verdicts.len(), 2 * EACH);
    ensure!(said.summary["verdicts"] == 2 * EACH, "the summary counts otherwise: {}", said.summary);
    ensure!(said.summary["by_symptom"]["connect-refused"] == 2 * EACH, "by_symptom: {}", said.summary);
    Ok(())
}

/// A query string may hold secrets; it takes a flag to show it.
fn query_is_hidden() -> Result<()> {
    let testbed = Testbed::start(&[refused()], |_| {})?;
    let mut tracer = Tracer::start(testbed.lab().master(), &[])?;
    testbed.lab().request("POST", "/refused-nobody/q?token=hunter2", b"body")?;
    let line = tracer.wait_for_uri("verdict", "/refused-nobody/q")?;
    ensure!(line["request"]["method"] == "POST", "method: {line}");
    ensure!(!line.to_string().contains("hunter2"), "the query leaks: {line}");
    tracer.stop()?;
    Ok(())
}

/// A 502 of the upstream's own is none of nginx's failures.
fn passthrough_is_opt_in() -> Result<()> {
    let testbed = Testbed::start(&[faults::named("status-502"), refused()], |_| {})?;
    let mut tracer = Tracer::start(testbed.lab().master(), &[])?;
    let passed = testbed.fire("status-502")?;
    let sentinel = testbed.fire("refused-nobody")?;
    tracer.wait_for_uri("verdict", &sentinel.uri)?;
    let said = tracer.stop()?;
    ensure!(said.verdicts_of(&passed.uri).is_empty(), "a verdict without --passthrough");
    ensure!(said.verdicts.len() == 1, "one verdict: {:?}", said.verdicts);
    Ok(())
}

/// `--status 504` leaves 502s out.
fn status_filter() -> Result<()> {
    let testbed = Testbed::start(&[faults::named("slow"), refused()], |_| {})?;
    let mut tracer = Tracer::start(testbed.lab().master(), &["--status", "504"])?;
    testbed.fire("refused-nobody")?;
    let slow = testbed.fire("slow")?;
    tracer.wait_for_uri("verdict", &slow.uri)?;
    let said = tracer.stop()?;
    ensure!(said.verdicts.iter().all(|line| line["status"] == 504), "a 502 in spite of --status 504");
    Ok(())
}
