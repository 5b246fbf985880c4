//! What the page is built of: tables, and charts as figures. Text is escaped here.

use std::fmt::{self, Write as _};

use super::Report;
use super::chart::{self, Kind, Size};
use super::model::{Measures, Other};
use super::text::latency_rows;
use crate::escape::html;
use crate::units::{Count, Micros};

/// Rows shown of each table; JSON has more.
pub(super) const ROWS: usize = 50;

/// The chart twice, for wide and narrow pages, of which the style sheet shows one.
pub(super) fn figure(page: &mut String, report: &Report, kind: Kind) -> fmt::Result {
    // Below each other on a phone, bars take more height than the other charts.
    let narrow = match kind {
        Kind::Upstreams => Size { height: 420, ..chart::NARROW },
        _ => chart::NARROW,
    };
    let pictures = [("wide", chart::WIDE), ("narrow", narrow)].map(|(class, size)| {
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

/// Tables with more columns become a card a row where the page is narrow.
const MOST_NARROW_COLUMNS: usize = 3;

/// A table whose first column heads its rows. Cells are (class, text); the text is escaped here.
pub(super) struct Table<'a> {
    page: &'a mut String,
    /// The columns' names, which label the cells of cards.
    names: Vec<String>,
}

impl<'a> Table<'a> {
    /// Opens it; columns are (name, class).
    pub(super) fn open(
        page: &'a mut String,
        caption: &str,
        columns: &[(&str, &str)],
    ) -> Result<Self, fmt::Error> {
        Table::with_class(page, caption, "", columns)
    }

    /// The same with a class of its own.
    fn with_class(
        page: &'a mut String,
        caption: &str,
        class: &str,
        columns: &[(&str, &str)],
    ) -> Result<Self, fmt::Error> {
        let caption = html(caption);
        let names = columns.iter().map(|(name, _)| html(name).into_owned()).collect();
        let table = Table { page, names };
        let class = if table.has_cards() { format!("cards {class}") } else { class.to_owned() };
        write!(
            table.page,
            "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\n<table{}{}>\n\
             <caption>{caption}</caption>\n<thead{}><tr{}>",
            attribute(class.trim_end()),
            table.role("table"),
            table.role("rowgroup"),
            table.role("row")
        )?;
        for ((_, class), name) in columns.iter().zip(&table.names) {
            let role = table.role("columnheader");
            write!(table.page, "<th scope=\"col\"{role}{}>{name}</th>", attribute(class))?;
        }
        write!(table.page, "</tr></thead>\n<tbody{}>\n", table.role("rowgroup"))?;
        Ok(table)
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: &[(&str, &str)]) -> fmt::Result {
        let (row, header, cell) = (self.role("row"), self.role("rowheader"), self.role("cell"));
        write!(self.page, "<tr{row}>")?;
        for (index, (class, text)) in cells.iter().enumerate() {
            let text = html(text);
            if index == 0 {
                write!(self.page, "<th scope=\"row\"{header}>{text}</th>")?;
                continue;
            }
            let label = match self.has_cards() {
                true => format!(" data-label=\"{}\"", self.names[index]),
                false => String::new(),
            };
            write!(self.page, "<td{}{cell}{label}>{text}</td>", attribute(class))?;
        }
        self.page.write_str("</tr>\n")
    }

    /// Ends it.
    pub(super) fn close(self) -> fmt::Result {
        self.page.write_str("</tbody>\n</table>\n</div>\n")
    }

    fn has_cards(&self) -> bool {
        self.names.len() > MOST_NARROW_COLUMNS
    }

    /// Not every browser takes for a table what is laid out as cards, unless told.
    fn role(&self, name: &str) -> String {
        if self.has_cards() { format!(" role=\"{name}\"") } else { String::new() }
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
        Count(rows),
        Count(hidden + other.failed)
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
        ("phase", ""),
        ("samples", "n"),
        ("p50", "n"),
        ("p90", "n"),
        ("p99", "n"),
        ("p99.9", "n"),
        ("max", "n"),
    ];
    let mut table = Table::with_class(page, caption, "even", &columns)?;
    for (label, quantiles) in rows {
        table.row(&[
            ("", &label),
            ("n", &Count(quantiles.count).to_string()),
            ("n", &Micros(quantiles.p50_us).to_string()),
            ("n", &Micros(quantiles.p90_us).to_string()),
            ("n", &Micros(quantiles.p99_us).to_string()),
            ("n", &Micros(quantiles.p999_us).to_string()),
            ("n", &Micros(quantiles.max_us).to_string()),
        ])?;
    }
    table.close()
}
