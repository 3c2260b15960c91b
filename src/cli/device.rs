//! `config device` and `profile device`: the same commands for devices of instances and of profiles.
//!
//! Two clap enums (a profile has no `override`) become one [`Request`] that says whose device it is about.

use super::complete;
use super::kv::{self, Assignments};
use super::output::yaml;
use super::{Context, DONE, Outcome, config};
use crate::base::names::ProfileName;
use crate::error::Result;
use crate::model::instance::Devices;
use crate::ops::device_config::{self, Change};
use crate::ops::update::{self, Edit};
use crate::ops::{config as ops, profile};
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

/// Manage devices
#[derive(Debug, Subcommand)]
pub enum ConfigDevice {
    /// Add instance devices
    #[command(visible_alias = "create", verbatim_doc_comment, after_help = ADD_EXAMPLES)]
    Add(Add),
    /// Get values for device configuration keys
    Get(Get),
    /// List instance devices
    #[command(visible_alias = "ls")]
    List(One),
    /// Copy profile inherited devices and override configuration keys
    Override(Set),
    /// Remove instance devices
    #[command(visible_aliases = ["delete", "rm"])]
    Remove(Remove),
    /// Set device configuration keys
    Set(Set),
    /// Show full device configuration
    Show(One),
    /// Unset device configuration keys
    Unset(Unset),
}

/// Manage devices
#[derive(Debug, Subcommand)]
pub enum ProfileDevice {
    /// Add profile devices
    #[command(visible_alias = "create")]
    Add(Add),
    /// Get values for device configuration keys
    Get(Get),
    /// List profile devices
    #[command(visible_alias = "ls")]
    List(One),
    /// Remove profile devices
    #[command(visible_aliases = ["delete", "rm"])]
    Remove(Remove),
    /// Set device configuration keys
    Set(Set),
    /// Show full device configuration
    Show(One),
    /// Unset device configuration keys
    Unset(Unset),
}

const ADD_EXAMPLES: &str = "stapes config device add [<remote>:]instance1 <device-name> disk source=/share/c1 path=/opt
    Will mount the host's /share/c1 onto /opt in the instance.";

// Descriptions of these are on the variants: the structs serve instances and profiles.
#[derive(Debug, Clone, Args)]
pub struct Add {
    /// Instance or profile
    #[arg(value_name = "owner", add = ArgValueCompleter::new(complete::device_owners))]
    pub owner: String,
    /// New device name
    #[arg(value_name = "device")]
    pub device: String,
    /// Type of the device
    #[arg(value_name = "type", add = ArgValueCompleter::new(complete::device_types))]
    pub kind: String,
    /// Options of the device
    #[arg(value_name = "key=value")]
    pub values: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub struct Get {
    /// Instance or profile
    #[arg(value_name = "owner", add = ArgValueCompleter::new(complete::device_owners))]
    pub owner: String,
    /// Device
    #[arg(value_name = "device", add = ArgValueCompleter::new(complete::devices))]
    pub device: String,
    /// Option
    #[arg(value_name = "key")]
    pub key: String,
}

#[derive(Debug, Clone, Args)]
pub struct One {
    /// Instance or profile
    #[arg(value_name = "owner", add = ArgValueCompleter::new(complete::device_owners))]
    pub owner: String,
}

#[derive(Debug, Clone, Args)]
pub struct Remove {
    /// Instance or profile
    #[arg(value_name = "owner", add = ArgValueCompleter::new(complete::device_owners))]
    pub owner: String,
    /// Devices
    #[arg(value_name = "device", required = true, add = ArgValueCompleter::new(complete::devices))]
    pub devices: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub struct Set {
    /// Instance or profile
    #[arg(value_name = "owner", add = ArgValueCompleter::new(complete::device_owners))]
    pub owner: String,
    /// Device
    #[arg(value_name = "device", add = ArgValueCompleter::new(complete::devices))]
    pub device: String,
    /// Options of the device
    #[arg(value_name = "key=value")]
    pub values: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub struct Unset {
    /// Instance or profile
    #[arg(value_name = "owner", add = ArgValueCompleter::new(complete::device_owners))]
    pub owner: String,
    /// Device
    #[arg(value_name = "device", add = ArgValueCompleter::new(complete::devices))]
    pub device: String,
    /// Options
    #[arg(value_name = "key", required = true)]
    pub keys: Vec<String>,
}

/// Whose devices a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceOf {
    /// `config device`.
    Instance,
    /// `profile device`.
    Profile,
}

/// One command on devices; `owner` is the instance or profile, its remote taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Instance or profile.
    pub owner: String,
    /// What is to be done.
    pub action: Action,
}

/// What is done with devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Add `name` of type `kind`.
    Add { name: String, kind: String, values: Assignments },
    /// Print one option.
    Get { name: String, key: String },
    /// Print the names.
    List,
    /// Copy `name` from the profiles and change it.
    Override { name: String, values: Assignments },
    /// Remove.
    Remove { names: Vec<String> },
    /// Change options.
    Set { name: String, values: Assignments },
    /// Print all.
    Show,
    /// Remove options.
    Unset { name: String, keys: Vec<String> },
}

fn request(owner: &str, action: Action) -> Result<Request> {
    Ok(Request { owner: kv::local(owner)?, action })
}

fn add(a: Add) -> Result<Request> {
    let values = kv::assignments(&a.values)?;
    request(&a.owner, Action::Add { name: a.device, kind: a.kind, values })
}

/// At least one pair: `override` alone may do without.
fn set(s: Set) -> Result<Request> {
    if s.values.is_empty() {
        return Err(crate::error::Error::invalid("not enough arguments; expected a value for “<key>=<value>”"));
    }
    let values = kv::assignments(&s.values)?;
    request(&s.owner, Action::Set { name: s.device, values })
}

impl ConfigDevice {
    /// Checks the words.
    ///
    /// # Errors
    /// A bad pair or remote.
    pub fn into_request(self) -> Result<Request> {
        match self {
            Self::Add(a) => add(a),
            Self::Get(g) => request(&g.owner, Action::Get { name: g.device, key: g.key }),
            Self::List(o) => request(&o.owner, Action::List),
            Self::Override(s) => {
                let values = kv::assignments(&s.values)?;
                request(&s.owner, Action::Override { name: s.device, values })
            }
            Self::Remove(r) => request(&r.owner, Action::Remove { names: r.devices }),
            Self::Set(s) => set(s),
            Self::Show(o) => request(&o.owner, Action::Show),
            Self::Unset(u) => request(&u.owner, Action::Unset { name: u.device, keys: u.keys }),
        }
    }
}

impl ProfileDevice {
    /// Checks the words.
    ///
    /// # Errors
    /// A bad pair or remote.
    pub fn into_request(self) -> Result<Request> {
        match self {
            Self::Add(a) => add(a),
            Self::Get(g) => request(&g.owner, Action::Get { name: g.device, key: g.key }),
            Self::List(o) => request(&o.owner, Action::List),
            Self::Remove(r) => request(&r.owner, Action::Remove { names: r.devices }),
            Self::Set(s) => set(s),
            Self::Show(o) => request(&o.owner, Action::Show),
            Self::Unset(u) => request(&u.owner, Action::Unset { name: u.device, keys: u.keys }),
        }
    }
}

/// What is done with devices: looking, or a change with the notice for it.
enum Does {
    Look(Look),
    Change(Change, Option<String>),
}

enum Look {
    Get { name: String, key: String },
    List,
    Show,
}

impl Request {
    /// Carries the request out.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, of: DeviceOf, cx: &Context) -> Outcome {
        match does(cx, &self.owner, self.action)? {
            Does::Look(look) => show(cx, of, &self.owner, &look)?,
            Does::Change(change, notice) => {
                self::change(cx, of, &self.owner, &change)?;
                notice.map_or(Ok(()), |text| cx.notice(text))?;
            }
        }
        Ok(DONE)
    }
}

fn does(cx: &Context, owner: &str, action: Action) -> Result<Does> {
    Ok(match action {
        Action::Get { name, key } => Does::Look(Look::Get { name, key }),
        Action::List => Does::Look(Look::List),
        Action::Show => Does::Look(Look::Show),
        Action::Add { name, kind, values } => {
            let notice = format!("Device {name} added to {owner}");
            Does::Change(Change::Add { name, kind, values: cx.values(values)? }, Some(notice))
        }
        Action::Override { name, values } => {
            let notice = format!("Device {name} overridden for {owner}");
            Does::Change(Change::Override { name, values: cx.values(values)? }, Some(notice))
        }
        Action::Remove { names } => {
            let notice = format!("Device {} removed from {owner}", names.join(", "));
            Does::Change(Change::Remove { names }, Some(notice))
        }
        Action::Set { name, values } => Does::Change(Change::Set { name, values: cx.values(values)? }, None),
        Action::Unset { name, keys } => Does::Change(Change::Unset { name, keys }, None),
    })
}

fn show(cx: &Context, of: DeviceOf, owner: &str, look: &Look) -> Result<()> {
    let store = cx.reader()?;
    let (own, expanded): (Devices, Option<Devices>) = match of {
        DeviceOf::Instance => {
            let (project, name) = config::instance(cx, &store, owner)?;
            let view = ops::view(&store, (&project, &name))?;
            (view.put.devices, Some(view.expanded_devices))
        }
        DeviceOf::Profile => {
            (profile::show(&store, &cx.project(&store)?, &ProfileName::parse(owner)?)?.put.devices, None)
        }
    };
    match look {
        Look::Get { name, key } => cx.line(device_config::get(&own, expanded.as_ref(), name, key)?),
        Look::List => cx.line(own.keys().map(String::as_str).collect::<Vec<_>>().join("\n")),
        Look::Show => cx.print(yaml::document(&own)?),
    }
}

fn change(cx: &Context, of: DeviceOf, owner: &str, change: &Change) -> Result<()> {
    let store = cx.store()?;
    match of {
        DeviceOf::Instance => {
            let (project, name) = config::instance(cx, &store, owner)?;
            update::update(&store, &project, &name, &mut |edit: &mut Edit<'_>| {
                device_config::apply(&mut edit.put.devices, Some(&edit.loaded.expanded.devices), change)
            })
        }
        DeviceOf::Profile => profile::update(&store, &cx.project(&store)?, &ProfileName::parse(owner)?, &mut |put| {
            device_config::apply(&mut put.devices, None, change)
        }),
    }
}
