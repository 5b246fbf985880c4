//! ngx502, the command: parse, run, turn the result into an exit status.

mod cli;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Command};
use ngx502::commands::{chart, doctor, explain, export, replay, report, trace};

fn main() -> ExitCode {
    let Cli { verbose, command } = Cli::parse();
    start_log(verbose);
    let result = match command {
        Command::Trace(args) => trace::run(&args.options(verbose)),
        Command::Replay(args) => replay::run(&args.options(verbose)),
        Command::Report(args) => report::run(&args.options()),
        Command::Chart(args) => chart::run(&args.options()),
        Command::Export(args) => export::run(&args.options()),
        Command::Doctor(args) => {
            doctor::run(cli::format_or_default(args.format), args.cost, &mut io::stdout().lock())
        }
        Command::Explain(args) => {
            explain::run(args.name.as_deref(), &mut io::stdout().lock(), cli::use_color())
        }
        Command::Man(args) => cli::man(args.command.as_deref(), &mut io::stdout().lock()).map_err(Into::into),
        Command::Completions(args) => {
            cli::completions(args.shell, &mut io::stdout().lock()).map_err(Into::into)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ngx502: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Diagnostics on standard error: warnings by default, `-v` and `-vv` for more; `RUST_LOG` overrides.
fn start_log(verbose: u8) {
    let level = ["warn", "info,ngx502=debug", "debug"][usize::from(verbose.min(2))];
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
}

/// A reader that went away (`ngx502 trace | head`) is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(ngx502::sink::is_broken_pipe))
}
