//! Brings a managed bridge up, part by part, and changes what is up.
//!
//! A network is brought up when it is made and, after the host was down, by the first who needs it: whether it is up is seen
//! from one small file and the number of the bridge. Each part may be done again at any time; what is there already stays.
//! All of it happens under the lock of what runs of the network.

use super::{beside, dns, firewall, follow, members, rules};
use crate::base::mac;
use crate::base::names::NetworkName;
use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::fault;
use crate::host::boot_id;
use crate::host::links::sysctl::{self, Family as SysctlFamily, Setting};
use crate::host::links::{self, AddressOptions, Change, Details, End, Kind, LinkSpec, Links, Route, Target};
use crate::host::links::{address, route, spec};
use crate::model::instance::Config;
use crate::model::keys::network::{Part, bridge as keys};
use crate::model::network::bridge::Bridge;
use crate::model::network::{Network, NetworkType};
use crate::store::Store;
use crate::store::acls::NETWORK_FILTER;
use crate::store::lock::{Exclusive, Held, NetworkRunKey};
use crate::store::networks::NetworkRun;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What a bridge is brought up with.
pub(super) struct Plan {
    /// Its name.
    pub name: NetworkName,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its configuration as written.
    pub config: Config,
    /// The same, read.
    pub bridge: Bridge,
}

impl Plan {
    /// Reads the configuration of a bridge.
    ///
    /// # Errors
    /// It is wrong.
    pub fn of(store: &Store, name: &NetworkName, config: &Config) -> Result<Self> {
        let mac = match keys::HWADDR.get(config) {
            Some(given) => mac::parse(given)?,
            None => own_mac(store, name),
        };
        Ok(Self { name: name.clone(), mac, config: config.clone(), bridge: Bridge::read(config, Some(mac))? })
    }
}

/// The same each time for the network of this name in this state folder, so that neighbours need not learn a new one.
fn own_mac(store: &Store, name: &NetworkName) -> [u8; 6] {
    let place = store.layout().state.as_os_str().as_encoded_bytes();
    let hash = Sha256::new_with_prefix(place).chain_update(b"\0").chain_update(name.as_str()).finalize();
    [0x10, 0x66, 0x6a, hash[0], hash[1], hash[2]]
}

/// Brings a network up if it is not. Others than bridges need nothing.
///
/// # Errors
/// The kernel refuses; what was done stays and is done again the next time.
pub fn ensure(store: &Store, name: &NetworkName, network: &Network) -> Result<()> {
    if network.kind != NetworkType::Bridge || is_up(store, name, &network.config)? {
        return Ok(());
    }
    ensure_locked(store, &store.lock_network_run(name)?, network)
}

/// The same under the lock; `network` was read under it. One that is up gets back what rules of it somebody took away.
///
/// # Errors
/// As [`ensure`].
pub(in crate::ops) fn ensure_locked(
    store: &Store,
    lock: &Held<NetworkRunKey, Exclusive>,
    network: &Network,
) -> Result<()> {
    let name = &lock.key().0;
    if network.kind != NetworkType::Bridge {
        return Ok(());
    }
    if is_up(store, name, &network.config)? {
        return beside::renew(store);
    }
    let plan = Plan::of(store, name, &network.config)?;
    let all = BTreeSet::from([
        Part::Link,
        Part::Members,
        Part::Tunnels,
        Part::Addresses,
        Part::Sysctl,
        Part::Routes,
        Part::Firewall,
        Part::Acls,
    ]);
    apply(store, lock, &plan, &all).with_context(|| format!("Failed to bring up network \"{name}\""))
}

/// Is it noted that this configuration was carried out since the boot?
///
/// # Errors
/// The run file is damaged.
pub(super) fn is_carried_out(store: &Store, name: &NetworkName, config: &Config) -> Result<bool> {
    let Some(run) = store.network_run(name)? else { return Ok(false) };
    Ok(run.boot_id == boot_id::current()? && run.config == *config)
}

fn is_up(store: &Store, name: &NetworkName, config: &Config) -> Result<bool> {
    let Some(run) = store.network_run(name)? else { return Ok(false) };
    Ok(is_carried_out(store, name, config)?
        && Links::open()?.find(name.as_str())?.is_some_and(|link| link.index == run.index))
}

/// Is a bridge of this network there that we brought up?
///
/// # Errors
/// The run file is damaged.
pub(super) fn runs(store: &Store, name: &NetworkName) -> Result<bool> {
    let Some(run) = store.network_run(name)? else { return Ok(false) };
    let here = run.boot_id == boot_id::current()?;
    Ok(here && Links::open()?.find(name.as_str())?.is_some_and(|link| link.index == run.index))
}

/// Does these parts of a plan, and notes it.
///
/// # Errors
/// The kernel refuses.
pub(super) fn apply(
    store: &Store,
    lock: &Held<NetworkRunKey, Exclusive>,
    plan: &Plan,
    parts: &BTreeSet<Part>,
) -> Result<()> {
    let mut host = Links::open()?;
    fault::point("network.begin")?;
    let bridge = match host.find(plan.name.as_str())? {
        None => make(&mut host, plan)?,
        Some(link) if matches!(link.details, Details::Bridge(_)) => link.target(),
        Some(_) => {
            return Err(Error::exists(format!("Network interface \"{}\" already exists", plan.name))
                .hint("give the network another name, or remove the interface"));
        }
    };
    fault::point("network.made")?;
    let mut old = store.network_run(&plan.name)?.filter(|run| run.index == bridge.index);
    if let Some(run) = old.as_mut().filter(|_| parts.contains(&Part::Members)) {
        // Whoever goes on after a failure or a kill has to know of those that are about to be put in.
        members::add_to(&mut run.config, &plan.config);
        store.save_network_run(lock, run)?;
    }
    for part in parts {
        match part {
            Part::Link => link(&mut host, &bridge, plan)?,
            Part::Members => members::attach(store, &mut host, &bridge, plan, old.as_ref().map(|run| &run.config))?,
            Part::Tunnels => members::tunnels(&mut host, &bridge, plan)?,
            Part::Addresses => addresses(&mut host, &bridge, plan)?,
            Part::Sysctl => settings(plan)?,
            Part::Routes => routes(&mut host, &bridge, plan, old.as_ref().map(|run| &run.config))?,
            Part::Firewall => {
                follow::follow(store, lock, plan, &|more| firewall::up(store, &plan.name, &plan.bridge, more))?;
            }
            Part::Acls => rules::set_network(store, &plan.name, &plan.config)?,
            Part::Dnsmasq | Part::Zones => {}
        }
    }
    host.run(spec::change(&bridge, &Change { up: Some(true), ..Change::default() }))?;
    fault::point("network.up")?;
    let run = NetworkRun {
        format: 1,
        boot_id: boot_id::current()?.to_string(),
        index: bridge.index,
        config: plan.config.clone(),
        dnsmasq: old.and_then(|run| run.dnsmasq),
    };
    store.save_network_run(lock, &run)
}

fn kernel_bridge(plan: &Plan) -> Result<links::Bridge> {
    let snooping = keys::MULTICAST_SNOOPING.bool(&plan.config)?;
    Ok(links::Bridge { multicast_snooping: Some(snooping), ..links::Bridge::default() })
}

/// A kernel without VLAN filtering has bridges all the same.
fn filter_vlans(host: &mut Links, bridge: &Target) -> Result<()> {
    let on = links::Bridge { vlan_filtering: Some(true), default_pvid: Some(1), ..links::Bridge::default() };
    match host.run(spec::change_bridge(bridge, &on)) {
        Err(e) if e.kind() == ErrorKind::Unsupported => Ok(()),
        other => other,
    }
}

fn make(host: &mut Links, plan: &Plan) -> Result<Target> {
    let end = End { name: plan.name.as_str(), mac: Some(plan.mac), mtu: Some(plan.bridge.mtu), ..End::default() };
    host.create(&LinkSpec { end, kind: Kind::Bridge(kernel_bridge(plan)?), master: None, lower: None })?;
    let bridge = host.target(plan.name.as_str())?;
    filter_vlans(host, &bridge)?;
    Ok(bridge)
}

fn link(host: &mut Links, bridge: &Target, plan: &Plan) -> Result<()> {
    let change = Change { mac: Some(plan.mac), mtu: Some(plan.bridge.mtu), ..Change::default() };
    host.run_all(vec![spec::change_bridge(bridge, &kernel_bridge(plan)?), spec::change(bridge, &change)])
}

/// Both addresses of the bridge, and no other global ones.
fn addresses(host: &mut Links, bridge: &Target, plan: &Plan) -> Result<()> {
    let wanted: Vec<_> = plan.bridge.families().iter().filter_map(|f| f.address).collect();
    host.remove_addresses(bridge, |a| a.scope_name() == "global" && !wanted.contains(&a.net))?;
    let v6 = |a: &IpAddr| a.is_ipv6();
    if wanted.iter().any(|net| v6(&net.address())) {
        sysctl::set(SysctlFamily::V6, &bridge.name, &[(Setting::DisableIpv6, 0)])?;
    }
    // Nobody else is on it yet who could have the address: it need not be asked around.
    let options = AddressOptions { nodad: true, ..AddressOptions::default() };
    host.run_all(wanted.iter().map(|net| address::add(bridge, *net, options)).collect())
}

/// The host learns nothing from the instances, and lets packets through only for families that are routed.
fn settings(plan: &Plan) -> Result<()> {
    let name = plan.name.as_str();
    if sysctl::has_ipv6() {
        let off = plan.bridge.v6.address.is_none();
        let all = [
            (Setting::AcceptRa, 0),
            (Setting::Autoconf, 0),
            (Setting::AcceptDad, 0),
            (Setting::DisableIpv6, i32::from(off)),
        ];
        sysctl::set(SysctlFamily::V6, name, &all)?;
    }
    for (family, v) in [(SysctlFamily::V4, &plan.bridge.v4), (SysctlFamily::V6, &plan.bridge.v6)] {
        if v.address.is_some() && v.routing {
            sysctl::enable_forwarding(family)?;
        }
        if family == SysctlFamily::V4 || sysctl::has_ipv6() {
            sysctl::set(family, name, &[(Setting::Forwarding, i32::from(v.routing))])?;
        }
    }
    Ok(())
}

/// Networks behind the bridge; `old`: the configuration before, whose routes go.
fn routes(host: &mut Links, bridge: &Target, plan: &Plan, old: Option<&Config>) -> Result<()> {
    let wanted: Vec<_> = plan.bridge.families().iter().flat_map(|f| f.routes.clone()).collect();
    let before = old.and_then(|config| Bridge::read(config, Some(plan.mac)).ok());
    let gone = before.iter().flat_map(Bridge::families).flat_map(|f| &f.routes).filter(|net| !wanted.contains(net));
    let on = |net| Route::on(net, bridge.index);
    let steps = gone.map(|net| route::remove(&on(*net))).chain(wanted.iter().map(|net| route::replace(&on(*net))));
    host.run_all(steps.collect())
}

/// Takes down what runs of a network that is no more.
///
/// # Errors
/// As [`down`].
pub fn take_down(store: &Store, name: &NetworkName) -> Result<()> {
    down(store, &store.lock_network_run(name)?)
}

/// Takes down what runs of a network: dnsmasq, the rules, the bridge. Nothing left is fine.
///
/// # Errors
/// The kernel refuses.
pub(super) fn down(store: &Store, lock: &Held<NetworkRunKey, Exclusive>) -> Result<()> {
    let name = &lock.key().0;
    if let Some(run) = store.network_run(name)? {
        // Whoever finds it half taken down brings it up again, its rules too.
        store.save_network_run(lock, &NetworkRun { boot_id: String::new(), ..run })?;
    }
    dns::stop(store, lock)?;
    fault::point("network.stopped")?;
    rules::unset(store, (name, NETWORK_FILTER))?;
    firewall::down(store, name)?;
    let mut host = Links::open()?;
    match host.find(name.as_str())? {
        // One that we did not make stays.
        Some(link) if matches!(link.details, Details::Bridge(_)) => {
            let config = store.network_run(name)?.map(|run| run.config).unwrap_or_default();
            members::detach(store, &mut host, &link, &config)?;
            fault::point("network.detached")?;
            host.run(spec::delete(name.as_str()))?;
        }
        _ => {}
    }
    fault::point("network.removed")?;
    store.remove_network_run(lock)
}
