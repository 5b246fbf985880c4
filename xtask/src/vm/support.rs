//! `docs/support.md`: what was booted, what it offered, and how many verdicts were right there.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Release;
use crate::exec;

const BUILDS: &str = "
## nginx as others build it

Written by `cargo xtask builds`: nginx 1.28.5 compiled here in the ways that move its structs or take its symbols away, beside
the distribution's own on this machine's kernel; the log levels `debug` to `crit` are among the tests.

| build | tests right/all |
|---|---|
";

const HEAD: &str = "\
# Supported kernels and nginx

Written by `cargo xtask vm`: each line was booted in QEMU from that release's own packages, and the live tests ran there.
A verdict is right when its symptom, errno, request, attempts, cause and certainty are those of the fault that was staged.

| release | kernel | nginx | kernel signals | without | verdicts right/all |
|---|---|---|---|---|---|
";

/// What one guest's console told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    kernel: String,
    nginx: String,
    /// As in `13 of 13`.
    signals: String,
    /// Signals without any provider.
    missing: Vec<String>,
    right: u32,
    all: u32,
}

impl Findings {
    /// Takes in a line of the console.
    pub(crate) fn add(&mut self, line: &str) {
        if let Some((kernel, rest)) =
            line.strip_prefix("guest: kernel ").and_then(|rest| rest.split_once(", "))
        {
            kernel.clone_into(&mut self.kernel);
            let nginx = rest.split(", ").next().unwrap_or_default();
            nginx.trim_start_matches("nginx version: nginx/").clone_into(&mut self.nginx);
        } else if let Some((signals, _)) = line.split_once(" kernel signals have a provider") {
            signals.clone_into(&mut self.signals);
        } else if let Some(signal) = line.strip_suffix(" none") {
            self.missing.push(signal.trim().to_owned());
        } else if let Some(trial) = line.strip_prefix("test verdict::") {
            self.all += 1;
            self.right += u32::from(trial.ends_with("... ok"));
        }
    }

    /// Whether the guest got far enough to be listed.
    pub(crate) fn is_complete(&self) -> bool {
        !self.kernel.is_empty() && !self.signals.is_empty() && self.all > 0
    }

    fn row(&self, release: Release) -> String {
        let Self { kernel, nginx, signals, missing, right, all } = self;
        let missing = if missing.is_empty() { "—".to_owned() } else { missing.join(", ") };
        format!("| {release} | {kernel} | {nginx} | {signals} | {missing} | {right}/{all} |")
    }
}

/// Puts the line of `release` into the table, in place of its older one.
///
/// # Errors
/// If the page cannot be written.
pub(crate) fn record(release: Release, findings: &Findings) -> Result<()> {
    let page = page();
    let old = fs::read_to_string(&page).unwrap_or_default();
    fs::write(&page, updated(&old, release, findings)).with_context(|| page.display().to_string())
}

/// Puts the line of an nginx build into its table, in place of its older one.
///
/// # Errors
/// If the page cannot be written.
pub(crate) fn record_build(name: &str, right: u32, all: u32) -> Result<()> {
    let page = page();
    let old = fs::read_to_string(&page).unwrap_or_default();
    let new = with_row(&old, format!("| `{name}` | {right}/{all} |"));
    fs::write(&page, new).with_context(|| page.display().to_string())
}

fn updated(page: &str, release: Release, findings: &Findings) -> String {
    with_row(page, findings.row(release))
}

/// The page with this row in its table, in place of the row with the same first cell.
fn with_row(page: &str, row: String) -> String {
    let known = ["| debian", "| sid", "| `"];
    let rows = page.lines().filter(|line| known.iter().any(|start| line.starts_with(start)));
    let mut rows: BTreeMap<String, String> = rows.map(|row| (name_of(row), row.to_owned())).collect();
    rows.insert(name_of(&row), row);
    let (builds, guests): (Vec<_>, Vec<_>) =
        rows.into_iter().map(|(name, row)| (name, row + "\n")).partition(|(name, _)| name.starts_with('`'));
    let table = |rows: Vec<(String, String)>| rows.into_iter().map(|(_, row)| row).collect::<String>();
    let builds = if builds.is_empty() { String::new() } else { BUILDS.to_owned() + &table(builds) };
    format!("{HEAD}{}{builds}", table(guests))
}

/// A row's first cell.
fn name_of(row: &str) -> String {
    row.split('|').nth(1).unwrap_or_default().trim().to_owned()
}

fn page() -> PathBuf {
    exec::workspace().join("docs/support.md")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\
guest: kernel 5.10.0-46-cloud-amd64, nginx version: nginx/1.18.0, BTF yes, uid 0
exit            raw_tp:sched_process_exit
icmp-error      none
12 of 13 kernel signals have a provider; no nginx runs here now; `ngx502 trace` waits for one.
test verdict::refused-nobody              ... ok
test verdict::tls-to-plain                ... FAILED
test lab::refused-nobody                  ... ok
";

    fn findings() -> Findings {
        let mut findings = Findings::default();
        CONSOLE.lines().for_each(|line| findings.add(line));
        findings
    }

    #[test]
    fn a_console_becomes_a_row() {
        let row = "| debian11 | 5.10.0-46-cloud-amd64 | 1.18.0 | 12 of 13 | icmp-error | 1/2 |";
        assert!(findings().is_complete());
        assert_eq!(findings().row(Release::Debian11), row);
        assert!(!Findings::default().is_complete());
    }

    #[test]
    fn a_new_row_replaces_only_its_own_release() {
        let page = updated("", Release::Debian12, &findings());
        let page = updated(&page, Release::Debian11, &findings());
        let better = Findings { right: 2, ..findings() };
        let page = updated(&page, Release::Debian12, &better);
        assert_eq!(page.matches("| debian12 |").count(), 1);
        assert!(page.contains("| 2/2 |") && page.contains("| debian11 |"), "{page}");
        assert!(page.starts_with(HEAD));
    }

    #[test]
    fn builds_have_a_table_of_their_own() {
        let page = updated("", Release::Sid, &findings());
        let page = with_row(&page, "| `lto` | 24/24 |".to_owned());
        let page = updated(&page, Release::Debian12, &findings());
        let (guests, builds) = page.split_once("## nginx").expect("a second table");
        assert!(guests.contains("| sid |") && guests.contains("| debian12 |"), "{page}");
        assert!(builds.contains("| `lto` | 24/24 |") && !builds.contains("| sid |"), "{page}");
    }
}
