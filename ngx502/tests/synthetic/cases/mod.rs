//! Everything that ngx502 can say, as scenes that make it say so: one case a sentence.

mod connection;
mod death;
mod denied;
mod homes;
mod hops;
mod listener;
mod local;
mod protocol;
mod unlogged;
mod waiting;
mod waits;

use super::scene::Scene;

/// What is shown, and the records that show it: one failed request, the last of the scene.
pub(crate) type Case = (&'static str, fn(&mut Scene));

/// The scene of a case.
pub(crate) fn named(title: &str) -> fn(&mut Scene) {
    all()
        .find(|(name, _)| *name == title)
        .map_or_else(|| panic!("no case is called `{title}`"), |case| case.1)
}

/// Every case.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    [
        death::CASES,
        homes::CASES,
        hops::CASES,
        listener::CASES,
        waiting::CASES,
        waits::CASES,
        connection::CASES,
        local::CASES,
        denied::CASES,
        protocol::CASES,
        unlogged::CASES,
    ]
    .into_iter()
    .flatten()
}
