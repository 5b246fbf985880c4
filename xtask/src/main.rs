//! Chores of ngx502: `cargo xtask setup · build · demo · docs · picture · lint · test · builds · vm · bench`.

mod bench;
mod build;
mod builds;
mod demo;
mod docs;
mod exec;
mod lint;
mod picture;
mod setup;
mod test;
mod vm;

#[path = "../../ngx502/build/toolchain.rs"]
mod toolchain;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(about = "Set-up, demo, tests and guests of ngx502", disable_help_subcommand = true)]
enum Chore {
    /// Install what a task needs and this machine lacks.
    Setup(setup::Args),
    /// Build the static release binary.
    Build,
    /// Show the tracer at work on an nginx with upstreams that fail in a dozen ways.
    Demo(demo::Args),
    /// Write the tables of README.md and docs/ that come from `ngx502 explain`.
    Docs(docs::Args),
    /// Draw docs/verdict.svg, the picture of a verdict in README.md.
    Picture(picture::Args),
    /// Check formatting, lints and documentation.
    Lint,
    /// Run the tests here and in guests, and count them.
    Test(test::Args),
    /// Run live tests against nginx as others build it.
    Builds(builds::Args),
    /// Run the live tests in QEMU, on the kernels and with the nginx of Debian's releases.
    Vm(vm::Args),
    /// Measure what tracing costs, beside bpftrace and strace, and write docs/performance.md.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    // The lab's upstreams are processes of this program.
    xtask::lab::run_if_asked();
    let done = match Chore::parse() {
        Chore::Setup(args) => setup::run(&args),
        Chore::Build => build::run(),
        Chore::Demo(args) => demo::run(&args),
        Chore::Docs(args) => docs::run(&args),
        Chore::Picture(args) => picture::run(&args),
        Chore::Lint => lint::run(),
        Chore::Test(args) => test::run(&args),
        Chore::Builds(args) => builds::run(&args),
        Chore::Vm(args) => vm::run(&args),
        Chore::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Chore::command().debug_assert();
    }
}
