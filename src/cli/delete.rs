//! `delete`: instances with everything that belongs to them.

use super::action::{self, Which};
use super::complete;
use super::{Context, DONE, Outcome, kv};
use crate::error::Error;
use crate::ops::delete;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

/// Delete instances
#[derive(Debug, Args)]
pub struct Delete {
    /// Instances
    #[arg(value_name = "instance", required = true, add = ArgValueCompleter::new(complete::instances))]
    pub instances: Vec<String>,
    /// Force the removal of running instances
    #[arg(short, long)]
    pub force: bool,
    /// Require user confirmation
    #[arg(short, long)]
    pub interactive: bool,
}

impl Delete {
    /// Deletes the instances; goes on after a failure.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        let names = kv::locals(&self.instances)?;
        for name in names.iter().filter(|_| self.interactive) {
            if !cx.confirm(&format!("Remove {name}"))? {
                return Err(Error::failed("User aborted delete operation").into());
            }
        }
        let force = self.force;
        let done = action::each(cx, Which::Named(names), "delete", false, &|s, p, n| {
            delete::delete(s, p, n, force)?.iter().for_each(|stays| cx.warn(stays));
            Ok(())
        });
        cx.leave();
        done.map(|()| DONE).map_err(Into::into)
    }
}
