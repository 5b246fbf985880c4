//! Times and sizes as people write them in options.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The least that a capture's file may hold: room for what each repeats of the ones before.
const SMALLEST: u64 = 1 << 20;

/// `250ms`, `30s`, `5m`, `2h`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration `{text}`: expected e.g. 30s, 5m or 1h");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| invalid())?;
    let unit = match &text[digits.len()..] {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(invalid()),
    };
    Duration::try_from_secs_f64(number * unit).map_err(|_| format!("`{text}` is out of range"))
}

/// `64M`, `1G`, `2T`: binary multiples; a bare number is bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let invalid = || format!("invalid size `{text}`: expected e.g. 500M or 1G");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| invalid())?;
    let shift = match text[digits.len()..].trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return Err(invalid()),
    };
    match number.checked_mul(1 << shift) {
        Some(size) if size >= SMALLEST => Ok(size),
        Some(_) => Err("too small: a capture file needs at least 1M".to_owned()),
        None => Err(format!("`{text}` is out of range")),
    }
}

/// `2026-11-21T02:00:00Z`, or with another offset; without one, or with the date alone, UTC.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    let civil = |text: &str| text.parse::<DateTime>().and_then(|time| time.to_zoned(TimeZone::UTC));
    text.parse()
        .or_else(|_| civil(text).map(|time| time.timestamp()))
        .map_err(|_| format!("invalid time `{text}`: expected e.g. 2026-11-21T02:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert!(duration("-1s").is_err());
        assert!(duration("10 parsecs").is_err());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("1G"), Ok(1 << 30));
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1048576"), Ok(1 << 20));
        for wrong in ["", "G", "1.5G", "1023K", "-1G", "99999999T", "1P"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn moments_are_utc_unless_they_say() {
        let at = |text: &str| moment(text).map(|time| time.to_string());
        assert_eq!(at("2026-11-21T02:00:00.5+01:00"), Ok("2026-11-21T01:00:00.5Z".to_owned()));
        assert_eq!(at("2026-11-21 02:00"), Ok("2026-11-21T02:00:00Z".to_owned()));
        assert_eq!(at("2026-11-21"), Ok("2026-11-21T00:00:00Z".to_owned()));
        assert!(at("yesterday").is_err());
    }
}
