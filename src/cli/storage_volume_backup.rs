//! `storage volume export` and `import`: a custom volume as an archive.

use super::backup::{self, Target};
use super::image_import::reporter;
use super::storage_volume::{Named, Place, Word, pool};
use super::storage_volume_copy::tell_unkept;
use super::{Context, DONE, Outcome, complete, kv, refuse_target};
use crate::base::names::VolumeName;
use crate::error::Result;
use crate::model::volume::ContentType;
use crate::ops::backup::export::compression;
use crate::ops::volume::list::{self, Type};
use crate::ops::volume::{Of, export, image, import};
use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

/// Export custom storage volumes
#[derive(Debug, Args)]
#[command(after_help = "stapes storage volume export default data data.tar.gz
    Write the volume \"data\" with its snapshots to an archive

stapes storage volume export default data - --compression zstd | ssh host stapes storage volume import default -
    Send the volume to another host")]
pub struct Export {
    #[command(flatten)]
    pub place: Place,
    /// File; - is standard output
    #[arg(value_name = "backup file", value_hint = clap::ValueHint::FilePath)]
    pub file: Option<String>,
    /// Export the volume without its snapshots (ignored for ISO storage volumes)
    #[arg(long)]
    pub volume_only: bool,
    /// Use storage driver optimized format (can only be restored on a similar pool, ignored for ISO storage volumes)
    #[arg(long)]
    pub optimized_storage: bool,
    /// Compression algorithm to use (none for uncompressed, ignored for ISO storage volumes)
    #[arg(long, value_name = "algorithm")]
    pub compression: Option<String>,
    /// Overwrite the target file if it exists
    #[arg(short, long)]
    pub force: bool,
}

/// What an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Archive {
    /// That of `export`.
    Backup,
    /// An image of a disc.
    Iso,
}

/// Import custom storage volumes
///
/// Import backups of custom volumes including their snapshots, or images of discs.
#[derive(Debug, Args)]
#[command(after_help = "stapes storage volume import default data.tar.gz
    Make the volume that the archive is of

stapes storage volume import default data.tar.gz copy
    Make it under another name

stapes storage volume import default some-installer.iso installer --type=iso
    Create a new custom volume storing some-installer.iso for use as a CD-ROM image")]
pub struct Import {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// File; - is standard input
    #[arg(value_name = "backup file", value_hint = clap::ValueHint::FilePath)]
    pub file: String,
    /// New volume name
    #[arg(value_name = "new volume name")]
    pub name: Option<String>,
    /// Import type, backup or iso; by the file's name if it is not given
    #[arg(short = 't', long = "type", value_name = "type")]
    pub kind: Option<Archive>,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

impl Export {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let wanted = self.compression.as_deref().map(str::parse).transpose()?;
        let store = cx.store()?;
        let named = Named::of_place(cx, &store, &self.place, "exported")?;
        let how = compression(&store, &cx.project(&store)?, wanted)?;
        let word = Word::parse(&self.place.volume);
        let view = list::show(&store, &named.project, &named.pool, (Type::Custom, &named.name));
        let view = view.map_err(|e| word.missing(e))?;
        let is_disc = view.content_type == ContentType::Iso.as_str();
        let usual = format!("{}{}", named.name, if is_disc { ".iso" } else { how.extension() });
        let how = export::How { only: self.volume_only, compression: how, optimized: self.optimized_storage };
        let target = Target { file: self.file.as_deref(), usual, force: self.force };
        target.write(cx, |sink, on_progress| export::export(&store, named.get(), how, sink, on_progress))
    }
}

impl Import {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        refuse_target(self.target.as_deref())?;
        let named_disc = || self.file.to_ascii_lowercase().ends_with(".iso");
        let is_disc = self.kind.map_or_else(named_disc, |kind| kind == Archive::Iso);
        let name = |word: &String| -> Result<VolumeName> {
            let word = kv::local(word)?;
            VolumeName::parse(word.strip_prefix("custom/").unwrap_or(&word))
        };
        let name = self.name.as_ref().map(name).transpose()?;
        let store = cx.store()?;
        let (project, pool) = (cx.project(&store)?, pool(&self.pool)?);
        let progress = cx.progress("Importing custom volume: %s");
        if is_disc {
            let name = name.map_or_else(|| image::name_of(&self.file), Ok)?;
            let of = Of { project: &project, pool: &pool, name: &name };
            backup::read(&self.file, |source| image::import(&store, of, source, &mut reporter(&progress)))?;
            progress.clear();
            return Ok(DONE);
        }
        let request = import::Request { project, pool, name };
        let mut made = None;
        backup::read(&self.file, |source| {
            made = Some(import::import(&store, &request, source, &mut reporter(&progress))?);
            Ok(())
        })?;
        progress.clear();
        if let Some(name) = &made {
            tell_unkept(cx, &store, Of { project: &request.project, pool: &request.pool, name })?;
        }
        Ok(DONE)
    }
}
