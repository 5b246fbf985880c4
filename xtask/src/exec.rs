//! Running other programs: every command line is shown, every failure names it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::{env, io};

use anyhow::{Context, Result, anyhow, bail};

/// Shows `command`, runs it with our standard streams and returns how it ended.
///
/// # Errors
/// If the program does not start.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    let line = announce(command);
    command.status().with_context(|| format!("`{line}` does not start"))
}

/// Like [`status`], but anything except success is an error.
///
/// # Errors
/// If the program does not start or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    check(command, status)
}

/// Runs `command` without showing it and returns its standard output: for questions, not for deeds.
///
/// # Errors
/// If the program does not start or fails; then with what it wrote to standard error.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("`{}` does not start", line(command)))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    check(command, output.status).with_context(|| errors.trim().to_owned())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Shows and runs `command`; both its output streams are passed on unchanged, and given to `each_line` as they come.
///
/// # Errors
/// If the program does not start or its output cannot be read. How it ended is the caller's to judge.
pub(crate) fn tee(command: &mut Command, mut each_line: impl FnMut(&str)) -> Result<ExitStatus> {
    let shown = announce(command);
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().with_context(|| format!("`{shown}` does not start"))?;
    let (send, lines) = mpsc::channel();
    let stdout = child.stdout.take().context("standard output was asked to be a pipe")?;
    let stderr = child.stderr.take().context("standard error was asked to be a pipe")?;
    let readers = [pass_on(stdout, io::stdout(), send.clone()), pass_on(stderr, io::stderr(), send)];
    for line in lines {
        each_line(&line);
    }
    for reader in readers {
        let read = reader.join().map_err(|_| anyhow!("a reader of `{shown}` panicked"))?;
        read.with_context(|| format!("passing on the output of `{shown}`"))?;
    }
    child.wait().with_context(|| format!("waiting for `{shown}`"))
}

/// Copies `from` to `to` line by line on a thread of its own, and a copy of each line to `lines`.
fn pass_on(
    from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    lines: mpsc::Sender<String>,
) -> JoinHandle<io::Result<()>> {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let mut line = line?;
            // The receiver is gone only if the caller has failed, and then it says why.
            let _ = lines.send(String::from_utf8_lossy(&line).into_owned());
            line.push(b'\n');
            to.write_all(&line)?;
            to.flush()?;
        }
        Ok(())
    })
}

/// Where PATH, or the folders of root that a user's PATH may lack, hold `program`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs.map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// `program` as root: as it is for root, else through sudo with this environment.
pub(crate) fn as_root(program: impl AsRef<Path>) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program.as_ref());
    }
    let mut command = Command::new("sudo");
    command.arg("--preserve-env").arg(program.as_ref());
    command
}

/// The workspace's folder, where every chore runs.
pub(crate) fn workspace() -> PathBuf {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_dir.parent().unwrap_or(manifest_dir).to_owned()
}

/// Cargo as it called us, in the workspace.
pub(crate) fn cargo(verb: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(verb).current_dir(workspace());
    command
}

fn announce(command: &Command) -> String {
    let line = line(command);
    eprintln!("+ {line}");
    line
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// The command line as a person would type it, arguments with spaces in quotes.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| match word.to_string_lossy() {
        word if word.is_empty() || word.contains(char::is_whitespace) => format!("'{word}'"),
        word => word.into_owned(),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command() {
        let error = run(Command::new("false").arg("two words")).unwrap_err();
        assert!(error.to_string().starts_with("`false 'two words'` failed: exit status: 1"), "{error}");
    }

    #[test]
    fn a_failed_question_says_what_the_program_said() {
        let error = read(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "no such thing");
    }

    #[test]
    fn tee_sees_both_streams_even_without_a_last_newline() {
        let mut lines = Vec::new();
        let mut shell = Command::new("sh");
        let status =
            tee(shell.args(["-c", "echo one; printf two >&2; exit 3"]), |line| lines.push(line.to_owned()))
                .unwrap();
        assert_eq!(status.code(), Some(3));
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
    }
}
