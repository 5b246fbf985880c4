//! `cargo xtask demo`: a disposable nginx, upstreams that fail in a dozen ways, and `ngx502 trace` explaining each.
//!
//! Nothing of the machine's own is touched: the lab starts an nginx with its own prefix and port on loopback, the tracer
//! is pointed at that one only, and all of it ends with this command, also by Ctrl-C. What is shown is the tracer's own
//! output as it comes; the demo only writes a heading before each fault, with the facts that only it can know (which
//! process it broke, and how), so that a reader can judge the verdict.

mod output;
mod scenes;
mod tracer;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use xtask::lab::Testbed;
use xtask::lab::faults::{Fault, Outcome};

use self::scenes::{SCENES, Scene};
use self::tracer::Tracer;
use crate::setup::{self, Task};
use crate::{build, exec};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Trace with this ngx502 instead of building one.
    #[arg(long, value_name = "PROGRAM")]
    tracer: Option<PathBuf>,
}

/// Runs the demo, as root through sudo where need be.
///
/// # Errors
/// If something cannot be installed, built or started, if a verdict does not come, or one names a wrong cause.
pub(crate) fn run(args: &Args) -> Result<()> {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root && exec::find("sudo").is_none() {
        bail!("the demo loads eBPF programs, which takes root, and there is no sudo here: run it as root");
    }
    let tracer = match &args.tracer {
        Some(path) => path.canonicalize().with_context(|| format!("there is no {}", path.display()))?,
        None => make_tracer()?,
    };
    let folder = exec::workspace().join("target/demo");
    // Before becoming root, so that it belongs to whoever called.
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    if is_root {
        return perform(&tracer, &folder);
    }
    println!("loading eBPF programs takes root: going on through sudo");
    let mut again = exec::as_root(env::current_exe().context("the path of the running program is unknown")?);
    exec::run(again.args(["demo", "--tracer"]).arg(&tracer)).context("the demo could not be run as root")
}

/// The development build: on a fresh machine it is there in a fraction of the time that optimising takes, a dozen requests
/// need no speed, and the BPF object is the same in both.
fn make_tracer() -> Result<PathBuf> {
    setup::ensure(Task::Demo)?;
    build::development()
}

fn perform(program: &Path, folder: &Path) -> Result<()> {
    catch_interrupts()?;
    let capture = folder.join("demo.ngx502");
    let played = play(program, &capture);
    if INTERRUPTED.load(Ordering::SeqCst) {
        bail!("interrupted; nginx, upstreams and tracer have been ended");
    }
    let wrong = played?;
    write_up(program, &capture, folder)?;
    if !wrong.is_empty() {
        bail!("not what was done to the upstream: the verdicts on {}", wrong.join(", "));
    }
    Ok(())
}

/// Set by Ctrl-C and SIGTERM; then everything that runs is ended by its handle.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interrupt(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Lets Ctrl-C and SIGTERM end the demo in order. (Blocking them instead would block them in every child.)
fn catch_interrupts() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(note_interrupt), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler stores to an atomic and does nothing else, which is safe at any point of the program.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("{signal} cannot be caught"))?;
    }
    Ok(())
}

/// Plays every scene and ends the tracer, which then sums up. Returns the scenes whose verdict named a wrong cause.
fn play(program: &Path, capture: &Path) -> Result<Vec<&'static str>> {
    let (faults, impossible): (Vec<_>, Vec<_>) = SCENES
        .iter()
        .map(|scene| (scene, Testbed::impossible(scene.fault())))
        .partition(|(_, why)| why.is_none());
    for (scene, why) in impossible {
        output::note(&format!("left out, `{}`: {}", scene.title, why.unwrap_or_default()));
    }
    let scenes: Vec<&Scene> = faults.into_iter().map(|(scene, _)| scene).collect();
    let rows: Vec<&'static Fault> = scenes.iter().map(|scene| scene.fault()).collect();
    let mut testbed = Testbed::start(&rows, |_| {})?;
    output::note(&format!(
        "a disposable nginx (master {}) on http://{}, with an upstream for each of {} faults",
        testbed.lab().master(),
        testbed.lab().address(),
        scenes.len()
    ));
    let mut tracer = Tracer::start(program, testbed.lab().master(), capture)?;
    let mut wrong = Vec::new();
    for (number, scene) in scenes.iter().enumerate() {
        if INTERRUPTED.load(Ordering::SeqCst) {
            break;
        }
        output::heading(number + 1, scenes.len(), scene.title);
        if !perform_scene(&mut testbed, &mut tracer, scene.fault())? {
            wrong.push(scene.fault().name);
        }
    }
    output::heading_of_the_end();
    tracer.stop()?;
    Ok(wrong)
}

/// Breaks the upstream, sends the request and waits for the verdict; true if that names one of the right causes.
fn perform_scene(testbed: &mut Testbed, tracer: &mut Tracer, fault: &Fault) -> Result<bool> {
    let upstreams: Vec<_> = (0..fault.peers.len())
        .map(|index| {
            let peer = testbed.peer(fault.name, index);
            match &peer.backend {
                Some(process) => format!("{} (pid {})", peer.address, process.pid()),
                None => format!("{} (nobody)", peer.address),
            }
        })
        .collect();
    output::note(&format!("upstream: {}", upstreams.join(", then ")));
    println!();
    testbed.inject(fault.name)?;
    let sent = testbed.fire(fault.name)?;
    let block = tracer.block_of(&sent.uri)?;
    let is_right = fault.expect.causes.iter().any(|cause| block.contains(&format!("→ {cause}, ")));
    let rescued = fault.expect.outcome == Outcome::Rescued;
    Ok(is_right && block.contains(" rescued ") == rescued)
}

/// Makes the report and the charts of the capture, as a user would afterwards.
fn write_up(program: &Path, capture: &Path, folder: &Path) -> Result<()> {
    let [page, causes, latency] = ["report.html", "causes.svg", "latency.svg"].map(|name| folder.join(name));
    println!();
    let ngx502 = |verb: &str, flags: &[&str], output: &Path| {
        let mut command = Command::new(program);
        exec::run(command.arg(verb).args(flags).args(["--force", "-o"]).arg(output).arg(capture))
    };
    ngx502("report", &[], &page)?;
    ngx502("chart", &["--kind", "causes"], &causes)?;
    ngx502("chart", &["--kind", "latency"], &latency)?;
    println!("\npostmortem  {}", page.display());
    println!("charts      {}\n            {}", causes.display(), latency.display());
    println!("capture     {}, for `ngx502 replay`", capture.display());
    Ok(())
}
