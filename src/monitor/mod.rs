//! L6: the per-instance role: parent of the container's process 1.
//!
//! Started by `ops::start` as our binary re-executed, with the sealed plan on [`PLAN`] and the caller's pipe on [`READY`].
//! It starts the container, writes the run record, says so, keeps the console, waits, and has the exit recorded. It serves
//! one instance, shares nothing with others, and at rest sleeps in one poll(2). It must never hold a lock while it waits.

pub mod console;

use crate::container::plan::Plan;
use crate::container::start::{self, Started};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::ops::lifecycle::{self, Monitored};
use crate::ops::spawn::{LOCK, PLAN, READY};
use crate::ops::templates;
use crate::sys::clone::Child;
use crate::sys::pidfd::Exit;
use crate::sys::{memfd, process};
use console::Console;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::Write;
use std::os::fd::OwnedFd;

/// Largest plan, bytes.
const PLAN_MAX: u64 = 8 << 20;

/// Runs the role; the process's exit status.
pub fn main() -> i32 {
    let Ok([plan, ready, lock]) = process::take_inherited([PLAN, READY, LOCK]) else { return 2 };
    let mut ready = std::fs::File::from(ready);
    match begin(plan) {
        Err(e) => {
            // The caller reports it; after that nobody listens.
            let _ = ready.write_all(&lifecycle::encode_failure(&e));
            1
        }
        Ok((monitored, running)) => {
            // What runs is on record: the lock is the starter's alone again.
            drop(lock);
            let _ = ready.write_all(b"+");
            drop(ready);
            // Neither code nor stack of the start are needed for a long time.
            process::release_code();
            process::release_stack();
            let exit = running.keep();
            match exit.and_then(|exit| end(monitored, exit)) {
                Ok(()) => 0,
                Err(e) => {
                    // The log is the monitor's standard error.
                    let _ = writeln!(std::io::stderr(), "Error: {e}");
                    1
                }
            }
        }
    }
}

#[inline(never)]
fn end(monitored: Monitored, exit: Exit) -> Result<()> {
    lifecycle::exited(monitored, exit)
}

/// A running container with its console.
struct Running {
    child: Child,
    console: Console,
}

// Its frame goes before the long wait; so does that of `end`, which comes after it.
#[inline(never)]
fn begin(plan: OwnedFd) -> Result<(Monitored, Running)> {
    let data = memfd::read_sealed(plan, PLAN_MAX).context("Failed reading the plan")?;
    let plan = Plan::from_json(&data)?;
    fault::point("monitor.begin")?;
    let monitored = Monitored::take(&plan)?;
    let Started { child, console } = start::start(&plan, None, &|root| templates::write(&plan, root))?;
    fault::point("monitor.started")?;
    let console = Console::new(console, &plan.log_dir, &plan.run_dir)?;
    monitored.record_start(&plan, child.pid())?;
    fault::point("monitor.recorded")?;
    Ok((monitored, Running { child, console }))
}

impl Running {
    /// Keeps the console until process 1 has ended.
    fn keep(mut self) -> Result<Exit> {
        loop {
            let mut fds = vec![
                PollFd::new(self.child.pidfd(), PollFlags::POLLIN),
                PollFd::new(self.console.master(), PollFlags::POLLIN),
                PollFd::new(self.console.listener(), PollFlags::POLLIN),
            ];
            fds.extend(self.console.client().map(|c| PollFd::new(c, PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other.map_err(Error::from).context("Failed waiting for the container")?,
            };
            let ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(false)).collect();
            drop(fds);
            if ready[1] {
                self.console.output();
            }
            if ready.get(3) == Some(&true) {
                self.console.input();
            }
            if ready[2] {
                self.console.accept();
            }
            if ready[0] {
                self.console.output();
                return Ok(self.child.wait()?);
            }
        }
    }
}
