//! `image build`: what `bootstrap:` makes, with packages and a mirror of the user's.

use super::image_import::reporter;
use super::{Context, DONE, Outcome, complete, kv};
use crate::base::names::AliasName;
use crate::error::{Context as _, Error, Result};
use crate::ops::image_import::{self, BOOTSTRAP, BuildRequest};
use crate::ops::image_remote::Place;
use clap::{Args, ValueHint};
use clap_complete::engine::ArgValueCompleter;
use std::path::PathBuf;

/// Build an image from a distribution's packages
///
/// What can be built is listed by: stapes image list bootstrap:
///
/// Launching from bootstrap: builds as well, without further packages and from the usual mirror.
#[derive(Debug, Args)]
#[command(after_help = "stapes image build bootstrap:debian/12 --alias web --package nginx --package curl
    Build Debian 12 with two more packages
stapes image build bootstrap:debian/12 --vm --alias machine
    Build the disk of a virtual machine")]
pub struct Build {
    /// What to build
    #[arg(value_name = "image", add = ArgValueCompleter::new(complete::images))]
    pub image: String,
    /// New aliases to add to the image (may be passed multiple times)
    #[arg(long, value_name = "alias")]
    pub alias: Vec<String>,
    /// Where to get packages from
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// File with the keys that the packages are signed with, where the host has none of that distribution
    #[arg(long, value_name = "file", value_hint = ValueHint::FilePath)]
    pub keyring: Option<PathBuf>,
    /// Further package to install (may be passed multiple times)
    #[arg(long, value_name = "package")]
    pub package: Vec<String>,
    /// Make image public
    #[arg(long)]
    pub public: bool,
    /// If the image alias already exists, delete and create a new one
    #[arg(long)]
    pub reuse: bool,
    /// Build an image of a virtual machine
    #[arg(long)]
    pub vm: bool,
}

impl Build {
    /// Builds it.
    ///
    /// # Errors
    /// See `ops::image_import`.
    pub fn run(self, cx: &Context) -> Outcome {
        let wanted = kv::object(&self.image, BOOTSTRAP)?;
        if wanted.remote != BOOTSTRAP {
            return Err(Error::invalid(format!("Only images of \"{BOOTSTRAP}:\" can be built")).into());
        }
        let request = BuildRequest {
            alias: wanted.name,
            vm: self.vm,
            mirror: self.mirror,
            keyring: self.keyring.map(std::path::absolute).transpose().context("Failed finding the keyring")?,
            packages: self.package,
            aliases: self.alias.iter().map(|a| AliasName::parse(a)).collect::<Result<_>>()?,
            reuse: self.reuse,
            public: self.public,
        };
        let store = cx.store()?;
        cx.may_fetch(&store, &cx.project(&store)?, &Place::Bootstrap)?;
        let progress = cx.progress("Building image: %s");
        let fingerprint = image_import::build(&store, &cx.tools(), &request, &mut reporter(&progress))?;
        progress.clear();
        cx.notice(format_args!("Image built with fingerprint: {fingerprint}"))?;
        Ok(DONE)
    }
}
