//! Live tests: a real nginx, real failing upstreams, this machine's kernel, and `ngx502 trace` watching.
//!
//! Needs root. One file that also works alone in a guest: it is its own upstream processes (see `xtask::lab`).
//!
//! | variable | meaning |
//! |---|---|
//! | `NGX502_BIN` | the ngx502 to test, instead of the one built beside |
//! | `NGX502_TEST_NGINX` | the nginx to test against, instead of `/usr/sbin/nginx` |
//! | `NGX502_TEST_SLOWNESS` | factor for every deadline (a TCG guest: 10) |
//! | `NGX502_NO_SKIPS=1` | a test that cannot run here fails instead of saying `skipped: …` |
//! | `NGX502_KEEP_CAPTURE` | where `capture::replay-says-what-live-said` leaves a copy of its capture |
//! | `NGX502_SEED` | seed of the mixed and the chaos run |
//! | `NGX502_CHAOS_TABLE` | file that gets the chaos run's table as Markdown |
//! | `NGX502_CHAOS_REQUESTS` | length of the chaos run, 2,000 by default |
//!
//! Trials named `lab::…` check the faults against nginx's own logs and need no tracer.

mod backends;
mod beyond;
mod capture;
mod chaos;
mod check;
mod containers;
mod cost;
mod degraded;
mod docker;
mod latency;
mod life;
mod lifecycle;
mod mixed;
mod policy;
mod program;
mod race;
mod rows;
mod strangers;
mod systemd;
mod tls;
mod tracer;
mod unix_listen;
mod unusable;

use std::sync::Mutex;

use libtest_mimic::{Arguments, Failed, Trial};

/// What every trial returns.
pub(crate) type Outcome = Result<(), Failed>;

/// Ends a trial that cannot run on this machine: says why, or fails where skips are not allowed.
macro_rules! skip {
    ($reason:expr) => {
        return $crate::skipped(&$reason)
    };
}
pub(crate) use skip;

/// Use through [`skip!`].
fn skipped(reason: &str) -> Outcome {
    if std::env::var_os("NGX502_NO_SKIPS").is_some_and(|value| value == "1") {
        return Err(format!("skipped, though NGX502_NO_SKIPS=1: {reason}").into());
    }
    eprintln!("skipped: {reason}");
    Ok(())
}

/// How often a trial is made anew of which the kernel kept events from a probe.
const AGAIN: u32 = 2;

/// What is said of such trials once all are done: in between it would tear the runner's lines apart.
static AGAIN_NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A trial's result with the whole chain of an error's causes. A failure says nothing where the kernel owns up to having
/// kept events from a probe meanwhile (Linux 7.0 and later, rarely): such a trial is made again.
pub(crate) fn outcome_of(play: impl Fn() -> anyhow::Result<()>) -> Outcome {
    for _ in 0..AGAIN {
        let before = tracer::kept();
        match play() {
            Err(error) if tracer::kept() > before => {
                let note = format!("made again, since the kernel kept events from a probe: {error:#}");
                AGAIN_NOTES.lock().expect("nothing panics with it").push(note);
            }
            result => return result.map_err(|error| format!("{error:#}").into()),
        }
    }
    play().map_err(|error| format!("{error:#}").into())
}

fn main() {
    xtask::lab::run_if_asked();
    let mut arguments = Arguments::from_args();
    // Each trial has an nginx and a tracer of its own; many at once would only slow each other past deadlines.
    arguments.test_threads.get_or_insert(2);
    let mut trials: Vec<Trial> = rows::trials();
    trials.extend(race::trials());
    trials.extend(lifecycle::trials());
    trials.extend(strangers::trials());
    trials.extend(life::trials());
    trials.extend(unix_listen::trials());
    trials.extend(containers::trials());
    trials.extend(beyond::trials());
    trials.extend(docker::trials());
    trials.extend(tls::trials());
    trials.extend(degraded::trials());
    trials.extend(latency::trials());
    trials.extend(cost::trials());
    trials.extend(mixed::trials());
    trials.extend(capture::trials());
    trials.extend(chaos::trials());
    trials.extend(backends::trials());
    trials.extend(policy::trials());
    trials.extend(systemd::trials());
    trials.extend(unusable::trials());
    let conclusion = libtest_mimic::run(&arguments, trials);
    for note in AGAIN_NOTES.lock().expect("nothing panics with it").iter() {
        eprintln!("{note}");
    }
    conclusion.exit()
}
