//! A pool that lost its record: what its group tells of it. For `ops::recover`.

use super::group::{DRIVER, Device, Group, TAG, group_on};
use super::volumes::shows_records;
use super::{names, tool};
use crate::error::{Context, Error, Result};
use crate::model::instance::Config;
use crate::model::keys::pool as keys;
use crate::storage::disk::Disk;
use std::path::{Path, PathBuf};

impl Group {
    /// Completes the configuration of a pool that lost its record by what its group tells: on `disk`, or, without one, called as the
    /// source is. Changes nothing.
    ///
    /// # Errors
    /// Invalid: there is no pool; Conflict: it is in use, and not at `data`.
    pub fn recall(disk: Option<&Disk>, data: &Path, config: &mut Config) -> Result<()> {
        let device = disk.map(Device::of).transpose()?;
        let at = device.as_ref().map_or_else(|| PathBuf::from(keys::SOURCE.text(config)), Device::path);
        let none = || Error::invalid(format!("\"{}\" holds no storage pool", at.display()));
        let name = match device {
            Some(_) => {
                std::fs::File::open(&at).with_context(|| format!("Failed opening \"{}\"", at.display()))?;
                group_on(&at)?.ok_or_else(none)?
            }
            None => at.display().to_string(),
        };
        let mut group = Self { name, id: String::new() };
        let tags = group.find()?.ok_or_else(none)?.tags;
        group.id = tags.iter().find_map(|tag| tag.strip_prefix(TAG)).ok_or_else(none)?.to_string();
        if group.is_ready() && !shows_records(data) {
            return Err(Error::conflict(format!("Volume group \"{}\" is in use", group.name))
                .hint(format!("if not by another state folder: lvchange -an {}", group.at(&group.mark()))));
        }
        // The thin pool bears the tag, too; one of an older version is known by the volumes in it.
        let all = tool::report("lvs", "lv_name,lv_tags,pool_lv", &[&group.name])?;
        let thin = all.iter().find_map(|line| match &line[..] {
            [name, tags, _] if tags.split(',').any(|tag| tag == group.tag()) => Some(name),
            [name, _, pool] if names::is_ours(name) && !pool.is_empty() => Some(pool),
            _ => None,
        });
        keys::LVM_USE_THINPOOL.set(config, thin.is_some().to_string());
        if let Some(thin) = thin {
            keys::LVM_THINPOOL_NAME.set(config, thin);
        }
        keys::LVM_VG_NAME.set(config, group.name);
        keys::ID.set(config, group.id);
        keys::check_each(DRIVER, config)
    }
}
