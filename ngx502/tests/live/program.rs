//! A program that a trial starts beside nginx.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A running program, killed when this drops.
#[derive(Debug)]
pub(crate) struct Program(Child);

impl Program {
    /// Starts it without a terminal; what it writes is not kept. Its input stays open.
    pub(crate) fn start(command: &mut Command) -> Result<Program> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Program).with_context(|| format!("{command:?} cannot be started"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
