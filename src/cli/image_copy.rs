//! `image copy` and `image refresh`: images of servers in the local store.

use super::complete;
use super::image_import::reporter;
use super::{Context, DONE, Outcome, kv};
use crate::base::names::{AliasName, Fingerprint, ProjectName};
use crate::error::{Error, Result};
use crate::ops::features;
use crate::ops::image;
use crate::ops::image_lend;
use crate::ops::image_oci;
use crate::ops::image_refresh;
use crate::ops::image_remote::{self, Place};
use crate::store::Store;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

/// Copy images between servers
///
/// The auto-update flag instructs the server to keep this image up to date.
/// It requires the source to be an alias and for it to be public.
#[derive(Debug, Args)]
#[command(after_help = "stapes image copy images:debian/12 local: --alias debian
    Copy an image of a server into the local store

stapes image copy images:debian/12 local: --vm
    Copy the image for virtual machines that has the same name there

stapes image copy docker:nginx local: --alias nginx
    Copy an image of a registry into the local store")]
pub struct Copy {
    /// Image
    #[arg(value_name = "image", add = ArgValueCompleter::new(complete::images))]
    pub image: String,
    /// Where it is to go: local:
    #[arg(value_name = "remote")]
    pub target: String,
    /// New aliases to add to the image (may be passed multiple times)
    #[arg(long, value_name = "alias")]
    pub alias: Vec<String>,
    /// Keep the image up to date after initial copy
    #[arg(long)]
    pub auto_update: bool,
    /// Copy aliases from source
    #[arg(long)]
    pub copy_aliases: bool,
    /// Transfer mode. One of pull (default), push or relay
    #[arg(long, value_name = "mode", default_value = "pull", hide = true)]
    pub mode: String,
    /// Profile to apply to the new image (may be passed multiple times)
    #[arg(short, long, value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: Vec<String>,
    /// Make image public
    #[arg(long)]
    pub public: bool,
    /// If the image alias already exists, delete and create a new one
    #[arg(long)]
    pub reuse: bool,
    /// Copy to a project different from the source
    #[arg(long, value_name = "project", add = ArgValueCompleter::new(complete::projects))]
    pub target_project: Option<String>,
    /// Copy virtual machine images
    #[arg(long)]
    pub vm: bool,
}

/// Refresh images
///
/// Fetches what the server has under the image's name now, if that is
/// another one.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Refresh {
    /// Images
    #[arg(value_name = "image", required = true, add = ArgValueCompleter::new(complete::local_images))]
    pub images: Vec<String>,
}

impl Copy {
    /// Copies it.
    ///
    /// # Errors
    /// See `ops::image_remote`.
    pub fn run(self, cx: &Context) -> Outcome {
        if self.auto_update && self.mode != "pull" {
            return Err(Error::invalid("Auto update is only available in pull mode").into());
        }
        let target = cx.image_object(&self.target)?;
        if !target.name.is_empty() {
            return Err(Error::invalid("Can't provide a name for the target image").into());
        }
        if !matches!(cx.place(&target.remote)?, Place::Local) {
            return Err(Error::unsupported(format!("The remote \"{}\" can't take images", target.remote)).into());
        }
        let source = cx.image_object(&self.image)?;
        let place = cx.place(&source.remote)?;
        match place {
            Place::Server(_) | Place::Registry(_) => {}
            Place::Local if self.target_project.is_some() => {}
            Place::Local => return Err(Error::exists("Image with same fingerprint already exists").into()),
            Place::Bootstrap => {
                return Err(Error::unsupported("Images of \"bootstrap:\" are built, not copied")
                    .hint(format!("stapes image build bootstrap:{}", source.name))
                    .into());
            }
        }
        let request = image_remote::Copy {
            name: source.name,
            vm: self.vm,
            aliases: self.alias.iter().map(|a| AliasName::parse(a)).collect::<Result<_>>()?,
            copy_aliases: self.copy_aliases,
            auto_update: self.auto_update,
            public: self.public,
            reuse: self.reuse,
            profiles: Some(self.profile).filter(|p| !p.is_empty()),
        };
        let store = cx.store()?;
        let target = self.target_project.as_deref().map(ProjectName::parse).transpose()?;
        if let (Some(project), false) = (&target, matches!(place, Place::Local)) {
            store.project(project)?.ok_or_else(|| Error::not_found("Project not found"))?;
            features::images(&store, project);
        }
        cx.may_fetch(&store, target.as_ref().unwrap_or(&cx.project(&store)?), &place)?;
        let progress = cx.progress("Copying the image: %s");
        let mut report = reporter(&progress);
        match (&place, &target) {
            (Place::Local, Some(project)) => image_lend::copy(&store, project, &request)?,
            (Place::Registry(registry), _) => image_oci::copy(&store, registry, &request, &mut report)?,
            (Place::Server(server), _) => image_remote::copy(&store, server, &request, &mut report)?,
            (Place::Local | Place::Bootstrap, _) => return Err(Error::internal("Nothing to copy from").into()),
        };
        progress.clear();
        cx.notice("Image copied successfully!")?;
        Ok(DONE)
    }
}

impl Refresh {
    /// Refreshes them.
    ///
    /// # Errors
    /// See `ops::image_refresh`.
    pub fn run(self, cx: &Context) -> Outcome {
        let names = kv::locals(&self.images)?;
        let store = cx.store()?;
        let all = names.iter().map(|name| one(cx, &store, name));
        match Error::join(all.filter_map(Result::err).collect()) {
            Some(e) => Err(e.into()),
            None => Ok(DONE),
        }
    }
}

/// Replaces an image by what its server has now; none: it is the newest.
///
/// # Errors
/// See `ops::image_refresh`.
pub(super) fn refresh(cx: &Context, store: &Store, fingerprint: &Fingerprint) -> Result<Option<Fingerprint>> {
    let Some(source) = image_refresh::source(store, fingerprint)? else { return Ok(None) };
    let place = cx.place_at(&source)?;
    let progress = cx.progress("Refreshing the image: %s");
    let new = image_refresh::refresh(store, &place, fingerprint, &mut reporter(&progress))?;
    progress.clear();
    Ok(new)
}

fn one(cx: &Context, store: &Store, name: &str) -> Result<()> {
    let fingerprint = image::find(store, name)?;
    let new = refresh(cx, store, &fingerprint)?;
    cx.notice(if new.is_some() { "Image refreshed successfully!" } else { "Image already up to date." })
}
