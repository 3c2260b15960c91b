//! Brings the layers of an image here, several at once, into the folder for blobs by digest.
//!
//! A layer that is there is not fetched again, whichever image it came with; what was broken off is gone on with. One command
//! fetches a layer, others that want it wait (flock(2) on the unfinished file). What lies there is a cache: it is hashed before it is
//! used, so nothing of it is synced, and it may be removed at any time.

use super::document::Descriptor;
use super::reference::Digest;
use super::registry::Registry;
use super::tree::Layers;
use crate::error::{Context, Error, Kind, Result};
use crate::fault;
use crate::host::http::io_error;
use crate::image::{OnProgress, Progress};
use crate::store::lock;
use sha2::digest::Update;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, SystemTime};

/// Layers on their way at once.
const THREADS: usize = 3;
/// How often progress is shown while nothing else happens.
const TICK: Duration = Duration::from_millis(200);
/// How long a layer that another command fetches is waited for.
const WAIT: Duration = Duration::from_secs(3600);
const BLOCK: usize = 128 << 10;

struct Pull<'a> {
    registry: &'a Registry<'a>,
    folder: &'a Path,
    /// Bytes that are here.
    done: AtomicU64,
    /// Nobody waits any more.
    stop: AtomicBool,
}

/// Fetches `layers` into `folder`, those `there` left out, while `body` uses them one by one.
///
/// # Errors
/// Those of `body`, among them what became of the layer it waited for.
pub fn layers<T>(
    registry: &Registry<'_>,
    (layers, there): (&[Descriptor], &[bool]),
    folder: &Path,
    body: impl FnOnce(Layers<'_>) -> Result<T>,
) -> Result<T> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("Failed creating folder \"{}\"", folder.display()))?;
    let pull = Pull { registry, folder, done: AtomicU64::new(0), stop: AtomicBool::new(false) };
    let is_there = |at: usize| there.get(at) == Some(&true);
    let total = layers.iter().enumerate().filter(|(at, _)| !is_there(*at)).map(|(_, layer)| layer.size).sum();
    let (next, (sender, arrived)) = (AtomicUsize::new(0), mpsc::channel());
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(layers.len()) {
            let (sender, pull, next, is_there) = (sender.clone(), &pull, &next, &is_there);
            std::thread::Builder::new().name("layer".into()).spawn_scoped(scope, move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(layer) = layers.get(at) else { return };
                    if is_there(at) {
                        continue;
                    }
                    let got = pull.layer(layer);
                    if pull.stop.load(Ordering::Relaxed) || sender.send((at, got)).is_err() {
                        return;
                    }
                }
            })?;
        }
        drop(sender);
        let mut here: Vec<Option<File>> = layers.iter().map(|_| None).collect();
        let mut wait = |at: usize, on_progress: OnProgress<'_>| {
            on_progress(Progress::Step("Retrieving layers"))?;
            loop {
                if let Some(file) = here[at].take() {
                    return Ok(Box::new(file) as Box<dyn Read + Send>);
                }
                match arrived.recv_timeout(TICK) {
                    Ok((which, got)) => here[which] = Some(got?),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return Err(Error::internal("A layer got lost")),
                }
                on_progress(Progress::Bytes(pull.done.load(Ordering::Relaxed), Some(total)))?;
            }
        };
        let out = body(&mut wait);
        pull.stop.store(true, Ordering::Relaxed);
        out
    })
}

impl Pull<'_> {
    /// The layer's file, fetched if it is not there.
    fn layer(&self, what: &Descriptor) -> Result<File> {
        let path = self.folder.join(what.digest.hex());
        let part = path.with_extension("part");
        let there = || File::open(&path).ok().filter(|file| is(file, what));
        loop {
            if let Some(file) = there() {
                // It is kept from now on.
                let _ = file.set_modified(SystemTime::now());
                self.done.fetch_add(what.size, Ordering::Relaxed);
                return Ok(file);
            }
            let fail = || format!("Failed creating \"{}\"", part.display());
            let mut options = std::fs::OpenOptions::new();
            let options = options.read(true).write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let file = options.open(&part).with_context(fail)?;
            let locked = lock::acquire(file, true, WAIT).with_context(fail)?;
            let file = locked.ok_or_else(|| Error::failed(format!("Layer {} is being fetched", what.digest)))?;
            let own = file.metadata().with_context(fail)?.ino();
            // Who had it may have finished meanwhile, or given up.
            if there().is_some() || !std::fs::metadata(&part).is_ok_and(|named| named.ino() == own) {
                continue;
            }
            self.fetch(what, &file, &part)?;
            fault::point("oci.fetched")?;
            std::fs::rename(&part, &path).with_context(|| format!("Failed renaming \"{}\"", part.display()))?;
            return File::open(&path).with_context(|| format!("Failed opening \"{}\"", path.display()));
        }
    }

    fn fetch(&self, what: &Descriptor, file: &File, part: &Path) -> Result<()> {
        let begun = file.metadata().is_ok_and(|m| m.len() > 0);
        let mut got = self.write(what, file, part);
        if got.as_ref().is_err_and(|e| e.kind() == Kind::Denied) {
            self.registry.renew(what)?;
            got = self.write(what, file, part);
        }
        // A part may have been damaged: then once more from nothing.
        if begun && got.as_ref().is_err_and(|e| e.kind() == Kind::Invalid) {
            file.set_len(0).context("ftruncate")?;
            got = self.write(what, file, part);
        }
        if let Err(e) = &got {
            let full = matches!(e.errno(), Some(libc::ENOSPC | libc::EDQUOT));
            let empty = file.metadata().is_ok_and(|m| m.len() == 0);
            // Nothing to go on with: it is wrong, there is no room for it, or nothing came.
            if e.kind() != Kind::Failed || full || empty {
                let _ = std::fs::remove_file(part);
            }
        }
        got
    }

    /// Appends what is missing.
    fn write(&self, what: &Descriptor, file: &File, part: &Path) -> Result<()> {
        let have = file.metadata().context("fstat")?.len();
        let begun = if have > 0 { Some(File::open(part)?) } else { None };
        let mut source = self.registry.layer(what, begun)?;
        let (mut at, mut block) = (0u64, vec![0; BLOCK]);
        let mut copy = || loop {
            let n = source.read(&mut block).map_err(io_error)?;
            if n == 0 {
                return Ok(());
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::failed("Nobody waits for the layer"));
            }
            let known = usize::try_from(have.saturating_sub(at)).unwrap_or(usize::MAX).min(n);
            file.write_all_at(&block[known..n], at + known as u64).context("Failed writing a layer")?;
            at += n as u64;
            self.done.fetch_add(n as u64, Ordering::Relaxed);
        };
        let copied = copy();
        if copied.is_err() {
            self.done.fetch_sub(at, Ordering::Relaxed);
        }
        copied
    }
}

/// The file is what was announced; it may have been damaged since it came.
fn is(file: &File, what: &Descriptor) -> bool {
    if !file.metadata().is_ok_and(|m| m.len() == what.size) {
        return false;
    }
    let (mut hash, mut block, mut at) = (what.digest.hasher(), vec![0; BLOCK], 0);
    while let Ok(n @ 1..) = file.read_at(&mut block, at) {
        hash.update(&block[..n]);
        at += n as u64;
    }
    Digest::end(hash) == what.digest
}

/// Removes blobs that were not used for `days`, and the beginnings of some that nobody went on with for a day. Best effort.
pub fn forget_old(folder: &Path, days: u64) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let most = if entry.path().extension().is_some() {
            DAY
        } else {
            DAY.saturating_mul(u32::try_from(days).unwrap_or(u32::MAX))
        };
        let used = entry.metadata().and_then(|m| m.modified()).ok();
        if used.and_then(|at| SystemTime::now().duration_since(at).ok()).is_some_and(|age| age > most) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
