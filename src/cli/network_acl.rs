//! `network acl`: rules for traffic, which networks and interfaces name.

use super::edit::edit;
use super::list::FormatOption;
use super::network_acl_rule::Rule;
use super::output::yaml;
use super::{Context, DONE, Outcome, complete, kv};
use crate::base::names::{AclName, ProjectName};
use crate::error::{Error, Result};
use crate::model::view::{AclPut, AclView};
use crate::ops::config::{Change, change_properties, document_of};
use crate::ops::network::acl as ops;
use crate::store::Store;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

/// Manage network ACLs
///
/// Manage network ACLs
#[derive(Debug, Subcommand)]
pub enum Acl {
    #[command(visible_alias = "add")]
    Create(Create),
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(Delete),
    Edit(Edit),
    Get(Get),
    #[command(visible_alias = "ls")]
    List(List),
    #[command(visible_alias = "mv")]
    Rename(Rename),
    /// Manage network ACL rules
    ///
    /// Manage network ACL rules
    #[command(subcommand)]
    Rule(Rule),
    Set(Set),
    Show(Show),
    ShowLog(ShowLog),
    Unset(Unset),
}

/// Create new network ACLs
#[derive(Debug, Args)]
#[command(after_help = "stapes network acl create a1

stapes network acl create a1 < config.yaml
    Create network acl with configuration from config.yaml")]
pub struct Create {
    /// New ACL name
    #[arg(value_name = "new ACL name")]
    pub name: String,
    /// Keys and values
    #[arg(value_name = "key=value")]
    pub values: Vec<String>,
    /// Network ACL description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
}

/// Delete network ACLs
#[derive(Debug, Args)]
pub struct Delete {
    /// ACLs
    #[arg(value_name = "ACL", required = true, add = ArgValueCompleter::new(complete::acls))]
    pub acls: Vec<String>,
}

/// Edit network ACL configurations as YAML
#[derive(Debug, Args)]
pub struct Edit {
    /// ACL
    #[arg(value_name = "ACL", add = ArgValueCompleter::new(complete::acls))]
    pub acl: String,
}

/// Get values for network ACL configuration keys
#[derive(Debug, Args)]
pub struct Get {
    /// ACL
    #[arg(value_name = "ACL", add = ArgValueCompleter::new(complete::acls))]
    pub acl: String,
    /// Key
    #[arg(value_name = "key")]
    pub key: String,
    /// Get the key as a network ACL property
    #[arg(short, long)]
    pub property: bool,
}

/// List available network ACLS
///
/// List available network ACL
#[derive(Debug, Args)]
pub struct List {
    /// Remote
    #[arg(value_name = "remote")]
    pub remote: Option<String>,
    /// List network ACLs across all projects
    #[arg(long)]
    pub all_projects: bool,
    #[command(flatten)]
    pub format: FormatOption,
}

/// Rename network ACLs
#[derive(Debug, Args)]
pub struct Rename {
    /// ACL
    #[arg(value_name = "ACL", add = ArgValueCompleter::new(complete::acls))]
    pub acl: String,
    /// New ACL name
    #[arg(value_name = "new ACL name")]
    pub new_name: String,
}

/// Set network ACL configuration keys
///
/// For backward compatibility, a single configuration key may still be set with:
///     stapes network acl set [<remote>:]<ACL> <key> <value>
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Set {
    /// ACL
    #[arg(value_name = "ACL", add = ArgValueCompleter::new(complete::acls))]
    pub acl: String,
    /// Keys and values
    #[arg(value_name = "key=value", required = true)]
    pub values: Vec<String>,
    /// Set the key as a network ACL property
    #[arg(short, long)]
    pub property: bool,
}

/// Show network ACL configurations
#[derive(Debug, Args)]
pub struct Show {
    /// ACL
    #[arg(value_name = "ACL", add = ArgValueCompleter::new(complete::acls))]
    pub acl: String,
}

/// Show network ACL log
#[derive(Debug, Args)]
pub struct ShowLog {
    /// ACL
    #[arg(value_name = "ACL", add = ArgValueCompleter::new(complete::acls))]
    pub acl: String,
}

/// Unset network ACL configuration keys
#[derive(Debug, Args)]
pub struct Unset {
    /// ACL
    #[arg(value_name = "ACL", add = ArgValueCompleter::new(complete::acls))]
    pub acl: String,
    /// Keys
    #[arg(value_name = "key", required = true)]
    pub keys: Vec<String>,
    /// Unset the keys as network ACL properties
    #[arg(short, long)]
    pub property: bool,
}

/// The project in use and an ACL's name in it.
pub(super) fn named(cx: &Context, store: &Store, word: &str) -> Result<(ProjectName, AclName)> {
    let name = AclName::parse(&kv::local(word)?).map_err(|_| ops::not_found())?;
    Ok((cx.project(store)?, name))
}

impl Acl {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Create(create) => create.run(cx),
            Self::Delete(delete) => delete.run(cx),
            Self::Edit(edit) => edit.run(cx),
            Self::Get(get) => get.run(cx),
            Self::List(list) => list.run(cx),
            Self::Rename(rename) => rename.run(cx),
            Self::Rule(rule) => rule.run(cx),
            Self::Set(set) => {
                let change = Change::Set(cx.values(kv::assignments(&set.values)?)?);
                changed(cx, &set.acl, set.property, &change)
            }
            Self::Show(show) => {
                cx.print(yaml::document(&shown(cx, &show.acl)?)?)?;
                Ok(DONE)
            }
            Self::ShowLog(log) => log.run(cx),
            Self::Unset(unset) => changed(cx, &unset.acl, unset.property, &Change::Unset(unset.keys)),
        }
    }
}

impl Create {
    fn run(self, cx: &Context) -> Outcome {
        let mut put: AclPut = document_of(&cx.stdin_document()?.unwrap_or_default())?;
        for word in &self.values {
            let (key, value) = kv::pair(word)?;
            put.config.insert(key, value);
        }
        if let Some(description) = self.description.filter(|d| !d.is_empty()) {
            put.description = description;
        }
        let name = AclName::parse(&kv::local(&self.name)?)?;
        let store = cx.store()?;
        ops::create(&store, &cx.project(&store)?, &name, put)?;
        cx.notice(format_args!("Network ACL {name} created"))?;
        Ok(DONE)
    }
}

impl Delete {
    fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let mut failed = Vec::new();
        for word in &self.acls {
            let done = named(cx, &store, word).and_then(|(project, name)| ops::delete(&store, &project, &name));
            match done {
                Ok(()) => cx.notice(format_args!("Network ACL {word} deleted"))?,
                Err(e) => failed.push(e),
            }
        }
        Error::join(failed).map_or(Ok(DONE), |e| Err(e.into()))
    }
}

const EDIT_HELP: &str = "### This is a YAML representation of the network ACL.
### Any line starting with a '# will be ignored.
###
### A network ACL consists of a set of rules and configuration items.
###
### An example would look like:
### name: allow-all-inbound
### description: test desc
### egress: []
### ingress:
### - action: allow
###   state: enabled
###   protocol: \"\"
###   source: \"\"
###   source_port: \"\"
###   destination: \"\"
###   destination_port: \"\"
###   icmp_type: \"\"
###   icmp_code: \"\"
### config:
###  user.foo: bah
###
### Note that only the ingress and egress rules, description and configuration keys can be changed.";

impl Edit {
    fn run(self, cx: &Context) -> Outcome {
        let text = match cx.tty.stdin {
            true => yaml::document(&shown(cx, &self.acl)?)?,
            false => String::new(),
        };
        edit(cx, EDIT_HELP, &text, &mut |text| {
            let put: AclPut = document_of(text)?;
            let store = cx.store()?;
            let (project, name) = named(cx, &store, &self.acl)?;
            ops::update(&store, &project, &name, &mut |target| {
                *target = put.clone();
                Ok(())
            })
        })?;
        Ok(DONE)
    }
}

fn shown(cx: &Context, word: &str) -> Result<AclView> {
    let store = cx.reader()?;
    let (project, name) = named(cx, &store, word)?;
    ops::show(&store, &project, &name)
}

impl Get {
    fn run(self, cx: &Context) -> Outcome {
        let mut put = shown(cx, &self.acl)?.put;
        cx.value(&mut put, (&self.key, self.property), &format!("network ACL {:?}", self.acl))?;
        Ok(DONE)
    }
}

impl List {
    fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let words: Vec<String> = self.remote.into_iter().collect();
        if !kv::skip_remote(&words)?.is_empty() {
            return Err(Error::unsupported("Filtering isn't supported yet").into());
        }
        let store = cx.reader()?;
        let mut all: Vec<AclView> = Vec::new();
        for project in projects(cx, &store, self.all_projects)? {
            for view in ops::list(&store, &project)? {
                // What projects share is there once.
                if !all.contains(&view) {
                    all.push(view);
                }
            }
        }
        let row = |view: &AclView| {
            let cells = [view.name.clone(), view.put.description.clone(), view.used_by.len().to_string()];
            self.all_projects.then(|| view.project.clone()).into_iter().chain(cells).collect()
        };
        let header = self.all_projects.then_some("PROJECT").into_iter().chain(["NAME", "DESCRIPTION", "USED BY"]);
        self.format.print(&format, &header.collect::<Vec<_>>(), all.iter().map(row).collect(), &all)
    }
}

/// The project in use, or all of them.
pub(super) fn projects(cx: &Context, store: &Store, all: bool) -> Result<Vec<ProjectName>> {
    match all {
        true if cx.project_given => Err(Error::invalid("Can't specify --project with --all-projects")),
        true => Ok(store.projects()?.into_iter().map(|(name, _)| name).collect()),
        false => Ok(vec![cx.project(store)?]),
    }
}

impl Rename {
    fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let (project, from) = named(cx, &store, &self.acl)?;
        let to = AclName::parse(&self.new_name)?;
        ops::rename(&store, &project, &from, &to)?;
        cx.notice(format_args!("Network ACL {from} renamed to {to}"))?;
        Ok(DONE)
    }
}

impl ShowLog {
    fn run(self, cx: &Context) -> Outcome {
        let store = cx.reader()?;
        let (project, name) = named(cx, &store, &self.acl)?;
        ops::log(&store, &project, &name)?.into_iter().try_for_each(|line| cx.line(line))?;
        Ok(DONE)
    }
}

fn changed(cx: &Context, word: &str, property: bool, change: &Change) -> Outcome {
    let store = cx.store()?;
    let (project, name) = named(cx, &store, word)?;
    ops::update(&store, &project, &name, &mut |put| match (property, change) {
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
