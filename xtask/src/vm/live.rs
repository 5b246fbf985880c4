//! What a guest is to do: the live tests, or a command.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::image::{self, Image};
use crate::{build, exec};

/// The line before a benchmark's result.
pub(crate) const BENCH_BEGIN: &str = "guest bench: begin";
/// The line after it.
pub(crate) const BENCH_END: &str = "guest bench: end";

/// A shell script and the files that it needs.
pub(crate) struct Errand {
    script: String,
    /// Static programs; in the guest they are where they are here, since tests have such paths compiled in.
    programs: Vec<PathBuf>,
    /// Whether what is found belongs into the tables of what is supported.
    recorded: bool,
}

impl Errand {
    /// Runs `command`, a line of shell that finds `ngx502` and the live tests (`live`) in its PATH.
    ///
    /// # Errors
    /// If they do not build.
    pub(crate) fn command(command: &str) -> Result<Self> {
        let programs = build_tests()?;
        let mut script = prologue();
        for program in &programs {
            let name = file_name(program);
            let name = if name.starts_with(TESTS) { "live" } else { &name };
            let (program, name) = (quote(&program.to_string_lossy()), quote(name));
            script += &format!("ln -s {program} /usr/local/bin/{name}\n");
        }
        script += &format!("{command}\n");
        Ok(Self { script, programs, recorded: false })
    }

    /// Runs the benchmark with bcc's tools beside ngx502, and puts its result between [`BENCH_BEGIN`] and [`BENCH_END`].
    ///
    /// # Errors
    /// If ngx502 does not build.
    pub(crate) fn bench() -> Result<Self> {
        let (xtask, tracer) = (std::env::current_exe()?, build::release()?);
        let mut script = prologue();
        let bench = "bench --no-setup --no-write --no-hooks --no-replay --idle 0s --time 5s --rounds 5 --rival-rounds 3 --scenario short \
                     --tool ngx502,no-latency,tcpconnlat,tcplife,tcpstates";
        let (program, binary) = (quote(&xtask.to_string_lossy()), quote(&tracer.to_string_lossy()));
        script += &format!("{program} {bench} --binary {binary} >/tmp/result || exit\n");
        script += &format!("echo '{BENCH_BEGIN}'; cat /tmp/result; echo '{BENCH_END}'\n");
        Ok(Self { script, programs: vec![xtask, tracer], recorded: false })
    }

    /// Whether what is found belongs into the tables of what is supported.
    pub(crate) fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// Builds the live tests and runs a choice of them; unless `allow_skips`, one that cannot run fails.
    ///
    /// # Errors
    /// If they do not build.
    pub(crate) fn tests(choice: &Choice<'_>, allow_skips: bool) -> Result<Self> {
        let programs = build_tests()?;
        let tests = programs.iter().find(|path| file_name(path).starts_with(TESTS));
        let tests = tests.context("cargo built no test program named live")?;
        let mut script = prologue();
        if !allow_skips {
            script.push_str("export NGX502_NO_SKIPS=1\n");
        }
        let tracer = programs.iter().find(|path| file_name(path) == "ngx502");
        let tracer = tracer.context("cargo built no program named ngx502")?;
        // What the kernel offers belongs to the result; no nginx runs yet, so it cannot fail for one's sake. A kernel
        // that offers nothing is refused, which is for a test to show.
        script += &format!(
            "case $(cat /proc/cmdline) in *lockdown=confidentiality*) ;; *) {} doctor --format human || exit ;; esac\n",
            quote(&tracer.to_string_lossy())
        );
        // Emulated, two trials at once keep each other from their deadlines, and each sees the other's probes come and go.
        let tests = format!("{} --test-threads 1", quote(&tests.to_string_lossy()));
        match choice {
            Choice::OfTheKernel | Choice::Whole | Choice::Brief { .. } => {
                // Bullseye's AppArmor compiles profiles for an older kernel, which had no rules for the network.
                script += "case $(cat /etc/debian_version) in 11*) old='--skip policy::apparmor' ;; esac\n";
                script += &format!("{tests} $old");
                let without = matches!(choice, Choice::OfTheKernel | Choice::Brief { crit: true });
                let backends = without.then_some(BACKENDS);
                let brief: &[&str] = match choice {
                    Choice::Brief { crit: true } => &SAME_EVERYWHERE[1..],
                    Choice::Brief { crit: false } => &SAME_EVERYWHERE,
                    _ => &[],
                };
                let skipped = SKIPPED.into_iter().chain(backends).chain(brief.iter().copied());
                skipped.for_each(|name| script += &format!(" --skip {name}"));
                script.push('\n');
            }
            Choice::Containing(part) => script += &format!("{tests} {}\n", quote(part)),
            // The runner takes one name at a time.
            Choice::Named(names) => {
                script += "failed=0\n";
                for name in *names {
                    script += &format!("{tests} --exact {} || failed=1\n", quote(name));
                }
                script += "exit $failed\n";
            }
        }
        let recorded = match choice {
            Choice::OfTheKernel | Choice::Whole => true,
            Choice::Containing(part) => [VERDICTS, BACKENDS].contains(part),
            Choice::Named(_) | Choice::Brief { .. } => false,
        };
        Ok(Self { script, programs, recorded })
    }

    /// Appends script and programs to `image`'s root and returns the initramfs of both.
    pub(crate) fn pack(&self, image: &Image) -> Result<PathBuf> {
        let staging = tempfile::tempdir_in(&image.folder)?;
        fs::create_dir(staging.path().join("guest"))?;
        fs::write(staging.path().join("guest/errand"), &self.script)?;
        for program in &self.programs {
            let place = staging.path().join(program.strip_prefix("/").unwrap_or(program));
            fs::create_dir_all(place.parent().context("a program is in a folder")?)?;
            // Without debug information: the guest holds it in memory.
            let mut strip = Command::new("strip");
            exec::run(strip.arg("--strip-debug").arg("-o").arg(&place).arg(program))?;
            fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
        }
        let errand = image.folder.join("errand.cpio");
        image::pack(staging.path(), &errand)?;
        // The kernel unpacks archives that follow each other one over the other.
        let initrd = image.folder.join("initrd");
        let mut out = File::create(&initrd)?;
        for part in [&image.root, &errand] {
            io::copy(&mut File::open(part)?, &mut out)?;
            pad(&mut out)?;
        }
        Ok(initrd)
    }
}

/// Which live tests a guest runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice<'a> {
    /// All that another kernel may change.
    OfTheKernel,
    /// The same, and the real backends in the release's versions.
    Whole,
    /// What another kernel is most likely to change, for a run that is to end soon: with nginx's log hidden, or else with the
    /// real backends.
    Brief {
        /// With nginx's log hidden.
        crit: bool,
    },
    /// Those whose names contain this.
    Containing(&'a str),
    /// These.
    Named(&'a [&'a str]),
}

/// The live tests that the table of supported kernels counts.
const VERDICTS: &str = "verdict::";

/// The file name of the live tests, without the hash that cargo appends.
const TESTS: &str = "live-";

/// Real backends through their ways to fail.
const BACKENDS: &str = "backend::";

/// Families of tests that another kernel does not change: the faults without a tracer, levels of nginx's log, captures,
/// OpenSSL's words; and those that need more than a guest has: hours of CPU, Docker, a disk that overlays can be made on.
const SKIPPED: [&str; 7] = ["lab::", "level::", "capture::", "chaos::", "tls::", "docker::", "strangers::"];

/// Tests that only a whole run repeats in a guest: nginx's log hidden, and rows that nginx's own words decide, or that show
/// nothing.
const SAME_EVERYWHERE: [&str; 17] = [
    "crit::",
    "verdict::auth-request",
    "verdict::fastcgi",
    "verdict::grpc",
    "verdict::header",
    "verdict::name-",
    "verdict::silent-cached",
    "verdict::silent-fastcgi",
    "verdict::silent-http09",
    "verdict::silent-limit",
    "verdict::silent-mirror",
    "verdict::silent-return",
    "verdict::static-error",
    "verdict::status",
    "verdict::storage",
    "verdict::truncated-chunk",
    "verdict::upgraded",
];

/// What every errand begins with: the tests' environment, and the folder that cargo would start them in.
fn prologue() -> String {
    let package = exec::workspace().join("ngx502");
    // TCG is about ten times slower than the machine itself.
    format!(
        "export RUST_BACKTRACE=1 NGX502_TEST_SLOWNESS=10\nmkdir -p {0} /usr/local/bin && cd {0} || exit\n",
        quote(&package.to_string_lossy())
    )
}

/// Zeros up to a multiple of four bytes, where the kernel looks for the next archive.
fn pad(out: &mut File) -> Result<()> {
    let len = out.metadata()?.len();
    out.set_len(len.next_multiple_of(4))?;
    io::Seek::seek(out, io::SeekFrom::End(0))?;
    Ok(())
}

/// Builds the live tests and the program that they run; both are static.
fn build_tests() -> Result<Vec<PathBuf>> {
    let mut cargo = exec::cargo("test");
    cargo.args([
        "--no-run",
        "--package",
        "ngx502",
        "--test",
        "live",
        "--message-format=json-render-diagnostics",
    ]);
    let mut programs = Vec::new();
    eprintln!("+ cargo test --no-run --package ngx502 --test live");
    let output = cargo.stderr(Stdio::inherit()).output().context("cargo does not start")?;
    if !output.status.success() {
        bail!("the live tests do not build ({}); see cargo's messages above", output.status);
    }
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).context("a message of cargo's is no JSON")?;
        programs.extend(message["executable"].as_str().map(PathBuf::from));
    }
    Ok(programs)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// `word` as one word of shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_survive_the_shell() {
        let word = "it's $HOME; `ls` \"x\"";
        let echoed =
            exec::read(Command::new("sh").args(["-c", &format!("printf %s {}", quote(word))])).unwrap();
        assert_eq!(echoed, word);
    }

    #[test]
    fn archives_start_at_multiples_of_four() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"12345").unwrap();
        pad(&mut file).unwrap();
        io::Write::write_all(&mut file, b"x").unwrap();
        assert_eq!(file.metadata().unwrap().len(), 9);
    }
}
