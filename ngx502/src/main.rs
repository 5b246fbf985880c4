//! ngx502, the command: parse, run, turn the result into an exit status.

mod cli;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Command};
use ngx502::commands::{self, chart, doctor, explain, export, replay, report, trace};
use ngx502::escape;

fn main() -> ExitCode {
    let Cli { verbose, command } = Cli::parse();
    start_log(verbose);
    let out = || io::stdout().lock();
    let result = match command {
        Command::Trace(options) => trace::run(&options, verbose),
        Command::Replay(options) => replay::run(&options, verbose),
        Command::Report(options) => report::run(&options),
        Command::Chart(options) => chart::run(&options),
        Command::Export(options) => export::run(&options),
        Command::Doctor(options) => doctor::run(&options, &mut out()),
        Command::Explain { name } => explain::run(name.as_deref(), &mut out(), commands::use_color()),
        Command::Man { command } => cli::man(command.as_deref(), &mut out()).map_err(Into::into),
        Command::Completions { shell } => cli::completions(shell, &mut out()).map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ngx502: {}", escape::terminal(format!("{error:#}").as_bytes()));
            ExitCode::FAILURE
        }
    }
}

/// Diagnostics on standard error: warnings by default, `-v` and `-vv` for more; `RUST_LOG` overrides.
fn start_log(verbose: u8) {
    let level = ["warn", "info,ngx502=debug", "debug"][usize::from(verbose.min(2))];
    let mut log = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level));
    // Messages name what strangers named: it must neither reach the terminal as a command nor forge a line.
    log.format(|out, record| {
        let message = record.args().to_string();
        let (time, level) = (out.timestamp_millis(), record.level());
        writeln!(out, "[{time} {level} {}] {}", record.target(), escape::terminal(message.as_bytes()))
    });
    log.init();
}

/// A reader that went away (`ngx502 trace | head`) is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(ngx502::sink::is_broken_pipe))
}
