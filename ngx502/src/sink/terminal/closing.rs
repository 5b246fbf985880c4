//! The first and the last lines: what is traced, and what it came to.

use std::fmt::{Display, Write};

use crate::escape;
use crate::latency::{Figures, Quantiles};
use crate::session::Session;
use crate::sink::terminal::TerminalOptions;
use crate::sink::terminal::paint::{Tone, paint};
use crate::summary::{Summary, UpstreamLatency};
use crate::time::Moment;
use crate::units::{Count, Micros, Share, counted};
use crate::wrap::wrap;

/// Upstreams in the table of latencies; `ngx502 report` has them all.
const UPSTREAMS_SHOWN: usize = 5;

/// Appends what is traced and what cannot be.
pub(super) fn ready(out: &mut String, options: &TerminalOptions, session: &Session) {
    let workers: Vec<_> = session.workers.iter().map(u32::to_string).collect();
    let traced = match workers.as_slice() {
        [] => "every nginx that starts".to_owned(),
        [one] => format!("nginx worker {one}"),
        many => format!("{} nginx workers ({})", many.len(), many.join(", ")),
    };
    let (host, kernel) = (safe(&session.host), safe(&session.kernel));
    let text = format!("ready: tracing {traced} on {host} (kernel {kernel})");
    let missing: Vec<_> = session.missing().map(safe).collect();
    say(out, options, Tone::Good, &text);
    if !missing.is_empty() {
        let missing = missing.join(", ");
        let text = format!("this kernel has no hook for {missing}; see `ngx502 doctor` for what is lost");
        say(out, options, Tone::Doubt, &text);
    }
    out.push('\n');
}

fn say(out: &mut String, options: &TerminalOptions, tone: Tone, text: &str) {
    for row in wrap(text, options.width) {
        let _ = writeln!(out, "{}", paint(options.color, tone, &row));
    }
}

/// Appends the summary.
pub(super) fn summary(out: &mut String, options: &TerminalOptions, facts: &Summary) {
    let title = format!("{}, {} rescued", counted(facts.verdicts, "failed request"), Count(facts.rescued));
    let _ = writeln!(out, "{}", paint(options.color, Tone::Strong, &title));
    counts(out, "cause", &facts.by_cause);
    counts(out, "symptom", &facts.by_symptom);
    if facts.upstreams.is_empty() {
        if facts.latency.measured().next().is_some() {
            latency_head(out);
        }
        latency(out, facts.latency);
    } else {
        latency_of_each(out, &facts.upstreams);
    }
    for (status, count) in &facts.not_upstream {
        let _ = writeln!(out, "  {} answered {status} by nginx itself, without an upstream", Count(*count));
    }
    if facts.lost_events == 0 {
        let _ = writeln!(out, "  no event was lost");
    } else {
        let text = format!("{} lost: the counts above are too low", counted(facts.lost_events, "event"));
        let _ = writeln!(out, "  {}", paint(options.color, Tone::Bad, &text));
    }
}

fn counts(out: &mut String, title: &str, counts: &[(impl Display, u64)]) {
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    if total == 0 {
        return;
    }
    let _ = writeln!(out, "  {title:<20}{:>12}{:>9}", "requests", "share");
    for (name, count) in counts {
        let _ = writeln!(out, "  {name:<20}{:>12}{:>9}", Count(*count), Share::of(*count, total));
    }
}

/// Appends the latency of every upstream at a moment.
pub(super) fn upstreams(
    out: &mut String,
    options: &TerminalOptions,
    session: &Session,
    (now, upstreams): (Moment, &[UpstreamLatency]),
) {
    let title = format!("latency up to {} on {}", now, safe(&session.host));
    let _ = writeln!(out, "{}", paint(options.color, Tone::Strong, &title));
    if upstreams.is_empty() {
        let _ = writeln!(out, "  no upstream request has been answered yet");
    }
    latency_of_each(out, upstreams);
}

/// One table: a name and its rows for each upstream, for the busiest ones if there are many.
fn latency_of_each(out: &mut String, upstreams: &[UpstreamLatency]) {
    let requests = |upstream: &UpstreamLatency| {
        upstream.latency.measured().map(|(_, quantiles)| quantiles.count).max().unwrap_or(0)
    };
    let mut measured: Vec<_> = upstreams.iter().filter(|upstream| requests(upstream) > 0).collect();
    if measured.is_empty() {
        return;
    }
    // A stable sort: upstreams with as many requests stay in their order.
    measured.sort_by_key(|upstream| std::cmp::Reverse(requests(upstream)));
    let hidden = measured.len().saturating_sub(UPSTREAMS_SHOWN);
    latency_head(out);
    for upstream in measured.iter().take(UPSTREAMS_SHOWN) {
        let failed = if upstream.ok { "" } else { ", failed" };
        let _ = writeln!(out, "  {}{failed}", escape::terminal(&upstream.upstream));
        latency(out, upstream.latency);
    }
    if hidden > 0 {
        let _ = writeln!(out, "  … {} more with fewer requests", Count(hidden as u64));
    }
}

fn latency_head(out: &mut String) {
    let _ = write!(out, "  {:<20}{:>12}", "latency", "requests");
    for head in ["p50", "p90", "p99", "max"] {
        let _ = write!(out, "{head:>11}");
    }
    out.push('\n');
}

/// A row for each phase that was measured.
fn latency(out: &mut String, latency: Figures) {
    for (phase, Quantiles { count, p50_us, p90_us, p99_us, max_us, .. }) in latency.measured() {
        let _ = write!(out, "    {phase:<18}{:>12}", Count(count));
        for value in [p50_us, p90_us, p99_us, max_us] {
            let _ = write!(out, "{:>11}", Micros(value).to_string());
        }
        out.push('\n');
    }
}

fn safe(text: &str) -> String {
    escape::terminal(text.as_bytes()).into_owned()
}
