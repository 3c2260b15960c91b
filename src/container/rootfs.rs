//! Puts an instance's root file system together as a detached mount: nothing of it ever shows in the host's mount table.
//!
//! Called by `start` for a running container (with its user namespace) and by `ops` for file access to a stopped one
//! (without). Never attaches anything to the host's tree.

use crate::error::{Context, Error, Result};
use crate::model::attach::Rootfs;
use crate::sys::mount::{self, Attr, Param, is_unsupported};
use crate::sys::{SysError, cred};
use rustix::fs::{Mode, OFlags};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The ids of an instance, as far as mounting needs them.
#[derive(Debug, Clone, Copy)]
pub struct Mapping<'a> {
    /// Its user namespace.
    pub userns: BorrowedFd<'a>,
    /// Host id of its uid 0.
    pub root_uid: u32,
    /// Host id of its gid 0.
    pub root_gid: u32,
}

/// How it is mounted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Map the ids; none leaves those on disk.
    pub mapping: Option<Mapping<'a>>,
    /// Read-only.
    pub readonly: bool,
    /// Device nodes in the image do nothing.
    pub nodev: bool,
    /// What is written need not survive anything: nothing is synced, not even at the end. The upper layer cannot be mounted
    /// again afterwards (overlayfs.rst, "Volatile mount").
    pub throwaway: bool,
    /// A private folder for the mount points that kernels before 6.13 need (see [`by_path`]).
    pub scratch: Option<&'a Path>,
}

/// The detached mount.
///
/// # Errors
/// [`crate::error::Kind::Failed`], naming the folder.
pub fn mount(rootfs: &Rootfs, options: &Options<'_>) -> Result<OwnedFd> {
    let mut attr = Attr::empty();
    if options.readonly {
        attr |= Attr::MOUNT_ATTR_RDONLY;
    }
    if options.nodev {
        attr |= Attr::MOUNT_ATTR_NODEV;
    }
    match rootfs {
        Rootfs::Dir { path } => {
            let fd = layer(path, options.mapping)?;
            if !attr.is_empty() {
                mount::set_attr(fd.as_fd(), attr, Attr::empty(), 0, false)?;
            }
            Ok(fd)
        }
        Rootfs::Overlay { lower, upper, work } => overlay(lower, upper, work, options, attr),
    }
}

/// A detached, mapped copy of a folder's mount. It is nobody's peer: with systemd the host's mounts are shared, and a shared
/// mount can be no root (pivot_root(2)), and would let mounts through.
fn layer(path: &Path, mapping: Option<Mapping<'_>>) -> Result<OwnedFd> {
    let context = || format!("Failed mounting \"{}\"", path.display());
    let fd = mount::open_tree(path, false).with_context(context)?;
    mount::set_attr(fd.as_fd(), mount::no_attr(), mount::no_attr(), libc::MS_PRIVATE, false).with_context(context)?;
    if let Some(m) = mapping {
        mount::set_idmap(fd.as_fd(), m.userns, false)
            .with_context(|| format!("Failed mapping the ids of \"{}\"", path.display()))?;
    }
    Ok(fd)
}

/// The layers of an overlay, mapped and detached.
struct Layers {
    lower: Vec<OwnedFd>,
    top: Option<Top>,
}

/// The writable one.
struct Top {
    /// Mount of the folder that holds both `upper` and `work`: overlayfs wants them on one mount.
    mount: OwnedFd,
    upper: CString,
    work: CString,
}

/// A detached, read-only look at a root file system, also at one that is in use: an overlay's upper layer is one of the lower
/// ones in it. What changes in a layer meanwhile may or may not be seen. `scratch`: see [`Options::scratch`].
///
/// # Errors
/// As [`mount`].
pub fn view(rootfs: &Rootfs, scratch: &Path) -> Result<OwnedFd> {
    let options = Options { readonly: true, nodev: true, scratch: Some(scratch), ..Options::default() };
    let Rootfs::Overlay { lower, upper, .. } = rootfs else { return mount(rootfs, &options) };
    let all = std::iter::once(upper).chain(lower).map(|p| layer(p, None)).collect::<Result<_>>()?;
    let attr = Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NODEV;
    joined(&Layers { lower: all, top: None }, &options, attr)
        .with_context(|| format!("Failed mounting the overlay on \"{}\"", upper.display()))
}

fn overlay(lower: &[PathBuf], upper: &Path, work: &Path, options: &Options<'_>, attr: Attr) -> Result<OwnedFd> {
    let (Some(home), Some(up), Some(wk)) = (upper.parent(), upper.file_name(), work.file_name()) else {
        return Err(Error::internal("An overlay layer has no parent folder"));
    };
    let text = |s: &std::ffi::OsStr| CString::new(s.as_bytes()).map_err(|_| Error::internal("A path has a NUL byte"));
    let layers = Layers {
        lower: lower.iter().map(|p| layer(p, options.mapping)).collect::<Result<_>>()?,
        top: Some(Top { mount: layer(home, options.mapping)?, upper: text(up)?, work: text(wk)? }),
    };
    joined(&layers, options, attr).with_context(|| format!("Failed mounting the overlay on \"{}\"", upper.display()))
}

fn joined(layers: &Layers, options: &Options<'_>, attr: Attr) -> Result<OwnedFd> {
    match by_fd(layers, options, attr) {
        Err(e) if is_unsupported(e) => by_path(layers, options, attr),
        other => other.map_err(Error::from),
    }
}

/// Layers by descriptor, Linux 6.13.
fn by_fd(layers: &Layers, options: &Options<'_>, attr: Attr) -> crate::sys::Result<OwnedFd> {
    let inside = |top: &Top, name: &CString| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&top.mount, name.as_c_str(), flags, Mode::empty())
            .map_err(|e| SysError { call: "open", errno: e.raw_os_error() })
    };
    let open = |top: &Top| Ok((inside(top, &top.upper)?, inside(top, &top.work)?));
    let top = layers.top.as_ref().map(open).transpose()?;
    let mut params: Vec<Param<'_>> = layers.lower.iter().map(|l| Param::Fd(c"lowerdir+", l.as_fd())).collect();
    if let Some((upper, work)) = &top {
        params.push(Param::Fd(c"upperdir", upper.as_fd()));
        params.push(Param::Fd(c"workdir", work.as_fd()));
    }
    if options.throwaway {
        params.push(Param::Flag(c"volatile"));
    }
    as_owner(options.mapping, || mount::new_fs(c"overlay", &params, attr))
}

/// Layers by path, for older kernels: a thread with a mount namespace of its own attaches them beneath `scratch`, where
/// nobody else sees them; the namespace ends with the thread, the overlay lives on in its descriptor.
fn by_path(layers: &Layers, options: &Options<'_>, attr: Attr) -> Result<OwnedFd> {
    let scratch = options.scratch.ok_or_else(|| Error::internal("No folder for the overlay's layers"))?;
    let mounts = layers.lower.len() + usize::from(layers.top.is_some());
    let names: Vec<String> = (0..mounts).map(|i| format!("layer{i}")).collect();
    let places: Vec<PathBuf> = names.iter().map(|name| scratch.join(name)).collect();
    for p in &places {
        match rustix::fs::mkdir(p, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => {
                return Err(std::io::Error::from(e)).with_context(|| format!("Failed creating \"{}\"", p.display()));
            }
        }
    }
    let made = std::thread::scope(|scope| {
        // A small stack: the usual 2 MiB are kept by the C library, and may become one huge page of the monitor's for good.
        let small = std::thread::Builder::new().stack_size(128 << 10);
        let thread = small.spawn_scoped(scope, || mount_by_path(layers, options, attr, scratch, &names))?;
        thread.join().unwrap_or_else(|_| Err(Error::internal("The mount thread ended early")))
    });
    for p in &places {
        let _ = std::fs::remove_dir(p);
    }
    made
}

/// The names are relative: the overlay's options are shown in the instance, and the host's folders are not its business.
fn mount_by_path(
    layers: &Layers,
    options: &Options<'_>,
    attr: Attr,
    scratch: &Path,
    names: &[String],
) -> Result<OwnedFd> {
    use nix::mount::MsFlags;
    // With the mount namespace the thread gets a working folder of its own (unshare(2)).
    crate::sys::ns::unshare(libc::CLONE_NEWNS)?;
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let tops = layers.top.iter().map(|top| &top.mount);
    for (fd, name) in layers.lower.iter().chain(tops).zip(names) {
        mount::attach(fd.as_fd(), &scratch.join(name))?;
    }
    let (lower, writable) = names.split_at(layers.lower.len());
    rustix::process::chdir(scratch).with_context(|| format!("Failed opening \"{}\"", scratch.display()))?;
    let text = |p: &[u8]| CString::new(p).map_err(|_| Error::internal("A path has a NUL byte"));
    let inside = |name: &CString| text(&[writable.concat().as_bytes(), b"/", name.as_bytes()].concat());
    let lowerdir = text(lower.join(":").as_bytes())?;
    let top = layers.top.as_ref().map(|top| Ok::<_, Error>((inside(&top.upper)?, inside(&top.work)?))).transpose()?;
    let mut params = vec![Param::Text(c"lowerdir", &lowerdir)];
    if let Some((upper, work)) = &top {
        params.extend([Param::Text(c"upperdir", upper), Param::Text(c"workdir", work)]);
    }
    if options.throwaway {
        params.push(Param::Flag(c"volatile"));
    }
    Ok(as_owner(options.mapping, || mount::new_fs(c"overlay", &params, attr))?)
}

/// overlayfs works on its layers with its maker's credentials, whose file-system ids must exist in the map.
fn as_owner<T>(mapping: Option<Mapping<'_>>, f: impl FnOnce() -> crate::sys::Result<T>) -> crate::sys::Result<T> {
    match mapping {
        None => f(),
        Some(m) => cred::with_fs_ids(m.root_uid, m.root_gid, f),
    }
}
