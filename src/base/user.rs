//! Users and groups as `exec --user`, `--uid` and OCI images name them.
//!
//! The only parser of such strings: start and exec must never read the same text differently (CVE-2026-30892: a user `1`
//! run as root). Anything that could be read in two ways is refused: leading zeros (octal elsewhere), signs, spaces,
//! a name that begins with a digit, and 4294967295, which the kernel takes for "no change".

use crate::error::{Error, Result};

/// One side of `user[:group]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A number.
    Id(u32),
    /// A name, to be looked up in the instance's own passwd or group file.
    Name(String),
}

/// `user[:group]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSpec {
    /// The user.
    pub user: Part,
    /// The group, if one was given.
    pub group: Option<Part>,
}

impl UserSpec {
    /// Reads `user[:group]`, either side a number or a name.
    pub fn parse(value: &str) -> Result<Self> {
        match value.split_once(':') {
            None => Ok(Self { user: part(value)?, group: None }),
            Some((user, group)) => Ok(Self { user: part(user)?, group: Some(part(group)?) }),
        }
    }

    /// The numbers; an error if a side is a name.
    pub fn ids(&self) -> Result<(u32, Option<u32>)> {
        let id = |part: &Part| match part {
            Part::Id(id) => Ok(*id),
            Part::Name(name) => Err(Error::invalid(format!("Invalid user or group {name:?}: Must be a numeric ID"))),
        };
        Ok((id(&self.user)?, self.group.as_ref().map(id).transpose()?))
    }
}

/// Reads one user or group number, as `--user`, `--group`, `--uid` and `--gid` take it.
pub fn parse_id(value: &str) -> Result<u32> {
    let wrong = |why: &str| Error::invalid(format!("Invalid user or group ID {value:?}: {why}"));
    if value.is_empty() || !value.bytes().all(|c| c.is_ascii_digit()) {
        return Err(wrong("Must be a number"));
    }
    if value.len() > 1 && value.starts_with('0') {
        return Err(wrong("Leading zeros are ambiguous"));
    }
    match value.parse() {
        Ok(u32::MAX) | Err(_) => Err(wrong("Out of range")),
        Ok(id) => Ok(id),
    }
}

fn part(value: &str) -> Result<Part> {
    let mut bytes = value.bytes();
    let first = bytes.next().ok_or_else(|| Error::invalid("Invalid user or group: Empty name"))?;
    if first.is_ascii_digit() {
        return parse_id(value).map(Part::Id);
    }
    // What useradd(8) accepts, plus capitals and dots, which real images have; a `$` may end it.
    let body = value.strip_suffix('$').unwrap_or(value);
    let good = (first.is_ascii_alphabetic() || first == b'_')
        && body.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'))
        && value.len() <= 256;
    if good {
        Ok(Part::Name(value.to_string()))
    } else {
        Err(Error::invalid(format!("Invalid user or group {value:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Row CVE-2026-30892 of the security cases.
    #[test]
    fn cve_2026_30892() {
        let spec = |v: &str| UserSpec::parse(v).ok();
        let ids = |user, group: Option<u32>| Some(UserSpec { user: Part::Id(user), group: group.map(Part::Id) });
        assert_eq!(spec("1"), ids(1, None));
        assert_eq!(spec("0"), ids(0, None));
        assert_eq!(spec("1:2"), ids(1, Some(2)));
        assert_eq!(spec("name"), Some(UserSpec { user: Part::Name("name".into()), group: None }));
        assert_eq!(spec("4294967294"), ids(4_294_967_294, None));
        let refused = [
            "",
            ":",
            "1:",
            ":1",
            "0000",
            "00",
            "01",
            "+1",
            " 1",
            "1 ",
            "4294967295",
            "-1",
            "1:2:3",
            "0x1",
            "1name",
            "na me",
            "a\n",
            "-",
            "../x",
            "٣",
        ];
        for bad in refused {
            assert_eq!(spec(bad), None, "{bad:?}");
        }
        assert!(UserSpec::parse("name").and_then(|s| s.ids()).is_err());
        assert_eq!(UserSpec::parse("7:8").and_then(|s| s.ids()).ok(), Some((7, Some(8))));
        for bad in ["name", "1:2", "0000", "+1", " 1", "4294967295", "-1", ""] {
            assert!(parse_id(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn an_id_reads_back(id in 0u32..u32::MAX) {
            prop_assert_eq!(parse_id(&id.to_string()).ok(), Some(id));
        }

        #[test]
        fn nothing_but_zero_reads_as_root(text in "\\PC{0,8}") {
            if let Ok(UserSpec { user: Part::Id(0), .. }) = UserSpec::parse(&text) {
                prop_assert!(text == "0" || text.starts_with("0:"));
            }
        }
    }
}
