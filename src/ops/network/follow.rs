//! Interfaces follow their network: what they have of its addresses and name servers – the address that was chosen for one,
//! what its filters let through – is made anew when these change.

use super::up::Plan;
use super::{dns, rules};
use crate::base::mac;
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Error, Result};
use crate::fault;
use crate::model::network::nic;
use crate::network::nft::Script;
use crate::store::Store;
use crate::store::acls::{Filter, FilteredNic};
use crate::store::lock::{Allocator, Exclusive, Held, NetworkRunKey};
use std::net::IpAddr;

/// Has the rules of all filtered interfaces on a network be what `plan` makes of them. `apply` is handed these, empty if there
/// are none, and sets them in one transaction with whatever else is to change. The network's record is that of `plan`.
///
/// # Errors
/// No address is left for one; as `apply`: what is noted is as before then.
pub(super) fn follow(
    store: &Store,
    run: &Held<NetworkRunKey, Exclusive>,
    plan: &Plan,
    apply: &dyn Fn(&Script) -> Result<()>,
) -> Result<()> {
    let lock = store.lock_allocator(Allocator::Firewall)?;
    let mut old = store.network_filters(&plan.name)?;
    old.retain(|(_, filter)| filter.nic.is_some());
    let Some((_, first)) = old.first() else { return apply(&Script::default()) };
    let project = ProjectName::parse(&first.project)?;
    let save = |all: &[(String, Filter)]| -> Result<()> {
        all.iter().try_for_each(|(port, filter)| {
            note_port(store, run, plan, filter)?;
            store.save_network_filter(&lock, &plan.name, port, filter)
        })
    };
    let mut new = Vec::new();
    for (port, filter) in &old {
        new.push((port.clone(), moved(store, (&project, plan), filter)?));
    }
    let follow = || {
        save(&new)?;
        fault::point("network.followed")?;
        let whose = new.iter().map(|(port, filter)| ((plan.name.clone(), port.clone()), filter));
        apply(&rules::script_of(store, &project, whose)?)
    };
    follow().map_err(|e| save(&old).err().into_iter().fold(e, Error::and))
}

/// A filter with the addresses that its interface has on the network as it is now: one that was chosen stays as long as it is
/// of the subnet.
fn moved(store: &Store, of: (&ProjectName, &Plan), filter: &Filter) -> Result<Filter> {
    let Some(nic) = &filter.nic else { return Ok(filter.clone()) };
    let given = nic::static_addresses(&filter.options);
    let subnet = of.1.bridge.v4.dhcp_subnet();
    let fits = |a: &IpAddr| given.contains(a) || subnet.is_some_and(|net| net.contains(*a));
    let has_v4 = nic.addresses.iter().any(IpAddr::is_ipv4);
    let addresses = match has_v4 && nic.addresses.iter().all(fits) {
        true => nic.addresses.clone(),
        false => with_port(nic, |port, hwaddr| dns::addresses(store, of, &port, hwaddr, &filter.options))?,
    };
    Ok(Filter { nic: Some(FilteredNic { addresses, ..nic.clone() }), ..filter.clone() })
}

fn note_port(store: &Store, run: &Held<NetworkRunKey, Exclusive>, plan: &Plan, filter: &Filter) -> Result<()> {
    let Some(nic) = &filter.nic else { return Ok(()) };
    with_port(nic, |port, hwaddr| dns::note(store, run, plan, port, (hwaddr, nic.addresses.clone())).map(drop))
}

fn with_port<T>(nic: &FilteredNic, what: impl FnOnce(dns::Port<'_>, [u8; 6]) -> Result<T>) -> Result<T> {
    let (project, instance) = (ProjectName::parse(&nic.project)?, InstanceName::parse(&nic.instance)?);
    what(dns::Port { project: &project, instance: &instance, device: &nic.device }, mac::parse(&nic.hwaddr)?)
}
