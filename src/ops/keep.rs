//! Keeps a running container until its first process has ended: its console, and the signals that ask for its end.
//!
//! Shared by the monitor and the foreground mode; at rest both sleep in one poll(2) without a time-out. SIGTERM, and SIGURG of
//! a scope that systemd stops, shut the container down as `stop` does, within `boot.host_shutdown_timeout`; what is left then
//! is killed. No lock is held here but the one that says that the instance has a keeper.

use super::console_server::Console;
use super::halt;
use super::lifecycle::{End, Monitored, Told};
use crate::container::nics::Lent;
use crate::container::plan::Plan;
use crate::container::start::Started;
use crate::error::{Context, Error, Result};
use crate::host::cgroup::Group;
use crate::sys::clone::Child;
use crate::sys::{pidfd, process};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// What a monitor takes as the order to end its container.
pub const ORDERS: [Signal; 2] = [Signal::SIGTERM, Signal::SIGURG];
/// How long a frozen container may take to thaw.
const THAW: Duration = Duration::from_secs(10);

/// A running container with its console.
#[derive(Debug)]
pub struct Keep {
    child: Child,
    console: Console,
    group: Group,
    stop_signal: Option<i32>,
    halting: Option<Halting>,
    lent: Option<Lent>,
}

/// It was told to end.
#[derive(Debug)]
struct Halting {
    /// When it is killed; none: it was.
    deadline: Option<Instant>,
    /// When its init is asked again, and the pause after that.
    again: Option<(Instant, Duration)>,
}

/// Called when the order to end the container has come.
type OnOrder<'a> = &'a mut dyn FnMut();

impl Keep {
    /// Of one that has started; `copy` gets what the console shows, too.
    ///
    /// # Errors
    /// The console's socket cannot be made.
    pub fn new(plan: &Plan, started: Started, copy: Option<OwnedFd>) -> Result<Self> {
        let Started { child, console, lent } = started;
        let lent = Some(lent);
        let console = Console::new(console, &plan.log_dir, &plan.run_dir, copy)?;
        let (group, stop_signal) = (Group::at(plan.cgroup.clone()), plan.stop_signal);
        Ok(Self { child, console, group, stop_signal, halting: None, lent })
    }

    /// Process 1.
    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Keeps it until process 1 has ended. `orders` deliver the signals that ask for the end, `by` is who sends them;
    /// `on_order` is called when one has come. Besides the end it tells what went wrong with giving back what was lent.
    ///
    /// # Errors
    /// As poll(2), waitid(2).
    pub fn until_end(
        mut self,
        monitored: &Monitored,
        orders: &SignalFd,
        by: Told,
        on_order: OnOrder<'_>,
    ) -> Result<(End, Option<Error>)> {
        loop {
            let mut fds = vec![
                PollFd::new(self.child.pidfd(), PollFlags::POLLIN),
                PollFd::new(self.console.master(), PollFlags::POLLIN),
                PollFd::new(self.console.listener(), PollFlags::POLLIN),
                PollFd::new(orders.as_fd(), PollFlags::POLLIN),
            ];
            fds.extend(self.console.client().map(|c| PollFd::new(c, PollFlags::POLLIN)));
            match poll(&mut fds, self.time_left()) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other.map_err(Error::from).context("Failed waiting for the container")?,
            };
            let ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(false)).collect();
            drop(fds);
            if ready[1] {
                self.console.output();
            }
            if ready.get(4) == Some(&true) {
                self.console.input();
            }
            if ready[2] {
                self.console.accept();
            }
            if ready[0] {
                self.console.rest();
                let told = self.halting.is_some().then_some(by);
                let exit = self.child.wait()?;
                // The container has ended all the same.
                let trouble = self.lent.take().and_then(|lent| lent.give_back().err());
                return Ok((End { exit, told }, trouble));
            }
            if ready[3] {
                self.order(orders, monitored, &mut *on_order);
            }
            self.pursue()?;
        }
    }

    /// Until something is due; for ever at rest.
    fn time_left(&self) -> PollTimeout {
        let due = self.halting.iter().flat_map(|h| [h.deadline, h.again.map(|(at, _)| at)]).flatten().min();
        due.map_or(PollTimeout::NONE, |due| process::poll_timeout(due.saturating_duration_since(Instant::now())))
    }

    /// A second order of an impatient user at a terminal kills.
    fn order(&mut self, orders: &SignalFd, monitored: &Monitored, on_order: OnOrder<'_>) {
        let mut impatient = false;
        while let Ok(Some(info)) = orders.read_signal() {
            impatient |= info.ssi_signo == libc::SIGINT as u32;
        }
        match &mut self.halting {
            Some(halting) if impatient => halting.deadline = halting.deadline.map(|_| Instant::now()),
            Some(_) => {}
            None => {
                on_order();
                let now = Instant::now();
                let patience = monitored.stop_terms().unwrap_or(Duration::ZERO);
                if self.group.frozen() {
                    let _ = self.group.freeze(false, THAW);
                }
                self.halting = Some(Halting { deadline: Some(now + patience), again: Some((now, halt::FIRST)) });
            }
        }
    }

    /// Does what is due.
    fn pursue(&mut self) -> Result<()> {
        let Some(halting) = &mut self.halting else { return Ok(()) };
        let now = Instant::now();
        if halting.deadline.is_some_and(|at| at <= now) {
            *halting = Halting { deadline: None, again: None };
            // No security module has a say in the first.
            let killed = self.group.kill_now();
            return pidfd::kill(self.child.pidfd()).map_err(Error::from).or(killed);
        }
        if let Some((at, pause)) = halting.again
            && at <= now
        {
            // What cannot be asked is killed when the time is over.
            let heard = halt::once(self.child.pidfd(), self.child.pid(), self.stop_signal).unwrap_or(true);
            halting.again = (!heard).then(|| (now + pause, (pause * 2).min(halt::MOST)));
        }
        Ok(())
    }
}
