//! `config metadata` and `config template`: the files of an instance that are its image's, beside the root file system.

use super::config::{self, Subject};
use super::edit::edit;
use super::list::FormatOption;
use super::output::yaml;
use super::{Context, DONE, Outcome, complete};
use crate::error::{Error, Result};
use crate::ops::instance_metadata as ops;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

/// Manage instance metadata files
#[derive(Debug, Subcommand)]
pub enum Metadata {
    /// Edit instance metadata files
    #[command(after_help = "stapes config metadata edit <instance> < metadata.yaml
    Replace the metadata by those of a file.")]
    Edit(Instance),
    /// Show instance metadata files
    Show(Instance),
}

/// Manage instance file templates
///
/// A template becomes a file when the instance starts, if its metadata say so.
#[derive(Debug, Subcommand)]
pub enum Template {
    /// Create new instance file templates
    #[command(
        visible_alias = "add",
        after_help = "stapes config template create u1 t1
    Create template t1 for instance u1

stapes config template create u1 t1 < config.tpl
    Create template t1 for instance u1 from config.tpl"
    )]
    Create(New),
    /// Delete instance file templates
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(File),
    /// Edit instance file templates
    Edit(File),
    /// List instance file templates
    #[command(visible_alias = "ls")]
    List(List),
    /// Show content of instance file templates
    Show(File),
}

// The commands above say what they do.
#[derive(Debug, Args)]
pub struct Instance {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
}

// As above.
#[derive(Debug, Args)]
pub struct New {
    #[command(flatten)]
    pub of: Instance,
    /// New template name
    #[arg(value_name = "new template name")]
    pub template: String,
}

// As above.
#[derive(Debug, Args)]
pub struct File {
    #[command(flatten)]
    pub of: Instance,
    /// Template
    #[arg(value_name = "template", add = ArgValueCompleter::new(complete::templates))]
    pub template: String,
}

// As above.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    pub of: Instance,
    #[command(flatten)]
    pub format: FormatOption,
}

const HELP: &str = "### This is a YAML representation of the instance metadata.
### Any line starting with a '# will be ignored.
###
### A sample configuration looks like:
###
### architecture: x86_64
### creation_date: 1477146654
### expiry_date: 0
### properties:
###   architecture: x86_64
###   description: BusyBox x86_64
###   name: busybox-x86_64
###   os: BusyBox
### templates:
###   /template:
###     when:
###     - \"\"
###     create_only: false
###     template: template.tpl
###     properties: {}";

impl Instance {
    fn name(&self) -> Result<String> {
        match Subject::parse(Some(&self.instance))? {
            Subject::Instance(name, None) => Ok(name),
            _ => Err(Error::invalid("Invalid instance name")),
        }
    }

    /// Reads something of the instance.
    fn read<T>(&self, cx: &Context, read: impl FnOnce(&crate::store::Store, ops::Who<'_>) -> Result<T>) -> Result<T> {
        let store = cx.reader()?;
        let (project, name) = config::instance(cx, &store, &self.name()?)?;
        read(&store, (&project, &name))
    }

    /// Changes something of it.
    fn change(
        &self,
        cx: &Context,
        change: impl FnOnce(&crate::store::Store, ops::Who<'_>) -> Result<()>,
    ) -> Result<()> {
        let store = cx.store()?;
        let (project, name) = config::instance(cx, &store, &self.name()?)?;
        change(&store, (&project, &name))
    }
}

impl Metadata {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops::instance_metadata`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Show(of) => cx.print(yaml::document(&of.read(cx, ops::show)?)?)?,
            Self::Edit(of) => {
                let text = yaml::document(&of.read(cx, ops::show)?)?;
                edit(cx, HELP, &text, &mut |text| of.change(cx, |store, who| ops::edit(store, who, text)))?;
            }
        }
        Ok(DONE)
    }
}

impl Template {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops::instance_metadata`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Create(New { of, template }) => {
                let text = cx.stdin_document()?.unwrap_or_default();
                of.change(cx, |store, who| ops::put_template(store, who, &template, &text))?;
            }
            Self::Delete(File { of, template }) => {
                of.change(cx, |store, who| ops::delete_template(store, who, &template))?;
            }
            Self::Edit(File { of, template }) => {
                let old = if cx.tty.stdin { text(cx, &of, &template)? } else { Vec::new() };
                let old = String::from_utf8(old).map_err(|_| Error::invalid("The template isn't UTF-8"))?;
                let put = &mut |text: &str| of.change(cx, |store, who| ops::put_template(store, who, &template, text));
                edit(cx, "", &old, put)?;
            }
            Self::List(List { of, format: option }) => {
                let format = option.parse()?;
                let names = of.read(cx, ops::templates)?;
                let rows = names.iter().map(|name| vec![name.clone()]).collect();
                return option.print(&format, &["FILENAME"], rows, &names);
            }
            Self::Show(File { of, template }) => {
                let text = text(cx, &of, &template)?;
                std::io::Write::write_all(&mut std::io::stdout().lock(), &text)?;
            }
        }
        Ok(DONE)
    }
}

fn text(cx: &Context, of: &Instance, template: &str) -> Result<Vec<u8>> {
    of.read(cx, |store, who| ops::template(store, who, template))
}
