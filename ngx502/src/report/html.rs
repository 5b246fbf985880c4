//! The report as one HTML page that needs nothing else: no network, no script, no font. It reads on a phone, on paper,
//! in the dark and aloud. Every text of the report is escaped where it enters the page.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use super::Report;
use super::chart::Kind;
use super::model::Case;
use super::narrate;
use super::page::{ROWS, Table, figure, latency_table, left_out};
use super::text::{latency_rows, reasons, request};
use crate::escape::html;
use crate::units::{Count, Share};

/// Upstreams with their own rows in the latency table.
const LATENCY_ROWS: usize = 10;
const STYLE: &str = include_str!("style.css");
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
    let mut page = String::with_capacity(256 * 1024);
    match body(&mut page, report) {
        Ok(()) => page,
        Err(fmt::Error) => unreachable!("writing to a string does not fail"),
    }
}

fn body(page: &mut String, report: &Report) -> fmt::Result {
    let title = match &report.window {
        Some(window) => format!("Upstream failures, {}", window.since.date()),
        None => "Upstream failures".to_owned(),
    };
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n\
         <p class=\"lead\">{}</p>\n",
        html(&report.summary).replace(" %", "\u{a0}%")
    )?;
    lost(page, report)?;
    tiles(page, report)?;
    causes(page, report)?;
    timeline(page, report)?;
    upstreams(page, report)?;
    processes(page, report)?;
    cases(page, "First failures", &report.first)?;
    cases(page, "Longest waits", &report.worst)?;
    latency(page, report)?;
    hosts(page, report)?;
    write!(
        page,
        "</main>\n<footer>Drawn up by ngx502 {}. All times are UTC.</footer>\n</body>\n</html>\n",
        html(&report.version)
    )
}

fn lost(page: &mut String, report: &Report) -> fmt::Result {
    if report.lost.is_empty() && report.damage.is_empty() {
        return Ok(());
    }
    page.write_str("<section class=\"warning\" aria-label=\"What is missing\">\n")?;
    for row in &report.lost {
        writeln!(
            page,
            "<p>{}: {} records were lost: {}</p>",
            html(&row.host),
            Count(row.events),
            html(&row.reason)
        )?;
    }
    for sentence in &report.damage {
        writeln!(page, "<p>{}</p>", html(sentence))?;
    }
    page.write_str("</section>\n")
}

fn tiles(page: &mut String, report: &Report) -> fmt::Result {
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
    page.write_str("<dl class=\"tiles\">\n")?;
    for (name, number) in tiles {
        writeln!(page, "<div><dt>{}</dt><dd>{}</dd></div>", html(&name), Count(number))?;
    }
    page.write_str("</dl>\n")
}

fn causes(page: &mut String, report: &Report) -> fmt::Result {
    if report.causes.is_empty() {
        return Ok(());
    }
    page.write_str("<section>\n<h2>Causes</h2>\n")?;
    let columns =
        [("cause", ""), ("failed", "n"), ("share", "n"), ("certainty", ""), ("from", ""), ("to", "")];
    let mut table = Table::open(page, "Why requests failed, most frequent first", &columns)?;
    for row in &report.causes {
        table.row(&[
            ("", row.cause.as_str()),
            ("n", &Count(row.count).to_string()),
            ("n", &Share(row.share).to_string()),
            ("", &narrate::certainty(row)),
            ("t", &row.since.clock()),
            ("t", &row.until.clock()),
        ])?;
    }
    table.close()?;
    page.write_str("<dl class=\"examples\" aria-label=\"An example of each cause\">\n")?;
    for row in &report.causes {
        writeln!(page, "<dt>{}</dt><dd>{}</dd>", row.cause, html(&row.example.summary))?;
    }
    page.write_str("</dl>\n<h3>What nginx saw</h3>\n")?;
    let mut table = Table::open(
        page,
        "Symptoms, most frequent first",
        &[("symptom", ""), ("failed", "n"), ("share", "n")],
    )?;
    for row in &report.symptoms {
        table.row(&[
            ("", row.symptom.as_str()),
            ("n", &Count(row.count).to_string()),
            ("n", &Share(row.share).to_string()),
        ])?;
    }
    table.close()?;
    page.write_str("</section>\n")
}

fn timeline(page: &mut String, report: &Report) -> fmt::Result {
    if report.timeline.episodes.is_empty() {
        return Ok(());
    }
    page.write_str("<section>\n<h2>Timeline</h2>\n")?;
    figure(page, report, Kind::Causes)?;
    let columns =
        [("onset", ""), ("peak", ""), ("end", ""), ("failed", "n"), ("in the peak", "n"), ("main cause", "")];
    let mut table = Table::open(page, "Periods of failures (UTC)", &columns)?;
    for episode in &report.timeline.episodes {
        table.row(&[
            ("", &format!("{} {}", episode.onset.date(), episode.onset.clock())),
            ("t", &episode.peak.clock()),
            ("t", &episode.end.clock()),
            ("n", &Count(episode.failed).to_string()),
            ("n", &format!("{} in {} s", Count(episode.peak_failed), report.timeline.bucket_seconds)),
            ("w", episode.cause.as_str()),
        ])?;
    }
    table.close()?;
    page.write_str("</section>\n")
}

fn upstreams(page: &mut String, report: &Report) -> fmt::Result {
    if report.upstreams.is_empty() {
        return Ok(());
    }
    page.write_str("<section>\n<h2>Upstreams</h2>\n")?;
    if report.totals.failed > 0 {
        figure(page, report, Kind::Upstreams)?;
    }
    let columns = [
        ("upstream", ""),
        ("failed", "n"),
        ("share", "n"),
        ("rescued", "n"),
        ("answered", "n"),
        ("causes", ""),
    ];
    let mut table = Table::open(page, "Upstreams, most failures first", &columns)?;
    for row in report.upstreams.iter().take(ROWS) {
        let address = if row.address.is_empty() { "(unknown)" } else { &row.address };
        let answered =
            row.latency.answered.total.map_or_else(|| "–".to_owned(), |total| Count(total.count).to_string());
        table.row(&[
            ("", &narrate::on_host(report, address, &row.host)),
            ("n", &Count(row.failed).to_string()),
            ("n", &Share(row.share).to_string()),
            ("n", &Count(row.rescued).to_string()),
            ("n", &answered),
            ("w", &reasons(&row.causes)),
        ])?;
    }
    table.close()?;
    let hidden: u64 = report.upstreams.iter().skip(ROWS).map(|row| row.failed).sum();
    left_out(page, report.upstreams.len(), hidden, &report.upstreams_other)?;
    page.write_str("</section>\n")
}

fn processes(page: &mut String, report: &Report) -> fmt::Result {
    if report.processes.is_empty() {
        return Ok(());
    }
    page.write_str("<section>\n<h2>Upstream processes</h2>\n")?;
    let columns = [("process", ""), ("failed", "n"), ("share", "n"), ("causes", "")];
    let mut table = Table::open(page, "Processes at which requests failed, most failures first", &columns)?;
    for row in report.processes.iter().take(ROWS) {
        table.row(&[
            ("", &narrate::on_host(report, &narrate::name(row), &row.host)),
            ("n", &Count(row.failed).to_string()),
            ("n", &Share(row.share).to_string()),
            ("w", &reasons(&row.causes)),
        ])?;
    }
    table.close()?;
    let hidden: u64 = report.processes.iter().skip(ROWS).map(|row| row.failed).sum();
    left_out(page, report.processes.len(), hidden, &report.processes_other)?;
    page.write_str("</section>\n")
}

fn cases(page: &mut String, title: &str, cases: &[Case]) -> fmt::Result {
    if cases.is_empty() {
        return Ok(());
    }
    writeln!(page, "<section>\n<h2>{}</h2>", html(title))?;
    for case in cases {
        writeln!(
            page,
            "<article>\n<h3>{} · {} → {} ({})</h3>",
            case.status, case.symptom, case.cause, case.certainty
        )?;
        writeln!(page, "<p>{}</p>", html(&case.summary))?;
        let client = case.client.as_ref().map(|client| format!(", client {client}")).unwrap_or_default();
        let told = format!("{} on {}: {}{client}", case.time, case.host, request(case));
        writeln!(page, "<p class=\"soft\">{}</p>", html(&told))?;
        if !case.evidence.is_empty() {
            page.write_str("<ol class=\"facts\" aria-label=\"Evidence in time order\">\n")?;
            for fact in &case.evidence {
                let (event, text) = (html(&fact.event), html(&fact.text));
                writeln!(
                    page,
                    "<li><time datetime=\"{}\">{}</time> <span class=\"kind\">{event}</span> {text}</li>",
                    fact.time,
                    fact.time.precise()
                )?;
            }
            page.write_str("</ol>\n")?;
        }
        if !case.fix.is_empty() {
            page.write_str("<ul class=\"fix\" aria-label=\"How to fix it\">\n")?;
            for line in &case.fix {
                writeln!(page, "<li><code>{}</code></li>", html(line))?;
            }
            page.write_str("</ul>\n")?;
        }
        page.write_str("</article>\n")?;
    }
    page.write_str("</section>\n")
}

fn latency(page: &mut String, report: &Report) -> fmt::Result {
    let all = latency_rows(&report.latency.all.answered, &report.latency.all.failed);
    let unmeasured = narrate::unmeasured(report);
    if all.is_empty() && unmeasured.is_none() {
        return Ok(());
    }
    page.write_str("<section>\n<h2>Latency</h2>\n")?;
    if !report.latency.bins.is_empty() {
        figure(page, report, Kind::Latency)?;
        figure(page, report, Kind::Percentiles)?;
    }
    latency_table(page, "All upstreams", &report.latency.all.answered, &report.latency.all.failed)?;
    if let Some(sentence) = unmeasured {
        writeln!(page, "<p class=\"soft\">{}</p>", html(&sentence))?;
    }
    if report.upstreams.len() > 1 {
        page.write_str("<h3>By upstream</h3>\n")?;
        for row in report.upstreams.iter().take(LATENCY_ROWS) {
            let caption = narrate::on_host(report, &row.address, &row.host);
            latency_table(page, &caption, &row.latency.answered, &row.latency.failed)?;
        }
    }
    page.write_str("</section>\n")
}

fn hosts(page: &mut String, report: &Report) -> fmt::Result {
    if report.hosts.is_empty() {
        return Ok(());
    }
    page.write_str("<section>\n<h2>Traced hosts</h2>\n")?;
    let columns =
        [("host", ""), ("kernel", ""), ("nginx", ""), ("ngx502", ""), ("failed", "n"), ("rescued", "n")];
    let mut table = Table::open(page, "Where the captures were made", &columns)?;
    for row in &report.hosts {
        table.row(&[
            ("", &row.host),
            ("", &row.kernel),
            ("w", &row.nginx.join(", ")),
            ("", &row.traced_by),
            ("n", &Count(row.failed).to_string()),
            ("n", &Count(row.rescued).to_string()),
        ])?;
    }
    table.close()?;
    page.write_str("</section>\n")
}
