//! Tells the service manager how a service fares: sd_notify(3), a datagram of lines to the socket that `NOTIFY_SOCKET` names.
//!
//! Used by the foreground mode. Nobody listening, or a socket of a kind we do not know, is no error: a service must run without
//! its manager, too. Never blocks for longer than a few seconds, and that only if
//! the manager has stopped reading.

use crate::sys::socket;
use std::ffi::{OsStr, OsString};

/// Where to tell.
#[derive(Debug, Clone, Default)]
pub struct Notify {
    socket: Option<OsString>,
}

impl Notify {
    /// To the socket at this path, or with this name if it begins with `@`; to nobody if there is none.
    pub fn new(socket: Option<&OsStr>) -> Self {
        Self { socket: socket.map(OsStr::to_os_string) }
    }

    /// The service is up; `status` says what runs.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// What it does now, in words.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", one_line(status)));
    }

    /// It has begun to end.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    fn send(&self, message: &str) {
        let Some(name) = &self.socket else { return };
        let _ = socket::send_datagram(name, message.as_bytes());
    }
}

/// A line break would begin another field.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    fn received(from: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        from.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("timeout");
        let n = from.recv(&mut buffer).expect("datagram");
        String::from_utf8(buffer[..n].to_vec()).expect("text")
    }

    #[test]
    fn paths_and_abstract_names_are_reached() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("bind");
        Notify::new(Some(path.as_os_str())).ready("c1\nMAINPID=1");
        assert_eq!(received(&by_path), "READY=1\nSTATUS=c1 MAINPID=1", "no field is smuggled in");
        let name = format!("stapes-notify-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("name")).expect("bind");
        Notify::new(Some(OsStr::new(&format!("@{name}")))).stopping("bye");
        assert_eq!(received(&by_name), "STOPPING=1\nSTATUS=bye");
    }

    #[test]
    fn nobody_there_is_fine() {
        Notify::new(None).ready("x");
        Notify::new(Some(OsStr::new("/nonexistent/socket"))).status("x");
        Notify::new(Some(OsStr::new("vsock:2:1"))).status("x");
    }
}
