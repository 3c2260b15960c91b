//! The root file system of an image, made of an older image's and the difference (VCDIFF, RFC 3284) that a server has: fewer bytes
//! to fetch.
//!
//! Called by `image_remote` before it fetches the whole, which it does if anything fails here: the server lies, the difference is
//! written in a way that is not known here, the result is not what it should be. Difference and result lie where the image's files
//! arrive, under no other name.

use super::image_import::Arrival;
use super::image_remote::Server;
use crate::base::names::Fingerprint;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::image::import::{self, Imported, Source};
use crate::image::simplestreams::{Delta, Files, Offer};
use crate::image::{OnProgress, Progress, create_blob, vcdiff};
use crate::store::Store;
use crate::store::lock::{Held, ImageKey, Shared};
use std::fs::File;
use std::io::{BufReader, Seek};
use std::time::{Duration, Instant};

/// The longest that making the file may take.
const DEADLINE: Duration = Duration::from_secs(1800);

/// The smallest difference to an image that is here, if it can be used.
pub(super) fn usable<'a>(store: &Store, offer: &'a Offer) -> Option<&'a Delta> {
    let Files::Split(_, root) = &offer.files else { return None };
    let is_here = |delta: &&Delta| {
        let base = Fingerprint::parse(delta.base.as_str()).and_then(|base| store.image(&base));
        base.is_ok_and(|base| base.is_some_and(|image| image.split))
    };
    let smaller = offer.deltas.iter().filter(|delta| delta.file.size < root.size);
    smaller.filter(is_here).min_by_key(|delta| delta.file.size)
}

/// Fetches difference and metadata, makes the root file system and takes the image in.
///
/// # Errors
/// Any of it went wrong; what is left lies in the arrival.
pub(super) fn rebuild(
    store: &Store,
    server: &Server,
    (offer, delta): (&Offer, &Delta),
    arrival: &Arrival<'_>,
    on_progress: OnProgress<'_>,
) -> Result<Imported> {
    let Files::Split(metadata, root) = &offer.files else {
        return Err(Error::internal("An image in one file has no root file system"));
    };
    on_progress(Progress::Step("Fetching the difference to an older image"))?;
    // The metadata comes afterwards, and takes its place.
    let mut file = create_blob(&arrival.blob)?;
    let mut download = server.download(&delta.file, None)?;
    std::io::copy(&mut download.reader, &mut file).context("Failed fetching the difference")?;
    fault::point("image.delta.fetched")?;
    let base = Fingerprint::parse(delta.base.as_str())?;
    on_progress(Progress::Step("Unpacking the difference"))?;
    apply(store, &base, arrival, (file, root.size), on_progress)?;
    fault::point("image.delta.applied")?;
    let source = Source::Rebuilt { metadata: server.download(metadata, None)?, name: root.name().to_string() };
    import::import(source, arrival.dest(), arrival.options(Some(&offer.fingerprint)), on_progress)
}

/// Makes the root file system, `size` bytes, of that of `base`.
fn apply(
    store: &Store,
    base: &Fingerprint,
    arrival: &Arrival<'_>,
    (mut delta, size): (File, u64),
    on_progress: OnProgress<'_>,
) -> Result<()> {
    let _held: Held<ImageKey, Shared> = store.lock_image_shared(base)?;
    let old = File::open(store.layout().image_rootfs_file(base)).context("Failed opening the older image")?;
    let made = create_blob(&arrival.blob_rootfs)?;
    delta.rewind().context("Failed reading the difference")?;
    let begun = Instant::now();
    vcdiff::apply(&old, &mut BufReader::new(delta), &made, size, &mut |done| match begun.elapsed() > DEADLINE {
        true => Err(Error::invalid("The difference takes too long")),
        false => on_progress(Progress::Bytes(done, Some(size))),
    })?;
    made.sync_all().context("Failed writing the image")
}
