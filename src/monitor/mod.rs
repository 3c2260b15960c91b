//! L6: the per-instance role: parent of the container's process 1.
//!
//! Started by `ops::start` as our binary re-executed, with the plan on [`PLAN`], once it is told on [`LINE`] that it is there.
//! It starts the container, writes the run record, says so, keeps the container ([`crate::ops::keep`]), and has the exit
//! recorded. It serves one instance, shares nothing with others, and at rest sleeps in one poll(2). It must never hold a lock
//! while it waits.

use crate::container::plan::Plan;
use crate::container::start;
use crate::error::{Context, Result};
use crate::fault;
use crate::ops::keep::{self, Keep};
use crate::ops::lifecycle::{self, End, Monitored, Told};
use crate::ops::spawn::{LINE, LOCK, PLAN};
use crate::ops::{logs, proxies, templates};
use crate::sys::{memfd, process, socket};
use nix::sys::signalfd::SignalFd;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

/// Largest plan, bytes.
const PLAN_MAX: u64 = 8 << 20;

/// Runs the role; the process's exit status.
pub fn main() -> i32 {
    let Ok([plan, line, lock]) = process::take_inherited([PLAN, LINE, LOCK]) else { return 2 };
    // Nothing came of it: whoever started us has ended, or failed before there was anything to do for us.
    if !socket::wait(line.as_fd()).unwrap_or(false) {
        return 0;
    }
    let mut ready = std::fs::File::from(line);
    match begin(plan) {
        Err(e) => {
            // The caller reports it; after that nobody listens.
            let _ = ready.write_all(&lifecycle::encode_failure(&e));
            1
        }
        Ok((monitored, keep, orders)) => {
            let log = monitored.log();
            // What runs is on record: the lock is the starter's alone again.
            drop(lock);
            let _ = ready.write_all(b"+");
            drop(ready);
            // Neither code nor stack of the start are needed for a long time.
            process::release_code();
            process::release_stack();
            let end = keep.until_end(&monitored, &orders, Told::ByHost, &mut || {});
            let end = end.map(|(end, trouble)| {
                trouble.into_iter().for_each(|e| log.say(&format!("Error: {e}")));
                end
            });
            match end.and_then(|end| record(monitored, end)) {
                Ok(()) => 0,
                Err(e) => {
                    log.say(&format!("Error: {e}"));
                    1
                }
            }
        }
    }
}

#[inline(never)]
fn record(monitored: Monitored, end: End) -> Result<()> {
    lifecycle::exited(monitored, end, &crate::ops::start::locked).map(drop)
}

// Its frame goes before the long wait; so does that of `record`, which comes after it.
#[inline(never)]
fn begin(plan: OwnedFd) -> Result<(Monitored, Keep, SignalFd)> {
    let data = memfd::read_sealed(plan, PLAN_MAX).context("Failed reading the plan")?;
    let plan = Plan::from_json(&data)?;
    logs::keep_panics(plan.log_dir.clone());
    fault::point("monitor.begin")?;
    // Blocked from here on: an order that comes while it starts is carried out when it runs.
    let orders = process::signals(&keep::ORDERS)?;
    let monitored = Monitored::take(&plan)?;
    let started = start::start(&plan, None, &|root| templates::write(&plan, root))?;
    fault::point("monitor.started")?;
    let keep = Keep::new(&plan, started, None)?;
    proxies::start(&plan, keep.pid())?;
    monitored.record_start(&plan, keep.pid())?;
    fault::point("monitor.recorded")?;
    Ok((monitored, keep, orders))
}
