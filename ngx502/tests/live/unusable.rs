//! An nginx that cannot be probed: `NGX502_TEST_NGINX` names one without any symbols.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use xtask::lab::Testbed;
use xtask::lab::faults;

use crate::outcome_of;
use crate::tracer::Tracer;

/// Only there when asked for by name, since it fits no other nginx.
pub(crate) fn trials() -> Vec<Trial> {
    if !std::env::args().any(|argument| argument.starts_with("unusable")) {
        return Vec::new();
    }
    vec![Trial::test("unusable::nginx-without-symbols", || outcome_of(nginx_without_symbols))]
}

/// The tracer says that it sees nothing of this nginx and why, invents no verdict, and ends as always.
fn nginx_without_symbols() -> Result<()> {
    let testbed = Testbed::start(&[faults::named("refused-nobody")], |_| {})?;
    let tracer = Tracer::start(testbed.lab().master(), &[])?;
    let sent = testbed.fire("refused-nobody")?;
    ensure!(sent.response.is_some_and(|response| response.status == 502), "nginx itself works");
    let (said, complaints) = tracer.stop_with_complaints()?;
    ensure!(
        said.verdicts.is_empty() && said.rescued.is_empty(),
        "a verdict out of nothing: {:?}",
        said.verdicts
    );
    ensure!(complaints.contains("statically linked and stripped"), "no word of it: {complaints:?}");
    Ok(())
}
