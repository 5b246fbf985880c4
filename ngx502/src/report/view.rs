//! Parts of sentences and the rows of tables that the text, the page and the charts show alike.
//!
//! Not here: how they look (`text`, `html`, `chart`), and the paragraph that says what happened (`narrate`).

use std::fmt::Write as _;

use super::Report;
use super::model::{Case, CauseCount, Episode, Latency, Other, UpstreamRow};
use super::narrate;
use crate::units::{Count, Micros, Share};

/// Cause, failed requests, share, certainty, first and last.
pub(super) fn causes(report: &Report) -> impl Iterator<Item = [String; 6]> {
    report.causes.iter().map(|row| {
        let [count, share] = part(row.count, row.share);
        [row.cause.to_string(), count, share, narrate::certainty(row), row.since.clock(), row.until.clock()]
    })
}

/// Symptom, failed requests and share.
pub(super) fn symptoms(report: &Report) -> impl Iterator<Item = [String; 3]> {
    report.symptoms.iter().map(|row| {
        let [count, share] = part(row.count, row.share);
        [row.symptom.to_string(), count, share]
    })
}

/// Onset, peak, end, failed requests, those in the peak as `peak` words them, and main cause.
pub(super) fn episodes(
    report: &Report,
    peak: impl Fn(&Episode, u64) -> String,
) -> impl Iterator<Item = [String; 6]> {
    let seconds = report.timeline.bucket_seconds;
    report.timeline.episodes.iter().map(move |episode| {
        [
            format!("{} {}", episode.onset.date(), episode.onset.clock()),
            episode.peak.clock(),
            episode.end.clock(),
            Count(episode.failed).to_string(),
            peak(episode, seconds),
            episode.cause.to_string(),
        ]
    })
}

/// Address, failed requests, share, rescued requests and causes.
pub(super) fn upstreams(report: &Report) -> impl Iterator<Item = [String; 5]> {
    report.upstreams.iter().map(|row| {
        let [count, share] = part(row.failed, row.share);
        [upstream(report, row), count, share, Count(row.rescued).to_string(), reasons(&row.causes)]
    })
}

/// Name, failed requests, share and causes.
pub(super) fn processes(report: &Report) -> impl Iterator<Item = [String; 4]> {
    report.processes.iter().map(|row| {
        let [count, share] = part(row.failed, row.share);
        let name = narrate::on_host(report, &narrate::name(row), &row.host);
        [name, count, share, reasons(&row.causes)]
    })
}

/// For each phase that was measured: a label, how many, and percentiles up to the longest.
pub(super) fn latency(of: &Latency) -> Vec<[String; 7]> {
    let labelled = [("answered", of.answered), ("failed", of.failed)];
    let measured = labelled.into_iter().flat_map(|(who, figures)| {
        figures.measured().map(move |(what, of)| {
            let [p50, p90, p99, p999, max] = [of.p50_us, of.p90_us, of.p99_us, of.p999_us, of.max_us]
                .map(|micros| Micros(micros).to_string());
            [format!("{who}, {what}"), Count(of.count).to_string(), p50, p90, p99, p999, max]
        })
    });
    measured.collect()
}

/// What a table that lists only the first of its rows leaves out, if anything; `failed` is of every row.
pub(super) fn left_out(shown: usize, failed: impl Iterator<Item = u64>, other: &Other) -> Option<String> {
    let hidden: Vec<_> = failed.skip(shown).collect();
    let rows = hidden.len() as u64 + other.rows;
    let failed = Count(hidden.iter().sum::<u64>() + other.failed);
    (rows > 0).then(|| format!("{} more with {failed} failures", Count(rows)))
}

fn part(count: u64, share: f64) -> [String; 2] {
    [Count(count).to_string(), Share(share).to_string()]
}

/// The address of an upstream, with its host where there are several.
pub(super) fn upstream(report: &Report, row: &UpstreamRow) -> String {
    let address = if row.address.is_empty() { "(unknown)" } else { &row.address };
    narrate::on_host(report, address, &row.host)
}

/// `oom-killed 93, exited 2`.
fn reasons(causes: &[CauseCount]) -> String {
    let shown = causes.iter().take(3).map(|row| format!("{} {}", row.cause, Count(row.count)));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if causes.len() > 3 {
        let _ = write!(text, ", {} more", causes.len() - 3);
    }
    text
}

/// `GET shop.example/cart → 127.0.0.1:9000, waited 60 s`.
pub(super) fn request(case: &Case) -> String {
    let mut text = match (&case.method, &case.uri) {
        (None, None) => "a request that could not be read".to_owned(),
        (method, uri) => format!(
            "{} {}{}",
            method.as_deref().unwrap_or("?"),
            case.request_host.as_deref().unwrap_or_default(),
            uri.as_deref().unwrap_or_default()
        ),
    };
    if let Some(upstream) = &case.upstream {
        let _ = write!(text, " → {upstream}");
    }
    text + ", " + &narrate::waited(case.total_us)
}
