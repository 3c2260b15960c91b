//! `storage volume attach`, `attach-profile`, `detach`, `detach-profile`: a volume in an instance, as a device.

use super::storage_volume::Named;
use super::{Context, DONE, Outcome, complete, config, kv};
use crate::base::names::ProfileName;
use crate::error::{Error, Kind, Result};
use crate::model::view::VolumePut;
use crate::model::volume::ContentType;
use crate::ops::volume::attach::{self, Connection};
use crate::ops::volume::change;
use crate::ops::{profile, update};
use crate::store::Store;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

/// Attach new custom storage volumes to instances
#[derive(Debug, Args)]
pub struct Attach {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// Volume
    #[arg(value_name = "volume", add = ArgValueCompleter::new(complete::volumes))]
    pub volume: String,
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// Device name
    #[arg(value_name = "device name")]
    pub device: Option<String>,
    /// Path in the instance
    #[arg(value_name = "path")]
    pub path: Option<String>,
    /// Create the volume if it doesn't exist
    #[arg(long)]
    pub create: bool,
}

/// Attach new custom storage volumes to profiles
#[derive(Debug, Args)]
pub struct AttachProfile {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// Volume
    #[arg(value_name = "volume", add = ArgValueCompleter::new(complete::volumes))]
    pub volume: String,
    /// Profile
    #[arg(value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: String,
    /// Device name
    #[arg(value_name = "device name")]
    pub device: Option<String>,
    /// Path in the instances
    #[arg(value_name = "path")]
    pub path: Option<String>,
    /// Create the volume if it doesn't exist
    #[arg(long)]
    pub create: bool,
}

/// Detach custom storage volumes from instances
#[derive(Debug, Args)]
pub struct Detach {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// Volume
    #[arg(value_name = "volume", add = ArgValueCompleter::new(complete::volumes))]
    pub volume: String,
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// Device name
    #[arg(value_name = "device name")]
    pub device: Option<String>,
}

/// Detach custom storage volumes from profiles
#[derive(Debug, Args)]
pub struct DetachProfile {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// Volume
    #[arg(value_name = "volume", add = ArgValueCompleter::new(complete::volumes))]
    pub volume: String,
    /// Profile
    #[arg(value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: String,
    /// Device name
    #[arg(value_name = "device name")]
    pub device: Option<String>,
}

/// The volume, which is there or made, and the device for it.
fn connection(
    cx: &Context,
    store: &Store,
    words: (&str, &str),
    (device, path): (Option<&str>, Option<&str>),
    create: bool,
) -> Result<(Named, Connection)> {
    let named = Named::of(cx, store, words, "attached to instances")?;
    match attach::check(store, named.get()) {
        Err(e) if create && e.kind() == Kind::NotFound => {
            change::create(store, named.get(), ContentType::Filesystem, VolumePut::default())?;
        }
        other => other?,
    }
    let connection = Connection::new(&named.pool, named.name.as_str(), device, path);
    Ok((named, connection))
}

impl Attach {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let words = (self.pool.as_str(), self.volume.as_str());
        let device = (self.device.as_deref(), self.path.as_deref());
        let (project, instance) = config::instance(cx, &store, &kv::local(&self.instance)?)?;
        let (_, connection) = connection(cx, &store, words, device, self.create)?;
        update::update(&store, &project, &instance, &mut |edit| attach::add(&mut edit.put.devices, &connection))?;
        Ok(DONE)
    }
}

impl AttachProfile {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let words = (self.pool.as_str(), self.volume.as_str());
        let device = (self.device.as_deref(), self.path.as_deref());
        let (named, connection) = connection(cx, &store, words, device, self.create)?;
        profile::update(&store, &named.project, &profile_name(&self.profile)?, &mut |put| {
            attach::add(&mut put.devices, &connection)
        })?;
        Ok(DONE)
    }
}

impl Detach {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let named = Named::of(cx, &store, (&self.pool, &self.volume), "detached from instances")?;
        let (project, instance) = config::instance(cx, &store, &kv::local(&self.instance)?)?;
        update::update(&store, &project, &instance, &mut |edit| {
            attach::remove(&mut edit.put.devices, &named.pool, &named.name, self.device.as_deref())
        })?;
        Ok(DONE)
    }
}

impl DetachProfile {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let named = Named::of(cx, &store, (&self.pool, &self.volume), "detached from profiles")?;
        profile::update(&store, &named.project, &profile_name(&self.profile)?, &mut |put| {
            attach::remove(&mut put.devices, &named.pool, &named.name, self.device.as_deref())
        })?;
        Ok(DONE)
    }
}

fn profile_name(word: &str) -> Result<ProfileName> {
    ProfileName::parse(&kv::local(word)?).map_err(|_| Error::not_found("Profile not found"))
}
