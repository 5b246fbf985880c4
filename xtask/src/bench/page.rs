//! The results as Markdown, and their place in `docs/performance.md`.

use std::fmt::Write as _;

use super::bed::Run;
use super::endurance::{Sample, Soak};
use super::hooks::HookCost;
use super::rounds::{Comparison, Spread};
use super::scenario::Scenario;

/// Resident memory that must never be passed, in KiB.
const MEMORY_BAR: u64 = 32 * 1024;

/// Everything that was measured.
#[derive(Default)]
pub(super) struct Results {
    /// When and where.
    pub(super) machine: String,
    /// How: rounds and times.
    pub(super) method: String,
    /// Tools against scenarios.
    pub(super) comparisons: Vec<Comparison>,
    /// Tools that did not run, and why.
    pub(super) missing: Vec<String>,
    /// Run time of BPF programs.
    pub(super) hooks: Vec<(Scenario, Vec<HookCost>)>,
    /// Share of a processor while nothing happens.
    pub(super) idle: Option<f64>,
    /// The long run.
    pub(super) soak: Option<Soak>,
}

impl Results {
    /// The sections for `docs/performance.md`, by name; what was not measured has none, so that it stays as it is.
    pub(super) fn sections(&self) -> Vec<(&'static str, String)> {
        let soak = self.soak.as_ref().map(|soak| ("soak", soak.to_markdown(&self.machine)));
        let measured = !self.comparisons.is_empty() || !self.hooks.is_empty() || self.idle.is_some();
        measured.then(|| ("bench", self.comparison_section())).into_iter().chain(soak).collect()
    }

    fn comparison_section(&self) -> String {
        let mut text = format!("{}\n\n{}\n", self.machine, self.method);
        self.comparisons(&mut text);
        self.costs(&mut text);
        self.hooks(&mut text);
        if let Some(idle) = self.idle {
            let _ = writeln!(text, "\nIdle: ngx502 uses {:.3} % of one processor.", idle * 100.0);
        }
        for missing in &self.missing {
            let _ = writeln!(text, "\nNot run: {missing}");
        }
        text
    }

    fn comparisons(&self, text: &mut String) {
        text.push_str(
            "\n| load | tracer | requests/s untraced | throughput | p99 | nginx CPU per request (µs untraced) | untraced runs among \
             themselves | bar |\n|---|---|--:|--:|--:|--:|--:|---|\n",
        );
        for one in &self.comparisons {
            let ratio = one.ratio(Run::throughput);
            let bar = one.scenario.bar().filter(|_| one.tool.is_judged()).map_or(String::new(), |bar| {
                format!("≥ {bar:.2}: {}", if ratio.median >= bar { "met" } else { "missed" })
            });
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | **{}** | {} | {} ({:.1}) | {} | {bar} |",
                one.scenario,
                one.tool.name(),
                one.plain(Run::throughput).median,
                with_quartiles(ratio),
                with_quartiles(one.ratio(|run| run.load.p99)),
                with_quartiles(one.ratio(Run::cpu_per_request)),
                one.plain(Run::cpu_per_request).median,
                with_quartiles(one.noise()),
            );
        }
    }

    fn costs(&self, text: &mut String) {
        text.push_str(
            "\n| load | tracer | nginx CPU, untraced | ready (ms) | detached (ms) | own CPU | RSS, peak (MiB) | \
             verdicts of 502s | lost |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for one in &self.comparisons {
            let (verdicts, failures, lost) = one.reported();
            let reported = match (failures, one.is_complete()) {
                (0, _) => String::new(),
                _ if !one.tool.explains() => "explains none".to_owned(),
                (_, true) => format!("{verdicts}: one each"),
                _ => format!("{verdicts} of {failures}"),
            };
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} % | {:.0} | {:.0} | {:.1} % | {:.1} | {reported} | {lost} |",
                one.scenario,
                one.tool.name(),
                one.plain(Run::busy).median * 100.0,
                one.cost(|_, cost| cost.ready.as_secs_f64() * 1e3).median,
                one.cost(|_, cost| cost.detach.as_secs_f64() * 1e3).median,
                one.cost(|run, cost| cost.cpu.as_secs_f64() * 100.0 / run.load.seconds).median,
                one.cost(|_, cost| cost.memory.peak as f64 / 1024.0).high,
            );
        }
    }

    fn hooks(&self, text: &mut String) {
        if self.hooks.is_empty() {
            return;
        }
        text.push_str(
            "\n| load | BPF program | ns per run | runs per request | ns per request |\n|---|---|--:|--:|--:|\n",
        );
        for (scenario, hooks) in &self.hooks {
            for hook in hooks.iter().filter(|hook| hook.nanos_per_request() >= 0.5) {
                let (name, nanos, runs) = (&hook.name, hook.nanos, hook.runs);
                let sum = hook.nanos_per_request();
                let _ = writeln!(text, "| {scenario} | `{name}` | {nanos:.0} | {runs:.2} | {sum:.0} |");
            }
            let sum: f64 = hooks.iter().map(HookCost::nanos_per_request).sum();
            let _ = writeln!(text, "| {scenario} | total | | | **{sum:.0}** |");
        }
    }
}

impl Soak {
    fn to_markdown(&self, machine: &str) -> String {
        let mebibytes = |sample: Option<&Sample>| {
            sample.map_or("unknown".to_owned(), |sample| format!("{:.1}", sample.resident as f64 / 1024.0))
        };
        let requests = self.samples.last().map_or(0, |last| last.requests);
        let growth = self.growth().map_or("unknown".to_owned(), |growth| format!("{growth:+.0}"));
        let met = if self.cost.memory.peak < MEMORY_BAR { "met" } else { "missed" };
        format!(
            "{machine}\n\nOne load after the other for 5 s each: keep-alive, short, unix, mix.\n\n\
             | requests | minutes | 502s | verdicts | lost | RSS, first (MiB) | RSS, middle | RSS, end | RSS, peak | growth in \
             the second half (KiB a million requests) | bar |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n\
             | {requests} | {:.1} | {} | {} | {} | {} | {} | {} | {:.1} | {growth} | RSS < 32 MiB: {met} |",
            self.time.as_secs_f64() / 60.0,
            self.failures,
            self.cost.verdicts,
            self.cost.lost,
            mebibytes(self.samples.first()),
            mebibytes(self.middle()),
            mebibytes(self.samples.last()),
            self.cost.memory.peak as f64 / 1024.0,
        )
    }
}

fn with_quartiles(Spread { median, low, high }: Spread) -> String {
    format!("{median:.3} ({low:.3}–{high:.3})")
}

/// `page` with `section` in place of what an earlier run left under that name; a page without the markers gets them at
/// its end.
pub(super) fn insert(page: &str, name: &str, section: &str) -> String {
    let begin = format!("<!-- {name}: begin; `cargo xtask bench` replaces what follows -->");
    let end = format!("<!-- {name}: end -->");
    let section = format!("{begin}\n\n{}\n\n{end}", section.trim());
    let place =
        page.find(&begin).and_then(|begin| Some((begin, begin + page[begin..].find(&end)? + end.len())));
    match place {
        Some((begin, end)) => format!("{}{section}{}", &page[..begin], &page[end..]),
        None => format!("{}\n\n{section}\n", page.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_replaces_the_first() {
        let page = "# Performance\n\nWords before.\n";
        let first = insert(page, "bench", "first");
        assert!(first.starts_with(page.trim_end()) && first.contains("first"));
        let second = insert(&format!("{first}\nWords after.\n"), "bench", "second");
        assert!(!second.contains("first") && second.ends_with("\nWords after.\n"), "{second}");
        assert_eq!(second.matches("bench: begin").count(), 1);
        let other = insert(&second, "soak", "third");
        assert!(other.starts_with(second.trim_end()) && other.contains("soak: begin"), "{other}");
    }

    #[test]
    fn what_was_not_measured_has_no_section() {
        assert_eq!(Results::default().sections(), []);
        let results = Results {
            idle: Some(0.001),
            missing: vec!["strace: not there".to_owned()],
            ..Results::default()
        };
        let [(name, section)] = &results.sections()[..] else { panic!("one section") };
        assert_eq!(*name, "bench");
        assert!(
            section.contains("0.100 %") && section.ends_with("Not run: strace: not there\n"),
            "{section}"
        );
    }
}
