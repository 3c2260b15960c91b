//! What the configuration of a pool says to its driver.

use crate::error::Result;
use crate::model::instance::Config;
use crate::model::keys::pool as keys;

/// See the module.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The ZFS pool is exported when the pool is unmounted.
    pub(super) export: bool,
    /// Copies share what they have in common with what they were made from.
    pub(super) clone_copy: bool,
    /// A size does not count snapshots.
    pub(super) refquota: bool,
    /// The size is set aside.
    pub(super) reserve: bool,
    /// Properties that new volumes get.
    pub(super) properties: Vec<String>,
}

impl Settings {
    /// Of a pool.
    ///
    /// # Errors
    /// A value is wrong.
    pub fn of(config: &Config) -> Result<Self> {
        let block = keys::VOLUME_ZFS_BLOCKSIZE.size(config)?;
        Ok(Self {
            export: keys::ZFS_EXPORT.bool(config)?,
            clone_copy: keys::ZFS_CLONE_COPY.text(config) != "rebase" && keys::ZFS_CLONE_COPY.bool(config)?,
            refquota: keys::VOLUME_ZFS_USE_REFQUOTA.bool(config)?,
            reserve: keys::VOLUME_ZFS_RESERVE_SPACE.bool(config)?,
            properties: block.iter().map(|size| format!("recordsize={size}")).collect(),
        })
    }
}
