//! One made-up host, web-1, for all tests: nginx, PHP-FPM in `php8.2-fpm.service`, and whatever befalls them.
//!
//! Verdicts are never made up: what a test shows or exports is what attribution says of these records. Unit tests and the
//! tests of the program include this module alike.

#![allow(dead_code, reason = "each test crate that includes this uses a part of it")]

pub(crate) mod cases;
pub(crate) mod incident;
pub(crate) mod play;
pub(crate) mod scene;
pub(crate) mod stories;

use ngx502::event::Nanos;
use ngx502::session::Session;

/// 2026-11-21T02:00:00Z as CLOCK_REALTIME minus CLOCK_BOOTTIME.
const WALL: i64 = 1_795_226_400_000_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;
/// Boot time of the first failure.
pub(crate) const BEGIN: u64 = 1_000 * SECOND;
/// nginx's network namespace.
pub(crate) const NETNS: u32 = 4_026_531_840;

/// The trace of a host that sees who comes to listen, and who ends.
pub(crate) fn session(host: &str) -> Session {
    Session {
        version: "0.1.0".into(),
        host: host.into(),
        kernel: "6.1.0-31-amd64".into(),
        boot_id: format!("boot of {host}"),
        providers: ["tcp-state", "unix-listen", "exit"].map(|hook| (hook.into(), "raw_tp".into())).to_vec(),
        nginx: vec!["/usr/sbin/nginx (nginx/1.22.1)".into()],
        workers: vec![410],
        wall_offset: WALL,
        ready_at: Nanos(BEGIN - 5 * SECOND),
        ..Session::default()
    }
}

/// Bits without a pattern (SplitMix64's last step).
pub(crate) fn mixed(index: u64) -> u64 {
    let once =
        (index ^ (index >> 30)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    twice ^ (twice >> 31)
}
