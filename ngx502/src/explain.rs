//! What each symptom and cause means, how to confirm it and how to fix it.
//!
//! The texts are two pages of Markdown beside this file, so that they can be reviewed as text. An entry is
//!
//! ```text
//! # name
//! Headline
//!
//! Meaning, in paragraphs.
//! ## seen as
//! symptoms, separated by commas
//! ## proven
//! what proves the cause
//! ## inferred
//! when it is only inferred
//! ## needs
//! observations without which it is not proven, as `ngx502 doctor` names them
//! ## confirm
//! - what to look at by hand
//! ## fix
//! - backend: what to change there
//! ## details
//! - field of `details` in JSON (type): meaning
//! ```
//!
//! Sections may be left out; `seen as` to `needs` and `details` are for causes only. Indented lines continue an item. Tests check that
//! every symptom and cause has an entry. The tables of README.md, docs/causes.md and docs/json.md are generated from these
//! pages (`cargo xtask docs`).

use std::sync::LazyLock;

/// Whether an entry explains what nginx saw or why it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What nginx saw.
    Symptom,
    /// Why, in the kernel.
    Cause,
}

impl Kind {
    /// `symptom` or `cause`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Symptom => "symptom",
            Kind::Cause => "cause",
        }
    }
}

/// One explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The symptom's or cause's name.
    pub name: &'static str,
    /// Which of the two.
    pub kind: Kind,
    /// It in one line.
    pub headline: &'static str,
    /// Paragraphs.
    pub meaning: Vec<String>,
    /// For a cause the symptoms that it can have, for a symptom the causes; by name, in the contract's order.
    pub related: Vec<&'static str>,
    /// The observations that prove the cause; empty for a symptom or where nothing proves it.
    pub proven: String,
    /// When the cause is only inferred; empty if never.
    pub inferred: String,
    /// Observations without which the cause is not proven, as `ngx502 doctor` names them.
    pub needs: Vec<&'static str>,
    /// What to look at by hand; commands in backquotes.
    pub confirm: Vec<String>,
    /// Remedies with the backend that each is for (`any`, or one by name); empty where the cause decides.
    pub fix: Vec<(&'static str, String)>,
    /// The fields that the cause has in JSON's `details`.
    pub details: Vec<Detail>,
}

/// Fields of `details` that are explained together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Their names, separated by commas.
    pub fields: &'static str,
    /// Their type, in the words of docs/json.md.
    pub kind: &'static str,
    /// What they hold.
    pub meaning: String,
}

static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let mut entries: Vec<_> = parse(Kind::Symptom, include_str!("explain/symptoms.md")).collect();
    let causes: Vec<_> = parse(Kind::Cause, include_str!("explain/causes.md")).collect();
    for symptom in &mut entries {
        let leads_here = |cause: &&Entry| cause.related.contains(&symptom.name);
        symptom.related = causes.iter().filter(leads_here).map(|cause| cause.name).collect();
    }
    entries.extend(causes);
    entries
});

/// Every entry: symptoms, then causes, each in the contract's order.
pub fn entries() -> &'static [Entry] {
    &ENTRIES
}

/// The explanation of a symptom or cause; no name is both.
pub fn entry(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

/// The names that resemble `name` most, nearest first; at most three, none where nothing is near.
pub fn suggestions(name: &str) -> Vec<&'static str> {
    let name = name.to_lowercase();
    let mut near: Vec<_> = ENTRIES
        .iter()
        .map(|entry| (strsim::jaro_winkler(&name, entry.name), entry.name))
        .filter(|(likeness, candidate)| *likeness > 0.75 || (name.len() > 2 && candidate.contains(&name)))
        .collect();
    near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    near.into_iter().map(|(_, candidate)| candidate).take(3).collect()
}

fn parse(kind: Kind, page: &'static str) -> impl Iterator<Item = Entry> {
    page.split("\n# ").skip(1).map(move |text| parse_entry(kind, text))
}

fn parse_entry(kind: Kind, text: &'static str) -> Entry {
    let mut sections = text.split("\n## ");
    let about = sections.next().unwrap_or(text);
    let sections: Vec<_> = sections.filter_map(|section| section.split_once('\n')).collect();
    let section = |title| sections.iter().find(|(name, _)| *name == title).map_or("", |(_, body)| *body);
    let (name, about) = about.split_once('\n').unwrap_or((about, ""));
    let (headline, meaning) = about.split_once("\n\n").unwrap_or((about, ""));
    let label = |item: &'static str| {
        let (backend, text) = item.split_once(": ").unwrap_or(("any", item));
        (backend, joined(text))
    };
    Entry {
        name: name.trim(),
        kind,
        headline: headline.trim(),
        meaning: meaning.split("\n\n").map(joined).collect(),
        related: names(section("seen as")).collect(),
        proven: joined(section("proven")),
        inferred: joined(section("inferred")),
        needs: names(section("needs")).collect(),
        confirm: items(section("confirm")).map(joined).collect(),
        fix: items(section("fix")).map(label).collect(),
        details: items(section("details")).filter_map(detail).collect(),
    }
}

fn detail(item: &'static str) -> Option<Detail> {
    let (head, meaning) = item.split_once("): ")?;
    let (fields, kind) = head.split_once(" (")?;
    Some(Detail { fields, kind, meaning: joined(meaning) })
}

/// The names of a list with commas.
fn names(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty())
}

fn items(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.strip_prefix("- ").unwrap_or_default().split("\n- ").filter(|item| !item.trim().is_empty())
}

/// A text of several lines as one.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::verdict::{Cause, Symptom};
    use crate::kernel::providers::OBSERVATIONS;

    /// Where a remedy applies; the labels that a fix may carry, in the order in which they are shown.
    const BACKENDS: &[&str] = &[
        "any",
        "nginx",
        "PHP-FPM",
        "Gunicorn",
        "uWSGI",
        "Node.js",
        "Puma",
        "systemd",
        "containers",
        "Kubernetes",
        "SELinux",
    ];

    #[test]
    fn every_symptom_and_cause_has_an_entry_in_order_and_nothing_else_does() {
        let symptoms = Symptom::ALL.iter().map(|symptom| (symptom.as_str(), Kind::Symptom));
        let causes = Cause::ALL.iter().map(|cause| (cause.as_str(), Kind::Cause));
        let expected: Vec<_> = symptoms.chain(causes).collect();
        let present: Vec<_> = entries().iter().map(|entry| (entry.name, entry.kind)).collect();
        assert_eq!(present, expected);
    }

    #[test]
    fn no_name_is_both_a_symptom_and_a_cause() {
        assert!(Symptom::ALL.iter().all(|symptom| symptom.as_str().parse::<Cause>().is_err()));
    }

    #[test]
    fn every_entry_is_complete() {
        for entry in entries() {
            let name = entry.name;
            let headline = entry.headline;
            assert!((10..=90).contains(&headline.chars().count()), "{name}: headline {headline}");
            assert!(!headline.contains('\n') && !headline.ends_with('.'), "{name}");
            assert!(entry.meaning.iter().all(|paragraph| paragraph.len() > 60), "{name}: meaning");
            assert!(!entry.related.is_empty(), "{name}: a cause without symptom, or the reverse");
            assert!(!entry.confirm.is_empty(), "{name}: confirm");
            assert!(entry.kind == Kind::Symptom || !entry.fix.is_empty(), "{name}: fix");
            for (backend, text) in &entry.fix {
                assert!(BACKENDS.contains(backend), "{name}: unknown backend `{backend}`");
                assert!(text.len() >= 10, "{name}: {text}");
            }
            let fixes = entry.fix.iter().map(|(_, text)| text);
            let proof = [&entry.proven, &entry.inferred];
            for text in entry.meaning.iter().chain(&entry.confirm).chain(fixes).chain(proof) {
                assert!(text.matches('`').count().is_multiple_of(2), "{name}: unpaired backquote in {text}");
                assert!(!text.contains("## "), "{name}: a heading inside {text}");
            }
        }
    }

    #[test]
    fn a_cause_says_what_proves_it_and_names_known_symptoms_and_observations() {
        for cause in entries().iter().filter(|entry| entry.kind == Kind::Cause) {
            let name = cause.name;
            let has_proof = !cause.proven.is_empty() || !cause.inferred.is_empty();
            assert_eq!(has_proof, name != Cause::Unknown.as_str(), "{name}: proof");
            for symptom in &cause.related {
                assert!(symptom.parse::<Symptom>().is_ok(), "{name}: unknown symptom `{symptom}`");
            }
            for need in &cause.needs {
                assert!(
                    OBSERVATIONS.iter().any(|known| known.name == *need),
                    "{name}: unknown observation `{need}`"
                );
            }
        }
    }

    #[test]
    fn near_names_are_suggested() {
        assert_eq!(entry("oom"), None);
        assert_eq!(suggestions("oom"), ["oom-killed"]);
        assert_eq!(suggestions("conect-refused").first(), Some(&"connect-refused"));
        assert_eq!(suggestions("xyzzy"), Vec::<&str>::new());
    }
}
