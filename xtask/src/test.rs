//! `cargo xtask test`: unit tests, live tests here, live tests in guests; then one line that counts them all.

use std::env;
use std::fmt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::setup::{self, Task};
use crate::vm::{self, Choice, Release, Visit};
use crate::{build, builds, exec};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run all tests in every guest, those of a locked-down kernel too, and test nginx as others build it.
    #[arg(long)]
    all: bool,
    /// Boot no guest.
    #[arg(long, conflicts_with = "all")]
    no_guests: bool,
    /// A skipped test fails the run; so it is where CI is set.
    #[arg(long)]
    no_skips: bool,
    /// Run only the tests whose name contains this.
    filter: Option<String>,
}

/// Runs the tests.
///
/// # Errors
/// If one fails or does not build, or one is skipped where none may be.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Task::Test)?;
    let filter = args.filter.as_deref();
    let mut run = Run::default();
    run.unit(filter)?;
    run.live(filter, args.allow_skips())?;
    if args.all && filter.is_none() {
        let count = &mut run.count;
        let failed = builds::test(args.allow_skips(), &mut |line| count.add(line))?;
        run.failed.extend(failed);
    }
    if !args.no_guests {
        let count = &mut run.count;
        let failed = vm::test(&visits(args.all, filter), args.allow_skips(), &mut |line| count.add(line))?;
        run.failed.extend(failed);
    }
    run.finish(args.allow_skips())
}

/// The guests of a run: the oldest and the commonest kernel by what depends on it most, the latter with real backends, the
/// newest two by a few tests; all of them whole on demand. A filter is for one change, which one guest shows.
fn visits(all: bool, filter: Option<&str>) -> Vec<Visit<'_>> {
    match (all, filter) {
        (true, Some(part)) => Release::value_variants()
            .iter()
            .map(|guest| Visit { choice: Choice::Containing(part), ..Visit::full(*guest) })
            .collect(),
        (false, Some(part)) => {
            vec![Visit { choice: Choice::Containing(part), ..Visit::full(Release::Debian12) }]
        }
        (true, None) => {
            let others = [
                Visit::with_systemd(Release::Debian12),
                Visit::with_systemd(Release::Sid),
                Visit::locked_down(Release::Debian12),
                Visit::confidential(Release::Debian12),
            ];
            Release::value_variants().iter().map(|guest| Visit::whole(*guest)).chain(others).collect()
        }
        (false, None) => vec![
            Visit::brief(Release::Debian11, true),
            Visit::brief(Release::Debian12, false),
            Visit::with_systemd(Release::Debian12),
            Visit::smoke(Release::Debian13),
            Visit::smoke(Release::Sid),
        ],
    }
}

impl Args {
    fn allow_skips(&self) -> bool {
        !self.no_skips && env::var_os("CI").is_none_or(|ci| ci == "false")
    }
}

/// What the runners said so far.
#[derive(Default)]
struct Run {
    count: Count,
    /// Runs that failed, which a crash does without a failed test.
    failed: Vec<String>,
}

impl Run {
    /// Everything that needs neither root nor nginx.
    fn unit(&mut self, filter: Option<&str>) -> Result<()> {
        const CRATES: [&str; 3] = ["--workspace", "--exclude", "ngx502-ebpf"];
        let tests = integration_tests()?;
        let mut targets = [&CRATES[..], &["--lib", "--bins"]].concat();
        for test in tests.iter().filter(|test| *test != "live") {
            targets.extend(["--test", test]);
        }
        self.cargo("unit tests", exec::cargo("test").args(targets), filter)?;
        self.cargo("documentation tests", exec::cargo("test").args(CRATES).arg("--doc"), filter)
    }

    /// The tracer on this machine's kernel and nginx, as root.
    fn live(&mut self, filter: Option<&str>, allow_skips: bool) -> Result<()> {
        let mut cargo = exec::cargo("test");
        cargo.args(["--package", "ngx502", "--test", "live"]);
        if !allow_skips {
            cargo.env("NGX502_NO_SKIPS", "1");
        }
        self.cargo("live tests", build::test_as_root(&mut cargo)?, filter)
    }

    /// Runs tests to the end even if one fails, and counts.
    fn cargo(&mut self, name: &str, cargo: &mut Command, filter: Option<&str>) -> Result<()> {
        cargo.arg("--no-fail-fast").args(filter).env("PATH", path()?);
        if !exec::tee(cargo, |line| self.count.add(line))?.success() {
            self.failed.push(name.to_owned());
        }
        Ok(())
    }

    /// Closes the run with the line that counts it.
    fn finish(&self, allow_skips: bool) -> Result<()> {
        // Once more, since thousands of lines are between, and whoever reads may have the last ones only.
        self.count.failures.iter().for_each(|line| println!("{line}"));
        println!("{}", self.count);
        if !self.failed.is_empty() {
            bail!("failed: {}", self.failed.join("; "));
        }
        if self.count.failed > 0 {
            bail!("{} tests failed", self.count.failed);
        }
        if !allow_skips && self.count.all_skipped() > 0 {
            bail!("{} tests were skipped, and here none may be", self.count.all_skipped());
        }
        Ok(())
    }
}

/// Sums of the runners' closing lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Those that the runners count as passed.
    skipped_passes: u64,
    /// Measurements and makers of fixtures, which the runners count as ignored: no tests that should have run.
    on_demand: u64,
    /// The runners' lines about failed tests with the first one of their reasons, and what a kernel said as it fell over.
    failures: Vec<String>,
    /// The line before opened the reason of a failed test.
    reason_follows: bool,
}

/// As much of a reason is repeated: one may hold a whole verdict.
const REASON_CHARS: usize = 2_000;

/// How a kernel's last words begin.
const LAST_WORDS: [&str; 4] = ["Kernel panic", "BUG: ", "Oops: ", "Out of memory"];

impl Count {
    fn all_skipped(&self) -> u64 {
        self.skipped.saturating_sub(self.on_demand) + self.skipped_passes
    }

    /// Adds `line` if it is one: `test result: ok. 3 passed; 0 failed; 1 ignored; …`. A live test that finds when it
    /// runs that it cannot says `skipped: …`, and its runner counts it as passed. What is marked
    /// `#[ignore = "on demand: …"]` is told with that reason before.
    fn add(&mut self, line: &str) {
        self.on_demand += u64::from(line.starts_with("test ") && line.contains(" ... ignored, on demand: "));
        self.skipped_passes += u64::from(line.starts_with("skipped: "));
        let failed = line.starts_with("test ") && line.ends_with(" ... FAILED");
        let reason = std::mem::replace(
            &mut self.reason_follows,
            line.starts_with("---- ") && line.trim_end().ends_with(" ----"),
        );
        let fell_over =
            line.starts_with(vm::FELL_OVER) || LAST_WORDS.iter().any(|words| line.contains(words));
        if failed || reason || fell_over {
            self.failures.push(line.chars().take(REASON_CHARS).collect());
        }
        let Some((_, result)) = line.split_once("test result: ") else { return };
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(number)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.passed.saturating_sub(self.skipped_passes);
        write!(f, "{passed} passed, {} failed, {} skipped", self.failed, self.all_skipped())
    }
}

/// The test programs below `ngx502/tests`: files, and folders with a `main.rs`.
fn integration_tests() -> Result<Vec<String>> {
    let folder = exec::workspace().join("ngx502/tests");
    let mut names = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        let is_file = path.extension().is_some_and(|extension| extension == "rs");
        if is_file || path.join("main.rs").exists() {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// PATH with our Python first, which has DuckDB.
fn path() -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = [setup::python().join("bin")].into_iter().chain(env::split_paths(&path));
    env::join_paths(dirs).context("a folder of PATH has a colon in its name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_the_runners_closing_lines() {
        let mut count = Count::default();
        count.add("running 3 tests");
        count.add(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.02s",
        );
        count.add(
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
        );
        assert_eq!(count.to_string(), "5 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn what_failed_is_kept_for_the_end() {
        let mut count = Count::default();
        let kept = [
            "test verdict::slow ... FAILED",
            "cause unknown, not of [\"slow\"]",
            "[   53.4] Kernel panic - not syncing: Fatal exception",
        ];
        for line in [
            "test verdict::refused ... ok",
            kept[0],
            "failures:",
            "---- verdict::slow ----",
            kept[1],
            "and more",
            kept[2],
        ] {
            count.add(line);
        }
        assert_eq!(count.failures, kept);
    }

    #[test]
    fn what_runs_on_demand_is_not_skipped_but_what_is_merely_ignored_is() {
        let mut count = Count::default();
        count.add("test report::tests::a_million ... ignored, on demand: a measurement");
        count.add("test report::tests::broken ... ignored, flaky");
        count.add(
            "test result: ok. 3 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.02s",
        );
        assert_eq!(count.to_string(), "3 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn a_test_that_skips_itself_is_not_passed() {
        let mut count = Count::default();
        count.add("skipped: no memory cgroup");
        count.add(
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
        );
        assert_eq!(count.to_string(), "1 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn other_lines_count_nothing() {
        let mut count = Count::default();
        count.add("test 5 passed ... ok");
        count.add("test result: unreadable");
        assert_eq!(count, Count::default());
    }
}
