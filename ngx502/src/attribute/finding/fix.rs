//! What to do, line by line. A tired person pastes it into a root shell, so that nothing in it may run but what we say: every
//! word of the host's or a client's is quoted in a command, and what is no command is a comment to a shell.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::escape;
use crate::wrap::{columns, wrap};

/// One line of what to do.
#[derive(Clone, Debug)]
pub struct Fix {
    kind: FixKind,
    text: Cow<'static, str>,
    remark: Option<Cow<'static, str>>,
}

/// What a line of a fix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixKind {
    /// A shell command, which is one line however long it is.
    Command,
    /// A directive or a statement for a configuration file or a database, in words of ours.
    Directive,
    /// A sentence.
    Advice,
}

impl Fix {
    /// A command, whose foreign words are [`quoted`].
    pub(super) fn command(line: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: FixKind::Command, text: line.into(), remark: None }
    }

    /// A directive; none has a foreign word.
    pub(in crate::attribute) fn directive(line: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: FixKind::Directive, text: line.into(), remark: None }
    }

    /// A sentence, in any words.
    pub(in crate::attribute) fn advice(text: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: FixKind::Advice, text: text.into(), remark: None }
    }

    /// The same with a remark behind it.
    pub(super) fn remark(self, remark: impl Into<Cow<'static, str>>) -> Self {
        Self { remark: Some(remark.into()), ..self }
    }

    /// It without the mark that makes a comment of advice, and without the remark.
    pub fn text(&self) -> Cow<'_, str> {
        shown(&self.text)
    }

    /// What it is.
    pub fn kind(&self) -> FixKind {
        self.kind
    }

    /// The line for a terminal of `width` columns. Each row can be pasted by itself: a command is one row however long it
    /// is, since a break would cut its words, and further rows of a comment are comments.
    pub fn rows(&self, width: usize) -> Vec<String> {
        let whole = self.to_string();
        let (command, comment) = match (self.kind, &self.remark) {
            _ if columns(&whole) <= width => return vec![whole],
            (FixKind::Advice, _) => (None, &self.text),
            (_, None) => return vec![whole],
            (_, Some(remark)) => (Some(shown(&self.text).into_owned()), remark),
        };
        let comment = wrap(&shown(comment), width.saturating_sub(2));
        command.into_iter().chain(comment.into_iter().map(|row| format!("# {row}"))).collect()
    }
}

/// A line feed would end a comment, and begin a command.
fn shown(text: &str) -> Cow<'_, str> {
    escape::terminal(text.as_bytes())
}

/// Lines are the same if they read the same.
impl PartialEq for Fix {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Serialize for Fix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// As it is pasted: `systemctl restart app.service`, `proxy_read_timeout 1h;  # in the location …`, `# make the request
/// faster`.
impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == FixKind::Advice {
            f.write_str("# ")?;
        }
        f.write_str(&shown(&self.text))?;
        self.remark.as_ref().map_or(Ok(()), |remark| write!(f, "  # {}", shown(remark)))
    }
}

/// A word of a shell command: what the host or a client named may hold anything.
pub(super) fn quoted(word: impl AsRef<[u8]>) -> String {
    let word = word.as_ref();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._/:@%+-".contains(byte);
    if !word.is_empty() && word.iter().all(plain) && !word.starts_with(b"-") {
        return String::from_utf8_lossy(word).into_owned();
    }
    match std::str::from_utf8(word) {
        Ok(text) if escape::terminal(word) == text => format!("'{}'", text.replace('\'', r"'\''")),
        // What cannot be shown, or would be shown as something else: bash, ksh and zsh read it so.
        _ => {
            let byte = |byte: &u8| match byte {
                b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
                b' '..=b'~' => char::from(*byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            };
            format!("$'{}'", word.iter().map(byte).collect::<String>())
        }
    }
}

/// The same as an operand, where a word that begins with `-` would be taken for an option.
pub(super) fn operand(word: impl AsRef<[u8]>) -> String {
    let dashes = if word.as_ref().starts_with(b"-") { "-- " } else { "" };
    format!("{dashes}{}", quoted(word))
}

/// From a report's JSON: what is a remark there stays with its command.
impl<'de> Deserialize<'de> for Fix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let line = String::deserialize(deserializer)?;
        Ok(match line.strip_prefix("# ") {
            Some(text) => Self::advice(text.to_owned()),
            None => Self::command(line),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const HOSTILE: [&[u8]; 12] = [
        b"sh /tmp/x #",
        b"$(touch /tmp/pwn)",
        b"`reboot`",
        b"a'b",
        b"a\\'; reboot; '",
        b"two\nlines",
        b"-Hhost",
        b"\x1b]0;title\x07",
        b"\xff\xfe",
        "/\u{202e}gpj.exe".as_bytes(),
        b"a\tb !history",
        b"",
    ];

    /// A real shell takes each for one word, and for this one.
    #[test]
    fn a_shell_reads_a_quoted_word_as_it_is() {
        for word in HOSTILE {
            let line = format!("printf %s {}", quoted(word));
            let read = Command::new("bash").args(["-c", &line]).output().expect("bash");
            assert_eq!(read.stdout, word, "{line}");
        }
    }

    #[test]
    fn words_that_need_no_quotes_have_none() {
        assert_eq!(quoted("/run/app.sock"), "/run/app.sock");
        assert_eq!(quoted("x;reboot"), "'x;reboot'");
        assert_eq!((&*operand("-Hhost"), &*operand("app.service")), ("-- '-Hhost'", "app.service"));
    }

    /// However narrow the terminal is.
    #[test]
    fn no_row_of_a_line_breaks_a_command_or_ends_a_comment() {
        let path = "/srv/$(touch /tmp/pwn) and a long way down/from there.sock";
        let command = Fix::command(format!("ls -l -- {}", quoted(path)));
        let advice = Fix::advice(format!("{path} belongs to somebody else; is that the upstream?"));
        for width in (20..=200).step_by(20) {
            assert_eq!(command.rows(width), [command.to_string()]);
            let rows = command.clone().remark(path).rows(width);
            assert!(rows[0].starts_with(&command.to_string()), "{rows:?}");
            let comments = rows[1..].iter().chain(advice.rows(width).iter()).all(|row| row.starts_with("# "));
            assert!(comments, "{rows:?}");
        }
    }

    /// Advice does nothing in a shell, whatever its words are.
    #[test]
    fn advice_and_remarks_are_comments() {
        for word in HOSTILE {
            let word = String::from_utf8_lossy(word).into_owned();
            let advice = Fix::advice(format!("{word} listens there; is that the upstream?")).to_string();
            let remark = Fix::command("true").remark(word).to_string();
            for line in [advice, remark] {
                let ran = Command::new("bash").args(["-xc", &line]).output().expect("bash");
                let trace = String::from_utf8_lossy(&ran.stderr).into_owned();
                assert!(ran.status.success() && ["", "+ true\n"].contains(&&*trace), "{line}: {trace}");
            }
        }
    }
}
