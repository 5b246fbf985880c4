//! The report as one HTML page that needs nothing else: no network, no script, no font. It reads on a phone, on paper,
//! in the dark and aloud. maud escapes every text; only the style sheet and our own charts enter the page as markup.

mod parts;

use std::io::{self, Write};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::parts::{ROWS, figure, latency_table, left_out, moment, number, table, text, words};
use super::Report;
use super::chart::Kind;
use super::model::Case;
use super::narrate;
use super::text::{latency_rows, reasons, request};
use crate::escape;
use crate::units::{Count, Share};

/// Upstreams with their own rows in the latency table.
const LATENCY_ROWS: usize = 10;
const STYLE: &str = include_str!("html/style.css");
/// No page of ours loads or runs anything; the browser shall see to it even if an escape were missed.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Writes the page.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, mut out: impl Write) -> io::Result<()> {
    out.write_all(render(report).as_bytes())
}

/// The page as a string.
pub fn render(report: &Report) -> String {
    let title = match &report.window {
        Some(window) => format!("Upstream failures, {}", window.since.date()),
        None => "Upstream failures".to_owned(),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (title) }
                    p.lead { (report.summary.replace(" %", "\u{a0}%")) }
                    (lost(report))
                    (tiles(report))
                    (causes(report))
                    (timeline(report))
                    (upstreams(report))
                    (processes(report))
                    (cases("First failures", &report.first))
                    (cases("Longest waits", &report.worst))
                    (latency(report))
                    (hosts(report))
                }
                footer { "Drawn up by ngx502 " (report.version) ". All times are UTC." }
            }
        }
    };
    visible(&page.into_string())
}

/// Shows what controls, reorders or hides text, wherever it got into the page: maud escapes markup only.
fn visible(page: &str) -> String {
    let lines: Vec<_> = page.split('\n').map(|line| escape::terminal(line.as_bytes())).collect();
    lines.join("\n") + "\n"
}

fn lost(report: &Report) -> Markup {
    html! {
        @if !report.lost.is_empty() || !report.damage.is_empty() {
            section.warning aria-label="What is missing" {
                @for row in &report.lost {
                    p { (row.host) ": " (Count(row.events)) " records were lost: " (row.reason) }
                }
                @for sentence in &report.damage {
                    p { (sentence) }
                }
            }
        }
    }
}

fn tiles(report: &Report) -> Markup {
    let totals = &report.totals;
    let mut tiles = vec![("failed".to_owned(), totals.failed)];
    if totals.by_status.len() > 1 {
        tiles.extend(totals.by_status.iter().map(|row| (narrate::with(row.status), row.count)));
    }
    tiles.push(("rescued".to_owned(), totals.rescued));
    tiles.extend(totals.answered.map(|answered| ("upstream answers".to_owned(), answered)));
    if totals.not_upstream > 0 {
        tiles.push(("without upstream".to_owned(), totals.not_upstream));
    }
    if totals.lost_events > 0 {
        tiles.push(("records lost".to_owned(), totals.lost_events));
    }
    html! {
        dl.tiles {
            @for (name, number) in tiles {
                div { dt { (name) } dd { (Count(number)) } }
            }
        }
    }
}

fn causes(report: &Report) -> Markup {
    if report.causes.is_empty() {
        return Markup::default();
    }
    let columns =
        [text("cause"), number("failed"), number("share"), text("certainty"), moment("from"), moment("to")];
    let causes = report.causes.iter().map(|row| {
        [
            row.cause.to_string(),
            Count(row.count).to_string(),
            Share(row.share).to_string(),
            narrate::certainty(row),
            row.since.clock(),
            row.until.clock(),
        ]
    });
    let symptoms = report
        .symptoms
        .iter()
        .map(|row| [row.symptom.to_string(), Count(row.count).to_string(), Share(row.share).to_string()]);
    html! {
        section {
            h2 { "Causes" }
            (table("Why requests failed, most frequent first", columns, causes))
            dl.examples aria-label="An example of each cause" {
                @for row in &report.causes {
                    dt { (row.cause) } dd { (row.example.summary) }
                }
            }
            h3 { "What nginx saw" }
            (table(
                "Symptoms, most frequent first",
                [text("symptom"), number("failed"), number("share")],
                symptoms,
            ))
        }
    }
}

fn timeline(report: &Report) -> Markup {
    if report.timeline.episodes.is_empty() {
        return Markup::default();
    }
    let columns = [
        text("onset"),
        moment("peak"),
        moment("end"),
        number("failed"),
        number("in the peak"),
        words("main cause"),
    ];
    let episodes = report.timeline.episodes.iter().map(|episode| {
        [
            format!("{} {}", episode.onset.date(), episode.onset.clock()),
            episode.peak.clock(),
            episode.end.clock(),
            Count(episode.failed).to_string(),
            format!("{} in {} s", Count(episode.peak_failed), report.timeline.bucket_seconds),
            episode.cause.to_string(),
        ]
    });
    html! {
        section {
            h2 { "Timeline" }
            (figure(report, Kind::Causes))
            (table("Periods of failures (UTC)", columns, episodes))
        }
    }
}

fn upstreams(report: &Report) -> Markup {
    if report.upstreams.is_empty() {
        return Markup::default();
    }
    let columns = [
        text("upstream"),
        number("failed"),
        number("share"),
        number("rescued"),
        number("answered"),
        words("causes"),
    ];
    let upstreams = report.upstreams.iter().take(ROWS).map(|row| {
        let address = if row.address.is_empty() { "(unknown)" } else { &row.address };
        let answered = row.latency.answered.total;
        [
            narrate::on_host(report, address, &row.host),
            Count(row.failed).to_string(),
            Share(row.share).to_string(),
            Count(row.rescued).to_string(),
            answered.map_or_else(|| "–".to_owned(), |total| Count(total.count).to_string()),
            reasons(&row.causes),
        ]
    });
    let hidden = report.upstreams.iter().skip(ROWS).map(|row| row.failed).sum();
    html! {
        section {
            h2 { "Upstreams" }
            @if report.totals.failed > 0 {
                (figure(report, Kind::Upstreams))
            }
            (table("Upstreams, most failures first", columns, upstreams))
            (left_out(report.upstreams.len(), hidden, &report.upstreams_other))
        }
    }
}

fn processes(report: &Report) -> Markup {
    if report.processes.is_empty() {
        return Markup::default();
    }
    let columns = [text("process"), number("failed"), number("share"), words("causes")];
    let processes = report.processes.iter().take(ROWS).map(|row| {
        [
            narrate::on_host(report, &narrate::name(row), &row.host),
            Count(row.failed).to_string(),
            Share(row.share).to_string(),
            reasons(&row.causes),
        ]
    });
    let hidden = report.processes.iter().skip(ROWS).map(|row| row.failed).sum();
    html! {
        section {
            h2 { "Upstream processes" }
            (table("Processes at which requests failed, most failures first", columns, processes))
            (left_out(report.processes.len(), hidden, &report.processes_other))
        }
    }
}

fn cases(title: &str, cases: &[Case]) -> Markup {
    html! {
        @if !cases.is_empty() {
            section {
                h2 { (title) }
                @for case in cases {
                    (article(case))
                }
            }
        }
    }
}

fn article(case: &Case) -> Markup {
    html! {
        article {
            h3 { (case.status) " · " (case.symptom) " → " (case.cause) " (" (case.certainty) ")" }
            p { (case.summary) }
            p.soft {
                (case.time) " on " (case.host) ": " (request(case))
                @if let Some(client) = &case.client { ", client " (client) }
            }
            @if !case.evidence.is_empty() {
                ol.facts aria-label="Evidence in time order" {
                    @for fact in &case.evidence {
                        li {
                            time datetime=(fact.time) { (fact.time.precise()) }
                            " " span.kind { (fact.event) } " " (fact.text)
                        }
                    }
                }
            }
            @if !case.fix.is_empty() {
                ul.fix aria-label="How to fix it" {
                    @for line in &case.fix {
                        li { code { (line) } }
                    }
                }
            }
        }
    }
}

fn latency(report: &Report) -> Markup {
    let all = &report.latency.all;
    let unmeasured = narrate::unmeasured(report);
    if latency_rows(&all.answered, &all.failed).is_empty() && unmeasured.is_none() {
        return Markup::default();
    }
    html! {
        section {
            h2 { "Latency" }
            @if !report.latency.bins.is_empty() {
                (figure(report, Kind::Latency))
                (figure(report, Kind::Percentiles))
            }
            (latency_table("All upstreams", &all.answered, &all.failed))
            @if let Some(sentence) = unmeasured {
                p.soft { (sentence) }
            }
            @if report.upstreams.len() > 1 {
                h3 { "By upstream" }
                @for row in report.upstreams.iter().take(LATENCY_ROWS) {
                    @let caption = narrate::on_host(report, &row.address, &row.host);
                    (latency_table(&caption, &row.latency.answered, &row.latency.failed))
                }
            }
        }
    }
}

fn hosts(report: &Report) -> Markup {
    if report.hosts.is_empty() {
        return Markup::default();
    }
    let columns =
        [text("host"), text("kernel"), words("nginx"), text("ngx502"), number("failed"), number("rescued")];
    let hosts = report.hosts.iter().map(|row| {
        [
            row.host.clone(),
            row.kernel.clone(),
            row.nginx.join(", "),
            row.traced_by.clone(),
            Count(row.failed).to_string(),
            Count(row.rescued).to_string(),
        ]
    });
    html! {
        section {
            h2 { "Traced hosts" }
            (table("Where the captures were made", columns, hosts))
        }
    }
}
