//! Settings of interfaces below `/proc/sys/net` (ip-sysctl.rst), and the two that switch forwarding on.
//!
//! An interface's name becomes a folder's there, and a user chose it: each step goes through a descriptor, a name that is not
//! one of an interface is refused, and so are `all` and `default`, which stand for others.

use crate::error::{Context, Error, Kind, Result};
use crate::sys::ns;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A setting of an interface. The name of the file says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's names")]
pub enum Setting {
    AcceptRa,
    AcceptDad,
    AddrGenMode,
    Autoconf,
    DisableIpv6,
    Forwarding,
    ProxyArp,
    ProxyNdp,
    RouteLocalnet,
    RpFilter,
}

impl Setting {
    /// The kernel's name of it.
    pub fn file(self) -> &'static str {
        match self {
            Setting::AcceptRa => "accept_ra",
            Setting::AcceptDad => "accept_dad",
            Setting::AddrGenMode => "addr_gen_mode",
            Setting::Autoconf => "autoconf",
            Setting::DisableIpv6 => "disable_ipv6",
            Setting::Forwarding => "forwarding",
            Setting::ProxyArp => "proxy_arp",
            Setting::ProxyNdp => "proxy_ndp",
            Setting::RouteLocalnet => "route_localnet",
            Setting::RpFilter => "rp_filter",
        }
    }
}

/// The kernel has IPv6, and it was not switched off at boot.
pub fn has_ipv6() -> bool {
    openat(CWD, "/proc/sys/net/ipv6/conf/all", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).is_ok()
}

/// Packets between the ports of a bridge go through the host's address translation (br_netfilter).
pub fn translates_in_bridges() -> bool {
    ["iptables", "ip6tables"].iter().any(|name| {
        let file = openat(CWD, format!("/proc/sys/net/bridge/bridge-nf-call-{name}"), OFlags::CLOEXEC, Mode::empty());
        let mut text = [0; 1];
        file.is_ok_and(|file| rustix::io::read(file, &mut text).is_ok()) && text != *b"0"
    })
}

/// Reads a setting of an interface.
///
/// # Errors
/// [`Kind::NotFound`] if the interface is not there, or the kernel has no such setting.
pub fn get(family: Family, interface: &str, setting: Setting) -> Result<i32> {
    let what = || format!("Failed to read {} of interface \"{interface}\"", setting.file());
    open(family, interface, setting.file(), OFlags::RDONLY).and_then(read).with_context(what)
}

/// Reads the setting of a family that counts for all its interfaces.
///
/// # Errors
/// As [`get`].
pub fn of_all(family: Family, setting: Setting) -> Result<i32> {
    let read_all = || -> Result<i32> {
        let all = dir(conf(family)?.as_fd(), "all")?;
        read(open_file(all.as_fd(), setting.file(), OFlags::RDONLY)?)
    };
    read_all().with_context(|| format!("Failed to read {} of all interfaces", setting.file()))
}

/// Gives an interface settings, in their order. What it has already is not written again: that costs more than to look, and
/// some values act when written.
///
/// # Errors
/// As [`get`]; EPERM where `/proc/sys` is read-only.
pub fn set(family: Family, interface: &str, settings: &[(Setting, i32)]) -> Result<()> {
    for (setting, value) in settings {
        if get(family, interface, *setting)? == *value {
            continue;
        }
        let written = open(family, interface, setting.file(), OFlags::WRONLY).and_then(|file| write(file, *value));
        written.with_context(|| format!("Failed to set {} of interface \"{interface}\"", setting.file()))?;
    }
    Ok(())
}

/// As [`set`], in the network namespace `net`.
///
/// # Errors
/// As [`set`], and as setns(2).
pub fn set_in(net: BorrowedFd<'_>, family: Family, interface: &str, settings: &[(Setting, i32)]) -> Result<()> {
    ns::inside_net(net, || set(family, interface, settings))?
}

/// Lets packets through between interfaces, of the whole host. Does nothing if it is on already: the kernel resets settings
/// of all interfaces when it changes. A host that forwards IPv6 no longer listens to router advertisements and would lose its
/// own routes, so interfaces that do are told to go on (`accept_ra` 2).
///
/// # Errors
/// EPERM where `/proc/sys` is read-only.
pub fn enable_forwarding(family: Family) -> Result<()> {
    let conf = conf(family)?;
    let all = dir(conf.as_fd(), "all")?;
    let enable = || -> Result<()> {
        if read(open_file(all.as_fd(), "forwarding", OFlags::RDONLY)?)? != 0 {
            return Ok(());
        }
        if family == Family::V6 {
            keep_listening(conf.as_fd())?;
        }
        write(open_file(all.as_fd(), "forwarding", OFlags::WRONLY)?, 1)
    };
    enable().context("Failed to enable forwarding")
}

/// For each interface, those to come included.
fn keep_listening(conf: BorrowedFd<'_>) -> Result<()> {
    let list = openat(conf, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for entry in rustix::fs::Dir::new(list)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | ".." | "all") {
            continue;
        }
        // One that goes meanwhile is no loss.
        let Ok(interface) = dir(conf, name) else { continue };
        let file = |flags| open_file(interface.as_fd(), Setting::AcceptRa.file(), flags);
        if file(OFlags::RDONLY).and_then(read).is_ok_and(|n| n == 1) {
            write(file(OFlags::WRONLY)?, 2)?;
        }
    }
    Ok(())
}

fn read(file: File) -> Result<i32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text)?;
    text.trim().parse().map_err(|_| Error::failed(format!("Not a number: {text:?}")))
}

fn write(mut file: File, value: i32) -> Result<()> {
    Ok(file.write_all(value.to_string().as_bytes())?)
}

fn open_file(interface: BorrowedFd<'_>, file: &str, flags: OFlags) -> Result<File> {
    Ok(openat(interface, file, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?.into())
}

fn conf(family: Family) -> Result<OwnedFd> {
    let path = match family {
        Family::V4 => "/proc/sys/net/ipv4/conf",
        Family::V6 => "/proc/sys/net/ipv6/conf",
    };
    let missing = |e: rustix::io::Errno| match e {
        rustix::io::Errno::NOENT => Error::new(Kind::Unsupported, "The kernel has no IPv6"),
        e => e.into(),
    };
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(missing)
}

fn dir(at: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

fn open(family: Family, interface: &str, file: &str, flags: OFlags) -> Result<File> {
    // dev_valid_name() of the kernel.
    let named = !interface.contains(['/', ':', '\0']) && !interface.contains(char::is_whitespace);
    if interface.is_empty() || !named || matches!(interface, "." | ".." | "all" | "default") {
        return Err(Error::invalid(format!("Invalid interface name \"{interface}\"")));
    }
    let conf = conf(family)?;
    let interface = dir(conf.as_fd(), interface).map_err(|e| match e.errno() {
        Some(libc::ENOENT) => Error::not_found("No such interface"),
        _ => e,
    })?;
    open_file(interface.as_fd(), file, flags)
}
