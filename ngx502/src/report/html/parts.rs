//! What the page is built of: tables, and charts as figures.

use maud::{Markup, PreEscaped, html};

use crate::report::Report;
use crate::report::chart::{self, Kind, Size};
use crate::report::model::{Latency, Other};
use crate::report::view;

/// Rows shown of each table; JSON has more.
pub(super) const ROWS: usize = 50;
/// Tables with more columns become a card a row where the page is narrow.
const MOST_NARROW_COLUMNS: usize = 3;

/// A column's name, and the classes of its head and of its cells.
#[derive(Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    head: Option<&'static str>,
    cells: Option<&'static str>,
}

/// A column of short texts.
pub(super) fn text(name: &'static str) -> Column {
    Column { name, head: None, cells: None }
}

/// A column of numbers, aligned to the right.
pub(super) fn number(name: &'static str) -> Column {
    Column { name, head: Some("n"), cells: Some("n") }
}

/// A column of clock times, which are not broken.
pub(super) fn moment(name: &'static str) -> Column {
    Column { name, head: None, cells: Some("t") }
}

/// A column of texts that may be long.
pub(super) fn words(name: &'static str) -> Column {
    Column { name, head: None, cells: Some("w") }
}

/// A table whose first column heads its rows.
pub(super) fn table<const N: usize>(
    caption: &str,
    columns: [Column; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Markup {
    styled_table(None, caption, columns, rows)
}

fn styled_table<const N: usize>(
    class: Option<&str>,
    caption: &str,
    columns: [Column; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Markup {
    let cards = N > MOST_NARROW_COLUMNS;
    // Not every browser takes for a table what is laid out as cards, unless it has the roles of one.
    let role = |name: &'static str| cards.then_some(name);
    html! {
        div.scroll role="region" aria-label=(caption) tabindex="0" {
            table class=[class.or(role("cards"))] role=[role("table")] {
                caption { (caption) }
                thead role=[role("rowgroup")] {
                    tr role=[role("row")] {
                        @for Column { name, head, .. } in columns {
                            th scope="col" role=[role("columnheader")] class=[head] { (name) }
                        }
                    }
                }
                tbody role=[role("rowgroup")] {
                    @for row in rows {
                        tr role=[role("row")] {
                            th scope="row" role=[role("rowheader")] { (row[0]) }
                            @for (Column { name, cells, .. }, text) in columns.iter().zip(&row).skip(1) {
                                td class=[cells] role=[role("cell")] data-label=[role(name)] { (text) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Says what a table did not list; `failed` is of every row.
pub(super) fn left_out(failed: impl Iterator<Item = u64>, other: &Other) -> Markup {
    html! {
        @if let Some(what) = view::left_out(ROWS, failed, other) {
            p.soft { "And " (what) "." }
        }
    }
}

/// Percentiles of one upstream, or of all; nothing where nothing was measured.
pub(super) fn latency_table(caption: &str, latency: &Latency) -> Option<Markup> {
    let rows = view::latency(latency);
    let [samples, p50, p90, p99, p999, max] = ["samples", "p50", "p90", "p99", "p99.9", "max"].map(number);
    let columns = [text("phase"), samples, p50, p90, p99, p999, max];
    (!rows.is_empty()).then(|| styled_table(Some("cards even"), caption, columns, rows))
}

/// The chart twice, for wide and narrow pages, of which the style sheet shows one.
pub(super) fn figure(report: &Report, kind: Kind) -> Markup {
    // Below each other on a phone, bars take more height than the other charts.
    let narrow = match kind {
        Kind::Upstreams => Size { height: 420, ..chart::NARROW },
        _ => chart::NARROW,
    };
    let picture = |class, size| chart::svg(report, kind, size, Some(class)).map(PreEscaped);
    match (picture("wide", chart::WIDE), picture("narrow", narrow)) {
        (Ok(wide), Ok(narrow)) => html! { figure { (wide) (narrow) } },
        (Err(error), _) | (_, Err(error)) => html! { p.soft { (error) } },
    }
}
