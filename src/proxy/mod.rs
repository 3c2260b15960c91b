//! L6: the proxy role: carries what comes to sockets on one side of an instance to sockets on the other.
//!
//! Started by `ops::proxies` as our binary re-executed, one process a device. It binds its sockets, goes over for good to the
//! side where it connects, becomes the user who connects there, says that it listens, and then sleeps in one epoll_wait(2)
//! until there is something to carry. It ends with the instance's first process, whatever else happens to those who started
//! it. Where the host's side listens, nothing but the bound sockets is left of the host after that. It must not start a thread
//! before it has gone over: a process of several threads cannot enter a user namespace (setns(2)).

mod datagram;
mod relay;
mod sides;
mod stream;

use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::proxy::End;
use crate::ops::lifecycle;
use crate::ops::proxies::{HANDED, Task};
use crate::store::proxies;
use crate::sys::{memfd, process};
use relay::Relay;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

/// Largest task, bytes.
const TASK_MAX: u64 = 1 << 20;

/// Runs the role; the process's exit status.
pub fn main() -> i32 {
    let Ok([task, ready, lock, init, net, mnt, user]) = process::take_inherited(HANDED) else { return 2 };
    let (mut ready, lock) = (File::from(ready), File::from(lock));
    match begin(task, &lock, init, &sides::Namespaces { net, mnt, user }) {
        Err(e) => {
            // The caller reports it; after that nobody listens.
            let _ = ready.write_all(&lifecycle::encode_failure(&e));
            1
        }
        Ok(mut relay) => {
            let _ = ready.write_all(b"+");
            drop(ready);
            // What the start needed is not needed for a long time.
            process::release_heap();
            process::release_stack();
            process::release_code();
            match relay.run() {
                Ok(()) => 0,
                Err(e) => {
                    // The log is the standard error.
                    let _ = writeln!(std::io::stderr(), "Error: {e}");
                    1
                }
            }
        }
    }
}

// Its frame goes before the long wait.
#[inline(never)]
fn begin(task: OwnedFd, lock: &File, init: OwnedFd, namespaces: &sides::Namespaces) -> Result<Relay> {
    let data = memfd::read_sealed(task, TASK_MAX).context("Failed reading the task")?;
    let task: Task =
        serde_json::from_slice(&data).map_err(|e| Error::internal("Failed reading the task").caused_by(e))?;
    let proxy = &task.proxy;
    let socket = proxy.routes.iter().find_map(|route| match &route.listen {
        End::Unix(path) if !proxy.inside => Some(path.as_path()),
        _ => None,
    });
    proxies::note(lock, socket, &proxy.to_line()?)?;
    fault::point("proxy.begin")?;
    let listeners = sides::bind(&task, namespaces)?;
    fault::point("proxy.bound")?;
    sides::go_over(&task, namespaces)?;
    Relay::new(init, listeners, proxy)
}
