//! `storage volume copy` and `move`.

use super::storage_volume::{pool, taken_apart};
use super::{Context, DONE, Outcome, complete, kv, refuse_target};
use crate::base::names::{PoolName, ProjectName, SnapshotName, VolumeName};
use crate::error::{Error, Result};
use crate::ops::quota;
use crate::ops::volume::copy::{self, Source};
use crate::ops::volume::{self as ops, Of, refresh};
use crate::store::Store;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

// Flattened: no doc comment.
#[derive(Debug, Args)]
pub struct Words {
    /// Source
    #[arg(value_name = "pool/volume", add = ArgValueCompleter::new(complete::pools))]
    pub source: String,
    /// Target
    #[arg(value_name = "target pool/volume", add = ArgValueCompleter::new(complete::pools))]
    pub destination: String,
    /// Transfer mode, one of pull, push or relay; here it makes no difference
    #[arg(long, value_name = "mode", default_value = "pull", hide = true)]
    pub mode: String,
    /// Copy to a project different from the source
    #[arg(long, value_name = "project", add = ArgValueCompleter::new(complete::projects))]
    pub target_project: Option<String>,
    /// Source cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
    /// Destination cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub destination_target: Option<String>,
}

/// Copy custom storage volumes
#[derive(Debug, Args)]
#[command(after_help = "stapes storage volume copy default/data fast/data
    Copy the volume \"data\" with its snapshots to the pool \"fast\"

stapes storage volume copy default/data/snap0 default/then
    Make a volume of a snapshot")]
pub struct Copy {
    #[command(flatten)]
    pub words: Words,
    /// Copy the volume without its snapshots
    #[arg(long)]
    pub volume_only: bool,
    /// Refresh and update the existing storage volume copies
    #[arg(long)]
    pub refresh: bool,
    /// During refresh, exclude source snapshots earlier than latest target snapshot
    #[arg(long)]
    pub refresh_exclude_older: bool,
}

/// Move custom storage volumes between pools
///
/// Within its pool a volume gets another name.
#[derive(Debug, Args)]
pub struct Move {
    #[command(flatten)]
    pub words: Words,
}

/// Both ends, read from the words.
struct Ends {
    project: ProjectName,
    pool: PoolName,
    name: VolumeName,
    snapshot: Option<SnapshotName>,
    to_project: ProjectName,
    to_pool: PoolName,
    to_name: VolumeName,
}

impl Ends {
    fn read(cx: &Context, store: &Store, words: &Words) -> Result<Self> {
        refuse_target(words.target.as_deref())?;
        refuse_target(words.destination_target.as_deref())?;
        let (source_pool, source) = split(&words.source)?;
        let (to_pool, to) = split(&words.destination)?;
        let (name, snapshot) = taken_apart(&source)?;
        let snapshot = snapshot.map(|s| SnapshotName::parse(&s).map_err(|_| ops::snapshot::not_found()));
        let project = cx.project(store)?;
        let to_project = match &words.target_project {
            None => project.clone(),
            Some(name) => {
                let name = ProjectName::parse(name)?;
                store.project(&name)?.map(|_| name).ok_or_else(|| Error::not_found("Project not found"))?
            }
        };
        Ok(Self {
            project,
            pool: pool(&source_pool)?,
            name: VolumeName::parse(&name).map_err(|_| ops::not_found())?,
            snapshot: snapshot.transpose()?,
            to_project,
            to_pool: pool(&to_pool)?,
            to_name: VolumeName::parse(to.strip_prefix("custom/").unwrap_or(&to))?,
        })
    }

    fn source(&self, volume_only: bool) -> Source<'_> {
        let of = Of { project: &self.project, pool: &self.pool, name: &self.name };
        Source { of, snapshot: self.snapshot.as_ref(), volume_only }
    }

    fn target(&self) -> Of<'_> {
        Of { project: &self.to_project, pool: &self.to_pool, name: &self.to_name }
    }
}

/// `[remote:]pool/volume…`.
fn split(word: &str) -> Result<(String, String)> {
    let word = kv::local(word)?;
    let parts = word.split_once('/').filter(|(pool, volume)| !pool.is_empty() && !volume.is_empty());
    let (pool, volume) = parts.ok_or_else(|| {
        Error::invalid(format!("Invalid volume {word:?}")).hint("a volume is named with its pool: <pool>/<volume>")
    })?;
    Ok((pool.to_string(), volume.to_string()))
}

/// Says that the pool of a volume that has come there doesn't keep its size.
pub(super) fn tell_unkept(cx: &Context, store: &Store, of: Of<'_>) -> Result<()> {
    quota::unkept_volume(store, &of.key(store)?)?.iter().for_each(|text| cx.warn(text));
    Ok(())
}

impl Copy {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let ends = Ends::read(cx, &store, &self.words)?;
        if ends.snapshot.is_some() && self.volume_only {
            return Err(Error::invalid("Cannot set --volume-only when copying a snapshot").into());
        }
        let source = ends.source(self.volume_only);
        match self.refresh {
            true => refresh::refresh(&store, source, ends.target(), self.refresh_exclude_older)?,
            false => copy::copy(&store, source, ends.target())?,
        }
        tell_unkept(cx, &store, ends.target())?;
        cx.notice("Storage volume copied successfully!")?;
        Ok(DONE)
    }
}

impl Move {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let ends = Ends::read(cx, &store, &self.words)?;
        if ends.snapshot.is_some() {
            return Err(Error::invalid("Snapshots of storage volumes cannot be moved").hint("copy it").into());
        }
        copy::relocate(&store, ends.source(false), ends.target())?;
        if ends.pool != ends.to_pool {
            tell_unkept(cx, &store, ends.target())?;
        }
        cx.notice("Storage volume moved successfully!")?;
        Ok(DONE)
    }
}
