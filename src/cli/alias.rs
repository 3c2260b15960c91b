//! `alias`: commands of the user's own making, in the client's configuration. [`super::alias_expand`] is what they do.

use super::list::FormatOption;
use super::{Context, DONE, Outcome, alias_expand, complete};
use crate::error::{Error, Result};
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use std::collections::BTreeMap;

/// Manage command aliases
#[derive(Debug, Subcommand)]
pub enum Alias {
    #[command(visible_alias = "create")]
    Add(Add),
    #[command(visible_alias = "ls")]
    List(List),
    #[command(visible_aliases = ["delete", "rm"])]
    Remove(Remove),
    #[command(visible_alias = "mv")]
    Rename(Rename),
}

/// Add new aliases
///
/// An alias stands at the beginning of a command line, takes the place of a
/// command of that name, and is not expanded again. What follows it goes where
/// its target says @ARGS@ (all of it) or @ARG1@ (one word), else to the end.
/// A target that begins with a slash is a program to run.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "stapes alias add list \"list -c ns46S\"
    Overwrite the \"list\" command to pass -c ns46S.

stapes alias add volume \"storage volume @ARGS@\"
    Create a short command for managing volumes

stapes alias add cat \"exec @ARG1@ -- cat @ARG2@\"
    Create a command for displaying file content of instances"
)]
pub struct Add {
    /// New alias name, of one or more words
    #[arg(value_name = "new alias name")]
    pub alias: String,
    /// Command
    #[arg(value_name = "target command")]
    pub target: String,
}

/// List aliases
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    pub format: FormatOption,
}

/// Remove aliases
#[derive(Debug, Args)]
#[command(after_help = "stapes alias remove my-list
    Remove the \"my-list\" alias.")]
pub struct Remove {
    /// Alias
    #[arg(value_name = "alias", add = ArgValueCompleter::new(complete::command_aliases))]
    pub alias: String,
}

/// Rename aliases
#[derive(Debug, Args)]
#[command(after_help = "stapes alias rename list my-list
    Rename existing alias \"list\" to \"my-list\".")]
pub struct Rename {
    /// Alias
    #[arg(value_name = "alias", add = ArgValueCompleter::new(complete::command_aliases))]
    pub alias: String,
    /// New alias name
    #[arg(value_name = "new alias name")]
    pub name: String,
}

type Aliases = BTreeMap<String, String>;

impl Alias {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no such alias, or there is one already; the configuration cannot be read or written.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Add(Add { alias, target }) => change(cx, |all| put(all, alias, target)),
            Self::List(list) => list.run(cx),
            Self::Remove(Remove { alias }) => change(cx, |all| take(all, &alias).map(drop)),
            Self::Rename(Rename { alias, name }) => change(cx, |all| {
                let target = take(all, &alias)?;
                // The old name is taken too: Incus says so.
                if name == alias { Err(taken(&name)) } else { put(all, name, target) }
            }),
        }
    }
}

fn change(cx: &Context, change: impl FnOnce(&mut Aliases) -> Result<()>) -> Outcome {
    let folders = cx.folders();
    let mut config = folders.load()?;
    change(&mut config.aliases)?;
    folders.save(&config)?;
    Ok(DONE)
}

fn put(all: &mut Aliases, alias: String, target: String) -> Result<()> {
    if all.contains_key(&alias) {
        return Err(taken(&alias));
    }
    // Neither could ever be used.
    if alias.split(' ').any(str::is_empty) || target.trim().is_empty() {
        return Err(Error::invalid("Aliases and their targets cannot be empty"));
    }
    all.insert(alias, target);
    Ok(())
}

fn take(all: &mut Aliases, alias: &str) -> Result<String> {
    all.remove(alias).ok_or_else(|| Error::not_found(format!("Alias {alias} doesn't exist")))
}

fn taken(alias: &str) -> Error {
    Error::exists(format!("Alias {alias} already exists"))
}

impl List {
    fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let own = cx.folders().load()?.aliases;
        let row = |(alias, target): (&str, &str)| vec![alias.to_string(), target.to_string()];
        let mut rows: Vec<_> = own.iter().map(|(alias, target)| row((alias, target))).collect();
        rows.extend(alias_expand::BUILT_IN.into_iter().filter(|(alias, _)| !own.contains_key(*alias)).map(row));
        self.format.print(&format, &["ALIAS", "TARGET"], rows, &own)
    }
}
