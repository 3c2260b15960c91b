//! `config`: keys of instances and of the host.

use super::complete;
use super::config_metadata::{Metadata, Template};
use super::device::{ConfigDevice, DeviceOf};
use super::edit::edit;
use super::output::yaml;
use super::{Context, DONE, Outcome, kv, refuse_target, snapshot_config as snapshots};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Error, Result};
use crate::model::view::SnapshotView;
use crate::ops::config::{self as ops, Change};
use crate::ops::{load, start};
use crate::store::Store;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

/// Manage instance and server configuration options
#[derive(Debug, Subcommand)]
pub enum Config {
    #[command(subcommand)]
    Device(ConfigDevice),
    Edit(Edit),
    Get(Get),
    #[command(subcommand)]
    Metadata(Metadata),
    Set(Set),
    Show(Show),
    #[command(subcommand)]
    Template(Template),
    Unset(Unset),
}

/// Edit instance or server configurations as YAML
#[derive(Debug, Args)]
#[command(after_help = "stapes config edit <instance> < instance.yaml
    Update the instance configuration from instance.yaml.")]
pub struct Edit {
    /// Instance; none: the server
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: Option<String>,
    #[command(flatten)]
    pub target: Target,
}

/// Get values for instance or server configuration keys
#[derive(Debug, Args)]
pub struct Get {
    /// Instance (none: the server) and key
    #[arg(value_name = "key", required = true, num_args = 1..=2, add = ArgValueCompleter::new(complete::instance_then_key))]
    pub words: Vec<String>,
    /// Access the expanded configuration
    #[arg(short, long)]
    pub expanded: bool,
    /// Get the key as an instance property
    #[arg(short, long)]
    pub property: bool,
    #[command(flatten)]
    pub target: Target,
}

/// Set instance or server configuration keys
///
/// For backward compatibility, a single configuration key may still be set with:
///     stapes config set [<remote>:]<instance> <key> <value>
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "stapes config set [<remote>:]<instance> limits.cpu=2
    Will set a CPU limit of \"2\" for the instance.

stapes config set web user.note=\"x y\" environment.FOO=bar
    Will set two keys at once."
)]
pub struct Set {
    /// Instance (none: the server), keys and values
    #[arg(
        value_name = "key=value",
        required = true,
        add = ArgValueCompleter::new(complete::instance_then_assignment)
    )]
    pub words: Vec<String>,
    /// Set the key as an instance property
    #[arg(short, long)]
    pub property: bool,
    #[command(flatten)]
    pub target: Target,
}

/// Show instance or server configurations
#[derive(Debug, Args)]
pub struct Show {
    /// Instance; none: the server
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: Option<String>,
    /// Show the expanded configuration
    #[arg(short, long)]
    pub expanded: bool,
    /// Show what the instance is compiled into when it starts
    #[arg(long)]
    pub plan: bool,
    #[command(flatten)]
    pub target: Target,
}

/// Unset instance or server configuration keys
#[derive(Debug, Args)]
pub struct Unset {
    /// Instance (none: the server) and keys
    #[arg(value_name = "key", required = true, add = ArgValueCompleter::new(complete::instance_then_key))]
    pub words: Vec<String>,
    /// Unset the keys as instance properties
    #[arg(short, long)]
    pub property: bool,
    #[command(flatten)]
    pub target: Target,
}

// Flattened: no doc comment.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

impl Target {
    /// Refuses `--target`.
    ///
    /// # Errors
    /// It was given. `of_instance`: the command is about an instance.
    pub fn refuse(&self, of_instance: bool) -> Result<()> {
        if of_instance && self.target.is_some() {
            return Err(Error::invalid("--target cannot be used with instances"));
        }
        refuse_target(self.target.as_deref())
    }
}

/// Whose configuration is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The host's.
    Server,
    /// An instance's, or with the second part a snapshot's.
    Instance(String, Option<String>),
}

impl Subject {
    /// Reads `[<remote>:][<instance>[/<snapshot>]]`.
    ///
    /// # Errors
    /// A remote that is not this host.
    pub fn parse(word: Option<&str>) -> Result<Self> {
        let Some(word) = word else { return Ok(Self::Server) };
        let object = kv::object(word, "local")?;
        if object.remote != "local" {
            return Err(Error::unsupported(format!("The remote \"{}\" only has images", object.remote)));
        }
        Ok(match object.name.split_once('/') {
            _ if object.name.is_empty() => Self::Server,
            Some((instance, snapshot)) => Self::Instance(instance.to_string(), Some(snapshot.to_string())),
            None => Self::Instance(object.name, None),
        })
    }
}

/// Splits the words of `get` and `unset`: the keys, and the object in front of them when there is more than one word.
pub fn subject_and_keys(words: &[String]) -> Result<(Subject, &[String])> {
    match words {
        [object, keys @ ..] if !keys.is_empty() => Ok((Subject::parse(Some(object))?, keys)),
        keys => Ok((Subject::Server, keys)),
    }
}

impl Config {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Device(device) => device.into_request()?.run(DeviceOf::Instance, cx),
            Self::Edit(edit) => edit.run(cx),
            Self::Get(get) => get.run(cx),
            Self::Metadata(metadata) => metadata.run(cx),
            Self::Set(set) => set.run(cx),
            Self::Show(show) => show.run(cx),
            Self::Template(template) => template.run(cx),
            Self::Unset(unset) => unset.run(cx),
        }
    }
}

/// The project in use and the instance of that name in it; a name that none can have is not found.
pub(super) fn instance(cx: &Context, store: &Store, name: &str) -> Result<(ProjectName, InstanceName)> {
    Ok((cx.project(store)?, InstanceName::parse(name).map_err(|_| load::not_found())?))
}

fn snapshot(cx: &Context, store: &Store, name: &str, snapshot: &str) -> Result<SnapshotView> {
    let (project, name) = instance(cx, store, name)?;
    snapshots::view(store, (&project, &name), snapshot)
}

const EDIT_HELP: &str = "### This is a YAML representation of the configuration.
### Any line starting with a '# will be ignored.
###
### A sample configuration looks like:
### name: instance1
### profiles:
### - default
### config:
###   volatile.eth0.hwaddr: 10:66:6a:e9:f8:7f
### devices:
###   homedir:
###     path: /extra
###     source: /home/user
###     type: disk
### ephemeral: false
###
### Note that the name is shown but cannot be changed";

impl Edit {
    fn run(self, cx: &Context) -> Outcome {
        let subject = Subject::parse(self.instance.as_deref())?;
        self.target.refuse(subject != Subject::Server)?;
        match subject {
            Subject::Instance(name, Some(snap)) => snapshots::edit(cx, &name, &snap)?,
            Subject::Instance(name, None) => {
                // Not held open while somebody types.
                let text = ops::editable(&cx.reader()?, pair(&instance(cx, &cx.reader()?, &name)?))?;
                edit(cx, EDIT_HELP, &text, &mut |text| {
                    let store = cx.store()?;
                    ops::replace(&store, pair(&instance(cx, &store, &name)?), text)
                })?;
            }
            Subject::Server => {
                let text = yaml::document(&ops::server(&cx.reader()?)?)?;
                edit(cx, "", &text, &mut |text| ops::replace_server(&cx.store()?, text))?;
            }
        }
        Ok(DONE)
    }
}

fn pair(who: &(ProjectName, InstanceName)) -> ops::Who<'_> {
    (&who.0, &who.1)
}

impl Get {
    fn run(self, cx: &Context) -> Outcome {
        let (subject, keys) = subject_and_keys(&self.words)?;
        let key = keys.first().map(String::as_str).unwrap_or_default();
        self.target.refuse(subject != Subject::Server)?;
        let store = cx.reader()?;
        let value = match &subject {
            Subject::Server if self.expanded => {
                return Err(Error::invalid("--expanded cannot be used with a server").into());
            }
            Subject::Server if self.property => {
                return Err(Error::invalid("--property cannot be used with a server").into());
            }
            Subject::Server => ops::server(&store)?.config.remove(key).unwrap_or_default(),
            Subject::Instance(name, Some(snap)) => {
                let found = snapshot(cx, &store, name, snap)?;
                if self.property {
                    cx.line(snapshots::property(&found, key)?)?;
                    return Ok(DONE);
                }
                let config = if self.expanded { found.expanded_config } else { found.config };
                config.get(key).cloned().unwrap_or_default()
            }
            Subject::Instance(name, None) => {
                let who = instance(cx, &store, name)?;
                match self.property {
                    true => ops::property(&store, pair(&who), key)?,
                    false => ops::get(&store, pair(&who), key, self.expanded)?,
                }
            }
        };
        cx.line(value)?;
        Ok(DONE)
    }
}

/// Does a `set` or `unset` to the subject.
fn change(cx: &Context, subject: &Subject, property: bool, change: &Change) -> Outcome {
    match subject {
        Subject::Server if property => return Err(Error::invalid("--property cannot be used with a server").into()),
        Subject::Server => ops::server_keys(&cx.store()?, change)?,
        Subject::Instance(_, Some(_)) if !property => {
            return Err(Error::invalid("There is no config key to set on an instance snapshot.").into());
        }
        Subject::Instance(name, Some(snap)) => snapshots::set(cx, name, snap, change)?,
        Subject::Instance(name, None) => {
            let store = cx.store()?;
            let who = instance(cx, &store, name)?;
            match property {
                true => ops::properties(&store, pair(&who), change)?,
                false => ops::keys(&store, pair(&who), change)?,
            }
        }
    }
    Ok(DONE)
}

impl Set {
    fn run(self, cx: &Context) -> Outcome {
        let (object, assignments) = kv::object_and_assignments(&self.words)?;
        let subject = Subject::parse(object.as_deref())?;
        self.target.refuse(subject != Subject::Server)?;
        change(cx, &subject, self.property, &Change::Set(cx.values(assignments)?))
    }
}

impl Show {
    fn run(self, cx: &Context) -> Outcome {
        let subject = Subject::parse(self.instance.as_deref())?;
        self.target.refuse(subject != Subject::Server)?;
        let store = cx.reader()?;
        let text = match &subject {
            Subject::Server if self.expanded => {
                return Err(Error::invalid("--expanded cannot be used with a server").into());
            }
            Subject::Server if self.plan => {
                return Err(Error::invalid("--plan cannot be used with a server").into());
            }
            Subject::Server => yaml::document(&ops::server(&store)?)?,
            Subject::Instance(name, Some(snap)) => {
                let mut found = snapshot(cx, &store, name, snap)?;
                if self.expanded {
                    found.config.clone_from(&found.expanded_config);
                    found.devices.clone_from(&found.expanded_devices);
                }
                yaml::document(&found)?
            }
            Subject::Instance(name, None) => {
                let who = instance(cx, &store, name)?;
                if self.plan {
                    let plan = serde_json::to_value(start::preview(&store, pair(&who))?);
                    yaml::document(&plan.map_err(|e| Error::internal("Failed writing the plan").caused_by(e))?)?
                } else {
                    let view = ops::view(&store, pair(&who))?;
                    if self.expanded { yaml::document(&view.expanded_put())? } else { yaml::document(&view.put)? }
                }
            }
        };
        cx.print(text)?;
        Ok(DONE)
    }
}

impl Unset {
    fn run(self, cx: &Context) -> Outcome {
        let (subject, keys) = subject_and_keys(&self.words)?;
        self.target.refuse(subject != Subject::Server)?;
        change(cx, &subject, self.property, &Change::Unset(keys.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects() {
        let show = |w: &str| Subject::parse(Some(w)).unwrap();
        assert_eq!(show("local:"), Subject::Server);
        assert_eq!(show("local:c1"), Subject::Instance("c1".into(), None));
        assert_eq!(show("c1/s:1"), Subject::Instance("c1".into(), Some("s:1".into())));
        let words = ["c1", "a", "b"].map(String::from);
        assert_eq!(subject_and_keys(&words).unwrap().1.len(), 2);
        assert_eq!(subject_and_keys(&words[..1]).unwrap(), (Subject::Server, &words[..1]));
    }
}
