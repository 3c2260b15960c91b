//! `storage volume list`, `show` and `info`: all volumes of a pool as users see them, those of instances and images too.

use super::{Of, User, all_users, need, need_pool, not_found, project_of};
use crate::base::names::{Fingerprint, InstanceName, PoolName, ProjectName, SnapshotName, VolumeName};
use crate::error::{Error, Kind, Result};
use crate::model::instance::InstanceType;
use crate::model::keys::device::disk;
use crate::model::project::Feature;
use crate::model::view::{VolumeSnapshotView, VolumeView, url};
use crate::model::volume::{ContentType, CustomVolume};
use crate::ops::{features, load, pool, quota};
use crate::storage::{Space, Volume, block};
use crate::store::Store;
use crate::store::lock::{Key, VolumeKey};
use crate::store::types::Snapshot;

/// What a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// One of its own.
    Custom,
    /// An unpacked image.
    Image,
    /// The root of a container.
    Container,
    /// The root of a virtual machine.
    VirtualMachine,
}

impl Type {
    /// Incus's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Custom => "custom",
            Self::Image => "image",
            Self::Container => "container",
            Self::VirtualMachine => "virtual-machine",
        }
    }

    /// From the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Custom, Self::Image, Self::Container, Self::VirtualMachine].into_iter().find(|t| t.as_str() == word)
    }
}

/// All volumes of a pool that the project `project` sees, or of all projects.
///
/// # Errors
/// Not found: the pool. The state folder cannot be read.
pub fn list(store: &Store, project: Option<&ProjectName>, pool: &PoolName) -> Result<Vec<VolumeView>> {
    need_pool(store, pool)?;
    let mut all = Vec::new();
    let projects: Vec<ProjectName> = match project {
        Some(project) => vec![project.clone()],
        None => store.projects()?.into_iter().map(|(name, _)| name).collect(),
    };
    for one in &projects {
        all.extend(roots(store, one, pool)?);
    }
    let mut owners: Vec<ProjectName> = projects.iter().map(|p| project_of(store, p)).collect::<Result<_>>()?;
    owners.sort();
    owners.dedup();
    for owner in &owners {
        all.extend(custom(store, owner, pool)?);
    }
    all.extend(images(store, project, pool)?);
    Ok(all)
}

fn roots(store: &Store, project: &ProjectName, pool: &PoolName) -> Result<Vec<VolumeView>> {
    let mut all = Vec::new();
    for name in store.instance_names(project)? {
        // One that is damaged says nothing of its pool.
        let Ok(loaded) = load::load(store, project, &name) else { continue };
        if !loaded.pool().is_ok_and(|p| p == *pool) {
            continue;
        }
        let root = root_view(&loaded);
        for (snapshot, record) in store.snapshots(project, &name)? {
            let mut view = VolumeView { name: format!("{name}/{snapshot}"), ..root.clone() };
            if let Ok(record) = record {
                view.put = super::root::put_of(&record.instance);
                view.created_at = record.created_at.into();
            }
            all.push(view);
        }
        all.push(root);
    }
    Ok(all)
}

fn root_view(loaded: &load::Loaded) -> VolumeView {
    let kind = match loaded.instance.kind {
        InstanceType::Container => Type::Container,
        InstanceType::VirtualMachine => Type::VirtualMachine,
    };
    let used_by = vec![url::instance(&loaded.project, &loaded.name)];
    let created_at = loaded.instance.created_at.into();
    let put = super::root::put_of(&loaded.instance);
    VolumeView { put, used_by, created_at, ..VolumeView::of(kind.as_str(), &loaded.project, &loaded.name) }
}

/// They are the default project's; each project is told of those whose images it has.
fn images(store: &Store, project: Option<&ProjectName>, pool: &PoolName) -> Result<Vec<VolumeView>> {
    let unpacked = pool::open(store, pool).ok().flatten().and_then(|d| d.images().ok()).unwrap_or_default();
    let owner = project.map(|project| features::owner(store, project, Feature::Images)).transpose()?;
    let mut all = Vec::new();
    for image in unpacked {
        let owners = store.image_owners(&image)?;
        if owner.as_ref().is_none_or(|one| owners.contains(one) || owners.is_empty() && one.is_default()) {
            all.push(image_view(store, &image)?);
        }
    }
    Ok(all)
}

fn image_view(store: &Store, image: &Fingerprint) -> Result<VolumeView> {
    let project = ProjectName::default();
    let used_by = store.image_owners(image)?.iter().map(|p| url::image(p, image)).collect();
    Ok(VolumeView { used_by, ..VolumeView::of(Type::Image.as_str(), &project, image) })
}

/// What is wrong with a damaged one stands in its description.
fn custom(store: &Store, owner: &ProjectName, pool: &PoolName) -> Result<Vec<VolumeView>> {
    let mut users = all_users(store, owner)?;
    let mut all = Vec::new();
    for (name, found) in store.volumes(owner, pool)? {
        let key = VolumeKey { project: owner.clone(), pool: pool.clone(), name };
        let record = found.unwrap_or_else(|e| broken(&e));
        let view = custom_view(&key, &record, &users.remove(&key.file_key()).unwrap_or_default());
        for (snapshot, found) in store.volume_snapshots(&key)? {
            let mut one = VolumeView { name: format!("{}/{snapshot}", key.name), ..view.clone() };
            match found {
                Ok(found) => {
                    one.put.config = found.config;
                    one.put.description = found.description;
                    one.created_at = found.created_at.into();
                }
                Err(e) => one.put.description = format!("ERROR: {e}"),
            }
            all.push(one);
        }
        all.push(view);
    }
    Ok(all)
}

fn custom_view(key: &VolumeKey, record: &CustomVolume, users: &[User]) -> VolumeView {
    let used_by = users.iter().map(User::address).collect();
    let mut view = VolumeView::custom(&key.project, &key.name, record, used_by);
    if users.iter().any(|user| user.dependent) {
        disk::DEPENDENT.set(&mut view.put.config, "true");
    }
    view
}

fn broken(e: &Error) -> CustomVolume {
    CustomVolume {
        format: 1,
        description: format!("ERROR: {e}"),
        content_type: ContentType::Filesystem,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        config: crate::model::instance::Config::new(),
    }
}

/// One volume by its type and name.
///
/// # Errors
/// Not found; its record is damaged.
pub fn show(store: &Store, project: &ProjectName, pool: &PoolName, (kind, name): (Type, &str)) -> Result<VolumeView> {
    need_pool(store, pool)?;
    match kind {
        Type::Custom => {
            let name = VolumeName::parse(name).map_err(|_| not_found())?;
            let key = Of { project, pool, name: &name }.key(store)?;
            let record = need(store, &key)?;
            Ok(custom_view(&key, &record, &super::users(store, &key)?))
        }
        Type::Image => {
            let image = Fingerprint::parse(name).map_err(|_| not_found())?;
            match pool::need(store, pool)?.has_image(&image)? {
                true => image_view(store, &image),
                false => Err(not_found()),
            }
        }
        Type::Container | Type::VirtualMachine => {
            let name = InstanceName::parse(name).map_err(|_| not_found())?;
            let loaded = load::load(store, project, &name).map_err(|e| match e.kind() {
                Kind::NotFound => not_found(),
                _ => e,
            })?;
            let view = root_view(&loaded);
            match loaded.pool()? == *pool && view.kind == kind.as_str() {
                true => Ok(view),
                false => Err(not_found()),
            }
        }
    }
}

/// A snapshot of the root volume of an instance.
///
/// # Errors
/// Not found; its record is damaged.
pub fn root_snapshot(
    store: &Store,
    (project, name): (&ProjectName, &InstanceName),
    pool: &PoolName,
    snapshot: &SnapshotName,
) -> Result<VolumeSnapshotView> {
    show(store, project, pool, (Type::Container, name.as_str()))?;
    let found = store.snapshot(project, name, snapshot)?.ok_or_else(super::snapshot::not_found)?;
    Ok(root_snapshot_view(snapshot, found))
}

/// The snapshots of the root volume of an instance, oldest first, but for those whose records are damaged.
///
/// # Errors
/// The state folder cannot be read.
pub fn root_snapshots(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<Vec<VolumeSnapshotView>> {
    let found = store.snapshots(project, name)?.into_iter();
    let mut all: Vec<_> = found.filter_map(|(name, found)| Some(root_snapshot_view(&name, found.ok()?))).collect();
    all.sort_by_key(|view| view.created_at);
    Ok(all)
}

/// The snapshots of a volume of any type. Images have none.
///
/// # Errors
/// Not found.
pub fn snapshots_of(
    store: &Store,
    project: &ProjectName,
    pool: &PoolName,
    (kind, name): (Type, &str),
) -> Result<Vec<VolumeSnapshotView>> {
    if kind == Type::Custom {
        let name = VolumeName::parse(name).map_err(|_| not_found())?;
        return snapshots(store, Of { project, pool, name: &name });
    }
    show(store, project, pool, (kind, name))?;
    match kind {
        Type::Container => root_snapshots(store, project, &InstanceName::parse(name)?),
        _ => Ok(Vec::new()),
    }
}

fn root_snapshot_view(name: &SnapshotName, found: Snapshot) -> VolumeSnapshotView {
    let record = crate::model::volume::VolumeSnapshot {
        format: 1,
        description: found.instance.root.description,
        created_at: found.created_at,
        expires_at: found.expires_at,
        scheduled_for: None,
        config: found.instance.root.config,
    };
    VolumeSnapshotView::new(name.as_str(), ContentType::Filesystem, &record)
}

/// The snapshots of a custom volume; what is wrong with a damaged one stands in its description.
///
/// # Errors
/// Not found.
pub fn snapshots(store: &Store, of: Of<'_>) -> Result<Vec<VolumeSnapshotView>> {
    let key = of.key(store)?;
    let content = need(store, &key)?.content_type;
    let view = |(name, found): (SnapshotName, Result<crate::model::volume::VolumeSnapshot>)| match found {
        Ok(snapshot) => VolumeSnapshotView::new(&name_of(&name), content, &snapshot),
        Err(e) => {
            let record = broken(&e);
            VolumeSnapshotView::new(
                &name_of(&name),
                content,
                &crate::model::volume::VolumeSnapshot {
                    format: 1,
                    description: record.description,
                    created_at: record.created_at,
                    expires_at: None,
                    scheduled_for: None,
                    config: record.config,
                },
            )
        }
    };
    let mut all: Vec<VolumeSnapshotView> = store.volume_snapshots(&key)?.into_iter().map(view).collect();
    all.sort_by_key(|view| view.created_at);
    Ok(all)
}

fn name_of(name: &SnapshotName) -> String {
    name.to_string()
}

/// What a volume takes up and its size, 0 if it has none; none if that is not known of its type.
///
/// # Errors
/// Not found; a folder cannot be read.
pub fn usage(store: &Store, view: &VolumeView, pool: &PoolName) -> Result<Option<Space>> {
    let project = ProjectName::parse(&view.project)?;
    let volume = match Type::parse(&view.kind) {
        Some(Type::Custom) if !view.name.contains('/') => Volume::custom(&project, &VolumeName::parse(&view.name)?)?,
        Some(Type::Container) if !view.name.contains('/') => {
            Volume::container(&project, &InstanceName::parse(&view.name)?)?
        }
        _ => return Ok(None),
    };
    let driver = pool::need(store, pool)?;
    if view.content_type != ContentType::Filesystem.as_str() {
        let (used, total) = (driver.usage(&volume)?.bytes, block::size(driver.as_ref(), &volume)?);
        return Ok(Some(Space { used, total }));
    }
    quota::in_use(driver.as_ref(), &volume).map(Some)
}
