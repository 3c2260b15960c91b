//! `list`: instances with as much about them as is asked for, and no more.
//!
//! The speed of `list` is a promise (a thousand instances in the time of some thirty bare starts), so a row is filled step
//! by step: the record, then only where asked for volatile keys, profiles, snapshots, what is measured. Profiles are read
//! once, and which instances may run is one listing of the run folder. A broken record becomes a row with the status ERROR.

use super::list_filter::Filter;
use super::status::{self, Found};
use super::{features, load, state, state_net};
use crate::base::names::{InstanceName, ProjectName};
use crate::base::parallel;
use crate::base::yaml::{GoList, GoMap};
use crate::error::Result;
use crate::model::expand::{Expanded, expand};
use crate::model::instance::{Instance, InstanceType, Volatile};
use crate::model::keys;
use crate::model::profile::Profile;
use crate::model::project::Feature;
use crate::model::view::{InstanceFull, InstancePut, InstanceState, InstanceView, LOCATION, SnapshotView};
use crate::store::types::Snapshot;
use crate::store::{Records, Store};
use std::collections::{BTreeMap, HashSet};

/// What is to be read beyond the records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Volatile keys.
    pub volatile: bool,
    /// Profiles.
    pub expanded: bool,
    /// Number of snapshots.
    pub snapshots: bool,
    /// Process 1, and the addresses of the interfaces.
    pub addresses: bool,
    /// All that is measured, these included.
    pub state: bool,
    /// Usage of the root disk, which takes a walk over all files of the instance.
    pub disk: bool,
}

impl Needs {
    /// What objects (`--format json`) take.
    #[must_use]
    pub fn objects(self) -> Self {
        Self { volatile: true, expanded: true, ..self }
    }
}

/// An instance and what was asked for about it.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its project.
    pub project: ProjectName,
    /// Its name.
    pub name: InstanceName,
    /// Its record; none if it cannot be read.
    pub instance: Option<Instance>,
    /// Its volatile record.
    pub volatile: Volatile,
    /// Configuration, volatile keys included, and devices with the profiles applied.
    pub expanded: Expanded,
    /// Its status.
    pub found: Found,
    /// What was measured.
    pub state: Option<InstanceState>,
    /// Number of snapshots.
    pub snapshots: usize,
}

/// Lists the instances of `projects` that pass all `filters`, by project and name.
///
/// # Errors
/// A folder cannot be listed.
pub fn list(store: &Store, projects: &[ProjectName], filters: &[Filter], mut needs: Needs) -> Result<Vec<Row>> {
    filters.iter().for_each(|f| f.needs(&mut needs));
    let (late, early): (Vec<&Filter>, Vec<&Filter>) = filters.iter().partition(|f| f.is_late());
    let active = active(store);
    // Whether it is an application stands in a volatile key; what was made from no such image has none.
    let oci = |i: &Instance| keys::IMAGE.get_of(&i.config, "type") == Some("oci");
    let mut rows = Vec::new();
    for project in projects {
        let profiles = if needs.expanded { profiles(store, project)? } else { BTreeMap::new() };
        let row = |name: &InstanceName, records: Result<Records>| {
            let found = match active.contains(&format!("{project}_{name}")) {
                true => status::of(store, project, name).unwrap_or_else(|_| Found::error()),
                false => Found::stopped(),
            };
            let mut row = Row::new(project.clone(), name.clone(), found);
            row.fill(records.ok(), &profiles, needs);
            early.iter().all(|f| f.passes(&row)).then(|| {
                row.measure(store, needs);
                row
            })
        };
        let found = store.instance_records(project, |i| needs.volatile || oci(i), needs.snapshots, row)?;
        rows.extend(found.into_iter().flatten());
    }
    // Columns have addresses only; objects have all, and volatile keys.
    interfaces(&mut rows, needs.volatile);
    rows.retain(|row| late.iter().all(|f| f.passes(row)));
    Ok(rows)
}

/// The interfaces of all that run and are measured, together.
fn interfaces(rows: &mut [Row], whole: bool) {
    let running = rows.iter_mut().filter_map(|row| row.state.as_mut()).filter(|state| state.pid > 0);
    let mut running: Vec<&mut InstanceState> = running.collect();
    let pids: Vec<i32> = running.iter().map(|state| i32::try_from(state.pid).unwrap_or_default()).collect();
    for (state, found) in running.iter_mut().zip(state_net::all(&pids, whole)) {
        state.network = GoMap(Some(found));
    }
}

/// Names in the run folder: what is not among them does not run.
fn active(store: &Store) -> HashSet<String> {
    let entries = std::fs::read_dir(store.layout().run_instances_dir()).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).collect()
}

/// The profiles that the instances of a project have, as far as they can be read.
fn profiles(store: &Store, project: &ProjectName) -> Result<BTreeMap<String, Profile>> {
    let all = store.profiles(&features::owner(store, project, Feature::Profiles)?)?.into_iter();
    Ok(all.filter_map(|(name, profile)| Some((name.to_string(), profile.ok()?))).collect())
}

impl Row {
    fn new(project: ProjectName, name: InstanceName, found: Found) -> Self {
        Self {
            project,
            name,
            instance: None,
            volatile: Volatile::default(),
            expanded: Expanded::default(),
            found,
            state: None,
            snapshots: 0,
        }
    }

    fn fill(&mut self, records: Option<Records>, profiles: &BTreeMap<String, Profile>, needs: Needs) {
        let Some(Records { instance, volatile, snapshots }) = records else {
            self.found = Found::error();
            return;
        };
        (self.volatile, self.snapshots) = (volatile, snapshots);
        if needs.expanded {
            let own = instance.profiles.iter().filter_map(|name| Some((name.as_str(), profiles.get(name)?)));
            let own: Vec<(&str, &Profile)> = own.collect();
            self.expanded = expand(&own, &instance).with_volatile(&self.volatile);
        }
        self.instance = Some(instance);
    }

    fn measure(&mut self, store: &Store, needs: Needs) {
        if !needs.state && !needs.addresses {
            return;
        }
        let mut state = if needs.state { state::of(&self.found) } else { state::begun(&self.found).0 };
        if needs.disk && self.instance.is_some() {
            state.disk = GoMap(Some(state::disks(store, (&self.project, &self.name), &self.expanded.devices)));
        }
        self.state = Some(state);
    }

    /// The object that `--format json` prints; [`Needs::objects`] was asked for. With `full` state and snapshots are in it.
    ///
    /// # Errors
    /// The snapshots cannot be listed.
    pub fn object(&self, store: &Store, full: bool) -> Result<InstanceFull> {
        let mut object = InstanceFull {
            instance: self.view(),
            backups: GoList::default(),
            state: None,
            snapshots: GoList::default(),
        };
        if full {
            object.state = self.state.clone();
            object.snapshots = GoList(snapshots(store, &self.project, &self.name)?);
        }
        Ok(object)
    }

    /// One that cannot be read has a name, a project and a status.
    fn view(&self) -> InstanceView {
        let kind = self.instance.as_ref().map_or(InstanceType::Container, |i| i.kind);
        InstanceView {
            put: self.instance.as_ref().map(|i| InstancePut::new(i, &self.volatile)).unwrap_or_default(),
            created_at: self.instance.as_ref().map(|i| i.created_at).into(),
            expanded_config: self.expanded.config.clone(),
            expanded_devices: self.expanded.devices.clone(),
            name: self.name.to_string(),
            status: self.found.status,
            status_code: self.found.status.code(),
            last_used_at: self.volatile.shown_last_used(),
            location: LOCATION.to_string(),
            kind: kind.as_str().to_string(),
            project: self.project.to_string(),
        }
    }
}

/// The objects of many instances; see [`Row::object`].
///
/// # Errors
/// The first of [`Row::object`].
pub fn objects(store: &Store, rows: &[Row], full: bool) -> Result<Vec<InstanceFull>> {
    parallel::map(rows.iter().collect(), |row: &Row| row.object(store, full)).into_iter().collect()
}

/// The snapshots of an instance as users see them; those whose record is damaged are left out.
///
/// # Errors
/// The folder cannot be listed.
pub fn snapshots(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<Vec<SnapshotView>> {
    let found = store.snapshots(project, name)?;
    // Mostly the same ones. Those that are gone change nothing any more.
    let mut profiles: BTreeMap<Vec<String>, Vec<(String, Profile)>> = BTreeMap::new();
    let mut views = Vec::new();
    for (name, snapshot) in found {
        let Ok(snapshot) = snapshot else { continue };
        let names = &snapshot.instance.profiles;
        let known =
            profiles.entry(names.clone()).or_insert_with(|| load::profiles(store, project, names).unwrap_or_default());
        let known: Vec<(&str, &Profile)> = known.iter().map(|(n, p)| (n.as_str(), p)).collect();
        let expanded = expand(&known, &snapshot.instance);
        views.push(snapshot_view(name.to_string(), snapshot, expanded));
    }
    views.sort_by_key(|s| s.created_at);
    Ok(views)
}

fn snapshot_view(name: String, s: Snapshot, mut expanded: Expanded) -> SnapshotView {
    let mut config = s.instance.config;
    config.extend(s.volatile.clone());
    expanded.config.extend(s.volatile);
    SnapshotView {
        expires_at: s.expires_at.into(),
        architecture: s.instance.architecture,
        config,
        created_at: s.created_at.into(),
        description: s.instance.description,
        devices: s.instance.devices,
        ephemeral: s.instance.ephemeral,
        expanded_config: expanded.config,
        expanded_devices: expanded.devices,
        last_used_at: None.into(),
        name,
        profiles: s.instance.profiles,
        stateful: s.stateful,
        size: -1,
    }
}
