//! `docs/support.md`: what was booted, what it offered, and how many verdicts were right there.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Release;
use crate::exec;

/// A table of the page: the line that begins it, and all that is above its rows.
#[derive(Clone, Copy)]
struct Table {
    title: &'static str,
    head: &'static str,
}

const GUESTS: Table = Table {
    title: "# Supported kernels and nginx",
    head: "
Written by `cargo xtask vm`: each line was booted in QEMU from that release's own packages, and the live tests ran there.
A verdict is right when its symptom, errno, request, attempts, cause and certainty are those of the fault that was staged.

| release | kernel | nginx | kernel signals | without | verdicts right/all |
|---|---|---|---|---|---|
",
};

const BACKENDS: Table = Table {
    title: "## Real backends",
    head: "
Written by `cargo xtask vm`: the same guests' own PHP-FPM, Gunicorn, uWSGI, Node.js and Puma, each through its real ways to fail.

| release | backends | tests right/all |
|---|---|---|
",
};

const BUILDS: Table = Table {
    title: "## nginx as others build it",
    head: "
Written by `cargo xtask builds`: nginx 1.28.5 compiled here in the ways that move its structs or take its symbols away, beside
the distribution's own on this machine's kernel; the log levels `debug` to `crit` are among the tests.

| build | tests right/all |
|---|---|
",
};

/// In the order of the page.
const TABLES: [Table; 3] = [GUESTS, BACKENDS, BUILDS];

/// What one guest's console told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    kernel: String,
    nginx: String,
    /// As in `13 of 13`.
    signals: String,
    /// Signals without any provider.
    missing: Vec<String>,
    /// Tests `verdict::…`.
    verdicts: Score,
    /// The real backends with their versions.
    backends: String,
    /// Tests `backend::…`.
    with_backends: Score,
}

/// How many tests were passed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Score {
    right: u32,
    all: u32,
}

impl Score {
    fn add(&mut self, line: &str) {
        self.all += 1;
        self.right += u32::from(line.ends_with("... ok"));
    }
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
        } else if let Some(backends) = line.strip_prefix("guest: backends ") {
            backends.clone_into(&mut self.backends);
        } else if line.starts_with("test verdict::") {
            self.verdicts.add(line);
        } else if line.starts_with("test backend::") {
            self.with_backends.add(line);
        }
    }

    /// The guest's row of each table for which it got far enough.
    fn rows(&self, release: Release) -> Vec<(&'static str, String)> {
        let Self { kernel, nginx, signals, missing, verdicts, backends, with_backends } = self;
        let mut rows = Vec::new();
        if !kernel.is_empty() && !signals.is_empty() && verdicts.all > 0 {
            let missing = if missing.is_empty() { "—".to_owned() } else { missing.join(", ") };
            let Score { right, all } = verdicts;
            let row = format!("| {release} | {kernel} | {nginx} | {signals} | {missing} | {right}/{all} |");
            rows.push((GUESTS.title, row));
        }
        if !backends.is_empty() && with_backends.all > 0 {
            let Score { right, all } = with_backends;
            rows.push((BACKENDS.title, format!("| {release} | {backends} | {right}/{all} |")));
        }
        rows
    }
}

/// Puts the rows of `release` into the tables, in place of its older ones.
///
/// # Errors
/// If the page cannot be written.
pub(crate) fn record(release: Release, findings: &Findings) -> Result<()> {
    let page = page();
    let old = fs::read_to_string(&page).unwrap_or_default();
    fs::write(&page, updated(old, release, findings)).with_context(|| page.display().to_string())
}

/// Puts the line of an nginx build into its table, in place of its older one.
///
/// # Errors
/// If the page cannot be written.
pub(crate) fn record_build(name: &str, right: u32, all: u32) -> Result<()> {
    let page = page();
    let old = fs::read_to_string(&page).unwrap_or_default();
    let new = with_row(&old, BUILDS.title, format!("| `{name}` | {right}/{all} |"));
    fs::write(&page, new).with_context(|| page.display().to_string())
}

fn updated(page: String, release: Release, findings: &Findings) -> String {
    let rows = findings.rows(release);
    rows.into_iter().fold(page, |page, (title, row)| with_row(&page, title, row))
}

/// The page with this row in the table of this title, in place of the row with the same first cell.
fn with_row(page: &str, title: &str, row: String) -> String {
    let mut tables = TABLES.map(|table| rows_of(page, table));
    let at = TABLES.iter().position(|table| table.title == title).expect("a table of the page");
    tables[at].insert(name_of(&row), row);
    let filled = TABLES.iter().zip(&tables).filter(|(_, rows)| !rows.is_empty());
    let texts = filled.map(|(Table { title, head }, rows)| {
        let rows: String = rows.values().map(|row| format!("{row}\n")).collect();
        format!("{title}\n{head}{rows}")
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// A table's rows by their first cells.
fn rows_of(page: &str, table: Table) -> BTreeMap<String, String> {
    let after = page.lines().skip_while(|line| *line != table.title).skip(1);
    let own = after.take_while(|line| !line.starts_with('#'));
    let rows = own.skip_while(|line| !line.starts_with("|---")).skip(1);
    rows.filter(|line| line.starts_with('|')).map(|row| (name_of(row), row.to_owned())).collect()
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
guest: backends PHP-FPM 7.4.33, Puma 4.3.8
exit            raw_tp:sched_process_exit
icmp-error      none
12 of 13 kernel signals have a provider; no nginx runs here now; `ngx502 trace` waits for one.
test verdict::refused-nobody              ... ok
test verdict::tls-to-plain                ... FAILED
test backend::puma-worker-exit-tcp        ... ok
test lab::refused-nobody                  ... ok
";

    fn findings() -> Findings {
        let mut findings = Findings::default();
        CONSOLE.lines().for_each(|line| findings.add(line));
        findings
    }

    #[test]
    fn a_console_becomes_rows() {
        let guest = "| debian11 | 5.10.0-46-cloud-amd64 | 1.18.0 | 12 of 13 | icmp-error | 1/2 |";
        let backends = "| debian11 | PHP-FPM 7.4.33, Puma 4.3.8 | 1/1 |";
        let rows = [(GUESTS.title, guest.to_owned()), (BACKENDS.title, backends.to_owned())];
        assert_eq!(findings().rows(Release::Debian11), rows);
        assert!(Findings::default().rows(Release::Debian11).is_empty());
    }

    #[test]
    fn a_new_row_replaces_only_its_own_release() {
        let page = updated(String::new(), Release::Debian12, &findings());
        let page = updated(page, Release::Debian11, &findings());
        let better = Findings { verdicts: Score { right: 2, all: 2 }, ..findings() };
        let page = updated(page, Release::Debian12, &better);
        assert_eq!(page.matches("| debian12 | 5.10").count(), 1);
        assert!(page.contains("| 2/2 |") && page.contains("| debian11 | 5.10"), "{page}");
        assert!(page.starts_with(GUESTS.title));
    }

    #[test]
    fn each_table_keeps_its_rows() {
        let page = updated(String::new(), Release::Sid, &findings());
        let page = with_row(&page, BUILDS.title, "| `lto` | 24/24 |".to_owned());
        // A run without the backends leaves what is known of them.
        let without = Findings { with_backends: Score::default(), ..findings() };
        let page = updated(page, Release::Sid, &without);
        let (guests, rest) = page.split_once(BACKENDS.title).expect("a second table");
        let (backends, builds) = rest.split_once(BUILDS.title).expect("a third table");
        assert!(guests.contains("| sid | 5.10") && backends.contains("| sid | PHP-FPM"), "{page}");
        assert!(builds.contains("| `lto` | 24/24 |") && !builds.contains("| sid |"), "{page}");
    }
}
