//! Images of servers: listed, found, and fetched in one pass – download, hash, decompress, unpack.
//!
//! The lists are kept in the cache folder for five minutes, as Incus's client does, and for as long as it takes while the server
//! cannot be reached. What an interrupted download got is kept as `.part-<sha256>` beside the images, invisible, and the next one
//! goes on from there. An image that is here by fingerprint is not fetched again.

use super::image::{self, cached};
use super::image_delta;
use super::image_import::{Arrival, Wanted, arrive, arrive_keeping, home, lock_source, publish};
use super::image_lend::lend;
use super::image_oci::Registry;
use crate::base::names::{AliasName, Fingerprint, ProjectName};
use crate::base::time::{self, GoTime};
use crate::base::url::Url;
use crate::error::{Context, Error, Kind, Result};
use crate::fault;
use crate::host::http::{Client, Download, Expected, Method, Request, Trust};
use crate::image::OnProgress;
use crate::image::import::{self, Imported, Input, Source};
use crate::image::simplestreams::{self, File, Files, Offer};
use crate::model::image::{Image, ImageSource};
use crate::model::instance::{Config, InstanceType};
use crate::model::keys;
use crate::model::remote::{OCI, SIMPLESTREAMS};
use crate::model::view::{ImageAliasView, ImagePut, ImageView};
use crate::store::Store;
use crate::store::atomic::{self, Durability};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long a server's list counts without asking again.
const LIST_AGE: Duration = Duration::from_secs(300);
/// How long the beginning of a file is kept.
const PART_AGE: Duration = Duration::from_secs(24 * 3600);
/// Days after its last use that a cached image is kept unless the server's configuration says otherwise, as in Incus.
pub(super) const CACHE_DAYS: i64 = 10;

/// Where images come from.
#[derive(Debug)]
pub enum Place {
    /// The local store.
    Local,
    /// Built here.
    Bootstrap,
    /// A simplestreams server.
    Server(Box<Server>),
    /// A registry of OCI images.
    Registry(Box<Registry>),
}

/// A simplestreams server.
#[derive(Debug)]
pub struct Server {
    /// Name of the remote.
    pub name: String,
    /// Address as it is configured; images are known by it.
    pub addr: String,
    /// The address.
    pub url: Url,
    /// Which certificates count.
    pub trust: Trust,
    /// How it is reached.
    pub client: Client,
    /// Folder for its lists.
    pub cache: PathBuf,
}

impl Server {
    /// What it offers. `fresh`: ask, however young what is kept may be.
    ///
    /// # Errors
    /// It cannot be reached and nothing is kept; its lists are damaged.
    pub fn offers(&self, fresh: bool) -> Result<Vec<Offer>> {
        let fail = || format!("Failed getting the images of \"{}\"", self.name);
        let index = self.text(simplestreams::INDEX, fresh, simplestreams::FILE_MAX)?;
        let lists = simplestreams::lists(&index).with_context(fail)?;
        // All of them together are bounded: they are in memory at once.
        let mut left = simplestreams::FILE_MAX;
        let mut texts = Vec::new();
        for path in &lists {
            let text = self.text(path, fresh, left)?;
            left = left.saturating_sub(text.len() as u64);
            texts.push(text);
        }
        simplestreams::offers(&texts).with_context(fail)
    }

    /// What it offered when it was last asked; nothing is asked now.
    pub fn known(&self) -> Vec<Offer> {
        let kept = |path: &str| read(&self.kept(&self.url.below(path).ok()?)).ok();
        let list = || {
            let lists = simplestreams::lists(&kept(simplestreams::INDEX)?).ok()?;
            let texts: Vec<Vec<u8>> = lists.iter().filter_map(|path| kept(path)).collect();
            simplestreams::offers(&texts).ok()
        };
        list().unwrap_or_default()
    }

    fn text(&self, path: &str, fresh: bool, limit: u64) -> Result<Vec<u8>> {
        let url = self.url.below(path)?;
        let kept = self.kept(&url);
        let young = kept.metadata().and_then(|m| m.modified()).is_ok_and(|at| age(at).is_some_and(|a| a < LIST_AGE));
        if young
            && !fresh
            && let Ok(text) = read(&kept)
        {
            return Ok(text);
        }
        let request = Request { method: Method::Get, url: &url, headers: &[], trust: &self.trust };
        match self.client.small(&request, limit) {
            Ok(text) => {
                // Kept if it can be: not every user may write there.
                let _ = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.cache);
                let _ = atomic::replace(&kept, &text, 0o600, Durability::Fast);
                Ok(text)
            }
            // A server that is away for a while keeps nobody from what he knows already.
            Err(e) if e.kind() == Kind::Failed && !fresh => read(&kept).map_err(|_| e),
            Err(e) => Err(e),
        }
    }

    /// The name is ours: a hash of the URL.
    fn kept(&self, url: &Url) -> PathBuf {
        use sha2::{Digest, Sha256};
        use std::fmt::Write;
        let mut name = String::new();
        for byte in Sha256::digest(url.to_string()) {
            let _ = write!(name, "{byte:02x}");
        }
        self.cache.join(name + ".json")
    }

    /// A file of it; `part`: the beginning, from an earlier command.
    pub(super) fn download(&self, file: &File, part: Option<std::fs::File>) -> Result<Input<'_>> {
        let expected = Expected { size: file.size, hash: file.sha256.clone() };
        let reader = Download::new(&self.client, self.url.below(&file.path)?, &self.trust, expected, part);
        Ok(Input { name: file.name().to_string(), reader: Box::new(reader), size: Some(file.size) })
    }

    pub(super) fn source(&self, alias: &str) -> ImageSource {
        ImageSource { server: self.addr.clone(), protocol: SIMPLESTREAMS.into(), alias: alias.to_string() }
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(simplestreams::FILE_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// None for times to come.
fn age(at: SystemTime) -> Option<Duration> {
    SystemTime::now().duration_since(at).ok()
}

/// The images of a server.
///
/// # Errors
/// As [`Server::offers`].
pub fn views(server: &Server) -> Result<Vec<ImageView>> {
    Ok(server.offers(false)?.iter().map(view).collect())
}

/// One image of a server.
///
/// # Errors
/// NotFound; as [`Server::offers`].
pub fn view_of(server: &Server, name: &str, kind: InstanceType) -> Result<ImageView> {
    Ok(view(simplestreams::find(&server.offers(false)?, name, kind)?.0))
}

fn view(offer: &Offer) -> ImageView {
    let alias = |name| ImageAliasView { name, description: String::new() };
    ImageView {
        put: ImagePut {
            properties: offer.properties.clone(),
            public: true,
            expires_at: GoTime(offer.expires_at),
            ..ImagePut::default()
        },
        aliases: offer.names().map(alias).collect(),
        architecture: offer.architecture.to_string(),
        filename: offer.filename().to_string(),
        fingerprint: offer.fingerprint.to_string(),
        size: offer.size(),
        kind: offer.kind.as_str().to_string(),
        created_at: GoTime(offer.created_at),
        uploaded_at: GoTime(offer.created_at),
        project: ProjectName::default().to_string(),
        ..ImageView::default()
    }
}

/// The image of a server for a launch: one that came from the same name before, else it is fetched and kept as cached.
///
/// # Errors
/// NotFound; the server or what it sends is wrong. Nothing visible is left then.
pub fn cached_or_fetched(
    store: &Store,
    server: &Server,
    name: &str,
    on_progress: OnProgress<'_>,
) -> Result<Fingerprint> {
    if let Some(found) = cached(store, (SIMPLESTREAMS, &server.addr), name, InstanceType::Container)? {
        return Ok(found);
    }
    let follow = keys::server::is_on(&settings(store)?, keys::server::AUTO_UPDATE_CACHED, true);
    let found = with_offer(server, name, InstanceType::Container, |offer, by_name| {
        // Named by its fingerprint.
        if offer.kind != InstanceType::Container {
            return Err(image::no_container());
        }
        let wanted = Wanted {
            properties: offer.properties.clone(),
            source: Some(server.source(name)),
            cached: true,
            auto_update: follow && by_name,
            expires_at: offer.expires_at,
            ..Wanted::default()
        };
        fetch(store, server, offer, &wanted, on_progress)
    })?;
    expire(store, &found);
    Ok(found)
}

/// What is copied, and as what.
#[derive(Debug, Clone, Default)]
pub struct Copy {
    /// Name there.
    pub name: String,
    /// A virtual machine's.
    pub vm: bool,
    /// New aliases.
    pub aliases: Vec<AliasName>,
    /// The server's aliases too.
    pub copy_aliases: bool,
    /// Follow the server.
    pub auto_update: bool,
    /// Readable by everyone on a server.
    pub public: bool,
    /// Delete images that lose all their aliases to this one.
    pub reuse: bool,
    /// Profiles for instances made from it.
    pub profiles: Option<Vec<String>>,
}

/// Copies an image of a server into the local store, to stay.
///
/// # Errors
/// As [`cached_or_fetched`].
pub fn copy(store: &Store, server: &Server, request: &Copy, on_progress: OnProgress<'_>) -> Result<Fingerprint> {
    let kind = if request.vm { InstanceType::VirtualMachine } else { InstanceType::Container };
    let (found, replaced) = with_offer(server, &request.name, kind, |offer, _| {
        let mut aliases = request.aliases.clone();
        if request.copy_aliases {
            aliases.extend(offer.names().filter_map(|name| AliasName::parse(&name).ok()));
        }
        let replaced = if request.reuse { image::superseded(store, &aliases)? } else { Vec::new() };
        let wanted = Wanted {
            aliases,
            public: request.public,
            properties: offer.properties.clone(),
            source: Some(server.source(&request.name)),
            auto_update: request.auto_update,
            profiles: request.profiles.clone(),
            expires_at: offer.expires_at,
            ..Wanted::default()
        };
        Ok((fetch(store, server, offer, &wanted, on_progress)?, replaced))
    })?;
    super::image_import::delete_others(store, &replaced, &found)?;
    Ok(found)
}

/// Calls `body` with the image of a name. If a file of it is gone the list we kept was too old: once more with a new one.
pub(super) fn with_offer<T>(
    server: &Server,
    name: &str,
    kind: InstanceType,
    mut body: impl FnMut(&Offer, bool) -> Result<T>,
) -> Result<T> {
    let offers = server.offers(false)?;
    let first = simplestreams::find(&offers, name, kind).and_then(|(offer, by_name)| body(offer, by_name));
    match first {
        Err(e) if e.kind() == Kind::NotFound => {
            let Ok(new) = server.offers(true) else { return Err(e) };
            match simplestreams::find(&new, name, kind) {
                Ok((offer, by_name)) if !offers.contains(offer) => body(offer, by_name),
                _ => Err(e),
            }
        }
        other => other,
    }
}

/// Brings an image in; one that is here already gets the names and, unless it is to be cached, stays.
pub(super) fn fetch(
    store: &Store,
    server: &Server,
    offer: &Offer,
    wanted: &Wanted,
    on_progress: OnProgress<'_>,
) -> Result<Fingerprint> {
    let fingerprint = Fingerprint::parse(offer.fingerprint.as_str())?;
    let pool = home(store)?;
    let _pool = store.lock_pool_shared(&pool)?;
    let _source = lock_source(store, (SIMPLESTREAMS, fingerprint.as_str()), on_progress)?;
    if store.image(&fingerprint)?.is_some() {
        return adopt(store, fingerprint, wanted);
    }
    if lend(store, &fingerprint, wanted)? {
        return Ok(fingerprint);
    }
    forget_old_parts(store);
    let (of_rootfs, big) = match &offer.files {
        Files::Unified(file) => (false, file),
        Files::Split(_, root) => (true, root),
    };
    let part = store.layout().images_dir().join(format!(".part-{}", big.sha256));
    // Its name goes at once: what it holds is written anew, and kept again if need be.
    let begun = std::fs::File::open(&part).ok();
    let _ = std::fs::remove_file(&part);
    fault::point("image.part.taken")?;
    let had_part = begun.is_some();
    if !had_part
        && let Some(delta) = image_delta::usable(store, offer)
        && let Some(made) = arrive(store, &pool, |arrival| {
            // Whatever is wrong with it: there is the whole.
            let rebuilt = image_delta::rebuild(store, server, (offer, delta), arrival, on_progress).ok();
            rebuilt.map(|imported| publish(store, arrival, imported, wanted)).transpose()
        })?
    {
        return Ok(made);
    }
    let bring = |begun| {
        arrive_keeping(store, &pool, Some((of_rootfs, &part)), |arrival| {
            let imported = take(server, offer, begun, arrival, on_progress)?;
            publish(store, arrival, imported, wanted)
        })
    };
    bring_again(had_part, begun, bring)
}

/// A part of an earlier command may have been of something else: then once more from nothing.
fn bring_again(
    had_part: bool,
    begun: Option<std::fs::File>,
    mut bring: impl FnMut(Option<std::fs::File>) -> Result<Fingerprint>,
) -> Result<Fingerprint> {
    match bring(begun) {
        Err(e) if had_part && e.kind() == Kind::Invalid => bring(None),
        other => other,
    }
}

fn take(
    server: &Server,
    offer: &Offer,
    part: Option<std::fs::File>,
    arrival: &Arrival<'_>,
    on_progress: OnProgress<'_>,
) -> Result<Imported> {
    let input = |file: &File, part| server.download(file, part);
    let source = match &offer.files {
        Files::Unified(file) => Source::Unified(input(file, part)?),
        Files::Split(metadata, root) => Source::Split { metadata: input(metadata, None)?, rootfs: input(root, part)? },
    };
    let taken = import::import(source, arrival.dest(), arrival.options(Some(&offer.fingerprint)), on_progress);
    let taken = taken.and_then(|imported| match (imported.kind.as_str(), offer.kind.as_str()) {
        (is, said) if is != said => {
            Err(Error::invalid(format!("The server says that the image is a {said}'s, but it is a {is}'s")))
        }
        _ => Ok(imported),
    });
    if let Err(e) = &taken {
        let full = matches!(e.errno(), Some(libc::ENOSPC | libc::EDQUOT));
        for blob in [&arrival.blob, &arrival.blob_rootfs] {
            // Nothing to go on with: it is wrong, there is no room for it, or nothing came.
            let empty = blob.metadata().is_ok_and(|m| m.len() == 0);
            if e.kind() != Kind::Failed || full || empty {
                let _ = std::fs::remove_file(blob);
            }
        }
    }
    taken
}

/// An image that is here already is what was wanted.
pub(super) fn adopt(store: &Store, fingerprint: Fingerprint, wanted: &Wanted) -> Result<Fingerprint> {
    let change = |image: &mut Image| {
        if !wanted.cached {
            image.cached = false;
            image.public |= wanted.public;
            image.auto_update = wanted.auto_update;
            image.source = wanted.source.clone();
            image.profiles = wanted.profiles.clone().unwrap_or_else(|| image.profiles.clone());
        }
        Ok(())
    };
    if !wanted.cached {
        image::modify(store, &fingerprint, change)?;
    }
    if !wanted.aliases.is_empty() {
        let names: Vec<String> = wanted.aliases.iter().map(ToString::to_string).collect();
        store.set_aliases(&fingerprint, &names)?;
    }
    Ok(fingerprint)
}

/// Removes beginnings of files that nobody went on with.
fn forget_old_parts(store: &Store) {
    for entry in std::fs::read_dir(store.layout().images_dir()).into_iter().flatten().flatten() {
        let part = entry.file_name().as_encoded_bytes().starts_with(b".part-");
        let at = || entry.metadata().and_then(|m| m.modified()).ok();
        if part && at().and_then(age).is_some_and(|age| age > PART_AGE) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Deletes cached images that were not used for long. Best effort: it is nobody's command.
pub(super) fn expire(store: &Store, but: &Fingerprint) {
    let Ok(config) = settings(store) else { return };
    for fingerprint in outdated(store, &config, time::now()).unwrap_or_default() {
        if fingerprint != *but {
            let _ = image::delete(store, &fingerprint);
        }
    }
}

/// The configuration that counts for the images in use: the server's, with what their project says over it.
///
/// # Errors
/// A record is damaged.
pub(super) fn settings(store: &Store) -> Result<Config> {
    let mut config = store.server()?.config;
    if let Some(project) = store.project(&store.image_project())? {
        for key in keys::project::OF_IMAGES {
            key.get(&project.config).into_iter().for_each(|value| key.set(&mut config, value));
        }
    }
    Ok(config)
}

/// Cached images that were not used for long; `config`: as [`settings`].
///
/// # Errors
/// The images cannot be listed.
pub(super) fn outdated(store: &Store, config: &Config, now: jiff::Timestamp) -> Result<Vec<Fingerprint>> {
    let days = keys::server::number(config, keys::server::REMOTE_CACHE_EXPIRY, CACHE_DAYS);
    let now = now.as_second();
    let old = |image: &Image| {
        let used = image.last_used_at.unwrap_or(image.uploaded_at).as_second();
        let fetched = image.source.as_ref().is_some_and(|s| matches!(&*s.protocol, SIMPLESTREAMS | OCI));
        image.cached && fetched && days > 0 && now - used > days.saturating_mul(24 * 3600)
    };
    let all = store.images()?.into_iter();
    Ok(all.filter(|(_, image)| image.as_ref().is_ok_and(old)).map(|(fingerprint, _)| fingerprint).collect())
}
