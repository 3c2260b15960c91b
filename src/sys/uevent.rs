//! The kernel's word of devices that come, go, or are called otherwise (`NETLINK_KOBJECT_UEVENT`, netlink(7)).
//!
//! Called by `storage`. What is said is not read: whoever waits looks for himself.

use super::{Result, from_rustix};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// The group that the kernel speaks to.
const KERNEL: u32 = 1;
/// What is not read is cut off.
const MESSAGE: usize = 64;

/// Hears of all devices from when it is made.
#[derive(Debug)]
pub struct Events(OwnedFd);

impl Events {
    /// Begins to listen.
    ///
    /// # Errors
    /// As socket(2) and bind(2).
    pub fn new() -> Result<Self> {
        let (flags, protocol) = (SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, Some(KOBJECT_UEVENT));
        let socket = from_rustix("socket", socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol))?;
        from_rustix("bind", bind(&socket, &SocketAddrNetlink::new(0, KERNEL)))?;
        Ok(Self(socket))
    }

    /// Waits until something happens, or happened since the last time; false: nothing did for as long as `most`.
    pub fn wait(&self, most: Duration) -> bool {
        let time = rustix::fs::Timespec { tv_sec: most.as_secs().cast_signed(), tv_nsec: most.subsec_nanos().into() };
        let heard = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&time)).is_ok_and(|n| n > 0);
        let mut message = [0u8; MESSAGE];
        while recv(&self.0, &mut message[..], RecvFlags::empty()).is_ok() {}
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever may writes into a file of a device's what is to be said of it (Documentation/ABI/testing/sysfs-uevent).
    #[test]
    fn what_happens_to_a_device_is_heard() {
        let Ok(events) = Events::new() else { return };
        if std::fs::write("/sys/devices/virtual/mem/null/uevent", "change").is_err() {
            eprintln!("SKIP what_happens_to_a_device_is_heard: not root");
            return;
        }
        assert!(events.wait(Duration::from_secs(60)));
    }
}
