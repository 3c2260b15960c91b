//! Puts a whole tree into a project (see `sys::quota`).
//!
//! Called by the drivers when a volume gets its first size. From the root down, so that what is made meanwhile gets the
//! project by itself. Folders and regular files only: of the rest no descriptor is to be had that the kernel would take, and
//! it takes up nothing.

use super::chain::Chain;
use super::{entries, open_dir, reopen};
use crate::error::Result;
use crate::sys::{path, quota};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// Puts the folder `root` and all below it into the project `id`. What is immutable stays what it was.
///
/// # Errors
/// A folder could not be read; the kernel refuses.
pub fn set_project(root: BorrowedFd<'_>, id: u32) -> Result<()> {
    let mut chain = Chain::new(reopen(root)?)?;
    quota::set_project(root, id, true)?;
    let mut stack = vec![files(chain.fd(), id)?];
    while let Some(folders) = stack.last_mut() {
        match folders.pop() {
            Some(name) => match open_dir(chain.fd(), &name) {
                Ok(fd) => {
                    put(fd.as_fd(), id, true)?;
                    chain.push(fd)?;
                    stack.push(files(chain.fd(), id)?);
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
                Err(e) => return Err(e.into()),
            },
            None => {
                stack.pop();
                chain.pop()?;
            }
        }
    }
    Ok(())
}

fn put(fd: BorrowedFd<'_>, id: u32, folder: bool) -> Result<()> {
    match quota::set_project(fd, id, folder) {
        Err(e) if e.errno == libc::EPERM => Ok(()),
        other => Ok(other?),
    }
}

/// Does the files in a folder; returns the folders.
fn files(folder: BorrowedFd<'_>, id: u32) -> Result<Vec<CString>> {
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    entries(folder, |name, kind| match kind {
        FileType::Directory => folders.push(name),
        FileType::RegularFile => files.push(name),
        _ => {}
    })?;
    files.iter().try_for_each(|name| file(folder, name, id))?;
    Ok(folders)
}

fn file(folder: BorrowedFd<'_>, name: &CStr, id: u32) -> Result<()> {
    // Looked at before it is opened: something that runs may have put a device in its place.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let pin = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if !FileType::from_raw_mode(rustix::fs::fstat(&pin)?.st_mode).is_file() {
        return Ok(());
    }
    put(path::reopen(pin.as_fd(), OFlags::RDONLY)?.as_fd(), id, false)
}
