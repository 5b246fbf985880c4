//! Waiting for conditions with a deadline; deadlines grow on slow machines.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(5);

/// How much slower than a developer's machine this one is: `NGX502_TEST_SLOWNESS`, at least 1 (a TCG guest: 10).
pub fn slowness() -> u32 {
    std::env::var("NGX502_TEST_SLOWNESS").ok().and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// `limit` on a machine as slow as this one.
pub fn scaled(limit: Duration) -> Duration {
    limit * slowness()
}

/// Asks `probe` until it answers, at most `limit` (scaled).
///
/// # Errors
/// When the deadline passes; the message names `what`.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let limit = scaled(limit);
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if start.elapsed() >= limit {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(STEP);
    }
}
