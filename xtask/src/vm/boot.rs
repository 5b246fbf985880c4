//! QEMU: from power-on to the guest's verdict, with a deadline.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const VERDICT: &str = "guest verdict: ";

/// How a line begins that tells of a guest which fell over and was booted once more.
pub(crate) const FELL_OVER: &str = "guest fell over: ";

/// How many of its last lines are told.
const LAST_LINES: usize = 12;

/// How much memory a guest has, in MiB: its root is held in it too.
const MEMORY: &str = "2048";

/// A guest that is ready to boot.
pub(crate) struct Machine {
    /// The kernel.
    pub(crate) kernel: PathBuf,
    /// Root and errand.
    pub(crate) initrd: PathBuf,
    /// Where the console's output is kept.
    pub(crate) log: PathBuf,
    /// How long it may run.
    pub(crate) deadline: Duration,
    /// What the kernel is told besides the usual, e.g. `lockdown=integrity`.
    pub(crate) options: String,
}

impl Machine {
    /// Boots, passes the console on, keeps it in the log, and in the end gives each line to `each_line`.
    ///
    /// A guest that ended without a verdict is booted once more, and its last lines are told: QEMU's emulation can run code
    /// that the kernel has replaced since (it patches itself by breakpoints as a tracepoint is switched on: "Oops: int3",
    /// seen with Linux 7.2 on QEMU 7.2). A kernel that we bring down falls twice.
    ///
    /// # Errors
    /// If the guest's verdict is not PASS, or it has none by the deadline.
    pub(crate) fn boot(&self, each_line: &mut dyn FnMut(&str)) -> Result<()> {
        let mut console = Vec::new();
        let mut verdict = self.run(&mut console);
        if let Ok(None) = verdict {
            let last = console.len().saturating_sub(LAST_LINES);
            for line in &console[last..] {
                println!("{FELL_OVER}{line}");
                each_line(&format!("{FELL_OVER}{line}"));
            }
            console.clear();
            verdict = self.run(&mut console);
        }
        console.iter().for_each(|line| each_line(line));
        match verdict?.as_deref() {
            Some("PASS") => Ok(()),
            Some(verdict) => bail!("verdict {verdict}; its console is in {}", self.log.display()),
            None => bail!("it ended without a verdict, twice; its console is in {}", self.log.display()),
        }
    }

    /// Runs QEMU to its end; the guest's verdict, if it had one.
    fn run(&self, console: &mut Vec<String>) -> Result<Option<String>> {
        fs::create_dir_all(self.log.parent().context("a log is in a folder")?)?;
        let mut log = File::create(&self.log).with_context(|| self.log.display().to_string())?;
        let mut qemu = Running(self.start()?);
        let stdout = qemu.0.stdout.take().context("standard output was asked to be a pipe")?;
        let lines = lines(BufReader::new(stdout));
        let end = Instant::now() + self.deadline;
        let mut verdict = None;
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    println!("{line}");
                    writeln!(log, "{line}")?;
                    // The last one counts: what a test prints cannot pass for the end.
                    verdict = line.strip_prefix(VERDICT).map(str::to_owned).or(verdict);
                    console.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "no verdict after {} s; its console is in {}",
                        self.deadline.as_secs(),
                        self.log.display()
                    );
                }
            }
        }
        Ok(verdict)
    }

    fn start(&self) -> Result<Child> {
        // TCG although there may be KVM: it behaves alike everywhere, and nested KVM may hang.
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg", "-m", MEMORY, "-smp", "2", "-no-reboot", "-nic", "none"]);
        qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        // A busy host delays the timer's first ticks so much that the kernel would take it for broken and panic.
        let options = format!("console=ttyS0 panic=-1 quiet no_timer_check {}", self.options);
        qemu.args(["-append", options.trim_end()]);
        eprintln!("+ {qemu:?}");
        let started = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        started.context("qemu-system-x86_64 does not start; run `cargo xtask setup`")
    }
}

/// QEMU, which does not outlive our interest in it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The console's lines, without the carriage returns of a serial line, until QEMU ends.
fn lines(console: impl BufRead + Send + 'static) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in console.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if send.send(line).is_err() {
                break;
            }
        }
    });
    receive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_their_carriage_returns_and_survive_garbage() {
        let console: &[u8] = b"one\r\n\xff\r\nlast";
        assert_eq!(lines(console).iter().collect::<Vec<_>>(), ["one", "\u{fffd}", "last"]);
    }
}
