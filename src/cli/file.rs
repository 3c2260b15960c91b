//! `file`: files and folders into and out of an instance.

use super::progress::Progress;
use super::{Context, DONE, Outcome, complete, edit, kv};
use crate::base::names::{InstanceName, ProjectName};
use crate::base::size::format_si;
use crate::error::{Context as _, Error, Result};
use crate::guest::files::{Attributes, Content};
use crate::ops::file::{self, Destination, Files, Place, Source};
use crate::ops::load;
use crate::store::Store;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Manage files in instances
#[derive(Debug, Subcommand)]
pub enum File {
    Create(Create),
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(Delete),
    Edit(Edit),
    Pull(Pull),
    Push(Push),
}

/// Create files and directories in instances
#[derive(Debug, Args)]
#[command(after_help = "stapes file create foo/bar
   To create a file /bar in the foo instance.

stapes file create --type=symlink foo/bar baz
   To create a symlink /bar in instance foo whose target is baz.")]
pub struct Create {
    /// File in an instance
    #[arg(value_name = "instance path", add = ArgValueCompleter::new(complete::instance_paths))]
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

/// Delete files in instances
#[derive(Debug, Args)]
pub struct Delete {
    /// Files in instances
    #[arg(value_name = "instance path", required = true, add = ArgValueCompleter::new(complete::instance_paths))]
    pub paths: Vec<OsString>,
    /// Force deleting files, directories, and subdirectories
    #[arg(short, long)]
    pub force: bool,
}

/// Edit files in instances
#[derive(Debug, Args)]
pub struct Edit {
    /// File in an instance
    #[arg(value_name = "instance path", add = ArgValueCompleter::new(complete::instance_paths))]
    pub path: OsString,
}

/// Pull files from instances
#[derive(Debug, Args)]
#[command(after_help = "stapes file pull foo/etc/hosts .
   To pull /etc/hosts from the instance and write it to the current directory.

stapes file pull -r foo/etc/systemd .
   To pull the folder /etc/systemd from the instance with all it holds.

stapes file pull foo/etc/hosts -
   To pull /etc/hosts from the instance and write its output to standard output.")]
pub struct Pull {
    /// Files in instances, and where to write them
    #[arg(value_name = "path", num_args = 2.., required = true, add = ArgValueCompleter::new(complete::instance_paths))]
    pub words: Vec<OsString>,
    #[command(flatten)]
    pub transfer: Transfer,
}

/// Push files into instances
#[derive(Debug, Args)]
#[command(after_help = "stapes file push /etc/hosts foo/etc/hosts
   To push /etc/hosts into the instance \"foo\".

stapes file push -r ./site foo/var/www/
   To push the folder \"site\" with all it holds, as /var/www/site.

echo \"Hello world\" | stapes file push - foo/root/test
   To read \"Hello world\" from standard input and write it into /root/test in instance \"foo\".")]
pub struct Push {
    /// Files, and where to write them in an instance
    #[arg(value_name = "path", num_args = 2.., required = true, value_hint = clap::ValueHint::FilePath)]
    pub words: Vec<OsString>,
    /// Set the files' GIDs on push
    #[arg(long, value_name = "gid", default_value_t = -1)]
    pub gid: i64,
    /// Set the file's perms on push (in recursive mode, only sets the target directory's permissions)
    #[arg(long, value_name = "mode")]
    pub mode: Option<String>,
    /// Set the files' UIDs on push
    #[arg(long, value_name = "uid", default_value_t = -1)]
    pub uid: i64,
    #[command(flatten)]
    pub transfer: Transfer,
}

// Flattened: no doc comment.
#[derive(Debug, Clone, Args)]
pub struct Transfer {
    /// Create any directories necessary
    #[arg(short = 'p', long)]
    pub create_dirs: bool,
    /// Always follow symbolic links in source path
    #[arg(short = 'L', long)]
    pub dereference: bool,
    /// Follow command-line symbolic links in source path
    #[arg(short = 'H', long)]
    pub follow: bool,
    /// Never follow symbolic links in source path
    #[arg(short = 'P', long)]
    pub no_dereference: bool,
    /// Recursively transfer files
    #[arg(short, long)]
    pub recursive: bool,
}

/// A path in an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstancePath {
    /// The instance.
    pub instance: String,
    /// Absolute path; with a `/` at the end it is a directory.
    pub path: OsString,
}

impl InstancePath {
    /// Parses `[<remote>:]<instance>/<path>`.
    ///
    /// # Errors
    /// There is no path, or the remote is not this host.
    pub fn parse(word: &OsStr) -> Result<Self> {
        let wrong = || Error::invalid(format!("Invalid path {word:?}, expecting [<remote>:]<instance>/<path>"));
        let at = word.as_bytes().iter().position(|byte| *byte == b'/').unwrap_or(word.len());
        let (before, path) = word.as_bytes().split_at(at);
        let before = std::str::from_utf8(before).map_err(|_| wrong())?;
        if before.is_empty() || before.ends_with(':') {
            return Err(wrong());
        }
        let instance = kv::local(before)?;
        match path.is_empty() {
            true => Err(wrong()),
            false => Ok(Self { instance, path: OsStr::from_bytes(path).to_os_string() }),
        }
    }
}

/// Permission bits of `--mode`, an octal number.
///
/// # Errors
/// It is none.
pub fn mode(word: &str) -> Result<u32> {
    let bits = u32::from_str_radix(word, 8).ok().filter(|bits| *bits <= 0o7777);
    bits.ok_or_else(|| Error::invalid(format!("Invalid file mode {word:?}")))
}

/// An owner given by `--uid` or `--gid`; negative is none.
///
/// # Errors
/// It is too large.
pub fn owner(id: i64) -> Result<Option<u32>> {
    if id < 0 {
        return Ok(None);
    }
    u32::try_from(id).map(Some).map_err(|_| Error::invalid(format!("Invalid ID {id}")))
}

/// Owner and mode of the options.
pub(super) fn attributes(uid: i64, gid: i64, bits: Option<&str>) -> Result<Attributes> {
    Ok(Attributes { uid: owner(uid)?, gid: owner(gid)?, mode: bits.map(mode).transpose()? })
}

impl Transfer {
    pub(super) fn check(&self) -> Result<()> {
        if [self.no_dereference, self.follow, self.dereference].into_iter().filter(|f| *f).count() > 1 {
            let text = "--no-dereference/-P, --follow/-H, and --dereference/-L are mutually exclusive";
            return Err(Error::invalid(text));
        }
        Ok(())
    }

    /// What becomes of folders and links.
    pub(super) fn way(&self) -> file::Way {
        file::Way {
            recursive: self.recursive,
            no_dereference: self.no_dereference,
            follow: self.follow,
            follow_all: self.dereference,
        }
    }
}

/// The instance that is worked on; one at a time, as a stopped one is locked.
struct Opened<'a> {
    store: &'a Store,
    project: ProjectName,
    current: Option<(String, Files)>,
}

impl<'a> Opened<'a> {
    fn new(cx: &Context, store: &'a Store) -> Result<Self> {
        Ok(Self { store, project: cx.project(store)?, current: None })
    }

    fn get(&mut self, instance: &str) -> Result<&Files> {
        let current = self.current.take().filter(|(name, _)| name == instance);
        let files = match current {
            Some((_, files)) => files,
            None => {
                let name = InstanceName::parse(instance).map_err(|_| load::not_found())?;
                Files::open(self.store, &self.project, &name)?
            }
        };
        Ok(&self.current.insert((instance.to_string(), files)).1)
    }
}

/// Draws the progress of transfers: `Pushing a to b: 12%`.
pub(super) fn drawing<'a>(
    progress: &'a Progress,
    verb: &'a str,
    joint: &'a str,
) -> impl FnMut(file::Transfer<'_>) + 'a {
    move |t| {
        let status = match t.total.filter(|total| *total > 0) {
            Some(total) => format!("{}%", t.done.saturating_mul(100) / total),
            None => format_si(t.done),
        };
        progress.update(&format!("{verb} {} {joint} {}: {status}", t.from, t.to));
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

impl Pull {
    fn run(self, cx: &Context) -> Outcome {
        let (target, sources) = split_last(&self.words)?;
        let sources = sources.iter().map(|w| InstancePath::parse(w)).collect::<Result<Vec<_>>>()?;
        self.transfer.check()?;
        let stdout = is_one(&STDOUT, target);
        let way = self.transfer.way();
        if stdout && way.no_dereference {
            let text = "--no-dereference/-P cannot be used together with stdout as a target";
            return Err(Error::invalid(text).into());
        }
        let store = cx.store()?;
        let mut opened = Opened::new(cx, &store)?;
        let place = match stdout {
            true => None,
            false => {
                Some(Place::prepare(Path::new(target), (sources.len(), way.recursive), self.transfer.create_dirs)?)
            }
        };
        let progress = Progress::new("%s", place.is_some() && cx.tty.stdout && !cx.quiet);
        let mut on_transfer = drawing(&progress, "Pulling", "from");
        let mut failed = Vec::new();
        for source in &sources {
            let mut out = std::io::stdout().lock();
            let destination = place.as_ref().map_or(Destination::Stream(&mut out), Destination::Place);
            let pulled = opened
                .get(&source.instance)
                .and_then(|files| file::pull(files, &source.path, destination, way, &mut on_transfer));
            failed.extend(pulled.err());
        }
        Error::join(failed).map_or(Ok(DONE), |e| Err(e.into()))
    }
}

impl Push {
    fn run(self, cx: &Context) -> Outcome {
        let (target, sources) = split_last(&self.words)?;
        let target = InstancePath::parse(target)?;
        self.transfer.check()?;
        let attributes = attributes(self.uid, self.gid, self.mode.as_deref())?;
        let push = file::Push {
            target: target.path,
            attributes,
            create_dirs: self.transfer.create_dirs,
            way: self.transfer.way(),
            keep_attributes: false,
        };
        send(cx, &target.instance, sources, &push)
    }
}

/// Pushes files or standard input.
fn send(cx: &Context, instance: &str, sources: &[OsString], push: &file::Push) -> Outcome {
    let mut stdin: Vec<_> = sources.iter().map(|_| std::io::stdin()).collect();
    let source = |(word, stdin): (&OsString, _)| match is_one(&STDIN, word) {
        true => Source::Stream(stdin),
        false => Source::Path(word.into()),
    };
    let sources = sources.iter().zip(stdin.iter_mut().map(|s| s as &mut dyn Read)).map(source).collect();
    let store = cx.store()?;
    let progress = cx.progress("%s");
    let mut opened = Opened::new(cx, &store)?;
    file::push(opened.get(instance)?, sources, push, &mut drawing(&progress, "Pushing", "to"))?;
    Ok(DONE)
}

impl Create {
    fn run(self, cx: &Context) -> Outcome {
        let at = InstancePath::parse(&self.path)?;
        let (path, folder) = file::bare(&at.path);
        let kind = if folder { "directory" } else { &self.kind };
        if !["file", "symlink", "directory"].contains(&kind) {
            return Err(Error::invalid(format!("Invalid type {kind:?}")).into());
        }
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
            _ => Content::File(&mut empty),
        };
        let store = cx.store()?;
        let mut opened = Opened::new(cx, &store)?;
        file::create(opened.get(&at.instance)?, path, content, &attributes, self.create_dirs)?;
        Ok(DONE)
    }
}

impl Delete {
    fn run(self, cx: &Context) -> Outcome {
        let paths = self.paths.iter().map(|w| InstancePath::parse(w)).collect::<Result<Vec<_>>>()?;
        let store = cx.store()?;
        let mut opened = Opened::new(cx, &store)?;
        let delete = |at: &InstancePath| file::delete(opened.get(&at.instance)?, file::bare(&at.path).0, self.force);
        let failed = paths.iter().map(delete).filter_map(Result::err).collect();
        Error::join(failed).map_or(Ok(DONE), |e| Err(e.into()))
    }
}

impl Edit {
    /// Standard input, or the user's editor on a copy.
    fn run(self, cx: &Context) -> Outcome {
        let at = InstancePath::parse(&self.path)?;
        let push = file::Push { target: at.path.clone(), keep_attributes: true, ..file::Push::default() };
        if !cx.tty.stdin {
            return send(cx, &at.instance, &["-".into()], &push);
        }
        let store = cx.store()?;
        let folder = tempfile::tempdir().context("Failed creating a temporary folder")?;
        let name = Path::new(&at.path).file_name().ok_or_else(|| Error::invalid("Missing target file name"))?;
        let copy = folder.path().join(name);
        let mut opened = Opened::new(cx, &store)?;
        let place = Place::prepare(&copy, (1, false), false)?;
        file::pull(opened.get(&at.instance)?, &at.path, Destination::Place(&place), file::Way::default(), &mut |_| {})?;
        // The editor may take hours: the instance is not kept locked.
        drop(opened);
        edit::file(cx, &copy)?;
        let mut opened = Opened::new(cx, &store)?;
        file::push(opened.get(&at.instance)?, vec![Source::Path(copy)], &push, &mut |_| {})?;
        Ok(DONE)
    }
}

/// Names of the standard streams, as Incus knows them.
pub(super) const STDIN: [&str; 3] = ["-", "/dev/stdin", "/dev/fd/0"];
pub(super) const STDOUT: [&str; 3] = ["-", "/dev/stdout", "/dev/fd/1"];

/// Which stream a word means, if it is none of the file system's.
pub(super) fn is_one(streams: &[&str], word: &OsStr) -> bool {
    streams.iter().any(|stream| word == *stream)
}

pub(super) fn split_last(words: &[OsString]) -> Result<(&OsString, &[OsString])> {
    words.split_last().ok_or_else(|| Error::invalid("not enough arguments; expected a value for “<path>”"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_paths() {
        let parse = |word: &[u8]| InstancePath::parse(OsStr::from_bytes(word));
        let p = parse(b"local:web/root/\xff/").unwrap();
        assert_eq!((p.instance.as_str(), p.path.as_bytes()), ("web", &b"/root/\xff/"[..]));
        assert!([&b"web"[..], b"/etc", b"local:/x", b"", b"w\xff/x"].iter().all(|word| parse(word).is_err()));
        assert_eq!((mode("0644").unwrap(), mode("1777").unwrap()), (0o644, 0o1777));
        assert!(mode("9").is_err() && mode("77777").is_err());
        assert_eq!((owner(-1).unwrap(), owner(5).unwrap()), (None, Some(5)));
    }
}
