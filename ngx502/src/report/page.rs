//! What the page is built of: tables, and charts as figures. Text is escaped here.

use std::fmt::{self, Write as _};

use super::Report;
use super::chart::{self, Kind};
use super::model::{Measures, Other};
use super::text::latency_rows;
use super::time::{count, duration};
use crate::escape::html;

/// Rows shown of each table; JSON has more.
pub(super) const ROWS: usize = 50;

/// The chart twice, for wide and narrow pages, of which the style sheet shows one.
pub(super) fn figure(page: &mut String, report: &Report, kind: Kind) -> fmt::Result {
    let pictures = [("wide", chart::WIDE), ("narrow", chart::NARROW)].map(|(class, size)| {
        chart::inline_svg(report, kind, size)
            .map(|svg| svg.replacen("<svg ", &format!("<svg class=\"{class}\" "), 1))
    });
    match pictures {
        [Ok(wide), Ok(narrow)] => write!(page, "<figure>\n{wide}{narrow}</figure>\n"),
        [Err(error), _] | [_, Err(error)] => {
            writeln!(page, "<p class=\"soft\">{}</p>", html(&error.to_string()))
        }
    }
}

/// A table whose first column heads its rows. Cells are (class, text); the text is escaped here.
pub(super) struct Table<'a> {
    page: &'a mut String,
}

impl<'a> Table<'a> {
    /// Opens it; columns are (name, class).
    pub(super) fn open(
        page: &'a mut String,
        caption: &str,
        columns: &[(&str, &str)],
    ) -> Result<Self, fmt::Error> {
        let caption = html(caption);
        write!(
            page,
            "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\n<table>\n<caption>{caption}</caption>\n<thead><tr>"
        )?;
        for (name, class) in columns {
            write!(page, "<th scope=\"col\"{}>{}</th>", attribute(class), html(name))?;
        }
        page.write_str("</tr></thead>\n<tbody>\n")?;
        Ok(Table { page })
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: &[(&str, &str)]) -> fmt::Result {
        self.page.write_str("<tr>")?;
        for (index, (class, text)) in cells.iter().enumerate() {
            let text = html(text);
            match index {
                0 => write!(self.page, "<th scope=\"row\">{text}</th>")?,
                _ => write!(self.page, "<td{}>{text}</td>", attribute(class))?,
            }
        }
        self.page.write_str("</tr>\n")
    }

    /// Ends it.
    pub(super) fn close(self) -> fmt::Result {
        self.page.write_str("</tbody>\n</table>\n</div>\n")
    }
}

fn attribute(class: &str) -> String {
    if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") }
}

/// Says what a table did not list.
pub(super) fn left_out(page: &mut String, listed: usize, hidden: u64, other: &Other) -> fmt::Result {
    let rows = listed.saturating_sub(ROWS) as u64 + other.rows;
    if rows == 0 {
        return Ok(());
    }
    writeln!(
        page,
        "<p class=\"soft\">And {} more with {} failures.</p>",
        count(rows),
        count(hidden + other.failed)
    )
}

/// Percentiles of one upstream, or of all.
pub(super) fn latency_table(
    page: &mut String,
    caption: &str,
    answered: &Measures,
    failed: &Measures,
) -> fmt::Result {
    let rows = latency_rows(answered, failed);
    if rows.is_empty() {
        return Ok(());
    }
    let columns = [
        ("time", ""),
        ("samples", "n"),
        ("p50", "n"),
        ("p90", "n"),
        ("p99", "n"),
        ("p99.9", "n"),
        ("max", "n"),
    ];
    let mut table = Table::open(page, caption, &columns)?;
    for (label, quantiles) in rows {
        table.row(&[
            ("", &label),
            ("n", &count(quantiles.count)),
            ("n", &duration(quantiles.p50_us)),
            ("n", &duration(quantiles.p90_us)),
            ("n", &duration(quantiles.p99_us)),
            ("n", &duration(quantiles.p999_us)),
            ("n", &duration(quantiles.max_us)),
        ])?;
    }
    table.close()
}
