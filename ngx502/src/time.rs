//! Moments of wall-clock time, and the texts they have: RFC 3339 in UTC, and parts of it for people.

use std::cell::Cell;
use std::fmt;

use jiff::Timestamp;
use jiff::tz::Offset;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::event::Nanos;
use crate::session::Session;
use crate::units::Micros;

/// A moment in UTC with microseconds. Prints and serialises as RFC 3339: `2026-11-21T03:14:15.926535Z`.
///
/// What lies outside the years 1970 to 9999 becomes the nearest moment inside: captures are input, and a time is never
/// a reason to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

impl Moment {
    /// A boot time of the session's host.
    pub fn of(session: &Session, at: Nanos) -> Moment {
        Moment::from_nanos(session.wall(at))
    }

    /// So many nanoseconds before.
    pub fn before(self, nanos: u64) -> Moment {
        Moment(self.0.saturating_sub_unsigned(nanos))
    }

    /// Nanoseconds since the Unix epoch.
    fn from_nanos(wall_ns: i128) -> Moment {
        match u64::try_from(wall_ns) {
            Ok(nanos) => Moment((nanos / 1_000).cast_signed()),
            Err(_) => Moment::from_micros(i64::try_from(wall_ns / 1_000).unwrap_or(if wall_ns < 0 {
                0
            } else {
                i64::MAX
            })),
        }
    }

    /// Microseconds since the Unix epoch.
    pub fn from_micros(micros: i64) -> Moment {
        Moment(micros.clamp(0, Timestamp::MAX.as_microsecond()))
    }

    /// Microseconds since the Unix epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// How long after `earlier` it is; nothing when it is before.
    pub fn since(self, earlier: Moment) -> Micros {
        Micros((self.0 - earlier.0).max(0).unsigned_abs())
    }

    /// The whole text, as ASCII.
    pub fn rfc3339(self) -> [u8; 27] {
        thread_local! {
            /// The second shown last: neighbours in a verdict mostly share it, and the calendar is what costs.
            static LAST: Cell<(i64, [u8; 27])> = const { Cell::new((0, *b"1970-01-01T00:00:00.000000Z")) };
        }
        let second = self.0 / 1_000_000;
        let (last, mut text) = LAST.get();
        if last != second {
            text = whole_second(second);
            LAST.set((second, text));
        }
        let fraction = (self.0 % 1_000_000) as u32;
        put(&mut text, [(20, fraction / 10_000), (22, fraction / 100 % 100), (24, fraction % 100)]);
        text
    }

    /// `2026-11-21`.
    pub fn date(self) -> String {
        self.part(0, 10)
    }

    /// `02:01`.
    pub fn minute(self) -> String {
        self.part(11, 16)
    }

    /// `02:01:12`.
    pub fn clock(self) -> String {
        self.part(11, 19)
    }

    /// `02:01:12.345`.
    pub fn millis(self) -> String {
        self.part(11, 23)
    }

    /// `02:01:12.345678`.
    pub fn precise(self) -> String {
        self.part(11, 26)
    }

    fn part(self, from: usize, to: usize) -> String {
        self.rfc3339()[from..to].iter().copied().map(char::from).collect()
    }
}

/// The text of a second since 1970.
fn whole_second(second: i64) -> [u8; 27] {
    let time = Offset::UTC.to_datetime(Timestamp::from_second(second).unwrap_or(Timestamp::MAX));
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let year = u32::from(time.year().unsigned_abs());
    put(&mut text, [(0, year / 100), (2, year % 100)]);
    let parts =
        [(5, time.month()), (8, time.day()), (11, time.hour()), (14, time.minute()), (17, time.second())];
    put(&mut text, parts.map(|(at, value)| (at, value.unsigned_abs().into())));
    text
}

/// Writes numbers below 100, two digits each.
fn put<const N: usize>(text: &mut [u8; 27], pairs: [(usize, u32); N]) {
    for (at, value) in pairs {
        text[at] = b'0' + (value / 10) as u8;
        text[at + 1] = b'0' + (value % 10) as u8;
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(str::from_utf8(&self.rfc3339()).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Not by way of the formatter: a verdict has half a dozen of them.
        serializer.serialize_str(str::from_utf8(&self.rfc3339()).map_err(ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let moment: Timestamp = String::deserialize(deserializer)?.parse().map_err(de::Error::custom)?;
        Ok(Moment::from_micros(moment.as_microsecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_agrees_with_jiff_over_the_whole_range() {
        let mut micros = 1;
        while micros < Timestamp::MAX.as_microsecond() {
            let expected = format!("{:.6}", Timestamp::from_microsecond(micros).expect("in range"));
            assert_eq!(Moment::from_micros(micros).to_string(), expected);
            micros = micros / 16 * 17 + 86_399_123_457;
        }
    }

    #[test]
    fn absurd_times_are_clamped() {
        assert_eq!(Moment::from_nanos(i128::MIN).to_string(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(Moment::from_nanos(i128::MAX).date(), "9999-12-30");
        let session = Session { wall_offset: i64::MAX, ..Session::default() };
        assert_eq!(Moment::of(&session, Nanos(u64::MAX)).date(), "2846-10-30");
    }

    #[test]
    fn people_read_parts_of_it() {
        let time = Moment::from_nanos(1_795_230_855_926_535_897);
        assert_eq!(time.to_string(), "2026-11-21T03:14:15.926535Z");
        assert_eq!(
            [time.date(), time.minute(), time.clock(), time.millis(), time.precise()],
            ["2026-11-21", "03:14", "03:14:15", "03:14:15.926", "03:14:15.926535"]
        );
    }

    #[test]
    fn times_survive_json() {
        let time = Moment::from_micros(1_795_000_000_123_456);
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "\"2026-11-18T11:06:40.123456Z\"");
        assert_eq!(serde_json::from_str::<Moment>(&json).unwrap(), time);
    }
}
