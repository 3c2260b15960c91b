//! Images of registries and of layouts: found, fetched layer by layer, made into split images of the local store.
//!
//! Layers are kept in the cache folder by digest, for as long as cached images are, so that no image brings a layer twice; what was
//! broken off is gone on with there. Everything else is as with other images: it arrives under a random name that a journal undoes,
//! and the record is the commit point.

use super::image::{self, cached};
use super::image_import::{self, Request, Wanted, arrive, home, lock_source, publish};
use super::image_layers::Apart;
use super::image_remote::{CACHE_DAYS, Copy, adopt, expire, settings};
use crate::base::names::{AliasName, Fingerprint, ProjectName};
use crate::base::time::GoTime;
use crate::base::url::Url;
use crate::error::{Error, Result};
use crate::host::command::{Cmd, Host, Program, Runner, Stdin};
use crate::host::http::{Client, Trust};
use crate::image::oci::auth::{self, Login};
use crate::image::oci::layout::Layout;
use crate::image::oci::reference::Reference;
use crate::image::oci::{self, Found, pull, registry, tree};
use crate::image::{OnProgress, Progress};
use crate::model::image::ImageSource;
use crate::model::instance::InstanceType;
use crate::model::keys;
use crate::model::remote::OCI;
use crate::model::view::{ImageAliasView, ImagePut, ImageView};
use crate::store::Store;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The property with the digest of an image's manifest.
const DIGEST: &str = "digest";
/// How long a credentials helper may take.
const HELPER_TIME: Duration = Duration::from_secs(60);

/// A registry.
#[derive(Debug)]
pub struct Registry {
    /// Name of the remote.
    pub name: String,
    /// Address without user and password; images are known by it.
    pub addr: String,
    /// The address.
    pub url: Url,
    /// Which certificates count.
    pub trust: Trust,
    /// How it is reached.
    pub client: Client,
    /// Who we are there.
    pub logins: Logins,
}

/// Where user and password of a registry come from; the first that knows them counts.
#[derive(Debug, Default)]
pub struct Logins {
    /// Program that is asked, as docker's credential helpers are.
    pub helper: Option<String>,
    /// What it is run with.
    pub host: Host,
    /// Its environment.
    pub env: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    /// Files as `~/.docker/config.json`.
    pub files: Vec<PathBuf>,
}

impl Registry {
    fn login(&self) -> Result<Option<Login>> {
        if let Some(login) = &self.url.login {
            return Ok(Some(login.clone()));
        }
        let Some(helper) = &self.logins.helper else {
            return Ok(auth::of_files(self.logins.files.iter().map(PathBuf::as_path), &self.url.authority()));
        };
        // A program's name is known for as long as we run.
        let program = Program { name: helper.clone().leak(), package: "" };
        let mut cmd = Cmd::new(program).arg("get").timeout(HELPER_TIME);
        cmd.stdin = Stdin::Bytes(self.url.authority().into_bytes());
        cmd.env.clone_from(&self.logins.env);
        let said = self.logins.host.run(cmd)?.success(program)?;
        auth::of_helper(&said.stdout).map(Some)
    }

    /// Calls `body` with the image of a name.
    fn with<T>(&self, name: &str, body: impl FnOnce(&registry::Registry<'_>, &Found) -> Result<T>) -> Result<T> {
        let reference = Reference::parse(name)?;
        let login = || self.login();
        let image = registry::Registry::new(&self.client, (&self.url, &self.trust), reference, &login);
        let found = oci::resolve(&image)?;
        body(&image, &found)
    }
}

/// One image of a registry.
///
/// # Errors
/// NotFound; the registry or what it sends is wrong.
pub fn view_of(registry: &Registry, name: &str) -> Result<ImageView> {
    registry.with(name, |_, found| {
        let created = GoTime(Some(found.config.created));
        let put = ImagePut { properties: found.properties(name), public: true, ..ImagePut::default() };
        Ok(ImageView {
            put,
            aliases: vec![ImageAliasView { name: name.to_string(), description: String::new() }],
            architecture: found.config.architecture.to_string(),
            fingerprint: found.fingerprint().to_string(),
            size: found.size(),
            kind: InstanceType::Container.as_str().to_string(),
            created_at: created,
            uploaded_at: created,
            project: ProjectName::default().to_string(),
            ..ImageView::default()
        })
    })
}

fn source(registry: &Registry, name: &str) -> ImageSource {
    ImageSource { server: registry.addr.clone(), protocol: OCI.into(), alias: name.to_string() }
}

/// The image of a registry for a launch: one that came from the same name before, else it is fetched and kept as cached.
///
/// # Errors
/// NotFound; the registry or what it sends is wrong. Nothing visible is left then.
pub fn cached_or_fetched(
    store: &Store,
    registry: &Registry,
    name: &str,
    on_progress: OnProgress<'_>,
) -> Result<Fingerprint> {
    if let Some(found) = cached(store, (OCI, &registry.addr), name, InstanceType::Container)? {
        return Ok(found);
    }
    let follow = keys::server::is_on(&settings(store)?, keys::server::AUTO_UPDATE_CACHED, true);
    let wanted = Wanted {
        source: Some(source(registry, name)),
        cached: true,
        // What is named by its digest never changes.
        auto_update: follow && !name.contains('@'),
        ..Wanted::default()
    };
    let found = registry.with(name, |image, found| fetch(store, (image, found, name), &wanted, on_progress))?;
    expire(store, &found);
    Ok(found)
}

/// Copies an image of a registry into the local store, to stay.
///
/// # Errors
/// As [`cached_or_fetched`].
pub fn copy(store: &Store, registry: &Registry, request: &Copy, on_progress: OnProgress<'_>) -> Result<Fingerprint> {
    if request.vm {
        return Err(Error::invalid("A registry has no images of virtual machines"));
    }
    let mut aliases = request.aliases.clone();
    if request.copy_aliases {
        aliases.extend(AliasName::parse(&request.name).ok());
    }
    let replaced = if request.reuse { image::superseded(store, &aliases)? } else { Vec::new() };
    let wanted = Wanted {
        aliases,
        public: request.public,
        source: Some(source(registry, &request.name)),
        auto_update: request.auto_update,
        profiles: request.profiles.clone(),
        ..Wanted::default()
    };
    let name = request.name.as_str();
    let found = registry.with(name, |image, found| fetch(store, (image, found, name), &wanted, on_progress))?;
    image_import::delete_others(store, &replaced, &found)?;
    Ok(found)
}

/// What a name of a registry means now, brought in as `wanted`; none if that is `old`.
///
/// # Errors
/// As [`cached_or_fetched`].
pub(super) fn renewed(
    store: &Store,
    (registry, name): (&Registry, &str),
    old: &Fingerprint,
    wanted: &Wanted,
    on_progress: OnProgress<'_>,
) -> Result<Option<Fingerprint>> {
    registry.with(name, |image, found| match known_as(store, found)? == *old {
        true => Ok(None),
        false => fetch(store, (image, found, name), wanted, on_progress).map(Some),
    })
}

/// The fingerprint of an image here. Incus's is made of the layers alone: one that is taken by an image with another
/// configuration is not this image's.
fn known_as(store: &Store, found: &Found) -> Result<Fingerprint> {
    let usual = Fingerprint::parse(found.fingerprint().as_str())?;
    let digest = found.digest.to_string();
    match store.image(&usual)?.map_or_else(|| store.image_elsewhere(&usual), |own| Ok(Some(own)))? {
        Some(other) if other.properties.get(DIGEST) != Some(&digest) => {
            Fingerprint::parse(found.own_fingerprint().as_str())
        }
        _ => Ok(usual),
    }
}

/// Brings an image in; one that is here already gets the names and, unless it is to be cached, stays.
fn fetch(
    store: &Store,
    (image, found, name): (&registry::Registry<'_>, &Found, &str),
    wanted: &Wanted,
    on_progress: OnProgress<'_>,
) -> Result<Fingerprint> {
    let folder = store.layout().blobs_dir();
    let days = keys::server::number(&settings(store)?, keys::server::REMOTE_CACHE_EXPIRY, CACHE_DAYS);
    pull::forget_old(&folder, u64::try_from(days).unwrap_or(0).max(1));
    take(store, (found, name), wanted, on_progress, |make, there, on_progress| {
        pull::layers(image, (&found.manifest.layers, there), &folder, |layers| make(layers, on_progress))
    })
}

/// Makes the image out of its layers.
type Make<'a> = &'a mut dyn FnMut(tree::Layers<'_>, OnProgress<'_>) -> Result<Fingerprint>;

/// [`fetch`], with the layers from wherever `bring` has them; it is told which are not needed.
fn take(
    store: &Store,
    (found, name): (&Found, &str),
    wanted: &Wanted,
    on_progress: OnProgress<'_>,
    bring: impl FnOnce(Make<'_>, &[bool], OnProgress<'_>) -> Result<Fingerprint>,
) -> Result<Fingerprint> {
    let pool = home(store)?;
    let _pool = store.lock_pool_shared(&pool)?;
    let _source = lock_source(store, (OCI, found.fingerprint().as_str()), on_progress)?;
    let fingerprint = known_as(store, found)?;
    if store.image(&fingerprint)?.is_some() {
        return adopt(store, fingerprint, wanted);
    }
    if super::image_lend::lend(store, &fingerprint, wanted)? {
        return Ok(fingerprint);
    }
    let known = crate::image::Fingerprint::parse(&fingerprint)?;
    arrive(store, &pool, |arrival| {
        let apart = Apart::begin(store, arrival, found)?;
        let there = apart.as_ref().map(|apart| apart.there.clone()).unwrap_or_default();
        let mut trees: Box<dyn tree::Trees> = match apart {
            Some(apart) => Box::new(apart),
            None => Box::new(tree::Flat::new(&arrival.dir)?),
        };
        let mut make = |layers: tree::Layers<'_>, on_progress: OnProgress<'_>| {
            let (what, to) = ((&known, found.properties(name)), (arrival.dest(), arrival.options(None)));
            let imported = tree::make(found, what, (layers, trees.as_mut()), to, on_progress)?;
            publish(store, arrival, imported, wanted)
        };
        bring(&mut make, &there, on_progress)
    })
}

/// An image in a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InLayout {
    /// Folder, or archive of one.
    pub path: PathBuf,
    /// Which image of it.
    pub tag: Option<String>,
}

/// What stands before the path of a layout.
pub const LAYOUT: &str = "oci";

impl InLayout {
    /// Reads `oci:PATH[:TAG]`; a folder that is a layout counts by itself. None: it is something else.
    pub fn parse(word: &str) -> Option<Self> {
        let Some(rest) = word.strip_prefix("oci:") else {
            let path = PathBuf::from(word);
            return oci::layout::is_layout(&path).then_some(Self { path, tag: None });
        };
        // A path may have colons in it.
        let tagged = rest.rsplit_once(':').filter(|(_, tag)| !tag.contains('/') && !Path::new(rest).exists());
        let (path, tag) = tagged.map_or((rest, None), |(path, tag)| (path, Some(tag.to_string())));
        Some(Self { path: path.into(), tag })
    }
}

/// The image of a layout, for an instance to be made of it: what is here already is taken, else it is imported to be cached.
///
/// # Errors
/// As [`import`].
pub fn cached_or_imported(store: &Store, what: &InLayout, on_progress: OnProgress<'_>) -> Result<Fingerprint> {
    on_progress(Progress::Step("Reading layout"))?;
    let layout = Layout::open(&what.path, what.tag.clone(), &store.layout().images_dir())?;
    let found = oci::resolve(&layout)?;
    let image = known_as(store, &found)?;
    if store.image(&image)?.is_none() {
        bring(store, (what, &layout, &found), &Wanted { cached: true, ..Wanted::default() }, on_progress)?;
        expire(store, &image);
    }
    image::used(store, &image)?;
    Ok(image)
}

/// Imports an image of a layout; its fingerprint.
///
/// # Errors
/// As [`image_import::import`].
pub fn import(
    store: &Store,
    what: &InLayout,
    request: Request<'_>,
    on_progress: OnProgress<'_>,
) -> Result<Fingerprint> {
    request.properties.iter().try_for_each(|(key, value)| image::check_property(key, value))?;
    let Request { source: _, aliases, reuse, public, properties } = request;
    let replaced = if reuse { image::superseded(store, &aliases)? } else { Vec::new() };
    let wanted = Wanted { aliases, public, properties, ..Wanted::default() };
    on_progress(Progress::Step("Reading layout"))?;
    let layout = Layout::open(&what.path, what.tag.clone(), &store.layout().images_dir())?;
    let found = oci::resolve(&layout)?;
    if store.image(&known_as(store, &found)?)?.is_some() {
        return Err(Error::exists("Image with same fingerprint already exists"));
    }
    let imported = bring(store, (what, &layout, &found), &wanted, on_progress)?;
    image_import::delete_others(store, &replaced, &imported)?;
    Ok(imported)
}

fn bring(
    store: &Store,
    (what, layout, found): (&InLayout, &Layout, &Found),
    wanted: &Wanted,
    on_progress: OnProgress<'_>,
) -> Result<Fingerprint> {
    let path = what.path.canonicalize().unwrap_or_else(|_| what.path.clone());
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = what.tag.clone().unwrap_or(name);
    let shown: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
    take(store, (found, &shown), wanted, on_progress, |make, _, on_progress| {
        make(&mut |at, _| layout.blob(&found.manifest.layers[at]), on_progress)
    })
}
