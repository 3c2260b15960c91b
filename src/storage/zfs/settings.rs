//! What the configuration of a pool says to its driver.

use crate::error::Result;
use crate::model::instance::Config;
use crate::model::keys::{Key, pool as keys, volume};
use crate::storage::formatted::{DEFAULT_SIZE, Format};

/// See the module.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The ZFS pool is exported when the pool is unmounted.
    pub(super) export: bool,
    /// Copies share what they have in common with what they were made from.
    pub(super) clone_copy: bool,
    /// What copies share with an image, if nothing else, stays shared.
    pub(super) rebase: bool,
    /// A size does not count snapshots.
    pub(super) refquota: bool,
    /// The size is set aside.
    pub(super) reserve: bool,
    /// Largest block of new data, bytes.
    pub(super) block: Option<u64>,
    /// Volumes are zvols with a file system on them.
    pub(super) block_mode: bool,
    /// Those file systems.
    pub(super) format: Format,
    /// Size of a zvol that has none, bytes.
    pub(super) size: u64,
}

impl Settings {
    /// Of a pool.
    ///
    /// # Errors
    /// A value is wrong.
    pub fn of(config: &Config) -> Result<Self> {
        let rebase = keys::ZFS_CLONE_COPY.text(config) == "rebase";
        Ok(Self {
            export: keys::ZFS_EXPORT.bool(config)?,
            clone_copy: !rebase && keys::ZFS_CLONE_COPY.bool(config)?,
            rebase,
            refquota: keys::VOLUME_ZFS_USE_REFQUOTA.bool(config)?,
            reserve: keys::VOLUME_ZFS_RESERVE_SPACE.bool(config)?,
            block: keys::VOLUME_ZFS_BLOCKSIZE.size(config)?,
            block_mode: keys::VOLUME_ZFS_BLOCK_MODE.bool(config)?,
            format: Format::of(config)?,
            size: keys::VOLUME_SIZE.size(config)?.filter(|size| *size > 0).unwrap_or(DEFAULT_SIZE),
        })
    }

    /// The same for volumes that have this configuration.
    ///
    /// # Errors
    /// A value is wrong.
    pub(super) fn of_volume(&self, config: &Config) -> Result<Self> {
        let own = |key: &Key, usual| if key.get(config).is_some() { key.bool(config) } else { Ok(usual) };
        Ok(Self {
            refquota: own(&volume::ZFS_USE_REFQUOTA, self.refquota)?,
            reserve: own(&volume::ZFS_RESERVE_SPACE, self.reserve)?,
            block: volume::ZFS_BLOCKSIZE.size(config)?.or(self.block),
            block_mode: own(&volume::ZFS_BLOCK_MODE, self.block_mode)?,
            format: self.format.of_volume(config)?,
            ..self.clone()
        })
    }

    /// Properties that new volumes get that are not in block mode.
    pub(super) fn properties(&self) -> Vec<String> {
        self.block.iter().map(|size| format!("recordsize={size}")).collect()
    }
}
