//! Reads a squashfs rootfs, on all processors and in memory-safe code: neither the kernel nor a program gets to see it.
//!
//! Used by `import` and `stream`. What is read is streamed through the same unpacker as an archive, so every rule and bound of `unpack` holds for it
//! (CVE-2021-40153, CVE-2021-41072, CVE-2023-30549).

mod blocks;
mod lzo;
mod reader;
mod tables;

use super::{Limits, OnProgress, pipe};
use crate::error::Result;
use crate::sys::path;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Reads `file` as `consume` wants to read an archive.
///
/// # Errors
/// It is damaged, or over a limit; those of `consume`.
pub fn read<T>(
    file: &File,
    limits: &Limits,
    on_progress: OnProgress<'_>,
    consume: impl FnOnce(&mut dyn BufRead) -> Result<T>,
) -> Result<T> {
    read_from((file, None), limits, on_progress, consume)
}

/// The same, with the file that has the path `first`, if there is one, before all else, and then again in its place.
///
/// # Errors
/// As [`read`].
pub(super) fn read_from<T>(
    (file, first): (&File, Option<&str>),
    limits: &Limits,
    on_progress: OnProgress<'_>,
    consume: impl FnOnce(&mut dyn BufRead) -> Result<T>,
) -> Result<T> {
    let size = path::fstat(file.as_fd())?.size;
    let bounds = pipe::Bounds::new(limits, Arc::new(AtomicU64::new(size)));
    let produce = |sink: &mut pipe::Sink| reader::write((file, first), limits, sink);
    pipe::join(bounds, None, on_progress, produce, |source| consume(source)).map(|((), out)| out)
}
