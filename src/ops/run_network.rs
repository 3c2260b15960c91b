//! The network of what runs without an init system, a command or an application: nobody inside asks for an address, so it is
//! given one before it starts, with the files that say who answers for names.

use super::load::Loaded;
use super::network::{self, dns, dns::Port};
use super::nics;
use crate::base::inet::IpNet;
use crate::base::names::NetworkName;
use crate::container::plan::Plan;
use crate::error::{Context, Result};
use crate::model::attach::{Mount, MountSource};
use crate::model::instance::{Config, Device};
use crate::model::keys::device::nic as keys;
use crate::model::keys::{self as instance_keys, Key};
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
    /// The managed bridge, which knows who answers for names.
    bridge: Option<Bridge>,
}

/// Reserves an address for each interface on a managed bridge that has none of its own; `loaded` gets them as if its devices
/// said so. On other networks an interface gets what its device says with a prefix length. Locks what runs of each network in
/// turn.
///
/// # Errors
/// No address is free; a record is damaged.
pub(super) fn settle(store: &Store, loaded: &mut Loaded) -> Result<Settled> {
    let on_networks: Vec<(String, Device)> = nics::interfaces(loaded).map(|(n, d)| (n.clone(), d.clone())).collect();
    let mut all = Settled::new();
    for (device, options) in on_networks {
        let fail = || format!("Failed to start device \"{device}\"");
        let network = keys::NETWORK.get(&options).map(|network| network::need(store, &loaded.project, network));
        let told = match network.transpose().with_context(fail)? {
            Some((name, record)) if record.kind == NetworkType::Bridge => {
                one(store, loaded, (&device, &options), (&name, &record)).with_context(fail)?
            }
            // These two have words of their own for it.
            _ if matches!(keys::NICTYPE.get(&options), Some("routed" | "ipvlan")) => continue,
            _ => match fixed(&options) {
                inside if inside.is_empty() => continue,
                inside => Told { inside, bridge: None },
            },
        };
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
    let off = |key: &Key| key.get(options) == Some("none");
    if let Some(net) = bridge.v4.address.filter(|_| !off(&keys::IPV4_ADDRESS)) {
        let address = match own(&keys::IPV4_ADDRESS, options, Some(net)) {
            None if bridge.v4.dhcp => {
                let lock = store.lock_network_run(name)?;
                let address = dns::reserve(store, &lock, (&owner, record), port, &identity)?;
                IpNet::new(address, net.prefix())
            }
            own => own,
        };
        let router = match bridge.gateway {
            Announced::Bridge => Some(net.address()),
            Announced::Address(other) => Some(other),
            Announced::None => None,
        };
        give(&mut inside, address, gateway(&keys::IPV4_GATEWAY, options, router));
    }
    if let Some(net) = bridge.v6.address.filter(|_| !off(&keys::IPV6_ADDRESS)) {
        let by_mac =
            || identity.hwaddr.and_then(|mac| eui64(&net, mac)).and_then(|a| IpNet::new(a.into(), net.prefix()));
        let address = own(&keys::IPV6_ADDRESS, options, Some(net)).or_else(by_mac);
        give(&mut inside, address, gateway(&keys::IPV6_GATEWAY, options, Some(net.address())));
    }
    Ok(Told { inside, bridge: Some(bridge) })
}

/// The device's own address: as it stands there, or with the prefix length of the bridge's `net`.
fn own(key: &Key, options: &Device, net: Option<IpNet>) -> Option<IpNet> {
    let text = key.get(options)?;
    match text.contains('/') {
        true => text.parse().ok(),
        false => IpNet::new(text.parse().ok()?, net?.prefix()),
    }
}

/// Where all the rest goes: what the device says, else `announced`.
fn gateway(key: &Key, options: &Device, announced: Option<IpAddr>) -> Option<IpAddr> {
    match key.get(options) {
        None | Some("auto") => announced,
        Some(text) => text.parse().ok(),
    }
}

fn give(inside: &mut Inside, address: Option<IpNet>, router: Option<IpAddr>) {
    inside.gateways.extend(router.filter(|_| address.is_some()).map(Gateway::Router));
    inside.addresses.extend(address);
}

/// What a device says where no network of ours says more.
fn fixed(options: &Device) -> Inside {
    let mut inside = Inside::default();
    for (address, router) in [(&keys::IPV4_ADDRESS, &keys::IPV4_GATEWAY), (&keys::IPV6_ADDRESS, &keys::IPV6_GATEWAY)] {
        give(&mut inside, own(address, options, None), gateway(router, options, None));
    }
    inside
}

/// Puts it into the plan: the addresses, and `/etc/resolv.conf`, `/etc/hosts` and `/etc/hostname` bound over what the image
/// has. The files are written into the run folder of the instance, which must be there.
///
/// # Errors
/// They cannot be written.
pub(super) fn plan(plan: &mut Plan, loaded: &Loaded, settled: Settled) -> Result<()> {
    let name = loaded.name.as_str();
    let first = settled.values().find(|told| !told.inside.addresses.is_empty());
    let bridge = first.and_then(|told| told.bridge.as_ref());
    let config = &loaded.expanded.config;
    let domain = match instance_keys::OCI_DNS_DOMAIN.get(config) {
        Some(domain) => domain.to_string(),
        None => bridge.map(|bridge| bridge.domain.clone()).unwrap_or_default(),
    };
    let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for address in settled.values().flat_map(|told| &told.inside.addresses) {
        let full = if domain.is_empty() { String::new() } else { format!("{name}.{domain} ") };
        let _ = writeln!(hosts, "{}\t{full}{name}", address.address());
    }
    let mut files = vec![("hostname", format!("{name}\n")), ("hosts", hosts)];
    files.extend(resolv_conf(config, bridge).map(|text| ("resolv.conf", text)));
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

/// resolv.conf(5): what the keys of an application say, else the name servers that DHCP would announce; none if nobody says
/// anything.
fn resolv_conf(config: &Config, bridge: Option<&Bridge>) -> Option<String> {
    let lists = [&instance_keys::OCI_DNS_NAMESERVERS, &instance_keys::OCI_DNS_SEARCH].map(|key| key.list(config));
    let [mut servers, search] = lists.map(|list| list.into_iter().map(str::to_string).collect::<Vec<_>>());
    let mut search = search.join(" ");
    if let Some(bridge) = bridge {
        let own = || [&bridge.v4, &bridge.v6].into_iter().filter_map(|f| f.address).map(|net| net.address());
        if servers.is_empty() && bridge.nameservers.is_empty() {
            servers.extend(own().map(|address| address.to_string()));
        } else if servers.is_empty() {
            servers.extend(bridge.nameservers.iter().map(ToString::to_string));
        }
        if search.is_empty() {
            search = match (bridge.dns_mode, bridge.search.is_empty()) {
                (_, false) => bridge.search.join(" "),
                (DnsMode::None, true) => String::new(),
                (_, true) => bridge.domain.clone(),
            };
        }
    }
    let mut text = String::new();
    if !search.is_empty() {
        let _ = writeln!(text, "search {search}");
    }
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    (!text.is_empty()).then_some(text)
}
