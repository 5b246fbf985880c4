//! `docs/support.md`: what was booted, what it offered, and how many verdicts were right there.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Release;
use crate::exec;

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

fn updated(page: &str, release: Release, findings: &Findings) -> String {
    let rows = page.lines().filter(|line| line.starts_with("| debian") || line.starts_with("| sid"));
    let mut rows: BTreeMap<String, String> = rows.map(|row| (release_of(row), row.to_owned())).collect();
    rows.insert(release.to_string(), findings.row(release));
    let rows: String = rows.into_values().map(|row| row + "\n").collect();
    format!("{HEAD}{rows}")
}

fn release_of(row: &str) -> String {
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
}
