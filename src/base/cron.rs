//! Schedules of five fields (crontab(5)) and the `@daily` kind of names, as `snapshots.schedule` takes them.
//!
//! Reading and matching only: who runs when is the business of `ops`.

use crate::error::{Error, Result};

/// The names accepted in place of five fields.
pub const ALIASES: [&str; 9] =
    ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@annually", "@yearly", "@startup", "@never"];

/// One trigger of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// One of [`ALIASES`].
    Alias(&'static str),
    /// Five fields.
    Fields(Fields),
}

/// The five fields as bit sets: bit n is value n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// crontab(5): if both day fields are restricted, either may match.
    either_day: bool,
}

/// A minute as the fields see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minute {
    /// 0–59.
    pub minute: u8,
    /// 0–23.
    pub hour: u8,
    /// 1–31.
    pub day: u8,
    /// 1–12.
    pub month: u8,
    /// 0–6, Sunday is 0.
    pub weekday: u8,
}

impl Fields {
    /// Whether the schedule runs in that minute.
    pub fn matches(&self, at: Minute) -> bool {
        let has = |set: u64, n: u8| n < 64 && set & (1 << n) != 0;
        let (day, weekday) = (has(self.day, at.day), has(self.weekday, at.weekday));
        let date = if self.either_day { day || weekday } else { day && weekday };
        has(self.minute, at.minute) && has(self.hour, at.hour) && has(self.month, at.month) && date
    }
}

/// Reads a list of triggers separated by comma and space.
pub fn parse(value: &str) -> Result<Vec<Trigger>> {
    value.to_lowercase().split(", ").map(trigger).collect()
}

fn trigger(text: &str) -> Result<Trigger> {
    if let Some(alias) = ALIASES.iter().find(|a| **a == text) {
        return Ok(Trigger::Alias(alias));
    }
    let wrong = || Error::invalid(format!("Error parsing cron expr: {text}"));
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [minute, hour, day, month, weekday] = words[..] else { return Err(wrong()) };
    let mut days = field(weekday, 0, 7, &WEEKDAYS, 0).ok_or_else(wrong)?;
    if days & (1 << 7) != 0 {
        days = (days | 1) & !(1 << 7);
    }
    Ok(Trigger::Fields(Fields {
        minute: field(minute, 0, 59, &[], 0).ok_or_else(wrong)?,
        hour: field(hour, 0, 23, &[], 0).ok_or_else(wrong)?,
        day: field(day, 1, 31, &[], 0).ok_or_else(wrong)?,
        month: field(month, 1, 12, &MONTHS, 1).ok_or_else(wrong)?,
        weekday: days,
        either_day: !day.starts_with(['*', '?']) && !weekday.starts_with(['*', '?']),
    }))
}

const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

fn field(text: &str, min: u32, max: u32, names: &[&str], base: u32) -> Option<u64> {
    let number = |s: &str| -> Option<u32> {
        if let Some(at) = names.iter().position(|n| *n == s) {
            return u32::try_from(at).ok().map(|at| at + base);
        }
        let plain = !s.is_empty() && s.len() <= 2 && s.bytes().all(|c| c.is_ascii_digit());
        plain.then(|| s.parse().ok()).flatten().filter(|n| (min..=max).contains(n))
    };
    let mut set = 0u64;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|s| (1..=max).contains(s))?)),
            None => (part, None),
        };
        let (low, high) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (min, max),
            Some((low, high)) => (number(low)?, number(high)?),
            // `5/10` counts from 5 to the end.
            None => (number(range)?, if step.is_some() { max } else { number(range)? }),
        };
        if low > high {
            return None;
        }
        for n in (low..=high).step_by(usize::try_from(step.unwrap_or(1)).ok()?) {
            set |= 1 << n;
        }
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(text: &str) -> Fields {
        match parse(text).expect(text).remove(0) {
            Trigger::Fields(f) => f,
            Trigger::Alias(a) => panic!("{a}"),
        }
    }

    #[test]
    fn reads() {
        assert_eq!(parse("@DAILY, @startup").expect("aliases"), [Trigger::Alias("@daily"), Trigger::Alias("@startup")]);
        let f = fields("*/15 6-8 * jan,dec mon-fri");
        let m = Minute { minute: 30, hour: 7, day: 3, month: 1, weekday: 1 };
        assert!(f.matches(m));
        assert!(!f.matches(Minute { weekday: 0, ..m }));
        assert!(!f.matches(Minute { minute: 31, ..m }));
        assert!(fields("0 0 1 * 7").matches(Minute { minute: 0, hour: 0, day: 9, month: 5, weekday: 0 }));
        for bad in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* * 0 * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "@reboot",
            "a * * * *",
            "* * * * 8",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[0-9*/,@a-z? -]{0,24}") {
            let _ = parse(&text);
        }
    }
}
