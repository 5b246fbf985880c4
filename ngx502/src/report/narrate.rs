//! The paragraph that says what happened, made of the report's own facts.

use super::model::{CauseRow, Episode, ProcessRow, Report};
use crate::attribute::verdict::{Cause, Certainty};
use crate::latency::took;
use crate::time::Moment;
use crate::units::{Count, Share, counted};

/// A process is named when at least this share of all requests failed at it.
const MOST: f64 = 0.5;

/// What happened, in a few sentences.
pub(super) fn paragraph(report: &Report) -> String {
    let mut sentences = Vec::new();
    if report.totals.failed == 0 {
        sentences.push(nothing_failed(report));
    } else {
        sentences.push(what(report));
        sentences.extend(report.causes.first().map(|cause| why(report, cause)));
        sentences.extend(why_else(report));
        sentences.extend(place(report));
        sentences.extend(peak(report));
    }
    sentences.extend(rescued(report));
    sentences.extend(missing(report));
    sentences.join(" ")
}

fn nothing_failed(report: &Report) -> String {
    match &report.window {
        None => "The captures hold no request and no latency: nothing was observed.".to_owned(),
        Some(window) => format!(
            "{}, nginx on {} answered no request with an upstream error.",
            capital(&between(window.since, window.until)),
            hosts(report)
        ),
    }
}

fn what(report: &Report) -> String {
    let first = report.timeline.episodes.first();
    let last = report.timeline.episodes.last();
    let (onset, end) = match (first, last) {
        (Some(first), Some(last)) => (first.onset, last.end),
        _ => (report.first[0].time, report.first[0].time),
    };
    let mut text = format!("{}, nginx on {} failed ", capital(&between(onset, end)), hosts(report));
    text += &counted(report.totals.failed, "request");
    let statuses = &report.totals.by_status;
    match statuses.as_slice() {
        [one] => text += &format!(" {}", with(one.status)),
        many => {
            let parts: Vec<_> =
                many.iter().map(|row| format!("{} {}", Count(row.count), with(row.status))).collect();
            text += &format!(": {}", list(&parts));
        }
    }
    if let Some(answered) = report.totals.answered {
        text += &format!("; {} were answered", counted(answered, "upstream request"));
    }
    text + "."
}

/// `with 502`. A request that failed after its header had gone out kept the status that it had begun with.
pub(super) fn with(status: u16) -> String {
    if status < 400 { format!("cut short after status {status}") } else { format!("with {status}") }
}

/// The main cause, in attribution's own words for one case: the report knows no more than the verdicts said.
fn why(report: &Report, row: &CauseRow) -> String {
    let of = match row.count == report.totals.failed {
        true => "The cause".to_owned(),
        false => format!("For {} of the failures the cause", Share(row.share)),
    };
    let cause = if row.cause == Cause::Unknown {
        "unknown".to_owned()
    } else {
        format!("{} ({})", row.cause, certainty(row))
    };
    let example = row.example.summary.trim_end_matches('.');
    match row.count {
        1 => format!("{of} was {cause}: {example}."),
        _ => format!("{of} was {cause}; at {} UTC: {example}.", row.example.time.clock()),
    }
}

/// The process at which most requests failed, when it is most of them.
fn place(report: &Report) -> Option<String> {
    let process = report.processes.first().filter(|process| process.share >= MOST)?;
    let all = process.failed == report.totals.failed;
    let share = if all { "All".to_owned() } else { Share(process.share).to_string() };
    (report.totals.failed > 1).then(|| format!("{share} of the failures were at {}.", name(process)))
}

fn why_else(report: &Report) -> Option<String> {
    let others: Vec<_> = report.causes.iter().skip(1).collect();
    let shown: Vec<_> =
        others.iter().take(3).map(|row| format!("{} ({})", row.cause, Share(row.share))).collect();
    match (shown.is_empty(), others.len() - shown.len()) {
        (true, _) => None,
        (false, 0) => Some(format!("Further causes: {}.", list(&shown))),
        (false, more) => Some(format!("Further causes: {} and {more} more.", shown.join(", "))),
    }
}

fn peak(report: &Report) -> Option<String> {
    let episodes = &report.timeline.episodes;
    let worst: &Episode = episodes.iter().rev().max_by_key(|episode| episode.peak_failed)?;
    if worst.failed < 2 {
        return None;
    }
    let width = report.timeline.bucket_seconds;
    let within = if width == 1 { "one second".to_owned() } else { format!("{width} s") };
    let when = if episodes.len() > 1 {
        format!("Failures came in {} episodes and", episodes.len())
    } else {
        "Failures".to_owned()
    };
    Some(format!(
        "{when} peaked at {} UTC with {} in {within}.",
        worst.peak.clock(),
        Count(worst.peak_failed)
    ))
}

fn rescued(report: &Report) -> Option<String> {
    let rescued = report.totals.rescued;
    (rescued > 0).then(|| format!("Retries or the cache rescued {}.", counted(rescued, "further request")))
}

fn missing(report: &Report) -> Option<String> {
    let mut facts = Vec::new();
    if report.totals.lost_events > 0 {
        let lost = report.totals.lost_events;
        let were = if lost == 1 { "was" } else { "were" };
        facts.push(format!("{} {were} lost while tracing", counted(lost, "record")));
    }
    if !report.damage.is_empty() {
        facts.push("parts of the captures could not be read".to_owned());
    }
    (!facts.is_empty()).then(|| format!("{}, so the counts are lower bounds.", capital(&list(&facts))))
}

/// `php-fpm[812] (php8.2-fpm.service)`, or `php-fpm (several processes, …)`.
pub(super) fn name(process: &ProcessRow) -> String {
    let comm = if process.comm.is_empty() { "a process without a name" } else { &process.comm };
    let mut text = match process.pids.as_slice() {
        [pid] => format!("{comm}[{pid}]"),
        _ => comm.to_owned(),
    };
    let number = process.pids.len();
    let several = match (number, process.more_pids) {
        (_, true) => Some(format!("more than {number} processes")),
        (0 | 1, _) => None,
        _ => Some(format!("{number} processes")),
    };
    let details: Vec<_> =
        [several, process.unit.clone(), process.container.clone()].into_iter().flatten().collect();
    if !details.is_empty() {
        text += &format!(" ({})", details.join(", "));
    }
    text
}

/// Names the host where there are several.
pub(super) fn on_host(report: &Report, what: &str, host: &str) -> String {
    if report.hosts.len() > 1 { format!("{what} on {host}") } else { what.to_owned() }
}

/// How sure a cause's failures are: `proven`, `inferred`, or a mixture.
pub(super) fn certainty(row: &CauseRow) -> String {
    let unknown = row.count - row.proven - row.inferred;
    let parts: Vec<_> =
        [(row.proven, Certainty::Proven), (row.inferred, Certainty::Inferred), (unknown, Certainty::Unknown)]
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .collect();
    match parts.as_slice() {
        [(_, certainty)] => certainty.to_string(),
        many => many
            .iter()
            .map(|(n, certainty)| format!("{} {certainty}", Count(*n)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// What kept the client waiting, or that it is not known.
pub(super) fn waited(total_us: Option<u64>) -> String {
    total_us.map_or_else(|| "wait not measured".to_owned(), |total| format!("waited {}", took(total)))
}

/// What the figures of latency leave out.
pub(super) fn unmeasured(report: &Report) -> Option<String> {
    let number = report.latency.unmeasured;
    (number > 0).then(|| {
        let what = counted(number, "failed attempt");
        format!("Not in these figures: {what}, which nginx's clock found shorter than its millisecond.")
    })
}

fn hosts(report: &Report) -> String {
    match report.hosts.as_slice() {
        [] => "this host".to_owned(),
        [one] => if one.host.is_empty() { "an unnamed host" } else { &one.host }.to_owned(),
        many if many.len() <= 3 => list(&many.iter().map(|row| row.host.clone()).collect::<Vec<_>>()),
        many => format!("{} hosts", many.len()),
    }
}

fn between(since: Moment, until: Moment) -> String {
    let (from, to) = (since.clock(), until.clock());
    match since.date() == until.date() {
        true if from == to => format!("at {from} UTC on {}", since.date()),
        true => format!("between {from} and {to} UTC on {}", since.date()),
        false => format!("between {} {from} and {} {to} UTC", since.date(), until.date()),
    }
}

fn list(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
