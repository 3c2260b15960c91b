//! Points in time: the clock, the layout of tables, and the form of Incus's JSON and YAML, where "never" is Go's zero time.

use crate::error::{Error, Result};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Go's zero time, which stands for "never" in Incus's objects.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// Name under which [`GoTime`] reaches a serializer, so that the YAML writer leaves it unquoted as Go does.
pub(crate) const NEWTYPE: &str = "$stapes::time";

/// The clock.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Local time as tables show it: `2026/08/22 15:32 CEST`.
pub fn format_table(time: Timestamp) -> String {
    format_table_in(time, TimeZone::system())
}

/// [`format_table`] in a given zone.
pub fn format_table_in(time: Timestamp, zone: TimeZone) -> String {
    time.to_zoned(zone).strftime("%Y/%m/%d %H:%M %Z").to_string()
}

/// Reads what [`format_table`] writes, in UTC or this host's zone.
///
/// # Errors
/// Invalid: another form, or another zone.
pub fn parse_table(text: &str) -> Result<Timestamp> {
    parse_table_in(text, TimeZone::system())
}

fn parse_table_in(text: &str, zone: TimeZone) -> Result<Timestamp> {
    let wrong = || Error::invalid(format!("Invalid time {text:?}"));
    let (date, named) = text.trim().rsplit_once(' ').ok_or_else(wrong)?;
    let date = DateTime::strptime("%Y/%m/%d %H:%M", date).map_err(|e| wrong().caused_by(e))?;
    let zone = if named == "UTC" { TimeZone::UTC } else { zone };
    let time = date.to_zoned(zone).map_err(|e| wrong().caused_by(e))?;
    if time.strftime("%Z").to_string() == named { Ok(time.timestamp()) } else { Err(wrong()) }
}

/// RFC 3339 in UTC with as many decimals as are needed; none is Go's zero time.
pub fn rfc3339(time: Option<Timestamp>) -> String {
    time.map_or_else(|| ZERO.to_string(), |t| t.to_string())
}

/// Reads RFC 3339; Go's zero time is none.
pub fn parse_rfc3339(text: &str) -> Result<Option<Timestamp>> {
    let time: Timestamp = text.parse().map_err(|e| Error::invalid(format!("Invalid time {text:?}")).caused_by(e))?;
    let zero: Timestamp = ZERO.parse().map_err(|e| Error::internal("Go's zero time").caused_by(e))?;
    Ok((time != zero).then_some(time))
}

/// A time in one of Incus's objects: serialised as RFC 3339, never as null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct GoTime(pub Option<Timestamp>);

impl From<Timestamp> for GoTime {
    fn from(time: Timestamp) -> Self {
        Self(Some(time))
    }
}

impl From<Option<Timestamp>> for GoTime {
    fn from(time: Option<Timestamp>) -> Self {
        Self(time)
    }
}

impl Serialize for GoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(NEWTYPE, &rfc3339(self.0))
    }
}

impl<'de> Deserialize<'de> for GoTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        if text.is_empty() {
            return Ok(Self(None));
        }
        parse_rfc3339(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// The end of a life time such as `1d 3H` that begins at `from`: `S` seconds, `M` minutes, `H` hours, `d` days, `w` weeks,
/// `m` months, `y` years, each at most once. Empty is never. Calendar units count in UTC.
pub fn expiry(from: Timestamp, text: &str) -> Result<Option<Timestamp>> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || Error::invalid("Invalid expiry expression");
    let mut fields = [0i64; 7];
    for field in text.split(' ') {
        let unit = field.chars().last().and_then(|u| "SMHdwmy".find(u)).ok_or_else(wrong)?;
        let digits = &field[..field.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) || fields[unit] > 0 {
            return Err(wrong());
        }
        fields[unit] = digits.parse().map_err(|_| wrong())?;
    }
    let [seconds, minutes, hours, days, weeks, months, years] = fields;
    let span = || -> Result<Span, jiff::Error> {
        Span::new().try_years(years)?.try_months(months)?.try_weeks(weeks)?.try_days(days)
    };
    let rest =
        || -> Result<Span, jiff::Error> { Span::new().try_hours(hours)?.try_minutes(minutes)?.try_seconds(seconds) };
    let end = (|| from.to_zoned(TimeZone::UTC).checked_add(span()?)?.checked_add(rest()?))();
    end.map(|t| Some(t.timestamp())).map_err(|e| wrong().caused_by(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("time")
    }

    #[test]
    fn what_tables_show_is_read() {
        let zone = || TimeZone::fixed(jiff::tz::offset(2));
        let time = at("2026-08-22T13:32:00Z");
        for shown in [format_table_in(time, TimeZone::UTC), format_table_in(time, zone())] {
            assert_eq!(parse_table_in(&shown, zone()).expect(&shown), time);
        }
        for bad in ["", "2026/08/22", "2026/08/22 15:32", "2026/08/22 15:32 CEST", "2026/13/22 15:32 UTC", "x UTC"] {
            assert!(parse_table_in(bad, zone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn layouts() {
        let t = at("2026-08-22T15:32:15.25Z");
        assert_eq!(format_table_in(t, TimeZone::UTC), "2026/08/22 15:32 UTC");
        assert_eq!(rfc3339(Some(t)), "2026-08-22T15:32:15.25Z");
        assert_eq!(rfc3339(None), ZERO);
        assert_eq!(serde_json::to_string(&GoTime(None)).expect("json"), format!("{ZERO:?}"));
        let back: GoTime = serde_json::from_str("\"2026-08-22T17:32:15.25+02:00\"").expect("time");
        assert_eq!(back, GoTime(Some(t)));
        assert_eq!(serde_json::from_str::<GoTime>(&format!("{ZERO:?}")).expect("time"), GoTime(None));
        assert_eq!(serde_json::from_str::<GoTime>("null").expect("time"), GoTime(None));
    }

    #[test]
    fn expiries() {
        let t = at("2024-01-31T00:00:00Z");
        let end = |s| expiry(t, s).expect(s).map(|t| t.to_string());
        assert_eq!(end(""), None);
        assert_eq!(end("1d 3H").as_deref(), Some("2024-02-01T03:00:00Z"));
        assert_eq!(end("2w").as_deref(), Some("2024-02-14T00:00:00Z"));
        assert_eq!(end("1M").as_deref(), Some("2024-01-31T00:01:00Z"));
        assert_eq!(end("1y 10S").as_deref(), Some("2025-01-31T00:00:10Z"));
        for bad in ["1", "d", "1D", "1d 1d", "1d  2H", "-1d", "1.5d", "99999999999d", "1é"] {
            assert!(expiry(t, bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn expiry_never_panics(text in "[0-9SMHdwmy ]{0,12}") {
            let _ = expiry(at("2024-01-31T00:00:00Z"), &text);
        }
    }
}
