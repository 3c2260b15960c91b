//! Copies of the records of what lies in a pool, beside it: with them `admin recover` makes the records again when the state folder
//! is lost. They go and are renamed with their volume, never before it; what they say is not believed unchecked.

use super::pool::Pool;
use super::volume::Volume;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::path::{self, Links, Owner};
use rustix::io::Errno;
use std::path::Path;

/// The folder they lie in.
pub(super) const FOLDER: &str = "records";
/// Largest one read.
const MAX: u64 = 1 << 20;

fn name(volume: &Volume) -> String {
    format!("{FOLDER}/{}.{}", volume.kind().folder(), volume.name())
}

impl Pool {
    /// Keeps `text` for a volume. Not synced.
    pub fn keep_record(&self, volume: &Volume, text: &str) -> Result<()> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let owner = Owner { uid, gid, mode: 0o600 };
        let write =
            || path::write_replace(self.as_fd(), Path::new(&name(volume)), text.as_bytes(), owner, Links::Refuse);
        match write() {
            // A pool of an older version has no such folder.
            Err(e) if e.kind() == Kind::NotFound => {
                self.make_dir(FOLDER)?;
                write()
            }
            other => other,
        }
        .with_context(|| format!("Failed writing \"{}\"", self.path(&name(volume)).display()))
    }

    /// What is kept for a volume; None: nothing.
    pub fn kept_record(&self, volume: &Volume) -> Result<Option<String>> {
        let rel = name(volume);
        if !self.has(&rel)? {
            return Ok(None);
        }
        let text = path::read_limited(self.as_fd(), Path::new(&rel), MAX, Links::Refuse)
            .with_context(|| format!("Failed reading \"{}\"", self.path(&rel).display()))?;
        String::from_utf8(text).map(Some).map_err(|_| Error::invalid(format!("\"{rel}\" is no text")))
    }

    /// The volumes of which copies are kept and that are not there.
    pub(super) fn stray_records(&self) -> Result<Vec<Volume>> {
        let mut stray = self.recorded()?;
        for i in (0..stray.len()).rev() {
            if self.has(&stray[i].path())? {
                stray.remove(i);
            }
        }
        Ok(stray)
    }

    /// The volumes of which copies are kept.
    pub(super) fn recorded(&self) -> Result<Vec<Volume>> {
        if !self.has(FOLDER)? {
            return Ok(Vec::new());
        }
        let named = |name: &String| name.split_once('.').and_then(|(f, name)| Volume::in_folder(f, name).ok());
        Ok(self.names(FOLDER)?.iter().filter_map(named).collect())
    }

    /// After the volume was renamed.
    pub(super) fn rename_record(&self, from: &Volume, to: &Volume) -> Result<()> {
        match rustix::fs::renameat(self.as_fd(), name(from), self.as_fd(), name(to)) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::from(e).context(format!("Failed renaming \"{}\"", self.path(&name(from)).display()))),
        }
    }

    /// After the volume has gone.
    pub(super) fn drop_record(&self, volume: &Volume) -> Result<()> {
        self.unlink(&name(volume))
    }
}
