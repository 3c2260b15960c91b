//! `warning`: what Incus's server notes about itself. Nobody is resident here who would note anything: there are none, and what is
//! wrong is found by `doctor` when it is asked.

use super::list::FormatOption;
use super::output::columns::{self, Column, column};
use super::{Context, DONE, Outcome, kv};
use crate::error::{Error, Result};
use clap::{Args, Subcommand};

/// Manage warnings
///
/// There are none: what is wrong is found by doctor.
#[derive(Debug, Subcommand)]
pub enum Warning {
    /// Acknowledge warnings
    #[command(visible_alias = "ack")]
    Acknowledge(One),
    Delete(Delete),
    List(List),
    /// Show warnings
    Show(One),
}

/// A warning.
#[derive(Debug, Args)]
pub struct One {
    /// UUID of the warning
    #[arg(value_name = "warning UUID")]
    pub uuid: String,
}

/// Delete warnings
#[derive(Debug, Args)]
#[command(visible_aliases = ["rm", "remove"])]
pub struct Delete {
    /// Warnings
    #[arg(value_name = "warning UUID")]
    pub uuids: Vec<String>,
    /// Delete all warnings
    #[arg(short, long)]
    pub all: bool,
}

/// List warnings
#[derive(Debug, Args)]
#[command(visible_alias = "ls")]
pub struct List {
    /// Remote
    #[arg(value_name = "remote")]
    pub remote: Option<String>,
    /// List all warnings
    #[arg(short, long)]
    pub all: bool,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = "utSscpl")]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
}

/// The letters of `warning list -c`.
pub const COLUMNS: &[Column<()>] = &[
    column('u', "UUID", ()),
    column('t', "TYPE", ()),
    column('S', "STATE", ()),
    column('s', "SEVERITY", ()),
    column('c', "COUNT", ()),
    column('p', "PROJECT", ()),
    column('f', "FIRST SEEN", ()),
    column('l', "LAST SEEN", ()),
];

impl Warning {
    /// Runs the command.
    ///
    /// # Errors
    /// Not found: there is no such warning.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Acknowledge(one) | Self::Show(one) => Err(missing(&one.uuid)?.into()),
            Self::Delete(delete) => match delete.uuids.as_slice() {
                [] if delete.all => Ok(DONE),
                _ if delete.all => Err(Error::invalid("--all cannot be used together with other arguments").into()),
                [] => Err(Error::invalid("Specify a warning UUID or use --all").into()),
                [first, ..] => Err(missing(first)?.into()),
            },
            Self::List(list) => {
                if let Some(remote) = &list.remote {
                    kv::local(remote)?;
                }
                let format = list.format.parse()?;
                let letters = columns::letters(&list.columns, COLUMNS)?;
                let header: Vec<&str> = letters.iter().map(|c| c.header).collect();
                cx.reader()?;
                list.format.print(&format, &header, Vec::new(), &Vec::<()>::new())
            }
        }
    }
}

fn missing(uuid: &str) -> Result<Error> {
    kv::local(uuid)?;
    Ok(Error::not_found("Warning not found"))
}
