//! The value of `-f/--format`: `kind[,modifier…]`. Parsed before a command does anything, as Incus does.

use crate::error::{Error, Result};

/// How to lay the output out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bordered ASCII table.
    Table,
    /// RFC 4180.
    Csv,
    /// One line of JSON.
    Json,
    /// A YAML document.
    Yaml,
    /// Cells without borders.
    Compact,
    /// A Markdown table.
    Markdown,
}

/// A parsed `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// The layout.
    pub kind: Kind,
    /// `,noheader`: no header line.
    pub noheader: bool,
    /// `,header`: a header line in csv too.
    pub header: bool,
    /// `,raw`: plain byte counts in place of units; only `list` looks at it.
    pub raw: bool,
}

impl Format {
    /// Parses the option's value.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for an unknown format or modifier, in Incus's words.
    pub fn parse(value: &str) -> Result<Self> {
        let (kind, modifiers) = match value.split_once(',') {
            Some((kind, modifiers)) => (kind, Some(modifiers)),
            None => (value, None),
        };
        let mut format = Self { kind: Kind::Table, noheader: false, header: false, raw: false };
        for modifier in modifiers.into_iter().flat_map(|m| m.split(',')) {
            match modifier {
                "noheader" => format.noheader = true,
                "header" => format.header = true,
                "raw" => format.raw = true,
                "" => {}
                _ => {
                    let text = format!("Invalid modifier {modifier:?} on flag \"--format\" ({value:?})");
                    return Err(Error::invalid(text));
                }
            }
        }
        format.kind = match kind {
            "table" => Kind::Table,
            "csv" => Kind::Csv,
            "json" => Kind::Json,
            "yaml" => Kind::Yaml,
            "compact" => Kind::Compact,
            "markdown" => Kind::Markdown,
            _ => return Err(Error::invalid(format!("Invalid value {kind:?} for flag \"--format\""))),
        };
        Ok(format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_kinds_and_modifiers() {
        let f = Format::parse("csv,header,raw").unwrap();
        assert_eq!((f.kind, f.header, f.raw, f.noheader), (Kind::Csv, true, true, false));
        assert!(Format::parse("compact,noheader,").unwrap().noheader);
        let message = |s: &str| Format::parse(s).unwrap_err().to_string();
        assert_eq!(message("xml"), "Invalid value \"xml\" for flag \"--format\"");
        assert_eq!(message("csv,x"), "Invalid modifier \"x\" on flag \"--format\" (\"csv,x\")");
        // The modifier is looked at first.
        assert_eq!(message("xml,x"), "Invalid modifier \"x\" on flag \"--format\" (\"xml,x\")");
    }
}
