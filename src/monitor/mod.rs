//! L6: the per-instance role: parent of the container's process 1.
//!
//! Started by `ops::start` as our binary re-executed, with the sealed plan on [`PLAN`] and the caller's pipe on [`READY`].
//! It starts the container, writes the run record, says so, keeps the container ([`crate::ops::keep`]), and has the exit
//! recorded. It serves one instance, shares nothing with others, and at rest sleeps in one poll(2). It must never hold a lock
//! while it waits.

use crate::container::plan::Plan;
use crate::container::start;
use crate::error::{Context, Result};
use crate::fault;
use crate::ops::keep::{self, Keep};
use crate::ops::lifecycle::{self, End, Monitored, Told};
use crate::ops::spawn::{LOCK, PLAN, READY};
use crate::ops::{proxies, templates};
use crate::sys::{memfd, process};
use nix::sys::signalfd::SignalFd;
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
        Ok((monitored, keep, orders)) => {
            // What runs is on record: the lock is the starter's alone again.
            drop(lock);
            let _ = ready.write_all(b"+");
            drop(ready);
            // Neither code nor stack of the start are needed for a long time.
            process::release_code();
            process::release_stack();
            let end = keep.until_end(&monitored, &orders, Told::ByHost, &mut || {});
            match end.and_then(|end| record(monitored, end)) {
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
fn record(monitored: Monitored, end: End) -> Result<()> {
    lifecycle::exited(monitored, end, &crate::ops::start::locked).map(drop)
}

// Its frame goes before the long wait; so does that of `record`, which comes after it.
#[inline(never)]
fn begin(plan: OwnedFd) -> Result<(Monitored, Keep, SignalFd)> {
    let data = memfd::read_sealed(plan, PLAN_MAX).context("Failed reading the plan")?;
    let plan = Plan::from_json(&data)?;
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
