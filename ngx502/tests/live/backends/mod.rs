//! Real backends from the distribution's packages, each through its real ways to fail.
//!
//! Every trial starts a disposable instance with its own configuration, application and socket, does to it what the
//! trial's name says, and knows the process that did wrong, since the application notes its pid.

mod gunicorn;
mod node;
mod php_fpm;
mod puma;
mod scene;
mod uwsgi;
mod waits;

use anyhow::Result;
use libtest_mimic::Trial;
use xtask::lab::Transport;
use xtask::lab::cgroup::MemoryCgroup;

use crate::{outcome_of, skip};

/// The memory limit of a worker that is to run out of it, in bytes.
const LITTLE_MEMORY: u64 = 64 << 20;
/// Symptoms of a connection whose server process died.
const CUT: &[&str] = &["closed-early", "reset"];

/// A WSGI application for Gunicorn and uWSGI.
const WSGI: &str = r#"
import ctypes, hashlib, os, time

def app(environ, start_response):
    new = "served.%d" % os.getpid()
    with open(new, "w") as note:
        note.write(str(os.getpid()))
    os.replace(new, "served")
    action = environ["PATH_INFO"].split("/")[1]
    if action == "hold":
        time.sleep(30)
    elif action == "stick":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)
    elif action == "crash":
        ctypes.string_at(16)
    elif action == "eat":
        hoard = [b"x" * (1 << 20) for _ in range(1 << 10)]
    elif action == "exit":
        os._exit(3)
    start_response("200 OK", [("Content-Length", "3")])
    return [b"ok\n"]
"#;

/// What a trial does, over one kind of socket.
type Play = fn(Transport) -> Result<()>;

pub(crate) fn trials() -> Vec<Trial> {
    let all = [
        ("php-fpm", php_fpm::PROGRAM, php_fpm::PLAYS),
        ("gunicorn", gunicorn::PROGRAM, gunicorn::PLAYS),
        ("waits", waits::PROGRAM, waits::PLAYS),
        ("uwsgi", uwsgi::PROGRAM, uwsgi::PLAYS),
        ("node", node::PROGRAM, node::PLAYS),
        ("puma", puma::PROGRAM, puma::PLAYS),
    ];
    let each = all.into_iter().flat_map(|(server, program, plays)| {
        plays.iter().map(move |(name, over, play)| {
            let suffix = if *over == Transport::Unix { "unix" } else { "tcp" };
            let trial = format!("backend::{server}-{name}-{suffix}");
            Trial::test(trial.clone(), move || {
                if scene::find(program).is_none() {
                    skip!(format!("{program} is not installed"));
                }
                if name.contains("oom")
                    && let Err(error) = MemoryCgroup::create(LITTLE_MEMORY)
                {
                    skip!(format!("{error:#}"));
                }
                outcome_of(|| play(*over))
            })
        })
    });
    each.collect()
}
