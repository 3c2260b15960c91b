//! Mounts of disk devices: made detached out here, attached by process 1 at the start ([`super::ops`]) or, while the
//! container runs, by a child of ours that joins its namespaces.
//!
//! What is below a custom volume belongs to its users: a path in it is looked up beneath its root, and a link that leads
//! out of it is refused; what was opened is what is mounted. Where a mount goes is the guest's to say: it is looked up with the guest's root as root, by somebody with the guest's rights.

use super::attach::{self, Target};
use super::ops::relative;
use super::rootfs::Mapping;
use super::start::explain;
use crate::base::idmap::IdMap;
use crate::error::{Context, Error, Result};
use crate::model::attach::{Mount, MountSource};
use crate::sys::child::{Fd, Make, Op};
use crate::sys::clone::{Spawn, spawn};
use crate::sys::mount::{self, Attr, Param};
use crate::sys::path::{self, Kind, Links};
use crate::sys::pidfd::Exit;
use rustix::fs::OFlags;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Host ids of an instance.
pub(super) struct Owners<'a> {
    /// None: those of the host.
    pub mapping: Option<Mapping<'a>>,
    /// Of a user.
    pub uid: &'a dyn Fn(u32) -> u32,
    /// Of a group.
    pub gid: &'a dyn Fn(u32) -> u32,
}

/// The detached mount of a disk device.
pub(super) fn detached(m: &Mount, owners: &Owners<'_>) -> Result<OwnedFd> {
    let mut attr = if owners.mapping.is_some() { Attr::MOUNT_ATTR_NODEV } else { Attr::empty() };
    if m.readonly {
        attr |= Attr::MOUNT_ATTR_RDONLY;
    }
    for option in &m.options {
        attr |= attribute(option)?;
    }
    let tree = match &m.source {
        MountSource::HostPath(path) => {
            mount::open_tree(path, m.recursive).with_context(|| format!("Failed opening \"{}\"", path.display()))?
        }
        MountSource::HostBeneath { folder, path } => {
            mount::open_tree_at(open_beneath(folder, path)?.as_fd(), m.recursive)?
        }
        MountSource::Volume { root, path, initial } => {
            mount::open_tree_at(open_in_volume(root, path.as_deref(), *initial)?.as_fd(), false)?
        }
        MountSource::Tmpfs { size, uid, gid, mode } => return tmpfs((*size, *mode), (*uid, *gid), owners, attr),
    };
    if let Some(mapping) = owners.mapping.filter(|_| m.shift) {
        let hint = match m.source {
            MountSource::Volume { .. } => "the storage pool's file system cannot be ID-mapped",
            _ => "the file system cannot be id-mapped; unset \"shift\" on the device",
        };
        let done = mount::set_idmap(tree.as_fd(), mapping.userns, m.recursive);
        done.map_err(|e| Error::from(e).hint(hint))?;
    }
    let propagation = propagation(m.propagation.as_deref())?;
    mount::set_attr(tree.as_fd(), attr, Attr::empty(), propagation, m.recursive)?;
    Ok(tree)
}

/// A volume, or the file or folder at `path` in it; a folder that is missing is made.
fn open_in_volume(root: &Path, below: Option<&Path>, (uid, gid, mode): (u32, u32, u32)) -> Result<OwnedFd> {
    let root = path::open_root(root)?;
    let Some(below) = below else { return Ok(root) };
    let fail = || format!("Failed opening \"{}\" in the storage volume", below.display());
    let open = || path::open(root.as_fd(), below, OFlags::PATH, 0, Links::Beneath);
    let found = match open() {
        Err(e) if e.errno() == Some(libc::ENOENT) => {
            path::create_dir_all(root.as_fd(), below, uid, gid, mode, Links::Beneath).with_context(fail)?;
            open().with_context(fail)?
        }
        other => other.with_context(fail)?,
    };
    match path::fstat(found.as_fd())?.kind {
        Kind::Dir | Kind::File => Ok(found),
        _ => Err(Error::invalid("It is neither a file nor a folder")).with_context(fail),
    }
}

/// A file or folder of the host that is not outside of the folder.
fn open_beneath(folder: &Path, path: &Path) -> Result<OwnedFd> {
    let fail = || format!("Failed opening \"{}\" in \"{}\"", path.display(), folder.display());
    let root = path::open_root(&folder.canonicalize().with_context(fail)?)?;
    if path.as_os_str().is_empty() {
        return Ok(root);
    }
    path::open(root.as_fd(), path, OFlags::PATH, 0, Links::Beneath).with_context(fail)
}

/// What a mount brings in, open with `O_PATH`; none if it is made for it. Of a volume its root: all of it lies where that does.
///
/// # Errors
/// It is not there.
pub fn origin(source: &MountSource) -> Result<Option<OwnedFd>> {
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty())
            .map_err(Error::from)
            .with_context(|| format!("Failed opening \"{}\"", path.display()))
    };
    match source {
        MountSource::HostPath(path) => open(path).map(Some),
        MountSource::HostBeneath { folder, path } => open_beneath(folder, path).map(Some),
        MountSource::Volume { root, .. } => open(root).map(Some),
        MountSource::Tmpfs { .. } => Ok(None),
    }
}

/// Whether a file is mounted, and so onto a file.
pub(super) fn is_file(source: &MountSource) -> bool {
    match source {
        MountSource::HostPath(path) => !path.is_dir(),
        MountSource::HostBeneath { folder, path } => {
            let found = open_beneath(folder, path).and_then(|fd| path::fstat(fd.as_fd()));
            found.is_ok_and(|stat| stat.kind != Kind::Dir)
        }
        MountSource::Volume { root, path: Some(below), .. } => {
            let open = |root: OwnedFd| path::open(root.as_fd(), below, OFlags::PATH, 0, Links::Beneath);
            let found = path::open_root(root).and_then(open).and_then(|fd| path::fstat(fd.as_fd()));
            found.is_ok_and(|stat| stat.kind != Kind::Dir)
        }
        MountSource::Volume { .. } | MountSource::Tmpfs { .. } => false,
    }
}

fn tmpfs((size, mode): (Option<u64>, u32), (uid, gid): (u32, u32), owners: &Owners<'_>, attr: Attr) -> Result<OwnedFd> {
    let text = |s: String| CString::new(s).map_err(|_| Error::internal("A number has a NUL byte"));
    let (uid, gid) = (text((owners.uid)(uid).to_string())?, text((owners.gid)(gid).to_string())?);
    let (mode, size) = (text(format!("{mode:o}"))?, text(size.unwrap_or(0).to_string())?);
    let params = [
        Param::Text(c"uid", &uid),
        Param::Text(c"gid", &gid),
        Param::Text(c"mode", &mode),
        Param::Text(c"size", &size),
    ];
    Ok(mount::new_fs(c"tmpfs", &params, attr | Attr::MOUNT_ATTR_NOSUID)?)
}

fn attribute(option: &str) -> Result<Attr> {
    Ok(match option {
        "ro" => Attr::MOUNT_ATTR_RDONLY,
        "nosuid" => Attr::MOUNT_ATTR_NOSUID,
        "nodev" => Attr::MOUNT_ATTR_NODEV,
        "noexec" => Attr::MOUNT_ATTR_NOEXEC,
        "noatime" => Attr::MOUNT_ATTR_NOATIME,
        "nodiratime" => Attr::MOUNT_ATTR_NODIRATIME,
        "rw" | "bind" | "rbind" | "defaults" | "relatime" => Attr::empty(),
        other => return Err(Error::unsupported(format!("Unsupported mount option \"{other}\""))),
    })
}

fn propagation(name: Option<&str>) -> Result<u64> {
    Ok(match name {
        None | Some("private" | "rprivate") => libc::MS_PRIVATE,
        Some("shared" | "rshared") => libc::MS_SHARED,
        Some("slave" | "rslave") => libc::MS_SLAVE,
        Some("unbindable" | "runbindable") => libc::MS_UNBINDABLE,
        Some(other) => return Err(Error::invalid(format!("Invalid propagation mode \"{other}\""))),
    })
}

/// A mount that is made for a running container, not attached yet.
#[derive(Debug)]
pub struct Ready {
    tree: OwnedFd,
    /// The kernel's number for it, also once it is attached.
    pub id: u64,
}

/// Makes the mount of a disk device for a running container with the id map `map`, detached.
///
/// # Errors
/// The source is not there or cannot be mounted so; the container has ended.
pub fn prepare(target: &Target<'_>, map: &IdMap, m: &Mount) -> Result<Ready> {
    let userns = match target.unprivileged {
        true => Some(crate::sys::ns::open(target.init_pid, "user").context("Failed opening the user namespace")?),
        false => None,
    };
    // Who is in no map has the id of nobody.
    let uid = |id| if userns.is_some() { map.to_host_uid(id).unwrap_or(u32::from(u16::MAX) - 1) } else { id };
    let gid = |id| if userns.is_some() { map.to_host_gid(id).unwrap_or(u32::from(u16::MAX) - 1) } else { id };
    let mapping = userns.as_ref().map(|fd| Mapping { userns: fd.as_fd(), root_uid: uid(0), root_gid: gid(0) });
    let tree = detached(m, &Owners { mapping, uid: &uid, gid: &gid })?;
    let id = mount::id(tree.as_fd())?;
    Ok(Ready { tree, id })
}

/// Attaches a mount in a running container.
///
/// # Errors
/// Its place cannot be made; the container has ended.
pub fn attach(target: &Target<'_>, ready: &Ready, m: &Mount) -> Result<()> {
    let root = attach::root(target)?;
    let make = if is_file(&m.source) { Make::File } else { Make::Dir };
    let tree = Fd::Num(ready.tree.as_raw_fd());
    let dir = Fd::Num(root.as_raw_fd());
    let op = Op::Attach { fd: tree, dir, path: relative(&m.target)?, make, links: true };
    inside(target, &[root.as_fd(), ready.tree.as_fd()], op)
}

/// Takes the mount `id` out of a running container, unless the guest has done so itself or has put something over it.
///
/// # Errors
/// The container has ended; the kernel refuses.
pub fn detach(target: &Target<'_>, m: &Mount, id: u64) -> Result<()> {
    let root = attach::root(target)?;
    let path = super::ops::cstring(format!("/{}", m.target.display().to_string().trim_start_matches('/')))?;
    inside(target, &[root.as_fd()], Op::Detach { dir: Fd::Num(root.as_raw_fd()), path, id })
}

/// Runs one operation as the container's root in its mount namespace, where no process of it sees ours.
fn inside(target: &Target<'_>, fds: &[BorrowedFd<'_>], op: Op) -> Result<()> {
    let init = target.init.as_raw_fd();
    let mut flags = libc::CLONE_NEWNS;
    if target.unprivileged {
        flags |= libc::CLONE_NEWUSER;
    }
    let kept = fds.iter().map(AsRawFd::as_raw_fd).chain([init]).collect();
    let mut program =
        vec![Op::KeepOnly(kept), Op::NotDumpable, Op::DieWithParent, Op::Join { fd: Fd::Num(init), flags }];
    if target.unprivileged {
        program.extend([Op::Ids { uid: 0, gid: 0, groups: Vec::new() }, Op::NotDumpable]);
    }
    program.extend([Op::Umask(0o022), op, Op::Done]);
    let mut child = spawn(&Spawn::default(), &program).context("Failed creating a process")?;
    if let Err(failure) = child.wait_exec().context("Failed waiting for a process of ours")? {
        return match (program.get(failure.step as usize), failure.errno) {
            (Some(Op::Join { .. }), libc::ESRCH) => Err(Error::conflict("Instance is not running")),
            _ => Err(explain(&program, failure)),
        };
    }
    match child.wait()? {
        Exit::Code(0) => Ok(()),
        other => Err(Error::failed(format!("A process of ours ended early: {other:?}"))),
    }
}
