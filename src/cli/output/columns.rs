//! `-c/--columns`: letters with optional commas, and for `list` also `[config:|devices:]key[:name[:maxwidth]]`.
//!
//! A command has a `&[Column<Letter>]`-like table of its own: letter, header and what fills the cell. [`letters`] turns the
//! option's value into a list of its entries, [`list`] into entries and key columns.

use crate::error::{Error, Result};

/// One column a command knows: its letter, its header and whatever the command needs to fill it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<T: Copy> {
    /// The letter in `-c`.
    pub letter: char,
    /// The header, as printed.
    pub header: &'static str,
    /// What fills the cell.
    pub cell: T,
}

/// Shorthand for a table entry.
pub const fn column<T: Copy>(letter: char, header: &'static str, cell: T) -> Column<T> {
    Column { letter, header, cell }
}

/// Which map of an instance a key column reads; local value first, then the expanded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Configuration: the key is `key`.
    Config,
    /// Devices: the key is `device.option`.
    Devices,
}

/// A column of `list` that shows a configuration key or a device option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    /// Where the value is.
    pub from: From,
    /// Its key.
    pub key: String,
    /// The header.
    pub name: String,
    /// Longer values are cut to so many bytes' worth of characters; none is no limit.
    pub max_width: Option<usize>,
}

impl KeyColumn {
    /// Cuts `value` to the column's width.
    pub fn cut<'a>(&self, value: &'a str) -> &'a str {
        match self.max_width {
            Some(max) if value.len() > max => {
                let end = (0..=max).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
                &value[..end]
            }
            _ => value,
        }
    }
}

/// A column of `list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen<T: Copy> {
    /// One of the command's letters.
    Letter(Column<T>),
    /// A key.
    Key(KeyColumn),
}

impl<T: Copy> Chosen<T> {
    /// The header, as printed.
    pub fn header(&self) -> &str {
        match self {
            Self::Letter(column) => column.header,
            Self::Key(key) => &key.name,
        }
    }
}

/// Parses a value of letters only.
///
/// # Errors
/// An empty entry or a letter that is not in `table`.
pub fn letters<T: Copy>(value: &str, table: &[Column<T>]) -> Result<Vec<Column<T>>> {
    let mut chosen = Vec::new();
    for entry in entries(value)? {
        push_letters(entry, table, &mut chosen)?;
    }
    Ok(chosen)
}

/// Parses the columns of `list`. `valid_key` says whether a configuration key exists.
///
/// # Errors
/// As [`letters`]; besides a malformed key column or an unknown key.
pub fn list<T: Copy>(value: &str, table: &[Column<T>], valid_key: &dyn Fn(&str) -> bool) -> Result<Vec<Chosen<T>>> {
    let mut chosen = Vec::new();
    for entry in entries(value)? {
        // A key always has a period, so anything without one is a run of letters.
        if entry.contains('.') {
            chosen.push(Chosen::Key(key_column(entry, valid_key)?));
        } else {
            let mut run = Vec::new();
            push_letters(entry, table, &mut run)?;
            chosen.extend(run.into_iter().map(Chosen::Letter));
        }
    }
    Ok(chosen)
}

fn entries(value: &str) -> Result<Vec<&str>> {
    let all: Vec<&str> = value.split(',').collect();
    if all.contains(&"") {
        return Err(Error::invalid(format!(
            "Empty column entry (redundant, leading or trailing command) in '{value}'"
        )));
    }
    Ok(all)
}

fn push_letters<T: Copy>(entry: &str, table: &[Column<T>], chosen: &mut Vec<Column<T>>) -> Result<()> {
    for letter in entry.chars() {
        let found = table.iter().find(|c| c.letter == letter);
        let column =
            found.ok_or_else(|| Error::invalid(format!("Unknown column shorthand char '{letter}' in '{entry}'")))?;
        chosen.push(*column);
    }
    Ok(())
}

fn key_column(entry: &str, valid_key: &dyn Fn(&str) -> bool) -> Result<KeyColumn> {
    let (from, rest) = match entry.split_once(':') {
        Some(("config", rest)) => (From::Config, rest),
        Some(("devices", rest)) => (From::Devices, rest),
        _ => (From::Config, entry),
    };
    let fields: Vec<&str> = rest.split(':').collect();
    if fields.len() > 3 {
        return Err(Error::invalid(format!("Invalid config key column format (too many fields): '{entry}'")));
    }
    let key = fields[0];
    if from == From::Config && !valid_key(key) {
        return Err(Error::invalid(format!("Invalid config key '{key}' in '{entry}'")));
    }
    let name = match fields.get(1) {
        None => key,
        Some(&"") if fields.len() != 3 => {
            return Err(Error::invalid(format!(
                "Invalid name in '{entry}', empty string is only allowed when defining maxWidth"
            )));
        }
        // Incus shows an empty header then.
        Some(name) => name,
    };
    let max_width = match fields.get(2) {
        None => None,
        Some(text) => max_width(text, name, entry)?,
    };
    Ok(KeyColumn { from, key: key.to_string(), name: name.to_string(), max_width })
}

/// -1 is no limit, 0 the header's width; a limit that comes out as 0 is none.
fn max_width(text: &str, name: &str, entry: &str) -> Result<Option<usize>> {
    let number: i64 = text
        .parse()
        .map_err(|_| Error::invalid(format!("Invalid max width (must be an integer) '{text}' in '{entry}'")))?;
    let width = match number {
        -1 => 0,
        0 => name.len(),
        _ => usize::try_from(number).map_err(|_| {
            Error::invalid(format!("Invalid max width (must -1, 0 or a positive integer) '{text}' in '{entry}'"))
        })?,
    };
    Ok(Some(width).filter(|w| *w > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Column<u8>] = &[column('n', "NAME", 1), column('s', "STATE", 2), column('4', "IPV4", 3)];

    fn parsed(value: &str) -> Result<Vec<Chosen<u8>>> {
        list(value, TABLE, &|key| key.starts_with("user."))
    }

    fn headers(value: &str) -> String {
        parsed(value).unwrap().iter().map(|c| c.header().to_string()).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn letters_and_keys() {
        assert_eq!(headers("n,s4"), "NAME|STATE|IPV4");
        assert_eq!(headers("ns,user.a,config:user.b:B,devices:eth0.parent:P:4"), "NAME|STATE|user.a|B|P");
        let Chosen::Key(key) = parsed("devices:eth0.parent:P:4").unwrap().remove(0) else { panic!("a key") };
        assert_eq!(
            (key.from, key.key.as_str(), key.cut("incusbr0"), key.cut("ab")),
            (From::Devices, "eth0.parent", "incu", "ab")
        );
        let Chosen::Key(key) = parsed("user.a:NAME:0").unwrap().remove(0) else { panic!("a key") };
        assert_eq!((key.max_width, key.cut("ééééé")), (Some(4), "éé"));
        assert_eq!(letters("4n", TABLE).unwrap().iter().map(|c| c.cell).collect::<Vec<_>>(), [3, 1]);
    }

    #[test]
    fn errors_in_the_words_of_incus() {
        for (value, message) in [
            ("nx", "Unknown column shorthand char 'x' in 'nx'"),
            ("n,,s", "Empty column entry (redundant, leading or trailing command) in 'n,,s'"),
            ("n,", "Empty column entry (redundant, leading or trailing command) in 'n,'"),
            ("foo.bar", "Invalid config key 'foo.bar' in 'foo.bar'"),
            ("user.a:", "Invalid name in 'user.a:', empty string is only allowed when defining maxWidth"),
            ("user.a:b:c", "Invalid max width (must be an integer) 'c' in 'user.a:b:c'"),
            ("user.a:b:-2", "Invalid max width (must -1, 0 or a positive integer) '-2' in 'user.a:b:-2'"),
            ("user.a:b:1:2", "Invalid config key column format (too many fields): 'user.a:b:1:2'"),
        ] {
            assert_eq!(parsed(value).unwrap_err().to_string(), message);
        }
    }
}
