//! `export`. What runs is frozen for as long as a copy of its volume takes; the archive is made of that.

use super::unpack::Form;
use super::{check_packing, encode, optimized};
use crate::base::idmap::IdMap;
use crate::base::names::{InstanceName, PoolName, ProjectName, SnapshotName};
use crate::base::{time, yaml};
use crate::container::rootfs;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::image::compress::Algorithm;
use crate::image::export::Exporter;
use crate::image::pack::Packing;
use crate::image::tarread::Entry;
use crate::image::{METADATA_MAX, OnProgress, Progress, pipe};
use crate::model::backup::{CONTAINER, INDEX, Index, Records, SNAPSHOTS, VolumeSnapshotView, VolumeView};
use crate::model::instance::InstanceType;
use crate::model::keys::{self, project::BACKUP_COMPRESSION};
use crate::model::view::{LOCATION, PoolView, ProfileView, SnapshotView, VolumeSnapshotView as VolumeSnapshot};
use crate::ops::publish::{change_owner, optional, small};
use crate::ops::volume::carried::{self, Exported};
use crate::ops::volume::list::root_snapshots;
use crate::ops::{config, lifecycle, list, load, pool, restrict, snapshot};
use crate::storage::{Driver, Ids, Volume};
use crate::store::lock::{Exclusive, Held, InstanceKey, Proof};
use crate::store::{Action, Store, journal};
use crate::sys::path::{self, Links};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

/// What is exported.
#[derive(Debug, Clone)]
pub struct Request {
    /// Project.
    pub project: ProjectName,
    /// The instance.
    pub name: InstanceName,
    /// Without its snapshots.
    pub instance_only: bool,
    /// Without the volumes that go with it.
    pub root_only: bool,
    /// How it is compressed; none: as the server's configuration says, else gzip.
    pub compression: Option<Packing>,
    /// In the form of the pool's driver, if it has one. Where not, nobody is told that it was asked for, as with Incus.
    pub optimized: bool,
}

/// How a backup is compressed, as it is asked for or by the configuration.
///
/// # Errors
/// The server's configuration is wrong.
pub fn compression(store: &Store, project: &ProjectName, wanted: Option<Packing>) -> Result<Packing> {
    if let Some(how) = wanted {
        return Ok(how);
    }
    match restrict::compression(store, project, &BACKUP_COMPRESSION)? {
        Some(text) => text.parse().with_context(|| format!("Bad value of {}", BACKUP_COMPRESSION.name)),
        None => Ok(Packing::Archive(Algorithm::Gzip.into())),
    }
}

/// Writes the archive of an instance to `sink`.
///
/// # Errors
/// Not found; its records or files cannot be read; `sink` cannot be written. What ran runs.
pub fn export<W: Write + Send>(store: &Store, request: &Request, sink: W, on_progress: OnProgress<'_>) -> Result<W> {
    let Request { project, name, instance_only, root_only, .. } = request;
    let how = compression(store, project, request.compression)?;
    restrict::backups(store, project)?;
    let before = load::load(store, project, name)?;
    let _pools = carried::pools(store, &before, *root_only)?;
    let held = store.lock_instance(project, name, "export")?;
    lifecycle::settle(store, &held)?;
    let loaded = load::load(store, project, name)?;
    if loaded.expanded.devices != before.expanded.devices {
        return Err(Error::conflict("The instance was changed meanwhile"));
    }
    let pool_name = loaded.pool()?;
    if loaded.instance.kind != InstanceType::Container {
        return Err(Error::unsupported("Virtual machines are not supported by this version"));
    }
    let driver = pool::need(store, &pool_name)?;
    let snapshots = if *instance_only { Vec::new() } else { list::snapshots(store, project, name)? };
    let along = if *root_only { Exported::default() } else { Exported::lock(store, &loaded, *instance_only)? };
    let mut records = Records { dependent_volumes: along.records(store)?, ..records(store, &loaded, snapshots)? };
    let optimized = request.optimized && optimized::fits(driver.as_ref(), &loaded.volume()?)? && along.fits()?;
    check_packing(how, optimized)?;
    if optimized && driver.caps().shift_on_disk {
        // What Incus calls it.
        let map = driver.owners(&loaded.volume()?)?;
        if map != IdMap::default() {
            keys::VOLATILE_LAST_STATE_IDMAP.set(&mut records.container.put.config, map.to_json());
        }
    }
    let parts = Parts { store, driver: driver.as_ref(), records: &records, along: &along, optimized };
    let sink = at_rest(store, (&held, &along), &loaded, driver.as_ref(), |copy| {
        let write = |sink: &mut pipe::Sink| parts.write(sink, (&held, copy), on_progress);
        encode(store, sink, how, write).map(|(sink, ())| sink)
    })?;
    lifecycle::note(store, project, name, "instance-backup-created");
    Ok(sink)
}

/// Calls `body`; if the instance runs, with the name of copies of its volume and of those that go with it, which go afterwards.
fn at_rest<T>(
    store: &Store,
    (held, along): (&Held<InstanceKey, Exclusive>, &Exported),
    loaded: &load::Loaded,
    driver: &dyn Driver,
    body: impl FnOnce(Option<&SnapshotName>) -> Result<T>,
) -> Result<T> {
    let volume = loaded.volume()?;
    if load::running(store, &loaded.project, &loaded.name)?.is_none() {
        return body(None);
    }
    // No snapshot has such a name: it would be one of the user's.
    let name = SnapshotName::parse(&format!("export:{}", uuid::Uuid::new_v4().simple()))?;
    let copy = volume.snapshot(&name)?;
    let named = snapshot::volume_of(&loaded.pool()?, &loaded.project, &loaded.name, &name);
    let proofs: Vec<&dyn Proof> = std::iter::once(held as &dyn Proof).chain(along.proofs()).collect();
    journal::run(store, "export", &proofs, |journal| {
        journal.undo(Action::RemoveVolume(named.clone()))?;
        journal.then(Action::RemoveVolume(named))?;
        along.begin(journal, &name)?;
        snapshot::frozen(store, held, journal, || driver.copy(&volume, &copy).and_then(|()| along.copy(&name)))?;
        fault::point("export.copied")?;
        body(Some(&name))
    })
}

/// What goes into the archive.
#[derive(Clone, Copy)]
struct Parts<'a> {
    store: &'a Store,
    driver: &'a dyn Driver,
    records: &'a Records,
    along: &'a Exported,
    optimized: bool,
}

impl Parts<'_> {
    /// All of the archive, with the instance and what goes with it as they are, or as they are in the snapshots `copy`.
    fn write(
        &self,
        sink: &mut pipe::Sink,
        (held, copy): (&Held<InstanceKey, Exclusive>, Option<&SnapshotName>),
        on_progress: OnProgress<'_>,
    ) -> Result<()> {
        let InstanceKey { project, name } = held.key();
        let volume = Volume::container(project, name)?;
        let at_rest = copy.map_or(Ok(volume.clone()), |copy| volume.snapshot(copy))?;
        let mut out = Exporter::new(sink);
        self.index(&mut out)?;
        fault::point("export.index")?;
        if self.optimized {
            self.streams(&mut out, held, &at_rest, on_progress)?;
        } else {
            for found in &self.records.snapshots {
                on_progress(Progress::Step(&format!("snapshot {}", found.name)))?;
                let of = volume.snapshot(&SnapshotName::parse(&found.name)?)?;
                out = self.volume(out, &of, &format!("{SNAPSHOTS}/{}", found.name))?;
            }
            on_progress(Progress::Step("instance"))?;
            out = self.volume(out, &at_rest, CONTAINER)?;
        }
        self.along.write(self.store, out, (copy, self.optimized), on_progress)?.finish().map(drop)
    }

    fn index<W: Write>(&self, out: &mut Exporter<'_, W>) -> Result<()> {
        let Records { container, pool, snapshots, .. } = self.records;
        let index = Index {
            name: &container.name,
            backend: &pool.driver,
            pool: &pool.name,
            snapshots: snapshots.iter().map(|s| s.name.as_str()).collect(),
            optimized: self.optimized,
            optimized_header: self.optimized && self.driver.streams().is_some_and(|streams| streams.has_header()),
            kind: &container.kind,
            config: self.records,
        };
        out.file(INDEX, yaml::to_string(&index)?.as_bytes(), time::now().as_second())
    }

    /// All volumes as streams, that of the instance as it is `at_rest`.
    fn streams<W: Write>(
        &self,
        out: &mut Exporter<'_, W>,
        held: &Held<InstanceKey, Exclusive>,
        at_rest: &Volume,
        on_progress: OnProgress<'_>,
    ) -> Result<()> {
        let InstanceKey { project, name } = held.key();
        let pool = PoolName::parse(&self.records.pool.name)?;
        let names = self.records.snapshots.iter().map(|s| SnapshotName::parse(&s.name));
        let source = optimized::Source {
            driver: self.driver,
            volume: &Volume::container(project, name)?,
            named: &|of| snapshot::volume_of(&pool, project, name, of),
            form: Form::instance(),
            beside: Some(("backup.yaml", yaml::to_string(self.records)?)),
        };
        let names = names.collect::<Result<Vec<_>>>()?;
        journal::run(self.store, "export", &[held], |journal| {
            source.write(out, journal, (at_rest, &names), on_progress)
        })
    }

    /// A volume as the folder `name`.
    fn volume<W: Write>(&self, mut out: Exporter<'_, W>, volume: &Volume, name: &str) -> Result<Exporter<'static, W>> {
        let scratch =
            tempfile::tempdir_in(&self.store.layout().run).context("Failed creating a folder for mounting")?;
        let root = rootfs::view(&self.driver.rootfs(volume)?, scratch.path())?;
        let ids = Ids::change(&self.driver.owners(volume)?, &IdMap::default());
        let beside = path::open_root(&self.driver.metadata(volume)?)?;
        out.folder(name, time::now().as_second())?;
        if name == CONTAINER {
            let text = yaml::to_string(self.records)?;
            out.file(&format!("{name}/backup.yaml"), text.as_bytes(), time::now().as_second())?;
        }
        for file in ["metadata.yaml", "config.json"] {
            if let Some(data) = small(beside.as_fd(), file, METADATA_MAX)? {
                out.file(&format!("{name}/{file}"), &data, time::now().as_second())?;
            }
        }
        if let Some(templates) = optional(path::open_dir(beside.as_fd(), Path::new("templates"), Links::Refuse))? {
            out.tree(templates.as_fd(), &format!("{name}/templates"))?;
        }
        let change = |entry: &mut Entry| change_owner(entry, &ids);
        let mut changed = out.changed((!ids.is_none()).then_some(&change));
        changed.tree(root.as_fd(), &format!("{name}/rootfs"))?;
        // Files of another volume have nothing to do with these.
        Ok(changed.next_tree())
    }
}

fn records(store: &Store, loaded: &load::Loaded, snapshots: Vec<SnapshotView>) -> Result<Records> {
    let pool_name = loaded.pool()?;
    let pool = store.pool(&pool_name)?.ok_or_else(|| Error::not_found("Storage pool not found"))?;
    let profiles = load::profiles(store, &loaded.project, &loaded.instance.profiles)?;
    let view = |(name, profile)| ProfileView::new(loaded.project.as_str(), name, profile, Vec::new());
    let said = loaded.instance.root.clone();
    let volume = VolumeView {
        config: said.config,
        description: said.description,
        name: loaded.name.to_string(),
        kind: InstanceType::Container.as_str().to_string(),
        used_by: Vec::new(),
        location: LOCATION.to_string(),
        content_type: "filesystem".to_string(),
        project: loaded.project.to_string(),
        created_at: loaded.instance.created_at.into(),
    };
    let mut said = root_snapshots(store, &loaded.project, &loaded.name)?;
    said.retain(|said| snapshots.iter().any(|s| s.name == said.name));
    let of_snapshot = |said: VolumeSnapshot| VolumeSnapshotView {
        config: said.config,
        description: said.put.description,
        content_type: said.content_type,
        created_at: said.created_at,
        expires_at: said.put.expires_at,
        name: said.name,
    };
    Ok(Records {
        container: config::view(store, (&loaded.project, &loaded.name))?,
        volume_snapshots: said.into_iter().map(of_snapshot).collect(),
        snapshots,
        pool: PoolView::new(pool_name.as_str(), &pool, Vec::new(), true),
        profiles: profiles.iter().map(|(n, p)| (n.as_str(), p)).map(view).collect(),
        volume,
        dependent_volumes: Vec::new(),
    })
}
