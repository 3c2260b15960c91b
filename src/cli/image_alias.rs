//! `image alias`: names for images.

use super::complete;
use super::list::FormatOption;
use super::output::columns::{self, Column, column};
use super::{Context, DONE, Outcome, kv};
use crate::base::names::AliasName;
use crate::error::Error;
use crate::model::view::AliasEntryView;
use crate::ops::image_alias;
use crate::ops::image_remote::Place;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

/// Manage image aliases
#[derive(Debug, Subcommand)]
pub enum Alias {
    #[command(visible_alias = "add")]
    Create(Create),
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(Delete),
    #[command(visible_alias = "ls")]
    List(List),
    #[command(visible_alias = "mv")]
    Rename(Rename),
}

/// Create aliases for existing images
#[derive(Debug, Args)]
pub struct Create {
    /// New alias name
    #[arg(value_name = "new alias name")]
    pub name: String,
    /// Fingerprint
    #[arg(value_name = "fingerprint", add = ArgValueCompleter::new(complete::local_images))]
    pub fingerprint: String,
    /// Image alias description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
}

/// Delete image aliases
#[derive(Debug, Args)]
pub struct Delete {
    /// Aliases
    #[arg(value_name = "alias", required = true, add = ArgValueCompleter::new(complete::local_images))]
    pub aliases: Vec<String>,
}

/// List image aliases
///
/// Filters may be part of the image hash or part of the image alias name.
///
/// Default column layout: aftd
///
/// Column shorthand chars:
///   a - Alias
///   f - Fingerprint
///   t - Type
///   d - Description
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct List {
    /// Filters
    #[arg(value_name = "filter")]
    pub filters: Vec<String>,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = "aftd")]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
}

/// Rename aliases
#[derive(Debug, Args)]
pub struct Rename {
    /// Alias
    #[arg(value_name = "alias", add = ArgValueCompleter::new(complete::local_images))]
    pub alias: String,
    /// New alias name
    #[arg(value_name = "new alias name")]
    pub new_name: String,
}

/// What a letter of `image alias list` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Alias,
    Fingerprint,
    Type,
    Description,
}

/// The letters of `image alias list -c`.
pub const COLUMNS: &[Column<Cell>] = &[
    column('a', "ALIAS", Cell::Alias),
    column('f', "FINGERPRINT", Cell::Fingerprint),
    column('t', "TYPE", Cell::Type),
    column('d', "DESCRIPTION", Cell::Description),
];

impl Alias {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Create(create) => {
                let name = AliasName::parse(&kv::local(&create.name)?)?;
                let description = create.description.unwrap_or_default();
                image_alias::create(&cx.store()?, &name, &create.fingerprint, &description)?;
            }
            Self::Delete(delete) => {
                let names = kv::locals(&delete.aliases)?;
                let store = cx.store()?;
                let delete = |name: &String| image_alias::delete(&store, &AliasName::parse(name)?);
                let failed = names.iter().map(delete).filter_map(Result::err).collect();
                Error::join(failed).map_or(Ok(()), Err)?;
            }
            Self::List(list) => return list.run(cx),
            Self::Rename(rename) => {
                let (name, new) = (kv::local(&rename.alias)?, AliasName::parse(&rename.new_name)?);
                image_alias::rename(&cx.store()?, &AliasName::parse(&name)?, &new)?;
            }
        }
        Ok(DONE)
    }
}

impl List {
    fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let chosen = columns::letters(&self.columns, COLUMNS)?;
        let (place, filters) = match self.filters.split_first() {
            Some((first, rest)) if first.ends_with(':') && !first.contains('=') => {
                (cx.place(&cx.image_object(first)?.remote)?, rest)
            }
            _ => (cx.place(&cx.default_remote()?)?, &self.filters[..]),
        };
        let all = match place {
            Place::Server(server) => image_alias::on_server(&server)?,
            Place::Local => image_alias::views(&cx.reader()?)?,
            Place::Registry(_) => return Err(Error::unsupported("Can't list images from OCI registry").into()),
            Place::Bootstrap => {
                return Err(Error::unsupported("The remote \"bootstrap\" has no aliases of its own")
                    .hint("list what can be built: stapes image list bootstrap:")
                    .into());
            }
        };
        let fits = |alias: &AliasEntryView| {
            filters.is_empty() || filters.iter().any(|f| alias.name.contains(f) || alias.target.contains(f))
        };
        let cell = |alias: &AliasEntryView, cell: Cell| match cell {
            Cell::Alias => alias.name.clone(),
            Cell::Fingerprint => alias.target.chars().take(12).collect(),
            Cell::Type => alias.kind.to_uppercase(),
            Cell::Description => alias.description.clone(),
        };
        let rows = all.iter().filter(|a| fits(a)).map(|a| chosen.iter().map(|c| cell(a, c.cell)).collect()).collect();
        let header: Vec<&str> = chosen.iter().map(|c| c.header).collect();
        // As Incus does: objects are not filtered.
        self.format.print(&format, &header, rows, &all)
    }
}
