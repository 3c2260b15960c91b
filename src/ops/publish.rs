//! `publish`: an image is made of an instance that is at rest.
//!
//! It is packed under the instance's lock into a place of its own (see `image_import`), read back from there as any image, and only
//! then gets its names. One that runs is killed first if that is wanted, as Incus does it, and started again as soon as it is
//! packed. After a crash in between it is stopped; nothing else of it has changed.

use super::image::{check_property, superseded};
use super::image_import::{self, Arrival, Wanted, arrive, delete_others, home};
use super::{halted, instance_metadata, lifecycle, load, pool, restrict, snapshot};
use crate::base::idmap::IdMap;
use crate::base::names::{AliasName, Fingerprint, InstanceName, ProjectName, SnapshotName};
use crate::base::time;
use crate::container::rootfs;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::image::compress::Algorithm;
use crate::image::export::Unified;
use crate::image::import::{self, Options, Source};
use crate::image::metadata::{self, Metadata};
use crate::image::pack::{self, Packing};
use crate::image::tarread::Entry;
use crate::image::{Limits, METADATA_MAX, OnProgress, Progress};
use crate::model::instance::InstanceType;
use crate::model::keys::project::IMAGE_COMPRESSION;
use crate::storage::Ids;
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::sys::path::{self, Links};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What is published, and as what.
#[derive(Debug, Clone)]
pub struct Request {
    /// Project of the instance.
    pub project: ProjectName,
    /// The instance.
    pub name: InstanceName,
    /// Of it, this snapshot, whether it runs or not.
    pub snapshot: Option<SnapshotName>,
    /// Stop it if it runs, and start it again.
    pub force: bool,
    /// Metadata and root file system in two files.
    pub split: bool,
    /// How it is packed; none: as the server's configuration says, else gzip.
    pub packing: Option<Packing>,
    /// New aliases.
    pub aliases: Vec<AliasName>,
    /// Take the aliases from the images that have them, and delete those that lose all by it.
    pub reuse: bool,
    /// Readable by everyone on a server.
    pub public: bool,
    /// When it expires.
    pub expires_at: Option<jiff::Timestamp>,
    /// Properties over those of the instance's image.
    pub properties: BTreeMap<String, String>,
}

/// Publishes an instance; the image's fingerprint.
///
/// # Errors
/// Not found; Conflict: it runs; Exists: `Aliases already exists: x`, or the same image is there; no room. Nothing is left then, and
/// what ran runs again.
pub fn publish(store: &Store, request: &Request, on_progress: OnProgress<'_>) -> Result<Fingerprint> {
    let packing = check(store, request)?;
    let project = store.lock_project_shared(&request.project)?;
    let pool = home(store)?;
    let held = store.lock_pool_shared(&pool)?;
    let refuse = "The instance is currently running. Use --force to have it stopped and restarted";
    let who = (&request.project, &request.name);
    let mut halted = match request.snapshot {
        Some(_) => None,
        None => halted::halt(store, who, "publish", (!request.force).then_some(refuse))?,
    };
    let wanted = Wanted { aliases: request.aliases.clone(), public: request.public, ..Wanted::default() };
    let made = arrive(store, &pool, |arrival| {
        on_progress(Progress::Step("Exporting"))?;
        let locked = store.lock_instance(&request.project, &request.name, "publish")?;
        packed(store, &locked, request, (packing, arrival))?;
        halted::resume(store, &locked, &mut halted)?;
        drop(locked);
        fault::point("publish.packed")?;
        let source = Source::Packed { name: format!("{}{}", request.name, packing.extension()), split: request.split };
        // It is ours: how well it compresses says nothing.
        let limits = Limits { ratio: u64::MAX, ..Limits::default() };
        let options = Options { limits: &limits, ..arrival.options(None) };
        let imported = import::import(source, arrival.dest(), options, on_progress)?;
        let replaced = if request.reuse { superseded(store, &wanted.aliases)? } else { Vec::new() };
        image_import::publish(store, arrival, imported, &wanted).map(|fingerprint| (fingerprint, replaced))
    });
    drop((held, project));
    let (fingerprint, replaced) = halted::resumed(store, who, halted, made)?;
    delete_others(store, &replaced, &fingerprint)?;
    Ok(fingerprint)
}

/// What can be said before anything is done; how it is to be packed.
fn check(store: &Store, request: &Request) -> Result<Packing> {
    request.properties.iter().try_for_each(|(key, value)| check_property(key, value))?;
    let loaded = load::load(store, &request.project, &request.name)?;
    if let Some(snapshot) = &request.snapshot {
        store.snapshot(&request.project, &request.name, snapshot)?.ok_or_else(snapshot::not_found)?;
    }
    if loaded.instance.kind != InstanceType::Container {
        return Err(Error::unsupported("Virtual machines are not supported by this version"));
    }
    let all = store.aliases()?;
    let taken = request.aliases.iter().filter(|name| all.aliases.contains_key(name.as_str()));
    let taken: Vec<&str> = taken.map(AliasName::as_str).collect();
    if !request.reuse && !taken.is_empty() {
        return Err(
            Error::exists(format!("Aliases already exists: {}", taken.join(", "))).hint("move them with --reuse")
        );
    }
    let configured = restrict::compression(store, &request.project, &IMAGE_COMPRESSION)?;
    let packing = match (request.packing, configured) {
        (Some(packing), _) => packing,
        (None, Some(configured)) => {
            configured.parse().with_context(|| format!("Bad value of {}", IMAGE_COMPRESSION.name))?
        }
        (None, None) => Packing::Archive(Algorithm::Gzip.into()),
    };
    if packing == Packing::Squashfs && !request.split {
        return Err(Error::invalid("Only split images can have a squashfs").hint("add --format split"));
    }
    Ok(packing)
}

/// Packs a stopped instance under its lock.
fn packed(
    store: &Store,
    locked: &Held<InstanceKey, Exclusive>,
    request: &Request,
    (packing, arrival): (Packing, &Arrival<'_>),
) -> Result<()> {
    let InstanceKey { project, name } = locked.key();
    lifecycle::settle(store, locked)?;
    let loaded = load::load(store, project, name)?;
    let volume = match &request.snapshot {
        Some(snapshot) => snapshot::volume(store, &loaded, snapshot)?,
        None if load::running(store, project, name)?.is_some() => {
            return Err(Error::conflict("The instance was started again meanwhile"));
        }
        None => loaded.volume()?,
    };
    let driver = pool::need(store, &loaded.pool()?)?;
    // Where the pool cannot map ids, the owners on disk are the host's.
    let ids = Ids::change(&driver.owners(&volume)?, &IdMap::default());
    let scratch = tempfile::tempdir_in(&store.layout().run).context("Failed creating a folder for mounting")?;
    let rootfs = rootfs::view(&driver.rootfs(&volume)?, scratch.path())?;
    let beside = path::open_root(&driver.metadata(&volume)?)?;
    if request.snapshot.is_none() {
        instance_metadata::tidy(beside.as_fd())?;
    }
    let metadata = new_metadata(beside.as_fd(), &loaded.instance.architecture, request)?;
    let (text, oci) = (metadata.to_yaml()?, small(beside.as_fd(), "config.json", METADATA_MAX)?);
    let files: Vec<(&str, &[u8])> = oci.iter().map(|data| ("config.json", &data[..])).collect();
    let templates = optional(path::open_dir(beside.as_fd(), Path::new("templates"), Links::Refuse))?;
    let change = |entry: &mut Entry| change_owner(entry, &ids);
    let parts = Unified {
        metadata: text.as_bytes(),
        files: &files,
        templates: templates.as_ref().map(OwnedFd::as_fd),
        rootfs: rootfs.as_fd(),
        change: (!ids.is_none()).then_some(&change),
        mtime: metadata.creation_date,
    };
    fault::point("publish.packing")?;
    match (packing, request.split) {
        (Packing::Archive(how), false) => pack::unified(arrival.dest(), how, &parts),
        _ => pack::split(arrival.dest(), packing, &parts, arrival.runner()),
    }
}

pub(super) fn change_owner(entry: &mut Entry, ids: &Ids) {
    (entry.uid, entry.gid) = (ids.uid(entry.uid), ids.gid(entry.gid));
    for (name, value) in &mut entry.xattrs {
        *value = ids.attribute(name, std::mem::take(value));
    }
}

/// What the instance's image said, with what is new.
fn new_metadata(beside: BorrowedFd<'_>, architecture: &str, request: &Request) -> Result<Metadata> {
    let mut new = match small(beside, "metadata.yaml", METADATA_MAX)? {
        Some(text) => Metadata::parse(&text)?,
        None => Metadata { architecture: metadata::architecture(architecture)?.to_string(), ..Metadata::default() },
    };
    new.creation_date = time::now().as_second();
    new.expiry_date = request.expires_at.map_or(0, jiff::Timestamp::as_second);
    new.properties.extend(request.properties.clone());
    Ok(new)
}

/// A small file beside the root file system, if there is one.
pub(super) fn small(beside: BorrowedFd<'_>, name: &str, max: u64) -> Result<Option<Vec<u8>>> {
    optional(path::read_limited(beside, Path::new(name), max, Links::Refuse))
        .with_context(|| format!("Failed reading \"{name}\""))
}

/// None for what is not there.
pub(super) fn optional<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tarread::EntryKind;

    #[test]
    fn owners_become_the_containers() {
        let map = IdMap::simple(1_000_000, 65_536).expect("map");
        let ids = Ids::change(&map, &IdMap::default());
        let mut capability = vec![1, 0, 0, 3];
        capability.extend_from_slice(&[0x00, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        capability.extend_from_slice(&1_000_000u32.to_le_bytes());
        let mut entry = Entry {
            kind: EntryKind::File,
            path: b"f".to_vec(),
            link: Vec::new(),
            mode: 0o755,
            uid: 1_000_033,
            gid: 1_000_000,
            mtime: (0, 0),
            size: 0,
            segments: None,
            device: (0, 0),
            xattrs: vec![(b"security.capability".to_vec(), capability), (b"user.x".to_vec(), b"y".to_vec())],
        };
        change_owner(&mut entry, &ids);
        assert_eq!((entry.uid, entry.gid), (33, 0));
        assert_eq!((entry.xattrs[0].1.len(), entry.xattrs[0].1[3]), (20, 2), "of the first kind");
        assert_eq!(entry.xattrs[1].1, b"y");
    }
}
