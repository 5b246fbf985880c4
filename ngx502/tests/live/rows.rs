//! One trial a fault: `lab::NAME` without a tracer, `verdict::NAME` with one, `crit::NAME` where nginx hides its text,
//! `level::LEVEL-NAME` for the other levels of its log.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use xtask::lab::Testbed;
use xtask::lab::faults::{self, FAULTS, Fault, Outcome};

use crate::check::{line_agrees, nginx_agrees};
use crate::tracer::Tracer;
use crate::{Outcome as TrialOutcome, outcome_of, skip};

/// Its verdict marks the moment after which a silent request's line would have come.
const SENTINEL: &str = "refused-nobody";

/// Rows whose text `error_log … crit` hides, and some whose text it does not.
const UNDER_CRIT: &[&str] = &[
    "refused-nobody",
    "unreachable-route",
    "unreachable-no-route",
    "timed-out-queue-full",
    "socket-missing",
    "socket-stale",
    "socket-backlog-full",
    "fd-worker-connections",
    "tls-to-plain",
    "tls-silent",
    "closed-after-request",
    "closed-after-request-unix",
    "reset-linger",
    "header-garbage",
    "header-too-big",
    "slow",
    "slow-unix",
    "no-live-upstreams",
    "name-nxdomain",
    "status-502-intercepted",
];

/// Levels of `error_log` between and beyond `error` and `crit`, and rows that show what each hides: `crit` is the level
/// of a connect(2) that a missing socket refuses.
const LEVELS: &[&str] = &["debug", "warn", "alert"];
const UNDER_LEVELS: &[&str] = &["refused-nobody", "socket-missing", "closed-after-request", "slow"];

pub(crate) fn trials() -> Vec<Trial> {
    let levels = LEVELS.iter().flat_map(|level| {
        UNDER_LEVELS.iter().map(move |name| {
            let fault = faults::named(name);
            Trial::test(format!("level::{level}-{name}"), move || traced(fault, level))
        })
    });
    let each = |fault: &'static Fault| {
        let name = fault.name;
        [
            Trial::test(format!("lab::{name}"), move || on_its_own(fault)),
            Trial::test(format!("verdict::{name}"), move || traced(fault, "error")),
        ]
    };
    let crit = UNDER_CRIT.iter().map(|name| {
        let fault = faults::named(name);
        Trial::test(format!("crit::{name}"), move || traced(fault, "crit"))
    });
    FAULTS.iter().flat_map(each).chain(crit).chain(levels).collect()
}

/// nginx behaves as the row says.
fn on_its_own(fault: &'static Fault) -> TrialOutcome {
    if let Some(reason) = Testbed::impossible(fault) {
        skip!(reason);
    }
    outcome_of(|| behaves_as_its_row(fault))
}

fn behaves_as_its_row(fault: &'static Fault) -> Result<()> {
    let mut testbed = Testbed::start(&[fault], |_| {})?;
    testbed.inject(fault.name)?;
    let sent = testbed.fire(fault.name)?;
    nginx_agrees(&testbed, fault, &sent).map(drop)
}

/// ngx502 says what the row says, once, and nothing else.
fn traced(fault: &'static Fault, error_level: &str) -> TrialOutcome {
    if let Some(reason) = Testbed::impossible(fault) {
        skip!(reason);
    }
    outcome_of(|| traced_here(fault, error_level))
}

fn traced_here(fault: &'static Fault, error_level: &str) -> Result<()> {
    let sentinel = faults::named(SENTINEL);
    let with_sentinel = [fault, sentinel];
    let alone = fault.name == SENTINEL;
    let faults = if alone { &with_sentinel[..1] } else { &with_sentinel[..] };
    let mut testbed = Testbed::start(faults, |config| config.error_level = error_level.to_owned())?;
    let flags: &[&str] = if fault.expect.outcome == Outcome::Passthrough { &["--passthrough"] } else { &[] };
    let mut tracer = Tracer::start(testbed.lab().master(), flags)?;
    testbed.inject(fault.name)?;
    let sent = testbed.fire(fault.name)?;
    let entry = if matches!(error_level, "debug" | "warn" | "error") {
        nginx_agrees(&testbed, fault, &sent)?
    } else {
        xtask::lab::truth::Truth::of(testbed.lab(), &sent.uri)?
    };
    let kind = match fault.expect.outcome {
        Outcome::Verdict | Outcome::Passthrough => Some("verdict"),
        Outcome::Rescued => Some("rescued"),
        Outcome::Silent => None,
    };
    if let Some(kind) = kind {
        line_agrees(&tracer.wait_for_uri(kind, &sent.uri)?, fault, &sent, &entry)?;
    } else {
        let after = testbed.fire(SENTINEL)?;
        tracer.wait_for("the sentinel's verdict", |line| line["request"]["uri"] == after.uri.as_str())?;
    }
    let said = tracer.stop()?;
    let (verdicts, rescued) = (said.verdicts_of(&sent.uri).len(), said.rescued_of(&sent.uri).len());
    let owed = match kind {
        Some("verdict") => (1, 0),
        Some(_) => (0, 1),
        None => (0, 0),
    };
    ensure!((verdicts, rescued) == owed, "{verdicts} verdicts and {rescued} rescued lines, not {owed:?}");
    let lost = &said.summary["lost_events"];
    ensure!(said.lost.is_empty() && *lost == said.skipped, "{lost} records were lost: {:?}", said.lost);
    Ok(())
}
