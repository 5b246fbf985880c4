//! The tables of README.md and docs/causes.md are made from `ngx502 explain`'s pages, so that a new cause is described in
//! one place. `cargo xtask docs` writes them; without that, these tests compare. docs/json.md is written by hand: the
//! fields that its `details` lists are those that the synthetic cases have.

mod synthetic;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use ngx502::attribute::verdict::Cause;
use ngx502::explain::{Entry, Kind, entries, entry};
use serde_json::Value;
use synthetic::scene::Scene;
use synthetic::{cases, play};
use xtask::lab::faults::FAULTS;

const END: &str = "<!-- end of generated part -->";

/// Compares the generated part of a page, the first after `begin`, with `table`; or writes it, where that is asked for.
fn check(page: &str, begin: &str, table: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
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

#[test]
fn every_cause_that_the_lab_provokes_is_listed_at_its_symptom() {
    let mut pairs = BTreeSet::new();
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

type Fields = BTreeMap<String, BTreeSet<String>>;

/// What stands between backquotes in `text`.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The section of docs/json.md on `details`, and the fields that its tables give to each cause.
fn documented() -> (String, Fields) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md");
    let page = fs::read_to_string(path).expect("the page");
    let (_, section) = page.split_once("\n### details\n").expect("a section");
    let (section, _) = section.split_once("\n### jq\n").expect("its end");
    let (mut fields, mut causes) = (Fields::new(), Vec::new());
    for line in section.lines() {
        if let Some(heading) = line.strip_prefix("#### ") {
            causes = quoted(heading).collect();
        } else if let Some(row) = line.strip_prefix("| `") {
            let (cell, _) = row.split_once(" |").expect("a cell");
            for cause in &causes {
                fields.entry(cause.clone()).or_default().extend(quoted(&format!("`{cell}")));
            }
        }
    }
    (section.to_owned(), fields)
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
fn the_page_of_json_lists_the_details_of_each_cause() {
    let (section, documented) = documented();
    let (mut seen, mut within) = (Fields::new(), BTreeSet::new());
    for (_, scene) in cases::all() {
        let verdict = play::verdict(scene as &dyn Fn(&mut Scene));
        let details = serde_json::to_value(verdict.details()).expect("JSON");
        keys(&details, &mut within);
        let Value::Object(details) = details else { panic!("details are an object") };
        if !details.is_empty() {
            seen.entry(verdict.cause.to_string())
                .or_default()
                .extend(details.into_iter().map(|(key, _)| key));
        }
    }
    assert_eq!(seen, documented, "what the cases have, and what docs/json.md says");
    let words: BTreeSet<_> = section.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let missing: Vec<_> = within.iter().filter(|key| !words.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "docs/json.md does not mention {missing:?}");
}
