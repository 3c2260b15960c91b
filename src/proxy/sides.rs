//! The two sides of a proxy: sockets bound on one, and the way to the other.

use crate::error::{Context, Error, Result};
use crate::model::proxy::{End, Route};
use crate::ops::proxies::Task;
use crate::store::proxies::remove_dead_socket;
use crate::sys::{cred, ns};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Those of the instance.
pub struct Namespaces {
    pub net: OwnedFd,
    pub mnt: OwnedFd,
    pub user: OwnedFd,
}

/// Binds all sockets of a task on its listening side; they do not block.
///
/// # Errors
/// `Failed to listen on tcp:0.0.0.0:80: Address already in use`, and its like.
pub fn bind(task: &Task, namespaces: &Namespaces) -> Result<Vec<OwnedFd>> {
    let (uid, gid, mode) = task.proxy.owner;
    if !task.proxy.inside {
        let us = rustix::process::geteuid().as_raw();
        return task.proxy.routes.iter().map(|route| listen(route, (uid, gid, mode), us)).collect();
    }
    let (uid, gid) = task.owner;
    let all = || -> Result<Vec<OwnedFd>> {
        // Paths are looked up in there, with the rights of the instance's root.
        nix::sched::unshare(CloneFlags::CLONE_FS).context("Failed leaving the host's root")?;
        setns(namespaces.mnt.as_fd(), CloneFlags::CLONE_NEWNS).context("Failed entering the instance's mounts")?;
        let mut failed = None;
        let bound = cred::with_fs_ids(task.root.0, task.root.1, || {
            let each = task.proxy.routes.iter().map(|route| listen(route, (uid, gid, mode), task.root.0));
            Ok(each.collect::<Result<Vec<_>>>().map_err(|e| failed = Some(e)).ok())
        })?;
        bound.ok_or_else(|| failed.unwrap_or_else(|| Error::internal("Nothing was bound")))
    };
    ns::inside_net(namespaces.net.as_fd(), all).context("Failed entering the instance's network")?
}

/// `maker`: whose the new files of this process are.
fn listen(route: &Route, owner: (u32, u32, u32), maker: u32) -> Result<OwnedFd> {
    let fail = || format!("Failed to listen on {}", route.listen.describe());
    let socket = match &route.listen {
        End::Tcp(address) => on_any(*address, |a| TcpListener::bind(a).map(OwnedFd::from)),
        End::Udp(address) => on_any(*address, |a| UdpSocket::bind(a).map(OwnedFd::from)),
        End::Abstract(name) => std::os::unix::net::SocketAddr::from_abstract_name(name)
            .and_then(|address| UnixListener::bind_addr(&address))
            .map(OwnedFd::from),
        End::Unix(path) => return file(path, owner, maker).with_context(fail),
    };
    let socket = socket.with_context(fail)?;
    unblock(&socket).with_context(fail)?;
    Ok(socket)
}

fn unblock(socket: &OwnedFd) -> std::io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(socket, true)?)
}

/// Without IPv6 every address is every one of IPv4.
fn on_any(address: SocketAddr, bind: impl Fn(SocketAddr) -> std::io::Result<OwnedFd>) -> std::io::Result<OwnedFd> {
    match bind(address) {
        Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) && address.ip().is_unspecified() => {
            bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        other => other,
    }
}

/// A socket that is a file. One that nobody listens at is replaced. Whoever may write to the folder can put something else in its
/// place: so it has its mode from the start, and its owner is changed by descriptor, and only if it is a socket that we made.
fn file(path: &Path, (uid, gid, mode): (u32, u32, u32), maker: u32) -> Result<OwnedFd> {
    remove_dead_socket(path)?;
    let umask = |mode| nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mode));
    let before = umask(!mode & 0o777);
    let bound = UnixListener::bind(path);
    nix::sys::stat::umask(before);
    let socket = OwnedFd::from(bound?);
    unblock(&socket)?;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
    let there = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map_err(std::io::Error::from)?;
    let stat = rustix::fs::fstat(&there).map_err(std::io::Error::from)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Socket || stat.st_uid != maker {
        return Err(Error::failed("Something else was put in its place"));
    }
    nix::unistd::fchownat(
        there.as_fd(),
        "",
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        nix::fcntl::AtFlags::AT_EMPTY_PATH,
    )
    .map_err(std::io::Error::from)?;
    Ok(socket)
}

/// Goes over to the side where it connects, and becomes the user who does.
///
/// # Errors
/// The kernel refuses.
pub fn go_over(task: &Task, namespaces: &Namespaces) -> Result<()> {
    let proxy = &task.proxy;
    if !proxy.inside {
        let fail = "Failed entering the instance";
        if task.mapped {
            setns(namespaces.user.as_fd(), CloneFlags::CLONE_NEWUSER).context(fail)?;
        }
        setns(namespaces.net.as_fd(), CloneFlags::CLONE_NEWNET).context(fail)?;
        if proxy.routes.iter().any(|route| matches!(route.connect, End::Unix(_))) {
            setns(namespaces.mnt.as_fd(), CloneFlags::CLONE_NEWNS).context(fail)?;
        }
    }
    let (uid, gid) = proxy.user;
    if proxy.inside && (uid, gid) == (0, 0) {
        return Ok(());
    }
    let fail = || format!("Failed becoming user {uid} and group {gid}");
    nix::unistd::setgroups(&[]).with_context(fail)?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    nix::unistd::setresgid(gid, gid, gid).with_context(fail)?;
    nix::unistd::setresuid(uid, uid, uid).with_context(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_socket_is_made_with_its_mode_and_only_ours_is_given_away() {
        let d = tempfile::tempdir().expect("tempdir");
        let (us, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let path = d.path().join("s");
        let socket = file(&path, (us, group, 0o740), us).expect("bound");
        assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o7777, 0o740);
        drop(socket);
        file(&path, (us, group, 0o706), us).expect("nobody listens at the old one");
        assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o7777, 0o706);
        assert!(file(&d.path().join("other"), (us, group, 0o740), us + 1).is_err());
    }
}
