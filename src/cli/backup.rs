//! `export` and `import`: an instance as an archive.

use super::complete;
use super::copy::tell_unkept;
use super::image_import::reporter;
use super::{Context, DONE, Outcome, config, kv};
use crate::base::names::{InstanceName, PoolName};
use crate::error::{Context as _, Error, Result};
use crate::image::OnProgress;
use crate::ops::backup::export::{self as exporting, Request as Wanted};
use crate::ops::backup::import::{self as importing, Request};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What stands for standard output and input.
const STANDARD: &str = "-";

/// Export instance backups
#[derive(Debug, Args)]
#[command(after_help = "stapes export u1 backup0.tar.gz
    Download a backup tarball of the u1 instance.

stapes export u1 - --compression zstd | ssh host stapes import -
    Send the instance to another host")]
pub struct Export {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// File; - is standard output
    #[arg(value_name = "backup file", value_hint = clap::ValueHint::FilePath)]
    pub file: Option<String>,
    /// Compression algorithm to use (none for uncompressed)
    #[arg(long, value_name = "algorithm")]
    pub compression: Option<String>,
    /// Overwrite the target file if it exists
    #[arg(short, long)]
    pub force: bool,
    /// Whether or not to only backup the instance (without snapshots)
    #[arg(long)]
    pub instance_only: bool,
    /// Use storage driver optimized format (can only be restored on a similar pool)
    #[arg(long)]
    pub optimized_storage: bool,
    /// Whether or not to only backup the instance (without dependent volumes)
    #[arg(long)]
    pub root_only: bool,
}

/// Import instance backups
///
/// Import backups of instances including their snapshots.
#[derive(Debug, Args)]
#[command(after_help = "stapes import backup0.tar.gz
    Create a new instance using backup0.tar.gz as the source.")]
pub struct Import {
    /// Remote that it goes to (local:), file (- is standard input), new name
    #[arg(value_name = "backup file", required = true, num_args = 1..=3, value_hint = clap::ValueHint::FilePath)]
    pub words: Vec<String>,
    /// Config key/value to apply to the new instance (may be passed multiple times)
    #[arg(short, long, value_name = "key=value", add = ArgValueCompleter::new(complete::key_assignments))]
    pub config: Vec<String>,
    /// New key/value to apply to a specific device (may be passed multiple times)
    #[arg(short, long, value_name = "device,key=value")]
    pub device: Vec<String>,
    /// Storage pool name
    #[arg(short, long, value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub storage: Option<String>,
}

impl Export {
    /// Exports it.
    ///
    /// # Errors
    /// See `ops::backup::export`; the file is there.
    pub fn run(self, cx: &Context) -> Outcome {
        let word = kv::local(&self.instance)?;
        let compression = self.compression.as_deref().map(str::parse).transpose()?;
        let store = cx.store()?;
        let (project, name) = config::instance(cx, &store, &word)?;
        let Self { instance_only, root_only, optimized_storage: optimized, .. } = self;
        let wanted = Wanted { project, name, instance_only, root_only, compression, optimized };
        let ending = exporting::compression(&store, &wanted.project, wanted.compression)?.extension();
        let target =
            Target { file: self.file.as_deref(), usual: format!("{}{ending}", wanted.name), force: self.force };
        target.write(cx, |sink, on_progress| exporting::export(&store, &wanted, sink, on_progress).map(drop))
    }
}

/// Where an archive goes.
pub(super) struct Target<'a> {
    /// The file; `-` is standard output.
    pub file: Option<&'a str>,
    /// Its name if none is given.
    pub usual: String,
    /// It may be there already.
    pub force: bool,
}

impl Target<'_> {
    /// Has `body` write it; it is there as a whole, or not at all.
    pub(super) fn write(
        self,
        cx: &Context,
        body: impl FnOnce(&mut (dyn Write + Send), OnProgress<'_>) -> Result<()>,
    ) -> Outcome {
        if self.file == Some(STANDARD) {
            let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout());
            body(&mut out, &mut |_| Ok(()))?;
            out.flush().context("Failed writing the backup")?;
            return Ok(DONE);
        }
        let target = self.file.map_or_else(|| PathBuf::from(&self.usual), PathBuf::from);
        let there = std::fs::symlink_metadata(&target);
        if !self.force && there.is_ok() {
            return Err(Error::exists(format!("Target path \"{}\" already exists", target.display()))
                .hint("overwrite it with --force")
                .into());
        }
        if there.is_ok_and(|there| !there.is_file() && !there.is_dir()) {
            return onto(&target, cx, body);
        }
        let progress = cx.progress("Exporting the backup: %s");
        let mut out = BufWriter::with_capacity(1 << 20, temporary(&target)?);
        body(&mut out, &mut reporter(&progress))?;
        let file = out.into_inner().map_err(|e| Error::from(e.into_error()).context("Failed writing the backup"))?;
        file.as_file().sync_all().context("Failed writing the backup")?;
        file.persist(&target).map_err(|e| e.error).with_context(|| failed(&target))?;
        progress.clear();
        cx.notice(format_args!("Backup exported successfully!"))?;
        Ok(DONE)
    }
}

/// Has `body` write to a device or a pipe, or where a link leads (the kernel follows none that another user planted): a file in
/// the place of `/dev/null` or `/dev/stdout` would be in the way of all who use them.
fn onto(
    target: &Path,
    cx: &Context,
    body: impl FnOnce(&mut (dyn Write + Send), OnProgress<'_>) -> Result<()>,
) -> Outcome {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let opened = options.open(target).with_context(|| failed(target))?;
    let progress = cx.progress("Exporting the backup: %s");
    let mut out = BufWriter::with_capacity(1 << 20, opened);
    body(&mut out, &mut reporter(&progress))?;
    out.flush().context("Failed writing the backup")?;
    progress.clear();
    cx.notice(format_args!("Backup exported successfully!"))?;
    Ok(DONE)
}

/// Hands `body` an archive, and its length if that is known; `-` is standard input.
pub(super) fn read(file: &str, body: impl FnOnce((Box<dyn Read + Send>, Option<u64>)) -> Result<()>) -> Result<()> {
    if file == STANDARD {
        return body((Box::new(std::io::stdin()), None));
    }
    let fail = || format!("Failed opening \"{file}\"");
    let opened = File::open(file).with_context(fail)?;
    let size = opened.metadata().with_context(fail)?;
    if size.is_dir() {
        return Err(Error::invalid(format!("\"{file}\" is a folder")));
    }
    let total = size.is_file().then_some(size.len());
    body((Box::new(opened), total)).with_context(|| format!("Failed importing \"{file}\""))
}

fn failed(path: &Path) -> String {
    format!("Failed writing \"{}\"", path.display())
}

/// A file beside the target that goes unless it gets its name.
fn temporary(target: &Path) -> Result<tempfile::NamedTempFile> {
    let folder = target.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A backup holds what only its owner may read.
    let permissions = std::fs::Permissions::from_mode(0o600);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".stapes-").permissions(permissions).tempfile_in(folder).with_context(|| failed(target))
}

impl Import {
    /// Imports it.
    ///
    /// # Errors
    /// See `ops::backup::import`.
    pub fn run(self, cx: &Context) -> Outcome {
        let (file, name) = match kv::skip_remote(&self.words)? {
            [file] => (file, None),
            [file, name] => (file, Some(kv::local(name)?)),
            [] => return Err(Error::invalid("not enough arguments; expected a value for “<backup file>”").into()),
            [.., last] => return Err(Error::invalid(format!("too many arguments; unexpected “{last}”")).into()),
        };
        let mut request = Request {
            name: name.as_deref().map(InstanceName::parse).transpose()?,
            storage: self.storage.as_deref().map(PoolName::parse).transpose()?,
            config: self.config.iter().map(|word| kv::pair(word)).collect::<Result<_>>()?,
            device_overrides: kv::device_overrides(&self.device)?,
            ..Request::default()
        };
        let store = cx.store()?;
        request.project = cx.project(&store)?;
        let progress = cx.progress("Importing instance: %s");
        let mut made = None;
        read(file, |source| {
            made = Some(importing::import(&store, &request, source, &mut reporter(&progress))?);
            Ok(())
        })?;
        progress.clear();
        made.map_or(Ok(()), |made| tell_unkept(cx, &store, (&request.project, &made)))?;
        Ok(DONE)
    }
}
