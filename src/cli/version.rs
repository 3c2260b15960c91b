//! `version`.

use super::{Context, DONE, Outcome};
use clap::Args;

/// Show local and remote versions
#[derive(Debug, Args)]
pub struct Version {
    /// Remote
    #[arg(value_name = "remote")]
    pub remote: Option<String>,
}

impl Version {
    /// Prints the version twice: client and server are one program.
    ///
    /// # Errors
    /// An unknown remote.
    pub fn run(self, cx: &Context) -> Outcome {
        if let Some(word) = &self.remote {
            super::kv::skip_remote(std::slice::from_ref(word))?;
        }
        let version = env!("CARGO_PKG_VERSION");
        cx.print(format_args!("Client version: {version}\nServer version: {version}\n"))?;
        Ok(DONE)
    }
}
