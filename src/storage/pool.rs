//! The folder of a pool and what all drivers on folders share: staging, atomic appearance, trash, images.
//!
//! Used by `dir` and `overlay`. The pool's folder is opened once; everything is named relative to that descriptor. Names
//! down to a volume are ours alone; what lies inside a volume is only ever walked by `tree`.

use super::volume::{Staging, Trash, Volume, VolumeKind};
use super::{kept, layers};
use crate::base::names::Fingerprint;
use crate::error::{Context, Error, Kind, Result};
use crate::fault;
use crate::store::trash;
use crate::sys::mount;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What a pool's folder holds.
pub const POOL_FOLDERS: [&str; 8] = [
    "containers",
    "containers-snapshots",
    "custom",
    "custom-snapshots",
    "images",
    kept::FOLDER,
    "trash",
    "virtual-machines",
];

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes the folder of a pool and its layout, or what is missing of it.
///
/// # Errors
/// It cannot be made; a part of it is not a folder.
pub fn setup(data: &Path) -> Result<()> {
    let failed = || format!("Failed creating storage pool directory \"{}\"", data.display());
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder.create(data).with_context(failed)?;
    let pool = Pool::open(data)?;
    for folder in POOL_FOLDERS {
        match rustix::fs::mkdirat(&pool.fd, folder, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::from(e)).with_context(failed),
        }
        let opened = pool.open_dir(folder)?;
        rustix::fs::fchmod(&opened, Mode::RWXU)?;
    }
    rustix::fs::fsync(&pool.fd)?;
    Ok(())
}

/// An open pool.
#[derive(Debug)]
pub(super) struct Pool {
    path: PathBuf,
    fd: OwnedFd,
}

impl Pool {
    /// See [`super::driver`].
    pub fn open(data: &Path) -> Result<Self> {
        let path = std::path::absolute(data)?;
        let fd = match rustix::fs::open(&path, FOLDER, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => {
                return Err(Error::not_found(format!("Storage pool directory \"{}\" doesn't exist", path.display())));
            }
            Err(e) => {
                return Err(Error::from(e))
                    .with_context(|| format!("Failed opening storage pool directory \"{}\"", path.display()));
            }
        };
        let stat = rustix::fs::fstat(&fd)?;
        let owner = rustix::process::geteuid().as_raw();
        if stat.st_uid != owner || stat.st_mode & 0o022 != 0 {
            let message = format!("Storage pool directory \"{}\" can be changed by other users", path.display());
            return Err(
                Error::denied(message).hint("It must belong to the user running this and be writable by nobody else")
            );
        }
        Ok(Self { path, fd })
    }

    /// The folder, open.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Absolute path of `rel`.
    pub fn path(&self, rel: &str) -> PathBuf {
        self.path.join(rel)
    }

    /// What is at `rel`; not followed.
    pub fn kind(&self, rel: &str) -> Result<Option<FileType>> {
        match rustix::fs::statat(&self.fd, rel, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::from(e)).with_context(|| format!("Failed reading \"{}\"", self.path(rel).display())),
        }
    }

    /// Something is at `rel`.
    pub fn has(&self, rel: &str) -> Result<bool> {
        self.kind(rel).map(|kind| kind.is_some())
    }

    /// Opens the folder `rel` for reading.
    pub fn open_dir(&self, rel: &str) -> Result<OwnedFd> {
        rustix::fs::openat(&self.fd, rel, FOLDER, Mode::empty())
            .map_err(Error::from)
            .with_context(|| format!("Failed opening \"{}\"", self.path(rel).display()))
    }

    /// Makes the folder `rel`, 0700; true if it is new.
    pub fn make_dir(&self, rel: &str) -> Result<bool> {
        match rustix::fs::mkdirat(&self.fd, rel, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(Error::from(e)).with_context(|| format!("Failed creating \"{}\"", self.path(rel).display())),
        }
    }

    /// Makes the folder `rel` empty, throwing away what is there: the start of putting something together.
    pub fn stage(&self, rel: &str) -> Result<()> {
        if !self.make_dir(rel)? {
            self.remove(rel)?;
            self.make_dir(rel)?;
        }
        Ok(())
    }

    /// Removes `rel` with all it holds.
    pub fn remove(&self, rel: &str) -> Result<()> {
        let (folder, name) = rel.split_once('/').ok_or_else(|| Error::internal("Not a path in a pool"))?;
        let folder = self.open_dir(folder)?;
        Ok(trash::remove_at(folder.as_fd(), OsStr::new(name)).map(drop)?)
    }

    /// Renames; an existing target that is not an empty folder stays and is `Exists`.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        match rustix::fs::renameat(&self.fd, from, &self.fd, to) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {
                Err(Error::exists(format!("\"{}\" already exists", self.path(to).display())))
            }
            Err(Errno::NOENT) => Err(Error::not_found(format!("\"{}\" not found", self.path(from).display()))),
            Err(e) => Err(Error::from(e)).with_context(|| format!("Failed renaming \"{}\"", self.path(from).display())),
        }
    }

    /// Swaps two folders in one step (renameat2(2), RENAME_EXCHANGE). False if the file system cannot.
    pub fn exchange(&self, one: &str, other: &str) -> Result<bool> {
        match rustix::fs::renameat_with(&self.fd, one, &self.fd, other, rustix::fs::RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
            Err(e) => Err(Error::from(e)).with_context(|| format!("Failed swapping \"{}\"", self.path(one).display())),
        }
    }

    /// Makes the symbolic link `rel`; true if it is new.
    pub fn link(&self, target: &str, rel: &str) -> Result<bool> {
        match rustix::fs::symlinkat(target, &self.fd, rel) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(Errno::NOENT) => Err(Error::not_found(format!("\"{}\" not found", self.path(rel).display()))),
            Err(e) => Err(Error::from(e)).with_context(|| format!("Failed creating \"{}\"", self.path(rel).display())),
        }
    }

    /// Gives the link `existing` the further name `rel`, which may be there already. False if `existing` is not there or can
    /// have no more names.
    pub fn second_name(&self, existing: &str, rel: &str) -> Result<bool> {
        match rustix::fs::linkat(&self.fd, existing, &self.fd, rel, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => Ok(true),
            Err(Errno::NOENT | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
            Err(e) => Err(Error::from(e)).with_context(|| format!("Failed creating \"{}\"", self.path(rel).display())),
        }
    }

    /// The text of the symbolic link `rel`; None if there is none.
    pub fn read_link(&self, rel: &str) -> Result<Option<String>> {
        match rustix::fs::readlinkat(&self.fd, rel, Vec::new()) {
            Ok(text) => Ok(text.into_string().ok()),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(e) => Err(Error::from(e)).with_context(|| format!("Failed reading \"{}\"", self.path(rel).display())),
        }
    }

    /// Unlinks `rel`; nothing there is fine.
    pub fn unlink(&self, rel: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.fd, rel, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::from(e)).with_context(|| format!("Failed removing \"{}\"", self.path(rel).display())),
        }
    }

    /// Everything written to the pool's file system is on disk after this.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.fd).map_err(Error::from).context("Failed syncing the storage pool")
    }

    /// Names in the folder `rel`, sorted; those beginning with a dot are being made and left out.
    pub fn names(&self, rel: &str) -> Result<Vec<String>> {
        let mut names = self.entries(rel)?;
        names.retain(|name| !name.starts_with('.'));
        Ok(names)
    }

    /// All names in the folder `rel`, sorted.
    pub fn entries(&self, rel: &str) -> Result<Vec<String>> {
        let folder = self.open_dir(rel)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&folder)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_string());
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Volumes.
impl Pool {
    /// Refuses a volume that is there already.
    pub fn absent(&self, volume: &Volume) -> Result<()> {
        match self.has(&volume.path())? {
            true => Err(Error::exists(format!("Volume \"{}\" already exists", volume.name()))),
            false => Ok(()),
        }
    }

    /// Demands that a volume is there.
    pub fn present(&self, volume: &Volume) -> Result<()> {
        match self.has(&volume.path())? {
            true => Ok(()),
            false => Err(Error::not_found(format!("Volume \"{}\" not found", volume.name()))),
        }
    }

    /// Makes what was put together at its staging place the volume.
    pub fn appear(&self, volume: &Volume) -> Result<()> {
        fault::point("storage.volume.staged")?;
        self.rename(&volume.staged(), &volume.path())?;
        self.settle(&volume.path())?;
        fault::point("storage.volume.made")
    }

    /// Sees to it that the new folder `rel` is not lost in a power cut while a record that is written and synced after it
    /// stays; where a folder was renamed or has gone, that of `rel` which it was in. Where the file system keeps the order
    /// ([`mount::keeps_order`]), syncing the record does.
    ///
    /// # Errors
    /// As fsync(2).
    pub fn settle(&self, rel: &str) -> Result<()> {
        if mount::keeps_order(self.fd.as_fd())? {
            return Ok(());
        }
        let done = rustix::fs::fsync(self.open_dir(rel)?).map_err(Error::from);
        done.with_context(|| format!("Failed syncing \"{}\"", self.path(rel).display()))
    }

    /// The folder that holds what the user of a volume made as a folder sees of it.
    pub fn root(volume: &Volume) -> String {
        if volume.kind().is_custom() { volume.path() } else { format!("{}/rootfs", volume.path()) }
    }

    /// Makes a volume that is a folder with an empty `rootfs`, or an empty folder.
    pub fn create_empty(&self, volume: &Volume) -> Result<()> {
        self.absent(volume)?;
        self.begin_volume(volume)?;
        self.appear(volume)
    }

    /// See [`super::Driver::begin_volume`].
    pub fn begin_volume(&self, volume: &Volume) -> Result<PathBuf> {
        let staged = volume.staged();
        self.stage(&staged)?;
        if !volume.kind().is_custom() {
            let rootfs = format!("{staged}/rootfs");
            self.make_dir(&rootfs)?;
            rustix::fs::fchmod(self.open_dir(&rootfs)?, Mode::from_raw_mode(0o755))?;
        }
        Ok(self.path(&staged))
    }

    /// See [`super::Driver::commit_volume`].
    pub fn commit_volume(&self, volume: &Volume) -> Result<()> {
        if !self.has(&volume.staged())? {
            return Err(Error::not_found(format!("Volume \"{}\" was not begun", volume.name())));
        }
        self.absent(volume)?;
        self.sync()?;
        self.appear(volume)
    }

    /// Renames a volume; done already is fine.
    pub fn rename_volume(&self, from: &Volume, to: &Volume) -> Result<()> {
        match (self.has(&from.path())?, self.has(&to.path())?) {
            (true, true) => self.absent(to)?,
            (false, true) => {}
            (_, false) => {
                self.present(from)?;
                self.rename(&from.path(), &to.path())?;
                self.settle(to.kind().folder())?;
                fault::point("storage.volume.renamed")?;
            }
        }
        self.rename_record(from, to)
    }

    /// Moves `rel` into the trash; None if it is not there.
    pub fn discard(&self, rel: &str) -> Result<Option<Trash>> {
        let trash = Trash::fresh(rel);
        match self.rename(rel, &trash.path()) {
            Ok(()) => Ok(Some(trash)),
            Err(e) if e.kind() == Kind::NotFound && !self.has(rel)? => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What is staged for a volume takes its place. Where a kill cut it, it goes on; nothing staged: done already.
    pub fn replace_volume(&self, volume: &Volume) -> Result<Option<Trash>> {
        if !self.has(&volume.staged())? {
            return Ok(None);
        }
        let old = self.discard(&volume.path())?;
        fault::point("storage.restore.between")?;
        self.rename(&volume.staged(), &volume.path())?;
        self.settle(volume.kind().folder())?;
        fault::point("storage.restore.done")?;
        Ok(old)
    }

    /// Moves a volume, or what there is of it, into the trash.
    pub fn discard_volume(&self, volume: &Volume) -> Result<Option<Trash>> {
        fault::point("storage.volume.delete")?;
        self.remove(&volume.staged())?;
        let trash = self.discard(&volume.path())?;
        fault::point("storage.volume.trashed")?;
        self.drop_record(volume)?;
        Ok(trash)
    }

    /// The volumes of a kind.
    pub fn volumes(&self, kind: VolumeKind) -> Result<Vec<Volume>> {
        let names = self.names(kind.folder())?;
        Ok(names.iter().filter_map(|name| Volume::new(kind, name).ok()).collect())
    }

    /// What waits in the trash.
    pub fn trash(&self) -> Result<Vec<Trash>> {
        self.names("trash")?.iter().map(|name| Trash::parse(name)).collect()
    }

    /// Frees it.
    pub fn empty(&self, trash: &Trash) -> Result<()> {
        self.remove(&trash.path())
    }
}

/// Images.
impl Pool {
    /// Path of an image in the pool.
    pub fn image(image: &Fingerprint) -> String {
        format!("images/{image}")
    }

    /// See [`super::Images::begin_image`].
    pub fn begin_image(&self, staging: &Staging) -> Result<PathBuf> {
        let staged = staging.path();
        self.stage(&staged)?;
        Ok(self.path(&staged))
    }

    /// See [`super::Images::commit_image`].
    pub fn commit_image(&self, staging: &Staging, image: &Fingerprint) -> Result<()> {
        let staged = staging.path();
        if self.has_image(image)? {
            return self.remove(&staged);
        }
        if !self.has(&staged)? {
            return Err(Error::not_found(format!("Image \"{image}\" was not unpacked")));
        }
        self.check_image(&staged, image)?;
        fault::point("storage.image.unpacked")?;
        self.sync()?;
        let named = layers::commit(self, &staged)?;
        self.rename(&staged, &Self::image(image))?;
        drop(named);
        fault::point("storage.image.renamed")?;
        rustix::fs::fsync(self.open_dir("images")?)?;
        Ok(())
    }

    /// What was unpacked at `staged` is as an image has it.
    pub fn check_image(&self, staged: &str, image: &Fingerprint) -> Result<()> {
        let whole = !self.has(&format!("{staged}/layers"))?;
        for (name, wanted, needed) in [
            ("rootfs", FileType::Directory, whole),
            ("metadata.yaml", FileType::RegularFile, false),
            ("config.json", FileType::RegularFile, false),
            ("templates", FileType::Directory, false),
        ] {
            match self.kind(&format!("{staged}/{name}"))? {
                Some(kind) if kind == wanted => {}
                None if !needed => {}
                _ => return Err(Error::invalid(format!("Bad \"{name}\" in image \"{image}\""))),
            }
        }
        Ok(())
    }

    /// The image is there.
    pub fn has_image(&self, image: &Fingerprint) -> Result<bool> {
        self.has(&Self::image(image))
    }

    /// Demands that it is.
    pub fn need_image(&self, image: &Fingerprint) -> Result<()> {
        let missing = || Error::not_found(format!("Image \"{image}\" is not in the storage pool"));
        self.has_image(image)?.then_some(()).ok_or_else(missing)
    }

    /// See [`super::Images::abort_image`].
    pub fn abort_image(&self, staging: &Staging) -> Result<Option<Trash>> {
        self.discard(&staging.path())
    }

    /// See [`super::Images::staged_images`].
    pub fn staged_images(&self) -> Result<Vec<Staging>> {
        Ok(self.entries("images")?.iter().filter_map(|name| Staging::of_path(name)).collect())
    }

    /// Moves an image into the trash.
    pub fn discard_image(&self, image: &Fingerprint) -> Result<Option<Trash>> {
        fault::point("storage.image.delete")?;
        self.discard(&Self::image(image))
    }

    /// The images in the pool.
    pub fn images(&self) -> Result<Vec<Fingerprint>> {
        Ok(self.names("images")?.iter().filter_map(|name| Fingerprint::parse(name).ok()).collect())
    }
}
