//! `network peer`, `load-balancer` and `integration`: all of them need OVN.

use super::{Context, Outcome};
use crate::error::Error;
use clap::Args;

/// Needs OVN, which is not supported by this version
#[derive(Debug, Args)]
pub struct NeedsOvn {
    /// Whatever stands behind it
    #[arg(value_name = "argument", trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

impl NeedsOvn {
    /// Refuses; `what`: the objects.
    ///
    /// # Errors
    /// Always Unsupported.
    pub fn refuse(&self, _cx: &Context, what: &str) -> Outcome {
        Err(Error::unsupported(format!("{what} need OVN, which is not supported by this version")).into())
    }
}
