//! The report as plain text, for a terminal, a mail or a ticket. Hostile text cannot control the terminal.

mod grid;

use std::fmt::Write as _;
use std::io::{self, Write};

use self::grid::Grid;
use super::Report;
use super::model::{Case, Other};
use super::narrate;
use super::view::{latency_rows, reasons, request, upstream};
use crate::escape;
use crate::units::{Count, Micros, Share};
use crate::wrap::{columns, wrap};

/// Rows shown of each table; JSON and HTML have more.
const ROWS: usize = 10;
/// As wide as the longest kind of fact and a gap.
const KIND: usize = 12;

/// Writes the report in lines of at most `width` columns, words and addresses permitting.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, width: usize, mut out: impl Write) -> io::Result<()> {
    out.write_all(render(report, width).as_bytes())
}

/// The report as a string.
pub fn render(report: &Report, width: usize) -> String {
    let mut page = Page { text: String::new(), width: width.max(40) };
    page.fold("", "", &report.summary);
    page.causes(report);
    page.symptoms(report);
    page.episodes(report);
    page.upstreams(report);
    page.processes(report);
    page.cases(report, "First failures", &report.first);
    page.cases(report, "Longest waits", &report.worst);
    page.latency(report);
    page.lost(report);
    page.text
}

/// The text as far as it is written.
struct Page {
    text: String,
    width: usize,
}

impl Page {
    fn causes(&mut self, report: &Report) {
        if report.causes.is_empty() {
            return;
        }
        self.heading("Causes");
        let mut grid = Grid::new(["cause", "failed", "share", "certainty", "from (UTC)", "to"], 1..3, &[3]);
        for row in &report.causes {
            grid.row([
                &row.cause,
                &Count(row.count),
                &Share(row.share),
                &narrate::certainty(row),
                &row.since.clock(),
                &row.until.clock(),
            ]);
        }
        grid.print(&mut self.text, self.width);
        self.text.push('\n');
        let widest = report.causes.iter().map(|row| row.cause.as_str().len()).max().unwrap_or(0);
        for row in &report.causes {
            self.fold("  ", &format!("{:widest$}  ", row.cause.as_str()), &row.example.summary);
        }
    }

    fn symptoms(&mut self, report: &Report) {
        if report.symptoms.is_empty() {
            return;
        }
        self.heading("Symptoms: what nginx saw");
        let mut grid = Grid::new(["symptom", "failed", "share"], 1..3, &[]);
        for row in &report.symptoms {
            grid.row([&row.symptom, &Count(row.count), &Share(row.share)]);
        }
        grid.print(&mut self.text, self.width);
    }

    fn episodes(&mut self, report: &Report) {
        if report.timeline.episodes.is_empty() {
            return;
        }
        self.heading("Timeline");
        let head = ["onset (UTC)", "peak", "end", "failed", "in peak", "main cause"];
        let mut grid = Grid::new(head, 3..5, &[]);
        for episode in &report.timeline.episodes {
            grid.row([
                &format!("{} {}", episode.onset.date(), episode.onset.clock()),
                &episode.peak.clock(),
                &episode.end.clock(),
                &Count(episode.failed),
                &format!("{}/{} s", Count(episode.peak_failed), report.timeline.bucket_seconds),
                &episode.cause,
            ]);
        }
        grid.print(&mut self.text, self.width);
    }

    fn upstreams(&mut self, report: &Report) {
        if report.upstreams.is_empty() {
            return;
        }
        self.heading("Upstreams");
        let mut grid = Grid::new(["upstream", "failed", "share", "rescued", "causes"], 1..4, &[4, 0]);
        for row in report.upstreams.iter().take(ROWS) {
            grid.row([
                &upstream(report, row),
                &Count(row.failed),
                &Share(row.share),
                &Count(row.rescued),
                &reasons(&row.causes),
            ]);
        }
        grid.print(&mut self.text, self.width);
        let hidden: u64 = report.upstreams.iter().skip(ROWS).map(|row| row.failed).sum();
        self.left_out(report.upstreams.len(), hidden, &report.upstreams_other);
    }

    fn processes(&mut self, report: &Report) {
        if report.processes.is_empty() {
            return;
        }
        self.heading("Upstream processes");
        let mut grid = Grid::new(["process", "failed", "share", "causes"], 1..3, &[3, 0]);
        for row in report.processes.iter().take(ROWS) {
            grid.row([
                &narrate::on_host(report, &narrate::name(row), &row.host),
                &Count(row.failed),
                &Share(row.share),
                &reasons(&row.causes),
            ]);
        }
        grid.print(&mut self.text, self.width);
        let hidden: u64 = report.processes.iter().skip(ROWS).map(|row| row.failed).sum();
        self.left_out(report.processes.len(), hidden, &report.processes_other);
    }

    fn left_out(&mut self, listed: usize, hidden: u64, other: &Other) {
        let rows = listed.saturating_sub(ROWS) as u64 + other.rows;
        if rows > 0 {
            let failed = Count(hidden + other.failed);
            let _ = writeln!(self.text, "  and {} more with {failed} failures", Count(rows));
        }
    }

    fn cases(&mut self, report: &Report, title: &str, cases: &[Case]) {
        if cases.is_empty() {
            return;
        }
        self.heading(title);
        for (number, case) in cases.iter().enumerate() {
            if number > 0 {
                self.text.push('\n');
            }
            let (date, time) = (case.time.date(), case.time.precise());
            let told = format!(
                "{date} {time} UTC: {} to {}",
                case.status,
                narrate::on_host(report, &request(case), &case.host)
            );
            self.fold("  ", "", &told);
            self.fold("    ", "", &format!("{} → {}, {}", case.symptom, case.cause, case.certainty));
            self.fold("    ", "", &case.summary);
            for fact in &case.evidence {
                let label =
                    format!("{}  {:<KIND$}", fact.time.precise(), escape::terminal(fact.event.as_bytes()));
                self.fold("      ", &label, &fact.text);
            }
            for (number, line) in case.fix.iter().enumerate() {
                self.fold("      ", if number == 0 { "fix  " } else { "     " }, line);
            }
        }
    }

    fn latency(&mut self, report: &Report) {
        let rows = latency_rows(&report.latency.all.answered, &report.latency.all.failed);
        if !rows.is_empty() {
            self.heading("Latency");
            let mut grid = Grid::new(["", "samples", "p50", "p90", "p99", "p99.9", "max"], 1..7, &[]);
            for (label, quantiles) in rows {
                grid.row([
                    &label,
                    &Count(quantiles.count),
                    &Micros(quantiles.p50_us),
                    &Micros(quantiles.p90_us),
                    &Micros(quantiles.p99_us),
                    &Micros(quantiles.p999_us),
                    &Micros(quantiles.max_us),
                ]);
            }
            grid.print(&mut self.text, self.width);
        }
        if let Some(sentence) = narrate::unmeasured(report) {
            self.fold("  ", "", &sentence);
        }
    }

    fn lost(&mut self, report: &Report) {
        if report.lost.is_empty() && report.damage.is_empty() {
            return;
        }
        self.heading("Lost");
        for row in &report.lost {
            self.fold("  ", "", &format!("{}: {} records, {}", row.host, Count(row.events), row.reason));
        }
        for sentence in &report.damage {
            self.fold("  ", "", sentence);
        }
    }

    fn heading(&mut self, title: &str) {
        let _ = write!(self.text, "\n{title}\n");
    }

    /// A margin, a label and beside it a text on as many lines as it takes; harmless to a terminal.
    fn fold(&mut self, margin: &str, label: &str, text: &str) {
        let taken = columns(margin) + columns(label);
        let text = escape::terminal(text.as_bytes());
        for (number, row) in wrap(&text, self.width.saturating_sub(taken).max(20)).iter().enumerate() {
            let _ = match number {
                0 => writeln!(self.text, "{margin}{label}{row}"),
                _ => writeln!(self.text, "{:taken$}{row}", ""),
            };
        }
    }
}
