//! The tables of README.md, docs/causes.md and docs/json.md are made from `ngx502 explain`'s pages, so that a new cause is
//! described in one place. `cargo xtask docs` writes them; without that, these tests compare. The pages themselves are
//! compared with what the synthetic cases and the lab show.

mod synthetic;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use ngx502::attribute::verdict::{Cause, Certainty, Verdict};
use ngx502::explain::{Detail, Entry, Kind, entries, entry};
use serde_json::Value;
use synthetic::scene::Scene;
use synthetic::{cases, play};
use xtask::lab::faults::FAULTS;

const END: &str = "<!-- end of generated part -->";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares the generated part of a page, the first after `begin`, with `table`; or writes it, where that is asked for.
fn check(page: &str, begin: &str, table: &str) {
    let path = root().join(page);
    let text = fs::read_to_string(&path).expect("the page");
    let (before, rest) = text.split_once(begin).unwrap_or_else(|| panic!("{page} has no `{begin}`"));
    let (line, rest) = rest.split_once('\n').expect("a marker ends its line");
    let (old, after) = rest.split_once(END).unwrap_or_else(|| panic!("{page} has no `{END}`"));
    if env::var_os("NGX502_WRITE_DOCS").is_some() {
        let new = format!("{before}{begin}{line}\n{table}{END}{after}");
        return fs::write(&path, new).expect("the page can be written");
    }
    assert_eq!(old, table, "{page} is out of date: run `cargo xtask docs`");
}

fn of(kind: Kind) -> impl Iterator<Item = &'static Entry> {
    entries().iter().filter(move |entry| entry.kind == kind)
}

fn code(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Text as a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn the_page_of_causes_says_what_proves_each() {
    let mut table = String::from("| cause | proven by | inferred if | needs |\n|---|---|---|---|\n");
    for Entry { name, proven, inferred, needs, .. } in of(Kind::Cause) {
        if *name != Cause::Unknown.as_str() {
            let _ = writeln!(
                table,
                "| `{name}` | {} | {} | {} |",
                cell(proven),
                cell(inferred),
                needs.join(", ")
            );
        }
    }
    check("docs/causes.md", "<!-- generated", &table);
}

#[test]
fn the_readme_lists_the_causes_of_each_symptom() {
    // Symptoms with the same causes share a row.
    let mut rows: Vec<(Vec<&str>, &[&str])> = Vec::new();
    for symptom in of(Kind::Symptom) {
        match rows.iter_mut().find(|(_, causes)| *causes == symptom.related) {
            Some((symptoms, _)) => symptoms.push(symptom.name),
            None => rows.push((vec![symptom.name], &symptom.related)),
        }
    }
    let mut table = String::from("| symptom | causes |\n|---|---|\n");
    for (symptoms, causes) in rows {
        let _ = writeln!(table, "| {} | {} |", code(&symptoms), code(causes));
    }
    check("README.md", "<!-- generated: symptoms", &table);
}

/// The verdict of every synthetic case.
fn verdicts() -> impl Iterator<Item = Verdict> {
    cases::all().map(|(_, scene)| play::verdict(scene as &dyn Fn(&mut Scene)))
}

#[test]
fn every_cause_that_is_provoked_is_listed_at_its_symptom() {
    let mut pairs: BTreeSet<_> =
        verdicts().map(|verdict| (verdict.symptom.as_str(), verdict.cause.as_str())).collect();
    for fault in FAULTS {
        // The best cause; others are only put up with.
        pairs.extend(fault.expect.causes.first().map(|cause| (fault.expect.symptom, *cause)));
    }
    pairs.retain(|(symptom, cause)| !symptom.is_empty() && *cause != Cause::Unknown.as_str());
    for (symptom, cause) in pairs {
        let symptom = entry(symptom).unwrap_or_else(|| panic!("no symptom {symptom}"));
        assert!(symptom.related.contains(&cause), "{cause} does not list {} in `seen as`", symptom.name);
    }
}

#[test]
fn every_symptom_and_cause_has_a_case() {
    let shown: BTreeSet<_> =
        verdicts().flat_map(|verdict| [verdict.symptom.as_str(), verdict.cause.as_str()]).collect();
    let missing: Vec<_> =
        entries().iter().map(|entry| entry.name).filter(|name| !shown.contains(name)).collect();
    assert!(missing.is_empty(), "tests/synthetic/cases shows none of {missing:?}");
}

#[test]
fn a_certainty_that_verdicts_have_is_explained() {
    for verdict in verdicts() {
        let (cause, certainty) = (entry(verdict.cause.as_str()).expect("an entry"), verdict.certainty);
        let missing = match certainty {
            Certainty::Proven => cause.proven.is_empty(),
            Certainty::Inferred => cause.inferred.is_empty(),
            Certainty::Unknown => false,
        };
        assert!(!missing, "{}: causes.md does not say when it is {certainty}", cause.name);
    }
}

/// What docs/json.md says of each cause's details.
fn tables_of_details() -> String {
    let mut tables = String::new();
    for Entry { name, details, .. } in of(Kind::Cause).filter(|entry| !entry.details.is_empty()) {
        let _ = writeln!(tables, "\n#### `{name}`\n\n| field | type | meaning |\n|---|---|---|");
        for Detail { fields, kind, meaning } in details {
            let fields = code(&fields.split(", ").collect::<Vec<_>>());
            let _ = writeln!(tables, "| {fields} | {kind} | {} |", cell(meaning));
        }
    }
    tables.push('\n');
    tables
}

#[test]
fn the_page_of_json_lists_the_details_of_each_cause() {
    check("docs/json.md", "<!-- generated: details", &tables_of_details());
}

/// Every key within a value.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| {
            found.insert(key.clone());
            keys(value, found);
        }),
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn the_details_that_are_explained_are_those_that_verdicts_have() {
    let (mut seen, mut within) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeSet::new());
    for verdict in verdicts() {
        let details = serde_json::to_value(verdict.details()).expect("JSON");
        keys(&details, &mut within);
        let Value::Object(details) = details else { panic!("details are an object") };
        seen.entry(verdict.cause.as_str()).or_default().extend(details.into_iter().map(|(key, _)| key));
    }
    for Entry { name, details, .. } in of(Kind::Cause) {
        let explained =
            details.iter().flat_map(|detail| detail.fields.split(", ").map(str::to_owned)).collect();
        assert_eq!(
            seen.get(name),
            Some(&explained),
            "{name}: what the cases have, and what causes.md explains"
        );
    }
    // The tables as they will be: another test may be writing them to the page.
    let page = fs::read_to_string(root().join("docs/json.md")).expect("the page") + &tables_of_details();
    let words: BTreeSet<_> = page.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let missing: Vec<_> = within.iter().filter(|key| !words.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "docs/json.md does not mention {missing:?}");
}
