//! `storage volume file`: single files into and out of a custom volume.

use super::file::{STDIN, STDOUT, Transfer, attributes, drawing, is_one, split_last};
use super::progress::Progress;
use super::storage_volume::Named;
use super::{Context, DONE, Outcome, complete, edit};
use crate::error::{Context as _, Error, Result};
use crate::guest::files::Content;
use crate::ops::file::{self, Destination, Files, Place, Source};
use crate::ops::volume;
use crate::store::Store;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Manage files in custom volumes
#[derive(Debug, Subcommand)]
pub enum File {
    Create(Create),
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(Delete),
    Edit(Edit),
    Pull(Pull),
    Push(Push),
}

/// Create files and directories in custom volumes
#[derive(Debug, Args)]
pub struct Create {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// File in a volume
    #[arg(value_name = "volume path")]
    pub path: OsString,
    /// What a symlink leads to
    #[arg(value_name = "symlink target path")]
    pub target: Option<OsString>,
    /// Create any directories necessary
    #[arg(short = 'p', long)]
    pub create_dirs: bool,
    /// Force creating files or directories
    #[arg(short, long)]
    pub force: bool,
    /// Set the file's gid on create
    #[arg(long, value_name = "gid", default_value_t = -1)]
    pub gid: i64,
    /// Set the file's perms on create
    #[arg(long, value_name = "mode")]
    pub mode: Option<String>,
    /// The type to create (file, symlink, or directory)
    #[arg(short = 't', long = "type", value_name = "type", default_value = "file")]
    pub kind: String,
    /// Set the file's uid on create
    #[arg(long, value_name = "uid", default_value_t = -1)]
    pub uid: i64,
}

/// Delete files in custom volumes
#[derive(Debug, Args)]
pub struct Delete {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// Files in volumes
    #[arg(value_name = "volume path", required = true)]
    pub paths: Vec<OsString>,
    /// Force deleting files, directories, and subdirectories
    #[arg(short, long)]
    pub force: bool,
}

/// Edit files in custom volumes
#[derive(Debug, Args)]
pub struct Edit {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// File in a volume
    #[arg(value_name = "volume path")]
    pub path: OsString,
}

/// Pull files from custom volumes
#[derive(Debug, Args)]
#[command(after_help = "stapes storage volume file pull default v1/foo/bar .
   To pull /foo/bar from the custom volume \"v1\" and write it to the current directory.")]
pub struct Pull {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// Files in volumes, and where to write them
    #[arg(value_name = "path", num_args = 2.., required = true)]
    pub words: Vec<OsString>,
    #[command(flatten)]
    pub transfer: Transfer,
}

/// Push files into custom volumes
#[derive(Debug, Args)]
#[command(after_help = "stapes storage volume file push /etc/hosts default v1/etc/hosts
   To push /etc/hosts into the custom volume \"v1\".

echo \"Hello world\" | stapes storage volume file push - default v1/test
   To read \"Hello world\" from standard input and write it into /test in volume \"v1\".")]
pub struct Push {
    /// Files, the pool, and where to write them in a volume
    #[arg(value_name = "path", num_args = 3.., required = true, value_hint = clap::ValueHint::FilePath)]
    pub words: Vec<OsString>,
    /// Set the files' GIDs on push
    #[arg(long, value_name = "gid", default_value_t = -1)]
    pub gid: i64,
    /// Set the file's perms on push
    #[arg(long, value_name = "mode")]
    pub mode: Option<String>,
    /// Set the files' UIDs on push
    #[arg(long, value_name = "uid", default_value_t = -1)]
    pub uid: i64,
    #[command(flatten)]
    pub transfer: Transfer,
}

/// A path in a volume: `[custom/]<volume>/<path>`.
struct Inside {
    volume: String,
    path: OsString,
}

impl Inside {
    fn parse(word: &OsStr) -> Result<Self> {
        let wrong = || Error::invalid(format!("Invalid path {word:?}, expecting <volume>/<path>"));
        let rest = word.as_bytes().strip_prefix(b"custom/").unwrap_or(word.as_bytes());
        let at = rest.iter().position(|byte| *byte == b'/').filter(|at| *at > 0).ok_or_else(wrong)?;
        let volume = std::str::from_utf8(&rest[..at]).map_err(|_| wrong())?;
        Ok(Self { volume: volume.to_string(), path: OsStr::from_bytes(&rest[at..]).to_os_string() })
    }

    fn path(&self) -> &Path {
        file::bare(&self.path).0
    }

    fn open(&self, cx: &Context, store: &Store, pool: &str) -> Result<Files> {
        let named = Named::of(cx, store, (pool, &self.volume), "opened")?;
        volume::files(store, named.get())
    }
}

impl File {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops::file`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Create(create) => create.run(cx),
            Self::Delete(delete) => delete.run(cx),
            Self::Edit(edit) => edit.run(cx),
            Self::Pull(pull) => pull.run(cx),
            Self::Push(push) => push.run(cx),
        }
    }
}

impl Create {
    fn run(self, cx: &Context) -> Outcome {
        let at = Inside::parse(&self.path)?;
        let kind = if file::bare(&at.path).1 { "directory" } else { &self.kind };
        if self.target.is_some() && self.kind != "symlink" {
            return Err(Error::invalid("Symlink target path can only be used for type \"symlink\"").into());
        }
        let attributes = attributes(self.uid, self.gid, self.mode.as_deref())?;
        let link = self.target.unwrap_or_default();
        let mut empty = std::io::empty();
        let content = match kind {
            "directory" => Content::Directory,
            "symlink" if link.is_empty() => return Err(Error::invalid("Missing symlink target path").into()),
            "symlink" => Content::Symlink(&link),
            "file" => Content::File(&mut empty),
            other => return Err(Error::invalid(format!("Invalid type {other:?}")).into()),
        };
        let store = cx.store()?;
        let files = at.open(cx, &store, &self.pool)?;
        file::create(&files, at.path(), content, &attributes, self.create_dirs)?;
        Ok(DONE)
    }
}

impl Delete {
    fn run(self, cx: &Context) -> Outcome {
        let paths = self.paths.iter().map(|w| Inside::parse(w)).collect::<Result<Vec<_>>>()?;
        let store = cx.store()?;
        let delete = |at: &Inside| file::delete(&at.open(cx, &store, &self.pool)?, at.path(), self.force);
        let failed = paths.iter().map(delete).filter_map(Result::err).collect();
        Error::join(failed).map_or(Ok(DONE), |e| Err(e.into()))
    }
}

impl Pull {
    fn run(self, cx: &Context) -> Outcome {
        let (target, sources) = split_last(&self.words)?;
        let sources = sources.iter().map(|w| Inside::parse(w)).collect::<Result<Vec<_>>>()?;
        self.transfer.check()?;
        let (stdout, way) = (is_one(&STDOUT, target), self.transfer.way());
        if stdout && way.no_dereference {
            let text = "--no-dereference/-P cannot be used together with stdout as a target";
            return Err(Error::invalid(text).into());
        }
        let store = cx.store()?;
        let place = match stdout {
            true => None,
            false => {
                Some(Place::prepare(Path::new(target), (sources.len(), way.recursive), self.transfer.create_dirs)?)
            }
        };
        let progress = Progress::new("%s", place.is_some() && cx.tty.stdout && !cx.quiet);
        let mut on_transfer = drawing(&progress, "Pulling", "from");
        let mut failed = Vec::new();
        for at in &sources {
            let mut out = std::io::stdout().lock();
            let destination = place.as_ref().map_or(Destination::Stream(&mut out), Destination::Place);
            let files = at.open(cx, &store, &self.pool);
            let pulled = files.and_then(|files| file::pull(&files, &at.path, destination, way, &mut on_transfer));
            failed.extend(pulled.err());
        }
        Error::join(failed).map_or(Ok(DONE), |e| Err(e.into()))
    }
}

impl Push {
    fn run(self, cx: &Context) -> Outcome {
        let (target, rest) = split_last(&self.words)?;
        let (pool, sources) = split_last(rest)?;
        let pool = pool.to_str().ok_or_else(|| Error::not_found("Storage pool not found"))?;
        let at = Inside::parse(target)?;
        self.transfer.check()?;
        let push = file::Push {
            target: at.path.clone(),
            attributes: attributes(self.uid, self.gid, self.mode.as_deref())?,
            create_dirs: self.transfer.create_dirs,
            way: self.transfer.way(),
            keep_attributes: false,
        };
        send(cx, (pool, &at), sources, &push)
    }
}

/// Pushes files or standard input.
fn send(cx: &Context, (pool, at): (&str, &Inside), sources: &[OsString], push: &file::Push) -> Outcome {
    let mut stdin: Vec<_> = sources.iter().map(|_| std::io::stdin()).collect();
    let source = |(word, stdin): (&OsString, _)| match is_one(&STDIN, word) {
        true => Source::Stream(stdin),
        false => Source::Path(word.into()),
    };
    let sources = sources.iter().zip(stdin.iter_mut().map(|s| s as &mut dyn Read)).map(source).collect();
    let store = cx.store()?;
    let progress = cx.progress("%s");
    file::push(&at.open(cx, &store, pool)?, sources, push, &mut drawing(&progress, "Pushing", "to"))?;
    Ok(DONE)
}

impl Edit {
    /// Standard input, or the user's editor on a copy.
    fn run(self, cx: &Context) -> Outcome {
        let at = Inside::parse(&self.path)?;
        let push = file::Push { target: at.path.clone(), keep_attributes: true, ..file::Push::default() };
        if !cx.tty.stdin {
            return send(cx, (&self.pool, &at), &["-".into()], &push);
        }
        let store = cx.store()?;
        let folder = tempfile::tempdir().context("Failed creating a temporary folder")?;
        let name = at.path().file_name().ok_or_else(|| Error::invalid("Missing target file name"))?;
        let copy = folder.path().join(name);
        let place = Place::prepare(&copy, (1, false), false)?;
        // The editor may take hours: the volume is not kept locked.
        let pulled = at.open(cx, &store, &self.pool)?;
        file::pull(&pulled, &at.path, Destination::Place(&place), file::Way::default(), &mut |_| {})?;
        drop(pulled);
        edit::file(cx, &copy)?;
        file::push(&at.open(cx, &store, &self.pool)?, vec![Source::Path(copy)], &push, &mut |_| {})?;
        Ok(DONE)
    }
}
