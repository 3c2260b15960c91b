//! Interfaces on a bridge, and the dnsmasq that serves them: started with the first, told of the others, ended with the last.
//!
//! The folder of the interfaces is the one that dnsmasq watches: a new file counts at once, a changed or removed one when it
//! is told. It goes into the background by itself once its sockets are bound, so what starts it needs not wait for anything
//! else; it gives up root, and lives where monitors live, so that it outlasts the session it was started from. One that died
//! is started again by the next interface, and by `doctor --fix`.

use super::up::{self, Plan};
use super::{filter, leases, process, rules, zones};
use crate::base::inet::IpNet;
use crate::base::names::{DeviceName, InstanceName, NetworkName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::command::{Cmd, Host as Programs, Program, Runner};
use crate::host::proc;
use crate::model::instance::Device;
use crate::model::keys::device::nic as keys;
use crate::model::network::{Network, alloc, nic};
use crate::model::nic::Identity;
use crate::network::dnsmasq::args::{self, PROGRAM, Paths};
use crate::network::dnsmasq::hosts::Host;
use crate::store::Store;
use crate::store::atomic::{self, Durability};
use crate::store::lock::{Exclusive, Held, NetworkRunKey};
use crate::store::networks::NetworkRun;
use crate::sys::pidfd;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

pub(super) const DNSMASQ: Program = Program { name: PROGRAM, package: "dnsmasq-base" };
/// How long it may take to be ready, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Is dnsmasq there?
///
/// # Errors
/// Unsupported: it is missing.
pub(super) fn program() -> Result<()> {
    Programs::default().find(DNSMASQ).map(drop)
}

/// An interface of an instance.
#[derive(Debug, Clone, Copy)]
pub struct Port<'a> {
    /// The instance's project.
    pub project: &'a ProjectName,
    /// The instance.
    pub instance: &'a InstanceName,
    /// The device.
    pub device: &'a str,
}

impl Port<'_> {
    fn host<'a>(&'a self, device: &'a DeviceName, hwaddr: [u8; 6]) -> Host<'a> {
        Host { project: self.project, instance: self.instance, device, hwaddr, addresses: Vec::new() }
    }

    pub(super) fn file_name(&self) -> Result<String> {
        let device = DeviceName::parse(self.device)?;
        Ok(self.host(&device, [0; 6]).file_name())
    }
}

/// Notes an interface that is about to be on the network, or whose options have changed, and sees to it that dnsmasq runs
/// where the network needs it. `network` was read under `lock`.
///
/// # Errors
/// The file cannot be written; dnsmasq is missing or does not start.
pub fn add(
    store: &Store,
    lock: &Held<NetworkRunKey, Exclusive>,
    (project, network): (&ProjectName, &Network),
    port: Port<'_>,
    (identity, options): (&Identity, &Device),
) -> Result<()> {
    let name = &lock.key().0;
    let plan = Plan::of(store, name, &network.config)?;
    let hwaddr = identity.hwaddr.ok_or_else(|| Error::internal("An interface on a bridge has no MAC address"))?;
    let addresses = addresses(store, (project, &plan), &port, hwaddr, options)?;
    if filter::is_wanted(options)? {
        filter::begin(store, (project, name), port, identity, (options, &addresses))?;
        fault::point("network.filter")?;
    }
    let changed = note(store, lock, &plan, port, (hwaddr, addresses))?;
    fault::point("network.port")?;
    match (plan.bridge.needs_dnsmasq(), running(store, name)?) {
        (false, _) => Ok(()),
        (true, None) => start(store, project, lock, &plan),
        (true, Some(_)) if !changed => Ok(()),
        (true, Some(process)) => pidfd::send_signal(process.as_fd(), libc::SIGHUP).map_err(Error::from),
    }
}

/// Notes an interface with its MAC address and the addresses reserved for it, for dnsmasq. True if it stood there with others:
/// then dnsmasq is to be told.
///
/// # Errors
/// The file cannot be written.
pub(super) fn note(
    store: &Store,
    lock: &Held<NetworkRunKey, Exclusive>,
    plan: &Plan,
    port: Port<'_>,
    (hwaddr, addresses): ([u8; 6], Vec<IpAddr>),
) -> Result<bool> {
    let device = DeviceName::parse(port.device)?;
    let host = Host { addresses, ..port.host(&device, hwaddr) };
    let (mode, domain) = (plan.bridge.dns_mode, &plan.bridge.domain);
    let texts = [host.text(mode).unwrap_or_default(), host.names(mode, domain).unwrap_or_default()];
    store.save_network_port(lock, &host.file_name(), [&texts[0], &texts[1]])
}

/// The addresses reserved for an interface: those it was given, and one of the subnet if it was given none and may have no
/// other, has ACLs, which refuse by address what comes through the host, or is to be found in a zone from the start: the one
/// it has a lease of, else a free one.
///
/// # Errors
/// No address is left.
pub(super) fn addresses(
    store: &Store,
    (project, plan): (&ProjectName, &Plan),
    port: &Port<'_>,
    hwaddr: [u8; 6],
    options: &Device,
) -> Result<Vec<IpAddr>> {
    let mut all = nic::static_addresses(options);
    let filtered = keys::SECURITY_IPV4_FILTERING.bool(options)? || rules::has_acls(options);
    let one = filtered || !zones::named(&plan.config).is_empty();
    let Some(net) = plan.bridge.v4.dhcp_subnet().filter(|_| one && keys::IPV4_ADDRESS.get(options).is_none()) else {
        return Ok(all);
    };
    all.push(free(store, (project, plan), port, hwaddr, &net)?);
    Ok(all)
}

/// An address of the subnet `net` for an interface: the one it has a lease of, else a free one. To be reserved under the lock
/// it was chosen under.
fn free(
    store: &Store,
    (project, plan): (&ProjectName, &Plan),
    port: &Port<'_>,
    hwaddr: [u8; 6],
    net: &IpNet,
) -> Result<IpAddr> {
    let leases = leases::of(store, project, &plan.name);
    if let Some(own) = leases.iter().find(|l| l.hwaddr == Some(hwaddr) && net.contains(l.address)) {
        return Ok(own.address);
    }
    let own = port.file_name()?;
    let mut used: BTreeSet<IpAddr> = leases.iter().map(|l| l.address).collect();
    for file in store.network_ports(&plan.name)?.iter().filter(|f| **f != own) {
        let text = store.network_port(&plan.name, file)?.unwrap_or_default();
        used.extend(text.split(',').filter_map(|word| word.trim().parse::<IpAddr>().ok()));
    }
    let none = || Error::failed(format!("No free address is left on network \"{}\"", plan.name));
    alloc::next_free(net, &plan.bridge.v4.ranges, &used).ok_or_else(none)
}

/// Reserves an IPv4 address for an interface that is about to be on the network and asks nobody for one; the network is
/// brought up for it. [`add`] is to follow, with the address among the options.
///
/// # Errors
/// Failed: none is free, or the network serves none. As [`up::ensure_locked`].
pub(in crate::ops) fn reserve(
    store: &Store,
    lock: &Held<NetworkRunKey, Exclusive>,
    (project, network): (&ProjectName, &Network),
    port: Port<'_>,
    identity: &Identity,
) -> Result<IpAddr> {
    up::ensure_locked(store, lock, network)?;
    let plan = Plan::of(store, &lock.key().0, &network.config)?;
    let hwaddr = identity.hwaddr.ok_or_else(|| Error::internal("An interface on a bridge has no MAC address"))?;
    let net = plan.bridge.v4.dhcp_subnet().ok_or_else(|| Error::internal("The network serves no addresses"))?;
    let address = free(store, (project, &plan), &port, hwaddr, &net)?;
    note(store, lock, &plan, port, (hwaddr, vec![address]))?;
    fault::point("network.reserved")?;
    Ok(address)
}

/// Forgets an interface, whatever network it was on; dnsmasq ends with the last one.
///
/// # Errors
/// The file cannot be removed; dnsmasq does not end.
pub fn remove(store: &Store, port: Port<'_>) -> Result<()> {
    let file = port.file_name()?;
    for name in store.network_runs()? {
        if !store.has_network_port(&name, &file)? {
            continue;
        }
        let lock = store.lock_network_run(&name)?;
        store.remove_network_port(&lock, &file)?;
        fault::point("network.unplugged")?;
        match running(store, &name)? {
            None => {}
            Some(_) if store.network_ports(&name)?.is_empty() => stop(store, &lock)?,
            Some(process) => pidfd::send_signal(process.as_fd(), libc::SIGHUP)?,
        }
    }
    Ok(())
}

/// dnsmasq of a network, if it runs: as it was noted, or as it says itself, for one whose starter was killed before it could
/// note it. Its own file may be written by whoever takes dnsmasq over, so that counts only for a process with our argument.
fn running(store: &Store, name: &NetworkName) -> Result<Option<OwnedFd>> {
    if let Some((pid, started)) = store.network_run(name)?.and_then(|run| run.dnsmasq)
        && let Some(process) = process::still(pid, started)?
    {
        return Ok(Some(process));
    }
    process::by_file(&paths(store, &ProjectName::default(), name).pid)
}

/// Does dnsmasq of the network run?
///
/// # Errors
/// The run file is damaged.
pub(super) fn is_running(store: &Store, lock: &Held<NetworkRunKey, Exclusive>) -> Result<bool> {
    Ok(running(store, &lock.key().0)?.is_some())
}

fn paths(store: &Store, project: &ProjectName, name: &NetworkName) -> Paths {
    let layout = store.layout();
    let (hosts, names) = (layout.network_ports_dir(name), layout.network_names_dir(name));
    Paths { hosts, names, ..Paths::new(&layout.network_dir(project, name), &layout.network_run_dir(name)) }
}

/// True if dnsmasq should run and does not: it was killed.
///
/// # Errors
/// The run file is damaged.
pub fn has_died(store: &Store, name: &NetworkName) -> Result<bool> {
    let noted = store.network_run(name)?.is_some_and(|run| run.dnsmasq.is_some());
    Ok(noted && running(store, name)?.is_none() && !store.network_ports(name)?.is_empty())
}

/// Starts it again.
///
/// # Errors
/// As [`add`].
pub fn revive(store: &Store, project: &ProjectName, name: &NetworkName) -> Result<()> {
    let Some(network) = store.network(project, name)? else { return Ok(()) };
    let plan = Plan::of(store, name, &network.config)?;
    let lock = store.lock_network_run(name)?;
    if has_died(store, name)? { start(store, project, &lock, &plan) } else { Ok(()) }
}

/// Starts dnsmasq anew if it runs, for a configuration that has changed.
///
/// # Errors
/// As [`add`].
pub(super) fn renew(
    store: &Store,
    project: &ProjectName,
    lock: &Held<NetworkRunKey, Exclusive>,
    plan: &Plan,
) -> Result<()> {
    if running(store, &plan.name)?.is_none() {
        return Ok(());
    }
    stop(store, lock)?;
    if plan.bridge.needs_dnsmasq() { start(store, project, lock, plan) } else { Ok(()) }
}

fn start(store: &Store, project: &ProjectName, lock: &Held<NetworkRunKey, Exclusive>, plan: &Plan) -> Result<()> {
    let name = &plan.name;
    let run = store.network_run(name)?.ok_or_else(|| Error::internal("The network is not up"))?;
    let paths = paths(store, project, name);
    process::let_in(store.layout())?;
    let fail = || format!("Failed starting dnsmasq of network \"{name}\"");
    atomic::replace(&paths.config, args::config(&plan.bridge).as_bytes(), 0o644, Durability::Fast)
        .with_context(fail)?;
    let arguments = args::arguments(name, &plan.bridge, &paths, process::owner());
    let command = Cmd::new(DNSMASQ).args(arguments).timeout(PATIENCE);
    let out = Programs::default().run_with(command, None)?;
    if !out.status.success() {
        return Err(args::failure(name, &String::from_utf8_lossy(&out.stderr)));
    }
    fault::point("network.dnsmasq")?;
    let text = std::fs::read_to_string(&paths.pid).with_context(fail)?;
    let pid: i32 = text.trim().parse().map_err(|_| Error::failed("Its process file is damaged")).with_context(fail)?;
    let gone = || args::failure(name, "it ended at once");
    let started = proc::start_time(pid)?.ok_or_else(gone)?;
    store.save_network_run(lock, &NetworkRun { dnsmasq: Some((pid, started)), ..run })?;
    process::settle(store, pid).with_context(fail)
}

/// Ends the dnsmasq of a network; none running is fine.
///
/// # Errors
/// It does not end.
pub(super) fn stop(store: &Store, lock: &Held<NetworkRunKey, Exclusive>) -> Result<()> {
    let name = &lock.key().0;
    let Some(run) = store.network_run(name)? else { return Ok(()) };
    if let Some(process) = running(store, name)? {
        let fail = || format!("Failed stopping dnsmasq of network \"{name}\"");
        pidfd::send_signal(process.as_fd(), libc::SIGTERM).with_context(fail)?;
        if !pidfd::wait_ended(process.as_fd(), Some(PATIENCE)).with_context(fail)? {
            pidfd::kill(process.as_fd()).with_context(fail)?;
        }
    }
    match run.dnsmasq {
        Some(_) => store.save_network_run(lock, &NetworkRun { dnsmasq: None, ..run }),
        None => Ok(()),
    }
}
