//! The mixed run: random faults, eight clients, two workers, a thousand requests, every verdict against nginx's logs.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use xtask::lab::Testbed;
use xtask::lab::faults::{self, FAULTS, Fault, Outcome};
use xtask::lab::truth::{Entry, Owed, Truth};

use crate::outcome_of;
use crate::tracer::{Said, Tracer};

const REQUESTS: usize = 1_000;
const CLIENTS: usize = 8;
/// Complaints that a failed run lists.
const LISTED: usize = 20;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("lab::the-comparison-is-strict", || outcome_of(the_comparison_is_strict)),
        Trial::test("lab::mixed-run", || outcome_of(logs_agree_with_the_rows)),
        Trial::test("mixed::every-verdict-agrees-with-the-log", || {
            outcome_of(every_verdict_agrees_with_the_log)
        }),
    ]
}

/// The seed: `NGX502_SEED`, or always the same.
pub(crate) fn seed() -> u64 {
    std::env::var("NGX502_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(502)
}

/// SplitMix64: enough to choose rows.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number from 0 up to, not including, `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).expect("the remainder is below a usize")
    }
}

fn testbed() -> Result<(Vec<&'static Fault>, Testbed)> {
    let rows: Vec<_> = FAULTS.iter().filter(|fault| fault.repeatable).collect();
    let mut testbed = Testbed::start(&rows, |config| {
        config.workers = 2;
        config.connections = 2048;
    })?;
    for row in &rows {
        testbed.inject(row.name)?;
    }
    Ok((rows, testbed))
}

/// Sends the thousand requests and waits for their log entries.
fn run(rows: &[&Fault], testbed: &Testbed) -> Result<Truth> {
    std::thread::scope(|scope| {
        let client = |number: usize| {
            let mut random = Random(seed().wrapping_add(number as u64));
            (0..REQUESTS / CLIENTS)
                .try_for_each(|_| testbed.fire(rows[random.below(rows.len())].name).map(drop))
        };
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        clients.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))
    })?;
    Truth::wait_for(testbed.lab(), REQUESTS)
}

/// The row that a URI belongs to.
pub(crate) fn row_of(uri: &str) -> &'static Fault {
    faults::named(uri.split('/').nth(1).unwrap_or_default())
}

/// What is owed to a request; where the logs do not tell, the row does.
pub(crate) fn owed(uri: &str, entry: &Entry) -> Owed {
    let expect = &row_of(uri).expect;
    match (entry.owed(), expect.outcome) {
        (Owed::Unreported, Outcome::Silent) => Owed::Nothing,
        (Owed::Unreported, _) => Owed::Verdict(expect.symptom),
        (told, _) => told,
    }
}

fn logs_agree_with_the_rows() -> Result<()> {
    let (rows, testbed) = testbed()?;
    let truth = run(&rows, &testbed)?;
    let mut complaints = Vec::new();
    for (uri, entry) in truth.entries() {
        let expect = &row_of(uri).expect;
        let wanted = match expect.outcome {
            Outcome::Verdict | Outcome::Passthrough => Owed::Verdict(expect.symptom),
            Outcome::Rescued => Owed::Rescued(expect.symptom),
            Outcome::Silent => Owed::Nothing,
        };
        if owed(uri, entry) != wanted || entry.status != expect.status {
            complaints.push(format!("{uri}: {entry:?}, not {wanted:?} with {}", expect.status));
        }
    }
    report(&complaints, truth.entries().count())
}

fn every_verdict_agrees_with_the_log() -> Result<()> {
    let (rows, testbed) = testbed()?;
    let directory = tempfile::tempdir()?;
    let capture = directory.path().join("mixed.ngx502");
    let path = capture.to_str().context("the temporary directory has an odd name")?;
    let mut tracer = Tracer::start(testbed.lab().master(), &["--passthrough", "-o", path])?;
    let truth = run(&rows, &testbed)?;
    // What comes last in the logs is not last in the stream: wait for a request of our own after all others.
    let last = testbed.fire("refused-nobody")?;
    tracer.wait_for_uri("verdict", &last.uri)?;
    let said = tracer.stop()?;
    ensure!(said.lost.is_empty(), "records were lost: {:?}", said.lost);
    let complaints = compare(&truth, &said, &last.uri);
    report(&complaints, truth.entries().count())?;
    // A figure for docs/performance.md; where the machine is slow, frames are smaller and it is larger.
    let size = std::fs::metadata(&capture)?.len();
    println!("the capture has {size} bytes for {} verdicts", said.verdicts.len());
    Ok(())
}

fn compare(truth: &Truth, said: &Said, ignored: &str) -> Vec<String> {
    let mut lines: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    let mut complaints = Vec::new();
    for line in said.verdicts.iter().chain(&said.rescued) {
        match line["request"]["uri"].as_str() {
            Some(uri) if uri == ignored => {}
            Some(uri) => lines.entry(uri).or_default().push(line),
            None => complaints.push(format!("a line without a request: {line}")),
        }
    }
    for (uri, entry) in truth.entries().filter(|(uri, _)| *uri != ignored) {
        let found = lines.remove(uri).unwrap_or_default();
        complaints.extend(disagreement(uri, entry, &found));
    }
    complaints.extend(lines.into_iter().map(|(uri, found)| format!("invented: {uri}: {found:?}")));
    complaints
}

/// What is wrong with the lines of one request.
fn disagreement(uri: &str, entry: &Entry, found: &[&Value]) -> Option<String> {
    let owed = owed(uri, entry);
    let (kind, symptom) = match owed {
        Owed::Nothing | Owed::Unreported => {
            return found.first().map(|line| format!("invented for {entry:?}: {line}"));
        }
        Owed::Verdict(symptom) => ("verdict", symptom),
        Owed::Rescued(symptom) => ("rescued", symptom),
    };
    let [line] = found else { return Some(format!("{} lines, not one, for {uri} {entry:?}", found.len())) };
    let right = line["type"] == kind && line["symptom"] == symptom && line["status"] == entry.status;
    if !right {
        return Some(format!("not {owed:?} with {}: {line}", entry.status));
    }
    let causes = row_of(uri).expect.causes;
    let cause = line["cause"].as_str().unwrap_or_default();
    // `unknown` is honest; another cause would be wrong.
    (cause != "unknown" && !causes.contains(&cause)).then(|| format!("cause {cause}, not {causes:?}: {line}"))
}

fn report(complaints: &[String], requests: usize) -> Result<()> {
    let listed: String = complaints.iter().take(LISTED).map(|line| format!("\n  {line}")).collect();
    ensure!(
        complaints.is_empty(),
        "{} of {requests} requests disagree (seed {}):{listed}",
        complaints.len(),
        seed()
    );
    Ok(())
}

/// A comparison that cannot fail proves nothing: missing, doubled, invented and wrong lines are each noticed.
fn the_comparison_is_strict() -> Result<()> {
    const URI: &str = "/refused-nobody/1";
    let access = format!("{{\"uri\":\"{URI}\",\"method\":\"GET\",\"status\":\"502\"}}\n");
    let error =
        format!("connect() failed (111: x) while connecting to upstream, request: \"GET {URI} HTTP/1.1\"\n");
    let truth = Truth::parse(&access, &error)?;
    let line = |uri: &str, symptom: &str, cause: &str| json!({ "type": "verdict", "status": 502, "symptom": symptom, "cause": cause, "request": { "uri": uri } });
    let right = line(URI, "connect-refused", "not-listening");
    let complaints = |verdicts: Vec<Value>| compare(&truth, &Said { verdicts, ..Said::default() }, "").len();
    ensure!(complaints(vec![right.clone()]) == 0, "the right line is refused");
    ensure!(complaints(vec![]) == 1, "a missing line passes");
    ensure!(complaints(vec![right.clone(), right.clone()]) == 1, "a doubled line passes");
    ensure!(
        complaints(vec![right, line("/slow/1", "read-timed-out", "unknown")]) == 1,
        "an invented line passes"
    );
    ensure!(complaints(vec![line(URI, "reset", "not-listening")]) == 1, "a wrong symptom passes");
    ensure!(complaints(vec![line(URI, "connect-refused", "firewall")]) == 1, "a wrong cause passes");
    Ok(())
}
