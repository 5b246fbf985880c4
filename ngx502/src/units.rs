//! Quantities, each with one type and one way to be printed: the same in the terminal, reports, CSV and JSON.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use serde::{Serialize, Serializer};

/// A duration in microseconds. Prints as people say it, with up to three digits that count, cut and not rounded:
/// `85 µs`, `1.25 ms`, `12.3 s`, `4 min 10 s`, `2 h 1 min`, `1 d 1 h`. Serialises as the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Micros(pub u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000;
        match (self.0, seconds) {
            (0..1_000, _) => {
                f.write_str(itoa::Buffer::new().format(self.0))?;
                f.write_str(" µs")
            }
            (..1_000_000, _) => three_digits(f, self.0, 1_000, "ms"),
            (_, ..100) => three_digits(f, self.0, 1_000_000, "s"),
            (_, ..3_600) => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            (_, ..86_400) => write!(f, "{} h {} min", seconds / 3_600, seconds / 60 % 60),
            _ => write!(f, "{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
        }
    }
}

/// Writes `value / unit` with three digits that count, zeros after the point left out. The value is below 1,000 units.
fn three_digits(f: &mut fmt::Formatter<'_>, value: u64, unit: u64, name: &str) -> fmt::Result {
    let (whole, rest) = (value / unit, value % unit);
    let hundredths = match whole {
        0..10 => rest * 100 / unit,
        10..100 => rest * 10 / unit * 10,
        _ => 0,
    };
    match (hundredths, hundredths % 10) {
        (0, _) => write!(f, "{whole} {name}"),
        (_, 0) => write!(f, "{whole}.{} {name}", hundredths / 10),
        _ => write!(f, "{whole}.{hundredths:02} {name}"),
    }
}

/// A count, with its thousands separated: `12,345`. Takes a width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::with_capacity(digits.len() + digits.len() / 3);
        for (at, digit) in digits.char_indices() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// `1 request`, `12,345 requests`: a count with its noun, in the plural unless it is one.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", Count(number), if number == 1 { "" } else { "s" })
}

/// A size in bytes, in the largest binary unit that it fills: `512 MiB`, `1.5 GiB`, `40 KiB`, `7 bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        match UNITS.into_iter().find(|(shift, _)| self.0 >> shift > 0) {
            None if self.0 == 1 => f.write_str("1 byte"),
            None => write!(f, "{} bytes", self.0),
            Some((shift, unit)) => {
                let (whole, tenth) = (self.0 >> shift, ((self.0 & ((1 << shift) - 1)) * 10) >> shift);
                match whole < 10 && tenth > 0 {
                    true => write!(f, "{whole}.{tenth} {unit}"),
                    false => write!(f, "{whole} {unit}"),
                }
            }
        }
    }
}

/// A share of a whole, between 0 and 1: `93 %`, `0.4 %`, `<0.1 %`; never `100 %` for what is not all, nor `0 %` for what
/// is not nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Share(pub f64);

impl Share {
    /// `part` of `whole`; nothing of nothing is 0.
    pub fn of(part: u64, whole: u64) -> Share {
        Share(if whole == 0 { 0.0 } else { part as f64 / whole as f64 })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 * 100.0 {
            0.0 => "0 %".to_owned(),
            percent if percent < 0.1 => "<0.1 %".to_owned(),
            percent if percent < 9.95 => format!("{percent:.1} %"),
            percent if self.0 < 1.0 => format!("{:.0} %", percent.min(99.0)),
            percent => format!("{percent:.0} %"),
        };
        f.pad(&text)
    }
}

/// An errno. Prints and serialises as its symbolic name, `ECONNREFUSED`; as `errno 4242` where it has none here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// The name as it is printed, made once.
    pub fn name(self) -> Cow<'static, str> {
        static KNOWN: LazyLock<Vec<String>> = LazyLock::new(|| {
            // Linux has 133 of them.
            (0..134).map(|number| Errno(number).made()).collect()
        });
        let known = usize::try_from(self.0).ok().and_then(|number| KNOWN.get(number));
        known.map_or_else(|| Cow::Owned(self.made()), |name| Cow::Borrowed(name.as_str()))
    }

    fn made(self) -> String {
        match nix::errno::Errno::from_raw(self.0) {
            nix::errno::Errno::UnknownErrno => format!("errno {}", self.0),
            known => format!("{known:?}"),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

impl Serialize for Errno {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

/// A signal. Prints and serialises as its name: `SIGKILL`, `SIGRTMIN+3`; as `signal 99` where there is no such signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalNumber(pub i32);

impl fmt::Display for SignalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The kernel's first real-time signal is 32; glibc keeps two for itself.
        const RTMIN: i32 = 34;
        const RTMAX: i32 = 64;
        match nix::sys::signal::Signal::try_from(self.0) {
            Ok(known) => f.write_str(known.as_str()),
            Err(_) if self.0 == RTMIN => f.write_str("SIGRTMIN"),
            Err(_) if (RTMIN..=RTMAX).contains(&self.0) => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            Err(_) => write!(f, "signal {}", self.0),
        }
    }
}

impl Serialize for SignalNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_the_digits_that_count() {
        let said = [
            (0, "0 µs"),
            (85, "85 µs"),
            (1_000, "1 ms"),
            (1_006, "1 ms"),
            (1_250, "1.25 ms"),
            (1_059, "1.05 ms"),
            (9_999, "9.99 ms"),
            (12_300, "12.3 ms"),
            (12_049, "12 ms"),
            (340_999, "340 ms"),
            (1_625_000, "1.62 s"),
            (12_345_678, "12.3 s"),
            (60_000_000, "60 s"),
            (250_000_000, "4 min 10 s"),
            (7_260_000_000, "2 h 1 min"),
            (90_000_000_000, "1 d 1 h"),
        ];
        for (micros, text) in said {
            assert_eq!(Micros(micros).to_string(), text, "{micros}");
        }
    }

    #[test]
    fn thousands_are_separated() {
        let shown = [0, 999, 1_000, 12_345, 1_234_567].map(|number| Count(number).to_string());
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!(format!("{:>8}", Count(1_000)), "   1,000");
    }

    #[test]
    fn sizes_have_binary_units() {
        let shown =
            [1, 7, 40 << 10, (1 << 20) - 1, 512 << 20, 3 << 29, 34 << 30].map(|size| Bytes(size).to_string());
        assert_eq!(shown, ["1 byte", "7 bytes", "40 KiB", "1023 KiB", "512 MiB", "1.5 GiB", "34 GiB"]);
        assert_eq!(Bytes(u64::MAX).to_string(), "16777215 TiB");
    }

    #[test]
    fn a_share_is_never_all_or_nothing_unless_it_is() {
        let shown = [0.0, 0.0001, 0.004, 0.93, 0.9999, 1.0].map(|share| Share(share).to_string());
        assert_eq!(shown, ["0 %", "<0.1 %", "0.4 %", "93 %", "99 %", "100 %"]);
        assert_eq!((Share::of(1, 4), Share::of(0, 0)), (Share(0.25), Share(0.0)));
    }

    #[test]
    fn numbers_of_the_kernel_have_their_names() {
        let errnos = [111, 11, 4242, -1].map(|number| Errno(number).to_string());
        assert_eq!(errnos, ["ECONNREFUSED", "EAGAIN", "errno 4242", "errno -1"]);
        let signals = [9, 11, 31, 34, 40, 0, 99].map(|number| SignalNumber(number).to_string());
        assert_eq!(
            signals,
            ["SIGKILL", "SIGSEGV", "SIGSYS", "SIGRTMIN", "SIGRTMIN+6", "signal 0", "signal 99"]
        );
    }
}
