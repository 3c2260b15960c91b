//! Typed TOML records with a format number.
//!
//! Unknown fields are refused and a record over 1 MiB is not read, so a damaged record is never half understood; the error
//! names the file and `stapes doctor`. Called by the typed parts of `store`. One open, one read, one parse per record.

use super::atomic::{self, Durability};
use super::dir::Dir;
use crate::error::{Context, Error, Result};
use rustix::fs::OFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::Path;

/// Bytes a record may have.
pub const MAX: usize = 1 << 20;

/// Permission bits of a record.
pub(super) const MODE: u32 = 0o600;

/// A record type.
pub trait Record: Serialize + DeserializeOwned + Clone {
    /// The format this version writes; it reads this one and migrates older ones.
    const FORMAT: u32 = 1;
    /// What it is, for messages: `Instance record`.
    const WHAT: &'static str;
    /// The number in the record.
    fn format(&self) -> u32;
    /// Sets the number.
    fn set_format(&mut self, format: u32);
}

macro_rules! records {
    ($($ty:ty => $what:literal,)*) => {$(
        impl Record for $ty {
            const WHAT: &'static str = $what;
            fn format(&self) -> u32 {
                self.format
            }
            fn set_format(&mut self, format: u32) {
                self.format = format;
            }
        }
    )*};
}
pub(super) use records;

records! {
    crate::model::instance::Instance => "Instance record",
    crate::model::instance::Volatile => "Volatile record",
    crate::model::profile::Profile => "Profile record",
    crate::model::image::Image => "Image record",
    crate::model::image::Aliases => "Alias record",
    crate::model::pool::Pool => "Storage pool record",
}

/// Only the number, when the rest is not understood.
#[derive(serde::Deserialize)]
struct Number {
    format: u32,
}

/// Parses a record. `path` is for messages.
///
/// # Errors
/// Failed: it is damaged, or (Unsupported) of a newer format.
pub fn parse<T: Record>(bytes: &[u8], path: &Path) -> Result<T> {
    let damaged = |why: String| {
        Error::failed(format!("{} \"{}\" is damaged: {why}", T::WHAT, path.display()))
            .hint("Run \"stapes doctor\" to see what can be done")
    };
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("not UTF-8".to_string()))?;
    let number = match toml::from_str::<T>(text) {
        Ok(record) if record.format() == T::FORMAT => return Ok(record),
        Ok(record) => record.format(),
        Err(e) => match toml::from_str::<Number>(text) {
            Ok(n) if n.format > T::FORMAT => n.format,
            _ => return Err(damaged(one_line(text, &e))),
        },
    };
    if number > T::FORMAT {
        return Err(Error::unsupported(format!(
            "{} \"{}\" has format {number} and this version knows up to {}",
            T::WHAT,
            path.display(),
            T::FORMAT
        ))
        .hint("Use the newer version that wrote it"));
    }
    Err(damaged(format!("format {number} does not exist")))
}

/// The parser's message with the line number, on one line.
fn one_line(text: &str, e: &toml::de::Error) -> String {
    let message = e.message().lines().collect::<Vec<_>>().join(" ");
    match e.span().and_then(|s| text.get(..s.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

/// The text of a record, with the current format number.
///
/// # Errors
/// Internal: it cannot be written as TOML, or is over [`MAX`].
pub fn render<T: Record>(record: &T) -> Result<String> {
    let text = if record.format() == T::FORMAT {
        toml::to_string(record)
    } else {
        let mut current = record.clone();
        current.set_format(T::FORMAT);
        toml::to_string(&current)
    };
    let text = text.map_err(|e| Error::internal(format!("Failed writing a {} as TOML: {e}", T::WHAT)))?;
    if text.len() > MAX {
        return Err(Error::invalid(format!("{} would be over 1 MiB", T::WHAT)));
    }
    Ok(text)
}

/// Reads `rel` below `base`; `None` if it is not there.
///
/// # Errors
/// See [`parse`]; or an I/O error.
pub fn read<T: Record>(base: &Dir, rel: impl AsRef<Path>) -> Result<Option<T>> {
    let rel = rel.as_ref();
    match read_bytes(base, rel)? {
        Some(bytes) => parse(&bytes, &base.path(rel)).map(Some),
        None => Ok(None),
    }
}

/// The bytes of a small file: one open and, up to 4 KiB, one read; a folder on the way that is missing is "not there".
pub(super) fn read_bytes(base: &Dir, rel: &Path) -> Result<Option<Vec<u8>>> {
    let fail = || format!("Failed reading \"{}\"", base.path(rel).display());
    // Non-blocking: should a FIFO lie there, we must not hang on it.
    let mut file = match base.open_at(rel, OFlags::RDONLY | OFlags::NONBLOCK, 0) {
        Ok(f) => f,
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(None),
        Err(e) => return Err(e).with_context(fail),
    };
    let mut bytes = vec![0; 4096];
    let n = file.read(&mut bytes).with_context(fail)?;
    if n < bytes.len() {
        bytes.truncate(n);
        return Ok(Some(bytes));
    }
    file.take((MAX + 1 - n) as u64).read_to_end(&mut bytes).with_context(fail)?;
    if bytes.len() > MAX {
        return Err(Error::failed(format!("\"{}\" is over 1 MiB", base.path(rel).display()))
            .hint("Run \"stapes doctor\" to see what can be done"));
    }
    Ok(Some(bytes))
}

/// Writes `rel` below `base`, replacing what is there. The caller holds the lock that covers it.
///
/// # Errors
/// See [`render`] and [`atomic::replace`].
pub fn write<T: Record>(base: &Dir, rel: impl AsRef<Path>, record: &T, durability: Durability) -> Result<()> {
    let rel = rel.as_ref();
    let text = render(record)?;
    let (parent, name) =
        base.parent(rel).with_context(|| format!("Failed writing \"{}\"", base.path(rel).display()))?;
    atomic::write(&parent, name, text.as_bytes(), MODE, durability, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::model::profile::Profile;

    fn parse_profile(text: &str) -> Result<Profile> {
        parse(text.as_bytes(), Path::new("/s/p.toml"))
    }

    #[test]
    fn a_record_comes_back_as_it_was_and_gets_the_format_number() {
        let mut p =
            Profile { format: 0, description: "d".into(), config: Default::default(), devices: Default::default() };
        p.config.insert("limits.cpu".into(), "2".into());
        p.devices.insert("eth0".into(), [("type".to_string(), "nic".to_string())].into());
        let text = render(&p).expect("render");
        p.format = 1;
        assert_eq!(parse_profile(&text).expect("parse"), p);
    }

    #[test]
    fn damage_names_the_file_and_the_doctor() {
        for text in ["", "format = 1\nsurprise = 2\n", "format = 1\nconfig = [", "format = 0\n", "\u{0}"] {
            let e = parse_profile(text).expect_err(text);
            assert_eq!(e.kind(), Kind::Failed, "{text:?}");
            assert!(e.to_string().starts_with("Profile record \"/s/p.toml\" is damaged: "), "{e}");
            assert!(!e.to_string().contains('\n'));
            assert!(e.hint_text().is_some_and(|h| h.contains("stapes doctor")));
        }
        let e = parse_profile("format = 1\nsurprise = 2\n").expect_err("unknown field");
        assert!(e.to_string().contains("line 2"), "{e}");
    }

    #[test]
    fn a_newer_format_is_said_to_be_newer_even_with_unknown_fields() {
        for text in ["format = 2\n", "format = 2\nsurprise = 2\n"] {
            assert_eq!(parse_profile(text).expect_err("newer").kind(), Kind::Unsupported);
        }
    }

    #[test]
    fn size_is_capped_and_a_fifo_does_not_hang() {
        let d = tempfile::tempdir().expect("tempdir");
        let base = Dir::open(d.path()).expect("open");
        std::fs::write(d.path().join("big"), vec![b'#'; MAX + 1]).expect("big");
        assert!(read::<Profile>(&base, "big").is_err());
        std::fs::write(d.path().join("fits"), format!("format = 1\n{}", "#".repeat(MAX - 11))).expect("fits");
        assert!(read::<Profile>(&base, "fits").expect("read").is_some());
        nix::unistd::mkfifo(&d.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("fifo");
        assert!(read::<Profile>(&base, "fifo").is_err());
        assert!(read::<Profile>(&base, "none").expect("read").is_none());
        assert!(read::<Profile>(&base, "none/deeper").expect("read").is_none());
        std::os::unix::fs::symlink("fits", d.path().join("link")).expect("link");
        assert!(read::<Profile>(&base, "link").is_err(), "a symlink is refused");
    }
}
