//! Who uses a volume: the instances that have it among their devices or get it from a profile, and the profiles.

use super::{dependent, of_device};
use crate::base::names::{InstanceName, ProfileName, ProjectName};
use crate::error::Result;
use crate::model::instance::Devices;
use crate::model::project::Feature;
use crate::model::view::url;
use crate::ops::{features, load};
use crate::store::Store;
use crate::store::lock::{Key, VolumeKey};
use std::collections::BTreeMap;

/// An instance or a profile that uses a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its project.
    pub project: ProjectName,
    /// The instance.
    pub instance: Option<InstanceName>,
    /// The profile, if it is one.
    pub profile: Option<ProfileName>,
    /// The volume goes with it.
    pub dependent: bool,
}

impl User {
    /// As `used_by` lists it.
    pub fn address(&self) -> String {
        match (&self.instance, &self.profile) {
            (Some(name), _) => url::instance(&self.project, name),
            (None, Some(name)) => url::profile(&self.project, name),
            (None, None) => url::project(&self.project),
        }
    }
}

/// The users of the volumes of the project `owner`, by the file keys of the volumes' locks. A record that cannot be read uses
/// none.
///
/// # Errors
/// The state folder cannot be read.
pub fn all_users(store: &Store, owner: &ProjectName) -> Result<BTreeMap<String, Vec<User>>> {
    let mut all: BTreeMap<String, Vec<User>> = BTreeMap::new();
    for project in features::sharing(store, owner, Feature::Volumes)? {
        let mut add = |devices: &Devices, instance: Option<&InstanceName>, profile: Option<&ProfileName>| {
            let mut keys: BTreeMap<String, bool> = BTreeMap::new();
            for device in devices.values() {
                let Some(key) = of_device(store, &project, device).ok().flatten() else { continue };
                *keys.entry(key.file_key()).or_default() |= dependent::is(device);
            }
            for (key, dependent) in keys {
                let (instance, profile) = (instance.cloned(), profile.cloned());
                all.entry(key).or_default().push(User { project: project.clone(), instance, profile, dependent });
            }
        };
        for (name, record) in store.instances(&project)? {
            let Ok(record) = record else { continue };
            let devices = load::expanded(store, &project, &record).map_or(record.devices, |e| e.devices);
            add(&devices, Some(&name), None);
        }
        for (name, record) in store.profiles(&project)? {
            if let Ok(profile) = record {
                add(&profile.devices, None, Some(&name));
            }
        }
    }
    Ok(all)
}

/// The users of one volume.
///
/// # Errors
/// As [`all_users`].
pub fn users(store: &Store, key: &VolumeKey) -> Result<Vec<User>> {
    Ok(all_users(store, &key.project)?.remove(&key.file_key()).unwrap_or_default())
}
