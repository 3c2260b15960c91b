//! `file push`, `file pull`, `file create`, `file delete`: files of an instance, running or not; whole folders: [`super::file_tree`].
//!
//! A running instance is entered through the root of its process 1, a stopped one through a detached mount of its volume, under
//! its lock so that it is not started meanwhile. Everything in there goes through `guest::files`, beneath that one descriptor;
//! what is read or written on the host is what the user named.

use super::{file_tree, lifecycle, load, pool, start};
use crate::base::idmap::IdMap;
use crate::base::names::{InstanceName, ProjectName};
use crate::container::attach::{self, Target};
use crate::container::rootfs;
use crate::error::{Context, Error, Result};
use crate::guest::Root;
use crate::guest::files::{self, Attributes, Content, Found, Pulled};
use crate::host::proc;
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, InstanceKey, Shared, VolumeKey};
use crate::sys::path::{self, Links};
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The files of an instance, open. While it is stopped its lock is held.
#[derive(Debug)]
pub struct Files {
    root: OwnedFd,
    ids: IdMap,
    _held: Option<Held<InstanceKey, Exclusive>>,
    _volume: Option<Held<VolumeKey, Shared>>,
    _scratch: Option<tempfile::TempDir>,
}

impl Files {
    /// Opens them.
    ///
    /// # Errors
    /// Not found; busy; the root file system cannot be put together.
    pub fn open(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<Self> {
        if let Some(files) = Self::of_running(store, project, name)? {
            return Ok(files);
        }
        let held = store.lock_instance(project, name, "file")?;
        lifecycle::settle(store, &held)?;
        // It may have been started, or deleted, while we waited.
        match Self::of_running(store, project, name)? {
            Some(files) => Ok(files),
            None => Self::of_stopped(store, held),
        }
    }

    /// Those of a custom volume, which stays meanwhile. `root`: its folder, and the ID map that the owners in it have.
    pub(super) fn of_volume((root, ids): (OwnedFd, IdMap), held: Held<VolumeKey, Shared>) -> Self {
        Self { root, ids, _held: None, _volume: Some(held), _scratch: None }
    }

    fn of_running(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<Option<Self>> {
        load::load(store, project, name)?;
        let Some(running) = load::running(store, project, name)? else { return Ok(None) };
        let Some(init) = running.file.open_init()? else { return Ok(None) };
        // What it was started with, whatever the configuration says by now.
        let map = proc::id_map(running.file.init_pid).map_err(|_| Error::conflict("Instance is not running"))?;
        let target = Target {
            init: init.as_fd(),
            init_pid: running.file.init_pid,
            cgroup: &running.file.cgroup,
            unprivileged: map.is_some(),
        };
        let root = attach::root(&target)?;
        Ok(Some(Self { root, ids: map.unwrap_or_default(), _held: None, _volume: None, _scratch: None }))
    }

    fn of_stopped(store: &Store, held: Held<InstanceKey, Exclusive>) -> Result<Self> {
        let loaded = load::load(store, &held.key().project, &held.key().name)?;
        let map = start::map_of(&loaded)?;
        super::root_owners::settle(store, &held, &loaded, map.as_ref())?;
        let root = start::root_of(store, &loaded, map.as_ref())?;
        // Where the pool cannot map ids, the owners on disk are the host's already.
        let maps = pool::maps_ids_of(store, &loaded.pool()?, &loaded.volume()?)?;
        let ids = if maps { IdMap::default() } else { map.unwrap_or_default() };
        let scratch = tempfile::tempdir_in(&store.layout().run).context("Failed creating a folder for mounting")?;
        let options = rootfs::Options { nodev: true, scratch: Some(scratch.path()), ..rootfs::Options::default() };
        let root = rootfs::mount(&root.rootfs, &options)?;
        Ok(Self { root, ids, _held: Some(held), _volume: None, _scratch: Some(scratch) })
    }

    pub(super) fn root(&self) -> Root<'_> {
        Root { fd: self.root.as_fd(), ids: &self.ids }
    }

    /// A folder, or a link to one.
    fn is_folder(&self, path: &Path) -> bool {
        path::open_dir(self.root.as_fd(), path, Links::InRoot).is_ok()
    }

    fn exists(&self, path: &Path) -> bool {
        path::open(self.root.as_fd(), path, rustix::fs::OFlags::PATH, 0, Links::InRoot).is_ok()
    }

    /// Makes the missing folders above `path`, with the owner of what is put there.
    fn make_parents(&self, path: &Path, attributes: &Attributes) -> Result<()> {
        let attributes = Attributes { mode: Some(0o755), ..*attributes };
        let parents: Vec<&Path> = path.ancestors().skip(1).filter(|p| p.parent().is_some()).collect();
        parents.into_iter().rev().try_for_each(|p| files::push(&self.root(), p, Content::Directory, &attributes, false))
    }
}

/// Something on its way.
#[derive(Debug, Clone, Copy)]
pub struct Transfer<'a> {
    /// Source as given.
    pub from: &'a str,
    /// Where it goes.
    pub to: &'a str,
    /// Bytes so far.
    pub done: u64,
    /// Bytes there are, if that is known.
    pub total: Option<u64>,
}

/// Called with each piece of a [`Transfer`].
pub type OnTransfer<'a> = &'a mut dyn FnMut(Transfer<'_>);

/// A reader that tells how far it is.
pub(super) struct Told<'a, 'b> {
    pub inner: &'a mut dyn Read,
    pub transfer: Transfer<'a>,
    pub on_transfer: &'a mut (dyn FnMut(Transfer<'_>) + 'b),
}

impl Read for Told<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.transfer.done += n as u64;
        (self.on_transfer)(self.transfer);
        Ok(n)
    }
}

/// What is pushed.
pub enum Source<'a> {
    /// Standard input, or any stream.
    Stream(&'a mut dyn Read),
    /// A file of the host.
    Path(PathBuf),
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stream(_) => f.write_str("Stream"),
            Self::Path(path) => write!(f, "Path({path:?})"),
        }
    }
}

/// What becomes of folders and links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Way {
    /// Folders go with all they hold.
    pub recursive: bool,
    /// A link goes as a link.
    pub no_dereference: bool,
    /// A link that was named goes as what it leads to.
    pub follow: bool,
    /// Each link goes as what it leads to.
    pub follow_all: bool,
}

impl Way {
    /// Does a link that was named go as a link? In folders that is the rule, as with cp(1).
    fn keeps_link(self) -> bool {
        self.no_dereference || self.recursive && !self.follow && !self.follow_all
    }
}

/// Where it is pushed to, and how.
#[derive(Debug, Clone, Default)]
pub struct Push {
    /// Absolute path in the instance; a slash at its end says that it is a folder.
    pub target: OsString,
    /// Owner and mode; what is not given is the source's.
    pub attributes: Attributes,
    /// Make missing folders.
    pub create_dirs: bool,
    /// What becomes of folders and links.
    pub way: Way,
    /// A file that is there keeps its owner and mode.
    pub keep_attributes: bool,
}

/// Pushes files into an instance, going on past errors.
///
/// # Errors
/// All that did not work, joined.
pub fn push(files: &Files, sources: Vec<Source<'_>>, push: &Push, on_transfer: OnTransfer<'_>) -> Result<()> {
    let (target, mut folder) = bare(&push.target);
    let folders = sources.len() > 1 || sources.iter().any(|source| folder_of(source, push.way).is_some());
    if files.is_folder(target) {
        folder = true;
    } else if files.exists(target) {
        if folder || folders {
            return Err(Error::invalid(format!("{} is not a directory", target.display())));
        }
    } else if folders {
        if !push.create_dirs {
            return Err(Error::not_found("Missing target directory"));
        }
        folder = true;
    }
    let alone = sources.len() == 1;
    let one = |source| push_one(files, source, (target, folder, alone), push, on_transfer);
    Error::join(sources.into_iter().map(one).filter_map(Result::err).collect()).map_or(Ok(()), Err)
}

fn push_one(
    files: &Files,
    source: Source<'_>,
    (target, folder, alone): (&Path, bool, bool),
    push: &Push,
    on_transfer: &mut dyn FnMut(Transfer<'_>),
) -> Result<()> {
    if matches!(source, Source::Stream(_)) {
        if !alone {
            return Err(Error::invalid("stdin can only be used once, with no other source arguments"));
        }
        if folder {
            let text = "A target file name must be specified when pushing from stdin; the target is a directory";
            return Err(Error::invalid(text));
        }
    }
    if let Some(from) = folder_of(&source, push.way) {
        // Of one without a name, such as `.` or `site/.`, what it holds.
        let bare = from.as_os_str().as_bytes().ends_with(b"/.") || from.as_os_str() == ".";
        let to = from.file_name().filter(|_| !bare).map_or(target.to_path_buf(), |name| target.join(name));
        if push.create_dirs {
            files.make_parents(&to, &push.attributes)?;
        }
        return file_tree::push(files, (&from, &to), push.attributes, push.way, on_transfer);
    }
    let local = Local::open(source, push.way.keeps_link())?;
    let mut attributes = local.attributes(&push.attributes);
    let path = if folder { target.join(local.base_name()?) } else { target.to_path_buf() };
    if push.create_dirs {
        files.make_parents(&path, &attributes)?;
    }
    if push.keep_attributes && files.exists(&path) {
        attributes = Attributes::default();
    }
    deliver(files, local, &path, &attributes, on_transfer)
}

/// A folder of the host that goes with all it holds.
fn folder_of(source: &Source<'_>, way: Way) -> Option<PathBuf> {
    let Source::Path(path) = source else { return None };
    let linked = way.keeps_link() && !path.as_os_str().as_bytes().ends_with(b"/");
    let found = if linked { std::fs::symlink_metadata(path) } else { std::fs::metadata(path) };
    (way.recursive && found.is_ok_and(|meta| meta.is_dir())).then(|| path.clone())
}

/// Puts what is open at `path`.
pub(super) fn deliver(
    files: &Files,
    local: Local<'_>,
    path: &Path,
    attributes: &Attributes,
    on_transfer: &mut dyn FnMut(Transfer<'_>),
) -> Result<()> {
    let put = |content| files::push(&files.root(), path, content, attributes, false);
    let (from, to) = (local.name.to_string_lossy(), path.to_string_lossy());
    let transfer = Transfer { from: &from, to: &to, done: 0, total: local.size };
    match local.data {
        Data::Link(text) => put(Content::Symlink(text.as_os_str())),
        Data::File(mut inner) => put(Content::File(&mut Told { inner: &mut inner, transfer, on_transfer })),
        Data::Stream(inner) => put(Content::File(&mut Told { inner, transfer, on_transfer })),
    }
}

/// What of the host is pushed, open.
pub(super) struct Local<'a> {
    name: PathBuf,
    data: Data<'a>,
    attributes: Attributes,
    size: Option<u64>,
}

enum Data<'a> {
    File(File),
    Link(PathBuf),
    Stream(&'a mut dyn Read),
}

impl<'a> Local<'a> {
    pub(super) fn open(source: Source<'a>, no_dereference: bool) -> Result<Self> {
        let plain = |name, data| Self { name, data, attributes: Attributes::default(), size: None };
        let path = match source {
            Source::Stream(stream) => return Ok(plain("-".into(), Data::Stream(stream))),
            Source::Path(path) => path,
        };
        let shown = || format!("Failed to open source file \"{}\"", path.display());
        if no_dereference && std::fs::symlink_metadata(&path).with_context(shown)?.is_symlink() {
            let text = std::fs::read_link(&path).with_context(shown)?;
            return Ok(plain(path, Data::Link(text)));
        }
        // Opened first: what is described is what is read.
        let file = File::open(&path).with_context(shown)?;
        let meta = file.metadata().with_context(shown)?;
        if meta.is_dir() {
            return Err(Error::invalid("--recursive/-r is required when pushing directories"));
        }
        let attributes = Attributes { uid: Some(meta.uid()), gid: Some(meta.gid()), mode: Some(meta.mode() & 0o777) };
        let size = meta.is_file().then_some(meta.len());
        Ok(Self { name: path, data: Data::File(file), attributes, size })
    }

    /// Owner and mode: those given, else its own.
    pub(super) fn attributes(&self, given: &Attributes) -> Attributes {
        Attributes {
            uid: given.uid.or(self.attributes.uid),
            gid: given.gid.or(self.attributes.gid),
            mode: given.mode.or(self.attributes.mode),
        }
    }

    fn base_name(&self) -> Result<&OsStr> {
        self.name.file_name().ok_or_else(|| Error::invalid("Missing target file name"))
    }
}

/// A place for pulled files that was looked at.
#[derive(Debug, Clone)]
pub struct Place {
    path: PathBuf,
    folder: bool,
}

impl Place {
    /// Looks at the target of so many files, `recursive`: of folders too, and makes the folders it needs.
    ///
    /// # Errors
    /// Several files and no folder; a folder cannot be made.
    pub fn prepare(target: &Path, (count, recursive): (usize, bool), create_dirs: bool) -> Result<Self> {
        let make = |dir: &Path| {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
            made.with_context(|| format!("Failed creating \"{}\"", dir.display()))
        };
        let mut folder = target.as_os_str().as_bytes().ends_with(b"/");
        match std::fs::metadata(target) {
            Ok(meta) => {
                folder = meta.is_dir();
                if !folder && (count > 1 || recursive) {
                    return Err(Error::invalid("More than one file to download, but target is not a directory"));
                }
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("Failed opening \"{}\"", target.display()));
            }
            Err(_) if folder || count > 1 || recursive => {
                make(target)?;
                folder = true;
            }
            Err(_) if create_dirs => make(target.parent().unwrap_or(Path::new(".")))?,
            Err(_) => {}
        }
        Ok(Self { path: target.to_path_buf(), folder })
    }

    fn of(&self, source: &Path) -> PathBuf {
        match source.file_name().filter(|_| self.folder) {
            Some(name) => self.path.join(name),
            None => self.path.clone(),
        }
    }
}

/// Where pulled files go.
pub enum Destination<'a> {
    /// Standard output, or any stream: one file after the other.
    Stream(&'a mut dyn Write),
    /// The host's file system.
    Place(&'a Place),
}

impl std::fmt::Debug for Destination<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stream(_) => f.write_str("Stream"),
            Self::Place(place) => write!(f, "{place:?}"),
        }
    }
}

/// A path without slashes at its end, and whether it had some: it is a folder then.
pub fn bare(path: &OsStr) -> (&Path, bool) {
    let bytes = path.as_bytes();
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let bare = if end == 0 { OsStr::new("/") } else { OsStr::from_bytes(&bytes[..end]) };
    (Path::new(bare), end < bytes.len())
}

/// Pulls one file or folder of an instance. `source`: absolute there.
///
/// # Errors
/// Not found; it is a folder; the destination cannot be written.
pub fn pull(
    files: &Files,
    source: &OsStr,
    destination: Destination<'_>,
    way: Way,
    on_transfer: OnTransfer<'_>,
) -> Result<()> {
    let (path, folder) = bare(source);
    let shown = source.to_string_lossy();
    let follow = !way.keeps_link() || folder;
    let pulled = files::pull(&files.root(), path, follow)?;
    if let (true, Found::Directory(_), Destination::Place(place)) = (way.recursive, &pulled.found, &destination) {
        return file_tree::pull(files, path, (&place.path, path.file_name()), pulled, way, on_transfer);
    }
    let Pulled { found, owner, size, .. } = pulled;
    let mut inner = match found {
        Found::Directory(_) if way.recursive => return Err(Error::invalid("A folder cannot go to standard output")),
        Found::Directory(_) => return Err(Error::invalid("--recursive/-r is required when pulling directories")),
        _ if folder => {
            return Err(Error::invalid(format!("{} is not a directory", path.display())));
        }
        Found::Symlink(text) => return link(&text, &destination, path),
        Found::File(file) => file,
    };
    let mut copy = |to: &str, out: &mut dyn Write| {
        let transfer = Transfer { from: &shown, to, done: 0, total: Some(size) };
        io::copy(&mut Told { inner: &mut inner, transfer, on_transfer }, out).map(drop)
    };
    match destination {
        Destination::Stream(out) => copy("-", out).context("Failed writing to standard output"),
        Destination::Place(place) => {
            let to = place.of(path);
            let shown = to.to_string_lossy();
            let context = || format!("Failed writing \"{shown}\"");
            let mut target =
                OpenOptions::new().write(true).create(true).truncate(true).open(&to).with_context(context)?;
            if target.metadata().is_ok_and(|m| m.is_file()) {
                target.set_permissions(Permissions::from_mode(owner.mode & 0o777)).with_context(context)?;
            }
            copy(&shown, &mut target).with_context(context)
        }
    }
}

fn link(text: &OsStr, destination: &Destination<'_>, source: &Path) -> Result<()> {
    let Destination::Place(place) = destination else {
        return Err(Error::invalid("--no-dereference/-P cannot be used together with stdout as a target"));
    };
    let to = place.of(source);
    let made = std::os::unix::fs::symlink(text, &to);
    made.with_context(|| format!("Failed creating \"{}\"", to.display()))
}

/// Creates an empty file, a folder or a symbolic link.
///
/// # Errors
/// As [`files::push`].
pub fn create(
    files: &Files,
    path: &Path,
    content: Content<'_>,
    attributes: &Attributes,
    create_dirs: bool,
) -> Result<()> {
    if create_dirs {
        files.make_parents(path, attributes)?;
    }
    files::push(&files.root(), path, content, attributes, false)
}

/// Deletes a file, or a folder: an empty one, or with `force` any.
///
/// # Errors
/// As [`files::delete`].
pub fn delete(files: &Files, path: &Path, force: bool) -> Result<()> {
    match files::delete(&files.root(), path, force) {
        Err(e) if force && e.kind() == crate::error::Kind::NotFound => Ok(()),
        other => other,
    }
}
