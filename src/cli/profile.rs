//! `profile`: configuration and devices shared by instances.

use super::complete;
use super::device::{DeviceOf, ProfileDevice};
use super::edit::edit;
use super::list::{FieldFilter, FormatOption};
use super::output::columns::{self, Column, column};
use super::output::yaml;
use super::profile_assign::{Add, Assign, Remove};
use super::{Context, DONE, Outcome, kv};
use crate::base::names::{ProfileName, ProjectName};
use crate::error::{Error, Result};
use crate::model::view::{ProfilePut, ProfileView, property};
use crate::ops::config::{Change, change_properties, document_of};
use crate::ops::profile as ops;
use crate::store::Store;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

/// Manage profiles
#[derive(Debug, Subcommand)]
pub enum Profile {
    Add(Add),
    #[command(visible_alias = "apply")]
    Assign(Assign),
    #[command(visible_alias = "cp")]
    Copy(Copy),
    Create(Create),
    #[command(visible_alias = "rm")]
    Delete(Delete),
    #[command(subcommand)]
    Device(ProfileDevice),
    Edit(Edit),
    Get(Get),
    #[command(visible_alias = "ls")]
    List(List),
    Remove(Remove),
    #[command(visible_alias = "mv")]
    Rename(Rename),
    Set(Set),
    Show(Show),
    Unset(Unset),
}

/// Copy profiles
#[derive(Debug, Args)]
pub struct Copy {
    /// Profile
    #[arg(value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: String,
    /// New profile name
    #[arg(value_name = "new profile name")]
    pub new_name: String,
    /// Update the target profile from the source if it already exists
    #[arg(long)]
    pub refresh: bool,
    /// Copy to a project different from the source
    #[arg(long, value_name = "project")]
    pub target_project: Option<String>,
}

/// Create profiles
#[derive(Debug, Args)]
#[command(after_help = "stapes profile create p1
    Create a profile named p1

stapes profile create p1 < config.yaml
    Create a profile named p1 with configuration from config.yaml")]
pub struct Create {
    /// New profile name
    #[arg(value_name = "new profile name")]
    pub name: String,
    /// Profile description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
}

/// Delete profiles
#[derive(Debug, Args)]
pub struct Delete {
    /// Profiles
    #[arg(value_name = "profile", required = true, add = ArgValueCompleter::new(complete::profiles))]
    pub profiles: Vec<String>,
}

/// Edit profile configurations as YAML
#[derive(Debug, Args)]
#[command(after_help = "stapes profile edit <profile> < profile.yaml
    Update a profile using the content of profile.yaml")]
pub struct Edit {
    /// Profile
    #[arg(value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: String,
}

/// Get values for profile configuration keys
#[derive(Debug, Args)]
pub struct Get {
    /// Profile
    #[arg(value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: String,
    /// Key
    #[arg(value_name = "key", add = ArgValueCompleter::new(complete::keys))]
    pub key: String,
    /// Get the key as a profile property
    #[arg(short, long)]
    pub property: bool,
}

/// List profiles
///
/// Filters may be of the <key>=<value> form for property based filtering,
/// or part of the profile name.
///
/// Default column layout: ndu
///
/// Column shorthand chars:
///   n - Profile Name
///   e - Project
///   d - Description
///   u - Used By
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct List {
    /// Filters
    #[arg(value_name = "filter")]
    pub filters: Vec<String>,
    /// Display profiles from all projects
    #[arg(long)]
    pub all_projects: bool,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = "ndu")]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
}

/// Rename profiles
#[derive(Debug, Args)]
pub struct Rename {
    /// Profile
    #[arg(value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: String,
    /// New profile name
    #[arg(value_name = "new profile name")]
    pub new_name: String,
}

/// Set profile configuration keys
///
/// For backward compatibility, a single configuration key may still be set with:
///     stapes profile set [<remote>:]<profile> <key> <value>
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Set {
    /// Profile
    #[arg(value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: String,
    /// Keys and values
    #[arg(value_name = "key=value", required = true, add = ArgValueCompleter::new(complete::key_assignments))]
    pub values: Vec<String>,
    /// Set the key as a profile property
    #[arg(short, long)]
    pub property: bool,
}

/// Show profile configurations
#[derive(Debug, Args)]
pub struct Show {
    /// Profile
    #[arg(value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: String,
}

/// Unset profile configuration keys
#[derive(Debug, Args)]
pub struct Unset {
    /// Profile
    #[arg(value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: String,
    /// Keys
    #[arg(value_name = "key", required = true, add = ArgValueCompleter::new(complete::keys))]
    pub keys: Vec<String>,
    /// Unset the keys as profile properties
    #[arg(short, long)]
    pub property: bool,
}

/// What a letter of `profile list` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Name,
    Project,
    Description,
    UsedBy,
}

/// The letters of `profile list -c`.
pub const COLUMNS: &[Column<Cell>] = &[
    column('n', "NAME", Cell::Name),
    column('e', "PROJECT", Cell::Project),
    column('d', "DESCRIPTION", Cell::Description),
    column('u', "USED BY", Cell::UsedBy),
];

impl List {
    /// The columns asked for; the project first with `--all-projects`.
    ///
    /// # Errors
    /// See [`columns::letters`].
    pub fn chosen(&self) -> Result<Vec<Column<Cell>>> {
        let value = if self.all_projects && self.columns == "ndu" { "endu" } else { &self.columns };
        columns::letters(value, COLUMNS)
    }

    fn run(&self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let filters = kv::skip_remote(&self.filters)?;
        if cx.project_given && self.all_projects {
            return Err(Error::invalid("Can't specify --project with --all-projects").into());
        }
        let chosen = self.chosen()?;
        let filters: Vec<FieldFilter> = filters.iter().map(|f| FieldFilter::parse(f)).collect();
        let store = cx.reader()?;
        let projects = match self.all_projects {
            true => ops::owners(&store)?,
            false => vec![cx.project(&store)?],
        };
        let mut all = Vec::new();
        for project in &projects {
            all.extend(ops::list(&store, project)?);
        }
        all.retain(|view| filters.iter().all(|f| f.passes(&|field| field_of(view, field))));
        let row = |view: &ProfileView| chosen.iter().map(|c| cell(view, c.cell)).collect();
        let header: Vec<&str> = chosen.iter().map(|c| c.header).collect();
        self.format.print(&format, &header, all.iter().map(row).collect(), &all)
    }
}

fn cell(view: &ProfileView, cell: Cell) -> String {
    match cell {
        Cell::Name => view.name.clone(),
        Cell::Project => view.project.clone(),
        Cell::Description => view.put.description.clone(),
        Cell::UsedBy => view.used_by.len().to_string(),
    }
}

fn field_of(view: &ProfileView, field: &str) -> Option<String> {
    match field {
        "name" => Some(view.name.clone()),
        "project" => Some(view.project.clone()),
        "description" => Some(view.put.description.clone()),
        key => view.put.config.get(key.strip_prefix("config.").unwrap_or(key)).cloned(),
    }
}

/// The project in use and a profile's name in it.
fn named(cx: &Context, store: &Store, word: &str) -> Result<(ProjectName, ProfileName)> {
    let name = ProfileName::parse(&kv::local(word)?).map_err(|_| Error::not_found("Profile not found"))?;
    Ok((cx.project(store)?, name))
}

/// The project in use and the name of a profile to be made.
fn new_name(cx: &Context, store: &Store, word: &str) -> Result<(ProjectName, ProfileName)> {
    Ok((cx.project(store)?, ProfileName::parse(&kv::local(word)?)?))
}

impl Profile {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Add(add) => add.run(cx),
            Self::Assign(assign) => assign.run(cx),
            Self::Device(device) => device.into_request()?.run(DeviceOf::Profile, cx),
            Self::List(list) => list.run(cx),
            Self::Remove(remove) => remove.run(cx),
            Self::Copy(copy) => copy.run(cx),
            Self::Create(create) => create.run(cx),
            Self::Delete(delete) => delete.run(cx),
            Self::Edit(edit) => edit.run(cx),
            Self::Get(get) => get.run(cx),
            Self::Rename(rename) => rename.run(cx),
            Self::Set(set) => {
                let change = Change::Set(cx.values(kv::assignments(&set.values)?)?);
                self::change(cx, &set.profile, set.property, &change)
            }
            Self::Show(show) => show.run(cx),
            Self::Unset(unset) => change(cx, &unset.profile, unset.property, &Change::Unset(unset.keys)),
        }
    }
}

impl Copy {
    fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let from = named(cx, &store, &self.profile)?;
        let mut to = new_name(cx, &store, &self.new_name)?;
        if let Some(project) = &self.target_project {
            to.0 = ProjectName::parse(project)?;
            store.project(&to.0)?.ok_or_else(|| Error::not_found("Project not found"))?;
        }
        ops::copy(&store, (&from.0, &from.1), (&to.0, &to.1), self.refresh)?;
        Ok(DONE)
    }
}

impl Create {
    fn run(self, cx: &Context) -> Outcome {
        let mut put: ProfilePut = document_of(&cx.stdin_document()?.unwrap_or_default())?;
        if let Some(description) = self.description.filter(|d| !d.is_empty()) {
            put.description = description;
        }
        let store = cx.store()?;
        let (project, name) = new_name(cx, &store, &self.name)?;
        ops::create(&store, &project, &name, &put)?;
        cx.notice(format_args!("Profile {name} created"))?;
        Ok(DONE)
    }
}

impl Delete {
    fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let mut failed = Vec::new();
        for word in &self.profiles {
            let done = named(cx, &store, word).and_then(|(project, name)| ops::delete(&store, &project, &name));
            match done {
                Ok(()) => cx.notice(format_args!("Profile {word} deleted"))?,
                Err(e) => failed.push(e),
            }
        }
        Error::join(failed).map_or(Ok(DONE), |e| Err(e.into()))
    }
}

const EDIT_HELP: &str = "### This is a YAML representation of the profile.
### Any line starting with a '# will be ignored.
###
### A profile consists of a set of configuration items followed by a set of
### devices.
###
### An example would look like:
### name: onenic
### config:
###   raw.lxc: lxc.aa_profile=unconfined
### devices:
###   eth0:
###     nictype: bridged
###     parent: mybr0
###     type: nic
###
### Note that the name is shown but cannot be changed";

impl Edit {
    fn run(self, cx: &Context) -> Outcome {
        let text = match cx.tty.stdin {
            true => yaml::document(&show(cx, &self.profile)?)?,
            false => String::new(),
        };
        edit(cx, EDIT_HELP, &text, &mut |text| {
            let put: ProfilePut = document_of(text)?;
            let store = cx.store()?;
            let (project, name) = named(cx, &store, &self.profile)?;
            ops::update(&store, &project, &name, &mut |target| {
                *target = put.clone();
                Ok(())
            })
        })?;
        Ok(DONE)
    }
}

fn show(cx: &Context, word: &str) -> Result<ProfileView> {
    let store = cx.reader()?;
    let (project, name) = named(cx, &store, word)?;
    ops::show(&store, &project, &name)
}

impl Get {
    fn run(self, cx: &Context) -> Outcome {
        let mut put = show(cx, &self.profile)?.put;
        let value = match self.property {
            true => property::get(&mut put, &self.key).map_err(|e| {
                e.context(format!("The property {:?} does not exist on the profile {:?}", self.key, self.profile))
            })?,
            false => put.config.remove(&self.key).unwrap_or_default(),
        };
        cx.line(value)?;
        Ok(DONE)
    }
}

impl Rename {
    fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let (project, from) = named(cx, &store, &self.profile)?;
        let (_, to) = new_name(cx, &store, &self.new_name)?;
        ops::rename(&store, &project, &from, &to)?;
        cx.notice(format_args!("Profile {from} renamed to {to}"))?;
        Ok(DONE)
    }
}

impl Show {
    fn run(self, cx: &Context) -> Outcome {
        cx.print(yaml::document(&show(cx, &self.profile)?)?)?;
        Ok(DONE)
    }
}

fn change(cx: &Context, word: &str, property: bool, change: &Change) -> Outcome {
    let store = cx.store()?;
    let (project, name) = named(cx, &store, word)?;
    ops::update(&store, &project, &name, &mut |put| match (property, change) {
        (true, change) => change_properties(put, change),
        (false, Change::Set(pairs)) => {
            put.config.extend(pairs.iter().cloned());
            Ok(())
        }
        // As Incus: what is not set is fine here.
        (false, Change::Unset(keys)) => {
            put.config.retain(|key, _| !keys.contains(key));
            Ok(())
        }
    })?;
    Ok(DONE)
}
