//! What each symptom and cause means, how to confirm it and how to fix it.
//!
//! The texts are two pages of Markdown beside this file, so that they can be reviewed as text. An entry there is
//!
//! ```text
//! # name
//! Headline
//!
//! Meaning, in paragraphs.
//! ## confirm
//! - what to look at by hand
//! ## fix
//! - backend: what to change there
//! ```
//!
//! Indented lines continue an item. Tests hold that every symptom and cause has an entry and nothing else does.

use std::sync::LazyLock;

/// Where a remedy applies; the labels that a fix may carry, in the order in which they are shown.
pub const BACKENDS: &[&str] = &[
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
    /// What to look at by hand; commands in backquotes.
    pub confirm: Vec<String>,
    /// Remedies with the backend that each is for (one of [`BACKENDS`]).
    pub fix: Vec<(&'static str, String)>,
}

static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let symptoms = parse(Kind::Symptom, include_str!("explain/symptoms.md"));
    let causes = parse(Kind::Cause, include_str!("explain/causes.md"));
    symptoms.chain(causes).collect()
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
    let (about, rest) = text.split_once("\n## confirm\n").unwrap_or((text, ""));
    let (confirm, fix) = rest.split_once("\n## fix\n").unwrap_or((rest, ""));
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
        confirm: items(confirm).map(joined).collect(),
        fix: items(fix).map(label).collect(),
    }
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
            assert!(
                (10..=90).contains(&entry.headline.chars().count()),
                "{name}: headline {}",
                entry.headline
            );
            assert!(!entry.headline.contains('\n') && !entry.headline.ends_with('.'), "{name}");
            assert!(entry.meaning.iter().all(|paragraph| paragraph.len() > 60), "{name}: meaning");
            assert!(!entry.confirm.is_empty() && !entry.fix.is_empty(), "{name}: confirm and fix");
            for (backend, text) in &entry.fix {
                assert!(BACKENDS.contains(backend), "{name}: `{backend}` is no backend");
                assert!(text.len() >= 10, "{name}: {text}");
            }
            let texts =
                entry.meaning.iter().chain(&entry.confirm).chain(entry.fix.iter().map(|(_, text)| text));
            for text in texts {
                assert!(text.matches('`').count().is_multiple_of(2), "{name}: unpaired backquote in {text}");
                assert!(!text.contains("## "), "{name}: a heading inside {text}");
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
