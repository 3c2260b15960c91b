//! What recovery cannot do in the store, because it takes storage: see `store::undo`. Every action is idempotent and takes
//! no lock of the store but an allocator's.

use super::{cpus, disk_live, live, network, nic_live, nics, pool, pool_lvm, pool_place, proxy_live, quota};
use crate::base::names::{Fingerprint, InstanceName, NetworkName, PoolName, ProjectName, SnapshotName, VolumeName};
use crate::error::{Error, Result};
use crate::storage::{Driver, ImageFate, Staging, Trash, Volume, VolumeKind};
use crate::store::layout::Layout;
use crate::store::undo::{Volume as Named, VolumeKind as Kind};
use crate::store::{Access, Action, Store, Undoer};

/// The undoer of every front.
#[derive(Debug)]
pub struct OpsUndoer;

/// Opens the store as every command does.
///
/// # Errors
/// As [`Store::open_with`].
pub fn open(layout: &Layout, access: Access) -> Result<Store> {
    Store::open_with(layout, access, &OpsUndoer)
}

impl Undoer for OpsUndoer {
    fn perform(&self, store: &Store, action: &Action) -> Result<()> {
        match action {
            Action::RemoveVolume(v) | Action::FinishRestore(v) | Action::AbortRestore(v) => in_pool(store, v, action),
            Action::RenameVolume { volume, .. } => in_pool(store, volume, action),
            Action::ReleasePool { pool, source, id, group } => {
                pool_place::release(store, &PoolName::parse(pool)?, (source, id), group)
            }
            Action::RenewSize(v) => quota::renew(store, v),
            Action::RenameGroup { pool, from, to } => pool_lvm::rename(store, &PoolName::parse(pool)?, (from, to)),
            Action::EvictImage { pool, image } => {
                let driver = pool::open(store, &PoolName::parse(pool)?)?;
                driver.map_or(Ok(()), |driver| evict(driver.as_ref(), &Fingerprint::parse(image)?))
            }
            Action::GrowPool { pool } => pool_place::grow(store, &PoolName::parse(pool)?),
            Action::FreeCpus { project, name } => {
                cpus::release(store, (&ProjectName::parse(project)?, &InstanceName::parse(name)?))
            }
            Action::RenewLimits { project, name } => {
                live::renew(store, &ProjectName::parse(project)?, &InstanceName::parse(name)?)
            }
            Action::RenewNics { project, name, devices } => {
                nic_live::renew(store, &ProjectName::parse(project)?, &InstanceName::parse(name)?, devices)
            }
            Action::RenewDisks { project, name, devices } => {
                disk_live::renew(store, &ProjectName::parse(project)?, &InstanceName::parse(name)?, devices)
            }
            Action::RenewProxies { project, name, devices } => {
                proxy_live::renew(store, &ProjectName::parse(project)?, &InstanceName::parse(name)?, devices)
            }
            Action::RenewAcls { project } => network::rules::renew_all(store, &ProjectName::parse(project)?),
            Action::RenewZones => {
                network::zone_server::follow(store);
                Ok(())
            }
            Action::StopDevices { project, name } => {
                let who = (&ProjectName::parse(project)?, &InstanceName::parse(name)?);
                store.end_proxies(who.0, who.1)?;
                network::nat::end(store, who)?;
                nics::end(store, who)?;
                nics::release(store, who);
                Ok(())
            }
            Action::RenewForwards { project, name } => {
                network::forwards::renew(store, &ProjectName::parse(project)?, &NetworkName::parse(name)?)
            }
            other => Err(Error::internal(format!("Nobody here can undo {other:?}"))),
        }
    }
}

/// The actions on a volume; where its pool is gone, there is nothing to do.
fn in_pool(store: &Store, named: &Named, action: &Action) -> Result<()> {
    let Some(driver) = pool::open(store, &PoolName::parse(&named.pool)?)? else { return Ok(()) };
    match action {
        Action::RemoveVolume(v) => {
            if v.kind == Kind::Image {
                return image(store, driver.as_ref(), &v.name);
            }
            let volume = volume(v)?;
            driver.delete(&volume)?;
            empty(driver.as_ref(), |trash| trash.was_volume(&volume))
        }
        Action::FinishRestore(v) => {
            let volume = volume(v)?;
            driver.finish_restore(&volume)?;
            empty(driver.as_ref(), |trash| trash.was_volume(&volume))
        }
        Action::AbortRestore(v) => driver.abort_restore(&volume(v)?),
        Action::RenameVolume { volume: from, to } => {
            let target = volume(&Named { name: to.clone(), ..from.clone() })?;
            let from = volume(from)?;
            match (driver.exists(&from)?, driver.exists(&target)?) {
                // Done already, but perhaps for what goes with it.
                (true, false) | (false, true) => driver.rename(&from, &target),
                _ => Ok(()),
            }
        }
        other => Err(Error::internal(format!("{other:?} is about no volume"))),
    }
}

/// Removes an unpacked image, named by its fingerprint (it stays if it is used or recorded) or as it was being unpacked.
fn image(store: &Store, driver: &dyn Driver, name: &str) -> Result<()> {
    let Ok(fingerprint) = Fingerprint::parse(name) else {
        let staging = Staging::parse(name)?;
        driver.abort_image(&staging)?;
        return empty(driver, |trash| trash.was_staging(&staging));
    };
    if !store.image_owners(&fingerprint)?.is_empty() {
        return Ok(());
    }
    evict(driver, &fingerprint)
}

/// Removes an unpacked image unless it is used.
fn evict(driver: &dyn Driver, image: &Fingerprint) -> Result<()> {
    match driver.delete_image(image)? {
        ImageFate::Gone(_) => empty(driver, |trash| trash.was_image(image)),
        ImageFate::InUse(_) => Ok(()),
    }
}

/// Frees what of this was moved into the trash, now or by a command that was killed before it could.
fn empty(driver: &dyn Driver, was: impl Fn(&Trash) -> bool) -> Result<()> {
    driver.trash()?.iter().filter(|trash| was(trash)).try_for_each(|trash| driver.empty(trash))
}

/// That of a snapshot.
fn snapshot(v: &Named) -> Result<Volume> {
    let wrong = || Error::internal(format!("A journal names the snapshot {:?}", v.name));
    let (name, snapshot) = v.name.split_once('@').ok_or_else(wrong)?;
    let kind = if v.kind == Kind::ContainerSnapshot { Kind::Container } else { Kind::Custom };
    volume(&Named { kind, name: name.to_string(), ..v.clone() })?.snapshot(&SnapshotName::parse(snapshot)?)
}

/// The storage layer's name of a volume in a journal.
fn volume(v: &Named) -> Result<Volume> {
    match v.kind {
        Kind::Container => Volume::container(&ProjectName::parse(&v.project)?, &InstanceName::parse(&v.name)?),
        Kind::ContainerSnapshot | Kind::CustomSnapshot => snapshot(v),
        Kind::VirtualMachine => Volume::new(VolumeKind::VirtualMachine, &v.name),
        Kind::Custom => Volume::custom(&ProjectName::parse(&v.project)?, &VolumeName::parse(&v.name)?),
        Kind::Image => Err(Error::internal("An image is no volume of an instance")),
    }
}
