//! Do the rules in the kernel agree with what is noted of them? For `doctor`.

use super::{dns::Port, filter, firewall, rules, up};
use crate::base::names::{AddressSetName, DeviceName, InstanceName, NetworkName, ProjectName};
use crate::error::{Kind, Result};
use crate::network::nft::acl::set_names;
use crate::network::nft::listing::Expected;
use crate::network::nft::{self, Script};
use crate::ops::load;
use crate::store::Store;
use crate::store::acls::{Filter, FilteredNic};
use crate::store::lock::{Allocator, Exclusive, Held, InstanceKey};
use crate::store::nic_notes::HostPart;
use std::collections::BTreeSet;
use std::time::Duration;

/// What does not agree.
#[derive(Debug, Default)]
pub struct Audit {
    /// Rules that nothing is left of: what they are called.
    pub strays: Vec<String>,
    /// What takes them away.
    removal: Script,
    /// Networks and interfaces whose rules are not there: what they are called, and their project.
    pub lost: Vec<(String, ProjectName)>,
}

/// All filters of all networks of which something runs, with their network.
fn filters(store: &Store) -> Result<Vec<(NetworkName, Filter)>> {
    let mut all = Vec::new();
    for network in store.network_runs()? {
        all.extend(store.network_filters(&network)?.into_iter().map(|(_, filter)| (network.clone(), filter)));
    }
    Ok(all)
}

/// Compares them. Nothing is found where nft is missing or may not be asked.
///
/// # Errors
/// A note cannot be read; what nft says is not understood.
pub fn look(store: &Store) -> Result<Audit> {
    let _lock = store.lock_allocator(Allocator::Firewall)?;
    let Some(there) = firewall::listing(store)? else { return Ok(Audit::default()) };
    let (mut audit, mut expected) = (Audit::default(), Expected::default());
    for (network, filter) in filters(store)? {
        let project = ProjectName::parse(&filter.project)?;
        // Rules of records that cannot be read stay as they are; the records themselves are reported.
        for set in rules::sets_of(store, &project, [&filter].into_iter()).unwrap_or_default() {
            expected.sets.extend(set_names(&project, &AddressSetName::parse(&set)?));
        }
        let lost = match &filter.nic {
            None => {
                expected.networks.push(network.clone());
                // One that a killed command left half done is set up anew by whoever needs it next.
                let record = store.network(&project, &network).ok().flatten();
                let whole = record.is_some_and(|r| {
                    rules::has_acls(&r.config) && up::is_carried_out(store, &network, &r.config).unwrap_or(false)
                });
                (whole && !there.has_network(&network)).then(|| format!("network {network}"))
            }
            Some(nic) => {
                let label = filter::label(nic)?;
                let lost = !there.has_port(&label) && filter::is_wanted(&filter.options)?;
                expected.ports.push(label);
                lost.then(|| format!("device {} of instance {}/{}", nic.device, nic.project, nic.instance))
            }
        };
        audit.lost.extend(lost.map(|what| (what, project)));
    }
    for (folder, notes) in store.nic_notes_of_all()? {
        let Some((project, instance)) = folder.split_once('_') else { continue };
        let who = (ProjectName::parse(project)?, InstanceName::parse(instance)?);
        for (device, _) in notes.devices.iter().filter(|(_, parts)| parts.contains(&HostPart::Rules)) {
            expected.ports.push(nft::label(&who.0, &who.1, &DeviceName::parse(device)?));
        }
    }
    (audit.strays, audit.removal) = there.strays(&expected);
    Ok(audit)
}

impl Audit {
    /// Takes away what is too much.
    ///
    /// # Errors
    /// nft refuses.
    pub fn remove_strays(&self, store: &Store) -> Result<()> {
        let _lock = store.lock_allocator(Allocator::Firewall)?;
        firewall::set(store, &self.removal)
    }
}

/// Filters of interfaces whose instance does not run.
///
/// # Errors
/// A note cannot be read.
pub fn ended(store: &Store) -> Result<Vec<FilteredNic>> {
    let mut all = Vec::new();
    for nic in filters(store)?.into_iter().filter_map(|(_, filter)| filter.nic) {
        let who = (ProjectName::parse(&nic.project)?, InstanceName::parse(&nic.instance)?);
        // Somebody who starts or stops it has it locked.
        let key = InstanceKey { project: who.0.clone(), name: who.1.clone() };
        let lock: Result<Held<InstanceKey, Exclusive>> = store.lock_within(key, "doctor", Duration::ZERO);
        match lock {
            Err(e) if e.kind() == Kind::Busy => {}
            Err(e) => return Err(e),
            Ok(_lock) if load::running(store, &who.0, &who.1)?.is_some() => {}
            Ok(_lock) => all.push(nic),
        }
    }
    Ok(all)
}

/// Takes the filter of such an interface away.
///
/// # Errors
/// nft refuses.
pub fn end(store: &Store, nic: &FilteredNic) -> Result<()> {
    let (project, instance) = (ProjectName::parse(&nic.project)?, InstanceName::parse(&nic.instance)?);
    filter::end(store, Port { project: &project, instance: &instance, device: &nic.device })
}

/// What names something that is not there: a set in a rule, an ACL in a network.
///
/// # Errors
/// The state folder cannot be read.
pub fn dangling(store: &Store, project: &ProjectName) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let sets: BTreeSet<String> = store.address_sets(project)?.into_iter().map(|(name, _)| name.to_string()).collect();
    for (name, acl) in store.acls(project)? {
        let Ok(acl) = acl else { continue };
        let rules = acl.egress.iter().chain(&acl.ingress);
        let missing: BTreeSet<&str> = rules.flat_map(|rule| rule.sets()).filter(|set| !sets.contains(*set)).collect();
        all.extend(
            missing.iter().map(|set| format!("network ACL {name} names the address set {set}, which is not there")),
        );
    }
    let acls: BTreeSet<String> = store.acls(project)?.into_iter().map(|(name, _)| name.to_string()).collect();
    for (name, network) in store.networks(project)? {
        let Ok(network) = network else { continue };
        let missing = rules::acls_of(&network.config).into_iter().filter(|acl| !acls.contains(*acl));
        all.extend(missing.map(|acl| format!("network {name} names the network ACL {acl}, which is not there")));
    }
    Ok(all)
}
