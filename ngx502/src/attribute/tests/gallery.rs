//! Everything that ngx502 says, on one page: each sentence with its evidence and fixes, made by attribution itself.
//!
//! The page is for reading: a change of words shows there as a change of a line. Cases are in `tests/synthetic/cases`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;
use crate::synthetic::scene::session;
use crate::synthetic::{cases, play};

/// A case as it stands on the page.
fn written(title: &str, verdict: &Verdict, rescued: bool) -> String {
    let rescued = if rescued { ", rescued" } else { "" };
    let Verdict { symptom, cause, certainty, .. } = verdict;
    let summary = summary(verdict);
    let mut text = format!("{title}\n  [{symptom}, {cause}, {certainty}{rescued}] {summary}\n");
    for station in verdict.way() {
        writeln!(text, "    hop: {station}").expect("memory");
    }
    for (event, fact) in facts(verdict) {
        writeln!(text, "    {event:<12} {fact}").expect("memory");
    }
    for line in fixes(verdict) {
        writeln!(text, "    fix: {line}").expect("memory");
    }
    text
}

#[test]
fn the_whole_vocabulary() {
    let mut page: BTreeMap<Cause, Vec<String>> = BTreeMap::new();
    for (title, scene) in cases::all() {
        let outcome = play::outcome(&session(), 0, scene);
        let rescued = matches!(outcome, Outcome::Rescued(_));
        let verdict = play::of(outcome);
        page.entry(verdict.cause).or_default().push(written(title, &verdict, rescued));
    }
    let missing: Vec<_> = Cause::ALL.iter().filter(|cause| !page.contains_key(cause)).collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
    let chapters = page.iter().map(|(cause, cases)| format!("# {cause}\n\n{}", cases.join("\n")));
    insta::assert_snapshot!("vocabulary", chapters.collect::<Vec<_>>().join("\n"));
}
