//! `publish`: an instance becomes an image.

use super::image_import::reporter;
use super::{Context, DONE, Outcome, complete, config, kv};
use crate::base::names::AliasName;
use crate::base::time;
use crate::error::{Error, Result};
use crate::ops::publish::{self, Request};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

/// Publish instances as images
#[derive(Debug, Args)]
#[command(after_help = "stapes publish c1 --alias mine description=\"My image\"
    Make an image of the stopped instance \"c1\"

stapes publish c1 --force --format split --compression \"zstd -19\"
    Stop a running one for it, and make an image of two files")]
pub struct Publish {
    /// Instance, then perhaps the remote it goes to (local:), then properties
    #[arg(value_name = "instance", required = true, add = ArgValueCompleter::new(complete::instances))]
    pub words: Vec<String>,
    /// New alias to define at target (may be passed multiple times)
    #[arg(long, value_name = "alias")]
    pub alias: Vec<String>,
    /// Compression algorithm to use (none for uncompressed)
    #[arg(long, value_name = "algorithm")]
    pub compression: Option<String>,
    /// Image expiration date (format: rfc3339)
    #[arg(long, value_name = "date")]
    pub expire: Option<String>,
    /// Stop the instance if currently running
    #[arg(short, long)]
    pub force: bool,
    /// Image format: unified or split
    #[arg(long, value_name = "format", default_value = "unified")]
    pub format: String,
    /// Make the image public
    #[arg(long)]
    pub public: bool,
    /// If the image alias already exists, delete and create a new one
    #[arg(long)]
    pub reuse: bool,
}

impl Publish {
    /// Publishes it.
    ///
    /// # Errors
    /// See `ops::publish`.
    pub fn run(self, cx: &Context) -> Outcome {
        let (word, rest) = self.words.split_first().ok_or_else(|| Error::invalid("Missing instance name"))?;
        let word = kv::local(word)?;
        let (word, snapshot) = word.split_once('/').map_or((word.as_str(), None), |(name, snap)| (name, Some(snap)));
        let rest = match rest {
            [target, ..] if !target.contains('=') && !target.ends_with(':') && target.contains(':') => {
                return Err(Error::invalid("There is no \"image name\".  Did you want an alias?").into());
            }
            rest => kv::skip_remote(rest)?,
        };
        let split = match self.format.as_str() {
            "unified" => false,
            "split" => true,
            other => return Err(Error::invalid(format!("Invalid image format {other:?}")).into()),
        };
        let expires_at = self
            .expire
            .as_deref()
            .map(|text| time::parse_rfc3339(text).map_err(|e| Error::invalid(format!("Invalid expiration date: {e}"))));
        let packing = self.compression.as_deref().map(str::parse).transpose()?;
        let aliases = self.alias.iter().map(|a| AliasName::parse(a)).collect::<Result<_>>()?;
        let properties = rest.iter().map(|word| kv::pair(word)).collect::<Result<_>>()?;
        let store = cx.store()?;
        let (project, name) = config::instance(cx, &store, word)?;
        let request = Request {
            project,
            name,
            snapshot: snapshot.map(super::snapshot::named).transpose()?,
            force: self.force,
            split,
            packing,
            aliases,
            reuse: self.reuse,
            public: self.public,
            expires_at: expires_at.transpose()?.flatten(),
            properties,
        };
        let progress = cx.progress("Publishing instance: %s");
        let fingerprint = publish::publish(&store, &request, &mut reporter(&progress))?;
        progress.clear();
        cx.notice(format_args!("Instance published with fingerprint: {fingerprint}"))?;
        Ok(DONE)
    }
}
