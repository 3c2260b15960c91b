//! `image`: the local image store. The verbs with more to them have files of their own.

use super::complete;
use super::image_alias::Alias;
use super::image_build::Build;
use super::image_copy::{Copy, Refresh};
use super::image_import::{Import, reporter};
use super::image_list::List;
use super::image_metadata::GenerateMetadata;
use super::image_show::{self, Edit, GetProperty, Info, SetProperty, Show, UnsetProperty};
use super::kv::Object;
use super::{Context, DONE, Outcome, kv};
use crate::base::names::Fingerprint;
use crate::error::Error;
use crate::model::instance::InstanceType;
use crate::ops::image;
use crate::ops::image_export::{self, Target};
use crate::ops::image_remote::Place;
use crate::ops::image_streams;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use std::path::PathBuf;

/// Manage images
///
/// Instances are created from images. Those images were themselves
/// either fetched from a server, built from a distribution's packages
/// (the bootstrap: remote) or imported.
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
    #[command(visible_alias = "cp")]
    Copy(Copy),
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(Delete),
    Edit(Edit),
    Export(Export),
    GenerateMetadata(GenerateMetadata),
    GetProperty(GetProperty),
    Import(Import),
    Info(Info),
    #[command(visible_alias = "ls")]
    List(List),
    Refresh(Refresh),
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
///
/// With --simplestreams the images, all of them if none is named, are added
/// to a tree that a web server can serve as a remote.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Export {
    /// Image, and the file or directory to write to; or images
    #[arg(value_name = "image", add = ArgValueCompleter::new(complete::local_images))]
    pub words: Vec<String>,
    /// Add the images to the tree for a web server in this directory
    #[arg(long, value_name = "directory", value_hint = clap::ValueHint::DirPath)]
    pub simplestreams: Option<PathBuf>,
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

impl Vm {
    /// Which of the images of a name is meant.
    pub fn kind(&self) -> InstanceType {
        if self.vm { InstanceType::VirtualMachine } else { InstanceType::Container }
    }
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
            Self::Copy(copy) => copy.run(cx),
            Self::Delete(delete) => delete.run(cx),
            Self::Edit(edit) => edit.run(cx),
            Self::Export(export) => export.run(cx),
            Self::GenerateMetadata(generate) => generate.run(cx),
            Self::GetProperty(get) => get.run(cx),
            Self::Import(import) => import.run(cx),
            Self::Info(info) => info.run(cx),
            Self::List(list) => list.run(cx),
            Self::Refresh(refresh) => refresh.run(cx),
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
        if let Some(folder) = &self.simplestreams {
            return self.to_tree(cx, folder);
        }
        let (image, target) = match self.words.as_slice() {
            [] => return Err(Error::invalid("not enough arguments; expected a value for “[<remote>:]<image>”").into()),
            [image] => (image, "."),
            [image, target] => (image, target.as_str()),
            _ => return Err(Error::invalid("too many arguments; expected at most 2").into()),
        };
        let path = PathBuf::from(target);
        let target = if path.is_dir() { Target::Folder(path) } else { Target::File(path) };
        let store = cx.store()?;
        let Object { remote, name, .. } = cx.image_object(image)?;
        match cx.place(&remote)? {
            Place::Server(server) => {
                let progress = cx.progress("Exporting the image: %s");
                let (what, kind) = ((&*server, name.as_str()), self.vm.kind());
                image_export::of_server(&store, what, kind, &target, &mut reporter(&progress))?;
                progress.clear();
            }
            place => {
                let fingerprint = image::find_on(&store, &place, &name, self.vm.vm)?;
                image_export::export(&store, &fingerprint, &target)?;
            }
        }
        cx.notice("Image exported successfully!")?;
        Ok(DONE)
    }

    fn to_tree(&self, cx: &Context, folder: &std::path::Path) -> Outcome {
        let store = cx.store()?;
        let mut images: Vec<Fingerprint> =
            self.words.iter().map(|word| image_show::find(cx, &store, word, self.vm.vm)).collect::<Result<_, _>>()?;
        if images.is_empty() {
            images = store.images()?.into_iter().map(|(fingerprint, _)| fingerprint).collect();
        }
        image_streams::export(&store, folder, &images)?;
        cx.notice(if images.len() == 1 { "Image exported successfully!" } else { "Images exported successfully!" })?;
        Ok(DONE)
    }
}
