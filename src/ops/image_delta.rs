//! The root file system of an image, made of an older image's and the difference (VCDIFF, RFC 3284) that a server has: fewer bytes
//! to fetch.
//!
//! Called by `image_remote` before it fetches the whole, which it does if anything fails here: the program is missing, the server
//! lies, the result is not what it should be. Difference and result lie where the image's files arrive, under no other name.

use super::image_import::Arrival;
use super::image_remote::Server;
use crate::base::names::Fingerprint;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::command::{Cmd, Host, Limits, Program, Runner};

use crate::image::import::{self, Imported, Source};
use crate::image::simplestreams::{Delta, Files, Offer};
use crate::image::{OnProgress, Progress, create_blob};
use crate::store::Store;
use crate::store::lock::{Held, ImageKey, Shared};
use std::time::Duration;

const XDELTA: Program = Program { name: "xdelta3", package: "xdelta3" };
/// The longest it may run.
const DEADLINE: Duration = Duration::from_secs(1800);

/// The smallest difference to an image that is here, if it can be used.
pub(super) fn usable<'a>(store: &Store, offer: &'a Offer) -> Option<&'a Delta> {
    let Files::Split(_, root) = &offer.files else { return None };
    let is_here = |delta: &&Delta| {
        let base = Fingerprint::parse(delta.base.as_str()).and_then(|base| store.image(&base));
        base.is_ok_and(|base| base.is_some_and(|image| image.split))
    };
    let smaller = offer.deltas.iter().filter(|delta| delta.file.size < root.size);
    let best = smaller.filter(is_here).min_by_key(|delta| delta.file.size)?;
    Host::default().find(XDELTA).ok().map(|_| best)
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
    apply(store, &base, arrival, root.size)?;
    fault::point("image.delta.applied")?;
    let source = Source::Rebuilt { metadata: server.download(metadata, None)?, name: root.name().to_string() };
    import::import(source, arrival.dest(), arrival.options(Some(&offer.fingerprint)), on_progress)
}

/// Runs the program; the result has `size` bytes.
fn apply(store: &Store, base: &Fingerprint, arrival: &Arrival<'_>, size: u64) -> Result<()> {
    let _held: Held<ImageKey, Shared> = store.lock_image_shared(base)?;
    let made = create_blob(&arrival.blob_rootfs)?;
    let limits = Limits {
        address_space: Some(1 << 30),
        cpu_seconds: Some(DEADLINE.as_secs()),
        file_size: Some(size),
        open_files: Some(32),
    };
    // The difference may name programs to decompress and compress with: -D and -R keep it from running them.
    let cmd = Cmd::new(XDELTA).args(["-d", "-q", "-f", "-D", "-R", "-s"]).limits(limits).timeout(DEADLINE);
    let cmd = cmd.arg(store.layout().image_rootfs_file(base)).arg(&arrival.blob).arg(&arrival.blob_rootfs);
    arrival.runner().run(cmd)?;
    made.sync_all().context("Failed writing the image")?;
    match made.metadata().context("Failed reading the image")?.len() == size {
        true => Ok(()),
        false => Err(Error::invalid("The difference makes another file than was announced")),
    }
}
