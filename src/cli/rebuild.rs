//! `rebuild`: the root file system of an image for an instance that is there.

use super::complete;
use super::{Context, DONE, Outcome, config, create, kv};
use crate::error::Error;
use crate::ops::rebuild as ops;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

/// Rebuild instances
///
/// Wipes the instance root disk and re-initializes with a new image (or empty volume).
#[derive(Debug, Args)]
#[command(after_help = "stapes rebuild images:debian/12 c1
    Give the stopped instance \"c1\" the root file system of that image")]
pub struct Rebuild {
    /// Image (not with --empty) and instance
    #[arg(value_name = "image", required = true, num_args = 1..=2, add = ArgValueCompleter::new(complete::images))]
    pub words: Vec<String>,
    /// If an instance is running, stop it and then rebuild it
    #[arg(short, long)]
    pub force: bool,
    /// Rebuild as an empty instance
    #[arg(long)]
    pub empty: bool,
}

impl Rebuild {
    /// Rebuilds it.
    ///
    /// # Errors
    /// See `ops::rebuild`.
    pub fn run(self, cx: &Context) -> Outcome {
        let (image, instance) = match (self.empty, self.words.as_slice()) {
            (true, [instance]) => (None, instance),
            (false, [image, instance]) => (Some(cx.image_object(image)?), instance),
            (false, _) => {
                return Err(Error::invalid("not enough arguments; expected a value for “[<remote>:]<instance>”").into());
            }
            (true, _) => return Err(Error::invalid("--empty cannot be combined with an image name").into()),
        };
        let instance = kv::local(instance)?;
        let store = cx.store()?;
        let (project, name) = config::instance(cx, &store, &instance)?;
        let image = image.map(|image| create::resolve(cx, &store, &image)).transpose()?;
        ops::rebuild(&store, (&project, &name), image.as_ref(), self.force)?;
        Ok(DONE)
    }
}
