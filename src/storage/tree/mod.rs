//! Work on whole folder trees whose content a guest or an image made: copy, shift, measure, remove.
//!
//! Called by the storage drivers. The trees are walked by folder descriptors, one name at a time and never through a
//! symbolic link, so that nothing inside a tree can lead the walk out of it; depth costs no recursion and no more than
//! [`chain::WINDOW`] descriptors. Mounts found inside a tree are not entered.
mod chain;
mod copy;
mod data;
mod desk;
mod idattr;
mod ids;
mod meta;
mod project;
mod shift;
mod sift;
mod usage;

pub use copy::{Stats, copy_tree};
pub use ids::Ids;
pub use meta::copy_root_attributes;
pub use project::set_project;
pub use shift::shift_tree;
pub use sift::sift;
pub use usage::{Usage, usage};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags};
use std::ffi::{CStr, CString};

/// Bytes of folder entries fetched by one call.
const ENTRIES: usize = 32 << 10;

/// Opens the folder `name` in `dir` for a walk: not through a symbolic link, not across a mount.
fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let how = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(dir, name, flags, Mode::empty(), how)
}

/// Hands every entry of the open folder `dir` to `each`, `.` and `..` left out. A kind the file system does not tell is
/// asked for.
fn entries(dir: BorrowedFd<'_>, mut each: impl FnMut(CString, FileType)) -> rustix::io::Result<()> {
    let mut buffer = Vec::<u8>::with_capacity(ENTRIES);
    let mut reader = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = reader.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match rustix::fs::statat(dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(rustix::io::Errno::NOENT) => continue,
                Err(e) => return Err(e),
            },
            known => known,
        };
        each(name.to_owned(), kind);
    }
    Ok(())
}

/// A second descriptor of the open folder `dir` with a reading position of its own.
fn reopen(dir: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir.as_fd(), c".", flags, Mode::empty())
}
