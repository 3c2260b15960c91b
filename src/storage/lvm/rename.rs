//! Gives the group of a pool and its thin pool other names, in use or not: what is mounted stays so, the kernel's devices take the
//! new names. For `storage set`, which holds the pool alone, and for recovery, which goes back.

use super::group::{Device, Group};
use super::settings::Settings;
use super::{names, tool};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::storage::disk::Disk;

impl Group {
    /// Can it be called as `to` is? Changes nothing.
    ///
    /// # Errors
    /// Exists: a group or a volume has the name; Invalid: the name is one of ours, or too long for a volume.
    pub fn check_rename(&self, how: &Settings, (to, then): (&Self, &Settings)) -> Result<()> {
        let all = self.volumes()?;
        if to.name != self.name {
            if to.find()?.is_some() {
                return Err(Error::exists(format!("A volume group already exists called \"{}\"", to.name)));
            }
            let volumes = || all.iter().filter_map(|name| names::parse_volume(name));
            if let Some(volume) = volumes().find(|volume| !names::fits(&to.name, volume)) {
                return Err(Error::invalid(format!("\"{}\" is too long for volume \"{}\"", to.name, volume.name())));
            }
        }
        match &then.thin {
            Some(new) if then.thin != how.thin => {
                if names::is_ours(new) || *new == self.mark() {
                    return Err(Error::invalid(format!("Invalid name {new:?}")));
                }
                match all.contains(new) {
                    true => {
                        Err(Error::exists(format!("Volume group \"{}\" has a volume \"{new}\" already", self.name)))
                    }
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Has the group, on `disk` if that is the pool's, be called as `to` is, and its thin pool as `then` says. From wherever a kill
    /// left it; repeated: nothing happens.
    ///
    /// # Errors
    /// NotFound: it has neither name; what LVM says.
    pub fn rename(&self, disk: Option<&Disk>, how: &Settings, (to, then): (&Self, &Settings)) -> Result<()> {
        // After a boot it may not be in use yet.
        let _device = disk.map(Device::of).transpose()?;
        let is_ours =
            |group: &Self| Ok::<_, Error>(group.find()?.is_some_and(|found| found.tags.contains(&self.tag())));
        if to.name != self.name && !is_ours(to)? {
            if !is_ours(self)? {
                return Err(Error::not_found(format!("Volume group \"{}\" doesn't exist", self.name)));
            }
            tool::lvm("vgrename", [&self.name, &to.name])
                .with_context(|| format!("Error renaming LVM volume group from {:?} to {:?}", self.name, to.name))?;
            fault::point("pool.group.renamed")?;
        }
        let (Some(old), Some(new)) = (&how.thin, &then.thin) else { return Ok(()) };
        if old != new && to.volumes()?.contains(old) {
            tool::lvm("lvrename", [&to.name, old, new])
                .with_context(|| format!("Error renaming LVM thin pool from {old:?} to {new:?}"))?;
            fault::point("pool.thin.renamed")?;
        }
        Ok(())
    }
}
