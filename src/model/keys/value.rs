//! What a configuration value may be: one [`Value`] per key or device option, its check, and the words to complete.
//!
//! The messages are Incus's (`shared/validate`), because scripts match on them.

use super::checks;
use crate::base::{boolean, size};
use crate::error::{Error, Result};

/// The type of a value. An empty value is always allowed: it means unset.
#[derive(Debug, Clone, Copy)]
pub enum Value {
    /// Any number of lines.
    Text,
    /// One line.
    Line,
    /// A boolean.
    Bool,
    /// A boolean or one of these words.
    BoolOr(&'static [&'static str]),
    /// A boolean or an amount of bytes.
    BoolOrSize,
    /// A whole number.
    Int,
    /// A whole number between two others.
    Range(i64, i64),
    /// 0–10.
    Priority,
    /// 0–255.
    Uint8,
    /// 0–4294967295.
    Uint32,
    /// An amount of bytes.
    Size,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Comma-separated values of another type.
    ListOf(&'static Value),
    /// One line that a function checks; the name is for the reference page.
    Checked(&'static str, fn(&str) -> Result<()>),
    /// Many lines that a function checks; the name is for the reference page.
    CheckedText(&'static str, fn(&str) -> Result<()>),
}

impl Value {
    /// Checks a value. Control characters are refused for every type, so that no value can smuggle a line into something
    /// generated from it; many-line types may hold line feeds and tabs.
    pub fn check(&self, value: &str) -> Result<()> {
        if let Some(c) = value.chars().find(|c| self.forbids(*c)) {
            let what = if matches!(c, '\n' | '\r') { "line breaks" } else { "control characters" };
            return Err(Error::invalid(format!("Value cannot contain {what}")));
        }
        if value.is_empty() { Ok(()) } else { self.check_content(value) }
    }

    fn forbids(&self, c: char) -> bool {
        c.is_ascii_control() && !(self.is_text() && matches!(c, '\n' | '\t'))
    }

    /// May it have more than one line?
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::CheckedText(..))
    }

    fn check_content(&self, value: &str) -> Result<()> {
        match self {
            Self::Text | Self::Line => Ok(()),
            Self::Bool => boolean::parse(value).map(drop),
            Self::BoolOr(words) if words.contains(&value) => Ok(()),
            Self::BoolOr(_) => boolean::parse(value).map(drop).map_err(|_| not_valid(value)),
            Self::BoolOrSize if boolean::parse(value).is_ok() => Ok(()),
            Self::BoolOrSize => size::parse_bytes(value).map(drop).map_err(|_| not_valid(value)),
            Self::Int => checks::int(value).map(drop),
            Self::Range(low, high) => range(value, *low, *high),
            Self::Priority => match checks::int(value)? {
                0..=10 => Ok(()),
                _ => Err(Error::invalid(format!("Invalid value for a limit {value:?}. Must be between 0 and 10"))),
            },
            Self::Uint8 => match value.parse::<u8>() {
                Ok(_) if checks::digits(value) => Ok(()),
                _ => Err(Error::invalid(format!("Invalid value for an integer {value:?}. Must be between 0 and 255"))),
            },
            Self::Uint32 => checks::uint32(value).map(drop),
            Self::Size => size::parse_bytes(value).map(drop),
            Self::OneOf(words) if words.contains(&value) => Ok(()),
            Self::OneOf(words) => {
                Err(Error::invalid(format!("Invalid value {value:?} (not one of [{}])", words.join(" "))))
            }
            Self::ListOf(item) => value.split(',').map(str::trim).try_for_each(|v| {
                let one = if v.is_empty() { Err(Error::invalid("Empty value")) } else { item.check(v) };
                one.map_err(|e| e.context(format!("Item {v:?}")))
            }),
            Self::Checked(_, check) | Self::CheckedText(_, check) => check(value),
        }
    }

    /// Name of the type on the reference page.
    pub fn type_name(&self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Line => "string".into(),
            Self::Bool => "bool".into(),
            Self::BoolOr(words) => format!("bool or {}", words.join(", ")),
            Self::BoolOrSize => "bool or size".into(),
            Self::Int | Self::Uint8 | Self::Uint32 => "integer".into(),
            Self::Range(low, high) => format!("integer {low} to {high}"),
            Self::Priority => "integer 0 to 10".into(),
            Self::Size => "size".into(),
            Self::OneOf(words) => words.join(", "),
            Self::ListOf(item) => format!("comma-separated list of {}", item.type_name()),
            Self::Checked(name, _) | Self::CheckedText(name, _) => (*name).into(),
        }
    }

    /// Words a shell may complete.
    pub fn words(&self) -> Vec<&'static str> {
        match self {
            Self::Bool | Self::BoolOrSize => vec!["true", "false"],
            Self::BoolOr(words) => ["true", "false"].iter().chain(words.iter()).copied().collect(),
            Self::OneOf(words) => words.to_vec(),
            _ => Vec::new(),
        }
    }
}

fn not_valid(value: &str) -> Error {
    Error::invalid(format!("{value:?} isn't a valid value"))
}

fn range(value: &str, low: i64, high: i64) -> Result<()> {
    if (low..=high).contains(&checks::int(value)?) {
        return Ok(());
    }
    Err(Error::invalid(format!("Value isn't within valid range. Must be between {low} and {high}")))
}
