//! The only way to touch a path that a guest or an image controls: every lookup starts at a directory fd of ours and is
//! confined by openat2(2) (Linux 5.6; the floor is 6.1).
//!
//! Called by `image`, `guest`, `container`, `storage` and `ops`. Two kinds of lookup exist, see [`Links`]; both refuse magic
//! links, so `/proc/self/fd/…` planted in a rootfs leads nowhere. The last component of a name that is created, removed
//! or described is never followed. What is opened for reading or writing is a regular file or nothing
//! ([`open_regular`]): an image may hold device nodes, and opening one would act on the host's device. This module must never
//! resolve a string twice (check and use are one call or one fd) and never changes the working directory or the umask.

use crate::error::{Context, Error, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

/// How symbolic links met on the way are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// As if the root fd were `/` (`RESOLVE_IN_ROOT`): links are followed, absolute ones from the root, and `..` stops there.
    /// For names inside a rootfs.
    InRoot,
    /// Links are followed as long as they stay below the root fd (`RESOLVE_BENEATH`): an absolute one, or a `..` out of it, is an
    /// error. For what users of a volume name in it.
    Beneath,
    /// Any link is an error (`RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`). For our own folders that hold foreign data.
    Refuse,
}

/// Owner and permission bits of something that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id on disk.
    pub uid: u32,
    /// Group id on disk.
    pub gid: u32,
    /// Permission bits (`0o7777`).
    pub mode: u32,
}

/// What a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Symlink,
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
}

/// The part of stat(2) we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// File system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Number of names.
    pub nlink: u64,
    /// Device number of a node.
    pub rdev: u64,
    /// Modification time: seconds, nanoseconds.
    pub mtime: (i64, u32),
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Bare name.
    pub name: OsString,
    /// Its kind, as the directory says (never followed).
    pub kind: Kind,
}

/// How often a lookup is tried again when a rename elsewhere disturbed it (EAGAIN, openat2(2)).
const LOOKUP_TRIES: u32 = 128;

pub(super) fn call<T>(name: &str, r: rustix::io::Result<T>) -> Result<T> {
    r.map_err(|e| Error::from(std::io::Error::from(e)).context(name))
}

/// Opens a trusted directory of the host as the root of later lookups (`O_PATH|O_DIRECTORY|O_NOFOLLOW`).
///
/// # Errors
/// The directory is not there, is a symlink, or is something else.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    call("open", rustix::fs::openat(CWD, path, flags, Mode::empty()))
        .with_context(|| format!("Failed opening directory \"{}\"", path.display()))
}

/// Opens `rel` (a leading `/` means `root`) with openat2(2); `O_CLOEXEC` and `O_NOCTTY` are added. `mode` counts only when the call
/// creates. Devices and pipes are not kept out here: see [`open_regular`].
///
/// # Errors
/// Those of openat2(2); EXDEV or ELOOP when the path tries to leave.
pub fn open(root: BorrowedFd<'_>, rel: &Path, flags: OFlags, mode: u32, links: Links) -> Result<OwnedFd> {
    call("openat2", open_raw(root, rel, flags, mode, links))
}

fn open_raw(root: BorrowedFd<'_>, rel: &Path, flags: OFlags, mode: u32, links: Links) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::NO_MAGICLINKS
        | match links {
            Links::InRoot => ResolveFlags::IN_ROOT,
            Links::Beneath => ResolveFlags::BENEATH,
            Links::Refuse => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        };
    let creates = flags.intersects(OFlags::CREATE | OFlags::TMPFILE.difference(OFlags::DIRECTORY));
    let mode = if creates { Mode::from_bits_truncate(mode & 0o7777) } else { Mode::empty() };
    let mut flags = flags | OFlags::CLOEXEC;
    if !flags.contains(OFlags::PATH) {
        flags |= OFlags::NOCTTY;
    }
    let rel = relative(rel);
    for _ in 0..LOOKUP_TRIES {
        match rustix::fs::openat2(root, rel, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Without its leading slashes; "." for the root itself.
fn relative(rel: &Path) -> &Path {
    let bytes = rel.as_os_str().as_bytes();
    let start = bytes.iter().position(|b| *b != b'/').unwrap_or(bytes.len());
    match &bytes[start..] {
        [] => Path::new("."),
        rest => Path::new(OsStr::from_bytes(rest)),
    }
}

/// Opens a directory as a handle for the `*at` calls and for reading its entries.
///
/// # Errors
/// Not there, not a directory, or outside.
pub fn open_dir(root: BorrowedFd<'_>, rel: &Path, links: Links) -> Result<OwnedFd> {
    open(root, rel, OFlags::RDONLY | OFlags::DIRECTORY, 0, links)
}

/// Opens the directory that holds the last component of `rel`, and returns that component. The component itself is not
/// looked at.
///
/// # Errors
/// `rel` ends in `..` or names the root; or as [`open_dir`].
pub fn open_parent<'a>(root: BorrowedFd<'_>, rel: &'a Path, links: Links) -> Result<(OwnedFd, &'a OsStr)> {
    let (parent, name) = split(rel)?;
    let fd = open(root, parent, OFlags::PATH | OFlags::DIRECTORY, 0, links)?;
    Ok((fd, name))
}

fn split(rel: &Path) -> Result<(&Path, &OsStr)> {
    let bad = || Error::invalid(format!("Bad path \"{}\"", rel.display()));
    let name = match rel.components().next_back() {
        Some(Component::Normal(name)) => name,
        _ => return Err(bad()),
    };
    Ok((rel.parent().ok_or_else(bad)?, name))
}

/// Opens an existing **regular** file. It is pinned with `O_PATH`, its type is checked, and the same inode is opened through
/// `/proc/self/fd` of the host: a device, pipe or socket is never opened, and nothing can be swapped in between.
///
/// # Errors
/// Not there, not a regular file, or outside.
pub fn open_regular(root: BorrowedFd<'_>, rel: &Path, flags: OFlags, links: Links) -> Result<File> {
    let pin = open(root, rel, OFlags::PATH, 0, links)?;
    if fstat(pin.as_fd())?.kind != Kind::File {
        return Err(Error::invalid(format!("Not a regular file: \"{}\"", rel.display())));
    }
    reopen(pin.as_fd(), flags)
}

/// Opens what an fd refers to once more, with other flags (proc_pid_fd(5)). The caller has checked its type.
///
/// # Errors
/// Those of open(2).
pub fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> Result<File> {
    let flags = flags.difference(OFlags::NOFOLLOW) | OFlags::CLOEXEC | OFlags::NOCTTY;
    call("open", rustix::fs::openat(CWD, proc_name(fd), flags, Mode::empty())).map(File::from)
}

fn proc_name(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Reads a regular file of at most `max` bytes.
///
/// # Errors
/// As [`open_regular`]; or the file is larger.
pub fn read_limited(root: BorrowedFd<'_>, rel: &Path, max: u64, links: Links) -> Result<Vec<u8>> {
    let file = open_regular(root, rel, OFlags::RDONLY, links)?;
    let mut data = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut data).context("read")?;
    if data.len() as u64 > max {
        return Err(Error::invalid(format!("\"{}\" is larger than {max} bytes", rel.display())));
    }
    Ok(data)
}

/// Creates a new regular file, open for writing. An existing name of any kind is an error.
///
/// # Errors
/// As [`open_parent`]; EEXIST.
pub fn create_file(root: BorrowedFd<'_>, rel: &Path, owner: Owner, links: Links) -> Result<File> {
    let (parent, name) = open_parent(root, rel, links)?;
    let file = create_in(parent.as_fd(), name)?;
    own_file(&file, owner)?;
    Ok(file)
}

/// Creates a regular file `name` (bare) in `dir`, mode 0600, open for writing.
pub(crate) fn create_in(dir: BorrowedFd<'_>, name: &OsStr) -> Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    open(dir, Path::new(name), flags, 0o600, Links::Refuse).map(File::from)
}

fn own_file(file: &File, owner: Owner) -> Result<()> {
    chown(file.as_fd(), owner.uid, owner.gid)?;
    // After the owner: chown(2) clears the set-id bits.
    call("fchmod", rustix::fs::fchmod(file, Mode::from_bits_truncate(owner.mode & 0o7777)))
}

/// Puts `data` at `rel` with a temporary name and a rename: a reader sees the old or the new file, and a link, device or pipe at
/// that name is replaced, not followed. Not synced.
///
/// # Errors
/// As [`open_parent`]; the name is a directory; no space.
pub fn write_replace(root: BorrowedFd<'_>, rel: &Path, data: &[u8], owner: Owner, links: Links) -> Result<()> {
    replace(root, rel, (data, owner), links, false)
}

/// As [`write_replace`], and on disk when it comes back.
///
/// # Errors
/// As [`write_replace`]; the disk fails.
pub fn write_replace_durably(root: BorrowedFd<'_>, rel: &Path, data: &[u8], owner: Owner, links: Links) -> Result<()> {
    replace(root, rel, (data, owner), links, true)?;
    let (parent, _) = open_parent(root, rel, links)?;
    reopen(parent.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?.sync_all().context("fsync")
}

/// Of the temporary names of [`write_replace`].
const TEMPORARY: &str = ".stapes-";

/// Whether the name is one that [`write_replace`] makes for a while.
pub fn is_temporary(name: &OsStr) -> bool {
    name.as_bytes().starts_with(TEMPORARY.as_bytes())
}

/// Removes what [`write_replace`] left in the directory `dir` when it was killed.
///
/// # Errors
/// The directory cannot be read or written.
pub fn remove_temporaries(dir: BorrowedFd<'_>) -> Result<()> {
    let mut left = read_dir(dir)?.into_iter().filter(|entry| is_temporary(&entry.name) && entry.kind == Kind::File);
    left.try_for_each(|entry| unlink(dir, Path::new(&entry.name), Links::Refuse))
}

fn replace(root: BorrowedFd<'_>, rel: &Path, (data, owner): (&[u8], Owner), links: Links, durably: bool) -> Result<()> {
    let (parent, name) = open_parent(root, rel, links)?;
    let temporary = OsString::from(format!("{TEMPORARY}{}", uuid::Uuid::new_v4().simple()));
    let mut file = create_in(parent.as_fd(), &temporary)?;
    let written = (|| {
        file.write_all(data).context("write")?;
        own_file(&file, owner)?;
        if durably {
            file.sync_all().context("fsync")?;
        }
        call("renameat", rustix::fs::renameat(&parent, &*temporary, &parent, name))
    })();
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&parent, &*temporary, AtFlags::empty());
    }
    written
}

/// Makes the directory `rel` and its missing parents with that owner and mode; those that exist are left as they are.
/// Returns the last one, opened for reading.
///
/// # Errors
/// A component is not a directory, leads outside, or ends in `..`.
pub fn create_dir_all(
    root: BorrowedFd<'_>,
    rel: &Path,
    uid: u32,
    gid: u32,
    mode: u32,
    links: Links,
) -> Result<OwnedFd> {
    let rel = relative(rel);
    let open_dir_raw = |p: &Path| open_raw(root, p, OFlags::RDONLY | OFlags::DIRECTORY, 0, links);
    let mut missing = Vec::new();
    let mut at = rel;
    loop {
        match open_dir_raw(at) {
            Ok(_) => break,
            Err(Errno::NOENT) if at != Path::new(".") && !at.as_os_str().is_empty() => missing.push(at),
            Err(e) => return call("openat2", Err(e)),
        }
        at = at.parent().unwrap_or(Path::new("."));
    }
    for dir in missing.into_iter().rev() {
        let (parent, name) = open_parent(root, dir, links)?;
        make_dir(parent.as_fd(), name, Owner { uid, gid, mode })?;
    }
    call("openat2", open_dir_raw(rel))
}

/// Makes one directory; true if it was missing.
fn make_dir(parent: BorrowedFd<'_>, name: &OsStr, owner: Owner) -> Result<bool> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Err(Errno::EXIST) => return Ok(false),
        other => call("mkdirat", other)?,
    }
    let fd = open_dir(parent, Path::new(name), Links::Refuse)?;
    chown(fd.as_fd(), owner.uid, owner.gid)?;
    call("fchmod", rustix::fs::fchmod(&fd, Mode::from_bits_truncate(owner.mode & 0o7777)))?;
    Ok(true)
}

/// Removes a name that is not a directory. The last component is not followed.
///
/// # Errors
/// As [`open_parent`]; ENOENT.
pub fn unlink(root: BorrowedFd<'_>, rel: &Path, links: Links) -> Result<()> {
    let (parent, name) = open_parent(root, rel, links)?;
    call("unlinkat", rustix::fs::unlinkat(parent, name, AtFlags::empty()))
}

/// Removes an empty directory.
///
/// # Errors
/// As [`open_parent`]; ENOTEMPTY.
pub fn remove_dir(root: BorrowedFd<'_>, rel: &Path, links: Links) -> Result<()> {
    let (parent, name) = open_parent(root, rel, links)?;
    call("unlinkat", rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR))
}

/// Makes the symbolic link `rel` with the text `target`, which is not looked at.
///
/// # Errors
/// As [`open_parent`]; EEXIST.
pub fn symlink(root: BorrowedFd<'_>, rel: &Path, target: &OsStr, links: Links) -> Result<()> {
    let (parent, name) = open_parent(root, rel, links)?;
    call("symlinkat", rustix::fs::symlinkat(target, parent, name))
}

/// Makes the hard link `rel` to `existing`, both beneath `root`. A symlink as the last component of `existing` is linked itself.
///
/// # Errors
/// As [`open_parent`]; `existing` is not there or is a directory.
pub fn link(root: BorrowedFd<'_>, existing: &Path, rel: &Path, links: Links) -> Result<()> {
    let (from, old) = open_parent(root, existing, links)?;
    let (to, new) = open_parent(root, rel, links)?;
    call("linkat", rustix::fs::linkat(from, old, to, new, AtFlags::empty()))
}

/// Makes a device node or pipe with that owner. `device`: major and minor, ignored for a pipe.
///
/// # Errors
/// As [`open_parent`]; EPERM without the right to make devices.
pub fn mknod(
    root: BorrowedFd<'_>,
    rel: &Path,
    kind: Kind,
    device: (u32, u32),
    owner: Owner,
    links: Links,
) -> Result<()> {
    let (parent, name) = open_parent(root, rel, links)?;
    mknod_in(parent.as_fd(), name, kind, device)?;
    let pin = open(parent.as_fd(), Path::new(name), OFlags::PATH | OFlags::NOFOLLOW, 0, Links::InRoot)?;
    chown(pin.as_fd(), owner.uid, owner.gid)?;
    chmod(pin.as_fd(), owner.mode)
}

/// Makes a node `name` (bare) in `dir`, mode 0600.
pub(crate) fn mknod_in(dir: BorrowedFd<'_>, name: &OsStr, kind: Kind, device: (u32, u32)) -> Result<()> {
    let (file_type, device) = match kind {
        Kind::Char => (FileType::CharacterDevice, rustix::fs::makedev(device.0, device.1)),
        Kind::Block => (FileType::BlockDevice, rustix::fs::makedev(device.0, device.1)),
        Kind::Fifo => (FileType::Fifo, 0),
        Kind::Socket => (FileType::Socket, 0),
        Kind::File | Kind::Dir | Kind::Symlink => return Err(Error::internal("mknod of a plain file")),
    };
    call("mknodat", rustix::fs::mknodat(dir, name, file_type, Mode::RUSR | Mode::WUSR, device))
}

/// Describes `rel` without following its last component.
///
/// # Errors
/// As [`open_parent`]; ENOENT.
pub fn stat(root: BorrowedFd<'_>, rel: &Path, links: Links) -> Result<Stat> {
    if relative(rel) == Path::new(".") {
        return fstat(root);
    }
    let (parent, name) = open_parent(root, rel, links)?;
    stat_in(parent.as_fd(), name)
}

/// Describes the bare `name` in `dir`, not followed.
pub(crate) fn stat_in(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Stat> {
    call("fstatat", rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)).map(|s| convert(&s))
}

/// Describes an open file or `O_PATH` handle.
///
/// # Errors
/// Those of fstat(2).
pub fn fstat(fd: BorrowedFd<'_>) -> Result<Stat> {
    call("fstat", rustix::fs::fstat(fd)).map(|s| convert(&s))
}

#[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "field types differ by architecture")]
fn convert(s: &rustix::fs::Stat) -> Stat {
    Stat {
        kind: kind_of(FileType::from_raw_mode(s.st_mode)),
        mode: s.st_mode & 0o7777,
        uid: s.st_uid,
        gid: s.st_gid,
        size: s.st_size as u64,
        dev: s.st_dev as u64,
        ino: s.st_ino as u64,
        nlink: s.st_nlink as u64,
        rdev: s.st_rdev as u64,
        mtime: (s.st_mtime as i64, s.st_mtime_nsec as u32),
    }
}

fn kind_of(t: FileType) -> Kind {
    match t {
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::Char,
        FileType::BlockDevice => Kind::Block,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::RegularFile | FileType::Unknown => Kind::File,
    }
}

/// Text of the symbolic link `name` (bare) in `dir`.
///
/// # Errors
/// Not a link.
pub fn read_link(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OsString> {
    let text = call("readlinkat", rustix::fs::readlinkat(dir, name, Vec::new()))?;
    Ok(OsString::from_vec(text.into_bytes()))
}

/// The entries of an open directory without `.` and `..`, sorted by name.
///
/// # Errors
/// Those of getdents(2).
pub fn read_dir(dir: BorrowedFd<'_>) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    // Opened anew: the position is not shared, and an O_PATH handle will do.
    let listing = open_dir(dir, Path::new("."), Links::Refuse)?;
    for entry in call("open", rustix::fs::Dir::new(listing))? {
        let entry = call("getdents", entry)?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let name = OsStr::from_bytes(name).to_os_string();
        let kind = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => match stat_in(dir, &name) {
                Ok(s) => s.kind,
                Err(e) if e.errno() == Some(libc::ENOENT) => continue,
                Err(e) => return Err(e),
            },
            known => kind_of(known),
        };
        entries.push(Entry { name, kind });
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Removes everything beneath an open directory; the directory itself stays. Links are removed, not followed.
///
/// # Errors
/// The first failure; what could be removed before it is gone.
pub fn remove_contents(dir: BorrowedFd<'_>) -> Result<()> {
    for entry in read_dir(dir)? {
        let mut flags = AtFlags::empty();
        if entry.kind == Kind::Dir {
            remove_contents(open_dir(dir, Path::new(&entry.name), Links::Refuse)?.as_fd())?;
            flags = AtFlags::REMOVEDIR;
        }
        call("unlinkat", rustix::fs::unlinkat(dir, &*entry.name, flags))?;
    }
    Ok(())
}

/// Sets the owner of an open file or `O_PATH` handle (also of a symlink opened with `O_PATH|O_NOFOLLOW`).
///
/// # Errors
/// Those of fchownat(2).
pub fn chown(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    call("fchownat", rustix::fs::chownat(fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH))
}

/// Sets the owner of the bare `name` in `dir`, not followed.
pub(crate) fn chown_in(dir: BorrowedFd<'_>, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    call("fchownat", rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))
}

/// Sets the permission bits of an open file or `O_PATH` handle. For the latter the host's `/proc/self/fd` is used, which
/// names exactly that inode (fchmodat2(2) with `AT_EMPTY_PATH` would want 6.6). A symlink is an error.
///
/// # Errors
/// Those of fchmodat(2).
pub fn chmod(fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
    let bits = Mode::from_bits_truncate(mode & 0o7777);
    match rustix::fs::fchmod(fd, bits) {
        Err(Errno::BADF) => {}
        other => return call("fchmod", other),
    }
    if fstat(fd)?.kind == Kind::Symlink {
        return Err(Error::internal("chmod of a symlink"));
    }
    call("fchmodat", rustix::fs::chmodat(CWD, proc_name(fd), bits, AtFlags::empty()))
}

/// Sets access and modification time of an open file: seconds and nanoseconds since the epoch.
///
/// # Errors
/// Those of futimens(3).
pub fn set_times(fd: BorrowedFd<'_>, mtime: (i64, u32)) -> Result<()> {
    call("futimens", rustix::fs::futimens(fd, &times(mtime)))
}

/// Sets the times of the bare `name` in `dir`, not followed.
pub(crate) fn set_times_in(dir: BorrowedFd<'_>, name: &OsStr, mtime: (i64, u32)) -> Result<()> {
    call("utimensat", rustix::fs::utimensat(dir, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW))
}

fn times((secs, nanos): (i64, u32)) -> Timestamps {
    let at = Timespec { tv_sec: secs, tv_nsec: nanos.into() };
    Timestamps { last_access: at, last_modification: at }
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
