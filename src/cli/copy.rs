//! `copy` and `move`: instances a second time, or elsewhere.

use super::complete;
use super::{Context, DONE, Outcome, config, kv, refuse_target, snapshot};
use crate::base::names::{InstanceName, PoolName, ProjectName};
use crate::error::{Error, Result};
use crate::ops::copy::{self as ops, Request};
use crate::ops::{quota, refresh, relocate, rename};
use crate::store::Store;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

// No doc comment: it would replace the description of the commands that take these.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Config key/value to apply to the new instance (may be passed multiple times)
    #[arg(short, long, value_name = "key=value", add = ArgValueCompleter::new(complete::key_assignments))]
    pub config: Vec<String>,
    /// New key/value to apply to a specific device (may be passed multiple times)
    #[arg(short, long, value_name = "device,key=value")]
    pub device: Vec<String>,
    /// Copy the instance without its snapshots
    #[arg(long)]
    pub instance_only: bool,
    /// Transfer mode. One of pull, push or relay: all the same between places of one host
    #[arg(long, value_name = "mode", default_value = "pull")]
    pub mode: String,
    /// Unset all profiles on the target instance
    #[arg(long)]
    pub no_profiles: bool,
    /// Profile to apply to the target instance (may be passed multiple times)
    #[arg(short, long, value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: Vec<String>,
    /// Copy a stateful instance stateless
    #[arg(long)]
    pub stateless: bool,
    /// Storage pool name
    #[arg(short, long, value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub storage: Option<String>,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
    /// Copy to a project different from the source
    #[arg(long, value_name = "project", add = ArgValueCompleter::new(complete::projects))]
    pub target_project: Option<String>,
    /// Ignore copy errors for volatile files
    #[arg(long)]
    pub allow_inconsistent: bool,
}

/// Copy instances within or in between servers
#[derive(Debug, Args)]
#[command(after_help = "stapes copy c1 c2
    Make the instance c2, which is like c1 with all its snapshots

stapes copy c1/snap0 c3 --storage fast -c limits.memory=1GiB
    Make one of a snapshot, on another storage pool and with a key of its own")]
pub struct Copy {
    /// Instance, or a snapshot of it
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub source: String,
    /// New instance name
    #[arg(value_name = "new instance name")]
    pub new_name: Option<String>,
    #[command(flatten)]
    pub options: Options,
    /// Ephemeral instance
    #[arg(short, long)]
    pub ephemeral: bool,
    /// Perform an incremental copy
    #[arg(long)]
    pub refresh: bool,
    /// During incremental copy, exclude source snapshots earlier than latest target snapshot
    #[arg(long)]
    pub refresh_exclude_older: bool,
}

/// Move instances within or in between servers
#[derive(Debug, Args)]
#[command(after_help = "stapes move c1 c2
    Rename the instance

stapes move c1 --storage fast
    Move it to another storage pool")]
pub struct Move {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub source: String,
    /// New instance name
    #[arg(value_name = "new instance name")]
    pub new_name: Option<String>,
    #[command(flatten)]
    pub options: Options,
}

impl Options {
    fn check(&self) -> Result<()> {
        refuse_target(self.target.as_deref())?;
        match self.mode.as_str() {
            "pull" | "push" | "relay" => Ok(()),
            other => Err(Error::invalid(format!("Invalid transfer mode {other:?}"))),
        }
    }

    fn profiles(&self) -> Option<Vec<String>> {
        match self.profile.as_slice() {
            [] if self.no_profiles => Some(Vec::new()),
            [] => None,
            some => Some(some.to_vec()),
        }
    }

    /// The request for `name` in `project` to become `target`.
    fn request(
        &self,
        store: &Store,
        (project, name): (ProjectName, InstanceName),
        target: Option<InstanceName>,
    ) -> Result<Request> {
        let target_project = match self.target_project.as_deref().filter(|p| !p.is_empty()) {
            Some(word) => {
                let wanted = ProjectName::parse(word)?;
                store.project(&wanted)?.ok_or_else(|| Error::not_found("Project not found"))?;
                wanted
            }
            None => project.clone(),
        };
        Ok(Request {
            project,
            name,
            snapshot: None,
            target_project,
            target,
            config: self.config.iter().map(|word| kv::pair(word)).collect::<Result<_>>()?,
            device_overrides: kv::device_overrides(&self.device)?,
            profiles: self.profiles(),
            ephemeral: false,
            storage: self.storage.as_deref().map(PoolName::parse).transpose()?,
            instance_only: self.instance_only,
            moving: false,
        })
    }
}

/// A new name; `local:` alone is none.
fn target(word: Option<&str>) -> Result<Option<InstanceName>> {
    let name = word.map(kv::local).transpose()?.filter(|n| !n.is_empty());
    name.as_deref().map(InstanceName::parse).transpose()
}

/// Says which sizes of an instance that has come here its pools don't keep.
pub(super) fn tell_unkept(cx: &Context, store: &Store, (project, name): (&ProjectName, &InstanceName)) -> Result<()> {
    quota::unkept_along(store, project, name)?.iter().for_each(|text| cx.warn(text));
    Ok(())
}

impl Copy {
    /// Copies.
    ///
    /// # Errors
    /// See `ops::copy`.
    pub fn run(self, cx: &Context) -> Outcome {
        self.options.check()?;
        if self.refresh_exclude_older && !self.refresh {
            return Err(Error::invalid("--refresh-exclude-older can only be used with --refresh").into());
        }
        let source = kv::local(&self.source)?;
        let (name, of) = source.split_once('/').map_or((source.as_str(), None), |(n, s)| (n, Some(s)));
        let target = target(self.new_name.as_deref())?;
        let store = cx.store()?;
        let who = config::instance(cx, &store, name)?;
        let mut request = self.options.request(&store, who, target)?;
        request.snapshot = of.map(snapshot::named).transpose()?;
        request.ephemeral = self.ephemeral;
        if self.refresh && self.options.no_profiles {
            return Err(Error::invalid("--no-profiles cannot be used with --refresh").into());
        }
        if self.refresh {
            let wanted = request.target.clone().unwrap_or_else(|| request.name.clone());
            if store.instance_exists(&request.target_project, &wanted)? {
                refresh::refresh(&store, &request, &wanted, self.refresh_exclude_older)?;
                return Ok(DONE);
            }
        }
        let made = ops::copy(&store, &request)?;
        tell_unkept(cx, &store, (&request.target_project, &made))?;
        if request.target.is_none() {
            cx.notice(format_args!("Instance name is: {made}"))?;
        }
        Ok(DONE)
    }
}

impl Move {
    /// Moves: to another project by a copy that takes the place of its source, else step by step – the pool, what was set, the
    /// name –, each of which is done or not at all.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        self.options.check()?;
        let source = kv::local(&self.source)?;
        if source.contains('/') {
            return Err(Error::invalid("Snapshots can't be moved")
                .hint("rename them, or copy one to an instance")
                .into());
        }
        let new_name = target(self.new_name.as_deref())?;
        let store = cx.store()?;
        let (project, name) = config::instance(cx, &store, &source)?;
        let mut request = self.options.request(&store, (project.clone(), name.clone()), new_name.clone())?;
        if request.target_project != project {
            request.target = Some(new_name.unwrap_or(name));
            request.moving = true;
            let made = ops::copy(&store, &request)?;
            tell_unkept(cx, &store, (&request.target_project, &made))?;
            return Ok(DONE);
        }
        if new_name.is_none() && request.storage.is_none() {
            return Err(Error::invalid("You must specify a new name, a storage pool or a project").into());
        }
        if let Some(pool) = &request.storage {
            relocate::relocate(&store, (&project, &name), pool)?;
            tell_unkept(cx, &store, (&project, &name))?;
        }
        relocate::adjust(&store, (&project, &name), &request)?;
        match new_name.filter(|new| *new != name) {
            Some(new) => rename::rename(&store, &project, &name, &new)?,
            None if request.storage.is_none() => {
                return Err(Error::exists(format!("Name {:?} already in use", name.as_str())).into());
            }
            None => {}
        }
        Ok(DONE)
    }
}
