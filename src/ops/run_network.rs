//! The network of a command that runs without an init system: nobody inside asks for an address, so it is given one before it
//! starts, with the files that say who answers for names.

use super::load::Loaded;
use super::network::{self, dns, dns::Port};
use super::nics;
use crate::base::inet::IpNet;
use crate::base::names::NetworkName;
use crate::container::plan::Plan;
use crate::error::{Context, Result};
use crate::model::attach::{Mount, MountSource};
use crate::model::instance::Device;
use crate::model::keys::device::nic as keys;
use crate::model::network::bridge::{Bridge, DnsMode, Gateway as Announced, eui64};
use crate::model::network::{Network, NetworkType};
use crate::model::nic::{Gateway, Inside};
use crate::store::Store;
use crate::store::atomic::{self, Durability};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

/// What is settled of the interfaces on managed bridges, by device.
pub(super) type Settled = BTreeMap<String, Told>;

/// What an interface is told.
#[derive(Debug)]
pub(super) struct Told {
    inside: Inside,
    bridge: Bridge,
}

/// Reserves an address for each interface on a managed bridge that has none of its own; `loaded` gets them as if its devices
/// said so. Locks what runs of each network in turn.
///
/// # Errors
/// No address is free; a record is damaged.
pub(super) fn settle(store: &Store, loaded: &mut Loaded) -> Result<Settled> {
    let on_networks: Vec<(String, Device)> = nics::interfaces(loaded).map(|(n, d)| (n.clone(), d.clone())).collect();
    let mut all = Settled::new();
    for (device, options) in on_networks {
        let Some(network) = keys::NETWORK.get(&options) else { continue };
        let fail = || format!("Failed to start device \"{device}\"");
        let (name, record) = network::need(store, &loaded.project, network).with_context(fail)?;
        if record.kind != NetworkType::Bridge {
            continue;
        }
        let told = one(store, loaded, (&device, &options), (&name, &record)).with_context(fail)?;
        let given = |a: &&IpNet| a.is_ipv4() && keys::IPV4_ADDRESS.get(&options).is_none();
        if let Some(address) = told.inside.addresses.iter().find(given)
            && let Some(options) = loaded.expanded.devices.get_mut(&device)
        {
            keys::IPV4_ADDRESS.set(options, address.address().to_string());
        }
        all.insert(device, told);
    }
    Ok(all)
}

fn one(
    store: &Store,
    loaded: &Loaded,
    (device, options): (&str, &Device),
    (name, record): (&NetworkName, &Network),
) -> Result<Told> {
    let bridge = Bridge::read(&record.config, None)?;
    let identity = nics::identity(loaded, device)?;
    let port = Port { project: &loaded.project, instance: &loaded.name, device };
    let owner = network::project_of(store, &loaded.project)?;
    let mut inside = Inside::default();
    let own = |key: &crate::model::keys::Key| key.get(options).and_then(|text| text.parse::<IpAddr>().ok());
    let off = |key: &crate::model::keys::Key| key.get(options) == Some("none");
    if let Some(net) = bridge.v4.address.filter(|_| !off(&keys::IPV4_ADDRESS)) {
        let address = match own(&keys::IPV4_ADDRESS) {
            None if bridge.v4.dhcp => {
                let lock = store.lock_network_run(name)?;
                Some(dns::reserve(store, &lock, (&owner, record), port, &identity)?)
            }
            own => own,
        };
        inside.addresses.extend(address.and_then(|a| IpNet::new(a, net.prefix())));
        let router = match bridge.gateway {
            Announced::Bridge => Some(net.address()),
            Announced::Address(other) => Some(other),
            Announced::None => None,
        };
        inside.gateways.extend(router.filter(|_| address.is_some()).map(Gateway::Router));
    }
    if let Some(net) = bridge.v6.address.filter(|_| !off(&keys::IPV6_ADDRESS)) {
        let by_mac = || identity.hwaddr.and_then(|mac| eui64(&net, mac)).map(IpAddr::from);
        let address = own(&keys::IPV6_ADDRESS).or_else(by_mac);
        inside.addresses.extend(address.and_then(|a| IpNet::new(a, net.prefix())));
        inside.gateways.extend(address.map(|_| Gateway::Router(net.address())));
    }
    Ok(Told { inside, bridge })
}

/// Puts it into the plan: the addresses, and `/etc/resolv.conf`, `/etc/hosts` and `/etc/hostname` bound over what the image
/// has. The files are written into the run folder of the instance, which must be there.
///
/// # Errors
/// They cannot be written.
pub(super) fn plan(plan: &mut Plan, loaded: &Loaded, settled: Settled) -> Result<()> {
    let name = loaded.name.as_str();
    let first = settled.values().find(|told| !told.inside.addresses.is_empty());
    let domain = first.map(|told| told.bridge.domain.clone()).unwrap_or_default();
    let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for address in settled.values().flat_map(|told| &told.inside.addresses) {
        let full = if domain.is_empty() { String::new() } else { format!("{name}.{domain} ") };
        let _ = writeln!(hosts, "{}\t{full}{name}", address.address());
    }
    let mut files = vec![("hostname", format!("{name}\n")), ("hosts", hosts)];
    files.extend(first.map(|told| ("resolv.conf", resolv_conf(&told.bridge))));
    for (file, text) in files {
        let source = plan.run_dir.join(file);
        atomic::replace(&source, text.as_bytes(), 0o644, Durability::Fast)
            .with_context(|| format!("Failed writing {}", source.display()))?;
        let target = Path::new("/etc").join(file);
        // What the user mounts there comes first.
        if plan.mounts.iter().all(|m| m.target != target) {
            plan.mounts.push(Mount {
                device: file.to_string(),
                source: MountSource::HostPath(source),
                target,
                readonly: false,
                shift: false,
                recursive: false,
                propagation: None,
                options: Vec::new(),
            });
        }
    }
    for nic in &mut plan.nics {
        if let Some(told) = settled.get(&nic.device) {
            nic.inside = told.inside.clone();
        }
    }
    Ok(())
}

/// resolv.conf(5): the name servers that DHCP would announce.
fn resolv_conf(bridge: &Bridge) -> String {
    let own = || [&bridge.v4, &bridge.v6].into_iter().filter_map(|f| f.address).map(|net| net.address());
    let servers: Vec<IpAddr> = if bridge.nameservers.is_empty() { own().collect() } else { bridge.nameservers.clone() };
    let search = match (bridge.dns_mode, bridge.search.is_empty()) {
        (_, false) => bridge.search.join(" "),
        (DnsMode::None, true) => String::new(),
        (_, true) => bridge.domain.clone(),
    };
    let mut text = if search.is_empty() { String::new() } else { format!("search {search}\n") };
    servers.iter().for_each(|server| {
        let _ = writeln!(text, "nameserver {server}");
    });
    text
}
