//! Copies bytes between a command in an instance and the caller's streams until the command ends; forwards signals and the
//! window's size. Used by `exec`, `run` and `console`; knows descriptors only, no terminals of its own.

use crate::error::{Context, Result};
use crate::sys::pidfd;
use crate::sys::pty;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most bytes written at once to something that may block.
const CHUNK: usize = 4096;

/// Most turns for the last output: 2 MiB, twice the largest pipe.
const LAST_TURNS: usize = 512;

/// One direction.
#[derive(Debug)]
pub struct Pump {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    buffer: Vec<u8>,
    /// It carries the caller's input: what is left of it when the command ends is dropped.
    input: bool,
    /// Writing to it never blocks for long: a regular file, or a pipe of ours that is set so.
    instant: bool,
}

impl Pump {
    /// Copies from `from` to `to`; `input` marks the direction into the instance.
    pub fn new(from: OwnedFd, to: OwnedFd, input: bool) -> Self {
        let file = rustix::fs::fstat(&to)
            .is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode) == rustix::fs::FileType::RegularFile);
        let nonblocking = rustix::fs::fcntl_getfl(&to).is_ok_and(|f| f.contains(rustix::fs::OFlags::NONBLOCK));
        Self { from: Some(from), to: Some(to), buffer: Vec::new(), input, instant: file || nonblocking }
    }

    fn wants(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match (&self.from, &self.to) {
            (_, Some(to)) if !self.buffer.is_empty() => Some((to.as_fd(), PollFlags::POLLOUT)),
            (Some(from), Some(_)) => Some((from.as_fd(), PollFlags::POLLIN)),
            _ => None,
        }
    }

    /// Moves what can be moved now. What was just read is not written at once to something that may block: while we wait
    /// there, the command may wait for us on its other stream.
    fn turn(&mut self) {
        let filled = self.buffer.is_empty();
        if filled {
            self.fill();
        }
        if !self.buffer.is_empty() && (self.instant || !filled) {
            self.drain();
        }
        if self.from.is_none() && self.buffer.is_empty() {
            self.to = None;
        }
    }

    fn fill(&mut self) {
        let Some(from) = &self.from else { return };
        let size = if self.instant { 64 * 1024 } else { CHUNK };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(size, 0);
        let n = match rustix::io::read(from, &mut buffer[..]) {
            Ok(n) => n,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {
                return;
            }
            // The other end of a terminal is closed.
            Err(_) => 0,
        };
        if n == 0 {
            self.from = None;
        }
        buffer.truncate(n);
        self.buffer = buffer;
    }

    fn drain(&mut self) {
        let Some(to) = &self.to else { return };
        let chunk = if self.instant { self.buffer.len() } else { self.buffer.len().min(CHUNK) };
        match rustix::io::write(to, &self.buffer[..chunk]) {
            Ok(n) => drop(self.buffer.drain(..n)),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            // Nobody reads any more: the writer learns it by SIGPIPE or EPIPE.
            Err(_) => {
                self.buffer.clear();
                self.from = None;
                self.to = None;
            }
        }
    }
}

/// What is relayed.
#[derive(Debug)]
pub struct Relay<'a> {
    /// Ends the relay when it ends.
    pub process: BorrowedFd<'a>,
    /// The directions.
    pub pumps: Vec<Pump>,
    /// Signals of ours to pass on; blocked in every thread.
    pub signals: Option<&'a SignalFd>,
    /// The caller's terminal and the instance's, whose size follows it.
    pub window: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// Ends the relay and kills the process when the time is over.
    pub deadline: Option<std::time::Instant>,
}

/// How the relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The process ended.
    Process,
    /// The deadline passed.
    Deadline,
}

impl Relay<'_> {
    /// Runs until the process has ended and its last output is written.
    ///
    /// # Errors
    /// As poll(2).
    pub fn run(&mut self) -> Result<Ended> {
        self.resize();
        loop {
            let mut fds = vec![PollFd::new(self.process, PollFlags::POLLIN)];
            if let Some(s) = self.signals {
                fds.push(PollFd::new(s.as_fd(), PollFlags::POLLIN));
            }
            let first = fds.len();
            let mut who = Vec::with_capacity(self.pumps.len());
            for (i, pump) in self.pumps.iter().enumerate() {
                if let Some((fd, flags)) = pump.wants() {
                    fds.push(PollFd::new(fd, flags));
                    who.push(i);
                }
            }
            match poll(&mut fds, self.time_left()) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other.context("Failed waiting for the command")?,
            };
            let ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(false)).collect();
            drop(fds);
            if self.signals.is_some() && ready[1] {
                self.pass_signals();
            }
            for (at, i) in who.into_iter().enumerate() {
                if ready[first + at] {
                    self.pumps[i].turn();
                }
            }
            if ready[0] {
                self.finish();
                return Ok(Ended::Process);
            }
            if self.deadline.is_some_and(|d| std::time::Instant::now() >= d) {
                return Ok(Ended::Deadline);
            }
        }
    }

    fn time_left(&self) -> PollTimeout {
        let Some(deadline) = self.deadline else { return PollTimeout::NONE };
        let left = deadline.saturating_duration_since(std::time::Instant::now()).as_millis() + 1;
        PollTimeout::try_from(i32::try_from(left).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
    }

    fn resize(&self) {
        if let Some((ours, theirs)) = self.window
            && let Ok(size) = pty::size(ours)
        {
            let _ = pty::set_size(theirs, size);
        }
    }

    fn pass_signals(&self) {
        let Some(signals) = self.signals else { return };
        while let Ok(Some(info)) = signals.read_signal() {
            let signal = info.ssi_signo as i32;
            if signal == libc::SIGWINCH {
                self.resize();
            } else {
                let _ = pidfd::send_signal(self.process, signal);
            }
        }
    }

    /// The process is gone: what it wrote is still in the pipes; others may hold them open and go on writing, so
    /// end-of-file is not awaited and no more is read than a pipe holds.
    fn finish(&mut self) {
        for pump in self.pumps.iter_mut().filter(|p| !p.input) {
            for _ in 0..LAST_TURNS {
                let Some((fd, flags)) = pump.wants() else { break };
                let wait = if flags == PollFlags::POLLOUT { PollTimeout::NONE } else { PollTimeout::ZERO };
                let mut fds = [PollFd::new(fd, flags)];
                match poll(&mut fds, wait) {
                    Ok(0) => break,
                    Ok(_) | Err(nix::errno::Errno::EINTR) => pump.turn(),
                    Err(_) => break,
                }
            }
        }
    }
}
