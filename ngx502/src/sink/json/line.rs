//! A verdict's line, written straight into the buffer.
//!
//! In a storm, and in the replay of one, nearly all output is lines of this kind, and most of their bytes are names of
//! fields and texts that need no escaping: names are written as they are, texts are looked through once and copied.
//! What needs escaping goes through `serde_json` as every other line does. The fields, in their order:
//!
//! | field | |
//! |---|---|
//! | `type` | `verdict` or `rescued` |
//! | `time` | when nginx answered |
//! | `status` | what the client saw |
//! | `host` | the traced machine |
//! | `request` | `method`, `uri`, `host`, `client` |
//! | `worker` | `pid`, `exe`, `container`, `container_name` |
//! | `upstream` | `address` as nginx names it, `kind` (`tcp`, `unix`), `process`: `pid`, `comm`, `unit`, `container`, `container_name`, `pool` (php-fpm) |
//! | `symptom`, `cause`, `certainty` | the contract's words; a symptom that has none there is null |
//! | `summary` | one sentence a person can act on |
//! | `evidence` | observed facts in time order: `time`, `event`, `text` |
//! | `attempts` | in nginx's order, the last decides: `upstream`, `symptom`, `cause`, `errno`, `connect_us`, `first_byte_us`, `total_us` |
//! | `errno` | symbolic: `ECONNREFUSED` |
//! | `latency` | times of the deciding attempt: `connect_us`, `first_byte_us`, `total_us` |
//! | `fix` | a command or configuration line each |

use std::fmt;
use std::io;

use bstr::ByteSlice;
use serde::Serialize;

use super::VisibleFormatter;
use crate::attribute::text::Text;
use crate::attribute::verdict::{
    AttemptFacts, Evidence, ProcessFacts, RequestFacts, Symptom, Times, UpstreamFacts, Verdict, WorkerFacts,
};
use crate::escape::is_deceptive;
use crate::event::{ContainerNames, Nanos};
use crate::session::Session;
use crate::time::Moment;
use crate::units::Errno;

/// Appends verdicts to a buffer.
pub(super) struct LineWriter<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) session: &'a Session,
}

impl LineWriter<'_> {
    /// Appends the line of a verdict; `kind` is its `type`.
    ///
    /// # Errors
    /// None in practice: memory takes every byte.
    pub(super) fn verdict(&mut self, kind: &'static str, verdict: &Verdict) -> io::Result<()> {
        self.put("{\"type\":\"");
        self.put(kind);
        self.put("\",\"time\":");
        self.time(verdict.at);
        self.put(",\"status\":");
        self.number(verdict.status.into());
        self.put(",\"host\":");
        self.text(&verdict.host)?;
        self.put(",\"request\":");
        self.object(verdict.request.as_ref(), Self::request)?;
        self.put(",\"worker\":");
        self.worker(&verdict.worker)?;
        self.put(",\"upstream\":");
        self.object(verdict.upstream.as_ref(), Self::upstream)?;
        self.word(",\"symptom\":", verdict.symptom.fact());
        self.word(",\"cause\":", Some(verdict.cause.as_str()));
        self.word(",\"certainty\":", Some(verdict.certainty.as_str()));
        self.put(",\"summary\":");
        self.sentence(&verdict.summary)?;
        self.put(",\"evidence\":");
        self.list(&verdict.evidence, Self::evidence)?;
        self.put(",\"attempts\":");
        self.list(&verdict.attempts, Self::attempt)?;
        self.errno(",\"errno\":", verdict.errno);
        self.put(",\"latency\":{");
        self.times(&verdict.latency);
        self.put("},\"fix\":");
        self.list(&verdict.fix, Self::sentence)?;
        self.put("}\n");
        Ok(())
    }

    fn request(&mut self, request: &RequestFacts) -> io::Result<()> {
        self.bytes("{\"method\":", request.method.as_ref())?;
        self.bytes(",\"uri\":", request.uri.as_ref())?;
        self.bytes(",\"host\":", request.host.as_ref())?;
        self.bytes(",\"client\":", request.client.as_ref())?;
        self.put("}");
        Ok(())
    }

    fn worker(&mut self, worker: &WorkerFacts) -> io::Result<()> {
        self.put("{\"pid\":");
        self.number(worker.pid.0.into());
        self.bytes(",\"exe\":", worker.exe.as_ref())?;
        self.bytes(",\"container\":", worker.container.as_ref())?;
        self.bytes(",\"container_name\":", worker.container_name.as_ref())?;
        self.put("}");
        Ok(())
    }

    fn upstream(&mut self, upstream: &UpstreamFacts) -> io::Result<()> {
        self.bytes("{\"address\":", Some(&upstream.address))?;
        self.word(",\"kind\":", Some(if upstream.unix { "unix" } else { "tcp" }));
        self.put(",\"process\":");
        self.object(upstream.process.as_deref(), Self::process)?;
        self.put("}");
        Ok(())
    }

    fn process(&mut self, process: &ProcessFacts) -> io::Result<()> {
        self.put("{\"pid\":");
        self.number(process.pid.0.into());
        self.bytes(",\"comm\":", Some(&process.comm))?;
        self.bytes(",\"unit\":", process.unit.as_deref())?;
        self.bytes(",\"container\":", process.container.as_ref())?;
        let name = process.container_names.as_ref().and_then(ContainerNames::label);
        self.bytes(",\"container_name\":", name.as_ref())?;
        self.bytes(",\"pool\":", process.pool.as_ref())?;
        self.put("}");
        Ok(())
    }

    fn evidence(&mut self, fact: &Evidence) -> io::Result<()> {
        self.put("{\"time\":");
        self.time(fact.at);
        self.word(",\"event\":", Some(fact.event));
        self.put(",\"text\":");
        self.sentence(&fact.text)?;
        self.put("}");
        Ok(())
    }

    fn attempt(&mut self, attempt: &AttemptFacts) -> io::Result<()> {
        self.bytes("{\"upstream\":", attempt.upstream.as_ref())?;
        self.word(",\"symptom\":", attempt.symptom.and_then(Symptom::fact));
        self.word(",\"cause\":", attempt.cause.map(|cause| cause.as_str()));
        self.errno(",\"errno\":", attempt.errno);
        self.put(",");
        self.times(&attempt.times);
        self.put("}");
        Ok(())
    }

    fn times(&mut self, times: &Times) {
        self.micros("\"connect_us\":", times.connect_us);
        self.micros(",\"first_byte_us\":", times.first_byte_us);
        self.micros(",\"total_us\":", times.total_us);
    }

    fn object<T>(
        &mut self,
        value: Option<&T>,
        write: impl FnOnce(&mut Self, &T) -> io::Result<()>,
    ) -> io::Result<()> {
        match value {
            Some(value) => write(self, value),
            None => {
                self.put("null");
                Ok(())
            }
        }
    }

    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T) -> io::Result<()>) -> io::Result<()> {
        self.put("[");
        for (number, item) in items.iter().enumerate() {
            if number > 0 {
                self.put(",");
            }
            write(self, item)?;
        }
        self.put("]");
        Ok(())
    }

    /// What needs no escaping: names of fields, words of the contract.
    #[inline(always)]
    fn put(&mut self, plain: &str) {
        self.out.extend_from_slice(plain.as_bytes());
    }

    fn number(&mut self, number: u64) {
        self.put(itoa::Buffer::new().format(number));
    }

    fn micros(&mut self, name: &'static str, micros: Option<u64>) {
        self.put(name);
        match micros {
            Some(micros) => self.number(micros),
            None => self.put("null"),
        }
    }

    fn word(&mut self, name: &'static str, word: Option<&'static str>) {
        self.put(name);
        match word {
            Some(word) => {
                self.put("\"");
                self.put(word);
                self.put("\"");
            }
            None => self.put("null"),
        }
    }

    fn errno(&mut self, name: &'static str, errno: Option<i32>) {
        self.put(name);
        match errno {
            Some(errno) => {
                self.put("\"");
                self.put(&Errno(errno).name());
                self.put("\"");
            }
            None => self.put("null"),
        }
    }

    fn time(&mut self, at: Nanos) {
        self.out.push(b'"');
        self.out.extend_from_slice(&Moment::of(self.session, at).rfc3339());
        self.out.push(b'"');
    }

    /// Bytes as a string, U+FFFD for what is not UTF-8.
    fn bytes(&mut self, name: &'static str, bytes: Option<impl AsRef<[u8]>>) -> io::Result<()> {
        self.put(name);
        match bytes.as_ref().map(AsRef::as_ref) {
            Some(bytes) if is_plain(bytes) => {
                self.put("\"");
                self.out.extend_from_slice(bytes);
                self.put("\"");
                Ok(())
            }
            Some(bytes) => self.text(&bytes.to_str_lossy()),
            None => {
                self.put("null");
                Ok(())
            }
        }
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        if needs_escape(text) {
            return self.escaped(text);
        }
        self.put("\"");
        self.put(text);
        self.put("\"");
        Ok(())
    }

    /// A sentence part by part, or at once where a part needs escaping.
    fn sentence(&mut self, text: &Text) -> io::Result<()> {
        let begin = self.out.len();
        self.out.push(b'"');
        if text.write_to(&mut Harmless(self.out)).is_err() {
            self.out.truncate(begin);
            return self.escaped(&text.to_str());
        }
        self.put("\"");
        Ok(())
    }

    fn escaped(&mut self, text: &str) -> io::Result<()> {
        let mut serializer = serde_json::Serializer::with_formatter(&mut *self.out, VisibleFormatter);
        Ok(text.serialize(&mut serializer)?)
    }
}

/// Takes text that needs no escaping, and fails on any other.
struct Harmless<'a>(&'a mut Vec<u8>);

impl fmt::Write for Harmless<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if needs_escape(text) {
            return Err(fmt::Error);
        }
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn needs_escape(text: &str) -> bool {
    !is_plain(text.as_bytes()) && text.chars().any(|one| matches!(one, '"' | '\\') || is_deceptive(one))
}

/// Printable ASCII without quote and backslash. Eight bytes at a time: most texts are short, and there are thirty in a
/// line. Each term's high bits are set where a byte is what it looks for, and perhaps beside one that is.
fn is_plain(bytes: &[u8]) -> bool {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let odd = |eight: u64| {
        let below = |word: u64, limit: u8| word.wrapping_sub(each(limit)) & !word;
        let is = |byte: u8| below(eight ^ each(byte), 1);
        (eight | below(eight, b' ') | is(b'"') | is(b'\\') | is(0x7f)) & each(0x80)
    };
    let word = |eight: &[u8; 8]| u64::from_ne_bytes(*eight);
    let found = match bytes.last_chunk() {
        // It overlaps the last whole one.
        Some(last) => {
            bytes.as_chunks().0.iter().fold(odd(word(last)), |found, eight| found | odd(word(eight)))
        }
        None => odd(bytes.iter().fold(each(b' '), |word, byte| word << 8 | u64::from(*byte))),
    };
    found == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_is_not_plain_is_found_wherever_it_is() {
        for byte in 0..=u8::MAX {
            let plain = (b' '..0x7f).contains(&byte) && !matches!(byte, b'"' | b'\\');
            for len in 1..=20 {
                for at in 0..len {
                    for fill in [b' ', b'!', b'#', b'[', b']', b'~'] {
                        let mut text = vec![fill; len];
                        text[at] = byte;
                        assert_eq!(is_plain(&text), plain, "{byte:#x} at {at} of {len}");
                    }
                }
            }
        }
        assert!(is_plain(b""));
    }
}
