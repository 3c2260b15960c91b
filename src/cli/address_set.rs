//! `network address-set`: lists of addresses, which rules of ACLs name.

use super::edit::edit;
use super::list::FormatOption;
use super::network_acl::projects;
use super::output::yaml;
use super::{Context, DONE, Outcome, complete, kv};
use crate::base::names::{AddressSetName, ProjectName};
use crate::error::{Error, Result};
use crate::model::view::{AddressSetPut, AddressSetView};
use crate::ops::config::{Change, change_properties, document_of};
use crate::ops::network::address_set as ops;
use crate::store::Store;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

/// Manage network address sets
///
/// Manage network address sets
#[derive(Debug, Subcommand)]
pub enum AddressSet {
    #[command(visible_alias = "add-addr")]
    Add(Add),
    Create(Create),
    #[command(visible_alias = "rm")]
    Delete(Delete),
    Edit(Edit),
    #[command(visible_alias = "ls")]
    List(List),
    #[command(visible_alias = "del-addr")]
    Remove(Remove),
    #[command(visible_alias = "mv")]
    Rename(Rename),
    Set(Set),
    Show(Show),
    Unset(Unset),
}

/// Add addresses to a network address set
#[derive(Debug, Args)]
pub struct Add {
    /// Address set
    #[arg(value_name = "address set", add = ArgValueCompleter::new(complete::address_sets))]
    pub set: String,
    /// Addresses
    #[arg(value_name = "address", required = true)]
    pub addresses: Vec<String>,
}

/// Create new network address sets
#[derive(Debug, Args)]
#[command(after_help = "stapes network address-set create as1
    Create network address set as1

stapes network address-set create as1 < config.yaml
    Create network address set with configuration from config.yaml")]
pub struct Create {
    /// New address set name
    #[arg(value_name = "new address set name")]
    pub name: String,
    /// Keys and values; `addresses` takes a list with commas
    #[arg(value_name = "key=value")]
    pub values: Vec<String>,
    /// Network address set description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
}

/// Delete network address sets
#[derive(Debug, Args)]
pub struct Delete {
    /// Address sets
    #[arg(value_name = "address set", required = true, add = ArgValueCompleter::new(complete::address_sets))]
    pub sets: Vec<String>,
}

/// Edit network address set configurations as YAML
#[derive(Debug, Args)]
pub struct Edit {
    /// Address set
    #[arg(value_name = "address set", add = ArgValueCompleter::new(complete::address_sets))]
    pub set: String,
}

/// List available network address sets
#[derive(Debug, Args)]
pub struct List {
    /// Remote
    #[arg(value_name = "remote")]
    pub remote: Option<String>,
    /// List address sets across all projects
    #[arg(long)]
    pub all_projects: bool,
    #[command(flatten)]
    pub format: FormatOption,
}

/// Remove addresses from a network address set
#[derive(Debug, Args)]
pub struct Remove {
    /// Address set
    #[arg(value_name = "address set", add = ArgValueCompleter::new(complete::address_sets))]
    pub set: String,
    /// Addresses
    #[arg(value_name = "address", required = true)]
    pub addresses: Vec<String>,
}

/// Rename network address sets
#[derive(Debug, Args)]
pub struct Rename {
    /// Address set
    #[arg(value_name = "address set", add = ArgValueCompleter::new(complete::address_sets))]
    pub set: String,
    /// New address set name
    #[arg(value_name = "new address set name")]
    pub new_name: String,
}

/// Set network address set configuration keys
#[derive(Debug, Args)]
pub struct Set {
    /// Address set
    #[arg(value_name = "address set", add = ArgValueCompleter::new(complete::address_sets))]
    pub set: String,
    /// Keys and values
    #[arg(value_name = "key=value", required = true)]
    pub values: Vec<String>,
    /// Set the key as a network address set property
    #[arg(short, long)]
    pub property: bool,
}

/// Show network address set configuration
#[derive(Debug, Args)]
pub struct Show {
    /// Address set
    #[arg(value_name = "address set", add = ArgValueCompleter::new(complete::address_sets))]
    pub set: String,
}

/// Unset network address set configuration keys
#[derive(Debug, Args)]
pub struct Unset {
    /// Address set
    #[arg(value_name = "address set", add = ArgValueCompleter::new(complete::address_sets))]
    pub set: String,
    /// Keys
    #[arg(value_name = "key", required = true)]
    pub keys: Vec<String>,
    /// Unset the keys as network address set properties
    #[arg(short, long)]
    pub property: bool,
}

/// The project in use and an address set's name in it.
fn named(cx: &Context, store: &Store, word: &str) -> Result<(ProjectName, AddressSetName)> {
    let name = AddressSetName::parse(&kv::local(word)?).map_err(|_| ops::not_found())?;
    Ok((cx.project(store)?, name))
}

impl AddressSet {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Add(add) => update(cx, &add.set, &mut |put| {
                put.addresses.extend(add.addresses.iter().cloned());
                Ok(())
            }),
            Self::Create(create) => create.run(cx),
            Self::Delete(delete) => delete.run(cx),
            Self::Edit(edit) => edit.run(cx),
            Self::List(list) => list.run(cx),
            Self::Remove(remove) => update(cx, &remove.set, &mut |put| take(&mut put.addresses, &remove.addresses)),
            Self::Rename(rename) => rename.run(cx),
            Self::Set(set) => {
                let change = Change::Set(cx.values(kv::assignments(&set.values)?)?);
                changed(cx, &set.set, set.property, &change)
            }
            Self::Show(show) => {
                cx.print(yaml::document(&shown(cx, &show.set)?)?)?;
                Ok(DONE)
            }
            Self::Unset(unset) => changed(cx, &unset.set, unset.property, &Change::Unset(unset.keys)),
        }
    }
}

/// Takes addresses out of a list that must hold them all.
fn take(all: &mut Vec<String>, gone: &[String]) -> Result<()> {
    let before = all.len();
    all.retain(|address| !gone.contains(address));
    match before - all.len() == gone.len() {
        true => Ok(()),
        false => Err(Error::not_found("One or more provided address isn't currently in the set")),
    }
}

impl Create {
    fn run(self, cx: &Context) -> Outcome {
        let mut put: AddressSetPut = document_of(&cx.stdin_document()?.unwrap_or_default())?;
        for word in &self.values {
            match kv::pair(word)? {
                (key, value) if key == "addresses" => put.addresses.extend(value.split(',').map(str::to_string)),
                (key, value) => drop(put.config.insert(key, value)),
            }
        }
        if let Some(description) = self.description.filter(|d| !d.is_empty()) {
            put.description = description;
        }
        let name = AddressSetName::parse(&kv::local(&self.name)?)?;
        let store = cx.store()?;
        ops::create(&store, &cx.project(&store)?, &name, put)?;
        cx.notice(format_args!("Network address set {name} created"))?;
        Ok(DONE)
    }
}

impl Delete {
    fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let mut failed = Vec::new();
        for word in &self.sets {
            let done = named(cx, &store, word).and_then(|(project, name)| ops::delete(&store, &project, &name));
            match done {
                Ok(()) => cx.notice(format_args!("Network address set {word} deleted"))?,
                Err(e) => failed.push(e),
            }
        }
        Error::join(failed).map_or(Ok(DONE), |e| Err(e.into()))
    }
}

const EDIT_HELP: &str = "### This is a YAML representation of the network address set.
### Any line starting with '#' will be ignored.
###
### For example:
### name: as1
### description: \"Test address set\"
### addresses:
###  - 10.0.0.1
###  - 2001:db8::1
### config:
###  user.foo: bar";

impl Edit {
    fn run(self, cx: &Context) -> Outcome {
        let text = match cx.tty.stdin {
            true => yaml::document(&shown(cx, &self.set)?)?,
            false => String::new(),
        };
        edit(cx, EDIT_HELP, &text, &mut |text| {
            let put: AddressSetPut = document_of(text)?;
            update(cx, &self.set, &mut |target| {
                *target = put.clone();
                Ok(())
            })
            .map(drop)
            .map_err(|e| e.downcast().unwrap_or_else(|e| Error::failed(e.to_string())))
        })?;
        Ok(DONE)
    }
}

fn shown(cx: &Context, word: &str) -> Result<AddressSetView> {
    let store = cx.reader()?;
    let (project, name) = named(cx, &store, word)?;
    ops::show(&store, &project, &name)
}

impl List {
    fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let words: Vec<String> = self.remote.into_iter().collect();
        if !kv::skip_remote(&words)?.is_empty() {
            return Err(Error::unsupported("Filtering isn't supported yet").into());
        }
        let store = cx.reader()?;
        let mut all: Vec<AddressSetView> = Vec::new();
        for project in projects(cx, &store, self.all_projects)? {
            for view in ops::list(&store, &project)? {
                // What projects share is there once.
                if !all.contains(&view) {
                    all.push(view);
                }
            }
        }
        let row = |view: &AddressSetView| {
            let (put, users) = (&view.put, view.used_by.len().to_string());
            let cells = [view.name.clone(), put.description.clone(), put.addresses.join("\n"), users];
            self.all_projects.then(|| view.project.clone()).into_iter().chain(cells).collect()
        };
        let header = ["NAME", "DESCRIPTION", "ADDRESSES", "USED BY"];
        let header = self.all_projects.then_some("PROJECT").into_iter().chain(header);
        self.format.print(&format, &header.collect::<Vec<_>>(), all.iter().map(row).collect(), &all)
    }
}

impl Rename {
    fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let (project, from) = named(cx, &store, &self.set)?;
        let to = AddressSetName::parse(&self.new_name)?;
        ops::rename(&store, &project, &from, &to)?;
        cx.notice(format_args!("Network address set {from} renamed to {to}"))?;
        Ok(DONE)
    }
}

fn changed(cx: &Context, word: &str, property: bool, change: &Change) -> Outcome {
    update(cx, word, &mut |put| match (property, change) {
        (true, change) => change_properties(put, change),
        (false, Change::Set(pairs)) => {
            put.config.extend(pairs.iter().cloned());
            Ok(())
        }
        (false, Change::Unset(keys)) => {
            put.config.retain(|key, _| !keys.contains(key));
            Ok(())
        }
    })
}

fn update(cx: &Context, word: &str, edit: &mut dyn FnMut(&mut AddressSetPut) -> Result<()>) -> Outcome {
    let store = cx.store()?;
    let (project, name) = named(cx, &store, word)?;
    ops::update(&store, &project, &name, edit)?;
    Ok(DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_or_none_are_taken() {
        let list = |words: &[&str]| -> Vec<String> { words.iter().map(|w| (*w).to_string()).collect() };
        let mut all = list(&["10.0.0.1", "10.0.0.2", "fd42::/64"]);
        take(&mut all, &list(&["fd42::/64", "10.0.0.1"])).expect("there");
        assert_eq!(all, list(&["10.0.0.2"]));
        let e = take(&mut all, &list(&["10.0.0.9"])).expect_err("not there");
        assert_eq!(e.to_string(), "One or more provided address isn't currently in the set");
    }
}
