//! The real `ngx502 trace`, its output passed on as it comes and read along.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::lab::wait::scaled;

/// Attaching means reading the kernel's BTF and verifying every program; a verdict takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running tracer; killed when this drops.
pub(super) struct Tracer {
    child: Child,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
}

impl Tracer {
    /// Traces the nginx with this master into `capture`, and waits until nothing is missed any more.
    pub(super) fn start(program: &Path, master: u32, capture: &Path) -> Result<Self> {
        let (ours, theirs) = channel_for_output()?;
        let mut command = Command::new(program);
        command
            .args(["trace", "--format", "human", "--pid", &master.to_string(), "--force", "-o"])
            .arg(capture);
        let child = command
            .stdin(Stdio::null())
            .stdout(theirs)
            .spawn()
            .with_context(|| format!("{} cannot be run", program.display()))?;
        // It holds our copy of the terminal's other side, whose last close ends the reader.
        drop(command);
        let (send, lines) = channel();
        let reader = thread::spawn(move || {
            for line in BufReader::new(ours).split(b'\n').map_while(Result::ok) {
                show(&line);
                // The receiver is gone only when the demo has failed, and then it says why.
                let _ = send.send(plain(&String::from_utf8_lossy(&line)));
            }
        });
        let mut tracer = Self { child, lines, reader: Some(reader) };
        tracer.wait_for("that the tracer is ready", |line| line.starts_with("ready: "))?;
        tracer.wait_for("the empty line after it", str::is_empty)?;
        Ok(tracer)
    }

    /// Waits for the verdict of the request `uri`: its lines up to the empty one.
    pub(super) fn block_of(&mut self, uri: &str) -> Result<String> {
        let mut block = self.wait_for(&format!("a verdict on {uri}"), |line| is_headline(line, uri))?;
        loop {
            let line = self.wait_for("the verdict's end", |_| true)?;
            if line.is_empty() {
                return Ok(block);
            }
            block += "\n";
            block += &line;
        }
    }

    /// Ends it as Ctrl-C would, and waits until its summary is shown.
    pub(super) fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGINT)?;
        let status = self.child.wait()?;
        if let Some(reader) = self.reader.take() {
            reader.join().map_err(|_| anyhow!("the reader of the tracer's output panicked"))?;
        }
        if !status.success() {
            bail!("the tracer ended with {status}, not with 0");
        }
        Ok(())
    }

    fn wait_for(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + scaled(PATIENCE);
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if wanted(&line) => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("waited {:?} in vain for {what}", scaled(PATIENCE)),
                Err(RecvTimeoutError::Disconnected) => bail!("the tracer ended; waited in vain for {what}"),
            }
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It has ended already after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the tracer writes to: a pseudo-terminal as wide as ours, so that it uses colour and lays text out as it would
/// without us; a pipe where our output is no terminal.
fn channel_for_output() -> Result<(File, OwnedFd)> {
    let width = terminal_size::terminal_size().filter(|_| io::stdout().is_terminal());
    let Some((width, height)) = width else {
        let (ours, theirs) = io::pipe().context("no pipe can be made")?;
        return Ok((OwnedFd::from(ours).into(), theirs.into()));
    };
    let size = Winsize { ws_row: height.0, ws_col: width.0, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).context("no pseudo-terminal can be made")?;
    Ok((pty.master.into(), pty.slave))
}

fn show(line: &[u8]) {
    let mut out = io::stdout().lock();
    // A reader that went away (`| head`) ends the demo at its own next line.
    let _ = out.write_all(line).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
}

/// Whether a verdict on the request of `uri` begins with this line, which ends the URI with `…` where it is too narrow.
fn is_headline(line: &str, uri: &str) -> bool {
    let Some((_, rest)) = line.split_once(" GET ") else { return false };
    let shown = rest.split(' ').next().unwrap_or_default();
    shown == uri || shown.strip_suffix('…').is_some_and(|begin| !begin.is_empty() && uri.starts_with(begin))
}

/// A line without colours and carriage return.
fn plain(line: &str) -> String {
    let mut text = String::new();
    for (index, part) in line.trim_end_matches('\r').split("\x1b[").enumerate() {
        text += if index == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_headline_is_known_also_where_it_was_cut() {
        let uri = "/rescued-by-retry/14";
        assert!(is_headline("200 rescued  23:40:37.180Z  GET /rescued-by-retr…  host lab.test", uri));
        assert!(is_headline("200 rescued  23:40:37.180Z  GET /rescued-by-retry/14", uri));
        assert!(!is_headline("200 rescued  23:40:37.180Z  GET /rescued-by-retry/1  host lab.test", uri));
        assert!(!is_headline("502  23:40:37.180Z  GET /refused-nob…", uri));
        assert!(!is_headline("502  23:40:37.180Z  GET …", uri));
        assert!(!is_headline("     a retry of /rescued-by-retry/14", uri));
    }

    #[test]
    fn colours_are_taken_off() {
        assert_eq!(plain("a → \x1b[1mkilled, proven\x1b[0m.\r"), "a → killed, proven.");
    }
}
