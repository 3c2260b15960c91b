//! `image`: the local image store. The verbs with more to them have files of their own.

use super::complete;
use super::image_alias::Alias;
use super::image_build::Build;
use super::image_import::Import;
use super::image_list::List;
use super::image_show::{self, Edit, GetProperty, Info, SetProperty, Show, UnsetProperty};
use super::{Context, DONE, Outcome, kv, refuse_option};
use crate::error::Error;
use crate::ops::image::{self, Target};
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use std::path::PathBuf;

/// Manage images
///
/// Instances are created from images. Those images were themselves
/// either built from a distribution's packages (the bootstrap: remote)
/// or imported.
///
/// The image unique identifier is the hash (sha-256) of its representation
/// as a compressed tarball (or for split images, the concatenation of the
/// metadata and rootfs tarballs).
///
/// Images can be referenced by their full hash, shortest unique partial
/// hash or alias name (if one is set).
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub enum Image {
    #[command(subcommand)]
    Alias(Alias),
    Build(Build),
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(Delete),
    Edit(Edit),
    Export(Export),
    GetProperty(GetProperty),
    Import(Import),
    Info(Info),
    #[command(visible_alias = "ls")]
    List(List),
    SetProperty(SetProperty),
    Show(Show),
    UnsetProperty(UnsetProperty),
}

/// Delete images
#[derive(Debug, Args)]
pub struct Delete {
    /// Images
    #[arg(value_name = "image", required = true, add = ArgValueCompleter::new(complete::local_images))]
    pub images: Vec<String>,
}

/// Export and download images
///
/// The output target is optional and defaults to the working directory.
#[derive(Debug, Args)]
pub struct Export {
    /// Image
    #[arg(value_name = "image", add = ArgValueCompleter::new(complete::local_images))]
    pub image: String,
    /// File or directory to write to
    #[arg(value_name = "target file", value_hint = clap::ValueHint::AnyPath)]
    pub target: Option<String>,
    #[command(flatten)]
    pub vm: Vm,
}

// Flattened: no doc comment.
#[derive(Debug, Clone, Args)]
pub struct Vm {
    /// Query virtual machine images
    #[arg(long)]
    pub vm: bool,
}

impl Image {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Alias(alias) => alias.run(cx),
            Self::Build(build) => build.run(cx),
            Self::Delete(delete) => delete.run(cx),
            Self::Edit(edit) => edit.run(cx),
            Self::Export(export) => export.run(cx),
            Self::GetProperty(get) => get.run(cx),
            Self::Import(import) => import.run(cx),
            Self::Info(info) => info.run(cx),
            Self::List(list) => list.run(cx),
            Self::SetProperty(set) => set.run(cx),
            Self::Show(show) => show.run(cx),
            Self::UnsetProperty(unset) => unset.run(cx),
        }
    }
}

impl Delete {
    fn run(self, cx: &Context) -> Outcome {
        let names = kv::locals(&self.images)?;
        let store = cx.store()?;
        let delete = |name: &String| image::delete(&store, &image::find(&store, name)?);
        match Error::join(names.iter().map(delete).filter_map(Result::err).collect()) {
            Some(e) => Err(e.into()),
            None => Ok(DONE),
        }
    }
}

impl Export {
    fn run(self, cx: &Context) -> Outcome {
        refuse_option("--vm", self.vm.vm)?;
        let path = PathBuf::from(self.target.unwrap_or_else(|| ".".to_string()));
        let target = if path.is_dir() { Target::Folder(path) } else { Target::File(path) };
        let store = cx.store()?;
        let fingerprint = image_show::find(cx, &store, &self.image)?;
        image::export(&store, &fingerprint, &target)?;
        cx.notice("Image exported successfully!")?;
        Ok(DONE)
    }
}
