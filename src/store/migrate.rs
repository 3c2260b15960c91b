//! The state folder's format number: a gate at every open, and the place where steps between formats will stand.
//!
//! Called by `store::open`. There is one format so far. A step runs under the exclusive layout lock only and writes the
//! new number last.

use super::dir::Dir;
use super::record;
use crate::error::{Error, Result};
use std::path::Path;

/// The format this version reads and writes.
pub const FORMAT: u32 = 1;

/// The number in `$STATE/format`; `None` before first use is complete.
///
/// # Errors
/// The file cannot be read or holds no number.
pub(super) fn read_number(state: &Dir) -> Result<Option<u32>> {
    let Some(bytes) = record::read_bytes(state, Path::new("format"))? else { return Ok(None) };
    let number = std::str::from_utf8(&bytes).ok().and_then(|t| t.trim().parse().ok());
    number.map(Some).ok_or_else(|| {
        Error::failed(format!("\"{}\" holds no format number", state.path("format").display()))
            .hint(format!("If all else is in order, write \"{FORMAT}\" into it"))
    })
}

/// Lets a known format through. `exclusive`: the layout lock is ours alone, so a migration may run.
pub(super) fn gate(state: &Dir, number: Option<u32>, exclusive: bool) -> Result<()> {
    let path = state.path("");
    match number {
        Some(FORMAT) => Ok(()),
        Some(n) if n > FORMAT => Err(Error::unsupported(format!(
            "State folder \"{}\" has format {n} and this version knows up to {FORMAT}",
            path.display()
        ))
        .hint("Use the newer version that wrote it, or choose another folder with STAPES_DIR")),
        other => {
            // A later format gets its steps here, keyed by the old number; without the exclusive lock the hint is to run
            // the command that takes it.
            let _ = exclusive;
            Err(Error::unsupported(format!(
                "State folder \"{}\" has unknown format {}",
                path.display(),
                other.unwrap_or(0)
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Store, layout::Layout};

    #[test]
    fn only_known_formats_pass() {
        let d = tempfile::tempdir().expect("tempdir");
        let l = Layout::under(d.path());
        drop(Store::open(&l, Access::Write).expect("first"));
        for (text, words) in
            [("2\n", "has format 2"), ("0\n", "unknown format 0"), ("x", "holds no format number"), ("", "holds no")]
        {
            std::fs::write(l.format_file(), text).expect("write");
            for access in [Access::Read, Access::Write] {
                let e = Store::open(&l, access).expect_err(text);
                assert!(e.to_string().contains(words), "{e}");
            }
        }
        std::fs::write(l.format_file(), "1").expect("write");
        Store::open(&l, Access::Write).expect("known");
    }
}
