//! What is below a pool that has a file system of its own: a loop file or a block device, made, mounted, grown, let go.
//!
//! Called by `ops`, which holds the pool or its mount. There is no daemon: the mount is made by the first command that needs
//! the pool after a boot, and stays. It is the one kind of mount of ours that shows in the host's table.

use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::command::{Cmd, Host, Program, Runner};
use crate::sys::btrfs;
use crate::sys::loopdev::{self, LoopDevice};
use crate::sys::mount::{self, Attr, Param};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use std::ffi::{CStr, CString};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MKFS: Program = Program { name: "mkfs.btrfs", package: "btrfs-progs" };
/// Copies of the superblock, and where in one identity and magic number are (btrfs on-disk format).
const SUPERBLOCKS: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
const FSID: usize = 0x20;
const SUPER_MAGIC: (usize, &[u8; 8]) = (0x40, b"_BHRfS_M");

/// What is below a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// A file of ours.
    Image(PathBuf),
    /// A block device of the user's.
    Device(PathBuf),
}

impl Disk {
    /// Its path.
    pub fn path(&self) -> &Path {
        let (Self::Image(path) | Self::Device(path)) = self;
        path
    }
}

/// Is `path` a block device?
pub fn is_block_device(path: &Path) -> bool {
    rustix::fs::stat(path).is_ok_and(|s| FileType::from_raw_mode(s.st_mode).is_block_device())
}

/// Makes the file of a pool: `size` bytes, of which none is written yet.
///
/// # Errors
/// Exists; the folder cannot be written.
pub fn create_image(path: &Path, size: u64) -> Result<()> {
    let fail = || format!("Failed creating \"{}\"", path.display());
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder.create(folder).with_context(fail)?;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(fail)?;
    fault::point("pool.image.begun")?;
    file.set_len(size).and_then(|()| file.sync_all()).with_context(fail)?;
    Ok(rustix::fs::fsync(open(folder, OFlags::RDONLY | OFlags::DIRECTORY)?)?)
}

/// Nobody has the device mounted or open for himself (open(2), O_EXCL).
///
/// # Errors
/// Conflict.
pub(super) fn is_unused(path: &Path) -> Result<()> {
    open(path, OFlags::RDWR | OFlags::EXCL).map(drop).map_err(|e| match e.errno() {
        Some(libc::EBUSY) => Error::conflict(format!("Block device \"{}\" is in use", path.display())),
        _ => e,
    })
}

/// Makes a btrfs file system with the identity `id`. `wipe`: whatever is there is overwritten; else a disk that holds a file
/// system or a partition table is refused. `options` were checked when they were set.
///
/// # Errors
/// The program is missing, or refuses; the device is in use.
pub fn format(disk: &Disk, label: &str, id: &str, wipe: bool, options: &[String]) -> Result<()> {
    if let Disk::Device(path) = disk {
        is_unused(path)?;
    }
    let mut cmd = Cmd::new(MKFS).arg("-q").arg("-L").arg(label).arg("-U").arg(id).args(options.iter().cloned());
    if wipe {
        cmd = cmd.arg("-f");
    }
    let done = Host::default().run(cmd.arg("--").arg(disk.path()));
    fault::point("pool.formatted")?;
    done.map(drop).map_err(|e| {
        match e.to_string().contains("-f to force") || e.to_string().contains("existing filesystem") {
            true => Error::conflict(format!("Block device \"{}\" holds a filesystem already", disk.path().display()))
                .hint("set source.wipe=true to overwrite it"),
            false => e.context(format!("Failed formatting \"{}\"", disk.path().display())),
        }
    })
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
        .map_err(Error::from)
        .with_context(|| format!("Failed opening \"{}\"", path.display()))
}

/// The identity of the btrfs file system on a disk; None if it has none.
///
/// # Errors
/// It cannot be read.
pub fn identity(path: &Path) -> Result<Option<String>> {
    let file = std::fs::File::from(open(path, OFlags::RDONLY)?);
    let mut block = [0u8; 4096];
    match file.read_exact_at(&mut block, SUPERBLOCKS[0]) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other.with_context(|| format!("Failed reading \"{}\"", path.display()))?,
    }
    if &block[SUPER_MAGIC.0..][..8] != SUPER_MAGIC.1 {
        return Ok(None);
    }
    let id: [u8; 16] = block[FSID..][..16].try_into().unwrap_or_default();
    Ok(Some(uuid::Uuid::from_bytes(id).hyphenated().to_string()))
}

/// Takes the file system `id` off a block device, so that the device counts as empty. Another one stays.
///
/// # Errors
/// It cannot be read or written.
pub fn wipe(path: &Path, id: &str) -> Result<()> {
    if identity(path)?.as_deref() != Some(id) {
        return Ok(());
    }
    let file = std::fs::File::from(open(path, OFlags::RDWR | OFlags::EXCL)?);
    // The first last: it is what says that this is the one.
    for at in SUPERBLOCKS.into_iter().rev() {
        let mut magic = [0u8; 8];
        let place = at + SUPER_MAGIC.0 as u64;
        if file.read_exact_at(&mut magic, place).is_ok() && &magic == SUPER_MAGIC.1 {
            file.write_all_at(&[0; 8], place).with_context(|| format!("Failed wiping \"{}\"", path.display()))?;
        }
    }
    file.sync_all().with_context(|| format!("Failed wiping \"{}\"", path.display()))
}

/// The loop device of a file: the one that has it already, or a new one.
pub(super) fn loop_of(path: &Path) -> Result<LoopDevice> {
    let file = open(path, OFlags::RDWR | OFlags::NOFOLLOW)?;
    // A second device over a file that is mounted would be a second disk with the same identity.
    match loopdev::find(file.as_fd())? {
        Some(device) => Ok(device),
        None => loopdev::attach_disk(file.as_fd()),
    }
}

/// Mounts the disk at the folder `at`. `options` as of mount(8), separated by commas.
///
/// # Errors
/// NotFound: the file or device is not there. It holds another file system than `id`; the kernel refuses.
pub fn mount(disk: &Disk, id: &str, at: &Path, options: &str) -> Result<()> {
    let path = disk.path();
    if !path.exists() {
        let what = if matches!(disk, Disk::Image(_)) { "Loop file" } else { "Block device" };
        return Err(Error::not_found(format!("{what} \"{}\" doesn't exist", path.display())));
    }
    if identity(path)?.as_deref() != Some(id) {
        return Err(Error::failed(format!("\"{}\" does not hold the storage pool's filesystem", path.display())));
    }
    let device = match disk {
        Disk::Image(path) => Some(loop_of(path)?),
        Disk::Device(_) => None,
    };
    fault::point("pool.attached")?;
    let source = device.as_ref().map_or_else(|| path.to_path_buf(), |d| PathBuf::from(d.path()));
    mount_source(c"btrfs", &source, options, at).with_context(|| format!("Failed mounting \"{}\"", path.display()))?;
    fault::point("pool.mounted")
}

/// Mounts the file system of `kind` on the block device `source` at the folder `at`.
///
/// # Errors
/// An option cannot be; the kernel refuses.
pub(super) fn mount_source(kind: &CStr, source: &Path, options: &str, at: &Path) -> Result<()> {
    let source = text(source.to_str().ok_or_else(|| Error::invalid("Invalid path of a device"))?)?;
    let (attributes, words) = parse_options(options)?;
    let mut params = vec![Param::Text(c"source", &source)];
    params.extend(as_params(&words));
    let made = mount::new_fs(kind, &params, attributes)?;
    Ok(mount::attach(made.as_fd(), at)?)
}

/// Has the file system that is mounted at the folder `at` take these options over, beside those it has.
///
/// # Errors
/// An option cannot be, or not while it is mounted.
pub fn remount(at: &Path, options: &str) -> Result<()> {
    let (attributes, words) = parse_options(options)?;
    let params: Vec<Param<'_>> = as_params(&words).collect();
    mount::reconfigure(at, &params, attributes).context("Bad mount options")
}

/// The name of an option and its value.
type Words = Vec<(CString, Option<CString>)>;

fn as_params(words: &Words) -> impl Iterator<Item = Param<'_>> {
    words.iter().map(|(key, value)| match value {
        Some(value) => Param::Text(key, value),
        None => Param::Flag(key),
    })
}

fn text(word: &str) -> Result<CString> {
    CString::new(word).map_err(|_| Error::invalid("Invalid mount option"))
}

/// What of the options is of the mount, and what is the file system's.
fn parse_options(options: &str) -> Result<(Attr, Words)> {
    let mut attributes = mount::no_attr();
    let mut words = Vec::new();
    for option in options.split(',').map(str::trim).filter(|o| !o.is_empty()) {
        attributes |= match option {
            "ro" => Attr::MOUNT_ATTR_RDONLY,
            "nosuid" => Attr::MOUNT_ATTR_NOSUID,
            "nodev" => Attr::MOUNT_ATTR_NODEV,
            "noexec" => Attr::MOUNT_ATTR_NOEXEC,
            "noatime" => Attr::MOUNT_ATTR_NOATIME,
            "nodiratime" => Attr::MOUNT_ATTR_NODIRATIME,
            "strictatime" => Attr::MOUNT_ATTR_STRICTATIME,
            "rw" | "suid" | "dev" | "exec" | "relatime" | "defaults" => mount::no_attr(),
            other => {
                words.push(match other.split_once('=') {
                    Some((key, value)) => (text(key)?, Some(text(value)?)),
                    None => (text(other)?, None),
                });
                mount::no_attr()
            }
        };
    }
    Ok((attributes, words))
}

/// Takes the mount at `at` away; nothing mounted there is fine.
///
/// # Errors
/// Busy: somebody uses it.
pub fn unmount(at: &Path) -> Result<()> {
    use nix::errno::Errno;
    use nix::mount::{MntFlags, umount2};
    match umount2(at, MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(Errno::EBUSY) => Err(Error::busy(format!("\"{}\" is in use by a process", at.display()))),
        Err(e) => Err(Error::from(e)).with_context(|| format!("Failed unmounting \"{}\"", at.display())),
    }
}

/// Makes the file of a pool at least `size` bytes long, and has the file system mounted at `mounted` take it all. Repeated:
/// nothing happens.
///
/// # Errors
/// The file is not there; the kernel refuses.
pub fn grow(image: &Path, size: u64, mounted: Option<&Path>) -> Result<()> {
    let fail = || format!("Failed growing \"{}\"", image.display());
    let file = std::fs::File::from(open(image, OFlags::RDWR | OFlags::NOFOLLOW)?);
    if file.metadata()?.len() < size {
        file.set_len(size).and_then(|()| file.sync_all()).with_context(fail)?;
    }
    fault::point("pool.image.grown")?;
    if let Some(device) = loopdev::find(file.as_fd()).with_context(fail)? {
        device.follow_size().with_context(fail)?;
    }
    fault::point("pool.device.grown")?;
    match mounted {
        Some(at) => {
            btrfs::grow(open(at, OFlags::RDONLY | OFlags::DIRECTORY)?.as_fd()).map_err(Error::from).with_context(fail)
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_mount_and_of_the_file_system() {
        let (attributes, words) = parse_options("user_subvol_rm_allowed, noatime,compress=zstd:3,rw").expect("options");
        assert_eq!(attributes, Attr::MOUNT_ATTR_NOATIME);
        let word = |word| text(word).expect("word");
        assert_eq!(words, [(word("user_subvol_rm_allowed"), None), (word("compress"), Some(word("zstd:3")))]);
        assert!(parse_options("").expect("none").1.is_empty());
    }

    #[test]
    fn a_file_without_a_file_system_has_no_identity_and_is_not_mounted() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("disks/p.img");
        create_image(&path, 1 << 20).expect("create");
        assert!(create_image(&path, 1 << 20).is_err(), "it is there");
        assert_eq!(identity(&path).expect("read"), None);
        std::fs::write(&path, "short").expect("write");
        assert_eq!(identity(&path).expect("read"), None);
        wipe(&path, "x").expect("nothing of ours");
        let disk = Disk::Image(path.clone());
        assert!(mount(&disk, "x", dir.path(), "").expect_err("no").to_string().contains("does not hold"));
        let gone = Disk::Image(dir.path().join("gone.img"));
        assert!(mount(&gone, "x", dir.path(), "").expect_err("no").to_string().contains("doesn't exist"));
        unmount(dir.path()).expect("nothing mounted");
        grow(&path, 4096, None).expect("grow");
        assert_eq!(std::fs::metadata(&path).expect("stat").len(), 4096);
    }
}
