//! What the configuration of a pool says to its driver.

use super::tool;
use crate::error::Result;
use crate::model::instance::Config;
use crate::model::keys::{Key, pool as keys, volume};
use crate::storage::formatted::{DEFAULT_SIZE, Format};

/// See the module.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The thin pool; None: volumes take their whole size.
    pub(super) thin: Option<String>,
    /// A group that holds something may be adopted.
    pub(super) reuse: bool,
    /// Room for LVM's metadata on the disk, bytes.
    pub(super) metadata: Option<u64>,
    /// Room for the thin pool's metadata, bytes.
    pub(super) pool_metadata: Option<u64>,
    /// The file systems of volumes.
    pub(super) format: Format,
    /// Size of a volume that has none, bytes.
    pub(super) size: u64,
    /// Options of lvcreate(8) for a volume that is not thin.
    pub(super) stripes: Vec<String>,
}

impl Settings {
    /// Of a pool.
    ///
    /// # Errors
    /// A value is wrong.
    pub fn of(config: &Config) -> Result<Self> {
        let thin = keys::LVM_USE_THINPOOL.bool(config)?;
        Ok(Self {
            thin: thin.then(|| keys::LVM_THINPOOL_NAME.text(config).to_string()),
            reuse: keys::LVM_FORCE_REUSE.bool(config)?,
            metadata: keys::LVM_METADATA_SIZE.size(config)?.filter(|size| *size > 0),
            pool_metadata: keys::LVM_THINPOOL_METADATA_SIZE.size(config)?.filter(|size| *size > 0),
            format: Format::of(config)?,
            size: keys::VOLUME_SIZE.size(config)?.filter(|size| *size > 0).unwrap_or(DEFAULT_SIZE),
            stripes: stripes(&keys::VOLUME_LVM_STRIPES, &keys::VOLUME_LVM_STRIPES_SIZE, config)?,
        })
    }

    /// The same for volumes with this configuration.
    ///
    /// # Errors
    /// A value is wrong.
    pub(super) fn of_volume(&self, config: &Config) -> Result<Self> {
        let striped = [&volume::LVM_STRIPES, &volume::LVM_STRIPES_SIZE].iter().any(|key| key.get(config).is_some());
        Ok(Self {
            format: self.format.of_volume(config)?,
            stripes: match striped {
                true => stripes(&volume::LVM_STRIPES, &volume::LVM_STRIPES_SIZE, config)?,
                false => self.stripes.clone(),
            },
            ..self.clone()
        })
    }
}

/// How large a volume is that holds a disk of that size, bytes: what the file system needs itself and what it notes of the
/// file, be that in as many pieces as it can.
pub(super) fn room_for_disk(size: u64) -> u64 {
    size.saturating_add(size / 64).saturating_add(96 << 20)
}

fn stripes(count: &Key, size: &Key, config: &Config) -> Result<Vec<String>> {
    let mut words = Vec::new();
    if let Some(count) = count.get(config) {
        words.extend(["-i".to_string(), count.to_string()]);
        if let Some(size) = size.size(config)? {
            words.extend(["-I".to_string(), tool::bytes(size)]);
        }
    }
    Ok(words)
}
