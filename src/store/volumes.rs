//! Records of custom volumes: `projects/<p>/volumes/<pool>/<n>.toml`, and of their snapshots, in the folder
//! `<n>.snapshots` beside it.

use super::Store;
use super::atomic::Durability;
use super::dir;
use super::layout::rel;
use super::lock::{Exclusive, Held, VolumeKey};
use super::objects::in_files;
use super::record::{self, Record, records};
use crate::base::names::{PoolName, ProjectName, SnapshotName, VolumeName};
use crate::error::{Context, Result};
use crate::model::volume::{CustomVolume, VolumeSnapshot};

records! {
    CustomVolume => "Storage volume record",
    VolumeSnapshot => "Storage volume snapshot record",
}

impl Store {
    /// A custom volume; `None` if there is none.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn volume(&self, key: &VolumeKey) -> Result<Option<CustomVolume>> {
        self.state.as_ref().map_or(Ok(None), |state| record::read(state, rel::volume(key)))
    }

    /// All custom volumes of a project on a pool, by name.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn volumes(&self, p: &ProjectName, pool: &PoolName) -> Result<Vec<(VolumeName, Result<CustomVolume>)>> {
        let list = |state| in_files(state, &rel::volumes(p, pool), VolumeName::parse);
        self.state.as_ref().map_or(Ok(Vec::new()), list)
    }

    /// Creates or replaces a custom volume's record.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_volume(&self, lock: &Held<VolumeKey, Exclusive>, volume: &CustomVolume) -> Result<()> {
        let (state, key) = (self.state_mut()?, lock.key());
        let fail = || format!("Failed writing storage volume \"{}\"", key.name);
        state.make_all(rel::volumes(&key.project, &key.pool), 0o700).with_context(fail)?;
        record::write(state, rel::volume(key), volume, Durability::Durable)
    }

    /// Gives the records of a custom volume another name, those of its snapshots first; repeated, nothing happens.
    ///
    /// # Errors
    /// Exists, or an I/O error.
    pub fn rename_volume(&self, from: &Held<VolumeKey, Exclusive>, to: &Held<VolumeKey, Exclusive>) -> Result<()> {
        let (state, from, to) = (self.state_mut()?, from.key(), to.key());
        let fail = || format!("Failed renaming storage volume \"{}\"", from.name);
        state.make_all(rel::volumes(&to.project, &to.pool), 0o700).with_context(fail)?;
        let pairs = [(rel::volume_snapshots(from), rel::volume_snapshots(to)), (rel::volume(from), rel::volume(to))];
        for (old, new) in pairs {
            if !state.exists(&old).with_context(fail)? {
                continue;
            }
            let (source, name) = state.parent(&old).with_context(fail)?;
            let (target, new_name) = state.parent(&new).with_context(fail)?;
            dir::rename(&source, name, &target, new_name, false).with_context(fail)?;
            target.sync().with_context(fail)?;
            source.sync().with_context(fail)?;
        }
        Ok(())
    }

    /// A snapshot of a custom volume; `None` if there is none.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn volume_snapshot(&self, key: &VolumeKey, s: &SnapshotName) -> Result<Option<VolumeSnapshot>> {
        self.state.as_ref().map_or(Ok(None), |state| record::read(state, rel::volume_snapshot(key, s)))
    }

    /// All snapshots of a custom volume, by name.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn volume_snapshots(&self, key: &VolumeKey) -> Result<Vec<(SnapshotName, Result<VolumeSnapshot>)>> {
        let list = |state| in_files(state, &rel::volume_snapshots(key), SnapshotName::parse);
        self.state.as_ref().map_or(Ok(Vec::new()), list)
    }

    /// Creates or replaces the record of a snapshot.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_volume_snapshot(
        &self,
        lock: &Held<VolumeKey, Exclusive>,
        s: &SnapshotName,
        snapshot: &VolumeSnapshot,
    ) -> Result<()> {
        let (state, key) = (self.state_mut()?, lock.key());
        let fail = || format!("Failed writing a snapshot of storage volume \"{}\"", key.name);
        state.make_all(rel::volume_snapshots(key), 0o700).with_context(fail)?;
        record::write(state, rel::volume_snapshot(key, s), snapshot, Durability::Durable)
    }

    /// Gives the record of a snapshot another name.
    ///
    /// # Errors
    /// Exists, or an I/O error.
    pub fn rename_volume_snapshot(
        &self,
        lock: &Held<VolumeKey, Exclusive>,
        from: &SnapshotName,
        to: &SnapshotName,
    ) -> Result<()> {
        let fail = || format!("Failed renaming snapshot \"{from}\"");
        let folder = self.state_mut()?.dir(rel::volume_snapshots(lock.key())).with_context(fail)?;
        let [old, new] = [from, to].map(|name| std::ffi::OsString::from(format!("{name}.toml")));
        dir::rename(&folder, &old, &folder, &new, false).with_context(fail)?;
        folder.sync().with_context(fail)
    }

    /// The projects and pools in whose folders records of volumes may lie.
    ///
    /// # Errors
    /// The state folder cannot be read.
    pub fn volume_places(&self) -> Result<Vec<(ProjectName, PoolName)>> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for (project, _) in self.projects()? {
            let Some((_, names)) = dir::list(state, rel::project_dir(&project).join(rel::VOLUMES))? else { continue };
            all.extend(names.iter().filter_map(|n| Some((project.clone(), PoolName::parse(n).ok()?))));
        }
        Ok(all)
    }
}
