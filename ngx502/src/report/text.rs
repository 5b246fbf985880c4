//! The report as plain text, for a terminal, a mail or a ticket. Hostile text cannot control the terminal.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::Report;
use super::model::{Case, CauseCount, Measures, Other, Quantiles};
use super::narrate;
use super::time::{count, duration, percent};
use crate::escape;

/// The paragraph is folded to this many columns.
const COLUMNS: usize = 100;
/// Rows shown of each table; JSON and HTML have more.
const ROWS: usize = 10;

/// Writes the report.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, mut out: impl Write) -> io::Result<()> {
    out.write_all(render(report).as_bytes())
}

/// The report as a string.
pub fn render(report: &Report) -> String {
    let mut page = fold(&report.summary);
    causes(&mut page, report);
    symptoms(&mut page, report);
    episodes(&mut page, report);
    upstreams(&mut page, report);
    processes(&mut page, report);
    cases(&mut page, "First failures", &report.first);
    cases(&mut page, "Longest waits", &report.worst);
    latency(&mut page, report);
    lost(&mut page, report);
    page
}

fn causes(page: &mut String, report: &Report) {
    let mut table = Table::new(["cause", "failed", "share", "certainty", "from (UTC)", "to"], 1..3);
    for row in &report.causes {
        table.row([
            row.cause.to_string(),
            count(row.count),
            percent(row.share),
            narrate::certainty(row),
            row.since.clock(),
            row.until.clock(),
        ]);
    }
    table.print(page, "Causes");
    for row in &report.causes {
        let example = fold(&format!("{}: {}", row.cause, row.example.summary));
        let _ = write!(page, "{}", indent(&example));
    }
}

fn symptoms(page: &mut String, report: &Report) {
    let mut table = Table::new(["symptom", "failed", "share"], 1..3);
    for row in &report.symptoms {
        table.row([row.symptom.to_string(), count(row.count), percent(row.share)]);
    }
    table.print(page, "Symptoms: what nginx saw");
}

fn episodes(page: &mut String, report: &Report) {
    let width = report.timeline.bucket_seconds;
    let mut table = Table::new(["onset (UTC)", "peak", "end", "failed", "in peak", "main cause"], 3..5);
    for episode in &report.timeline.episodes {
        table.row([
            format!("{} {}", episode.onset.date(), episode.onset.clock()),
            episode.peak.clock(),
            episode.end.clock(),
            count(episode.failed),
            format!("{}/{width} s", count(episode.peak_failed)),
            episode.cause.to_string(),
        ]);
    }
    table.print(page, "Timeline");
}

fn upstreams(page: &mut String, report: &Report) {
    let mut table = Table::new(["upstream", "host", "failed", "share", "rescued", "causes"], 2..5);
    for row in report.upstreams.iter().take(ROWS) {
        let address = if row.address.is_empty() { "(unknown)" } else { &row.address };
        table.row([
            address.to_owned(),
            row.host.clone(),
            count(row.failed),
            percent(row.share),
            count(row.rescued),
            reasons(&row.causes),
        ]);
    }
    table.print(page, "Upstreams");
    let hidden: u64 = report.upstreams.iter().skip(ROWS).map(|row| row.failed).sum();
    left_out(page, report.upstreams.len(), hidden, &report.upstreams_other);
}

fn processes(page: &mut String, report: &Report) {
    let mut table = Table::new(["process", "host", "failed", "share", "causes"], 2..4);
    for row in report.processes.iter().take(ROWS) {
        table.row([
            narrate::name(row),
            row.host.clone(),
            count(row.failed),
            percent(row.share),
            reasons(&row.causes),
        ]);
    }
    table.print(page, "Upstream processes");
    let hidden: u64 = report.processes.iter().skip(ROWS).map(|row| row.failed).sum();
    left_out(page, report.processes.len(), hidden, &report.processes_other);
}

fn left_out(page: &mut String, listed: usize, hidden: u64, other: &Other) {
    let rows = listed.saturating_sub(ROWS) as u64 + other.rows;
    if rows > 0 {
        let _ = writeln!(page, "  and {} more with {} failures", count(rows), count(hidden + other.failed));
    }
}

/// `oom-killed 93, exited 2`.
pub(super) fn reasons(causes: &[CauseCount]) -> String {
    let shown = causes.iter().take(3).map(|row| format!("{} {}", row.cause, count(row.count)));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if causes.len() > 3 {
        let _ = write!(text, ", {} more", causes.len() - 3);
    }
    text
}

fn cases(page: &mut String, title: &str, cases: &[Case]) {
    if cases.is_empty() {
        return;
    }
    heading(page, title);
    for case in cases {
        let head = format!(
            "{} {} {} ({} → {}, {})",
            case.time,
            case.status,
            request(case),
            case.symptom,
            case.cause,
            case.certainty
        );
        let _ = write!(page, "{}", indent(&fold(&head)));
        let _ = write!(page, "{}", indent(&indent(&fold(&case.summary))));
        for fact in &case.evidence {
            let _ = writeln!(
                page,
                "      {}  {:<11} {}",
                fact.time,
                escape::terminal(fact.event.as_bytes()),
                escape::terminal(fact.text.as_bytes())
            );
        }
        for fix in &case.fix {
            let _ = writeln!(page, "      fix: {}", escape::terminal(fix.as_bytes()));
        }
    }
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
    let _ = match case.total_us {
        Some(_) => write!(text, ", waited {}", narrate::waited(case.total_us)),
        None => write!(text, ", wait not measured"),
    };
    text
}

fn latency(page: &mut String, report: &Report) {
    let mut table = Table::new(["", "samples", "p50", "p90", "p99", "p99.9", "max"], 1..7);
    for (label, quantiles) in latency_rows(&report.latency.all.answered, &report.latency.all.failed) {
        table.row([
            label,
            count(quantiles.count),
            duration(quantiles.p50_us),
            duration(quantiles.p90_us),
            duration(quantiles.p99_us),
            duration(quantiles.p999_us),
            duration(quantiles.max_us),
        ]);
    }
    table.print(page, "Latency");
}

/// The measures there are, labelled.
pub(super) fn latency_rows(answered: &Measures, failed: &Measures) -> Vec<(String, Quantiles)> {
    let named = |who: &'static str, measures: &Measures| {
        [("connect", measures.connect), ("first byte", measures.first_byte), ("total", measures.total)]
            .into_iter()
            .filter_map(move |(what, quantiles)| Some((format!("{who}, {what}"), quantiles?)))
            .collect::<Vec<_>>()
    };
    [named("answered", answered), named("failed", failed)].concat()
}

fn lost(page: &mut String, report: &Report) {
    if report.lost.is_empty() && report.damage.is_empty() {
        return;
    }
    heading(page, "Lost");
    for row in &report.lost {
        let _ = writeln!(
            page,
            "  {}: {} records, {}",
            escape::terminal(row.host.as_bytes()),
            count(row.events),
            escape::terminal(row.reason.as_bytes())
        );
    }
    for sentence in &report.damage {
        let _ = writeln!(page, "  {}", escape::terminal(sentence.as_bytes()));
    }
}

fn heading(page: &mut String, title: &str) {
    let _ = write!(page, "\n{title}\n");
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Folds a paragraph at spaces; harmless to a terminal.
fn fold(text: &str) -> String {
    let text = escape::terminal(text.as_bytes());
    let (mut folded, mut column) = (String::new(), 0);
    for word in text.split(' ') {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > COLUMNS - 4 {
            folded.push('\n');
            column = 0;
        } else if column > 0 {
            folded.push(' ');
            column += 1;
        }
        folded.push_str(word);
        column += width;
    }
    folded.push('\n');
    folded
}

/// Columns aligned by their widest cell.
struct Table<const N: usize> {
    rows: Vec<[String; N]>,
    /// Columns aligned to the right.
    numbers: std::ops::Range<usize>,
}

impl<const N: usize> Table<N> {
    fn new(head: [&str; N], numbers: std::ops::Range<usize>) -> Self {
        Table { rows: vec![head.map(str::to_owned)], numbers }
    }

    fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| clip(&escape::terminal(cell.as_bytes()))));
    }

    /// Prints nothing when there are no rows.
    fn print(&self, page: &mut String, title: &str) {
        if self.rows.len() < 2 {
            return;
        }
        heading(page, title);
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                let _ = match self.numbers.contains(&column) {
                    true => write!(line, "  {cell:>width$}"),
                    false => write!(line, "  {cell:<width$}"),
                };
            }
            let _ = writeln!(page, "{}", line.trim_end());
        }
    }
}

/// Cells end at 60 characters.
fn clip(cell: &str) -> String {
    match cell.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &cell[..end]),
        None => cell.to_owned(),
    }
}
