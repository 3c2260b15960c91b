//! The mounts of disk devices that a running instance has: a file in its run folder, so that whoever takes one out knows which
//! it is.
//!
//! Noted before one is attached. The monitor writes it at the start, later whoever holds the instance; it ends with the run
//! folder.

use super::atomic::{self, Durability};
use super::dir::Dir;
use super::record::{self, Record, records};
use crate::error::{Context, Result};
use crate::model::attach::Mount;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Name of the file in the run folder.
const FILE: &str = "mounted.toml";

/// A mount that is attached, or about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mounted {
    /// The kernel's number for it.
    pub id: u64,
    /// It was seen to be attached.
    pub done: bool,
    /// What it is.
    pub mount: Mount,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mounts {
    #[serde(default)]
    format: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<Mounted>,
}

records! { Mounts => "Run file of mounts", }

/// All mounts of devices in a running instance.
#[derive(Debug)]
pub struct Board {
    file: PathBuf,
    mounts: Vec<Mounted>,
}

impl Board {
    /// Those that are noted in the run folder `dir`; it need not be there.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub fn read(dir: &Path) -> Result<Self> {
        let found = match Dir::open(dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            other => record::read::<Mounts>(&other?, FILE)?,
        };
        Ok(Self { file: dir.join(FILE), mounts: found.unwrap_or_default().mounts })
    }

    /// Notes `mounts` in the run folder `dir`, in the place of those of an earlier run.
    ///
    /// # Errors
    /// An I/O error.
    pub fn begin(dir: &Path, mounts: Vec<Mounted>) -> Result<()> {
        let board = Self { file: dir.join(FILE), mounts };
        if !board.mounts.is_empty() {
            return board.save();
        }
        match std::fs::remove_file(&board.file) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(e).with_context(|| format!("Failed removing \"{}\"", board.file.display()))
            }
            _ => Ok(()),
        }
    }

    /// That of a device.
    pub fn get(&self, device: &str) -> Option<&Mounted> {
        self.mounts.iter().find(|m| m.mount.device == device)
    }

    /// Notes one, in the place of the one that its device had.
    ///
    /// # Errors
    /// An I/O error; nothing is noted then.
    pub fn set(&mut self, mounted: Mounted) -> Result<()> {
        let mut mounts = self.others(&mounted.mount.device);
        mounts.push(mounted);
        self.replace(mounts)
    }

    /// Forgets that of a device.
    ///
    /// # Errors
    /// As [`Board::set`].
    pub fn remove(&mut self, device: &str) -> Result<()> {
        self.replace(self.others(device))
    }

    fn others(&self, device: &str) -> Vec<Mounted> {
        self.mounts.iter().filter(|m| m.mount.device != device).cloned().collect()
    }

    fn replace(&mut self, mounts: Vec<Mounted>) -> Result<()> {
        let new = Self { file: self.file.clone(), mounts };
        new.save()?;
        *self = new;
        Ok(())
    }

    fn save(&self) -> Result<()> {
        let text = record::render(&Mounts { format: 1, mounts: self.mounts.clone() })?;
        atomic::replace(&self.file, text.as_bytes(), record::MODE, Durability::Fast)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::attach::MountSource;

    #[test]
    fn noted_and_forgotten() {
        let d = tempfile::tempdir().expect("tempdir");
        let one = |device: &str, source: MountSource| Mounted {
            id: 7,
            done: true,
            mount: Mount {
                device: device.into(),
                source,
                target: "/mnt".into(),
                readonly: true,
                shift: true,
                recursive: false,
                propagation: Some("slave".into()),
                options: vec!["noexec".into()],
            },
        };
        let volume = MountSource::Volume { root: "/v".into(), path: Some("a".into()), initial: (1, 2, 0o700) };
        let mut board = Board::read(&d.path().join("nowhere")).expect("none");
        assert!(board.get("a").is_none() && board.remove("a").is_err());
        Board::begin(d.path(), vec![one("a", volume.clone())]).expect("begin");
        let mut board = Board::read(d.path()).expect("read");
        board.set(one("b", MountSource::Tmpfs { size: None, uid: 0, gid: 0, mode: 0o711 })).expect("set");
        board.set(one("b", MountSource::HostPath("/x".into()))).expect("again");
        let read = Board::read(d.path()).expect("read");
        assert_eq!(read.get("a"), Some(&one("a", volume)));
        assert_eq!(read.get("b").map(|m| m.mount.source.clone()), Some(MountSource::HostPath("/x".into())));
        board.remove("a").expect("remove");
        assert!(Board::read(d.path()).expect("read").get("a").is_none());
        Board::begin(d.path(), Vec::new()).expect("none");
        Board::begin(d.path(), Vec::new()).expect("none again");
        assert!(Board::read(d.path()).expect("read").get("b").is_none());
    }
}
