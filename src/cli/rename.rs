//! `rename`: another name for a stopped instance.

use super::complete;
use super::{Context, DONE, Outcome, config, kv};
use crate::base::names::InstanceName;
use crate::ops::rename;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

/// Rename instances
#[derive(Debug, Args)]
pub struct Rename {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// New instance name
    #[arg(value_name = "new instance name")]
    pub new_name: String,
}

impl Rename {
    /// Renames the instance.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        let name = kv::local(&self.instance)?;
        let new = InstanceName::parse(&kv::local(&self.new_name)?)?;
        let store = cx.store()?;
        let (project, name) = config::instance(cx, &store, &name)?;
        rename::rename(&store, &project, &name, &new)?;
        Ok(DONE)
    }
}
