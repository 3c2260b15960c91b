//! Packs the tree of an instance as an image: one archive, or metadata and root file system apart.
//!
//! Called by `ops` (publish, backups). Streams in constant memory; what comes out is synced. It is read back by `import` afterwards, as any
//! image: what counts is what was written.

use super::compress::{Algorithm, Compression};
use super::export::{self, Unified};
use super::hash::create_blob;
use super::import::{Dest, extension};
use super::pipe;
use super::tarread::{Entry, EntryKind};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::command::{Cmd, Host, Limits, Output, Program, Runner, Stdin};
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::fchown;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

const MKSQUASHFS: Program = Program { name: "mksquashfs", package: "squashfs-tools" };
/// The longest `mksquashfs` may run.
const DEADLINE: Duration = Duration::from_secs(6 * 3600);

/// What it may use: it reads what a guest has written.
const LIMITS: Limits =
    Limits { address_space: Some(16 << 30), cpu_seconds: None, file_size: None, open_files: Some(64) };
/// Who it runs as.
const NOBODY: u32 = 65_534;

/// How the root file system is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As an archive.
    Archive(Compression),
    /// As a squashfs, in a split image only.
    Squashfs,
}

impl FromStr for Packing {
    type Err = Error;

    /// `squashfs`, or as [`Compression`].
    fn from_str(s: &str) -> Result<Self> {
        match s {
            "squashfs" => Ok(Self::Squashfs),
            _ => s.parse().map(Self::Archive),
        }
    }
}

impl Packing {
    /// The ending of the name of what is packed so.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Archive(how) => extension(how.algorithm),
            Self::Squashfs => ".squashfs",
        }
    }
}

/// Writes a unified image to `dest.blob`.
///
/// # Errors
/// The tree cannot be read; no room.
pub fn unified(dest: Dest<'_>, how: Compression, parts: &Unified<'_>) -> Result<()> {
    to_file(create_blob(dest.blob)?, |sink| export::unified(sink, how, parts).map(drop))
}

/// Writes a split image to `dest.blob` and `dest.blob_rootfs`; the metadata of one with a squashfs is compressed with `gzip`.
///
/// # Errors
/// As [`unified`]; Unsupported: there is no `mksquashfs`.
pub fn split(dest: Dest<'_>, packing: Packing, parts: &Unified<'_>, runner: &dyn Runner) -> Result<()> {
    let of_metadata = match packing {
        Packing::Archive(how) => how,
        Packing::Squashfs => Algorithm::Gzip.into(),
    };
    to_file(create_blob(dest.blob)?, |sink| export::metadata(sink, of_metadata, parts).map(drop))?;
    fault::point("image.pack.metadata")?;
    match packing {
        Packing::Archive(how) => {
            to_file(create_blob(dest.blob_rootfs)?, |sink| export::rootfs(sink, how, parts).map(drop))
        }
        Packing::Squashfs => squashfs(dest, parts, runner),
    }
}

fn to_file(file: File, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut sink = BufWriter::with_capacity(1 << 20, file);
    write(&mut sink)?;
    sink.flush().context("Failed writing the image")?;
    sink.get_ref().sync_all().context("Failed writing the image")
}

/// The tree goes to `mksquashfs` as an archive.
fn squashfs(dest: Dest<'_>, parts: &Unified<'_>, runner: &dyn Runner) -> Result<()> {
    runner.find(MKSQUASHFS)?;
    // It wants names, and those of links, without "./" in front.
    let plain = |entry: &mut Entry| {
        parts.change.iter().for_each(|change| change(entry));
        let of_link = (entry.kind == EntryKind::HardLink).then_some(&mut entry.link);
        for name in of_link.into_iter().chain([&mut entry.path]).filter(|name| name.len() > 2) {
            name.drain(..2);
        }
    };
    let parts = &Unified { change: Some(&plain), ..*parts };
    // It does not take these from the archive; 4.5.1 heeds only the mode.
    let root = parts.root()?;
    let own = [
        "-root-mode".to_string(),
        format!("{:o}", root.mode),
        "-root-uid".to_string(),
        root.uid.to_string(),
        "-root-gid".to_string(),
        root.gid.to_string(),
        "-root-time".to_string(),
        root.mtime.0.max(0).to_string(),
    ];
    let file = create_blob(dest.blob_rootfs)?;
    squash(&file, own, |command, input| {
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || {
                let sink = BufWriter::with_capacity(1 << 20, input);
                export::rootfs(sink, Algorithm::None, parts).and_then(|mut sink| Ok(sink.flush()?))
            });
            let made = runner.run(command);
            (writer.join().unwrap_or_else(|_| Err(Error::internal("The writing thread ended early"))), made)
        })
    })?;
    file.sync_all().context("Failed writing the image")
}

/// Packs the archive that `produce` writes as a squashfs, in a file without a name in `folder`, and copies that to `sink`:
/// `mksquashfs` writes to no pipe.
///
/// # Errors
/// Unsupported: there is no `mksquashfs`; what that says; those of `produce`; no room.
pub fn stream<W: Write, T>(
    mut sink: W,
    folder: &Path,
    produce: impl FnOnce(&mut pipe::Sink) -> Result<T>,
) -> Result<(W, T)> {
    Host::default().find(MKSQUASHFS)?;
    let mut file =
        tempfile::tempfile_in(folder).with_context(|| format!("Failed writing in \"{}\"", folder.display()))?;
    let own = ["-comp", "xz", "-root-mode", "755", "-root-uid", "0", "-root-gid", "0"].map(String::from);
    let made = squash(&file, own, |command, input| {
        std::thread::scope(|scope| {
            let maker = scope.spawn(move || Host::default().run(command));
            let written = pipe::encode(input, Algorithm::None.into(), produce).map(|(_, made)| made);
            (written, maker.join().unwrap_or_else(|_| Err(Error::internal("The packing thread ended early"))))
        })
    })?;
    file.rewind().and_then(|()| std::io::copy(&mut file, &mut sink)).context("Failed writing the backup")?;
    Ok((sink, made))
}

/// Has `mksquashfs` write into `file` what is in an archive: it gets that through a pipe and sees no folder of the guest's. What it
/// reads is the guest's all the same, so it has no rights: it is nobody, to whom the file belongs meanwhile. `both` runs it and
/// writes the archive.
fn squash<T>(
    file: &File,
    own: impl IntoIterator<Item = String>,
    both: impl FnOnce(Cmd, File) -> (Result<T>, Result<Output>),
) -> Result<T> {
    let (output, input) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(std::io::Error::from)?;
    // Its file keeps the mode we give it.
    let kept = file.try_clone()?;
    let mut command = Cmd::new(MKSQUASHFS)
        .arg("-")
        .arg(format!("/proc/self/fd/{}", kept.as_raw_fd()))
        .args(["-tar", "-noappend", "-quiet", "-no-progress", "-mem", "512M"])
        .args(own)
        .stdin(Stdin::File(output))
        .limits(LIMITS)
        .timeout(DEADLINE);
    command.kept = Some(kept.into());
    let us = rustix::process::geteuid().as_raw();
    if us == 0 {
        fchown(file, Some(NOBODY), Some(NOBODY)).context("Failed writing the image")?;
        command.user = Some(NOBODY);
    }
    let (written, made) = both(command, File::from(input));
    let written = match (written, made) {
        (Err(e), _) if e.errno() != Some(libc::EPIPE) => return Err(e),
        // What it says of its end explains why it took no more.
        (_, Err(e)) => return Err(e),
        (written, Ok(_)) => written?,
    };
    fchown(file, Some(us), Some(rustix::process::getegid().as_raw())).context("Failed writing the image")?;
    Ok(written)
}
