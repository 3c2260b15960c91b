//! Unpacks a squashfs rootfs: [`reader`] reads it, on all processors and in memory-safe code. What is packed in a way that it does not
//! know (LZO, LZMA) the kernel mounts read-only where we may, else `unsquashfs` unpacks it in a limited child.
//!
//! Used by `import`. What is read, or walked in the mounted tree, is streamed through the same unpacker as an archive, so every rule and
//! bound of `unpack` holds for it. The third way checks the listing against the bounds first, and the result afterwards (CVE-2021-40153, CVE-2021-41072:
//! fixed in squashfs-tools 4.5.1; what it makes lies in our staging directory, and no descriptor outside is open to it).

mod blocks;
mod reader;
mod tables;

use super::export::Exporter;
use super::unpack::{self, Options, Owners, Stats, may_unpack};
use super::{Limits, OnProgress, human, pipe};
use crate::error::{Context, Error, Kind, Result};
use crate::host::command::{Cmd, Limits as ProcessLimits, Program, Runner, Stream};
use crate::sys::path::{self, Links};
use crate::sys::{loopdev, xattr};
use rustix::fs::OFlags;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

const UNSQUASHFS: Program = Program { name: "unsquashfs", package: "squashfs-tools" };
/// The longest an unpacking child may run.
const DEADLINE: Duration = Duration::from_secs(3600);

/// Where to unpack to.
#[derive(Debug)]
pub struct Target<'a> {
    /// The directory, for us.
    pub dir: OwnedFd,
    /// Its path, for the child.
    pub path: &'a Path,
}

/// Unpacks `file` (our own copy at `file_path`, nobody else writes it) into the target directory.
pub fn unpack(
    file: &File,
    file_path: &Path,
    target: Target<'_>,
    options: &Options,
    runner: &dyn Runner,
    on_progress: OnProgress<'_>,
) -> Result<Stats> {
    if reader::knows(file)? {
        return read(file, &options.limits, on_progress, |source| unpack::archive(source, target.dir, options));
    }
    match loopdev::mount_squashfs(file.as_fd()) {
        Ok(mount) => from_mount(mount, file, target.dir, options, on_progress),
        Err(no_mount) => match from_child(file, file_path, &target, options, runner) {
            Err(e) if e.kind() == Kind::Unsupported => Err(e.and(no_mount.context("Failed mounting the squashfs"))),
            other => other,
        },
    }
}

/// Reads `file` as `consume` wants to read an archive.
///
/// # Errors
/// It is damaged, over a limit, or packed in a way not known here; those of `consume`.
pub fn read<T>(
    file: &File,
    limits: &Limits,
    on_progress: OnProgress<'_>,
    consume: impl FnOnce(&mut dyn BufRead) -> Result<T>,
) -> Result<T> {
    joined(|sink| reader::write(file, limits, sink), (file, limits), on_progress, consume)
}

fn from_mount(
    mount: OwnedFd,
    file: &File,
    target: OwnedFd,
    options: &Options,
    on_progress: OnProgress<'_>,
) -> Result<Stats> {
    let produce = |sink: &mut pipe::Sink| {
        let mut tree = Exporter::new(sink);
        tree.tree(mount.as_fd(), ".")?;
        tree.finish().map(drop)
    };
    joined(produce, (file, &options.limits), on_progress, |source| unpack::archive(source, target, options))
}

/// Has the archive that `produce` makes of the file consumed.
fn joined<T>(
    produce: impl FnOnce(&mut pipe::Sink) -> Result<()> + Send,
    (file, limits): (&File, &Limits),
    on_progress: OnProgress<'_>,
    consume: impl FnOnce(&mut dyn BufRead) -> Result<T>,
) -> Result<T> {
    let size = path::fstat(file.as_fd())?.size;
    let bounds = pipe::Bounds::new(limits, Arc::new(AtomicU64::new(size)));
    pipe::join(bounds, None, on_progress, produce, |source| consume(source)).map(|((), out)| out)
}

/// The way without a mount: `unsquashfs` in a child with limits.
///
/// # Errors
/// As [`unpack`].
pub fn from_child(
    file: &File,
    file_path: &Path,
    target: &Target<'_>,
    options: &Options,
    runner: &dyn Runner,
) -> Result<Stats> {
    let size = path::fstat(file.as_fd())?.size;
    let allowed = options.limits.free_bytes.saturating_add(options.limits.ratio.saturating_mul(size));
    let allowed = allowed.min(options.limits.bytes);
    let limits = ProcessLimits {
        address_space: Some(4 << 30),
        cpu_seconds: Some(DEADLINE.as_secs()),
        file_size: Some(allowed),
        open_files: Some(1024),
    };
    let command = || Cmd::new(UNSQUASHFS).limits(limits).timeout(DEADLINE);
    let mut listed = Stats::default();
    let mut count = |stream: Stream, line: &str| {
        if stream == Stream::Out {
            listed.entries += 1;
            listed.bytes = listed.bytes.saturating_add(listed_size(line));
        }
        match listed.entries > options.limits.entries || listed.bytes > allowed {
            true => Err(Error::invalid(format!("The image grows from {} to over {}", human(size), human(allowed)))),
            false => Ok(()),
        }
    };
    runner.run_with(command().arg("-lln").arg(file_path), Some(&mut count))?.success(UNSQUASHFS)?;
    runner.run(command().args(["-no-progress", "-quiet", "-force", "-dest"]).arg(target.path).arg(file_path))?;
    check_tree(target.dir.as_fd(), options, &mut listed, 0)?;
    Ok(listed)
}

/// The size in a line like `-rw-r--r-- 0/0 1234 2024-01-01 10:00 squashfs-root/a`. A name with a line break can only add lines, and so
/// bytes, never hide any.
fn listed_size(line: &str) -> u64 {
    if !line.starts_with('-') {
        return 0;
    }
    line.split_whitespace().nth(2).and_then(|size| size.parse().ok()).unwrap_or(0)
}

/// Takes off the attributes that `unpack` would not have set, and counts nodes.
fn check_tree(dir: BorrowedFd<'_>, options: &Options, stats: &mut Stats, depth: usize) -> Result<()> {
    if depth > options.limits.depth {
        return Err(Error::invalid("The image's tree is too deep"));
    }
    // Ours may be an O_PATH handle.
    strip(path::open_dir(dir, Path::new("."), Links::Refuse)?.as_fd(), stats)?;
    for entry in path::read_dir(dir)? {
        match entry.kind {
            path::Kind::Dir => {
                let child = path::open_dir(dir, Path::new(&entry.name), Links::Refuse)?;
                check_tree(child.as_fd(), options, stats, depth + 1)?;
            }
            path::Kind::File => {
                let file = path::open_regular(dir, Path::new(&entry.name), OFlags::RDONLY, Links::Refuse)?;
                strip(file.as_fd(), stats)?;
            }
            path::Kind::Char | path::Kind::Block => stats.nodes += 1,
            path::Kind::Symlink | path::Kind::Fifo | path::Kind::Socket => {}
        }
    }
    if options.owners == Owners::Caller && depth == 0 {
        // Its own root may be closed to us otherwise; the import has to look inside.
        path::chmod(dir, 0o755).context("Failed opening the rootfs")?;
    }
    Ok(())
}

fn strip(fd: BorrowedFd<'_>, stats: &mut Stats) -> Result<()> {
    for (name, _) in xattr::list(fd)? {
        let removable = name.starts_with(b"trusted.") || name.starts_with(b"user.");
        if !may_unpack(&name) && removable {
            xattr::remove(fd, &name)?;
            stats.skipped_xattrs += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_a_listing() {
        assert_eq!(listed_size("-rw-r--r-- 0/0               1234 2024-01-01 10:00 squashfs-root/a"), 1234);
        assert_eq!(listed_size("drwxr-xr-x 0/0               1234 2024-01-01 10:00 squashfs-root"), 0);
        assert_eq!(listed_size("crw------- 0/0             5,  1 2024-01-01 10:00 squashfs-root/c"), 0);
        assert_eq!(listed_size(""), 0);
    }
}
