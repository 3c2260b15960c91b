//! Unix sockets between our own processes: pairs, descriptors as messages, the peer's identity (unix(7)).

use super::{Result, SysError, from_rustix, named};
use nix::sys::socket::sockopt::BindToDevice;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr};
use std::ffi::OsString;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A connected pair of stream sockets, close-on-exec.
///
/// # Errors
/// As socketpair(2).
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    named(
        "socketpair",
        nix::sys::socket::socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC),
    )
}

/// Sends one datagram to `to` through the interface named `interface` (`SO_BINDTODEVICE`, socket(7)).
///
/// # Errors
/// As socket(2), setsockopt(2): ENODEV, and sendto(2).
pub fn send_udp(interface: &str, to: SocketAddr, bytes: &[u8]) -> Result<()> {
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = (family, SocketType::DGRAM, SocketFlags::CLOEXEC);
    let socket = from_rustix("socket", rustix::net::socket_with(kind.0, kind.1, kind.2, None))?;
    named("setsockopt", nix::sys::socket::setsockopt(&socket, BindToDevice, &OsString::from(interface)))?;
    from_rustix("sendto", rustix::net::sendto(&socket, bytes, SendFlags::empty(), &to)).map(drop)
}

/// Sends `fds` with one byte.
///
/// # Errors
/// As sendmsg(2).
pub fn send_fds(socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) -> Result<()> {
    let raw: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    let data = [IoSlice::new(b"+")];
    let sent = nix::sys::socket::sendmsg::<UnixAddr>(socket.as_raw_fd(), &data, &control, MsgFlags::MSG_NOSIGNAL, None);
    named("sendmsg", sent).map(drop)
}

/// Takes the one descriptor that the other side sent with [`send_fds`]; none if it went away.
///
/// # Errors
/// As recvmsg(2); EAGAIN after `patience`.
pub fn receive_fd(socket: BorrowedFd<'_>, patience: std::time::Duration) -> Result<Option<OwnedFd>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, sockopt};
    from_rustix("setsockopt", sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(patience)))?;
    let (mut byte, mut space) = ([0u8; 1], [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut data = [std::io::IoSliceMut::new(&mut byte)];
    from_rustix("recvmsg", rustix::net::recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(rights)
}

/// Sends one byte: the other side's meeting point.
///
/// # Errors
/// As write(2).
pub fn tell(socket: BorrowedFd<'_>) -> Result<()> {
    from_rustix("send", rustix::net::send(socket, b"+", rustix::net::SendFlags::NOSIGNAL)).map(drop)
}

/// Waits for the other side's byte; false if it went away.
///
/// # Errors
/// As read(2).
pub fn wait(socket: BorrowedFd<'_>) -> Result<bool> {
    let mut byte = [0u8; 1];
    loop {
        match rustix::io::read(socket, &mut byte) {
            Err(rustix::io::Errno::INTR) => {}
            other => return from_rustix("read", other).map(|n| n == 1),
        }
    }
}

/// A listening sequenced-packet socket at `path`, mode 0600. The path may be longer than the address allows: the parent
/// folder is reached through its descriptor.
///
/// # Errors
/// As bind(2).
pub fn listen_packets(path: &Path) -> Result<OwnedFd> {
    let socket = packet_socket()?;
    let (_dir, address) = address(path)?;
    named("bind", nix::sys::socket::bind(socket.as_raw_fd(), &address))?;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    from_rustix("chmod", rustix::fs::chmod(path, mode))?;
    let backlog = nix::sys::socket::Backlog::new(4).map_err(|e| SysError { call: "listen", errno: e as i32 })?;
    named("listen", nix::sys::socket::listen(&socket, backlog))?;
    Ok(socket)
}

/// Connects to a sequenced-packet socket at `path`.
///
/// # Errors
/// As connect(2).
pub fn connect_packets(path: &Path) -> Result<OwnedFd> {
    let socket = packet_socket()?;
    let (_dir, address) = address(path)?;
    named("connect", nix::sys::socket::connect(socket.as_raw_fd(), &address))?;
    Ok(socket)
}

fn packet_socket() -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    named("socket", nix::sys::socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None))
}

/// The address of `path`, through the folder's descriptor so that no length limit of 107 bytes applies.
fn address(path: &Path) -> Result<(OwnedFd, UnixAddr)> {
    use rustix::fs::{Mode, OFlags};
    let bad = SysError { call: "socket", errno: libc::EINVAL };
    let (dir, name) = (path.parent().ok_or(bad)?, path.file_name().ok_or(bad)?);
    let dir = from_rustix("open", rustix::fs::open(dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    let address = named("socket", UnixAddr::new(&short))?;
    Ok((dir, address))
}

/// Accepts one connection and refuses peers of another user than ours and root.
///
/// # Errors
/// EACCES for a stranger; else as accept4(2).
pub fn accept_own(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    use rustix::net::SocketFlags;
    let socket = from_rustix("accept", rustix::net::accept_with(listener, SocketFlags::CLOEXEC))?;
    let peer = from_rustix("getsockopt", rustix::net::sockopt::socket_peercred(&socket))?;
    if peer.uid.is_root() || peer.uid == rustix::process::geteuid() {
        Ok(socket)
    } else {
        Err(SysError { call: "accept", errno: libc::EACCES })
    }
}

/// Sends one datagram to the socket at the path `name`, or with the abstract name after `@` (unix(7)). It is given up
/// after 5 s if the other side has stopped reading.
///
/// # Errors
/// As sendto(2); EINVAL for a name that is neither.
pub fn send_datagram(name: &std::ffi::OsStr, data: &[u8]) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => named("socket", UnixAddr::new_abstract(rest))?,
        [b'/', ..] => named("socket", UnixAddr::new(name))?,
        _ => return Err(SysError { call: "sendto", errno: libc::EINVAL }),
    };
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = named("socket", nix::sys::socket::socket(AddressFamily::Unix, SockType::Datagram, flags, None))?;
    let patience = Some(std::time::Duration::from_secs(5));
    let timeout = rustix::net::sockopt::Timeout::Send;
    from_rustix("setsockopt", rustix::net::sockopt::set_socket_timeout(&socket, timeout, patience))?;
    let how = MsgFlags::MSG_NOSIGNAL;
    named("sendto", nix::sys::socket::sendto(socket.as_raw_fd(), data, &address, how)).map(drop)
}
