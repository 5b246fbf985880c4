//! Parts of sentences and tables that the text, the page and the charts show alike.
//!
//! Not here: how they look (`text`, `html`, `chart`), and the paragraph that says what happened (`narrate`).

use std::fmt::Write as _;

use super::Report;
use super::model::{Case, CauseCount, UpstreamRow};
use super::narrate;
use crate::latency::{Figures, Quantiles};
use crate::units::Count;

/// The address of an upstream, with its host where there are several.
pub(super) fn upstream(report: &Report, row: &UpstreamRow) -> String {
    let address = if row.address.is_empty() { "(unknown)" } else { &row.address };
    narrate::on_host(report, address, &row.host)
}

/// `oom-killed 93, exited 2`.
pub(super) fn reasons(causes: &[CauseCount]) -> String {
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

/// The figures there are, labelled.
pub(super) fn latency_rows(answered: &Figures, failed: &Figures) -> Vec<(String, Quantiles)> {
    let labelled = [("answered", answered), ("failed", failed)].into_iter().flat_map(|(who, figures)| {
        figures.measured().map(move |(what, quantiles)| (format!("{who}, {what}"), quantiles))
    });
    labelled.collect()
}
