//! Sizes of volumes that are folders, by the project quotas of ext4 and xfs.
//!
//! Used by `dir` and `overlay`. A volume gets a project when it gets its first size, and keeps it: the project stands in the
//! volume's own folder, whose inode goes where the volume goes. Which projects are taken the kernel knows: one that no file is
//! in is free. So there is no list that a kill could leave wrong, and pools of several states, or of others, may share a file
//! system. The first of two that hit on the same number at once sees it alone or both choose anew.

use super::pool::Pool;
use super::tree;
use super::volume::{Trash, Volume};
use super::{Space, not_bounded};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::sys::quota;
use rustix::fd::{AsFd, BorrowedFd};

/// Projects of ours: above what people and other programs use, below what is no ID.
const FIRST: u32 = 1 << 24;
const LAST: u32 = (1 << 31) - 1;

/// Sizes can be kept. Not so in a folder that somebody put into a project: nothing could be moved out of a volume's there.
pub(super) fn can_bound(pool: &Pool) -> Result<bool> {
    let folder = pool.open_dir(".")?;
    Ok(quota::is_enforced(folder.as_fd()) && !quota::project(folder.as_fd()).1)
}

/// See [`super::Quotas::set_size`].
pub(super) fn set_size(pool: &Pool, volume: &Volume, size: Option<u64>) -> Result<()> {
    pool.present(volume)?;
    bound(pool, &volume.path(), size)
        .with_context(|| format!("Failed setting the size of volume \"{}\"", volume.name()))
}

fn bound(pool: &Pool, rel: &str, size: Option<u64>) -> Result<()> {
    let folder = pool.open_dir(rel)?;
    let folder = folder.as_fd();
    let id = project_of(folder);
    let Some(size) = size else {
        return id.map_or(Ok(()), |id| Ok(quota::limit(folder, id, 0)?));
    };
    if !can_bound(pool)? {
        return Err(not_bounded());
    }
    let id = match id {
        // One that has a bound is in it as a whole.
        Some(id) if quota::read(folder, id)?.most != 0 => id,
        found => {
            let id = found.map_or_else(|| choose(folder), Ok)?;
            fault::point("storage.size.chosen")?;
            tree::set_project(folder, id)?;
            fault::point("storage.size.walked")?;
            id
        }
    };
    Ok(quota::limit(folder, id, size)?)
}

/// The project of a volume's folder, if it is one of ours.
fn project_of(folder: BorrowedFd<'_>) -> Option<u32> {
    let (id, inherits) = quota::project(folder);
    (inherits && (FIRST..=LAST).contains(&id)).then_some(id)
}

/// A project for the folder, which nothing else is in.
fn choose(folder: BorrowedFd<'_>) -> Result<u32> {
    for _ in 0..1000 {
        let random = (uuid::Uuid::new_v4().as_u128() & u128::from(u32::MAX)) as u32;
        let id = FIRST + random % (LAST - FIRST);
        let found = quota::read(folder, id)?;
        if (found.used, found.inodes) != (0, 0) {
            continue;
        }
        quota::set_project(folder, id, true)?;
        if quota::read(folder, id)?.inodes == 1 {
            return Ok(id);
        }
    }
    Err(Error::failed("No project ID is free"))
}

/// See [`super::Quotas::space`].
pub(super) fn space(pool: &Pool, volume: &Volume) -> Result<Option<Space>> {
    let folder = pool.open_dir(&volume.path())?;
    let Some(id) = project_of(folder.as_fd()) else { return Ok(None) };
    // Whoever may not ask learns what a walk tells.
    let Ok(found) = quota::read(folder.as_fd(), id) else { return Ok(None) };
    Ok((found.most != 0).then_some(Space { used: found.used, total: found.most }))
}

/// What is staged to take the place of a volume gets the volume's size, however much it holds.
pub(super) fn carry(pool: &Pool, volume: &Volume) -> Result<()> {
    if !pool.has(&volume.path())? {
        return Ok(());
    }
    match space(pool, volume)? {
        Some(space) => bound(pool, &volume.staged(), Some(space.total)),
        None => Ok(()),
    }
}

/// Lifts the bound of what is about to be removed, so that nothing is kept about its project afterwards.
pub(super) fn give_back(pool: &Pool, trash: &Trash) {
    if let Ok(folder) = pool.open_dir(&trash.path())
        && let Some(id) = project_of(folder.as_fd())
    {
        let _ = quota::limit(folder.as_fd(), id, 0);
    }
}
