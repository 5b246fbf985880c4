//! One verdict as text.

use std::fmt::Write;

use bstr::{BString, ByteSlice};

use crate::attribute::finding::evidence::Evidence;
use crate::attribute::verdict::{AttemptFacts, Certainty, ProcessFacts, RequestFacts, Verdict};
use crate::escape;
use crate::event::{Nanos, short_container};
use crate::latency::took;
use crate::sink::terminal::fold::Folded;
use crate::sink::terminal::paint::{Tone, paint};
use crate::sink::terminal::{Detail, TerminalOptions};
use crate::time::Moment;
use crate::units::{Count, Errno, Micros};
use crate::wrap::{columns, cut, wrap};

/// Columns before everything but the headline, as wide as a status and its gap.
const INDENT: &str = "     ";

/// The fewest columns a URI is worth showing in.
const URI_COLUMNS: usize = 16;

/// Facts and attempts shown unless all are asked for.
const SHOWN: usize = 6;

/// A verdict that is being shown.
pub(super) struct Block<'a> {
    pub(super) out: &'a mut String,
    pub(super) options: &'a TerminalOptions,
    pub(super) verdict: &'a Verdict,
    pub(super) time: Moment,
    pub(super) rescued: bool,
}

/// The line that stands for verdicts that were not shown.
pub(super) fn folded(folded: &Folded, options: &TerminalOptions) -> String {
    let mut text = format!("…    {} more in the last ", Count(folded.count));
    text += &match folded.seconds {
        1 => "second".to_owned(),
        seconds => format!("{} seconds", Count(seconds)),
    };
    let Some(key) = &folded.key else { return text + " of other kinds" };
    let _ = write!(text, ": {}{} {} {}", key.status, rescued_mark(key.rescued), key.symptom, key.cause);
    if let Some(upstream) = &key.upstream {
        let _ = write!(text, " {}", safe(upstream));
    }
    if let Some(culprit) = key.culprit {
        let _ = write!(text, " (pid {culprit})");
    }
    if options.show_host {
        let _ = write!(text, " on {}", safe(key.host.as_bytes()));
    }
    cut(&text, options.width)
}

impl Block<'_> {
    /// Appends the whole block and an empty line.
    pub(super) fn write(&mut self) {
        self.headline();
        self.rows("", Some(Tone::Strong), &self.sentence());
        self.chain();
        self.hops();
        self.attempts();
        self.evidence();
        for (number, fix) in self.verdict.fix().iter().enumerate() {
            let label = if number == 0 { "fix  " } else { "     " };
            let margin = INDENT.len() + columns(label);
            for (row, text) in fix.rows(self.options.width.saturating_sub(margin).max(20)).iter().enumerate()
            {
                let _ = writeln!(self.out, "{INDENT}{}{text}", if row == 0 { label } else { "     " });
            }
        }
        self.worker();
        self.out.push('\n');
    }

    /// Appends the verdict as one line.
    pub(super) fn write_line(&mut self) {
        let (verdict, time) = (self.verdict, self.time);
        let _ = write!(self.out, "{}T{}Z {}", time.date(), time.millis(), self.status().1);
        if self.options.show_host {
            let _ = write!(self.out, " {}", safe(verdict.host.as_bytes()));
        }
        let upstream = verdict.upstream.as_ref().map_or("-".into(), |upstream| safe(&upstream.address));
        let _ = write!(self.out, " {upstream} {} {} ({})", verdict.symptom, verdict.cause, verdict.certainty);
        if let Some(request) = &verdict.request {
            let (method, uri) = request_line(request);
            let _ = write!(self.out, " {method} {}", cut(&uri, 60));
        }
        let _ = writeln!(self.out, ": {}", self.sentence());
    }

    fn sentence(&self) -> String {
        escape::terminal(self.verdict.summary().to_string().as_bytes()).into_owned()
    }

    /// The status, plain and in its colour.
    fn status(&self) -> (String, String) {
        let plain = format!("{}{}", self.verdict.status, rescued_mark(self.rescued));
        let tone = if self.rescued { Tone::Good } else { Tone::Bad };
        let painted = paint(self.options.color, tone, &plain);
        (plain, painted)
    }

    fn headline(&mut self) {
        let (status, painted) = self.status();
        let mut time = format!("  {}Z", self.time.millis());
        if self.options.show_host {
            let _ = write!(time, "  on {}", safe(self.verdict.host.as_bytes()));
        }
        let _ = write!(self.out, "{painted}{time}");
        let Some(request) = &self.verdict.request else {
            let _ = writeln!(self.out, "  (the request could not be read)");
            return;
        };
        let after = origin(request);
        let (method, uri) = request_line(request);
        if self.options.detail == Detail::Verbose {
            let _ = writeln!(self.out, "{after}");
            self.rows("", None, &format!("{method} {uri}"));
            return;
        }
        let taken = columns(&status) + columns(&time) + columns(&method) + "   ".len();
        let room = self.options.width.saturating_sub(taken);
        if columns(&uri) + columns(&after) <= room {
            let _ = writeln!(self.out, "  {method} {uri}{after}");
        } else {
            // The URI tells more than where the request came from.
            let _ = writeln!(self.out, "  {method} {}", cut(&uri, room.max(URI_COLUMNS)));
            if !after.is_empty() {
                self.rows("", None, after.trim_start());
            }
        }
    }

    /// The way to the cause, a station a line.
    fn hops(&mut self) {
        for (number, hop) in self.verdict.way().iter().enumerate() {
            let label = if number == 0 { "hops " } else { "     " };
            self.rows(label, None, &escape::terminal(hop.as_bytes()));
        }
    }

    /// Upstream → symptom → cause, the cause on a line of its own where all do not fit into one.
    fn chain(&mut self) {
        let verdict = self.verdict;
        let mut start = match &verdict.upstream {
            Some(upstream) => safe(&upstream.address),
            None => "upstream unknown".to_owned(),
        };
        if let Some(process) = verdict.upstream.as_ref().and_then(|upstream| upstream.process.as_ref()) {
            let _ = write!(start, " ({})", names(process));
        }
        start += &failed(verdict.symptom.as_str(), verdict.errno, verdict.latency.total_us);
        let (cause, tone) = match verdict.certainty {
            Certainty::Proven => (format!("{}, proven", verdict.cause), Tone::Strong),
            Certainty::Inferred => (format!("{}, inferred", verdict.cause), Tone::Doubt),
            Certainty::Unknown => (format!("{}, not proven", verdict.cause), Tone::Dim),
        };
        let width = INDENT.len() + columns(&start) + columns(" → ") + columns(&cause);
        let cause = paint(self.options.color, tone, &cause);
        if width <= self.options.width {
            let _ = writeln!(self.out, "{INDENT}{start} → {cause}");
        } else {
            self.rows("", None, &start);
            let _ = writeln!(self.out, "{INDENT}→ {cause}");
        }
    }

    fn attempts(&mut self) {
        let attempts = &self.verdict.attempts;
        if attempts.len() < 2 {
            return;
        }
        let hidden = match self.options.detail {
            Detail::Verbose => 0,
            _ => attempts.len().saturating_sub(SHOWN),
        };
        if hidden > 0 {
            let text = format!("… {} earlier attempts (-v shows them)", Count(hidden as u64));
            self.rows("", Some(Tone::Dim), &text);
        }
        for (index, attempt) in attempts.iter().enumerate().skip(hidden) {
            self.rows(&format!("attempt {}  ", index + 1), None, &attempt_text(attempt));
        }
    }

    fn evidence(&mut self) {
        let (verdict, facts) = (self.verdict, &self.verdict.evidence);
        let shown = match self.options.detail {
            Detail::Verbose => facts.iter().collect(),
            _ => telling(facts),
        };
        for fact in &shown {
            let label = format!("{:>9}  {:<11} ", relative(verdict.at, fact.at), fact.event());
            self.rows(&label, None, &escape::terminal(fact.text(verdict).to_string().as_bytes()));
        }
        let hidden = facts.len() - shown.len();
        if hidden > 0 {
            let text = format!("… {} more facts (-v shows them)", Count(hidden as u64));
            self.rows("", Some(Tone::Dim), &text);
        }
    }

    fn worker(&mut self) {
        if self.options.detail != Detail::Verbose {
            return;
        }
        let worker = &self.verdict.worker;
        let mut text = format!("nginx worker {}", worker.pid);
        if let Some(exe) = &worker.exe {
            let _ = write!(text, ", {}", safe(exe));
        }
        if let Some(container) = worker.container_name.as_ref().or(worker.container.as_ref()) {
            let _ = write!(text, ", container {}", safe(short_container(container).as_bytes()));
        }
        self.rows("", Some(Tone::Dim), &text);
    }

    /// A label and a text beside it, on as many lines as it takes.
    fn rows(&mut self, label: &str, tone: Option<Tone>, text: &str) {
        let margin = INDENT.len() + columns(label);
        for (number, row) in wrap(text, self.options.width.saturating_sub(margin).max(20)).iter().enumerate()
        {
            let label = if number == 0 { label } else { "" };
            let _ = write!(self.out, "{INDENT}{label:<width$}", width = margin - INDENT.len());
            let _ = match tone {
                Some(tone) => writeln!(self.out, "{}", paint(self.options.color, tone, row)),
                None => writeln!(self.out, "{row}"),
            };
        }
    }
}

/// The facts that tell most, in their order: all if they are few; else without the routine ones; if there are still too
/// many, the first, which are nearest to the root, and the last, which are nearest to the failure.
fn telling(facts: &[Evidence]) -> Vec<&Evidence> {
    let all: Vec<_> = facts.iter().collect();
    // A line that says "1 more" takes the place of the one that it hides.
    let is_short = |facts: &[&Evidence]| facts.len() <= SHOWN + 1;
    if is_short(&all) {
        return all;
    }
    let special: Vec<_> = all.iter().copied().filter(|fact| !fact.event().is_routine()).collect();
    let candidates = if special.is_empty() { all } else { special };
    if is_short(&candidates) {
        return candidates;
    }
    let (first, last) = (&candidates[..SHOWN / 2], &candidates[candidates.len() - SHOWN / 2..]);
    [first, last].concat()
}

fn rescued_mark(rescued: bool) -> &'static str {
    if rescued { " rescued" } else { "" }
}

/// Method and URI, safe.
fn request_line(request: &RequestFacts) -> (String, String) {
    let uri = request.uri.as_ref().map_or("?".into(), |uri| escape::terminal(uri).into_owned());
    (request.method.as_ref().map_or("?".into(), |method| cut(&escape::terminal(method), 12)), uri)
}

/// The request's host and client, each only where known.
fn origin(request: &RequestFacts) -> String {
    let part = |label: &str, value: &Option<BString>| match value {
        Some(value) => format!("  {label} {}", safe(value)),
        None => String::new(),
    };
    part("host", &request.host) + &part("from", &request.client)
}

/// As the verdict's own chain: upstream → symptom → cause.
fn attempt_text(attempt: &AttemptFacts) -> String {
    let mut text = attempt.upstream.as_ref().map_or("?".into(), |upstream| safe(upstream));
    let symptom = attempt.symptom.map_or("answered", |symptom| symptom.as_str());
    text += &failed(symptom, attempt.errno, attempt.times.total_us);
    if let Some(cause) = attempt.cause {
        let _ = write!(text, " → {cause}");
    }
    text
}

/// ` → connect-refused (ECONNREFUSED) after 90 µs`, each part only where known.
fn failed(symptom: &str, errno: Option<i32>, total_us: Option<u64>) -> String {
    let errno = errno.map_or_else(String::new, |errno| format!(" ({})", Errno(errno)));
    let after = total_us.map_or_else(String::new, |total| format!(" after {}", took(total)));
    format!(" → {symptom}{errno}{after}")
}

/// `php-fpm8.2, pid 4711, php8.2-fpm.service`.
fn names(process: &ProcessFacts) -> String {
    let mut text = format!("{}, pid {}", safe(process.comm.as_bytes()), process.pid);
    if let Some(pool) = &process.pool {
        let _ = write!(text, ", pool {}", safe(pool.as_bytes()));
    }
    for name in [process.unit.as_deref(), process.container_label().as_deref()].into_iter().flatten() {
        let _ = write!(text, ", {}", safe(short_container(name).as_bytes()));
    }
    text
}

/// How long before (or after) the verdict: `-12.3 s`.
fn relative(verdict: Nanos, fact: Nanos) -> String {
    if fact > verdict {
        return format!("+{}", Micros(fact.micros_since(verdict)));
    }
    match verdict.micros_since(fact) {
        0 => "0 s".to_owned(),
        micros => format!("-{}", Micros(micros)),
    }
}

/// A name, safe and of bounded length.
fn safe(bytes: &[u8]) -> String {
    cut(&escape::terminal(bytes.as_bytes()), 80)
}
