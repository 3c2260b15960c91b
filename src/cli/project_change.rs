//! `project create`, `delete`, `edit`, `get`, `rename`, `set`, `switch`, `unset`.

use super::complete;
use super::edit::edit;
use super::output::yaml;
use super::project::name;
use super::{Context, DONE, Outcome, kv};
use crate::base::names::ProjectName;
use crate::error::{Error, Result};
use crate::model::view::{ProjectPut, ProjectView, property};
use crate::ops::config::{Change, change_properties, document_of};
use crate::ops::project as shown_by;
use crate::ops::project_change as ops;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

/// Create projects
///
/// A new project has profiles and custom volumes of its own. Images and networks are those of the project "default".
#[derive(Debug, Args)]
#[command(after_help = "stapes project create p1
    Create a project named p1.

stapes project create p1 -c features.profiles=false
    Create a project that uses the profiles of the project \"default\".

stapes project create p1 < config.yaml
    Create a project using the content of config.yaml.")]
pub struct Create {
    /// New project name
    #[arg(value_name = "new project name")]
    pub name: String,
    /// Config key/value to apply to the new project
    #[arg(short, long, value_name = "key=value", add = ArgValueCompleter::new(complete::project_keys))]
    pub config: Vec<String>,
    /// Project description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
}

/// Delete projects
#[derive(Debug, Args)]
pub struct Delete {
    /// Projects
    #[arg(value_name = "project", required = true, add = ArgValueCompleter::new(complete::projects))]
    pub projects: Vec<String>,
    /// Force delete the project and everything it contains
    #[arg(short, long)]
    pub force: bool,
}

/// Edit project configurations as YAML
#[derive(Debug, Args)]
#[command(after_help = "stapes project edit <project> < project.yaml
    Update a project using the content of project.yaml.")]
pub struct Edit {
    /// Project
    #[arg(value_name = "project", add = ArgValueCompleter::new(complete::projects))]
    pub project: String,
}

/// Get values for project configuration keys
#[derive(Debug, Args)]
pub struct Get {
    /// Project
    #[arg(value_name = "project", add = ArgValueCompleter::new(complete::projects))]
    pub project: String,
    /// Key
    #[arg(value_name = "key", add = ArgValueCompleter::new(complete::project_keys))]
    pub key: String,
    /// Get the key as a project property
    #[arg(short, long)]
    pub property: bool,
}

/// Rename projects
#[derive(Debug, Args)]
pub struct Rename {
    /// Project
    #[arg(value_name = "project", add = ArgValueCompleter::new(complete::projects))]
    pub project: String,
    /// New project name
    #[arg(value_name = "new project name")]
    pub new_name: String,
}

/// Set project configuration keys
///
/// For backward compatibility, a single configuration key may still be set with:
///     stapes project set [<remote>:]<project> <key> <value>
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Set {
    /// Project
    #[arg(value_name = "project", add = ArgValueCompleter::new(complete::projects))]
    pub project: String,
    /// Keys and values
    #[arg(value_name = "key=value", required = true, add = ArgValueCompleter::new(complete::project_keys))]
    pub values: Vec<String>,
    /// Set the key as a project property
    #[arg(short, long)]
    pub property: bool,
}

/// Switch the current project
#[derive(Debug, Args)]
pub struct Switch {
    /// Project
    #[arg(value_name = "project", add = ArgValueCompleter::new(complete::projects))]
    pub project: String,
}

/// Unset project configuration keys
#[derive(Debug, Args)]
pub struct Unset {
    /// Project
    #[arg(value_name = "project", add = ArgValueCompleter::new(complete::projects))]
    pub project: String,
    /// Key
    #[arg(value_name = "key", add = ArgValueCompleter::new(complete::project_keys))]
    pub key: String,
    /// Unset the key as a project property
    #[arg(short, long)]
    pub property: bool,
}

impl Create {
    /// Runs the command.
    ///
    /// # Errors
    /// See [`ops::create`].
    pub fn run(self, cx: &Context) -> Outcome {
        let mut put: ProjectPut = document_of(&cx.stdin_document()?.unwrap_or_default())?;
        put.config.extend(cx.values(kv::assignments(&self.config)?)?);
        if let Some(description) = self.description.filter(|d| !d.is_empty()) {
            put.description = description;
        }
        let new = ProjectName::parse(&kv::local(&self.name)?)?;
        ops::create(&cx.store()?, &new, &put)?;
        cx.notice(format_args!("Project {new} created"))?;
        Ok(DONE)
    }
}

impl Delete {
    /// Runs the command. The project in use is no longer that once it is gone.
    ///
    /// # Errors
    /// See [`ops::delete`]; the others are deleted.
    pub fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let mut failed = Vec::new();
        for word in &self.projects {
            match name(word).and_then(|gone| ops::delete(&store, &gone, self.force).map(|()| gone)) {
                Ok(gone) => {
                    cx.notice(format_args!("Project {word} deleted"))?;
                    follow(cx, &gone, "default")?;
                }
                Err(e) => failed.push(e),
            }
        }
        Error::join(failed).map_or(Ok(DONE), |e| Err(e.into()))
    }
}

/// Switches to another project where `old` was the one switched to.
fn follow(cx: &Context, old: &ProjectName, new: &str) -> Result<()> {
    match cx.folders().project()?.as_deref() == Some(old.as_str()) {
        true => switch(cx, new),
        false => Ok(()),
    }
}

fn switch(cx: &Context, project: &str) -> Result<()> {
    let folders = cx.folders();
    let mut remotes = folders.load()?;
    remotes.switch_project(project);
    folders.save(&remotes)
}

const EDIT_HELP: &str = "### This is a YAML representation of the project.
### Any line starting with a '# will be ignored.
###
### A project consists of a set of features and a description.
###
### An example would look like:
### name: my-project
### features:
###   images: True
###   profiles: True
### description: My own project
###
### Note that the name is shown but cannot be changed";

fn shown(cx: &Context, word: &str) -> Result<ProjectView> {
    shown_by::show(&cx.reader()?, &name(word)?)
}

impl Edit {
    /// Runs the command.
    ///
    /// # Errors
    /// See [`ops::update`].
    pub fn run(self, cx: &Context) -> Outcome {
        let text = match cx.tty.stdin {
            true => yaml::document(&shown(cx, &self.project)?)?,
            false => String::new(),
        };
        edit(cx, EDIT_HELP, &text, &mut |text| {
            let put: ProjectPut = document_of(text)?;
            ops::update(&cx.store()?, &name(&self.project)?, &mut |target| {
                *target = put.clone();
                Ok(())
            })
        })?;
        Ok(DONE)
    }
}

impl Get {
    /// Runs the command.
    ///
    /// # Errors
    /// Not found; no such property.
    pub fn run(self, cx: &Context) -> Outcome {
        let mut put = shown(cx, &self.project)?.put;
        let value = match self.property {
            true => property::get(&mut put, &self.key).map_err(|e| {
                e.context(format!("The property {:?} does not exist on the project {:?}", self.key, self.project))
            })?,
            false => put.config.remove(&self.key).unwrap_or_default(),
        };
        cx.line(value)?;
        Ok(DONE)
    }
}

impl Rename {
    /// Runs the command.
    ///
    /// # Errors
    /// See [`ops::rename`].
    pub fn run(self, cx: &Context) -> Outcome {
        let (old, new) = (name(&self.project)?, ProjectName::parse(&kv::local(&self.new_name)?)?);
        ops::rename(&cx.store()?, &old, &new)?;
        follow(cx, &old, new.as_str())?;
        cx.notice(format_args!("Project {old} renamed to {new}"))?;
        Ok(DONE)
    }
}

impl Set {
    /// Runs the command.
    ///
    /// # Errors
    /// See [`ops::update`].
    pub fn run(self, cx: &Context) -> Outcome {
        let change = Change::Set(cx.values(kv::assignments(&self.values)?)?);
        changed(cx, &self.project, self.property, &change)
    }
}

impl Switch {
    /// Runs the command.
    ///
    /// # Errors
    /// Not found; the client's configuration cannot be written.
    pub fn run(self, cx: &Context) -> Outcome {
        let wanted = name(&self.project)?;
        let store = cx.reader()?;
        store.project(&wanted)?.ok_or_else(|| Error::not_found("Project not found"))?;
        switch(cx, wanted.as_str())?;
        Ok(DONE)
    }
}

impl Unset {
    /// Runs the command.
    ///
    /// # Errors
    /// See [`ops::update`].
    pub fn run(self, cx: &Context) -> Outcome {
        changed(cx, &self.project, self.property, &Change::Unset(vec![self.key]))
    }
}

fn changed(cx: &Context, word: &str, property: bool, change: &Change) -> Outcome {
    ops::update(&cx.store()?, &name(word)?, &mut |put| match (property, change) {
        (true, change) => change_properties(put, change),
        (false, Change::Set(pairs)) => {
            put.config.extend(pairs.iter().cloned());
            Ok(())
        }
        (false, Change::Unset(keys)) => {
            put.config.retain(|key, _| !keys.contains(key));
            Ok(())
        }
    })?;
    Ok(DONE)
}
