//! `storage volume`: volumes of pools, custom ones above all.

use super::complete;
use super::edit::edit;
use super::output::yaml;
use super::storage_volume_backup::{Export, Import};
use super::storage_volume_copy::{Copy, Move};
use super::storage_volume_delete::Delete;
use super::storage_volume_file::File;
use super::storage_volume_list::{Info, List};
use super::storage_volume_snapshot::Snapshot;
use super::storage_volume_use::{Attach, AttachProfile, Detach, DetachProfile};
use super::{Context, DONE, Outcome, kv, refuse_target};
use crate::base::names::{InstanceName, PoolName, ProjectName, SnapshotName, VolumeName};
use crate::error::{Error, Result};
use crate::model::view::{VolumePut, VolumeSnapshotPut, VolumeSnapshotView, VolumeView};
use crate::model::volume::ContentType;
use crate::ops::config::{Change, change_properties, document_of};
use crate::ops::volume::list::{self, Type};
use crate::ops::volume::{self as ops, Of, change, rename, root};
use crate::store::Store;
use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

/// Manage storage volumes
///
/// Unless specified through a prefix, all volume operations affect "custom" (user created) volumes.
#[derive(Debug, Subcommand)]
pub enum Volume {
    Attach(Attach),
    AttachProfile(AttachProfile),
    #[command(visible_alias = "cp")]
    Copy(Copy),
    #[command(visible_alias = "add")]
    Create(Create),
    /// Delete custom storage volumes
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(Delete),
    Detach(Detach),
    DetachProfile(DetachProfile),
    /// Edit storage volume configurations as YAML
    Edit(One),
    Export(Export),
    #[command(subcommand)]
    File(File),
    Get(Get),
    Import(Import),
    Info(Info),
    #[command(visible_alias = "ls")]
    List(List),
    #[command(visible_alias = "mv")]
    Move(Move),
    /// Rebuild custom storage volumes
    ///
    /// Wipes a volume and makes it anew, empty, with the same configuration. It may have no snapshots.
    Rebuild(One),
    Rename(Rename),
    Set(Set),
    /// Show storage volume configurations
    ///
    /// If the type is not specified, custom is assumed. Supported types are custom, container, image and virtual-machine.
    Show(One),
    #[command(subcommand)]
    Snapshot(Snapshot),
    Unset(Unset),
}

/// What a new volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Content {
    /// A disk.
    Block,
    /// Files.
    Filesystem,
}

/// A volume of a pool.
#[derive(Debug, Args)]
pub struct Place {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// Volume
    #[arg(value_name = "volume", add = ArgValueCompleter::new(complete::volumes))]
    pub volume: String,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

/// A volume.
#[derive(Debug, Args)]
pub struct One {
    #[command(flatten)]
    pub place: Place,
}

/// Create new custom storage volumes
#[derive(Debug, Args)]
#[command(after_help = "stapes storage volume create default foo
    Create custom storage volume \"foo\" in pool \"default\"

stapes storage volume create default foo < config.yaml
    Create custom storage volume \"foo\" in pool \"default\" with configuration from config.yaml

stapes storage volume create default disk --type=block size=20GiB
    Create a disk for virtual machines")]
pub struct Create {
    #[command(flatten)]
    pub place: Place,
    /// Keys and values
    #[arg(value_name = "key=value", add = ArgValueCompleter::new(complete::volume_keys))]
    pub values: Vec<String>,
    /// Content type, block or filesystem
    #[arg(short = 't', long = "type", value_name = "type", default_value = "filesystem")]
    pub kind: Content,
    /// Volume description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
}

/// Get values for storage volume configuration keys
///
/// If the type is not specified, custom is assumed. Supported types are custom, container, image and virtual-machine.
#[derive(Debug, Args)]
pub struct Get {
    #[command(flatten)]
    pub place: Place,
    /// Key
    #[arg(value_name = "key", add = ArgValueCompleter::new(complete::volume_keys))]
    pub key: String,
    /// Get the key as a storage volume property
    #[arg(short, long)]
    pub property: bool,
}

/// Rename custom storage volumes
#[derive(Debug, Args)]
pub struct Rename {
    #[command(flatten)]
    pub place: Place,
    /// New volume name
    #[arg(value_name = "new volume name")]
    pub new_name: String,
}

/// Set storage volume configuration keys
///
/// For backward compatibility, a single configuration key may still be set with:
///     stapes storage volume set [<remote>:]<pool> [<type>/]<volume> <key> <value>
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Set {
    #[command(flatten)]
    pub place: Place,
    /// Keys and values
    #[arg(value_name = "key=value", required = true, add = ArgValueCompleter::new(complete::volume_keys))]
    pub values: Vec<String>,
    /// Set the key as a storage volume property
    #[arg(short, long)]
    pub property: bool,
}

/// Unset storage volume configuration keys
#[derive(Debug, Args)]
pub struct Unset {
    #[command(flatten)]
    pub place: Place,
    /// Key
    #[arg(value_name = "key", add = ArgValueCompleter::new(complete::volume_keys))]
    pub key: String,
    /// Unset the key as a storage volume property
    #[arg(short, long)]
    pub property: bool,
}

const EDIT_HELP: &str = "### This is a YAML representation of a storage volume.
### Any line starting with a '# will be ignored.
###
### A storage volume consists of a set of configuration items.
###
### name: vol1
### type: custom
### used_by: []
### config:
###   size: \"61203283968\"";

/// The pool in a word of the command line.
pub(super) fn pool(word: &str) -> Result<PoolName> {
    PoolName::parse(&kv::local(word)?).map_err(|_| Error::not_found("Storage pool not found"))
}

/// A volume's word, `[type/]name[/snapshot]`, as Incus reads it: what stands before the first slash is a type or part of the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Its type.
    pub kind: Type,
    /// Its name.
    pub name: String,
    /// The snapshot.
    pub snapshot: Option<String>,
}

impl Word {
    pub(super) fn parse(word: &str) -> Self {
        let typed = word.split_once('/').and_then(|(first, rest)| Some((Type::parse(first)?, rest)));
        let (kind, rest) = typed.unwrap_or((Type::Custom, word));
        match rest.split_once('/') {
            Some((name, snapshot)) => Self { kind, name: name.to_string(), snapshot: Some(snapshot.to_string()) },
            None => Self { kind, name: rest.to_string(), snapshot: None },
        }
    }

    /// The snapshot of a custom volume that is meant; none: it is a volume.
    fn of_snapshot(&self) -> Result<Option<(VolumeName, SnapshotName)>> {
        let missing = |_| Error::not_found("Storage volume snapshot not found");
        match &self.snapshot {
            None => Ok(None),
            Some(_) if self.kind != Type::Custom => {
                Err(missing(()).hint("see: stapes snapshot show <instance> <snapshot>"))
            }
            Some(snapshot) => {
                let name = VolumeName::parse(&self.name).map_err(|_| ops::not_found())?;
                Ok(Some((name, SnapshotName::parse(snapshot).map_err(|_| missing(()))?)))
            }
        }
    }

    /// Incus's words for a volume that is not there, where it says which.
    fn absent(&self) -> Error {
        Error::not_found(format!("Storage pool volume \"{}/{}\" not found", self.kind.as_str(), self.name))
    }

    /// These in place of those that don't.
    pub(super) fn missing(&self, e: Error) -> Error {
        if e.to_string() == ops::not_found().to_string() { self.absent() } else { e }
    }

    /// Of a custom volume, without a snapshot: what verbs take that change one.
    pub(super) fn custom(word: &str, verb: &str) -> Result<VolumeName> {
        let word = Self::parse(word);
        if word.kind != Type::Custom {
            return Err(Error::invalid(format!("Only \"custom\" volumes can be {verb}"))
                .hint("the other volumes go with their instances and images"));
        }
        match word.snapshot {
            Some(_) => Err(Error::invalid("Snapshots are read-only and can't have their configuration changed")),
            None => VolumeName::parse(&word.name).map_err(|_| ops::not_found()),
        }
    }
}

/// A custom volume's name and perhaps its snapshot's, not checked yet.
pub(super) fn taken_apart(word: &str) -> Result<(String, Option<String>)> {
    let word = Word::parse(word);
    match word.kind {
        Type::Custom => Ok((word.name, word.snapshot)),
        _ => Err(Error::invalid("Only \"custom\" volumes can be copied or moved")),
    }
}

/// A custom volume under its names.
pub(super) struct Named {
    pub project: ProjectName,
    pub pool: PoolName,
    pub name: VolumeName,
}

impl Named {
    /// `verb`: what is done to it, as in `attached`.
    pub(super) fn of(cx: &Context, store: &Store, (pool_word, volume): (&str, &str), verb: &str) -> Result<Self> {
        Ok(Self { project: cx.project(store)?, pool: pool(pool_word)?, name: Word::custom(volume, verb)? })
    }

    pub(super) fn of_place(cx: &Context, store: &Store, place: &Place, verb: &str) -> Result<Self> {
        refuse_target(place.target.as_deref())?;
        Self::of(cx, store, (&place.pool, &place.volume), verb)
    }

    pub(super) fn get(&self) -> Of<'_> {
        Of { project: &self.project, pool: &self.pool, name: &self.name }
    }
}

impl Volume {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Attach(attach) => attach.run(cx),
            Self::AttachProfile(attach) => attach.run(cx),
            Self::Copy(copy) => copy.run(cx),
            Self::Create(create) => create.run(cx),
            Self::Delete(delete) => delete.run(cx),
            Self::Detach(detach) => detach.run(cx),
            Self::DetachProfile(detach) => detach.run(cx),
            Self::Edit(one) => edited(cx, &one.place),
            Self::Export(export) => export.run(cx),
            Self::File(file) => file.run(cx),
            Self::Get(get) => get.run(cx),
            Self::Import(import) => import.run(cx),
            Self::Info(info) => info.run(cx),
            Self::List(list) => list.run(cx),
            Self::Move(moved) => moved.run(cx),
            Self::Rebuild(one) => rebuild(cx, &one.place),
            Self::Rename(rename) => rename.run(cx),
            Self::Set(set) => {
                let change = Change::Set(cx.values(kv::assignments(&set.values)?)?);
                changed(cx, &set.place, set.property, &change)
            }
            Self::Show(one) => show(cx, &one.place),
            Self::Snapshot(snapshot) => snapshot.run(cx),
            Self::Unset(unset) => changed(cx, &unset.place, unset.property, &Change::Unset(vec![unset.key])),
        }
    }
}

impl Create {
    fn run(self, cx: &Context) -> Outcome {
        let mut put: VolumePut = document_of(&cx.stdin_document()?.unwrap_or_default())?;
        put.config.extend(cx.values(kv::assignments(&self.values)?)?);
        if let Some(description) = self.description.filter(|d| !d.is_empty()) {
            put.description = description;
        }
        refuse_target(self.place.target.as_deref())?;
        let store = cx.store()?;
        let word = Word::parse(&self.place.volume);
        if word.kind != Type::Custom {
            return Err(Error::invalid("Only \"custom\" volumes can be created").into());
        }
        let name = match &word.snapshot {
            Some(_) => VolumeName::parse(&self.place.volume)?,
            None => VolumeName::parse(&word.name)?,
        };
        let (project, pool) = (cx.project(&store)?, pool(&self.place.pool)?);
        let content = match self.kind {
            Content::Block => ContentType::Block,
            Content::Filesystem => ContentType::Filesystem,
        };
        change::create(&store, Of { project: &project, pool: &pool, name: &name }, content, put)?;
        cx.notice(format_args!("Storage volume {name} created"))?;
        Ok(DONE)
    }
}

fn rebuild(cx: &Context, place: &Place) -> Outcome {
    let store = cx.store()?;
    let named = Named::of_place(cx, &store, place, "rebuilt")?;
    change::rebuild(&store, named.get())?;
    cx.notice(format_args!("Storage volume {} rebuilt", named.name))?;
    Ok(DONE)
}

impl Rename {
    fn run(self, cx: &Context) -> Outcome {
        let kind = Word::parse(&self.place.volume).kind;
        if kind != Type::Custom {
            let text = format!("Renaming storage volumes of type {:?} is not allowed", kind.as_str());
            return Err(Error::invalid(text).hint("they are called as their instances and images").into());
        }
        let store = cx.store()?;
        let named = Named::of_place(cx, &store, &self.place, "renamed")?;
        let new = VolumeName::parse(self.new_name.strip_prefix("custom/").unwrap_or(&self.new_name))?;
        rename::rename(&store, named.get(), &new)?;
        cx.notice(format_args!("Renamed storage volume from \"{}\" to \"{new}\"", named.name))?;
        Ok(DONE)
    }
}

/// A volume of any type.
pub(super) fn shown(cx: &Context, store: &Store, place: &Place) -> Result<(PoolName, VolumeView)> {
    refuse_target(place.target.as_deref())?;
    let (project, pool, word) = (cx.project(store)?, pool(&place.pool)?, Word::parse(&place.volume));
    let view = list::show(store, &project, &pool, (word.kind, &word.name)).map_err(|e| word.missing(e))?;
    Ok((pool, view))
}

fn show(cx: &Context, place: &Place) -> Outcome {
    cx.print(document(cx, place)?)?;
    Ok(DONE)
}

/// A volume or a snapshot as a document.
fn document(cx: &Context, place: &Place) -> Result<String> {
    let store = cx.reader()?;
    refuse_target(place.target.as_deref())?;
    match shown_snapshot(cx, &store, (&place.pool, &place.volume))? {
        Some(snapshot) => yaml::document(&snapshot),
        None => {
            let word = Word::parse(&place.volume);
            let other_types = |e: Error| match word.kind == Type::Custom && e.to_string() == word.absent().to_string() {
                true => Error::not_found(format!("{e}. Try virtual-machine or container for type")),
                false => e,
            };
            yaml::document(&shown(cx, &store, place).map_err(other_types)?.1)
        }
    }
}

/// The snapshot that is meant; none: it is a volume.
pub(super) fn shown_snapshot(
    cx: &Context,
    store: &Store,
    (pool_word, volume): (&str, &str),
) -> Result<Option<VolumeSnapshotView>> {
    let (project, pool, word) = (cx.project(store)?, pool(pool_word)?, Word::parse(volume));
    if let (Type::Container, Some(snapshot)) = (word.kind, &word.snapshot) {
        let name = InstanceName::parse(&word.name).map_err(|_| ops::not_found())?;
        let snapshot = SnapshotName::parse(snapshot).map_err(|_| ops::snapshot::not_found())?;
        return list::root_snapshot(store, (&project, &name), &pool, &snapshot).map(Some);
    }
    let Some((name, snapshot)) = word.of_snapshot()? else { return Ok(None) };
    let all = list::snapshots(store, Of { project: &project, pool: &pool, name: &name })?;
    let found = all.into_iter().find(|s| s.name == snapshot.as_str());
    found.map(Some).ok_or_else(ops::snapshot::not_found)
}

fn edited(cx: &Context, place: &Place) -> Outcome {
    let text = if cx.tty.stdin { document(cx, place)? } else { String::new() };
    edit(cx, EDIT_HELP, &text, &mut |text| {
        if Word::parse(&place.volume).snapshot.is_some() {
            let put: VolumeSnapshotPut = document_of(text)?;
            return update_snapshot(cx, place, &mut |target| {
                *target = put.clone();
                Ok(())
            });
        }
        let put: VolumePut = document_of(text)?;
        update(cx, place, &mut |target| {
            *target = put.clone();
            Ok(())
        })
    })?;
    Ok(DONE)
}

fn update(cx: &Context, place: &Place, edit: &mut dyn FnMut(&mut VolumePut) -> Result<()>) -> Result<()> {
    let store = cx.store()?;
    let word = Word::parse(&place.volume);
    if word.kind == Type::Container && word.snapshot.is_none() {
        refuse_target(place.target.as_deref())?;
        let name = InstanceName::parse(&word.name).map_err(|_| ops::not_found())?;
        return root::update(&store, (&cx.project(&store)?, &name), &pool(&place.pool)?, edit);
    }
    let named = Named::of_place(cx, &store, place, "changed")?;
    change::update(&store, named.get(), edit)
}

fn update_snapshot(
    cx: &Context,
    place: &Place,
    edit: &mut dyn FnMut(&mut VolumeSnapshotPut) -> Result<()>,
) -> Result<()> {
    refuse_target(place.target.as_deref())?;
    let store = cx.store()?;
    let (project, pool) = (cx.project(&store)?, pool(&place.pool)?);
    let word = Word::parse(&place.volume);
    if let (Type::Container, Some(snapshot)) = (word.kind, &word.snapshot) {
        let name = InstanceName::parse(&word.name).map_err(|_| ops::not_found())?;
        let snapshot = SnapshotName::parse(snapshot).map_err(|_| ops::snapshot::not_found())?;
        return root::update_snapshot(&store, (&project, &name), (&pool, &snapshot), edit);
    }
    let Some((name, snapshot)) = word.of_snapshot()? else {
        return Err(ops::snapshot::not_found());
    };
    ops::snapshot::update(&store, Of { project: &project, pool: &pool, name: &name }, &snapshot, edit)
}

fn changed(cx: &Context, place: &Place, property: bool, change: &Change) -> Outcome {
    if property && Word::parse(&place.volume).snapshot.is_some() {
        update_snapshot(cx, place, &mut |put| change_properties(put, change))?;
        return Ok(DONE);
    }
    let done = update(cx, place, &mut |put| match (property, change) {
        (true, change) => change_properties(put, change),
        (false, Change::Set(pairs)) => {
            put.config.extend(pairs.iter().cloned());
            Ok(())
        }
        (false, Change::Unset(keys)) => {
            put.config.retain(|key, _| !keys.contains(key));
            Ok(())
        }
    });
    done.map_err(|e| Word::parse(&place.volume).missing(e))?;
    Ok(DONE)
}

impl Get {
    fn run(self, cx: &Context) -> Outcome {
        let store = cx.reader()?;
        refuse_target(self.place.target.as_deref())?;
        if let Some(mut found) = shown_snapshot(cx, &store, (&self.place.pool, &self.place.volume))? {
            match found.config.remove(&self.key) {
                Some(value) if !self.property => cx.line(value)?,
                _ => {
                    let what = format!("storage pool volume snapshot {}", self.place.volume);
                    cx.value(&mut found.put, (&self.key, self.property), &what)?;
                }
            }
            return Ok(DONE);
        }
        let (_, view) = shown(cx, &store, &self.place)?;
        let mut put = view.put;
        cx.value(&mut put, (&self.key, self.property), &format!("storage pool volume {:?}", view.name))?;
        Ok(DONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_incus_reads_them() {
        let show = |word: &str| {
            let Word { kind, name, snapshot } = Word::parse(word);
            format!("{} {name} {}", kind.as_str(), snapshot.unwrap_or_default())
        };
        assert_eq!(show("data"), "custom data ");
        assert_eq!(show("custom/data"), "custom data ");
        assert_eq!(show("container/c1"), "container c1 ");
        assert_eq!(show("data/snap0"), "custom data snap0");
        assert_eq!(show("custom/data/snap0"), "custom data snap0");
        assert!(Word::custom("container/c1", "deleted").is_err() && Word::custom("data/s", "deleted").is_err());
        assert_eq!(Word::custom("data", "deleted").expect("custom").as_str(), "data");
    }
}
