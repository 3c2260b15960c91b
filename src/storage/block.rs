//! Disks as files: a custom volume that holds a disk, or the image of a disc, is a folder with the one file [`FILE`] in it.
//!
//! Called by `ops`; copies, snapshots and restores of such a volume are the driver's, as of any folder. What is in the file is
//! data of whoever wrote it: nothing here looks into it. It is opened beneath the folder and never through a link.

use super::{Driver, Volume};
use crate::error::{Context, Error, Result};
use crate::model::attach::Rootfs;
use crate::sys::path::{self, Links};
use rustix::fs::{IFlags, OFlags};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The file.
pub const FILE: &str = "root.img";
/// Sizes are multiples of it, as QEMU wants them.
const STEP: u64 = 8192;
/// Zeros of this length stay a hole.
const HOLE: usize = 4096;

/// A size as a disk has it, bytes.
///
/// # Errors
/// Invalid: no file is that large.
pub fn rounded(size: u64) -> Result<u64> {
    let fits = size.checked_next_multiple_of(STEP).filter(|s| i64::try_from(*s).is_ok());
    fits.ok_or_else(|| Error::invalid(format!("Invalid size {size}")))
}

fn open_dir(folder: &Path) -> Result<OwnedFd> {
    path::open_dir(path::open_root(folder)?.as_fd(), Path::new("."), Links::Refuse)
}

fn folder(driver: &dyn Driver, volume: &Volume) -> Result<OwnedFd> {
    match driver.rootfs(volume)? {
        Rootfs::Dir { path } => open_dir(&path),
        Rootfs::Overlay { .. } => Err(Error::internal("A disk has layers")),
    }
}

/// Makes the folder of a volume that was begun ready for its disk. On pools of btrfs what is in it is written in place: small
/// writes all over a large file would tear it into pieces else.
///
/// # Errors
/// It cannot be opened.
pub fn prepare(driver: &dyn Driver, folder: &Path) -> Result<()> {
    if driver.name() != "btrfs" {
        return Ok(());
    }
    let folder = open_dir(folder)?;
    if let Ok(flags) = rustix::fs::ioctl_getflags(&folder) {
        // It is the same disk without.
        let _ = rustix::fs::ioctl_setflags(&folder, flags | IFlags::NOCOW);
    }
    Ok(())
}

/// Begins a volume with a disk in it; see [`create`].
///
/// # Errors
/// As [`Driver::begin_volume`]; the file system has no files of that size.
pub fn begin(driver: &dyn Driver, volume: &Volume, size: u64) -> Result<File> {
    driver.plan_disk(size);
    create(driver, &driver.begin_volume(volume)?, size)
}

/// Makes the disk in the folder of a volume that was begun: `size` bytes of zeros that take no room.
///
/// # Errors
/// It is there; the file system has no files of that size.
pub fn create(driver: &dyn Driver, folder: &Path, size: u64) -> Result<File> {
    prepare(driver, folder)?;
    let file = path::create_in(open_dir(folder)?.as_fd(), FILE.as_ref())?;
    file.set_len(size).with_context(|| format!("Failed creating a disk of {size} bytes"))?;
    Ok(file)
}

/// Opens the disk of a volume to be read.
///
/// # Errors
/// It is not there, or something else is.
pub fn open(driver: &dyn Driver, volume: &Volume) -> Result<File> {
    path::open_regular(folder(driver, volume)?.as_fd(), Path::new(FILE), OFlags::RDONLY, Links::Refuse)
        .with_context(|| format!("Failed opening the disk of volume \"{}\"", volume.name()))
}

/// Its size, bytes.
///
/// # Errors
/// As [`open`].
pub fn size(driver: &dyn Driver, volume: &Volume) -> Result<u64> {
    Ok(open(driver, volume)?.metadata()?.len())
}

/// Has it be at least `size` bytes long. On disk afterwards. Repeated: nothing happens.
///
/// # Errors
/// As [`open`]; the file system has no files of that size; no room.
pub fn grow(driver: &dyn Driver, volume: &Volume, size: u64) -> Result<()> {
    driver.make_room(volume, size)?;
    let folder = folder(driver, volume)?;
    let file = path::open_regular(folder.as_fd(), Path::new(FILE), OFlags::RDWR, Links::Refuse)?;
    if file.metadata()?.len() < size {
        file.set_len(size).with_context(|| format!("Failed growing the disk of volume \"{}\"", volume.name()))?;
        file.sync_all()?;
    }
    Ok(())
}

/// Sees whether [`grow`] can succeed: a file without a name gets that size.
///
/// # Errors
/// The file system has no files of that size.
pub fn can_grow(driver: &dyn Driver, volume: &Volume, size: u64) -> Result<()> {
    let folder = folder(driver, volume)?;
    let probe = path::open(folder.as_fd(), Path::new("."), OFlags::RDWR | OFlags::TMPFILE, 0o600, Links::Refuse)?;
    let fail = || format!("Failed growing the disk of volume \"{}\"", volume.name());
    File::from(probe).set_len(size).with_context(fail)
}

/// Writes at an offset of a fresh disk; zeros stay holes.
///
/// # Errors
/// No space.
pub fn put(file: &File, mut at: u64, mut bytes: &[u8]) -> Result<()> {
    let is_hole = |piece: &[u8]| piece.iter().all(|b| *b == 0);
    while !bytes.is_empty() {
        let holes = bytes.chunks(HOLE).take_while(|piece| is_hole(piece)).map(<[u8]>::len).sum();
        (at, bytes) = (at + holes as u64, &bytes[holes..]);
        let data = bytes.chunks(HOLE).take_while(|piece| !is_hole(piece)).map(<[u8]>::len).sum();
        file.write_all_at(&bytes[..data], at).context("Failed writing a disk")?;
        (at, bytes) = (at + data as u64, &bytes[data..]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn sizes_are_what_a_disk_can_have() {
        assert_eq!([0, 1, 8192, 8193].map(|s| rounded(s).expect("fits")), [0, 8192, 8192, 16384]);
        assert!(rounded(u64::MAX).is_err() && rounded(i64::MAX as u64).is_err());
    }

    #[test]
    fn zeros_take_no_room() {
        let mut file = tempfile::tempfile().expect("file");
        let mut wanted = vec![0; 1 << 20];
        wanted[5000] = 1;
        wanted[700_000..700_010].fill(2);
        *wanted.last_mut().expect("last") = 3;
        file.set_len(wanted.len() as u64).expect("sized");
        for (n, piece) in wanted.chunks(70_000).enumerate() {
            put(&file, n as u64 * 70_000, piece).expect("written");
        }
        let mut found = Vec::new();
        file.read_to_end(&mut found).expect("read");
        assert!(found == wanted);
        assert!(file.metadata().expect("stat").blocks() * 512 < 1 << 19);
    }
}
