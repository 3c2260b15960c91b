//! `network attach`, `attach-profile`, `detach`, `detach-profile`: an interface on a network, as a device.

use super::network::named;
use super::{Context, DONE, Outcome, complete, config, kv};
use crate::base::names::ProfileName;
use crate::error::Result;
use crate::ops::network::attach::{self, Connection};
use crate::ops::{profile, update};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

/// Attach network interfaces to instances
#[derive(Debug, Args)]
pub struct Attach {
    /// Network
    #[arg(value_name = "network", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// Device name
    #[arg(value_name = "device name")]
    pub device: Option<String>,
    /// Interface name
    #[arg(value_name = "interface name")]
    pub interface: Option<String>,
}

/// Attach network interfaces to profiles
#[derive(Debug, Args)]
pub struct AttachProfile {
    /// Network
    #[arg(value_name = "network", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
    /// Profile
    #[arg(value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: String,
    /// Device name
    #[arg(value_name = "device name")]
    pub device: Option<String>,
    /// Interface name
    #[arg(value_name = "interface name")]
    pub interface: Option<String>,
}

/// Detach network interfaces from instances
#[derive(Debug, Args)]
pub struct Detach {
    /// Network
    #[arg(value_name = "network", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// Device name
    #[arg(value_name = "device name")]
    pub device: Option<String>,
}

/// Detach network interfaces from profiles
#[derive(Debug, Args)]
pub struct DetachProfile {
    /// Network
    #[arg(value_name = "network", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
    /// Profile
    #[arg(value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: String,
    /// Device name
    #[arg(value_name = "device name")]
    pub device: Option<String>,
}

impl Attach {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let (project, network) = named(cx, &store, &self.network)?;
        let (project, instance) = (project, config::instance(cx, &store, &kv::local(&self.instance)?)?.1);
        let connection = Connection::new(&network, self.device.as_deref(), self.interface.as_deref());
        let device = attach::device(&store, &project, &connection)?;
        update::update(&store, &project, &instance, &mut |edit| {
            attach::add(&mut edit.put.devices, &connection, device.clone())
        })?;
        Ok(DONE)
    }
}

impl AttachProfile {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let (project, network) = named(cx, &store, &self.network)?;
        let connection = Connection::new(&network, self.device.as_deref(), self.interface.as_deref());
        let device = attach::device(&store, &project, &connection)?;
        profile::update(&store, &project, &profile_name(&self.profile)?, &mut |put| {
            attach::add(&mut put.devices, &connection, device.clone())
        })?;
        Ok(DONE)
    }
}

impl Detach {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let (project, network) = named(cx, &store, &self.network)?;
        let instance = config::instance(cx, &store, &kv::local(&self.instance)?)?.1;
        update::update(&store, &project, &instance, &mut |edit| {
            attach::remove(&mut edit.put.devices, &network, self.device.as_deref())
        })?;
        Ok(DONE)
    }
}

impl DetachProfile {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let (project, network) = named(cx, &store, &self.network)?;
        profile::update(&store, &project, &profile_name(&self.profile)?, &mut |put| {
            attach::remove(&mut put.devices, &network, self.device.as_deref())
        })?;
        Ok(DONE)
    }
}

fn profile_name(word: &str) -> Result<ProfileName> {
    ProfileName::parse(&kv::local(word)?).map_err(|_| crate::error::Error::not_found("Profile not found"))
}
