//! Wall-clock moments and durations as a report writes them.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::event::Nanos;
use crate::session::Session;

/// A moment in UTC with microseconds, between the years -9999 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// A boot time of the session's host; moments outside the calendar become its ends.
    pub fn of(session: &Session, at: Nanos) -> Time {
        let micros = session.wall(at).div_euclid(1_000);
        Time::from_micros(i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX }))
    }

    /// Microseconds since the Unix epoch; moments outside the calendar become its ends.
    pub fn from_micros(micros: i64) -> Time {
        Time(micros.clamp(Timestamp::MIN.as_microsecond(), Timestamp::MAX.as_microsecond()))
    }

    /// Microseconds since the Unix epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// `2026-11-21`.
    pub fn date(self) -> String {
        self.format("%Y-%m-%d")
    }

    /// `02:01:12`.
    pub fn clock(self) -> String {
        self.format("%H:%M:%S")
    }

    /// `02:01:12.345678`.
    pub fn precise(self) -> String {
        self.format("%H:%M:%S%.6f")
    }

    /// `02:01`.
    pub fn minute(self) -> String {
        self.format("%H:%M")
    }

    fn format(self, pattern: &str) -> String {
        let moment = Timestamp::from_microsecond(self.0).unwrap_or(Timestamp::UNIX_EPOCH);
        moment.to_zoned(TimeZone::UTC).strftime(pattern).to_string()
    }
}

/// RFC 3339 with microseconds.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.format("%Y-%m-%dT%H:%M:%S%.6fZ"))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment: Timestamp = text.parse().map_err(de::Error::custom)?;
        Ok(Time(moment.as_microsecond()))
    }
}

/// A duration with a unit that suits it and three significant digits: `870 µs`, `1.25 ms`, `60 s`.
pub fn duration(micros: u64) -> String {
    let (value, unit) = match micros {
        0..1_000 => return format!("{micros} µs"),
        1_000..1_000_000 => (micros as f64 / 1e3, "ms"),
        _ => (micros as f64 / 1e6, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    let number = format!("{value:.digits$}");
    let number = if digits > 0 { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number} {unit}")
}

/// A count with thousands separated: `12,345`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share as a percentage: `93 %`, `0.4 %`, `<0.1 %`.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        value if value < 0.1 => "<0.1 %".to_owned(),
        value if value < 9.95 => format!("{value:.1} %"),
        // Never "100 %" for what is not all.
        value if share < 1.0 => format!("{:.0} %", value.min(99.0)),
        value => format!("{value:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_counts_and_shares_read_well() {
        let shown: Vec<_> = [0, 999, 1_000, 1_250, 12_340, 123_456, 60_000_000].map(duration).into();
        assert_eq!(shown, ["0 µs", "999 µs", "1 ms", "1.25 ms", "12.3 ms", "123 ms", "60 s"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.0, 0.0001, 0.004, 0.93, 0.9999, 1.0].map(percent),
            ["0 %", "<0.1 %", "0.4 %", "93 %", "99 %", "100 %"]
        );
    }

    #[test]
    fn times_survive_json_and_garbage_offsets() {
        let time = Time::from_micros(1_795_000_000_123_456);
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "\"2026-11-18T11:06:40.123456Z\"");
        assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), time);
        let session = Session { wall_offset: i64::MAX, ..Session::default() };
        assert!(Time::of(&session, Nanos(u64::MAX)).to_string().ends_with('Z'));
    }
}
