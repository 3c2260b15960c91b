//! Datasets and their mounts: made, cloned, shown in the pool's folder, hidden, renamed, removed.
//!
//! Used by the driver. A clone and what it was made from need a snapshot between them; it is destroyed at once with `-d`, which
//! ZFS does when the last clone is gone. What is to be removed and still has clones hands its snapshots over to the newest of them
//! (`zfs promote`), which keeps what it needs and no more; an image stays in the trash until its last clone goes.

use super::timeline::FROM;
use super::tool::{self, Receiving};
use super::{Settings, Zfs, names, zvols};
use crate::base::idmap::IdMap;
use crate::base::names::Fingerprint;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::storage::disk;
use crate::storage::formatted::Kind;
use crate::storage::pool::Pool;
use crate::storage::shown::Alone;
use crate::storage::volume::{Staging, Trash, Volume};
use rustix::fs::Mode;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use tool::zfs;

/// What is removed and stays, for others need it.
const WAITS: &str = "stapes:waits=on";
/// The snapshot of an image that volumes are made from, as in Incus.
pub(super) const READONLY: &str = "@readonly";
/// Properties that are a volume's size, and what else of it stays whatever takes its place.
const OWN: &str = "quota,refquota,reservation,refreservation,recordsize";

/// Which ID map the owners in a custom volume have on disk, as JSON; none: they are not shifted.
const OWNERS: &str = "stapes:idmap";

/// Bytes read of a stream at a time.
const STEP: usize = 256 << 10;

/// Where something is: its mount in the pool's folder and its dataset below the pool's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub rel: String,
    pub set: String,
    /// The volume it is, if it is one.
    pub volume: Option<Volume>,
}

impl Place {
    pub fn of(volume: &Volume) -> Self {
        Self { rel: volume.path(), set: names::volume(volume), volume: Some(volume.clone()) }
    }

    pub fn staged(volume: &Volume) -> Self {
        Self { rel: volume.staged(), set: names::staged(volume), volume: None }
    }

    pub fn image(image: &Fingerprint) -> Self {
        Self { rel: Pool::image(image), set: names::image(image), volume: None }
    }

    pub fn staging(staging: &Staging) -> Self {
        Self { rel: staging.path(), set: names::staging(staging), volume: None }
    }

    pub fn image_as(image: &Fingerprint, kind: Kind) -> Self {
        let rel = format!("{}_{}", Pool::image(image), kind.name());
        Self { rel, set: names::image_as(image, kind), volume: None }
    }

    /// A form of an image while it is made of another one.
    pub fn new_form(of: &Self) -> Self {
        let name = of.set.rsplit('/').next().unwrap_or_default();
        Self { rel: format!("images/.new-{name}"), set: names::new_form(name), volume: None }
    }
}

fn feed(stream: &mut dyn Read, receiving: &mut Receiving) -> Result<()> {
    let mut buffer = vec![0; STEP];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => receiving.feed(&buffer[..n])?,
        }
    }
}

/// The property that says it.
pub(super) fn say_owners(map: &IdMap) -> String {
    format!("{OWNERS}={}", map.to_json())
}

/// What tells who was cloned from a dataset's snapshots, the oldest first.
fn list(full: &str) -> [&str; 10] {
    ["list", "-H", "-d", "1", "-t", "snapshot", "-screatetxg", "-o", "clones", full]
}

impl Zfs {
    /// It is there.
    pub(super) fn has(&self, set: &str) -> Result<bool> {
        Ok(tool::get("type", &self.root.at(set))?.is_some())
    }

    /// Mounts what is at `place`, and returns its folder. Repeated: nothing happens.
    pub(super) fn show(&self, place: &Place) -> Result<PathBuf> {
        let path = self.pool.path(&place.rel);
        if self.pool.is_mount(&place.rel)? {
            return Ok(path);
        }
        let alone = self.pool.alone()?;
        if !self.pool.is_mount(&place.rel)? {
            self.show_at(&alone, place)?;
        }
        Ok(path)
    }

    pub(super) fn show_at(&self, alone: &Alone, place: &Place) -> Result<()> {
        let set = self.root.at(&place.set);
        self.pool.make_dir(&place.rel)?;
        fault::point("storage.zfs.mount")?;
        match disk::mount_source(c"zfs", Path::new(&set), "", &self.pool.path(&place.rel)) {
            Err(_) if self.block(&place.set)? == Some(true) => self.show_block(alone, place),
            other => other.with_context(|| format!("Failed mounting \"{set}\"")),
        }
    }

    /// What is at `from` bears the name of `to` from now on, in one step that is on disk when it is done.
    pub(super) fn relabel(&self, alone: &Alone, from: &Place, to: &str) -> Result<()> {
        self.pool.hide(alone, &from.rel)?;
        zvols::rename(&self.root.at(&from.set), &self.root.at(to))
    }

    /// Moves what is at `place` into the trash.
    pub(super) fn discard(&self, alone: &Alone, place: &Place) -> Result<Trash> {
        let trash = names::fresh_trash(&place.rel)?;
        self.relabel(alone, place, &names::trash(&trash)).map(|()| trash)
    }

    /// Removes what is at `place`, whole or not; there may be nothing.
    pub(super) fn clear(&self, place: &Place) -> Result<()> {
        self.pool.hide(&self.pool.alone()?, &place.rel)?;
        self.remove(&place.set, true)
    }

    /// The same of what is put together for a volume, and what a kill left of making that.
    pub(super) fn abandon(&self, volume: &Volume) -> Result<()> {
        let place = Place::staged(volume);
        let all = zfs(&["list", "-H", "-r", "-t", "snapshot", "-o", "name", &self.root.name])?;
        self.clear(&place)?;
        let ours = names::origin(&place.set);
        for left in all.lines().filter(|name| name.contains(&ours)) {
            tool::if_there(zfs(&["destroy", "-d", left]))?;
        }
        Ok(())
    }

    /// Destroys a dataset, which may be gone. What it has that others are cloned from goes to one of them if it `may_give`, and if
    /// that has room; else it stays in the trash, hidden, and the last of them takes it along.
    pub(super) fn remove(&self, set: &str, may_give: bool) -> Result<()> {
        let mut next = Some(self.root.at(set));
        // Two that one was made of the other would each hand over to the other.
        let _alone = self.pool.alone()?;
        while let Some(full) = next.take() {
            let listed = zfs(&list(&full));
            let Some(mut listed) = tool::if_there(listed)? else { return Ok(()) };
            if may_give && !listed.is_empty() {
                // What nobody was cloned from, or nobody any more when it is given away, goes by itself.
                tool::if_there(zfs(&["destroy", "-d", &format!("{full}@%")]))?;
                listed = tool::if_there(zfs(&list(&full)))?.unwrap_or_default();
            }
            let newest =
                listed.lines().rev().find_map(|line| line.split(',').find(|clone| !matches!(*clone, "" | "-")));
            if let Some(clone) = newest
                && !(may_give && zfs(&["promote", clone]).is_ok())
            {
                return zfs(&["set", WAITS, &full]).map(drop);
            }
            fault::point("storage.zfs.promoted")?;
            let origin = tool::get("origin", &full)?.and_then(|values| values.into_iter().next());
            tool::if_there(tool::patiently(&["destroy", "-r", &full]))
                .with_context(|| format!("Failed removing \"{full}\""))?;
            let waits = self.root.at(names::DELETED);
            next = origin
                .and_then(|o| o.split_once('@').map(|(of, _)| of.to_string()))
                .filter(|of| of.starts_with(&waits));
        }
        Ok(())
    }

    /// Makes an empty dataset with these properties, and mounts it.
    pub(super) fn make(&self, place: &Place, properties: &[String]) -> Result<PathBuf> {
        self.clear(place)?;
        let set = self.root.at(&place.set);
        self.with("create", properties, &[&set])?;
        fault::point("storage.zfs.made")?;
        let path = self.show(place)?;
        rustix::fs::fchmod(self.pool.open_dir(&place.rel)?, Mode::RWXU)?;
        Ok(path)
    }

    fn with(&self, verb: &str, properties: &[String], operands: &[&str]) -> Result<()> {
        let mut words = vec![verb];
        words.extend(properties.iter().flat_map(|property| ["-o", property]));
        words.extend(operands);
        zfs(&words).map(drop)
    }

    /// Makes `to` a clone of the dataset `from` as it is at this moment.
    pub(super) fn snapshot(&self, from: &str, to: &str, properties: &[String]) -> Result<()> {
        self.at_once(from, to, |snapshot| {
            let name = snapshot.find('@').map_or("", |at| &snapshot[at..]);
            let properties = [properties, &[format!("{FROM}={name}")]].concat();
            let cloned = self.with("clone", &properties, &[snapshot, &self.root.at(to)]);
            fault::point("storage.zfs.cloned")?;
            cloned
        })
    }

    /// Makes `to` from a snapshot of the dataset `from`, which is there no longer than `make` and what that makes need it.
    fn at_once(&self, from: &str, to: &str, make: impl FnOnce(&str) -> Result<()>) -> Result<()> {
        let snapshot = format!("{}{}", self.root.at(from), names::fresh_origin(to));
        zfs(&["snapshot", &snapshot])?;
        fault::point("storage.zfs.snapshot")?;
        make(&snapshot)?;
        zfs(&["destroy", "-d", &snapshot]).map(drop)
    }

    /// Makes `to` a dataset of its own that holds what `from` does at this moment; with what it shares with an image still
    /// shared, if that is wanted.
    pub(super) fn duplicate(&self, from: &str, to: &str, properties: &[String]) -> Result<()> {
        self.at_once(from, to, |snapshot| {
            let all = self.root.timeline("filesystem,volume,snapshot")?;
            let base = self.how.rebase.then(|| all.last_before(snapshot, READONLY)).flatten();
            let origin = base.iter().map(|base| format!("origin={base}")).collect::<Vec<_>>();
            let received = format!("{}{}", self.root.at(to), names::fresh("recv"));
            let mut words = vec!["-u"];
            words.extend(properties.iter().chain(&origin).flat_map(|property| ["-o", property]));
            words.push(&received);
            let mut receiving = Receiving::start(&words)?;
            let mut words = base.map_or_else(Vec::new, |base| vec!["-i".to_string(), base]);
            words.push(snapshot.to_string());
            tool::send(&words, &mut |stream| feed(stream, &mut receiving))?;
            receiving.finish()?;
            fault::point("storage.zfs.received")?;
            zfs(&["destroy", "-d", &received]).map(drop)
        })
    }

    /// Makes `to` a clone of the image that is at `image`.
    pub(super) fn clone_image(&self, image: &str, to: &str, properties: &[String]) -> Result<()> {
        let snapshot = format!("{}{READONLY}", self.root.at(image));
        self.with("clone", properties, &[&snapshot, &self.root.at(to)])
    }

    /// How volumes are made, and get their size: as planned, or as the pool says.
    pub(super) fn how(&self) -> Settings {
        let planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        planned.as_ref().unwrap_or(&self.how).clone()
    }

    /// Which of those a dataset has itself; None: it is not there.
    pub(super) fn own(&self, set: &str) -> Result<Option<Vec<(String, String)>>> {
        let said = zfs(&["get", "-Hp", "-s", "local", "-o", "property,value", OWN, &self.root.at(set)]);
        let part = |line: &str| line.split_once('\t').map(|(name, value)| (name.to_string(), value.to_string()));
        let all = tool::if_there(said)?.map(|said| said.lines().filter_map(part).collect::<Vec<_>>());
        Ok(all.map(|all| all.into_iter().filter(|(_, value)| value != "0").collect()))
    }

    /// Which map the owners in a custom volume have.
    pub(super) fn said_owners(&self, volume: &Volume) -> Result<IdMap> {
        let said = tool::get(OWNERS, &self.root.at(&names::volume(volume)))?;
        let said = said.ok_or_else(|| Error::not_found(format!("Volume \"{}\" not found", volume.name())))?;
        match said.first().map(String::as_str) {
            None | Some("" | "-") => Ok(IdMap::default()),
            Some(text) => IdMap::from_json(text),
        }
    }

    /// The properties of what is put together for a volume, not in block mode: those that it has, if it is there.
    pub(super) fn properties(&self, volume: &Volume) -> Result<Vec<String>> {
        Ok(match self.own(&names::volume(volume))? {
            Some(own) => own.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
            None => self.how().properties(),
        })
    }

    /// Gives a dataset this size, or none, and what else was planned.
    pub(super) fn resize(&self, set: &str, size: Option<u64>) -> Result<()> {
        let how = self.how();
        let size = size.map_or("none".to_string(), |size| size.to_string());
        let wanted = |reference: bool, reserve: bool| match reference == how.refquota && (!reserve || how.reserve) {
            true => size.as_str(),
            false => "none",
        };
        let mut values = vec![
            format!("quota={}", wanted(false, false)),
            format!("refquota={}", wanted(true, false)),
            format!("reservation={}", wanted(false, true)),
            format!("refreservation={}", wanted(true, true)),
        ];
        values.extend(how.properties());
        let at = self.root.at(set);
        let own = self.own(set)?.unwrap_or_default();
        // What is set aside goes before what bounds it.
        if own.iter().any(|(name, _)| name.contains("reserv")) {
            zfs(&["set", "reservation=none", "refreservation=none", &at])?;
        }
        if how.block.is_none() && own.iter().any(|(name, _)| name == "recordsize") {
            zfs(&["inherit", "recordsize", &at])?;
        }
        let mut words = vec!["set"];
        words.extend(values.iter().map(String::as_str));
        words.push(&at);
        zfs(&words).map(drop)
    }

    /// The names of what is directly in a folder of the pool's datasets, as far as they are known.
    pub(super) fn listed<T: Ord>(&self, folder: &str, known: impl Fn(&str) -> Option<T>) -> Result<Vec<T>> {
        let mut all: Vec<T> = self.root.children(folder)?.iter().filter_map(|name| known(name)).collect();
        all.sort();
        Ok(all)
    }

    /// Refuses a volume that is there already, or whose name ZFS has no room for.
    pub(super) fn absent(&self, volume: &Volume) -> Result<()> {
        if !names::fits(&self.root.name, volume) {
            return Err(Error::invalid(format!("The name \"{}\" is too long for a dataset", volume.name())));
        }
        match self.has(&names::volume(volume))? {
            true => Err(Error::exists(format!("Volume \"{}\" already exists", volume.name()))),
            false => Ok(()),
        }
    }

    pub(super) fn present(&self, volume: &Volume) -> Result<()> {
        self.is_block(volume).map(drop)
    }

    /// A volume, which is there, is in block mode.
    pub(super) fn is_block(&self, volume: &Volume) -> Result<bool> {
        let missing = || Error::not_found(format!("Volume \"{}\" not found", volume.name()));
        self.block(&names::volume(volume))?.ok_or_else(missing)
    }
}
