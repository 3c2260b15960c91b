//! `admin init`: choosing what first use would make by itself, from a document; and that document of what there is.

use super::config::{self, Change};
use super::network::{self, change};
use super::volume::{self, Of};
use super::{first_use, pool, profile, project_change, storage};
use crate::base::names::{NetworkName, PoolName, ProfileName, ProjectName, VolumeName};
use crate::error::{Context, Error, Kind, Result};
use crate::fault;
use crate::model::instance::{Config, Device, Devices};
use crate::model::keys::{self as registry, pool as keys};
use crate::model::network::NetworkType;
use crate::model::view::{
    NetworkPut, Preseed, PreseedNetwork, PreseedPool, PreseedProfile, PreseedProject, PreseedVolume, ProfilePut,
    ProjectPut, ServerPut, VolumePut,
};
use crate::model::volume::ContentType;
use crate::store::Store;

/// How a step is taken back.
type Undo<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// Makes what the document names, or changes what is there to what it says. Each object is whole or not there if the command
/// is killed; it can be given again. Takes the locks of each object in turn.
///
/// # Errors
/// The first thing that cannot be done; what was done before it is taken back.
pub fn preseed(store: &Store, wanted: &Preseed) -> Result<()> {
    if let Some(section) = wanted.unsupported() {
        let text = format!("\"{section}\" in a preseed is not supported by this version");
        return Err(Error::unsupported(text).hint("leave the section out"));
    }
    let mut undo = Vec::new();
    all(store, wanted, &mut undo).map_err(|e| {
        let back = undo.into_iter().rev().map(|step: Undo<'_>| step());
        back.filter_map(Result::err).fold(e, Error::and)
    })
}

fn all<'a>(store: &'a Store, wanted: &Preseed, undo: &mut Vec<Undo<'a>>) -> Result<()> {
    if !wanted.config.is_empty() {
        let before = config::server(store)?;
        config::server_keys(store, &Change::Set(wanted.config.clone().into_iter().collect()))
            .context("Failed to update server configuration")?;
        undo.push(Box::new(move || restore(store, &before)));
    }
    for project in &wanted.projects {
        let fail = || format!("Failed to set up project \"{}\"", project.name);
        undo.push(one_project(store, project).with_context(fail)?);
    }
    for network in &wanted.networks {
        let fail = || format!("Failed to set up network \"{}\"", network.name);
        undo.push(one_network(store, network).with_context(fail)?);
    }
    for pool in &wanted.storage_pools {
        let fail = || format!("Failed to set up storage pool \"{}\"", pool.name);
        undo.push(one_pool(store, pool).with_context(fail)?);
        fault::point("init.pool")?;
    }
    for volume in &wanted.storage_volumes {
        let fail = || format!("Failed to set up storage volume \"{}\"", volume.name);
        undo.push(one_volume(store, volume).with_context(fail)?);
    }
    for profile in &wanted.profiles {
        let fail = || format!("Failed to set up profile \"{}\"", profile.name);
        undo.push(one_profile(store, profile).with_context(fail)?);
    }
    Ok(())
}

/// The pool that `admin init --auto` is to make; nothing: what first use makes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auto {
    /// Driver.
    pub backend: Option<String>,
    /// Block device.
    pub device: Option<String>,
    /// Size of a file for it, GiB.
    pub loop_size: Option<u64>,
    /// Its name, with a device or a file; else its source.
    pub pool: Option<String>,
}

impl Auto {
    /// Checks it as Incus does; the messages are Incus's.
    ///
    /// # Errors
    /// Invalid.
    pub fn check(&self) -> Result<()> {
        let backend = self.backend.as_deref().unwrap_or("dir");
        if !["dir", "overlay", "btrfs", "lvm", "zfs"].contains(&backend) {
            return Err(Error::invalid(format!("The requested backend '{backend}' isn't supported by init")));
        }
        let any = self.device.is_some() || self.loop_size.is_some() || self.pool.is_some();
        if any && matches!(backend, "dir" | "overlay") {
            return Err(Error::invalid(format!(
                "None of --storage-pool, --storage-create-device or --storage-create-loop may be used with the '{backend}' backend"
            )));
        }
        match self.device.is_some() && self.loop_size.is_some() {
            true => {
                Err(Error::invalid("Only one of --storage-create-device or --storage-create-loop can be specified"))
            }
            false => Ok(()),
        }
    }
}

/// Makes the pool of `auto`, and what else first use makes; why the host cannot have a network, in words.
///
/// # Errors
/// Invalid; Conflict: there are pools already; as [`preseed`].
pub fn auto(store: &Store, auto: &Auto) -> Result<Option<Error>> {
    auto.check()?;
    let Some(backend) = &auto.backend else { return first_use::ensure(store) };
    if !store.pools()?.is_empty() {
        return Err(Error::conflict("Storage has already been configured"));
    }
    let made = auto.device.is_some() || auto.loop_size.is_some();
    let name = auto.pool.as_deref().filter(|_| made).unwrap_or(pool::DEFAULT);
    let mut config = Config::new();
    if let Some(source) = auto.device.as_deref().or(auto.pool.as_deref().filter(|_| !made)) {
        keys::SOURCE.set(&mut config, source);
    }
    if let Some(size) = auto.loop_size {
        keys::SIZE.set(&mut config, format!("{size}GiB"));
    }
    let wanted = PreseedPool { config, name: name.to_string(), driver: backend.clone(), ..PreseedPool::default() };
    let root =
        [("type", "disk"), ("path", "/"), ("pool", name)].map(|(key, value)| (key.to_string(), value.to_string()));
    let devices = Devices::from([("root".to_string(), Device::from(root))]);
    let profile = PreseedProfile { name: "default".into(), devices, ..PreseedProfile::default() };
    preseed(store, &Preseed { storage_pools: vec![wanted], profiles: vec![profile], ..Preseed::default() })?;
    first_use::network(store)
}

/// The server's keys as they were.
fn restore(store: &Store, before: &ServerPut) -> Result<()> {
    let now = config::server(store)?.config;
    let new = now.into_keys().filter(|key| !before.config.contains_key(key)).collect();
    config::server_keys(store, &Change::Unset(new))?;
    config::server_keys(store, &Change::Set(before.config.clone().into_iter().collect()))
}

fn project_of(name: &str) -> Result<ProjectName> {
    if name.is_empty() { Ok(ProjectName::default()) } else { ProjectName::parse(name) }
}

fn one_project<'a>(store: &'a Store, wanted: &PreseedProject) -> Result<Undo<'a>> {
    let name = ProjectName::parse(&wanted.name)?;
    let Some(old) = store.project(&name)? else {
        let put = ProjectPut { config: wanted.config.clone(), description: wanted.description.clone() };
        project_change::create(store, &name, &put)?;
        return Ok(Box::new(move || project_change::delete(store, &name, false)));
    };
    // What is not named stays.
    project_change::update(store, &name, &mut |put| {
        put.description.clone_from(&wanted.description);
        put.config.extend(wanted.config.clone());
        Ok(())
    })?;
    let before = ProjectPut { config: old.config, description: old.description };
    Ok(Box::new(move || {
        project_change::update(store, &name, &mut |put| {
            put.clone_from(&before);
            Ok(())
        })
    }))
}

fn one_volume<'a>(store: &'a Store, wanted: &PreseedVolume) -> Result<Undo<'a>> {
    let (project, pool) = (project_of(&wanted.project)?, PoolName::parse(&wanted.pool)?);
    let name = VolumeName::parse(&wanted.name)?;
    if !matches!(wanted.kind.as_str(), "" | "custom") {
        return Err(Error::invalid("Only \"custom\" volumes can be created"));
    }
    let content = ContentType::parse(&wanted.content_type).filter(|content| *content != ContentType::Iso);
    let content = content.ok_or_else(|| Error::invalid(format!("Invalid content type {:?}", wanted.content_type)))?;
    let of = Of { project: &project, pool: &pool, name: &name };
    let Some(old) = store.volume(&of.key(store)?)? else {
        let put = VolumePut { config: wanted.config.clone(), description: wanted.description.clone() };
        volume::change::create(store, of, content, put)?;
        return Ok(Box::new(move || volume::change::delete(store, Of { project: &project, pool: &pool, name: &name })));
    };
    if old.content_type != content {
        return Err(Error::conflict(format!("The volume is of content type {:?}", old.content_type.as_str())));
    }
    // What is not named stays.
    volume::change::update(store, of, &mut |put| {
        put.description.clone_from(&wanted.description);
        put.config.extend(wanted.config.clone());
        Ok(())
    })?;
    let before = VolumePut { config: old.config, description: old.description };
    Ok(Box::new(move || {
        volume::change::update(store, Of { project: &project, pool: &pool, name: &name }, &mut |put| {
            put.clone_from(&before);
            Ok(())
        })
    }))
}

fn one_network<'a>(store: &'a Store, wanted: &PreseedNetwork) -> Result<Undo<'a>> {
    let (project, name) = (project_of(&wanted.project)?, NetworkName::parse(&wanted.name)?);
    let kind = NetworkType::parse(&wanted.kind)?;
    let Some(old) = store.network(&network::project_of(store, &project)?, &name)? else {
        let (config, description) = (wanted.config.clone(), wanted.description.clone());
        let request = change::Request { project: project.clone(), name: name.clone(), kind, description, config };
        change::create(store, &request)?;
        return Ok(Box::new(move || change::delete(store, &project, &name)));
    };
    if old.kind != kind {
        return Err(Error::conflict(format!("The network is of type \"{}\"", old.kind.as_str())));
    }
    // What is not named stays.
    change::update(store, &project, &name, &mut |put| {
        put.description.clone_from(&wanted.description);
        put.config.extend(wanted.config.clone());
        Ok(())
    })?;
    let before = NetworkPut { config: old.config, description: old.description };
    Ok(Box::new(move || {
        change::update(store, &project, &name, &mut |put| {
            put.clone_from(&before);
            Ok(())
        })
    }))
}

fn one_pool<'a>(store: &'a Store, wanted: &PreseedPool) -> Result<Undo<'a>> {
    let name = PoolName::parse(&wanted.name)?;
    let (config, description) = (wanted.config.clone(), wanted.description.clone());
    let Some(old) = store.pool(&name)? else {
        let request = storage::Request { name: name.clone(), driver: wanted.driver.clone(), description, config };
        storage::create(store, &request)?;
        return Ok(Box::new(move || storage::delete(store, &name)));
    };
    if !wanted.driver.is_empty() && wanted.driver != old.driver {
        return Err(Error::conflict(format!("The storage pool has the driver \"{}\"", old.driver)));
    }
    let mut before = None;
    // What is not named stays.
    storage::update(store, &name, &mut |put| {
        before = Some(put.clone());
        if !wanted.description.is_empty() {
            put.description.clone_from(&wanted.description);
        }
        put.config.extend(wanted.config.clone());
        Ok(())
    })?;
    let before = before.unwrap_or_default();
    Ok(Box::new(move || {
        storage::update(store, &name, &mut |put| {
            // It does not become smaller again.
            let size = keys::SIZE.remove(&mut put.config);
            put.clone_from(&before);
            size.into_iter().for_each(|size| keys::SIZE.set(&mut put.config, size));
            Ok(())
        })
    }))
}

fn one_profile<'a>(store: &'a Store, wanted: &PreseedProfile) -> Result<Undo<'a>> {
    let (project, name) = (project_of(&wanted.project)?, ProfileName::parse(&wanted.name)?);
    let mut before = None;
    let update = |put: &mut ProfilePut| {
        before = Some(put.clone());
        if !wanted.description.is_empty() {
            put.description.clone_from(&wanted.description);
        }
        put.config.extend(wanted.config.clone());
        put.devices.extend(wanted.devices.clone());
        Ok(())
    };
    match profile::update(store, &project, &name, &mut { update }) {
        Ok(()) => {}
        Err(e) if e.kind() == Kind::NotFound && store.profile(&project, &name)?.is_none() => {
            let (config, description) = (wanted.config.clone(), wanted.description.clone());
            let put = ProfilePut { config, description, devices: wanted.devices.clone() };
            profile::create(store, &project, &name, &put)?;
            return Ok(Box::new(move || profile::delete(store, &project, &name)));
        }
        Err(e) => return Err(e),
    }
    let before = before.unwrap_or_default();
    Ok(Box::new(move || {
        profile::update(store, &project, &name, &mut |put| {
            put.clone_from(&before);
            Ok(())
        })
    }))
}

/// What there is, as a document that makes the same again.
///
/// # Errors
/// The state folder cannot be read; a record is damaged.
pub fn dump(store: &Store) -> Result<Preseed> {
    let mut all = Preseed { config: config::server(store)?.config, ..Preseed::default() };
    for (project, found) in store.projects()? {
        let found = found?;
        let name = project.to_string();
        all.projects.push(PreseedProject { config: found.config, description: found.description, name });
        for (name, network) in store.networks(&project)? {
            let network = network?;
            all.networks.push(PreseedNetwork {
                config: network.config,
                description: network.description,
                name: name.to_string(),
                kind: network.kind.as_str().to_string(),
                project: project.to_string(),
            });
        }
        for (name, profile) in store.profiles(&project)? {
            let profile = profile?;
            let (config, description, devices) = (profile.config, profile.description, profile.devices);
            let (name, project) = (name.to_string(), project.to_string());
            all.profiles.push(PreseedProfile { config, description, devices, name, project });
        }
    }
    for (project, pool) in store.volume_places()? {
        for (name, volume) in store.volumes(&project, &pool)? {
            let volume = volume?;
            // What is in a disc cannot be said here.
            if volume.content_type == ContentType::Iso {
                continue;
            }
            all.storage_volumes.push(PreseedVolume {
                config: volume.config,
                description: volume.description,
                name: name.to_string(),
                kind: "custom".to_string(),
                content_type: volume.content_type.as_str().to_string(),
                pool: pool.to_string(),
                project: project.to_string(),
            });
        }
    }
    for (name, pool) in store.pools()? {
        let pool = pool?;
        let config = pool.config.into_iter().filter(|(key, _)| !registry::is_volatile(key)).collect();
        let (name, driver) = (name.to_string(), pool.driver);
        all.storage_pools.push(PreseedPool { config, description: pool.description, name, driver });
    }
    Ok(all)
}
