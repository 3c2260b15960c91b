//! The keeper's side of the console of a container: its terminal's output goes into a log of bounded size and to at most one attached client.
//!
//! Protocol on the sequenced-packet socket `console.sock`, one type byte in front of each packet. Client: [`HELLO`], then
//! [`DATA`] and [`RESIZE`]. Monitor: [`DATA`], or [`BUSY`] and the end when another client is attached.

use super::console::{BUSY, DATA, HELLO, PACKET, RESIZE};
use super::logs;
use crate::error::{Context, Result};
use crate::sys::pty::{self, Size};
use crate::sys::socket;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Size at which the log is turned over; twice this is kept.
const LOG_HALF: u64 = 512 * 1024;

/// Most packets taken after the end: a process that survived its init for a moment could go on writing.
const REST: usize = 64;

/// The console's log: `console.log` and its older half `console.log.old`.
#[derive(Debug)]
struct Log {
    folder: PathBuf,
    /// And its size, bytes; there from the first output on.
    open: Option<(File, u64)>,
}

impl Log {
    /// A full disk must not stop the container: what cannot be logged is lost.
    fn append(&mut self, data: &[u8]) {
        if self.open.as_ref().is_some_and(|(_, size)| size + data.len() as u64 > LOG_HALF) {
            let [new, old] = [logs::CONSOLE, logs::CONSOLE_OLD].map(|name| self.folder.join(name));
            if std::fs::rename(new, old).is_ok() {
                self.open = None;
            }
        }
        if self.open.is_none() {
            let file = logs::open(&self.folder, logs::CONSOLE).ok();
            self.open = file.and_then(|file| file.metadata().ok().map(|m| (file, m.len())));
        }
        if let Some((file, size)) = &mut self.open
            && file.write_all(data).is_ok()
        {
            *size += data.len() as u64;
        }
    }
}

/// The monitor's side.
#[derive(Debug)]
pub struct Console {
    master: OwnedFd,
    /// Kept open so that the master does not hang up whenever the last program closes its end.
    _slave: OwnedFd,
    log: Log,
    listener: OwnedFd,
    client: Option<OwnedFd>,
    copy: Option<Copy>,
}

/// Where the output goes besides: the journal, as a rule.
#[derive(Debug)]
struct Copy {
    to: OwnedFd,
    /// Of a terminal's line ends a journal wants only the half.
    plain: bool,
}

impl Copy {
    /// What the other side does not take at once is lost: a container never waits for its log. A writable pipe or stream
    /// takes a whole packet (pipe(7): 4096 bytes are free). False: nobody reads any more.
    fn write(&self, data: &[u8]) -> bool {
        let mut fds = [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)];
        if !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..)) {
            return true;
        }
        let plain: Vec<u8>;
        let data = match self.plain {
            true => {
                plain = data.iter().copied().filter(|b| *b != b'\r').collect();
                &plain
            }
            false => data,
        };
        rustix::io::write(&self.to, data).is_ok()
    }
}

impl Console {
    /// With the terminal's master, logging under `log_dir`, listening in `run_dir`; `copy` gets the output, too.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn new(master: OwnedFd, log_dir: &Path, run_dir: &Path, copy: Option<OwnedFd>) -> Result<Self> {
        // Neither a full terminal nor a spurious wake-up may stop the monitor.
        let flags = rustix::fs::fcntl_getfl(&master)? | rustix::fs::OFlags::NONBLOCK;
        rustix::fs::fcntl_setfl(&master, flags)?;
        let path = run_dir.join("console.sock");
        let _ = std::fs::remove_file(&path);
        Ok(Self {
            _slave: pty::peer(master.as_fd())?,
            master,
            log: Log { folder: log_dir.to_path_buf(), open: None },
            listener: socket::listen_packets(&path).context("Failed creating the console socket")?,
            client: None,
            copy: copy.map(|to| Copy { plain: !rustix::termios::isatty(&to), to }),
        })
    }

    /// The terminal's master.
    pub fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// The listening socket.
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The attached client.
    pub fn client(&self) -> Option<BorrowedFd<'_>> {
        self.client.as_ref().map(AsFd::as_fd)
    }

    /// Takes what is left in the terminal, a bounded amount, after the container has ended.
    pub fn rest(&mut self) {
        for _ in 0..REST {
            if !self.output() {
                return;
            }
        }
    }

    /// Takes output of the terminal; false if there is none.
    pub fn output(&mut self) -> bool {
        let mut packet = [DATA; PACKET];
        let Ok(n @ 1..) = rustix::io::read(&self.master, &mut packet[1..]) else { return false };
        self.log.append(&packet[1..=n]);
        if self.copy.as_ref().is_some_and(|copy| !copy.write(&packet[1..=n])) {
            self.copy = None;
        }
        if let Some(client) = &self.client {
            use rustix::net::{SendFlags, send};
            // A client that does not read loses output; the container never waits for it.
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            if let Err(e) = send(client, &packet[..=n], flags)
                && e != rustix::io::Errno::AGAIN
            {
                self.client = None;
            }
        }
        true
    }

    /// Accepts a client.
    pub fn accept(&mut self) {
        let Ok(client) = socket::accept_own(self.listener.as_fd()) else { return };
        let _ = rustix::net::sockopt::set_socket_timeout(
            &client,
            rustix::net::sockopt::Timeout::Recv,
            Some(std::time::Duration::from_secs(1)),
        );
        let mut hello = [0u8; 6];
        let n = rustix::io::read(&client, &mut hello).unwrap_or(0);
        if n < 2 || hello[0] != HELLO {
            return;
        }
        if self.client.is_some() && hello[1] != 1 {
            let _ = rustix::io::write(&client, &[BUSY]);
            return;
        }
        if n == hello.len() {
            self.resize([hello[2], hello[3], hello[4], hello[5]]);
        }
        self.client = Some(client);
    }

    fn resize(&self, [a, b, c, d]: [u8; 4]) {
        let size = Size { width: u16::from_le_bytes([a, b]), height: u16::from_le_bytes([c, d]) };
        let _ = pty::set_size(self.master.as_fd(), size);
    }

    /// Takes a packet of the client.
    pub fn input(&mut self) {
        let Some(client) = &self.client else { return };
        let mut packet = [0u8; PACKET];
        match rustix::io::read(client, &mut packet) {
            Ok(n @ 1..) => match packet[0] {
                DATA => drop(rustix::io::write(&self.master, &packet[1..n])),
                RESIZE if n == 5 => self.resize([packet[1], packet[2], packet[3], packet[4]]),
                _ => {}
            },
            _ => self.client = None,
        }
    }
}
