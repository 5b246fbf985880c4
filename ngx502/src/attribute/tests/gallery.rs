//! Everything that ngx502 says, on one page: each sentence with its evidence and fixes, made by attribution itself.
//!
//! The page is for reading: a change of words shows there as a change of a line. Cases are in `tests/synthetic/cases`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;
use crate::synthetic::cases;
use crate::synthetic::scene::{self, Scene};

/// The verdict that a scene ends in; `rescued` when the client got an answer all the same.
fn outcome(play: fn(&mut Scene), title: &str) -> (Verdict, bool) {
    let mut scene = Scene::new(0);
    play(&mut scene);
    let (session, mut out) = (scene::session(), Vec::new());
    let mut engine = Attributor::new(&session, Options::of(&session));
    scene.into_records().into_iter().for_each(|record| engine.feed(record, &mut out));
    engine.finish(&mut out);
    match out.pop() {
        Some(Outcome::Verdict(verdict)) => (*verdict, false),
        Some(Outcome::Rescued(verdict)) => (*verdict, true),
        other => panic!("{title}: expected a verdict last, got {other:?}"),
    }
}

/// A case as it stands on the page.
fn written(title: &str, (verdict, rescued): &(Verdict, bool)) -> String {
    let rescued = if *rescued { ", rescued" } else { "" };
    let Verdict { symptom, cause, certainty, summary, .. } = verdict;
    let mut text = format!("{title}\n  [{symptom}, {cause}, {certainty}{rescued}] {summary}\n");
    for fact in &verdict.evidence {
        writeln!(text, "    {:<12} {}", fact.event, fact.text).expect("memory");
    }
    for line in &verdict.fix {
        writeln!(text, "    fix: {line}").expect("memory");
    }
    text
}

#[test]
fn the_whole_vocabulary() {
    let mut page: BTreeMap<Cause, Vec<String>> = BTreeMap::new();
    for (title, play) in cases::all() {
        let found = outcome(*play, title);
        page.entry(found.0.cause).or_default().push(written(title, &found));
    }
    let missing: Vec<_> = Cause::ALL.iter().filter(|cause| !page.contains_key(cause)).collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
    let chapters = page.iter().map(|(cause, cases)| format!("# {cause}\n\n{}", cases.join("\n")));
    insta::assert_snapshot!("vocabulary", chapters.collect::<Vec<_>>().join("\n"));
}
