//! The chaos run: every fault that can share one nginx at once, sixteen clients, two workers, two thousand requests.
//!
//! Symptoms are compared with nginx's log, causes with what the fault is by construction. Upstreams crash, run out of
//! memory and are killed by their masters during the run: all requests to such a row fail by the same cause, so that
//! each request's truth is known whichever worker served it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use xtask::lab::Testbed;
use xtask::lab::faults::{self, FAULTS, Fault};
use xtask::lab::truth::{Entry, Owed, Truth};

use crate::mixed::{Random, owed, row_of, seed};
use crate::outcome_of;
use crate::tracer::{Said, Tracer};

const CLIENTS: usize = 16;
/// Causes that have to be right, in percent, on a kernel without kprobes.
const CAUSES_RIGHT: u32 = 97;
/// Lines that a failed run lists.
const LISTED: usize = 20;

/// Rows beside the repeatable ones: what broke their upstreams at the start lasts, or every request breaks them anew.
const ALSO: &[&str] = &[
    "refused-killed",
    "refused-terminated",
    "refused-oom",
    "refused-crashed",
    "refused-exited",
    "refused-stopped-listening",
    "socket-killed",
    "socket-stopped-listening",
    "closed-by-worker-crash",
    "closed-by-worker-crash-unix",
    "closed-by-worker-exit-unix",
    "closed-by-worker-oom",
    "closed-by-worker-oom-unix",
    "closed-by-worker-overrun",
    "closed-by-worker-overrun-unix",
    "never-accepted",
    "no-live-upstreams",
];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("lab::the-tally-is-strict", || outcome_of(the_tally_is_strict)),
        Trial::test("chaos::every-fault-at-once", || outcome_of(every_fault_at_once)),
    ]
}

fn every_fault_at_once() -> Result<()> {
    let rows: Vec<_> = FAULTS
        .iter()
        .filter(|fault| fault.repeatable || ALSO.contains(&fault.name))
        .filter(|fault| Testbed::impossible(fault).is_none())
        .collect();
    let mut testbed = Testbed::start(&rows, |config| {
        config.workers = 2;
        config.connections = 2048;
    })?;
    let mut tracer = Tracer::start(testbed.lab().master(), &["--passthrough"])?;
    for row in &rows {
        testbed.inject(row.name)?;
    }
    let truth = run(&rows, &testbed)?;
    let last = testbed.fire("refused-nobody")?;
    tracer.wait_for_uri("verdict", &last.uri)?;
    let said = tracer.stop()?;
    ensure!(said.lost.is_empty(), "records were lost: {:?}", said.lost);
    let table = Table::of(&truth, &said, &last.uri);
    println!("{}", table.markdown());
    for complaint in &table.complaints {
        eprintln!("{complaint}");
    }
    if let Some(path) = std::env::var_os("NGX502_CHAOS_TABLE").map(PathBuf::from) {
        std::fs::write(&path, table.markdown()).with_context(|| format!("{path:?} cannot be written"))?;
    }
    table.judge()
}

/// Sends the requests and waits for their log entries.
fn run(rows: &[&Fault], testbed: &Testbed) -> Result<Truth> {
    let requests: usize =
        std::env::var("NGX502_CHAOS_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let warm: u32 = rows.iter().map(|row| row.warm).sum();
    std::thread::scope(|scope| {
        let client = |number: usize| {
            let mut random = Random(seed().wrapping_add(number as u64));
            (0..requests.div_ceil(CLIENTS))
                .try_for_each(|_| testbed.fire(rows[random.below(rows.len())].name).map(drop))
        };
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        clients.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))
    })?;
    Truth::wait_for(testbed.lab(), requests.div_ceil(CLIENTS) * CLIENTS + warm as usize)
}

/// What became of the requests of one fault.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    requests: u32,
    /// One line with the log's symptom and status, or none where none is owed.
    symptom: u32,
    /// Requests that a cause is owed to.
    owed: u32,
    proven: u32,
    inferred: u32,
    unknown: u32,
    wrong_inferred: u32,
    wrong_proven: u32,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.requests += other.requests;
        self.symptom += other.symptom;
        self.owed += other.owed;
        self.proven += other.proven;
        self.inferred += other.inferred;
        self.unknown += other.unknown;
        self.wrong_inferred += other.wrong_inferred;
        self.wrong_proven += other.wrong_proven;
    }

    fn cells(&self) -> String {
        let Tally { requests, symptom, owed, proven, inferred, unknown, wrong_inferred, wrong_proven } = self;
        let cause = proven + inferred;
        let cause = if *owed == 0 { "–".to_owned() } else { format!("{cause} of {owed}") };
        format!(
            "{requests} | {symptom} | {cause} | {proven} | {inferred} | {unknown} | {wrong_inferred} | {wrong_proven}"
        )
    }
}

/// The whole run.
#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<&'static str, Tally>,
    complaints: Vec<String>,
}

impl Table {
    /// Compares what was said with what is known of every request; those of preparation and `ignored` do not count.
    fn of(truth: &Truth, said: &Said, ignored: &str) -> Table {
        let counts = |uri: &str| uri != ignored && !uri.contains("/warm/");
        let mut lines: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        let mut table = Table::default();
        for line in said.verdicts.iter().chain(&said.rescued) {
            match line["request"]["uri"].as_str() {
                Some(uri) if counts(uri) => lines.entry(uri).or_default().push(line),
                Some(_) => {}
                None => table.complaints.push(format!("a line without a request: {line}")),
            }
        }
        for (uri, entry) in truth.entries().filter(|(uri, _)| counts(uri)) {
            table.count(uri, entry, &lines.remove(uri).unwrap_or_default());
        }
        table.complaints.extend(lines.into_iter().map(|(uri, found)| format!("invented: {uri}: {found:?}")));
        table
    }

    fn count(&mut self, uri: &str, entry: &Entry, found: &[&Value]) {
        let fault = row_of(uri);
        let tally = self.rows.entry(fault.name).or_default();
        tally.requests += 1;
        let owed = owed(uri, entry);
        let (kind, symptom) = match owed {
            Owed::Verdict(symptom) => ("verdict", symptom),
            Owed::Rescued(symptom) => ("rescued", symptom),
            Owed::Nothing | Owed::Unreported => {
                tally.symptom += u32::from(found.is_empty());
                self.complaints.extend(found.iter().map(|line| format!("invented for {entry:?}: {line}")));
                return;
            }
        };
        tally.owed += 1;
        let [line] = found else {
            self.complaints.push(format!("{} lines, not one, for {uri} {entry:?}", found.len()));
            return;
        };
        if line["type"] == kind && line["symptom"] == symptom && line["status"] == entry.status {
            tally.symptom += 1;
        } else {
            self.complaints.push(format!("not {owed:?} with {}: {line}", entry.status));
        }
        let right = fault.expect.causes.contains(&line["cause"].as_str().unwrap_or_default());
        match (line["certainty"].as_str(), right) {
            (Some("proven"), true) => tally.proven += 1,
            (Some("inferred"), true) => tally.inferred += 1,
            (Some("inferred"), false) => tally.wrong_inferred += 1,
            (Some("unknown"), _) => tally.unknown += 1,
            _ => tally.wrong_proven += 1,
        }
        if !right {
            // One example of a kind is enough to start from.
            let kind = format!("{} cause {} of {}", line["certainty"], line["cause"], fault.name);
            if !self.complaints.iter().any(|text| text.starts_with(&kind)) {
                self.complaints.push(format!("{kind}, not {:?}: {line}", fault.expect.causes));
            }
        }
    }

    fn total(&self) -> Tally {
        self.rows.values().fold(Tally::default(), |mut sum, tally| {
            sum.add(tally);
            sum
        })
    }

    fn markdown(&self) -> String {
        let rows: String =
            self.rows.iter().map(|(name, tally)| format!("| `{name}` | {} |\n", tally.cells())).collect();
        format!(
            "| fault | requests | symptom right | cause right | proven | inferred | unknown | wrong, inferred | wrong, proven |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|\n{rows}| all (seed {}) | {} |\n",
            seed(),
            self.total().cells()
        )
    }

    /// One line each, every symptom right, enough causes right, none wrong and yet proven.
    fn judge(&self) -> Result<()> {
        let all = self.total();
        let right = all.proven + all.inferred;
        let listed: String = self.complaints.iter().take(LISTED).map(|line| format!("\n  {line}")).collect();
        let enough = right * 100 >= all.owed * CAUSES_RIGHT;
        ensure!(
            all.symptom == all.requests && all.wrong_proven == 0 && enough,
            "{all:?}; {} complaints (seed {}):{listed}",
            self.complaints.len(),
            seed()
        );
        let invented =
            self.complaints.iter().find(|text| text.starts_with("invented") || text.starts_with("a line"));
        ensure!(invented.is_none(), "{invented:?}");
        Ok(())
    }
}

/// A tally that cannot fail proves nothing.
fn the_tally_is_strict() -> Result<()> {
    const URI: &str = "/refused-nobody/1";
    let access = format!("{{\"uri\":\"{URI}\",\"method\":\"GET\",\"status\":\"502\"}}\n");
    let error =
        format!("connect() failed (111: x) while connecting to upstream, request: \"GET {URI} HTTP/1.1\"\n");
    let truth = Truth::parse(&access, &error)?;
    let line = |uri: &str, symptom: &str, cause: &str, certainty: &str| {
        serde_json::json!({ "type": "verdict", "status": 502, "symptom": symptom, "cause": cause, "certainty": certainty,
            "request": { "uri": uri } })
    };
    let right = line(URI, "connect-refused", "not-listening", "proven");
    let judge =
        |verdicts: Vec<Value>| Table::of(&truth, &Said { verdicts, ..Said::default() }, "").judge().is_ok();
    ensure!(judge(vec![right.clone()]), "the right line is refused");
    ensure!(!judge(vec![]), "a missing line passes");
    ensure!(!judge(vec![right.clone(), right.clone()]), "a doubled line passes");
    let other = line("/slow/1", "read-timed-out", "upstream-slow", "proven");
    ensure!(!judge(vec![right, other]), "an invented line passes");
    ensure!(!judge(vec![line(URI, "reset", "not-listening", "proven")]), "a wrong symptom passes");
    ensure!(!judge(vec![line(URI, "connect-refused", "firewall", "proven")]), "a wrong cause passes");
    ensure!(!judge(vec![line(URI, "connect-refused", "unknown", "unknown")]), "no right cause at all passes");
    ensure!(faults::named("refused-nobody").repeatable, "the row is not in the run");
    Ok(())
}
