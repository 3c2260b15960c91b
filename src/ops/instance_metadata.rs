//! `config metadata` and `config template`: what an instance has of its image beside the root file system, `metadata.yaml` and the
//! templates of files that are written when it starts.
//!
//! A file is replaced whole, so no journal is needed. Where the folder is the image's, shared by many, the instance gets one of its
//! own at the first change: that one counts once it has a `metadata.yaml`, which comes last.

use super::publish::optional;
use super::{lifecycle, load, pool};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::image::METADATA_MAX;
use crate::image::metadata::{self, Metadata, is_bare_name};
use crate::storage::{Ids, copy_tree};
use crate::store::Store;
use crate::sys::path::{self, Kind, Links, Owner};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const METADATA: &str = "metadata.yaml";
const TEMPLATES: &str = "templates";
/// Of an application image: what it runs.
const CONFIG: &str = "config.json";
const FILE: Owner = Owner { uid: 0, gid: 0, mode: 0o644 };

/// Project and name of an instance.
pub type Who<'a> = (&'a ProjectName, &'a InstanceName);

/// The metadata; empty if it has none.
///
/// # Errors
/// NotFound; they are damaged.
pub fn show(store: &Store, who: Who<'_>) -> Result<Metadata> {
    let home = home(store, who)?;
    match path::stat(home.as_fd(), Path::new(METADATA), Links::Refuse) {
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(Metadata::default()),
        _ => metadata::read(home.as_fd()),
    }
}

/// Replaces the metadata by what a document says. Locks: takes the instance's.
///
/// # Errors
/// NotFound; Invalid: it is none.
pub fn edit(store: &Store, who: Who<'_>, document: &str) -> Result<()> {
    let text = Metadata::parse(document.as_bytes())?.to_yaml()?;
    change(store, who, "instance-metadata-updated", |home| write(home, Path::new(METADATA), text.as_bytes()))
}

/// The names of the templates.
///
/// # Errors
/// NotFound.
pub fn templates(store: &Store, who: Who<'_>) -> Result<Vec<String>> {
    let Some(folder) = folder(home(store, who)?.as_fd())? else { return Ok(Vec::new()) };
    let files = path::read_dir(folder.as_fd())?.into_iter().filter(|entry| entry.kind != Kind::Dir);
    let names = files.filter(|entry| !path::is_temporary(&entry.name)).map(|entry| entry.name);
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// What a template says.
///
/// # Errors
/// NotFound; it is larger than 1 MiB.
pub fn template(store: &Store, who: Who<'_>, name: &str) -> Result<Vec<u8>> {
    let Some(folder) = folder(home(store, who)?.as_fd())? else { return Err(missing(name)) };
    check(name)?;
    optional(path::read_limited(folder.as_fd(), Path::new(name), METADATA_MAX, Links::Refuse))?
        .ok_or_else(|| missing(name))
}

/// Makes a template, or replaces it. Locks: takes the instance's.
///
/// # Errors
/// NotFound: the instance; Invalid: the name, or it is larger than 1 MiB.
pub fn put_template(store: &Store, who: Who<'_>, name: &str, text: &str) -> Result<()> {
    check(name)?;
    if text.len() as u64 > METADATA_MAX {
        return Err(Error::invalid(format!("Templates cannot be larger than {METADATA_MAX} bytes")));
    }
    change(store, who, "instance-metadata-template-created", |home| {
        path::create_dir_all(home, Path::new(TEMPLATES), 0, 0, 0o711, Links::Refuse)?;
        write(home, &Path::new(TEMPLATES).join(name), text.as_bytes())
    })
}

/// Removes a template. Locks: takes the instance's.
///
/// # Errors
/// NotFound.
pub fn delete_template(store: &Store, who: Who<'_>, name: &str) -> Result<()> {
    check(name)?;
    // Before the instance gets a folder of its own for nothing.
    template(store, who, name)?;
    change(store, who, "instance-metadata-template-deleted", |home| {
        let folder = folder(home)?.ok_or_else(|| missing(name))?;
        optional(path::unlink(folder.as_fd(), Path::new(name), Links::Refuse))?.ok_or_else(|| missing(name))?;
        std::fs::File::from(folder).sync_all()?;
        fault::point("metadata.deleted")
    })
}

fn missing(name: &str) -> Error {
    Error::not_found(format!("Template {name:?} not found"))
}

fn check(name: &str) -> Result<()> {
    let ours = path::is_temporary(name.as_ref());
    if is_bare_name(name.as_bytes()) && !ours { Ok(()) } else { Err(Error::invalid("Invalid template filename")) }
}

/// The folder to read.
fn home(store: &Store, (project, name): Who<'_>) -> Result<OwnedFd> {
    let loaded = load::load(store, project, name)?;
    let driver = pool::need(store, &loaded.pool()?)?;
    path::open_root(&driver.metadata(&loaded.volume()?)?)
}

fn folder(home: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    optional(path::open_dir(home, Path::new(TEMPLATES), Links::Refuse)).context("Failed opening the templates")
}

fn write(home: BorrowedFd<'_>, rel: &Path, data: &[u8]) -> Result<()> {
    fault::point("metadata.begin")?;
    path::write_replace_durably(home, rel, data, FILE, Links::Refuse)?;
    fault::point("metadata.written")
}

/// Does `then` to the instance's own folder.
fn change(store: &Store, who: Who<'_>, event: &str, then: impl FnOnce(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
    let (project, name) = who;
    let _project = store.lock_project_shared(project)?;
    let pool = load::load(store, project, name)?.pool()?;
    let _pool = store.lock_pool_shared(&pool)?;
    let held = store.lock_instance(project, name, "edit")?;
    lifecycle::settle(store, &held)?;
    let loaded = load::load(store, project, name)?;
    if loaded.pool()? != pool {
        return Err(Error::conflict("The instance was moved meanwhile"));
    }
    let (driver, volume) = (pool::need(store, &pool)?, loaded.volume()?);
    let (used, own) = (driver.metadata(&volume)?, driver.own_metadata(&volume)?);
    let home = path::open_root(&own)?;
    tidy(home.as_fd())?;
    if used != own {
        adopt(path::open_root(&used)?.as_fd(), home.as_fd()).context("Failed copying the image's metadata")?;
    }
    then(home.as_fd())?;
    lifecycle::note(store, project, name, event);
    Ok(())
}

/// Removes what killed commands were writing. Nobody else writes: the instance is locked.
pub(super) fn tidy(home: BorrowedFd<'_>) -> Result<()> {
    path::remove_temporaries(home)?;
    folder(home)?.map_or(Ok(()), |folder| path::remove_temporaries(folder.as_fd()))
}

/// Gives the instance, which has none, a copy of the image's files.
fn adopt(image: BorrowedFd<'_>, own: BorrowedFd<'_>) -> Result<()> {
    // Of a command that was killed here: it does not count without metadata.
    if let Some(old) = folder(own)? {
        path::remove_contents(old.as_fd())?;
        path::remove_dir(own, Path::new(TEMPLATES), Links::Refuse)?;
    }
    if let Some(from) = folder(image)? {
        let to = path::create_dir_all(own, Path::new(TEMPLATES), 0, 0, 0o711, Links::Refuse)?;
        copy_tree(from.as_fd(), to.as_fd(), &Ids::none(), &[])?;
        fault::point("metadata.templates")?;
        rustix::fs::syncfs(&to).map_err(Error::from)?;
    }
    for name in [CONFIG, METADATA].map(Path::new) {
        if let Some(data) = optional(path::read_limited(image, name, METADATA_MAX, Links::Refuse))? {
            path::write_replace_durably(own, name, &data, FILE, Links::Refuse)?;
        }
    }
    fault::point("metadata.own")
}
