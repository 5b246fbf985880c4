//! `ngx502 explain [NAME]`.

use std::io::Write;

use anyhow::{Result, bail};

use crate::explain::{self, Entry, Kind};
use crate::wrap::{columns, wrap};

/// Columns that the page is laid out in, whatever the terminal: prose reads badly in wider lines.
const WIDTH: usize = 96;

/// Explains a symptom or cause, or lists all of them where no name is given.
///
/// # Errors
/// An unknown name, with the nearest known ones; or what `out` failed with.
pub fn run(name: Option<&str>, out: &mut impl Write, color: bool) -> Result<()> {
    let mut page = Page { out, color };
    let Some(name) = name else { return Ok(page.list()?) };
    if let Some(entry) = explain::entry(name) {
        return Ok(page.entry(entry)?);
    }
    let near = match explain::suggestions(name).as_slice() {
        [] => ".".to_owned(),
        names => format!(". Did you mean {}?", names.join(" or ")),
    };
    let name = crate::escape::terminal(name.as_bytes());
    bail!("unknown symptom or cause `{name}`{near} Run `ngx502 explain` for the list")
}

struct Page<'a, W> {
    out: &'a mut W,
    color: bool,
}

impl<W: Write> Page<'_, W> {
    fn list(&mut self) -> std::io::Result<()> {
        for (kind, title) in
            [(Kind::Symptom, "Symptoms: what nginx saw"), (Kind::Cause, "Causes: why it happened")]
        {
            self.title(title)?;
            for entry in explain::entries().iter().filter(|entry| entry.kind == kind) {
                writeln!(self.out, "  {:<20}  {}", entry.name, entry.headline)?;
            }
            writeln!(self.out)?;
        }
        writeln!(self.out, "Run `ngx502 explain NAME` for details.")
    }

    fn entry(&mut self, entry: &Entry) -> std::io::Result<()> {
        self.title(&format!("{} ({}): {}", entry.name, entry.kind.as_str(), entry.headline))?;
        for paragraph in &entry.meaning {
            self.item("  ", paragraph)?;
            writeln!(self.out)?;
        }
        let related = match entry.kind {
            Kind::Symptom => "Causes",
            Kind::Cause => "Seen as",
        };
        self.fact(related, &entry.related.join(", "))?;
        self.fact("Proven", &entry.proven)?;
        self.fact("Inferred", &entry.inferred)?;
        if !entry.needs.is_empty() {
            self.fact("Needs", &format!("{} (see `ngx502 doctor`)", entry.needs.join(", ")))?;
        }
        writeln!(self.out)?;
        self.title("Confirm")?;
        for confirm in &entry.confirm {
            self.item("  - ", confirm)?;
        }
        writeln!(self.out)?;
        self.title("Fix")?;
        if entry.fix.is_empty() {
            self.item("  ", "See the cause of the verdict.")?;
        }
        for (backend, fix) in &entry.fix {
            self.item(&format!("  {:<12}", if *backend == "any" { "" } else { backend }), fix)?;
        }
        self.details(entry)
    }

    fn details(&mut self, entry: &Entry) -> std::io::Result<()> {
        if !entry.details.is_empty() {
            writeln!(self.out)?;
            self.title("`details` in JSON")?;
        }
        for detail in &entry.details {
            self.item(&format!("  {:<18}", detail.fields), &format!("{}: {}", detail.kind, detail.meaning))?;
        }
        Ok(())
    }

    /// A labelled text, if there is one.
    fn fact(&mut self, label: &str, text: &str) -> std::io::Result<()> {
        if text.is_empty() { Ok(()) } else { self.item(&format!("  {label:<10}"), text) }
    }

    fn title(&mut self, title: &str) -> std::io::Result<()> {
        match self.color {
            true => writeln!(self.out, "\x1b[1m{title}\x1b[0m"),
            false => writeln!(self.out, "{title}"),
        }
    }

    /// A text with a label before its first line and as much space before the others.
    fn item(&mut self, label: &str, text: &str) -> std::io::Result<()> {
        let margin = columns(label);
        for (number, row) in wrap(text, WIDTH - margin).iter().enumerate() {
            let label = if number == 0 { label } else { "" };
            writeln!(self.out, "{label:<margin$}{row}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: Option<&str>, color: bool) -> String {
        let mut out = Vec::new();
        run(name, &mut out, color).expect("a known name");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn the_list_names_every_entry() {
        let list = shown(None, false);
        assert!(explain::entries().iter().all(|entry| list.contains(&format!("  {:<20}  ", entry.name))));
        assert!(list.lines().all(|line| columns(line) <= 115), "{list}");
    }

    #[test]
    fn every_page_is_laid_out_and_plain_without_colour() {
        for entry in explain::entries() {
            let page = shown(Some(entry.name), false);
            assert!(
                page.starts_with(entry.name) && page.contains("\nConfirm\n") && page.contains("\nFix\n"),
                "{page}"
            );
            assert!(page.lines().skip(1).all(|line| columns(line) <= WIDTH), "{page}");
            assert!(!page.contains('\x1b'));
        }
        assert!(shown(Some("dns"), true).starts_with("\x1b[1mdns (cause)"));
    }

    #[test]
    fn an_unknown_name_is_refused_with_what_is_near() {
        let message = |name| run(Some(name), &mut Vec::new(), false).expect_err("unknown").to_string();
        assert_eq!(
            message("oom"),
            "unknown symptom or cause `oom`. Did you mean oom-killed? Run `ngx502 explain` for the list"
        );
        assert_eq!(
            message("\x1b[2J"),
            r"unknown symptom or cause `\x1b[2J`. Run `ngx502 explain` for the list"
        );
    }
}
