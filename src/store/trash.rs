//! Deleting: rename into the pool's trash at once, remove slowly last (design, section 6).
//!
//! Called by storage drivers and by `ops`; leftover trash is removed by whoever calls [`Store::empty_trash`] next. What is
//! removed was a guest's, so nothing in it is believed: no symlink is followed, no mount is entered, depth and number of
//! entries do not matter (a bounded stack; deeper folders are first moved up), unreadable or immutable folders are opened
//! up. Removing goes on past errors and reports the first.

use super::Store;
use super::dir::{self, Dir};
use super::layout::rel;
use crate::base::names::PoolName;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::sys::btrfs;
use rustix::fs::{AtFlags, CWD, FileType, IFlags, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The folder in a pool's data.
pub(super) const TRASH: &str = "trash";

/// Folders deeper than this below the one being removed are moved to its top first.
const DEPTH: usize = 32;

/// Renames `victim`, a folder or file somewhere below `data` (a pool's data folder), into `data/trash`. Returns its place
/// there; `None` if it was not there. The rest is [`remove`]'s.
///
/// # Errors
/// An I/O error; EXDEV or EBUSY if it is a mount point.
pub fn discard(data: &Path, victim: &Path) -> Result<Option<PathBuf>> {
    let fail = || format!("Failed moving \"{}\" to the trash", victim.display());
    let Ok(below) = victim.strip_prefix(data) else {
        return Err(Error::internal(format!("\"{}\" is not in \"{}\"", victim.display(), data.display())));
    };
    let pool = open_following(data).with_context(fail)?;
    discard_at(&pool, below).with_context(fail)
}

/// A pool's data may be a link to another disk, set by the administrator.
pub(super) fn open_following(data: &Path) -> io::Result<Dir> {
    match Dir::open(data) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Dir::open(&data.canonicalize()?),
        other => other,
    }
}

pub(super) fn discard_at(pool: &Dir, below: &Path) -> Result<Option<PathBuf>> {
    let (folder, name) = match pool.parent(below) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    pool.make(TRASH, 0o700)?;
    let trash = pool.dir(TRASH)?;
    let new = uuid::Uuid::new_v4().to_string();
    fault::point("store.trash.begin")?;
    match dir::rename(&folder, name, &trash, OsStr::new(&new), false) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    }
    fault::point("store.trash.moved")?;
    Ok(Some(trash.path(new)))
}

/// Removes `path`, whatever it is, with all below it. Not there is fine.
///
/// # Errors
/// The first thing that could not be removed; the others were.
pub fn remove(path: &Path) -> Result<()> {
    let fail = || format!("Failed removing \"{}\"", path.display());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::internal(format!("\"{}\" is not to be removed", path.display())));
    };
    match Dir::open(parent) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).with_context(fail),
        Ok(dir) => remove_tree(&dir, name).map(drop).with_context(fail),
    }
}

impl Store {
    /// Moves `victim`, somewhere below the pool's data folder, to its trash; see [`discard`].
    ///
    /// # Errors
    /// See [`discard`].
    pub fn discard(&self, pool: &PoolName, victim: &Path) -> Result<Option<PathBuf>> {
        discard(&self.layout().pool_data(pool), victim)
    }

    /// Removes what lies in the trash of every pool; several commands may do so at once. Returns how many things went.
    /// To be called last by a command, after its result has been reported: it can take long.
    ///
    /// # Errors
    /// All that could not be removed, joined.
    pub fn empty_trash(&self) -> Result<usize> {
        let state = self.state_mut()?;
        let (mut removed, mut errors) = (0, Vec::new());
        let Some((_, pools)) = dir::list(state, rel::POOLS)? else { return Ok(0) };
        for pool in pools {
            let trash = match open_following(&state.path(format!("pools/{pool}/data"))).and_then(|d| d.dir(TRASH)) {
                Ok(t) => t,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => {
                    errors.push(Error::from(e).context(format!("Failed opening the trash of storage pool \"{pool}\"")));
                    continue;
                }
            };
            for name in trash.names().context("Failed listing the trash")? {
                match remove_tree(&trash, OsStr::new(&name)) {
                    Ok(was) => removed += usize::from(was),
                    Err(e) => errors
                        .push(Error::from(e).context(format!("Failed removing \"{}\"", trash.path(&name).display()))),
                }
            }
        }
        Error::join(errors).map_or(Ok(removed), Err)
    }
}

/// Removes `name` in `parent` with all below it. `false`: it was not there.
pub(super) fn remove_tree(parent: &Dir, name: &OsStr) -> io::Result<bool> {
    remove_at(parent.as_fd(), name)
}

/// Removes `name` in the folder behind `parent` with all below it, however deep and whoever owns it; symlinks are removed,
/// mounts not entered. `false`: it was not there. Lock: whatever keeps others from using it.
///
/// # Errors
/// The first thing that could not be removed; the rest was.
pub fn remove_at(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    let name = CString::new(name.as_bytes())?;
    let kind = match rustix::fs::statat(parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(s) => FileType::from_raw_mode(s.st_mode),
        Err(Errno::NOENT) => return Ok(false),
        Err(e) => return Err(e.into()),
    };
    let mut remover = Remover { top: None, next: 0, error: None };
    remover.entry(parent, &name, kind, 0);
    remover.error.map_or(Ok(true), Err)
}

struct Remover {
    /// The folder being removed: where deeper ones are moved to.
    top: Option<OwnedFd>,
    /// Number for the next one moved.
    next: u64,
    /// The first error.
    error: Option<io::Error>,
}

impl Remover {
    fn note(&mut self, e: impl Into<io::Error>) {
        let e = e.into();
        if e.kind() != io::ErrorKind::NotFound {
            self.error.get_or_insert(e);
        }
    }

    /// Removes one entry of `folder`. Whether it is gone (or moved up).
    fn entry(&mut self, folder: BorrowedFd<'_>, name: &CStr, kind: FileType, depth: usize) -> bool {
        let done = match kind {
            FileType::Directory => self.subfolder(folder, name, depth),
            _ => unlink(folder, name, AtFlags::empty(), kind).map(|()| true),
        };
        match done {
            Ok(gone) => gone,
            Err(Errno::NOENT) => true,
            // A file system that does not tell types, or one that changed.
            Err(Errno::ISDIR) if kind != FileType::Directory => self.entry(folder, name, FileType::Directory, depth),
            Err(e) => {
                self.note(e);
                false
            }
        }
    }

    /// Removes a folder. Whether it is gone (or moved up).
    fn subfolder(&mut self, folder: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<bool, Errno> {
        if depth >= DEPTH {
            return self.move_up(folder, name).map(|()| true);
        }
        let fd = enter(folder, name)?;
        // A subvolume, which a guest may have made too, goes as a whole; where that fails, file by file.
        if btrfs::is_subvolume(fd.as_fd()).unwrap_or(false) && btrfs::destroy_tree(folder, name).is_ok() {
            return Ok(true);
        }
        if depth == 0 {
            self.top = Some(fd.try_clone().map_err(|_| Errno::MFILE)?);
        }
        loop {
            // Removing while reading may hide entries on some file systems: read again until nothing more goes.
            let removed = self.content(&fd, depth)?;
            match unlink(folder, name, AtFlags::REMOVEDIR, FileType::Directory) {
                Err(Errno::NOTEMPTY | Errno::EXIST) if removed > 0 => {
                    rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0))?;
                }
                // What is left in it has its own error.
                Err(Errno::NOTEMPTY | Errno::EXIST) if self.error.is_some() => return Ok(false),
                other => return other.map(|()| true),
            }
        }
    }

    /// Removes the entries of a folder; how many went.
    fn content(&mut self, fd: &OwnedFd, depth: usize) -> Result<usize, Errno> {
        let mut buffer = Vec::with_capacity(16 * 1024);
        let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
        let mut removed = 0;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                removed += usize::from(self.entry(fd.as_fd(), name, entry.file_type(), depth + 1));
            }
        }
        Ok(removed)
    }

    /// Moves a deep folder to the top, whose next reading finds it there.
    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        let Some(top) = &self.top else { return Err(Errno::LOOP) };
        // Changing a folder's parent writes its "..": it must be writable itself.
        enter(folder, name).and_then(|fd| loosen(&fd))?;
        loop {
            let up = format!(".deep-{}", self.next);
            self.next += 1;
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(folder, name, top, up.as_str(), flags) {
                Err(Errno::EXIST) => {}
                other => return other,
            }
        }
    }
}

/// Opens a folder to remove what is in it: never a symlink, never another mount; unreadable ones are made readable.
fn enter(folder: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let open = |flags: OFlags| {
        let flags = flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(folder, name, flags, Mode::empty(), how)
    };
    match open(OFlags::RDONLY) {
        Err(Errno::ACCESS) => {
            let handle = open(OFlags::PATH)?;
            // An O_PATH fd cannot be fchmod'ed; its name in /proc means exactly this folder.
            let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
            rustix::fs::chmodat(CWD, path.as_str(), Mode::RWXU, AtFlags::empty())?;
            open(OFlags::RDONLY)
        }
        other => other,
    }
}

/// unlinkat(2); where permission or a flag of the folder or of the entry is in the way, that is taken away once.
fn unlink(folder: BorrowedFd<'_>, name: &CStr, flags: AtFlags, kind: FileType) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, flags) {
        Err(e @ (Errno::ACCESS | Errno::PERM)) => {
            loosen(folder)?;
            if e == Errno::PERM && matches!(kind, FileType::RegularFile | FileType::Directory) {
                let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                if let Ok(fd) = rustix::fs::openat(folder, name, how, Mode::empty()) {
                    clear_flags(&fd);
                }
            }
            rustix::fs::unlinkat(folder, name, flags)
        }
        other => other,
    }
}

fn loosen(folder: impl std::os::fd::AsFd) -> Result<(), Errno> {
    clear_flags(&folder);
    rustix::fs::fchmod(&folder, Mode::RWXU)
}

/// Best effort: file systems without such flags say so.
fn clear_flags(fd: &impl std::os::fd::AsFd) {
    let stuck = IFlags::IMMUTABLE | IFlags::APPEND;
    if let Ok(flags) = rustix::fs::ioctl_getflags(fd)
        && flags.intersects(stuck)
    {
        let _ = rustix::fs::ioctl_setflags(fd, flags - stuck);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Access;
    use super::super::layout::Layout;
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn removed(path: &Path) {
        remove(path).expect("remove");
        assert!(fs::symlink_metadata(path).is_err(), "still there");
    }

    #[test]
    fn symlinks_are_removed_and_never_followed() {
        let d = tempfile::tempdir().expect("tempdir");
        let (outside, tree) = (d.path().join("outside"), d.path().join("tree"));
        fs::create_dir_all(outside.join("sub")).expect("outside");
        fs::write(outside.join("file"), "safe").expect("file");
        fs::create_dir_all(tree.join("a/b")).expect("tree");
        for (target, at) in [(&outside, "a/dir"), (&outside.join("file"), "a/b/file"), (&d.path().into(), "up")] {
            symlink(target, tree.join(at)).expect("symlink");
        }
        removed(&tree);
        assert!(outside.join("sub").is_dir() && outside.join("file").is_file());
        symlink(&outside, &tree).expect("symlink");
        removed(&tree);
        assert!(outside.join("file").is_file(), "a link itself goes, not what it names");
        remove(&tree).expect("not there is fine");
        remove(&tree.join("x/y")).expect("not there is fine");
        assert!(remove(Path::new("/")).is_err());
    }

    #[test]
    fn what_a_mount_keeps_from_going_is_reported_and_not_tried_for_ever() {
        use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
        let d = tempfile::tempdir().expect("tempdir");
        let (tree, at) = (d.path().join("tree"), d.path().join("tree/a/b"));
        fs::create_dir_all(&at).expect("tree");
        fs::write(d.path().join("tree/file"), "").expect("file");
        if mount("none", &at, "tmpfs", MountFlags::empty(), None).is_err() {
            return;
        }
        fs::write(at.join("file"), "kept").expect("file");
        let e = remove(&tree).expect_err("a mount is in the way");
        assert!(e.to_string().starts_with("Failed removing"), "{e}");
        assert!(at.join("file").exists() && !d.path().join("tree/file").exists());
        unmount(&at, UnmountFlags::empty()).expect("unmount");
        removed(&tree);
    }

    /// In memory where possible: these make many files.
    fn fast_dir() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("tempdir")
    }

    #[test]
    fn ten_thousand_levels_need_neither_stack_nor_descriptors() {
        let d = fast_dir();
        let top = d.path().join("top");
        fs::create_dir(&top).expect("top");
        // A hundred chains of a hundred, hung below each other from the last to the first: making one long chain is
        // quadratic in some kernels.
        let base = Dir::open(&top).expect("open");
        let mut below: Option<String> = None;
        for chain in 0..100 {
            let name = format!("chain-{chain}");
            base.make(&name, 0o700).expect("mkdir");
            let mut at = base.dir(&name).expect("open");
            for _ in 0..99 {
                at.make("d", 0o700).expect("mkdir");
                drop(at.open_at("f", OFlags::CREATE | OFlags::WRONLY, 0o600).expect("file"));
                at = at.dir("d").expect("open");
            }
            if let Some(last) = below.replace(name) {
                dir::rename(&base, last.as_ref(), &at, "d".as_ref(), false).expect("hang");
            }
        }
        fs::create_dir(top.join(".deep-0")).expect("a name we would take");
        removed(&top);
    }

    #[test]
    fn many_entries_in_one_folder() {
        let d = fast_dir();
        let top = d.path().join("top");
        fs::create_dir(&top).expect("top");
        for i in 0..20_000 {
            fs::write(top.join(format!("a-rather-long-file-name-{i}")), "").expect("file");
        }
        removed(&top);
    }

    #[test]
    fn closed_folders_are_opened_up() {
        let d = tempfile::tempdir().expect("tempdir");
        let top = d.path().join("top");
        fs::create_dir_all(top.join("a/b/c")).expect("tree");
        fs::write(top.join("a/b/f"), "").expect("file");
        for p in ["a/b/c", "a/b", "a", ""] {
            fs::set_permissions(top.join(p), PermissionsExt::from_mode(0o0)).expect("chmod");
        }
        removed(&top);
    }

    #[test]
    fn immutable_files_and_folders_go_too() {
        let d = tempfile::tempdir().expect("tempdir");
        let top = d.path().join("top");
        fs::create_dir_all(top.join("a")).expect("tree");
        fs::write(top.join("a/f"), "").expect("file");
        for p in ["a/f", "a"] {
            let fd = fs::File::open(top.join(p)).expect("open");
            let set =
                rustix::fs::ioctl_getflags(&fd).and_then(|f| rustix::fs::ioctl_setflags(&fd, f | IFlags::IMMUTABLE));
            if set.is_err() {
                crate::store::tests::skip!("immutable_files_and_folders_go_too: no permission or no such flag here");
                return;
            }
        }
        removed(&top);
    }

    #[test]
    fn the_trash_takes_and_is_emptied() {
        let d = tempfile::tempdir().expect("tempdir");
        let layout = Layout::under(d.path());
        let store = Store::open(&layout, Access::Write).expect("open");
        let pool = PoolName::parse("p1").expect("name");
        let victim = layout.pool_containers(&pool).join("default_c1");
        fs::create_dir_all(victim.join("rootfs/etc")).expect("volume");
        let lies = store.discard(&pool, &victim).expect("discard").expect("was there");
        assert!(lies.starts_with(layout.pool_trash(&pool)) && lies.join("rootfs/etc").is_dir());
        assert!(store.discard(&pool, &victim).expect("again").is_none(), "idempotent");
        assert!(store.discard(&pool, &layout.images_dir()).is_err(), "outside the pool");
        assert_eq!(store.empty_trash().expect("empty"), 1);
        assert_eq!(store.empty_trash().expect("empty"), 0);
        assert!(!lies.exists() && layout.pool_trash(&pool).is_dir());
    }
}
