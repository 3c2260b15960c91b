//! Interfaces on a bridge, and the dnsmasq that serves them: started with the first, told of the others, ended with the last.

use crate::base::names::NetworkName;
use crate::error::{Context, Result};
use crate::host::proc;
use crate::model::instance::Device;
use crate::model::network::Network;
use crate::model::nic::Identity;
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, NetworkRunKey};
use crate::store::networks::{NetworkPort, NetworkRun};
use crate::sys::pidfd;
use std::os::fd::AsFd;
use std::time::Duration;

/// How long dnsmasq may take to end.
const END: Duration = Duration::from_secs(10);

/// Notes an interface that is about to be on the network.
///
/// # Errors
/// The file cannot be written.
pub fn add(
    store: &Store,
    network: (&NetworkName, &Network),
    port: &NetworkPort,
    identity: &Identity,
    options: &Device,
) -> Result<()> {
    let lock = store.lock_network_run(network.0)?;
    let _ = (identity, options);
    store.save_network_port(&lock, port, "")?;
    Ok(())
}

/// Forgets an interface, whatever network it was on; dnsmasq ends with the last one.
///
/// # Errors
/// The file cannot be removed; dnsmasq does not end.
pub fn remove(store: &Store, port: &NetworkPort) -> Result<()> {
    for name in store.network_runs()? {
        if !store.has_network_port(&name, port)? {
            continue;
        }
        let lock = store.lock_network_run(&name)?;
        store.remove_network_port(&lock, port)?;
        if store.network_ports(&name)?.is_empty() {
            stop(store, &lock)?;
        }
    }
    Ok(())
}

/// Ends the dnsmasq of a network; none running is fine.
///
/// # Errors
/// It does not end.
pub(super) fn stop(store: &Store, lock: &Held<NetworkRunKey, Exclusive>) -> Result<()> {
    let name = &lock.key().0;
    let Some(run) = store.network_run(name)? else { return Ok(()) };
    let Some((pid, started)) = run.dnsmasq else { return Ok(()) };
    if let Some(process) = proc::open(pid, started)? {
        let fail = || format!("Failed stopping dnsmasq of network \"{name}\"");
        pidfd::send_signal(process.as_fd(), libc::SIGTERM).with_context(fail)?;
        if !pidfd::wait_ended(process.as_fd(), Some(END)).with_context(fail)? {
            pidfd::kill(process.as_fd()).with_context(fail)?;
        }
    }
    store.save_network_run(lock, &NetworkRun { dnsmasq: None, ..run })
}
