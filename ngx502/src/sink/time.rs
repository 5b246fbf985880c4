//! Times as text: RFC 3339 in UTC for machines, the time of day and spans for people.

use std::fmt::{self, Write};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};

/// A point in time, as RFC 3339 UTC with microseconds: `2026-11-21T03:14:15.926535Z`.
///
/// Serialises as that string. What lies outside the years 1970 to 9999 is shown as the nearest time inside: captures
/// are input, and a time is never a reason to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339([u8; 27]);

impl Rfc3339 {
    /// The text of a time in nanoseconds since the Unix epoch.
    pub fn new(wall_ns: i128) -> Rfc3339 {
        let time = civil(wall_ns);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        put_digits(&mut text[0..4], i64::from(time.year()));
        for (start, value) in
            [(5, time.month()), (8, time.day()), (11, time.hour()), (14, time.minute()), (17, time.second())]
        {
            put_digits(&mut text[start..start + 2], i64::from(value));
        }
        put_digits(&mut text[20..26], i64::from(time.subsec_nanosecond() / 1_000));
        Rfc3339(text)
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("only ASCII digits and punctuation are ever written")
    }

    /// The whole text, as ASCII.
    pub fn as_bytes(&self) -> &[u8; 27] {
        &self.0
    }

    /// `2026-11-21`.
    pub fn date(&self) -> &str {
        &self.as_str()[..10]
    }

    /// `03:14:15.926Z`: the time of day in UTC with milliseconds.
    pub fn time_of_day(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(|f| write!(f, "{}Z", &self.as_str()[11..23]))
    }
}

/// Times that lie close together as text: the calendar is asked once a second of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Nanoseconds of the seconds last asked for, and their beginnings as text; by the second's last bits, since one
    /// verdict tells of several moments.
    seconds: [Option<(i128, Rfc3339)>; 8],
}

impl Clock {
    /// [`Rfc3339::new`], faster.
    pub fn rfc3339(&mut self, wall_ns: i128) -> Rfc3339 {
        const SECOND: i128 = 1_000_000_000;
        let Ok(wall) = u64::try_from(wall_ns) else { return Rfc3339::new(wall_ns) };
        let begin = i128::from(wall / 1_000_000_000) * SECOND;
        let known = &mut self.seconds[(wall / 1_000_000_000 % 8) as usize];
        let mut time = match known {
            Some((second, time)) if *second == begin => *time,
            _ => known.insert((begin, Rfc3339::new(begin))).1,
        };
        put_digits(&mut time.0[20..26], (wall % 1_000_000_000 / 1_000).cast_signed());
        time
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The UTC date and time, clamped to 1970..=9999.
fn civil(wall_ns: i128) -> DateTime {
    let clamped = wall_ns.clamp(0, Timestamp::MAX.as_nanosecond());
    let timestamp = Timestamp::from_nanosecond(clamped).expect("clamped to the range of Timestamp");
    TimeZone::UTC.to_datetime(timestamp)
}

/// Fills `place` with the last decimal digits of `value`.
fn put_digits(place: &mut [u8], value: i64) {
    let mut rest = value.unsigned_abs();
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// A duration in microseconds for people, few digits: `85 µs`, `1.2 ms`, `12.3 s`, `4 min 10 s`.
pub fn span(micros: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| match micros {
        0..1_000 => write!(f, "{micros} µs"),
        1_000..10_000 => write!(f, "{} ms", tenths(micros, 1_000)),
        10_000..1_000_000 => write!(f, "{} ms", micros / 1_000),
        1_000_000..100_000_000 => write!(f, "{} s", tenths(micros, 1_000_000)),
        _ => long_span(f, micros / 1_000_000),
    })
}

fn long_span(f: &mut fmt::Formatter<'_>, seconds: u64) -> fmt::Result {
    match seconds {
        0..3_600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => write!(f, "{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => write!(f, "{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// `value / unit` with one decimal, cut (not rounded), so that 9.99 ms does not read as 10.0 ms.
fn tenths(value: u64, unit: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| write!(f, "{}.{}", value / unit, value % unit * 10 / unit))
}

/// A number with thousands separators: `12,345`.
pub fn grouped(number: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let digits = number.to_string();
        let mut text = String::with_capacity(digits.len() + digits.len() / 3);
        for (at, digit) in digits.char_indices() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                text.write_char(',')?;
            }
            text.write_char(digit)?;
        }
        f.pad(&text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_agrees_with_jiff_over_the_whole_range() {
        let (mut wall, mut clock): (i128, _) = (1, Clock::default());
        while wall < Timestamp::MAX.as_nanosecond() {
            let whole_micros = wall / 1_000 * 1_000;
            let expected = format!("{:.6}", Timestamp::from_nanosecond(whole_micros).expect("in range"));
            assert_eq!(Rfc3339::new(wall).as_str(), expected);
            assert_eq!(clock.rfc3339(wall).as_str(), expected);
            assert_eq!(clock.rfc3339(wall / 7 * 7), Rfc3339::new(wall / 7 * 7));
            wall = wall * 17 / 16 + 86_399_123_456_789;
        }
    }

    #[test]
    fn absurd_times_are_clamped() {
        assert_eq!(Rfc3339::new(i128::MIN).as_str(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(Clock::default().rfc3339(i128::from(u64::MAX)), Rfc3339::new(i128::from(u64::MAX)));
        assert_eq!(Clock::default().rfc3339(-1), Rfc3339::new(-1));
        assert_eq!(Rfc3339::new(i128::MAX).date(), "9999-12-30");
    }

    #[test]
    fn parts_of_a_time() {
        let time = Rfc3339::new(1_795_230_855_926_535_897);
        assert_eq!(time.as_str(), "2026-11-21T03:14:15.926535Z");
        assert_eq!(time.date(), "2026-11-21");
        assert_eq!(time.time_of_day().to_string(), "03:14:15.926Z");
    }

    #[test]
    fn spans_keep_few_digits() {
        let shown: Vec<_> =
            [0, 85, 1_250, 9_999, 340_000, 12_345_678, 250_000_000, 7_260_000_000, 90_000_000_000]
                .map(|micros| span(micros).to_string())
                .into();
        assert_eq!(
            shown,
            ["0 µs", "85 µs", "1.2 ms", "9.9 ms", "340 ms", "12.3 s", "4 min 10 s", "2 h 1 min", "1 d 1 h"]
        );
    }

    #[test]
    fn thousands_are_separated() {
        let shown = [0, 999, 1_000, 12_345, 1_234_567].map(|number| grouped(number).to_string());
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!(format!("{:>8}", grouped(1_000)), "   1,000");
    }
}
