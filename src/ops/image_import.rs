//! Images come in: from files, built by `bootstrap:`, or unpacked once more into another pool.
//!
//! The fingerprint is known only when the last byte was read. Until then everything lies under a random name ([`Arrival`])
//! that a journal of its own undoes; then, under the image's lock and a second journal, files and unpacked tree get their names,
//! and the record is the commit point. Slow work is done under no lock that other commands want.

use super::image::{not_found, note, superseded};
use super::{image, image_lend, pool};
use crate::base::names::{AliasName, Fingerprint, PoolName, ProfileName, ProjectName};
use crate::base::time;
use crate::error::{Context, Error, Kind, Result};
use crate::fault;
use crate::host::command::{Host, Runner};
use crate::image::bootstrap::{self, Build};
use crate::image::compress::Algorithm;
use crate::image::import::{self, Dest, Imported, Input, Options, Source};
use crate::image::unpack::Owners;
use crate::image::{Limits, OnProgress, Progress};
use crate::model::image::{Image, ImageSource};
use crate::model::instance::InstanceType;
use crate::model::view::{ImageAliasView, ImageView};
use crate::storage::{Driver, Staging};
use crate::store::atomic;
use crate::store::journal;
use crate::store::lock::{Exclusive, Fresh, Held, ImageKey, SourceKey};
use crate::store::undo::{Volume, VolumeKind};
use crate::store::{Action, Store};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a command waits for another one that builds the same image.
const BUILD_WAIT: Duration = Duration::from_secs(3600);
/// Protocol of images built here.
pub const BOOTSTRAP: &str = "bootstrap";

/// What is imported, and as what.
#[derive(Debug)]
pub struct Request<'a> {
    /// The files or the folder.
    pub source: Source<'a>,
    /// New aliases; those there are already are moved to the new image.
    pub aliases: Vec<AliasName>,
    /// Delete images that lose all their aliases to this one.
    pub reuse: bool,
    /// Readable by everyone on a server.
    pub public: bool,
    /// Properties over the image's own.
    pub properties: BTreeMap<String, String>,
}

/// Imports an image; its fingerprint.
///
/// # Errors
/// It is no image, damaged, over a limit; [`Kind::Exists`]: `Image with same fingerprint already exists`. Nothing is left then.
pub fn import(store: &Store, request: Request<'_>, on_progress: OnProgress<'_>) -> Result<Fingerprint> {
    request.properties.iter().try_for_each(|(key, value)| image::check_property(key, value))?;
    if matches!(request.source, Source::Directory(_)) && !rustix::process::geteuid().is_root() {
        return Err(Error::denied("Must run as root to import from directory"));
    }
    let Request { source, aliases, reuse, public, properties } = request;
    let pool = home(store)?;
    let held = store.lock_pool_shared(&pool)?;
    let wanted = Wanted { aliases, public, properties, ..Wanted::default() };
    let (fingerprint, replaced) = arrive(store, &pool, |arrival| {
        let imported = import::import(source, arrival.dest(), arrival.options(None), on_progress)?;
        let replaced = if reuse { superseded(store, &wanted.aliases)? } else { Vec::new() };
        publish(store, arrival, imported, &wanted).map(|fingerprint| (fingerprint, replaced))
    })?;
    drop(held);
    delete_others(store, &replaced, &fingerprint)?;
    Ok(fingerprint)
}

/// The image of a `bootstrap:` alias: the one built earlier, else a new one, made with `tools`.
///
/// # Errors
/// There is no such system; a tool is missing or did not get through. Nothing is left then.
pub fn cached_or_built(
    store: &Store,
    tools: &dyn Runner,
    alias: &str,
    on_progress: OnProgress<'_>,
) -> Result<Fingerprint> {
    let recipe = bootstrap::parse(alias)?;
    let name = recipe.alias();
    if let Some(found) = image::cached(store, (BOOTSTRAP, BOOTSTRAP), &name, InstanceType::Container)? {
        return Ok(found);
    }
    let pool = home(store)?;
    let _pool = store.lock_pool_shared(&pool)?;
    let _source = lock_source(store, (BOOTSTRAP, &name), on_progress)?;
    if let Some(found) = image::cached(store, (BOOTSTRAP, BOOTSTRAP), &name, InstanceType::Container)? {
        return Ok(found);
    }
    let source = ImageSource { server: BOOTSTRAP.into(), protocol: BOOTSTRAP.into(), alias: name.clone() };
    let wanted = Wanted { source: Some(source), cached: true, ..Wanted::default() };
    // Another project may have built it.
    if let Some(found) = image_lend::of_source(store, (BOOTSTRAP, BOOTSTRAP), &name, &wanted)? {
        return Ok(found);
    }
    let build = Build {
        recipe: &recipe,
        vm: false,
        mirror: None,
        keyring: None,
        packages: &[],
        now: time::now(),
        runner: tools,
    };
    bring(store, &pool, &build, &wanted, on_progress)
}

/// A build as its user wants it.
#[derive(Debug, Default)]
pub struct BuildRequest {
    /// Alias of `bootstrap:`.
    pub alias: String,
    /// A virtual machine's image.
    pub vm: bool,
    /// Where packages come from; none leaves it to the tool.
    pub mirror: Option<String>,
    /// File with the keys of that place (absolute path); none leaves it to the tool.
    pub keyring: Option<PathBuf>,
    /// Packages beyond the recipe's.
    pub packages: Vec<String>,
    /// As in [`Request`].
    pub aliases: Vec<AliasName>,
    /// As in [`Request`].
    pub reuse: bool,
    /// As in [`Request`].
    pub public: bool,
}

/// Builds an image that is the user's, as an imported one: it is not taken for the alias of `bootstrap:` at launches.
///
/// # Errors
/// As [`cached_or_built`].
pub fn build(
    store: &Store,
    tools: &dyn Runner,
    request: &BuildRequest,
    on_progress: OnProgress<'_>,
) -> Result<Fingerprint> {
    let recipe = bootstrap::parse(&request.alias)?;
    let pool = home(store)?;
    let held = store.lock_pool_shared(&pool)?;
    let wanted = Wanted { aliases: request.aliases.clone(), public: request.public, ..Wanted::default() };
    let (mirror, packages) = (request.mirror.as_deref(), &request.packages[..]);
    let keyring = request.keyring.as_deref();
    let build = Build { recipe: &recipe, vm: request.vm, mirror, keyring, packages, now: time::now(), runner: tools };
    let replaced = if request.reuse { superseded(store, &wanted.aliases)? } else { Vec::new() };
    let fingerprint = bring(store, &pool, &build, &wanted, on_progress)?;
    drop(held);
    delete_others(store, &replaced, &fingerprint)?;
    Ok(fingerprint)
}

fn bring(
    store: &Store,
    pool: &PoolName,
    build: &Build<'_>,
    wanted: &Wanted,
    on_progress: OnProgress<'_>,
) -> Result<Fingerprint> {
    arrive(store, pool, |arrival| {
        let built = bootstrap::build(build, arrival.dest(), on_progress)?;
        publish(store, arrival, built, wanted)
    })
}

/// Deletes what lost all its aliases to `new`, unless that was kept meanwhile.
pub(super) fn delete_others(store: &Store, old: &[Fingerprint], new: &Fingerprint) -> Result<()> {
    let aliases = store.aliases()?;
    let lost = |old: &&Fingerprint| *old != new && !aliases.aliases.values().any(|a| a.target == ***old);
    old.iter().filter(lost).try_for_each(|old| image::delete(store, old))
}

/// What can be built, by alias; what was built already has its fingerprint.
///
/// # Errors
/// The images cannot be read.
pub fn offered(store: &Store) -> Result<Vec<(String, Result<ImageView>)>> {
    let mut all = Vec::new();
    let offered = bootstrap::list().into_iter().flat_map(|(alias, description)| {
        let kinds = bootstrap::kinds(&alias).iter();
        kinds.map(move |kind| (alias.clone(), description.clone(), *kind))
    });
    for (alias, description, kind) in offered {
        let mut view = match image::cached(store, (BOOTSTRAP, BOOTSTRAP), &alias, kind)? {
            Some(fingerprint) => image::view(store, &fingerprint)?,
            None => ImageView { architecture: std::env::consts::ARCH.to_string(), ..ImageView::default() },
        };
        view.aliases = vec![ImageAliasView { name: alias.clone(), description: String::new() }];
        view.kind = kind.as_str().to_string();
        view.put.public = true;
        view.put.properties.entry("description".to_string()).or_insert(description);
        all.push((alias, Ok(view)));
    }
    Ok(all)
}

/// One command builds or downloads, the others wait for what it brings.
pub(super) fn lock_source(
    store: &Store,
    (protocol, alias): (&str, &str),
    on_progress: OnProgress<'_>,
) -> Result<Held<SourceKey, Exclusive>> {
    let key = || SourceKey { protocol: protocol.to_string(), alias: alias.to_string() };
    let (verb, waiting) = match protocol {
        BOOTSTRAP => ("build", "Waiting for another build"),
        _ => ("download", "Waiting for another download"),
    };
    match store.lock_within(key(), verb, Duration::ZERO) {
        Err(e) if e.kind() == Kind::Busy => {
            on_progress(Progress::Step(waiting))?;
            store.lock_within(key(), verb, BUILD_WAIT)
        }
        other => other,
    }
}

/// Makes sure that the pool has the image unpacked; what is missing is unpacked from the stored files.
///
/// # Errors
/// NotFound: the image or its files; the files are damaged; the pool cannot be written.
pub fn ensure_unpacked(store: &Store, pool_name: &PoolName, fingerprint: &Fingerprint) -> Result<()> {
    if pool::need(store, pool_name)?.has_image(fingerprint)? {
        return Ok(());
    }
    let _pool = store.lock_pool_shared(pool_name)?;
    let _image = store.lock_image(fingerprint, "unpack")?;
    let record = store.image(fingerprint)?.ok_or_else(|| not_found(fingerprint))?;
    if record.kind != InstanceType::Container {
        return Err(image::no_container());
    }
    if pool::need(store, pool_name)?.has_image(fingerprint)? {
        return Ok(());
    }
    let layout = store.layout();
    let file = |path: PathBuf| Input::open(&path).map(|input| Input { name: record.filename.clone(), ..input });
    let first = file(layout.image_file(fingerprint))?;
    let source = match record.split {
        true => Source::Split { metadata: first, rootfs: file(layout.image_rootfs_file(fingerprint))? },
        false => Source::Unified(first),
    };
    let expected = crate::image::Fingerprint::parse(record.content.as_deref().unwrap_or(fingerprint))?;
    let unpack = |arrival: &Arrival<'_>| {
        // It was judged when it came in, or is of our own making: how well it compresses says nothing now.
        let limits = Limits { ratio: u64::MAX, ..Limits::default() };
        let options = Options { limits: &limits, ..arrival.options(Some(&expected)) };
        import::import(source, arrival.dest(), options, &mut |_| Ok(()))?;
        arrival.driver.commit_image(&arrival.staging, fingerprint)
    };
    arrive(store, pool_name, unpack).with_context(|| format!("Failed unpacking image \"{}\"", fingerprint.short()))
}

/// The pool new images are unpacked into: that of the default profile's root disk, else the first one.
pub(super) fn home(store: &Store) -> Result<PoolName> {
    pool::ensure_default(store)?;
    let profile = store.profile(&ProjectName::default(), &ProfileName::parse("default")?)?;
    if let Some((_, name)) = profile.and_then(|p| pool::of_root(&p.devices).ok())
        && pool::open(store, &name)?.is_some()
    {
        return Ok(name);
    }
    let first = store.pools()?.into_iter().next();
    first.map(|(name, _)| name).ok_or_else(|| Error::not_found("Storage pool not found"))
}

/// An image on its way in, under a random name.
pub(super) struct Arrival<'a> {
    pub(super) driver: &'a dyn Driver,
    pool: &'a PoolName,
    pub(super) staging: Staging,
    /// Where it is unpacked.
    pub(super) dir: PathBuf,
    pub(super) blob: PathBuf,
    pub(super) blob_rootfs: PathBuf,
    runner: Host,
    limits: Limits,
}

impl Arrival<'_> {
    pub(super) fn runner(&self) -> &dyn Runner {
        &self.runner
    }

    pub(super) fn dest(&self) -> Dest<'_> {
        Dest { blob: &self.blob, blob_rootfs: &self.blob_rootfs, staging: &self.dir }
    }

    pub(super) fn options<'a>(&'a self, expect: Option<&'a crate::image::Fingerprint>) -> Options<'a> {
        Options {
            expect,
            limits: &self.limits,
            owners: if rustix::process::geteuid().is_root() { Owners::Keep } else { Owners::Caller },
            algorithm: Algorithm::Xz,
        }
    }
}

/// Gives `body` a place to bring an image to. Whatever is left there afterwards is removed, after an error or a kill as well.
pub(super) fn arrive<T>(
    store: &Store,
    pool_name: &PoolName,
    body: impl FnOnce(&Arrival<'_>) -> Result<T>,
) -> Result<T> {
    arrive_keeping(store, pool_name, None, body)
}

/// [`arrive`]; after an error or a kill what came of the unified file (or, `true`, of the rootfs file) is kept under a name, if
/// nothing is there, for another try to go on with.
pub(super) fn arrive_keeping<T>(
    store: &Store,
    pool_name: &PoolName,
    keep: Option<(bool, &Path)>,
    body: impl FnOnce(&Arrival<'_>) -> Result<T>,
) -> Result<T> {
    let driver = pool::need(store, pool_name)?;
    let staging = Staging::fresh();
    let images = store.layout().images_dir();
    let blob = images.join(format!(".new-{}", staging.as_str()));
    let blob_rootfs = images.join(format!(".new-{}.rootfs", staging.as_str()));
    let proof = Fresh::new("import", staging.as_str());
    journal::run(store, "import", &[&proof], |journal| {
        let cleanup = [
            volume(pool_name, staging.as_str()),
            Action::RemoveFile { path: blob.clone() },
            Action::RemoveFile { path: blob_rootfs.clone() },
        ];
        for action in cleanup {
            journal.undo(action.clone())?;
            journal.then(action)?;
        }
        if let Some((of_rootfs, part)) = keep {
            let from = if of_rootfs { &blob_rootfs } else { &blob };
            // Undone first, before the removals above.
            journal.undo(Action::Move { from: from.clone(), to: part.to_path_buf() })?;
        }
        fault::point("image.arriving")?;
        let dir = driver.begin_image(&staging)?;
        let (runner, limits) = (Host::default(), Limits::default());
        let driver = driver.as_ref();
        body(&Arrival { driver, pool: pool_name, staging, dir, blob, blob_rootfs, runner, limits })
    })
}

/// An unpacked image in a pool, by fingerprint or by the name it is unpacked under.
pub fn volume(pool: &PoolName, name: &str) -> Action {
    Action::RemoveVolume(Volume {
        pool: pool.to_string(),
        kind: VolumeKind::Image,
        project: ProjectName::default().to_string(),
        name: name.to_string(),
    })
}

/// What a new image is called and known for.
#[derive(Default)]
pub(super) struct Wanted {
    pub aliases: Vec<AliasName>,
    pub public: bool,
    /// Over the image's own.
    pub properties: BTreeMap<String, String>,
    pub source: Option<ImageSource>,
    /// Came in by a launch: goes when it is not used for long.
    pub cached: bool,
    pub auto_update: bool,
    /// None: `default`.
    pub profiles: Option<Vec<String>>,
    /// Where the image says none.
    pub expires_at: Option<jiff::Timestamp>,
}

/// Gives what has arrived its names and its record. Where another project has the image, its files and what is unpacked of it stay
/// the ones there are.
pub(super) fn publish(
    store: &Store,
    arrival: &Arrival<'_>,
    imported: Imported,
    wanted: &Wanted,
) -> Result<Fingerprint> {
    let fingerprint = Fingerprint::parse(imported.fingerprint.as_str())?;
    let held = store.lock_image(&fingerprint, "import")?;
    if store.image(&fingerprint)?.is_some() {
        return Err(Error::exists("Image with same fingerprint already exists"));
    }
    let mut record = record(imported, wanted)?;
    let arrived = match store.image_elsewhere(&fingerprint)? {
        Some(Image { content, size, filename, split, .. }) => {
            record = Image { content, size, filename, split, ..record };
            None
        }
        None => Some(arrival),
    };
    settle(store, &held, arrived, &record, &wanted.aliases)?;
    Ok(fingerprint)
}

/// Writes the record, which is the commit point, and gives the files of what has arrived their names before.
pub(super) fn settle(
    store: &Store,
    held: &Held<ImageKey, Exclusive>,
    arrived: Option<&Arrival<'_>>,
    record: &Image,
    aliases: &[AliasName],
) -> Result<()> {
    let fingerprint = &held.key().0;
    let (layout, project) = (store.layout(), store.image_project());
    let (file, rootfs) = (layout.image_file(fingerprint), layout.image_rootfs_file(fingerprint));
    // The disk of a virtual machine stays in its file.
    let unpacked = arrived.filter(|_| record.kind == InstanceType::Container);
    journal::run(store, "import", &[held], |journal| {
        if let Some(arrival) = unpacked
            && !arrival.driver.has_image(fingerprint)?
        {
            journal.undo(volume(arrival.pool, fingerprint))?;
        }
        for path in [&file, &rootfs].into_iter().filter(|_| arrived.is_some()) {
            journal.undo(Action::RemoveFile { path: path.clone() })?;
        }
        let record_file = layout.image_record(&project, fingerprint);
        // What a kill may leave of writing it.
        let name = record_file.file_name().map(atomic::temporary).unwrap_or_default();
        journal.undo(Action::RemoveFile { path: record_file.with_file_name(name) })?;
        journal.commits_by(&record_file)?;
        if !aliases.is_empty() {
            let names = aliases.iter().map(ToString::to_string).collect();
            let (project, image) = (project.to_string(), fingerprint.to_string());
            journal.then(Action::SetAliases { project, image, names })?;
        }
        fault::point("image.publish")?;
        if let Some(arrival) = arrived {
            rename(&arrival.blob, &file)?;
            if record.split {
                rename(&arrival.blob_rootfs, &rootfs)?;
            }
        }
        fault::point("image.named")?;
        if let Some(arrival) = unpacked {
            arrival.driver.commit_image(&arrival.staging, fingerprint)?;
        }
        fault::point("image.committed")?;
        // On disk before the record names them. Where the pool is on the same file system they are already: it was synced.
        for path in [Some(&file), record.split.then_some(&rootfs)].into_iter().flatten().filter(|_| arrived.is_some()) {
            let done = std::fs::File::open(path).and_then(|file| file.sync_all());
            done.with_context(|| format!("Failed writing \"{}\"", path.display()))?;
        }
        // Syncs the folder of the files as well.
        store.save_image(held, record)?;
        fault::point("image.recorded")
    })?;
    note(store, fingerprint, "image-created");
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).with_context(|| format!("Failed renaming \"{}\"", from.display()))
}

fn record(imported: Imported, wanted: &Wanted) -> Result<Image> {
    let (created_at, expires_at) = (imported.metadata.created()?, imported.metadata.expires()?);
    let mut properties = imported.metadata.properties;
    properties.extend(wanted.properties.clone());
    Ok(Image {
        format: 1,
        kind: imported.kind,
        architecture: imported.metadata.architecture,
        content: imported.content.map(|content| content.to_string()),
        size: imported.size,
        filename: imported.filename,
        split: imported.split,
        public: wanted.public,
        cached: wanted.cached,
        auto_update: wanted.auto_update,
        created_at,
        uploaded_at: time::now(),
        expires_at: expires_at.or(wanted.expires_at),
        last_used_at: wanted.cached.then(time::now),
        source: wanted.source.clone(),
        profiles: wanted.profiles.clone().unwrap_or_else(|| vec!["default".to_string()]),
        properties,
    })
}
