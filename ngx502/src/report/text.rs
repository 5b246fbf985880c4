//! The report as plain text, for a terminal, a mail or a ticket. Hostile text cannot control the terminal.

mod grid;

use std::fmt::Write as _;
use std::ops::Range;

use super::Report;
use super::model::Case;
use super::narrate;
use super::view;
use crate::escape;
use crate::units::Count;
use crate::wrap::{columns, wrap};

/// Rows shown of each table; JSON and HTML have more.
const ROWS: usize = 10;
/// As wide as the longest kind of fact and a gap.
const KIND: usize = 12;

/// The report in lines of at most `width` columns, words and addresses permitting.
pub fn render(report: &Report, width: usize) -> String {
    let mut page = Page { text: String::new(), width: width.max(40) };
    page.fold("", "", &report.summary);
    let head = ["cause", "failed", "share", "certainty", "from (UTC)", "to"];
    page.table("Causes", head, 1..3, &[3], view::causes(report));
    page.examples(report);
    let head = ["symptom", "failed", "share"];
    page.table("Symptoms: what nginx saw", head, 1..3, &[], view::symptoms(report));
    let head = ["onset (UTC)", "peak", "end", "failed", "in peak", "main cause"];
    let episodes = view::episodes(report, |of, seconds| format!("{}/{seconds} s", Count(of.peak_failed)));
    page.table("Timeline", head, 3..5, &[], episodes);
    let head = ["upstream", "failed", "share", "rescued", "causes"];
    page.table("Upstreams", head, 1..4, &[4, 0], view::upstreams(report).take(ROWS));
    let failed = report.upstreams.iter().map(|row| row.failed);
    page.left_out(view::left_out(ROWS, failed, &report.upstreams_other));
    let head = ["process", "failed", "share", "causes"];
    page.table("Upstream processes", head, 1..3, &[3, 0], view::processes(report).take(ROWS));
    let failed = report.processes.iter().map(|row| row.failed);
    page.left_out(view::left_out(ROWS, failed, &report.processes_other));
    page.cases(report, "First failures", &report.first);
    page.cases(report, "Longest waits", &report.worst);
    let head = ["", "samples", "p50", "p90", "p99", "p99.9", "max"];
    page.table("Latency", head, 1..7, &[], view::latency(&report.latency.all));
    narrate::unmeasured(report).iter().for_each(|sentence| page.fold("  ", "", sentence));
    page.lost(report);
    page.text
}

/// The text as far as it is written.
struct Page {
    text: String,
    width: usize,
}

/// Columns before the words of a fix.
const FIX_MARGIN: usize = 11;

impl Page {
    /// A table under its title, see [`grid::print`]; nothing without rows.
    fn table<const N: usize>(
        &mut self,
        title: &str,
        head: [&str; N],
        numbers: Range<usize>,
        folding: &[usize],
        rows: impl IntoIterator<Item = [String; N]>,
    ) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_some() {
            self.heading(title);
            let rows = std::iter::once(head.map(str::to_owned)).chain(rows);
            grid::print(&mut self.text, self.width, rows.collect(), numbers, folding);
        }
    }

    /// An example of each cause.
    fn examples(&mut self, report: &Report) {
        let widest = report.causes.iter().map(|row| row.cause.as_str().len()).max();
        let Some(widest) = widest else { return };
        self.text.push('\n');
        for row in &report.causes {
            self.fold("  ", &format!("{:widest$}  ", row.cause.as_str()), &row.example.summary);
        }
    }

    fn left_out(&mut self, what: Option<String>) {
        let _ = what.iter().try_for_each(|what| writeln!(self.text, "  and {what}"));
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
                narrate::on_host(report, &view::request(case), &case.host)
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
                let label = if number == 0 { "fix" } else { "" };
                for (row, text) in line.rows(self.width.saturating_sub(FIX_MARGIN).max(20)).iter().enumerate()
                {
                    let label = if row == 0 { label } else { "" };
                    let _ = writeln!(self.text, "{label:>9}  {text}");
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_rows_is_nothing() {
        let mut page = Page { text: String::new(), width: 80 };
        page.table("nothing", ["a", "b"], 1..2, &[], []);
        assert_eq!(page.text, "");
    }
}
