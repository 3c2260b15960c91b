//! Records of the server, of projects, profiles and pools.
//!
//! A missing state folder reads as one with the default project and profile, which is what its first writer will make.

use super::atomic::Durability;
use super::dir::{self, Dir};
use super::layout::rel;
use super::lock::{Exclusive, Held, MaintenanceKey, PoolKey, ProjectKey, ServerKey};
use super::open::first_profile;
use super::record::{self, Record};
use super::types::{Maintenance, Server, first_project};
use super::{Store, trash};
use crate::base::names::{PoolName, ProfileName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::pool::Pool;
use crate::model::profile::Profile;
use crate::model::project::{Feature, Project};
use std::path::Path;

/// A name of one of these objects: how it is parsed.
type Parse<N> = fn(&str) -> Result<N>;

impl Store {
    /// The server's configuration.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn server(&self) -> Result<Server> {
        let Some(state) = &self.state else { return Ok(Server::default()) };
        Ok(record::read(state, rel::SERVER)?.unwrap_or_default())
    }

    /// Replaces the server's configuration.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_server(&self, _lock: &Held<ServerKey, Exclusive>, server: &Server) -> Result<()> {
        record::write(self.state_mut()?, rel::SERVER, server, Durability::Durable)
    }

    /// What regular maintenance has done; the default if nothing yet.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn maintenance(&self) -> Result<Maintenance> {
        let Some(state) = &self.state else { return Ok(Maintenance::default()) };
        Ok(record::read(state, rel::MAINTENANCE)?.unwrap_or_default())
    }

    /// Replaces that.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_maintenance(&self, _lock: &Held<MaintenanceKey, Exclusive>, done: &Maintenance) -> Result<()> {
        record::write(self.state_mut()?, rel::MAINTENANCE, done, Durability::Durable)
    }

    /// A project; `None` if there is none.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn project(&self, p: &ProjectName) -> Result<Option<Project>> {
        match &self.state {
            Some(state) => record::read(state, rel::project(p)),
            None => Ok((*p == ProjectName::default()).then(first_project)),
        }
    }

    /// All projects by name.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn projects(&self) -> Result<Vec<(ProjectName, Result<Project>)>> {
        match &self.state {
            Some(state) => in_folders(state, rel::PROJECTS.as_ref(), "project.toml", ProjectName::parse),
            None => Ok(vec![(ProjectName::default(), Ok(first_project()))]),
        }
    }

    /// Creates or replaces a project; one that has profiles of its own gets an empty default profile, if it has none.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_project(&self, lock: &Held<ProjectKey, Exclusive>, project: &Project) -> Result<()> {
        let (state, p) = (self.state_mut()?, &lock.key().0);
        let default = rel::profiles(p).join("default.toml");
        if self.project(p).is_ok_and(|found| found.is_none()) {
            let fail = || format!("Failed creating project \"{p}\"");
            state.make_all(rel::profiles(p), 0o700).with_context(fail)?;
            state.make(rel::instances(p), 0o700).with_context(fail)?;
        }
        if project.has(Feature::Profiles) && !state.exists(&default).context("Failed opening the profiles")? {
            let mut profile = first_profile();
            profile.description = format!("Default Incus profile for project {p}");
            record::write(state, default, &profile, Durability::Whole)?;
        }
        record::write(state, rel::project(p), project, Durability::Durable)
    }

    /// Removes a project's records. Its record goes first; the caller has checked that it is empty.
    ///
    /// # Errors
    /// An I/O error.
    pub fn delete_project(&self, lock: &Held<ProjectKey, Exclusive>) -> Result<()> {
        let p = &lock.key().0;
        self.delete_folder(&rel::project_dir(p), "project.toml", || format!("Failed deleting project \"{p}\""))
    }

    /// Gives a project's records another name.
    ///
    /// # Errors
    /// Exists, or an I/O error.
    pub fn rename_project(&self, old: &Held<ProjectKey, Exclusive>, new: &Held<ProjectKey, Exclusive>) -> Result<()> {
        let (from, to) = (&old.key().0, &new.key().0);
        let projects = self.state_mut()?.dir(rel::PROJECTS).context("Failed opening the project folder")?;
        match dir::rename(&projects, from.as_str().as_ref(), &projects, to.as_str().as_ref(), false) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::exists(format!("Project \"{to}\" already exists")));
            }
            other => other.with_context(|| format!("Failed renaming project \"{from}\""))?,
        }
        projects.sync().with_context(|| format!("Failed renaming project \"{from}\""))
    }

    /// A profile; `None` if there is none.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn profile(&self, p: &ProjectName, n: &ProfileName) -> Result<Option<Profile>> {
        match &self.state {
            Some(state) => record::read(state, rel::profile(p, n)),
            None => Ok((*p == ProjectName::default() && n.as_str() == "default").then(first_profile)),
        }
    }

    /// All profiles of a project by name.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn profiles(&self, p: &ProjectName) -> Result<Vec<(ProfileName, Result<Profile>)>> {
        match &self.state {
            Some(state) => in_files(state, &rel::profiles(p), ProfileName::parse),
            None if *p == ProjectName::default() => Ok(vec![(ProfileName::parse("default")?, Ok(first_profile()))]),
            None => Ok(Vec::new()),
        }
    }

    /// Creates or replaces a profile. The lock is its project's: it changes every instance that uses it.
    ///
    /// # Errors
    /// Not found: no such project; or an I/O error.
    pub fn save_profile(&self, lock: &Held<ProjectKey, Exclusive>, n: &ProfileName, profile: &Profile) -> Result<()> {
        let (state, p) = (self.state_mut()?, &lock.key().0);
        if self.project(p)?.is_none() {
            return Err(Error::not_found("Project not found"));
        }
        state.make_all(rel::profiles(p), 0o700).with_context(|| format!("Failed writing profile \"{n}\""))?;
        record::write(state, rel::profile(p, n), profile, Durability::Durable)
    }

    /// Removes a profile. `false`: there was none.
    ///
    /// # Errors
    /// An I/O error.
    pub fn delete_profile(&self, lock: &Held<ProjectKey, Exclusive>, n: &ProfileName) -> Result<bool> {
        let at = rel::profile(&lock.key().0, n);
        self.state_mut()?.unlink_durable(at).with_context(|| format!("Failed deleting profile \"{n}\""))
    }

    /// Renames a profile in steps each of which leaves a whole state, so that it can be done again from anywhere: the record
    /// under the new name, the instances one by one, then the old record goes. An instance whose record is damaged is
    /// passed over.
    pub(super) fn move_profile(&self, p: &ProjectName, from: &ProfileName, to: &ProfileName) -> Result<()> {
        let state = self.state_mut()?;
        if let Some(profile) = self.profile(p, from)?
            && self.profile(p, to)?.is_none()
        {
            record::write(state, rel::profile(p, to), &profile, Durability::Durable)?;
        }
        fault::point("store.profile.copied")?;
        for (name, instance) in self.instances(p)? {
            let Ok(mut instance) = instance else { continue };
            let mut changed = false;
            for old in instance.profiles.iter_mut().filter(|n| n.as_str() == from.as_str()) {
                *old = to.to_string();
                changed = true;
            }
            if changed {
                self.replace_instance(p, &name, &instance)?;
                fault::point("store.profile.instance")?;
            }
        }
        state
            .unlink_durable(rel::profile(p, from))
            .map(drop)
            .with_context(|| format!("Failed renaming profile \"{from}\""))
    }

    /// A storage pool; `None` if there is none.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn pool(&self, n: &PoolName) -> Result<Option<Pool>> {
        self.state.as_ref().map_or(Ok(None), |state| record::read(state, rel::pool(n)))
    }

    /// All storage pools by name.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn pools(&self) -> Result<Vec<(PoolName, Result<Pool>)>> {
        let list = |state| in_folders(state, rel::POOLS.as_ref(), "pool.toml", PoolName::parse);
        self.state.as_ref().map_or(Ok(Vec::new()), list)
    }

    /// Creates or replaces a pool's record; makes its folder (0711) and `data` in it, unless that is a link to a folder
    /// elsewhere.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_pool(&self, lock: &Held<PoolKey, Exclusive>, pool: &Pool) -> Result<()> {
        let (state, n) = (self.state_mut()?, &lock.key().0);
        state
            .make_all(rel::pool_dir(n), 0o711)
            .and_then(|_| state.make(rel::pool_dir(n).join("data"), 0o711))
            .with_context(|| format!("Failed creating storage pool \"{n}\""))?;
        record::write(state, rel::pool(n), pool, Durability::Durable)
    }

    /// Removes a pool's record and folder. The caller has emptied it: `data` must be empty but for its own folders.
    ///
    /// # Errors
    /// An I/O error; a mount in it is one.
    pub fn delete_pool(&self, lock: &Held<PoolKey, Exclusive>) -> Result<()> {
        let n = &lock.key().0;
        self.delete_folder(&rel::pool_dir(n), "pool.toml", || format!("Failed deleting storage pool \"{n}\""))
    }

    fn delete_folder(&self, at: &Path, record: &str, fail: impl Fn() -> String) -> Result<()> {
        let state = self.state_mut()?;
        state.unlink(at.join(record)).with_context(&fail)?;
        let (above, name) = state.parent(at).with_context(&fail)?;
        trash::remove_tree(&above, name).with_context(&fail)?;
        above.sync().with_context(&fail)
    }
}

/// Records that are `<name>.toml` in one folder.
pub(super) fn in_files<N, T: Record>(base: &Dir, at: &Path, parse: Parse<N>) -> Result<Vec<(N, Result<T>)>> {
    let Some((folder, names)) = dir::list(base, at)? else { return Ok(Vec::new()) };
    let stem = |file: &str| file.strip_suffix(".toml").and_then(|n| parse(n).ok());
    let read = |file: String| Some((stem(&file)?, record::read(&folder, &file).transpose()?));
    Ok(names.into_iter().filter_map(read).collect())
}

/// Records that are `<name>/<file>`.
pub(super) fn in_folders<N, T: Record>(
    base: &Dir,
    at: &Path,
    file: &str,
    parse: Parse<N>,
) -> Result<Vec<(N, Result<T>)>> {
    let Some((folder, names)) = dir::list(base, at)? else { return Ok(Vec::new()) };
    let read = |name: String| Some((parse(&name).ok()?, record::read(&folder, format!("{name}/{file}")).transpose()?));
    Ok(names.into_iter().filter_map(read).collect())
}
