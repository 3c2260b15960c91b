//! `console`: attaches the caller's terminal to an instance's console, and reads its log.

use super::load;
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::store::Store;
use crate::sys::pty::{self, Size};
use crate::sys::socket;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// First packet of a client; the second byte says whether it takes over from another one. Its window's size may follow, as
/// in [`RESIZE`].
pub const HELLO: u8 = 0;
/// Bytes of the terminal, either way.
pub const DATA: u8 = 1;
/// New size of the client's window: width, height, little-endian u16 each.
pub const RESIZE: u8 = 2;
/// Another client is attached.
pub const BUSY: u8 = 3;
/// Largest packet.
pub const PACKET: usize = 4096;

/// ctrl-a, then q: detach.
const PREFIX: u8 = 0x01;
const DETACH: u8 = b'q';

/// How an attached console ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The user detached.
    Detached,
    /// The instance stopped, or another client took over.
    Closed,
}

/// Attaches `input` and `output` to the console until the user detaches or the instance stops. `signals`: `SIGWINCH` tells
/// of a new window size; anything else detaches.
///
/// # Errors
/// Not running; another client is attached and `force` is not set.
pub fn attach(
    store: &Store,
    who: (&ProjectName, &InstanceName),
    (input, output): (BorrowedFd<'_>, BorrowedFd<'_>),
    force: bool,
    signals: &SignalFd,
) -> Result<Ended> {
    load::need_running(store, who.0, who.1)?;
    let path = store.layout().instance_run_dir(who.0, who.1).join("console.sock");
    let socket = socket::connect_packets(&path).context("Failed attaching to the console")?;
    // One packet, the size in it: a monitor that refuses and closes must find nothing unread, or its answer is lost.
    let mut hello = vec![HELLO, u8::from(force)];
    hello.extend(size_of(input).into_iter().flatten());
    send(&socket, &hello)?;
    let _raw = pty::raw(input).ok();
    let mut client = Client { socket, prefix: false };
    client.run(input, output, signals)
}

struct Client {
    socket: OwnedFd,
    prefix: bool,
}

impl Client {
    fn run(&mut self, input: BorrowedFd<'_>, output: BorrowedFd<'_>, signals: &SignalFd) -> Result<Ended> {
        loop {
            let mut fds = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(input, PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other.context("Failed waiting for the console")?,
            };
            let ready = fds.map(|f| f.any().unwrap_or(false));
            if ready[0] && !self.receive(output)? {
                return Ok(Ended::Closed);
            }
            // A new size first: what is typed after it counts on it.
            if ready[2] && !self.signalled(input, signals) {
                return Ok(Ended::Detached);
            }
            if ready[1] && !self.type_in(input)? {
                return Ok(Ended::Detached);
            }
        }
    }

    /// False when the monitor closed the connection.
    fn receive(&self, output: BorrowedFd<'_>) -> Result<bool> {
        let mut packet = [0u8; PACKET];
        let n = match rustix::io::read(&self.socket, &mut packet) {
            Ok(n) => n,
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(e) => return Err(e.into()),
        };
        match (n, packet[0]) {
            (0, _) => Ok(false),
            (_, BUSY) => Err(Error::busy("This console is already connected. Force is required to take it over")
                .hint("use --force to take it over")),
            _ => {
                write_all(output, &packet[1..n])?;
                Ok(true)
            }
        }
    }

    /// False when the user typed the detach keys or the input ended.
    fn type_in(&mut self, input: BorrowedFd<'_>) -> Result<bool> {
        let mut keys = [0u8; 1024];
        let n = rustix::io::read(input, &mut keys)?;
        let mut packet = vec![DATA];
        for key in &keys[..n] {
            match (self.prefix, *key) {
                (false, PREFIX) => self.prefix = true,
                (true, DETACH) => return Ok(false),
                (true, key) => {
                    self.prefix = false;
                    if key != PREFIX {
                        packet.push(PREFIX);
                    }
                    packet.push(key);
                }
                (false, key) => packet.push(key),
            }
        }
        if packet.len() > 1 {
            send(&self.socket, &packet)?;
        }
        Ok(n > 0)
    }

    fn signalled(&self, input: BorrowedFd<'_>, signals: &SignalFd) -> bool {
        while let Ok(Some(info)) = signals.read_signal() {
            if info.ssi_signo as i32 != libc::SIGWINCH {
                return false;
            }
            resize(&self.socket, input);
        }
        true
    }
}

fn send(socket: &OwnedFd, packet: &[u8]) -> Result<()> {
    rustix::net::send(socket, packet, rustix::net::SendFlags::NOSIGNAL)?;
    Ok(())
}

fn resize(socket: &OwnedFd, input: BorrowedFd<'_>) {
    if let Some([a, b, c, d]) = size_of(input) {
        let _ = send(socket, &[RESIZE, a, b, c, d]);
    }
}

/// Width and height as they are sent.
fn size_of(terminal: BorrowedFd<'_>) -> Option<[u8; 4]> {
    let Size { width, height } = pty::size(terminal).ok()?;
    let ([a, b], [c, d]) = (width.to_le_bytes(), height.to_le_bytes());
    Some([a, b, c, d])
}

fn write_all(output: BorrowedFd<'_>, mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        match rustix::io::write(output, data) {
            Ok(n) => data = &data[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
